"""One try: the HTTP exchange with a shop, bounded in time and size, told as a TryResult.

Called by the notifier, which decides when and stores what came. Everything that can go wrong on the way is an answer in
words, not an exception. Neither body nor path nor query of an address is ever logged.
"""

import errno
import socket
import ssl
import time
import traceback
from asyncio import get_running_loop, timeout_at
from collections.abc import Mapping
from contextvars import ContextVar
from functools import partial
from types import SimpleNamespace
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import aiohttp
from aiohttp.client_proto import ResponseHandler

from tolem import __version__
from tolem.clock import Clock
from tolem.domain.message import Fault, Message
from tolem.notifications.answers import HEAD_BYTES_MAX, HEADERS_MAX, AnswerReader, HeadTooLarge
from tolem.notifications.guard import AddressRefused, Resolver, open_guarded_socket
from tolem.notifications.schedule import TryResult, parse_retry_after
from tolem.notifications.signature import Sign
from tolem.notifications.terms import Terms
from tolem.storage.sealing import CannotOpen
from tolem.telemetry import log

KEEPALIVE_SECONDS = 4.0
"""Idle connections are kept for less than the 5 s after which common servers close them."""

STALE_CONNECTIONS_MAX = 2
"""Idle connections that may turn out to be closed in one try."""

HEADERS_CHARS_MAX = 4096
"""What is kept of the header lines that were sent."""

GARBLED_REST = "what followed the answer's headers is not valid HTTP"

READ_BYTES = 2048
"""What a connection may receive before somebody reads it."""

_SEEN: ContextVar[SimpleNamespace] = ContextVar("seen")
"""What is seen of the try that runs in this task."""


class _Trouble(NamedTuple):
    """What went wrong, for programs and for the shop's developer."""

    fault: Fault
    words: str


_ERRNO_TROUBLES = {
    errno.ECONNREFUSED: _Trouble(Fault.REFUSED, "connection refused"),
    errno.ECONNRESET: _Trouble(Fault.CUT, "connection reset before an answer"),
    errno.EPIPE: _Trouble(Fault.CUT, "connection reset before an answer"),
    errno.EHOSTUNREACH: _Trouble(Fault.UNREACHABLE, "host unreachable"),
    errno.ENETUNREACH: _Trouble(Fault.UNREACHABLE, "network unreachable"),
    errno.ETIMEDOUT: _Trouble(Fault.UNREACHABLE, "no connection: the host does not answer"),
}


class Sender:
    """The client that carries messages to shops. Made on the loop that uses it; `close` ends its connections."""

    def __init__(
        self,
        clock: Clock,
        sign: Sign,
        *,
        sandbox: bool,
        per_host: int,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """`sign`: makes the headers that tell which message it is and from whom. `sandbox`: http and private addresses
        are allowed. `per_host`: connections to one host at a time. `tls`: what certificates are trusted, the system's
        by default."""
        self._clock = clock
        self._sign = sign
        self._sandbox = sandbox
        tracing = aiohttp.TraceConfig()
        tracing.on_connection_reuseconn.append(_note_reuse)
        tracing.on_request_headers_sent.append(_note_headers)
        self._session = aiohttp.ClientSession(
            connector=_Connector(
                resolver=Resolver(public_only=not sandbox),
                socket_factory=_open_noted_socket if sandbox else _open_noted_guarded_socket,
                limit=0,  # the notifier bounds them
                limit_per_host=per_host,
                keepalive_timeout=KEEPALIVE_SECONDS,
                ssl=tls or True,
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            auto_decompress=False,
            read_bufsize=READ_BYTES,
            max_line_size=HEAD_BYTES_MAX,
            max_field_size=HEAD_BYTES_MAX,
            max_headers=HEADERS_MAX,
            headers={"user-agent": f"tolem/{__version__}", "accept-encoding": "identity"},
            trace_configs=[tracing],
        )

    async def send(self, message: Message, terms: Terms) -> TryResult:
        """One try. Always answers, within terms.whole_seconds; raises only CancelledError."""
        started = time.perf_counter()
        deadline = get_running_loop().time() + terms.whole_seconds
        seen = SimpleNamespace(reused=False, headers="", address="", reader=None, answered=None, is_connected=False)
        _SEEN.set(seen)
        try:
            result = await self._post(message, terms, deadline, seen)
        except aiohttp.ServerTimeoutError:
            result = _explain_unconnected(terms, seen)
        except TimeoutError:
            result = _fail(Fault.TIMED_OUT, f"timed out: no answer within {terms.whole_seconds:g} s")
        except (aiohttp.ClientError, OSError) as exc:
            result = _fail(*_explain(exc))
        except CannotOpen as exc:
            log.error("notification_unsigned", message_id=str(message.id), cause=str(exc))
            result = _fail(Fault.OTHER, f"not sent: the terminal's webhook secret can't be read: {exc}")
        except Exception as exc:
            # Our fault; but a message that can't be sent must follow its schedule and be seen, not be tried for ever.
            # The exception's own text may hold the address, so only its kind and place are logged.
            frame = traceback.extract_tb(exc.__traceback__)[-1]
            log.error(
                "notification_fault",
                message_id=str(message.id),
                host=message.host,
                cause=type(exc).__name__,
                place=f"{frame.filename}:{frame.lineno}",
            )
            result = _fail(Fault.OTHER, f"could not be sent: {type(exc).__name__}")
        duration_ms = round(((seen.answered or time.perf_counter()) - started) * 1000)
        return result._replace(duration_ms=duration_ms, address=seen.address, headers=seen.headers)

    async def close(self) -> None:
        """Ends all connections."""
        await self._session.close()

    async def _post(self, message: Message, terms: Terms, deadline: float, seen: SimpleNamespace) -> TryResult:
        """`seen`: what connector and traces tell of the exchange."""
        if not self._sandbox and urlsplit(message.url).scheme != "https":
            return _fail(Fault.ADDRESS, "not sent: only https addresses are notified")
        async with timeout_at(deadline):
            signed = await self._sign(message, self._clock.real_now())
        headers = {"content-type": "application/json", **signed}
        for _ in range(STALE_CONNECTIONS_MAX):
            seen.reused = False
            try:
                return await self._exchange(message, headers, terms, deadline, seen)
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
                # The shop may close an idle connection at the very moment it is used again. That says nothing of this
                # message: the same try goes on over another connection.
                if not seen.reused:
                    raise
        return await self._exchange(message, headers, terms, deadline, seen)

    async def _exchange(
        self, message: Message, headers: Mapping[str, str], terms: Terms, deadline: float, seen: SimpleNamespace
    ) -> TryResult:
        async with timeout_at(deadline):
            response = await self._session.post(
                message.url,
                data=message.body,
                headers=headers,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=None, connect=terms.connect_seconds),
                trace_request_ctx=seen,
            )
        seen.answered = time.perf_counter()
        try:
            retry_after = parse_retry_after(response.headers.get("retry-after"), self._clock.real_now())
            start = await _read_start(response, deadline, terms.response_bytes)
            words = GARBLED_REST if seen.reader is not None and seen.reader.is_garbled else ""
            return TryResult(response.status, words, start, 0, retry_after)
        finally:
            response.close()  # does nothing after a whole body: then the connection is back in the pool


class _Connector(aiohttp.TCPConnector):
    """Notes the address of the connection that a try goes over, be it new or kept open."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._factory = partial(_make_noted_reader)

    async def connect(
        self,
        req: aiohttp.ClientRequest,
        traces: list[aiohttp.tracing.Trace],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - the library's signature
    ) -> aiohttp.connector.Connection:
        """As the library's."""
        connection = await super().connect(req, traces, timeout)
        if connection.transport is not None and (peer := connection.transport.get_extra_info("peername")):
            _note_address(peer)
        if isinstance(connection.protocol, AnswerReader):
            connection.protocol.expect()
            _SEEN.get().reader = connection.protocol
        return connection


def _make_noted_reader() -> ResponseHandler:
    """The event loop asks for it once it is connected, before any TLS."""
    _SEEN.get().is_connected = True
    return AnswerReader(loop=get_running_loop())


def _open_noted_socket(info: aiohttp.AddrInfoType) -> socket.socket:
    family, kind, protocol, _, address = info
    _note_address(address)
    return socket.socket(family, kind, protocol)


def _open_noted_guarded_socket(info: aiohttp.AddrInfoType) -> socket.socket:
    _note_address(info[4])
    return open_guarded_socket(info)


def _note_address(address: tuple[Any, ...]) -> None:
    host, port = address[:2]
    _SEEN.get().address = f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"


async def _read_start(response: aiohttp.ClientResponse, deadline: float, size: int) -> bytes:
    """The first `size` bytes of the body, or what came of them: the status is the answer, the body is for people."""
    start = bytearray()
    try:
        async with timeout_at(deadline):
            while len(start) <= size and (chunk := await response.content.readany()):
                start += chunk
    except (aiohttp.ClientError, OSError) as exc:
        log.debug("notification_answer_cut", status=response.status, bytes=len(start), cause=type(exc).__name__)
    return bytes(start[:size])


async def _note_reuse(
    _session: aiohttp.ClientSession, context: SimpleNamespace, _params: aiohttp.TraceConnectionReuseconnParams
) -> None:
    context.trace_request_ctx.reused = True


async def _note_headers(
    _session: aiohttp.ClientSession, context: SimpleNamespace, params: aiohttp.TraceRequestHeadersSentParams
) -> None:
    lines = "".join(f"{name.lower()}: {value}\n" for name, value in params.headers.items())
    context.trace_request_ctx.headers = _printable(lines, "\n")[:HEADERS_CHARS_MAX]


def _fail(fault: Fault, words: str) -> TryResult:
    return TryResult(None, words, fault=fault)


def _explain_unconnected(terms: Terms, seen: SimpleNamespace) -> TryResult:
    if seen.is_connected:
        return _fail(Fault.TLS, f"connected, and no TLS within {terms.connect_seconds:g} s: nobody speaks it there")
    return _fail(Fault.UNREACHABLE, f"no connection within {terms.connect_seconds:g} s")


def _explain(exc: Exception) -> _Trouble:
    """What went wrong, for the shop's developer. Never more of the address than its host."""
    cause = exc.os_error if isinstance(exc, aiohttp.ClientConnectorError) else exc
    if isinstance(cause, AddressRefused):
        trouble = _Trouble(Fault.ADDRESS, f"not sent: {cause}")
    elif isinstance(exc, aiohttp.ClientConnectorDNSError):
        why = exc.os_error.strerror or "unknown"
        trouble = _Trouble(Fault.NAME, f"the name {exc.host} can't be resolved: {why}")
    elif isinstance(exc, aiohttp.ClientConnectorCertificateError):
        reason = getattr(exc.certificate_error, "verify_message", "") or "it is not trusted"
        trouble = _Trouble(Fault.CERTIFICATE, f"TLS: the certificate is not accepted: {reason}")
    elif isinstance(cause, ssl.SSLError):
        trouble = _Trouble(Fault.TLS, f"TLS failed: {(cause.reason or 'unknown').replace('_', ' ').lower()}")
    elif isinstance(exc, aiohttp.ServerDisconnectedError):
        trouble = _Trouble(Fault.CUT, "connection closed without an answer")
    elif isinstance(exc, aiohttp.InvalidURL):
        trouble = _Trouble(Fault.ADDRESS, "the address is malformed")
    elif isinstance(exc, aiohttp.NonHttpUrlClientError):
        trouble = _Trouble(Fault.ADDRESS, "the address begins with neither http:// nor https://")
    elif isinstance(exc.__cause__, HeadTooLarge):
        trouble = _Trouble(Fault.GARBLED, f"the answer's headers are larger than {HEAD_BYTES_MAX // 1024} KB")
    elif isinstance(exc, aiohttp.ClientResponseError):
        trouble = _Trouble(Fault.GARBLED, "the answer is not valid HTTP")
    elif isinstance(cause, OSError):
        other = _Trouble(Fault.UNREACHABLE, f"no connection: {cause.strerror or type(cause).__name__}")
        trouble = _ERRNO_TROUBLES.get(cause.errno or 0, other)
    else:
        trouble = _Trouble(Fault.OTHER, f"no answer: {type(exc).__name__}")
    # Part of it may come from the other side: one line of bounded length, and nothing that a database refuses.
    return trouble._replace(words=_printable(trouble.words)[:200])


def _printable(text: str, allowed: str = "") -> str:
    if (text.replace(allowed, "") if allowed else text).isprintable():
        return text
    return "".join(char if char.isprintable() or char in allowed else "?" for char in text)
