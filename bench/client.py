"""HTTP/1.1 as the load needs it and no more: keep-alive connections of lean callers, and the shop's own server.

Called by bench/load.py and bench/lean.py. It shares the machine with what is measured, so it parses only what servers
here send: a status, headers, and a body with a content-length. Whatever else comes is an error that ends the run.
"""

import asyncio
from typing import NamedTuple, cast

HEAD_END = b"\r\n\r\n"
ANSWER_OK = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
ANSWER_SECONDS_MAX = 15.0


class WrongAnswer(Exception):
    """What came is not what a payment needs; in words."""


class Answer(NamedTuple):
    """One answer, unparsed."""

    status: int
    head: bytes
    """Status line and headers, without the empty line."""
    body: bytes

    @property
    def headers(self) -> list[tuple[str, str]]:
        """Names in lower case, in the order of the wire."""
        lines = self.head.decode("latin-1").split("\r\n")[1:]
        return [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]

    @property
    def location(self) -> str:
        """Where it leads; empty: nowhere."""
        mark = b"\r\nlocation: "
        start = self.head.find(mark)
        if start < 0:
            return ""
        end = self.head.find(b"\r\n", start + len(mark))
        return self.head[start + len(mark) : end if end > 0 else None].decode("latin-1")


class Connection(asyncio.Protocol):
    """A keep-alive connection with one exchange at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._waiting: asyncio.Future[Answer] | None = None

    @classmethod
    async def open(cls, port: int) -> "Connection":
        """Connects to a server on this machine."""
        _, connection = await asyncio.get_running_loop().create_connection(cls, "127.0.0.1", port)
        return connection

    async def exchange(self, request: bytes) -> Answer:
        """Sends a whole request. Raises WrongAnswer for anything but a whole answer in time."""
        loop = asyncio.get_running_loop()
        if self._transport is None or self._transport.is_closing():
            raise WrongAnswer("the server closed a keep-alive connection")
        self._waiting = loop.create_future()
        timer = loop.call_later(ANSWER_SECONDS_MAX, self._fail, f"no answer within {ANSWER_SECONDS_MAX:g} s")
        self._transport.write(request)
        try:
            return await self._waiting
        finally:
            timer.cancel()

    def close(self) -> None:
        """Ends it."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio's."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's does not derive from it

    def data_received(self, data: bytes) -> None:
        """asyncio's: a piece of an answer."""
        self._buffer = self._buffer + data if self._buffer else data
        head_end = self._buffer.find(HEAD_END)
        if head_end < 0:
            return
        length = find_content_length(self._buffer, head_end)
        if length is None:
            self._fail("an answer without content-length")
            return
        body_start = head_end + len(HEAD_END)
        missing = body_start + length - len(self._buffer)
        if missing > 0:
            return
        if missing < 0 or self._waiting is None or self._waiting.done():
            self._fail("more bytes than were asked for")
            return
        answer = Answer(int(self._buffer[9:12]), self._buffer[:head_end], self._buffer[body_start:])
        self._buffer = b""
        self._waiting.set_result(answer)

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio's."""
        self._fail("the connection was closed before an answer")

    def _fail(self, words: str) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(WrongAnswer(words))


class Notified(NamedTuple):
    """A postLink that has arrived."""

    invoice: str
    is_success: bool


class Inbox:
    """The shop's server: takes postLinks, answers 200, tells who waits for the invoice."""

    def __init__(self) -> None:
        self.received = 0
        self.problem: WrongAnswer | None = None
        """The first notification that nobody waited for, or that was no success."""
        self._awaited: dict[str, asyncio.Future[None]] = {}

    def expect(self, invoice: str) -> asyncio.Future[None]:
        """Done when the success of that invoice has been told."""
        arrived = asyncio.get_running_loop().create_future()
        self._awaited[invoice] = arrived
        return arrived

    def take(self, notified: Notified) -> None:
        """One notification."""
        arrived = self._awaited.pop(notified.invoice, None)
        if arrived is None or not notified.is_success:
            what = "a success" if notified.is_success else "a failure"
            self.problem = WrongAnswer(
                f"the shop was told {what} of invoice {notified.invoice}, which it did not await"
            )
            return
        self.received += 1
        if not arrived.done():
            arrived.set_result(None)


class InboxConnection(asyncio.Protocol):
    """One connection of the gateway to the shop's server."""

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox
        self._buffer = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio's."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's does not derive from it

    def data_received(self, data: bytes) -> None:
        """asyncio's: a piece of a notification."""
        self._buffer = self._buffer + data if self._buffer else data
        while (head_end := self._buffer.find(HEAD_END)) >= 0:
            length = find_content_length(self._buffer, head_end)
            end = head_end + len(HEAD_END) + (length or 0)
            if len(self._buffer) < end:
                return
            body = self._buffer[head_end + len(HEAD_END) : end]
            self._buffer = self._buffer[end:]
            assert self._transport is not None
            self._transport.write(ANSWER_OK)
            self._inbox.take(parse_notification(body))


def find_content_length(data: bytes, head_end: int) -> int | None:
    """From the head that ends at `head_end`; None if it names none."""
    start = data.find(b"\r\ncontent-length:", 0, head_end)
    if start < 0:
        start = data.find(b"\r\nContent-Length:", 0, head_end)
    if start < 0:
        return None
    start += len(b"\r\ncontent-length:")
    end = data.find(b"\r\n", start)
    return int(data[start:end])


def parse_notification(body: bytes) -> Notified:
    """The two fields of a postLink (docs/protocol.md §5) that the load looks at; JSON without spaces."""
    name = b'"invoiceId":"'
    start = body.find(name) + len(name)
    invoice = body[start : body.find(b'"', start)].decode("ascii", "replace") if start >= len(name) else ""
    return Notified(invoice, b'"code":"ok"' in body)
