"""HTTP as the hot paths need it: a request with a bounded body, a response as data. Plain ASGI, without the cost of a
framework's objects; everything else of the edge is Starlette's.
"""

import asyncio
import re
from binascii import a2b_qp
from collections.abc import Awaitable, Callable
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from starlette.types import Message, Receive, Scope, Send

from tolem.domain.errors import Refusal, Refused

FIELDS_MAX = 64
BODY_SECONDS_MAX = 15.0
"""A body that is not complete after so much real time is read no further."""

_NOT_QUOTED_PRINTABLE = re.compile(rb"[=\r\n]|%(?![0-9A-Fa-f]{2})")


class BodyUnread(Refused):
    """The body was not read to its end; `status` is the answer's, in every room of the edge."""

    status: int


class BodyTooLarge(BodyUnread):
    """More bytes than the path reads."""

    status = 413

    def __init__(self, limit: int) -> None:
        super().__init__(Refusal.INVALID_REQUEST, f"the body is larger than the {limit} bytes that are read here")


class BodyTooSlow(BodyUnread):
    """It did not come in time. What still comes of it is read by nobody: the connection closes with the answer."""

    status = 408

    def __init__(self) -> None:
        super().__init__(
            Refusal.INVALID_REQUEST, f"the body was not complete after {BODY_SECONDS_MAX:g} seconds: send it at once"
        )


class Disconnected(Exception):
    """The client went away before its request was complete; there is nobody to answer."""


class Request:
    """One request of the hot paths."""

    __slots__ = ("_receive", "must_close", "scope")

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self.scope = scope
        self._receive = receive
        self.must_close = False
        """The connection is of no further use: its client still owes a part of this request."""

    @property
    def method(self) -> str:
        """Upper case."""
        return str(self.scope["method"])

    @property
    def address(self) -> str:
        """The client's address, of the payer or shop even behind a trusted proxy."""
        client = self.scope.get("client")
        return str(client[0]) if client else ""

    def header(self, name: bytes) -> str:
        """The first header of that lower-case name, empty if there is none."""
        for key, value in self.scope["headers"]:
            if key == name:
                return bytes(value).decode("latin-1")
        return ""

    def headers(self, *names: bytes) -> list[str]:
        """Several at one time, in the order of their names."""
        found = dict.fromkeys(names, b"")
        for key, value in self.scope["headers"]:
            if key in found and not found[key]:
                found[key] = value
        return [value.decode("latin-1") for value in found.values()]

    def query(self) -> dict[str, str]:
        """Fields of the query string. Raises Refused, also for a name that comes twice: which one is meant?"""
        return _parse_fields(bytes(self.scope["query_string"]), may_repeat=False)

    async def body(self, limit: int) -> bytes:
        """The whole body, at most `limit` bytes. Raises BodyTooLarge without reading on, BodyTooSlow, Disconnected."""
        declared = self.header(b"content-length")
        if declared.isdigit() and int(declared) > limit:
            raise BodyTooLarge(limit)
        try:
            async with asyncio.timeout(BODY_SECONDS_MAX):
                return await self._read(limit)
        except TimeoutError:
            self.must_close = True
            raise BodyTooSlow from None

    async def _read(self, limit: int) -> bytes:
        chunks: list[bytes] = []
        size = 0
        while True:
            message: Message = await self._receive()
            if message["type"] == "http.disconnect":
                raise Disconnected
            chunk = message.get("body", b"")
            size += len(chunk)
            if size > limit:
                raise BodyTooLarge(limit)
            chunks.append(chunk)
            if not message.get("more_body", False):
                return b"".join(chunks)

    async def until_gone(self) -> None:
        """Returns once the client has gone away. For requests whose body has been read."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def form(self, limit: int) -> dict[str, str]:
        """The fields of an urlencoded form. Raises Refused for another content type or text that is not UTF-8."""
        content_type = self.header(b"content-type").partition(";")[0].strip().lower()
        if content_type != "application/x-www-form-urlencoded":
            raise Refused(
                Refusal.INVALID_REQUEST,
                "content type must be application/x-www-form-urlencoded",
                "Content-Type",
            )
        return _parse_fields(await self.body(limit))


class Response(NamedTuple):
    """One answer."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes = b""
    on_sent: Callable[[], Awaitable[None]] | None = None
    """What is to be done once it has been written."""

    async def send(self, request: Request, send: Send) -> None:
        """Writes it as the answer to `request`, and does what is to be done then."""
        headers = [*self.headers, (b"content-length", b"%d" % len(self.body))]
        if request.must_close:
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if request.method == "HEAD" else self.body})
        if self.on_sent is not None:
            await self.on_sent()


def json_response(status: int, body: bytes, *extra: tuple[bytes, bytes]) -> Response:
    """JSON that nobody may keep."""
    return Response(status, [(b"content-type", b"application/json"), (b"cache-control", b"no-store"), *extra], body)


def redirect(location: str) -> Response:
    """303: the browser opens `location` with GET."""
    return Response(
        303,
        [
            (b"location", location.encode("ascii")),
            (b"cache-control", b"no-store"),
            (b"referrer-policy", b"same-origin"),
        ],
    )


def _parse_fields(data: bytes, *, may_repeat: bool = True) -> dict[str, str]:
    """`may_repeat`: the last of a name counts."""
    if data.count(b"&") >= FIELDS_MAX:
        raise Refused(Refusal.INVALID_REQUEST, f"the form has more than {FIELDS_MAX} fields")
    try:
        data.decode("ascii")
        pairs = [piece.partition(b"=") for piece in data.split(b"&") if piece]
        fields = {_unquote(name): _unquote(value) for name, _, value in pairs}
    except UnicodeDecodeError:
        raise Refused(Refusal.INVALID_REQUEST, "the form is not URL-encoded UTF-8") from None
    if not may_repeat and len(fields) < len(pairs):
        names = [_unquote(name) for name, _, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise Refused(Refusal.INVALID_REQUEST, f"{twice[:40]!r} comes twice in the query: say it once", twice[:40])
    return fields


def _unquote(text: bytes) -> str:
    """URL-encoded bytes → text. A pay object is half escapes, which urllib decodes one by one in Python; the decoder of
    quoted-printable does it in C, where every escape is whole and nothing else reads as one."""
    text = text.replace(b"+", b" ")
    if b"%" not in text:
        return text.decode()
    if _NOT_QUOTED_PRINTABLE.search(text):
        return unquote_to_bytes(text).decode()
    return a2b_qp(text.replace(b"%", b"=")).decode()
