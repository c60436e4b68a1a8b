"""The process that delivers in the notification benchmark: store, notifier and sender, as a worker has them.

`python -m bench.deliverer SPEC`, started by bench/notifications.py; prints its Sample as JSON.
"""

import asyncio
import gc
import itertools
import sys
import time
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from uuid import UUID

import msgspec
import uvloop
from msgspec.structs import replace

from tolem.clock import SystemClock
from tolem.domain.message import Message, MessageKind
from tolem.domain.order import Order, OrderStatus
from tolem.ids import Ids
from tolem.notifications.notifier import PER_HOST, Notifier
from tolem.notifications.outbox import Lease, compose
from tolem.notifications.schedule import TryResult
from tolem.notifications.sender import Sender
from tolem.notifications.signature import render_headers
from tolem.notifications.terms import DEFAULT_TERMS, Terms
from tolem.storage.migrate import migrate
from tolem.storage.open import open_store
from tolem.storage.schema import tolem_schema
from tolem.storage.store import Decision, Store
from tolem.telemetry import configure_logging

BODY_BYTES = 900
"""As long as a postLink."""
SECRET = b"0" * 32
STORED_AT_ONCE = 250
WARMUP_SECONDS = 4.0
SAMPLES = 10
"""Of memory and rate, while a backlog is delivered."""
_TERMINAL_ID = UUID(int=2)


class Spec(msgspec.Struct, frozen=True, kw_only=True):
    """One measurement."""

    database: str
    """Empty: no database, nothing is stored, and the sender does nothing but send."""
    ports: list[int]
    """Addresses of the load, in turns."""
    backlog_ports: list[int] = []
    """Addresses of the backlog, in turns."""
    backlog: int = 0
    """Messages that wait before it begins."""
    backlog_due_in_days: int = 0
    """When they are due."""
    per_second: float = 0.0
    """Messages that are committed and sent, at even intervals. Without: the backlog is delivered, as fast as can be."""
    seconds: float = 0.0


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it."""

    delivered: int
    seconds: float
    rss_mb: list[float]
    """At the beginning, and after each of SAMPLES equal parts."""
    rates: list[float]
    """Deliveries per second in each part."""
    cpu_us: float
    """Processor time of a delivery, in this process."""


class _Office:
    """Makes messages, and delivers them."""

    def __init__(self, store: Store | None) -> None:
        self.store = store
        self.clock = SystemClock()
        self.ids = Ids()
        self.sender = Sender(self.clock, _sign, sandbox=True, per_host=PER_HOST)
        self.delivered = 0

    def make(self, port: int, lease: Lease | None = None, *, is_counted: bool = True) -> tuple[Order, Message]:
        """A paid order and its message; `is_counted`: its latency is measured."""
        at = self.clock.now()
        order = Order(
            id=self.ids.new(),
            terminal_id=_TERMINAL_ID,
            invoice_id=f"{self.ids.new().int % 10**15:015d}",
            status=OrderStatus.PAID,
            round_id=self.ids.new(),
            amount=10_000,
            currency="KZT",
            post_link=f"http://127.0.0.1:{port}/paid",
            created_at=at,
            updated_at=at,
        )
        body = b"%020d" % (time.monotonic_ns() if is_counted else 0)
        message = compose(
            order,
            MessageKind.SUCCESS,
            body.ljust(BODY_BYTES, b"x"),
            id=self.ids.new(),
            payment_id=None,
            at=at,
            lease=lease,
        )
        assert message is not None
        return order, message

    async def store_backlog(self, ports: list[int], count: int, due_in_days: int = 0) -> None:
        """So many messages that wait."""
        assert self.store is not None
        turns = itertools.cycle(ports)
        for start in range(0, count, STORED_AT_ONCE):
            records: list[Order | Message] = []
            for _ in range(min(STORED_AT_ONCE, count - start)):
                order, message = self.make(next(turns))
                due_at = message.created_at + timedelta(days=due_in_days)
                records += (order, replace(message, due_at=due_at))
            await self.store.change((), lambda records=tuple(records): Decision(None, records))

    def note(self, result: TryResult) -> None:
        """A try was stored."""
        self.delivered += result.is_delivered


async def _sign(message: Message, real_now: datetime) -> Mapping[str, str]:
    return render_headers(str(message.id), real_now, message.body, (SECRET,))


async def _find_terms(_: UUID) -> Terms:
    return DEFAULT_TERMS


async def measure(spec: Spec) -> Sample:
    """The measurement that the spec asks for."""
    if not spec.database:
        return await _send_only(spec)
    migrate(spec.database, mode="sandbox")
    instance = Ids().instance()
    store = await open_store(spec.database, schema=tolem_schema, instance=instance)
    office = _Office(store)
    await office.store_backlog(spec.backlog_ports, spec.backlog, spec.backlog_due_in_days)
    notifier = Notifier(store, office.clock, office.ids, office.sender, instance, _find_terms, on_try=office.note)
    gc.collect()
    gc.freeze()
    loop = asyncio.create_task(notifier.run())
    sample = await (_load(spec, office, notifier) if spec.per_second else _drain(spec, office))
    await notifier.stop(0)
    await loop
    await office.sender.close()
    await store.close()
    return sample


async def _load(spec: Spec, office: _Office, notifier: Notifier) -> Sample:
    """Commits messages at even intervals, each with this process's lease, and hands them over, as the flows do."""
    store, loop = office.store, asyncio.get_running_loop()
    assert store is not None
    turns = itertools.cycle(spec.ports)

    async def tell(port: int, is_counted: bool) -> None:
        order, message = office.make(port, notifier.lease(), is_counted=is_counted)
        await store.change((), lambda: Decision(None, (order, message)))
        notifier.send(message)

    started = loop.time()
    due = started
    async with asyncio.TaskGroup() as group:
        while (now := loop.time()) < started + WARMUP_SECONDS + spec.seconds:
            while due <= now:
                group.create_task(tell(next(turns), due > started + WARMUP_SECONDS))
                due += 1 / spec.per_second
            await asyncio.sleep(max(0.0, due - loop.time()))
    return Sample(delivered=office.delivered, seconds=loop.time() - started, rss_mb=[_rss_mb()], rates=[], cpu_us=0.0)


async def _drain(spec: Spec, office: _Office) -> Sample:
    """Delivers the backlog."""
    rss, rates = [_rss_mb()], []
    cpu = time.process_time()
    started = last = time.perf_counter()
    for part in range(1, SAMPLES + 1):
        before = office.delivered
        while office.delivered < spec.backlog * part // SAMPLES:  # noqa: ASYNC110 - it is sampled, not waited for
            await asyncio.sleep(0.02)
        now = time.perf_counter()
        rates.append((office.delivered - before) / (now - last))
        rss.append(_rss_mb())
        last = now
    return Sample(
        delivered=office.delivered,
        seconds=last - started,
        rss_mb=rss,
        rates=rates,
        cpu_us=(time.process_time() - cpu) / office.delivered * 1e6,
    )


async def _send_only(spec: Spec) -> Sample:
    """The same exchanges without a store: what the sender can do."""
    office = _Office(None)
    turns = itertools.cycle(spec.ports)
    left = iter(range(spec.backlog))

    async def send() -> None:
        for _ in left:
            _, message = office.make(next(turns))
            office.note(await office.sender.send(message, DEFAULT_TERMS))

    rss, cpu, started = _rss_mb(), time.process_time(), time.perf_counter()
    await asyncio.gather(*(send() for _ in range(min(PER_HOST * len(spec.ports) // 2, 768))))
    seconds = time.perf_counter() - started
    await office.sender.close()
    return Sample(
        delivered=office.delivered,
        seconds=seconds,
        rss_mb=[rss, _rss_mb()],
        rates=[office.delivered / seconds],
        cpu_us=(time.process_time() - cpu) / office.delivered * 1e6,
    )


def _rss_mb() -> float:
    """Resident memory; 0 where /proc tells nothing."""
    status = Path("/proc/self/status")
    if not status.exists():
        return 0.0
    (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    configure_logging("json")
    sample = uvloop.run(measure(msgspec.json.decode(sys.argv[1], type=Spec)))
    sys.stdout.buffer.write(msgspec.json.encode(sample))
