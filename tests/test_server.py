"""What a server owes its clients, and what it does not: over real connections."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from starlette.types import Receive, Scope, Send
from structlog.testing import capture_logs

from tolem import server

ANSWER_SECONDS = 10
"""Far more than it takes."""


async def read_then_answer(scope: Scope, receive: Receive, send: Send) -> None:
    """Waits for the body, as long as it takes; `/unread` doesn't."""
    if scope["type"] != "http":
        return
    while scope["path"] != "/unread" and (message := await receive()).get("more_body"):
        assert message["type"] == "http.request"
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


@asynccontextmanager
async def serving() -> AsyncIterator[int]:
    """The port of a server."""
    listener = server.bind("127.0.0.1", 0)
    stopping = asyncio.Event()
    running = asyncio.create_task(server.serve_apps([(read_then_answer, listener)], stopping))
    try:
        yield listener.getsockname()[1]
    finally:
        stopping.set()
        await running


async def read_to_end(port: int, *pieces: bytes) -> bytes:
    """All that comes until the server closes the connection, which has the pieces one after the other."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for piece in pieces:
        writer.write(piece)
        await asyncio.sleep(0.05)
    async with asyncio.timeout(ANSWER_SECONDS):
        read = await reader.read()
    writer.close()
    return read


async def test_only_a_request_that_never_ends_loses_its_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "REQUEST_SECONDS_MAX", 0.5)
    whole = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"
    async with serving() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(whole)
        async with asyncio.timeout(ANSWER_SECONDS):
            await reader.readuntil(b"ok")
        with capture_logs() as logs:
            silent, head, body, second, unread = await asyncio.gather(
                read_to_end(port),
                read_to_end(port, b"GET / HTTP/1.1\r\nhost: "),
                read_to_end(port, b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\n", b"12"),
                read_to_end(port, whole, b"GET / HT"),
                read_to_end(port, b"POST /unread HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\n", b"12"),
            )
        writer.write(whole)  # nobody waited for anything of this one meanwhile
        async with asyncio.timeout(ANSWER_SECONDS):
            await reader.readuntil(b"ok")
        writer.close()
    assert (silent, head, body) == (b"", b"", b"")
    assert second.endswith(b"ok")
    assert unread.endswith(b"ok")
    assert sum(entry["connections"] for entry in logs if entry["event"] == "unfinished_requests_closed") == 5
