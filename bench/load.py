"""The load: callers that pay one order after another, and the shop's server that their notifications reach.

`python -m bench.load SPEC`, a process of its own, started by bench/run.py for each turn; prints a Sample as JSON.
A payment is complete when its result page says approved and its postLink was received and answered. Every answer is
checked; the first wrong one ends the run with exit status 1.
"""

import asyncio
import gc
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from enum import StrEnum

import msgspec
import uvloop

from bench.client import Answer, Connection, Inbox, InboxConnection, WrongAnswer
from bench.exchanges import Reply, Shopper, format_invoice, pay
from bench.lean import LeanShopper, Requests
from bench.machine import cpu_seconds
from bench.ordinary import OrdinaryShopper, open_session

NOTIFICATION_SECONDS_MAX = 15.0
FINISH_SECONDS_MAX = 20.0


class Client(StrEnum):
    """Who plays shops and browsers."""

    AIOHTTP = "aiohttp"  # as an ordinary program does it
    LEAN = "lean"  # as cheap as can be, to see the server


class Spec(msgspec.Struct, frozen=True, kw_only=True):
    """One measurement."""

    port: int
    """Of the contender."""
    client: Client
    callers: int
    warmup_seconds: float
    seconds: float
    first_invoice: int
    """Numbers count up from it; never used before in this database."""
    is_notified: bool
    """The contender sends postLinks."""
    server_pids: tuple[int, ...]
    database_pids: tuple[int, ...] = ()
    """A database server's main process; its children count too."""


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured between warm-up and end."""

    seconds: float
    payments: int
    notifications: int
    latencies_ms: list[float]
    """One for each payment, from its first byte to its completion."""
    server_cpu_seconds: float | None
    database_cpu_seconds: float | None
    load_cpu_seconds: float
    """Of this process."""


class _Clock:
    """What the callers share: when to stop, what is counted, which invoice is next."""

    def __init__(self, first_invoice: int) -> None:
        self.invoice = first_invoice
        self.is_counting = False
        self.is_over = False
        self.latencies: list[float] = []


async def measure(spec: Spec) -> Sample:
    """Warms up, measures, lets the callers finish. Raises WrongAnswer."""
    async with _open_inbox() as (inbox, shop_port):
        requests = Requests(spec.port, _post_link(shop_port))
        clock = _Clock(spec.first_invoice)
        async with asyncio.TaskGroup() as group:
            callers = []
            for _ in range(spec.callers):
                shopper = _open_lean(requests, spec) if spec.client is Client.LEAN else _open_ordinary(shop_port, spec)
                callers.append(group.create_task(_call(shopper, inbox, clock, spec)))
            await asyncio.sleep(spec.warmup_seconds)
            gc.collect()
            gc.freeze()
            received, cpu = inbox.received, time.process_time()
            server, database = cpu_seconds(spec.server_pids), cpu_seconds(spec.database_pids)
            started = time.perf_counter()
            clock.is_counting = True
            await asyncio.sleep(spec.seconds)
            clock.is_counting = False
            sample = Sample(
                seconds=time.perf_counter() - started,
                payments=len(clock.latencies),
                notifications=inbox.received - received,
                latencies_ms=[round(seconds * 1000, 3) for seconds in clock.latencies],
                server_cpu_seconds=_since(cpu_seconds(spec.server_pids), server),
                database_cpu_seconds=_since(cpu_seconds(spec.database_pids), database),
                load_cpu_seconds=time.process_time() - cpu,
            )
            clock.is_over = True
            async with asyncio.timeout(FINISH_SECONDS_MAX):
                await asyncio.wait(callers)
        if inbox.problem is not None:
            raise inbox.problem
        return sample


async def capture_answers(port: int, invoice: str) -> dict[str, Answer]:
    """The answers to one payment, by exchange."""
    async with _open_inbox() as (inbox, shop_port):
        connection = await Connection.open(port)
        try:
            arrived = inbox.expect(invoice)
            shopper = LeanShopper(Requests(port, _post_link(shop_port)), connection)
            answers = {exchange.name: exchange.answer async for exchange in pay(shopper, invoice)}
            await asyncio.wait_for(arrived, NOTIFICATION_SECONDS_MAX)
        finally:
            connection.close()
        return answers


async def _call(opening: AbstractAsyncContextManager[Shopper[Reply]], inbox: Inbox, clock: _Clock, spec: Spec) -> None:
    """One caller: a shop with its payer, one payment after another."""
    async with opening as shopper:
        while not clock.is_over:
            invoice = format_invoice(clock.invoice)
            clock.invoice += 1
            arrived = inbox.expect(invoice) if spec.is_notified else None
            started = time.perf_counter()
            async for _ in pay(shopper, invoice):
                pass
            if arrived is not None and not arrived.done():
                try:
                    await asyncio.wait_for(arrived, NOTIFICATION_SECONDS_MAX)
                except TimeoutError:
                    raise WrongAnswer(f"invoice {invoice} is paid, its postLink did not come") from None
            if inbox.problem is not None:
                raise inbox.problem
            if clock.is_counting:
                clock.latencies.append(time.perf_counter() - started)


@asynccontextmanager
async def _open_lean(requests: Requests, spec: Spec) -> AsyncIterator[Shopper[Reply]]:
    connection = await Connection.open(spec.port)
    try:
        yield LeanShopper(requests, connection)
    finally:
        connection.close()


@asynccontextmanager
async def _open_ordinary(shop_port: int, spec: Spec) -> AsyncIterator[Shopper[Reply]]:
    async with open_session() as session:
        yield OrdinaryShopper(session, spec.port, _post_link(shop_port))


def _post_link(shop_port: int) -> str:
    return f"http://127.0.0.1:{shop_port}/notify"


@asynccontextmanager
async def _open_inbox() -> AsyncIterator[tuple[Inbox, int]]:
    """The shop's server on a free port."""
    inbox = Inbox()
    server = await asyncio.get_running_loop().create_server(lambda: InboxConnection(inbox), "127.0.0.1", 0)
    try:
        yield inbox, server.sockets[0].getsockname()[1]
    finally:
        server.close()


def _since(now: float | None, before: float | None) -> float | None:
    return None if now is None or before is None else now - before


def main() -> None:
    """Runs one measurement."""
    spec = msgspec.json.decode(sys.argv[1], type=Spec)
    gc.disable()  # a few seconds of a process that then ends
    try:
        sample = uvloop.run(measure(spec))
    except* (WrongAnswer, OSError, TimeoutError) as problems:
        first: BaseException = problems
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        sys.exit(f"the run is ended by a wrong answer: {str(first) or type(first).__name__}")
    sys.stdout.buffer.write(msgspec.json.encode(sample))


if __name__ == "__main__":
    main()
