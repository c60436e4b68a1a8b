"""The shops of the notification benchmark: a hundred addresses in one process, of which some may be dead or slow.

`python -m bench.addresses COUNT`, started by bench/notifications.py. Tells its ports as a line of JSON. Each line on
its input, a JSON list of the behaviours of all addresses, begins a new measurement, and is answered with what the last
one has received. A message carries the time of its commit (time.monotonic_ns) in its first 20 bytes; 0: it is not
counted.
"""

import asyncio
import sys
import time
from enum import StrEnum
from typing import cast

import msgspec
import uvloop

SLOW_SECONDS = 5.0
_ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
_STAMP_DIGITS = 20


class Behaviour(StrEnum):
    """How an address answers."""

    HEALTHY = "healthy"
    SLOW = "slow"  # after SLOW_SECONDS
    DEAD = "dead"  # takes the connection, says nothing


class Received(msgspec.Struct, frozen=True, kw_only=True):
    """What came since the last question."""

    latencies_ms: list[float]
    """From the commit to the arrival at a healthy address."""
    others: int
    """Requests that came to slow and dead addresses."""


class _Addresses:
    def __init__(self, count: int) -> None:
        self.behaviours = [Behaviour.HEALTHY] * count
        self.latencies_ms: list[float] = []
        self.others = 0

    def take(self) -> Received:
        received = Received(latencies_ms=self.latencies_ms, others=self.others)
        self.latencies_ms, self.others = [], 0
        return received


class _Connection(asyncio.Protocol):
    """One connection to one address: requests with a content-length, one after the other."""

    def __init__(self, addresses: _Addresses, number: int) -> None:
        self._addresses = addresses
        self._number = number
        self._data = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass

    def data_received(self, data: bytes) -> None:
        """Called by the loop."""
        self._data += data
        head_end = self._data.find(b"\r\n\r\n")
        if head_end < 0:
            return
        head = self._data[:head_end].lower()
        start = head.index(b"content-length:") + len(b"content-length:")
        end = head.find(b"\r\n", start)
        length = int(head[start : end if end > 0 else None])
        body = self._data[head_end + 4 :]
        if len(body) < length:
            return
        self._data = b""
        self._answer(int(body[:_STAMP_DIGITS]))

    def _answer(self, committed_ns: int) -> None:
        behaviour = self._addresses.behaviours[self._number]
        if behaviour is Behaviour.HEALTHY:
            if committed_ns:
                self._addresses.latencies_ms.append((time.monotonic_ns() - committed_ns) / 1e6)
            self._write_answer()
            return
        self._addresses.others += 1
        if behaviour is Behaviour.SLOW:
            asyncio.get_running_loop().call_later(SLOW_SECONDS, self._write_answer)

    def _write_answer(self) -> None:
        if not self._transport.is_closing():
            self._transport.write(_ANSWER)


async def serve(count: int) -> None:
    """Until its input ends."""
    loop = asyncio.get_running_loop()
    addresses = _Addresses(count)
    servers = [
        await loop.create_server(lambda number=number: _Connection(addresses, number), "127.0.0.1", 0, backlog=1024)  # type: ignore[misc]
        for number in range(count)
    ]
    _tell([server.sockets[0].getsockname()[1] for server in servers])
    while line := await asyncio.to_thread(sys.stdin.readline):
        _tell(addresses.take())
        addresses.behaviours = msgspec.json.decode(line, type=list[Behaviour])


def _tell(fact: object) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(fact) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
