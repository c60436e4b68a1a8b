"""The line's faults in process: what the gateway gets, and what the ledger knows meanwhile."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from uuid import UUID

import pytest

from tolem.acquirers.base import Acquirer, AcquirerRequest, AnswerGarbled, Verdict
from tolem.domain.card import Card, Cvc, Expiry, Pan
from tolem.domain.payment import OperationKind
from tolem.ids import Ids
from tolem.sandbox import line as line_module
from tolem.sandbox.cards import LINES, build_number
from tolem.sandbox.fixtures import TERMINAL_ID
from tolem.sandbox.ledger import LedgerEntry, open_ledger
from tolem.sandbox.line import FAULTS, Line
from tolem.sandbox.simulator import Simulator
from tolem.storage.store import Key, Store

IDS = Ids()
AT = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)
LATE_SECONDS = 0.15


def ask(kind: OperationKind, *, line: str = "0", amount: int = 80000, of: UUID | None = None) -> AcquirerRequest:
    has_card = kind in (OperationKind.AUTHORIZE, OperationKind.PURCHASE)
    return AcquirerRequest(
        key=IDS.new(),
        kind=kind,
        terminal_id=TERMINAL_ID,
        amount=amount,
        currency="KZT",
        stan="123456",
        rrn="632804123456",
        at=AT,
        card=Card(Pan(build_number(0, line=line)), Expiry(2030, 1), Cvc("123"), "A B") if has_card else None,
        original_key=of,
    )


class Bench:
    """A line with short times, and its ledger."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.line = Line(Simulator(store), delay_seconds=0.05, late_seconds=LATE_SECONDS)

    async def find(self, key: UUID) -> LedgerEntry | None:
        wanted: Key[LedgerEntry] = Key(LedgerEntry, ("key",), (key,))
        return await self.store.find(wanted)

    async def taken(self, key: UUID) -> int | None:
        entry = await self.find(key)
        return None if entry is None else entry.taken

    async def inquire(self, key: UUID) -> Verdict:
        return (await self.line.send(ask(OperationKind.INQUIRY, of=key))).verdict

    async def hears_nothing(self, request: AcquirerRequest, seconds: float = 0.1) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.line.send(request)


@asynccontextmanager
async def open_bench(url: str) -> AsyncIterator[Bench]:
    bench = Bench(await open_ledger(url, instance=1))
    try:
        yield bench
    finally:
        await bench.line.close()


@pytest.fixture
async def bench(sqlite_url: str) -> AsyncIterator[Bench]:
    async with open_bench(sqlite_url) as opened:
        yield opened


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(30):
        while not await condition():  # noqa: ASYNC110 - what it waits for happens in a database
            await asyncio.sleep(0.01)


def test_every_digit_is_played() -> None:
    assert FAULTS.keys() == LINES.keys()


async def test_prompt(bench: Bench) -> None:
    acquirer: Acquirer = bench.line
    assert (await acquirer.send(ask(OperationKind.PURCHASE))).verdict is Verdict.APPROVED


async def test_slow_is_in_the_ledger_before_it_answers(bench: Bench) -> None:
    request = ask(OperationKind.PURCHASE, line="1")
    started = time.monotonic()
    task = asyncio.ensure_future(bench.line.send(request))

    async def is_known() -> bool:
        return await bench.find(request.key) is not None

    await until(is_known)
    assert not task.done()
    assert (await task).verdict is Verdict.APPROVED
    assert time.monotonic() - started >= 0.05


async def test_lost_answer_is_done(bench: Bench) -> None:
    request = ask(OperationKind.PURCHASE, line="2")
    for _ in range(2):
        await bench.hears_nothing(request)
    assert await bench.taken(request.key) == 80000
    assert await bench.inquire(request.key) is Verdict.APPROVED


async def test_request_that_never_arrives(bench: Bench) -> None:
    request = ask(OperationKind.PURCHASE, line="3")
    await bench.hears_nothing(request)
    assert await bench.find(request.key) is None
    assert await bench.inquire(request.key) is Verdict.NOT_FOUND


async def test_garbled_answer_is_done(bench: Bench) -> None:
    request = ask(OperationKind.AUTHORIZE, line="4")
    with pytest.raises(AnswerGarbled):
        await bench.line.send(request)
    assert await bench.inquire(request.key) is Verdict.APPROVED


async def test_late_request_is_done_after_the_gateway_gave_up(bench: Bench) -> None:
    request = ask(OperationKind.PURCHASE, line="5")
    await bench.hears_nothing(request, seconds=0.05)
    assert await bench.inquire(request.key) is Verdict.NOT_FOUND

    async def is_approved() -> bool:
        return await bench.inquire(request.key) is Verdict.APPROVED

    await until(is_approved)
    assert await bench.taken(request.key) == 80000


async def test_late_request_finds_its_key_reversed(bench: Bench) -> None:
    request = ask(OperationKind.PURCHASE, line="5")
    await bench.hears_nothing(request, seconds=0.05)
    assert (await bench.line.send(ask(OperationKind.REVERSAL, of=request.key))).verdict is Verdict.APPROVED
    await asyncio.sleep(LATE_SECONDS * 2)
    assert await bench.taken(request.key) == 0
    assert await bench.inquire(request.key) is Verdict.DECLINED


async def test_closing_loses_what_is_on_its_way(sqlite_url: str) -> None:
    request = ask(OperationKind.PURCHASE, line="5")
    async with open_bench(sqlite_url) as bench:
        await bench.hears_nothing(request, seconds=0.02)
    async with open_bench(sqlite_url) as bench:
        await asyncio.sleep(LATE_SECONDS * 1.5)
        assert await bench.find(request.key) is None


async def test_late_requests_are_bounded(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_module, "LATE_MAX", 2)
    requests = [ask(OperationKind.PURCHASE, line="5") for _ in range(3)]
    for request in requests:
        await bench.hears_nothing(request, seconds=0.001)
    await asyncio.sleep(LATE_SECONDS * 2)
    assert [await bench.taken(request.key) for request in requests] == [80000, 80000, None]


@pytest.mark.parametrize("kind", (OperationKind.CAPTURE, OperationKind.VOID, OperationKind.REFUND))
async def test_fraction_that_loses_the_answer(bench: Bench, kind: OperationKind) -> None:
    original_kind = OperationKind.PURCHASE if kind is OperationKind.REFUND else OperationKind.AUTHORIZE
    original = ask(original_kind, amount=50058)
    await bench.line.send(original)
    request = ask(kind, of=original.key, amount=50000 if kind is OperationKind.VOID else 50058)
    for _ in range(2):
        await bench.hears_nothing(request)
    assert await bench.inquire(request.key) is Verdict.APPROVED
    inquiry = ask(OperationKind.INQUIRY, of=original.key, amount=50058)  # inquiries get through
    assert (await bench.line.send(inquiry)).key == inquiry.key


async def test_void_of_nothing_and_reversals_have_a_clear_line(bench: Bench) -> None:
    assert (await bench.line.send(ask(OperationKind.VOID, of=IDS.new(), amount=58))).verdict is Verdict.DECLINED
    original = ask(OperationKind.PURCHASE, amount=158)
    assert (await bench.line.send(original)).verdict is Verdict.APPROVED
    reversal = ask(OperationKind.REVERSAL, of=original.key, amount=158)
    assert (await bench.line.send(reversal)).verdict is Verdict.APPROVED


async def test_statement_goes_through(bench: Bench) -> None:
    request = ask(OperationKind.PURCHASE)
    await bench.line.send(request)
    (line,) = await bench.line.statement(AT, datetime(2026, 11, 25, tzinfo=UTC))
    assert line.key == request.key
