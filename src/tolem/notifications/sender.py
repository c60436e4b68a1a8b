"""One try: the HTTP exchange with a shop, bounded in time and size, told as a TryResult.

Called by the notifier, which decides when and stores what came. Everything that can go wrong on the way is an answer in
words, not an exception. Neither body nor path nor query of an address is ever logged.
"""

import errno
import ssl
import time
import traceback
from asyncio import get_running_loop, timeout_at
from types import SimpleNamespace
from urllib.parse import urlsplit

import aiohttp

from tolem import __version__
from tolem.clock import Clock
from tolem.domain.message import Message
from tolem.notifications.guard import AddressRefused, Resolver, open_guarded_socket
from tolem.notifications.schedule import (
    CONNECT_SECONDS,
    RESPONSE_BYTES,
    WHOLE_SECONDS,
    TryResult,
    parse_retry_after,
)
from tolem.telemetry import log

KEEPALIVE_SECONDS = 4.0
"""Idle connections are kept for less than the 5 s after which common servers close them."""

STALE_CONNECTIONS_MAX = 2
"""Idle connections that may turn out to be closed in one try."""

_ERRNO_WORDS = {
    errno.ECONNREFUSED: "connection refused",
    errno.ECONNRESET: "connection reset before an answer",
    errno.EPIPE: "connection reset before an answer",
    errno.EHOSTUNREACH: "host unreachable",
    errno.ENETUNREACH: "network unreachable",
    errno.ETIMEDOUT: "no connection: the host does not answer",
}


class Sender:
    """The client that carries messages to shops. Made on the loop that uses it; `close` ends its connections."""

    def __init__(
        self,
        clock: Clock,
        *,
        sandbox: bool,
        per_host: int,
        connect_seconds: float = CONNECT_SECONDS,
        whole_seconds: float = WHOLE_SECONDS,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """`sandbox`: http and private addresses are allowed. `per_host`: connections to one host at a time.
        `tls`: what certificates are trusted, the system's by default."""
        self._clock = clock
        self._sandbox = sandbox
        self._connect_seconds = connect_seconds
        self._whole_seconds = whole_seconds
        tracing = aiohttp.TraceConfig()
        tracing.on_connection_reuseconn.append(_note_reuse)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                resolver=Resolver(public_only=not sandbox),
                socket_factory=None if sandbox else open_guarded_socket,
                limit=0,  # the notifier bounds them
                limit_per_host=per_host,
                keepalive_timeout=KEEPALIVE_SECONDS,
                ssl=tls or True,
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            auto_decompress=False,
            read_bufsize=RESPONSE_BYTES,
            timeout=aiohttp.ClientTimeout(total=None, connect=connect_seconds),
            headers={"user-agent": f"tolem/{__version__}", "accept-encoding": "identity"},
            trace_configs=[tracing],
        )

    async def send(self, message: Message) -> TryResult:
        """One try. Always answers, within whole_seconds; raises only CancelledError."""
        started = time.perf_counter()
        deadline = get_running_loop().time() + self._whole_seconds
        try:
            result = await self._post(message, deadline)
        except aiohttp.ServerTimeoutError:
            result = TryResult(None, f"no connection within {self._connect_seconds:g} s")
        except TimeoutError:
            result = TryResult(None, f"timed out: no answer within {self._whole_seconds:g} s")
        except (aiohttp.ClientError, OSError) as exc:
            result = TryResult(None, _words(exc))
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
            result = TryResult(None, f"could not be sent: {type(exc).__name__}")
        return result._replace(duration_ms=round((time.perf_counter() - started) * 1000))

    async def close(self) -> None:
        """Ends all connections."""
        await self._session.close()

    async def _post(self, message: Message, deadline: float) -> TryResult:
        if not self._sandbox and urlsplit(message.url).scheme != "https":
            return TryResult(None, "not sent: only https addresses are notified")
        for _ in range(STALE_CONNECTIONS_MAX):
            connection = SimpleNamespace(reused=False)
            try:
                return await self._exchange(message, deadline, connection)
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
                # The shop may close an idle connection at the very moment it is used again. That says nothing of this
                # message: the same try goes on over another connection.
                if not connection.reused:
                    raise
        return await self._exchange(message, deadline, SimpleNamespace())

    async def _exchange(self, message: Message, deadline: float, connection: SimpleNamespace) -> TryResult:
        async with timeout_at(deadline):
            response = await self._session.post(
                message.url,
                data=message.body,
                headers={"content-type": "application/json", "webhook-id": str(message.id)},
                allow_redirects=False,
                trace_request_ctx=connection,
            )
        try:
            retry_after = parse_retry_after(response.headers.get("retry-after"), self._clock.real_now())
            return TryResult(response.status, "", await _read_start(response, deadline), 0, retry_after)
        finally:
            response.close()  # does nothing after a whole body: then the connection is back in the pool


async def _read_start(response: aiohttp.ClientResponse, deadline: float) -> bytes:
    """The first RESPONSE_BYTES of the body, or what came of them: the status is the answer, the body is for people."""
    start = bytearray()
    try:
        async with timeout_at(deadline):
            while len(start) <= RESPONSE_BYTES and (chunk := await response.content.readany()):
                start += chunk
    except (aiohttp.ClientError, OSError) as exc:
        log.debug("notification_answer_cut", status=response.status, bytes=len(start), cause=type(exc).__name__)
    return bytes(start[:RESPONSE_BYTES])


async def _note_reuse(
    _session: aiohttp.ClientSession, context: SimpleNamespace, _params: aiohttp.TraceConnectionReuseconnParams
) -> None:
    context.trace_request_ctx.reused = True


def _words(exc: Exception) -> str:
    """What went wrong, for the shop's developer. Never more of the address than its host."""
    cause = exc.os_error if isinstance(exc, aiohttp.ClientConnectorError) else exc
    if isinstance(cause, AddressRefused):
        text = f"not sent: {cause}"
    elif isinstance(exc, aiohttp.ClientConnectorDNSError):
        text = f"the name {exc.host} can't be resolved: {exc.os_error.strerror or 'unknown'}"
    elif isinstance(exc, aiohttp.ClientConnectorCertificateError):
        reason = getattr(exc.certificate_error, "verify_message", "") or "it is not trusted"
        text = f"TLS: the certificate is not accepted: {reason}"
    elif isinstance(cause, ssl.SSLError):
        text = f"TLS failed: {(cause.reason or 'unknown').replace('_', ' ').lower()}"
    elif isinstance(exc, aiohttp.ServerDisconnectedError):
        text = "connection closed without an answer"
    elif isinstance(exc, aiohttp.InvalidURL):
        text = "the address is malformed"
    elif isinstance(exc, aiohttp.ClientResponseError):
        text = "the answer is not valid HTTP"
    elif isinstance(cause, OSError):
        text = _ERRNO_WORDS.get(cause.errno or 0) or f"no connection: {cause.strerror or type(cause).__name__}"
    else:
        text = f"no answer: {type(exc).__name__}"
    # Part of it may come from the other side: one line of bounded length, and nothing that a database refuses.
    return "".join(c if c.isprintable() else "?" for c in text)[:200]
