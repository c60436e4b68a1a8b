"""Shops that misbehave on demand: real servers on loopback, one behaviour for each try."""

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import NamedTuple

from tolem.domain.message import Message
from tolem.notifications.signature import render_headers


class Request(NamedTuple):
    """One POST as it arrived."""

    path: str
    headers: dict[str, str]
    body: bytes
    connection: int
    """Number of the connection it came over, from 1."""


Behaviour = Callable[[asyncio.StreamWriter], Awaitable[None]]


def answer(status: int, *headers: str, body: bytes = b"") -> Behaviour:
    """An ordinary answer; the connection stays open."""

    async def behave(writer: asyncio.StreamWriter) -> None:
        lines = (f"HTTP/1.1 {status} Words", f"content-length: {len(body)}", *headers, "", "")
        writer.write("\r\n".join(lines).encode() + body)
        await writer.drain()

    return behave


def raw(data: bytes) -> Behaviour:
    """These bytes, then the connection is closed."""

    async def behave(writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        writer.close()

    return behave


def raw_open(data: bytes) -> Behaviour:
    """These bytes; the connection stays open."""

    async def behave(writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()

    return behave


async def hang(_writer: asyncio.StreamWriter) -> None:
    """Never answers."""
    await asyncio.Event().wait()


def drip(start: bytes) -> Behaviour:
    """`start`, then a byte every 20 ms for ever."""

    async def behave(writer: asyncio.StreamWriter) -> None:
        writer.write(start)
        while True:
            writer.write(b"a")
            await writer.drain()
            await asyncio.sleep(0.02)

    return behave


async def flood(writer: asyncio.StreamWriter) -> None:
    """10 MB of answer."""
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10000000\r\n\r\n")
    for _ in range(1000):
        writer.write(b"f" * 10_000)
        await writer.drain()


def reset_after(data: bytes = b"") -> Behaviour:
    """`data`, then a TCP reset."""

    async def behave(writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()
        await asyncio.sleep(0.05)  # so that what was sent arrives before the reset overtakes it
        sock: socket.socket = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    return behave


async def sign_nothing(message: Message, real_now: datetime) -> dict[str, str]:
    """The headers of a terminal without a webhook secret."""
    return render_headers(str(message.id), real_now, message.body, [])


class Shop:
    """A server with the behaviour of each try in turn; the last one stays."""

    def __init__(self, behaviours: tuple[Behaviour, ...]) -> None:
        self.behaviours = list(behaviours)
        self.requests: list[Request] = []
        self.url = ""
        self.on_connection: Callable[[asyncio.StreamWriter], object] = lambda _: None
        """Called with each new connection, before anything is read."""
        self._connections = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def bodies(self) -> list[bytes]:
        """What arrived, in order."""
        return [request.body for request in self.requests]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        self._connections += 1
        number = self._connections
        self.on_connection(writer)
        try:
            while not writer.is_closing():
                head = await reader.readuntil(b"\r\n\r\n")
                first, *lines = head.decode().split("\r\n")
                headers = {n.lower(): value for n, _, value in (line.partition(": ") for line in lines if line)}
                body = await reader.readexactly(int(headers["content-length"]))
                self.requests.append(Request(first.split()[1], headers, body, number))
                behaviour = self.behaviours.pop(0) if len(self.behaviours) > 1 else self.behaviours[0]
                await behaviour(writer)
        except (OSError, EOFError, asyncio.CancelledError):
            writer.transport.abort()  # the sender has gone, or the test has ended
        finally:
            self._tasks.discard(task)

    async def drop_connections(self) -> None:
        """Closes every connection from this side."""
        for writer in self._writers:
            writer.close()
        self._writers.clear()

    async def close(self) -> None:
        """Ends what still runs."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def open_shop(
    *behaviours: Behaviour,
    tls: ssl.SSLContext | None = None,
    host: str = "127.0.0.1",
    on_connection: Callable[[asyncio.StreamWriter], object] = lambda _: None,
) -> AsyncIterator[Shop]:
    """A listening shop; `url` is its address."""
    shop = Shop(behaviours or (answer(200),))
    shop.on_connection = on_connection
    server = await asyncio.start_server(shop.serve, host, 0, ssl=tls)
    port = server.sockets[0].getsockname()[1]
    shop.url = f"{'https' if tls else 'http'}://{host}:{port}/paid?order=1"
    try:
        yield shop
    finally:
        server.close()
        await shop.close()
        await server.wait_closed()


def find_free_port() -> int:
    """A port where nobody listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port
