"""Reconciliation: books that agree, and every difference by its cause, beside gateways that go on."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from msgspec.structs import replace

from tests.flows.moody import Mood
from tests.flows.test_operations import CAPTURE, INVOICE, REFUND, VOID, Till, paid_till
from tests.gateway import LOCKED_CARD, Caller, PatientCaller, eventually, running_gateway, running_shop
from tolem.acquirers.base import StatementLine
from tolem.clock import SystemClock
from tolem.domain.message import MessageState
from tolem.domain.payment import OperationKind
from tolem.flows.administration import Administration
from tolem.flows.reconciliation import ADVICE, Cause, Report, reconcile
from tolem.ids import Ids
from tolem.storage import keys
from tolem.storage.store import Decision
from tolem.storage.tables import messages

ALWAYS = (datetime(1970, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC))


async def nothing() -> None:
    """Happens meanwhile."""


class EditedBooks:
    """The acquirer's books with one line changed, added or torn out, and what happens while they are read."""

    def __init__(
        self,
        inner: Any,
        edit: Any = lambda lines: lines,
        before: Callable[[], Awaitable[Any]] = nothing,
        after: Callable[[], Awaitable[Any]] = nothing,
        clock: timedelta = timedelta(),
    ) -> None:
        """`clock`: how far the acquirer's is ahead of ours."""
        self.inner = inner
        self.edit = edit
        self.before = before
        self.after = after
        self.clock = clock

    async def statement(self, since: datetime, until: datetime) -> list[StatementLine]:
        """The forged statement."""
        await self.before()
        lines = await self.inner.statement(since - self.clock, until - self.clock)
        await self.after()
        edited: list[StatementLine] = self.edit([replace(line, at=line.at + self.clock) for line in lines])
        return edited


async def compare(till: Till, edit: Any = lambda lines: lines, **options: Any) -> Report:
    young_since = options.pop("young_since", None)
    books: Any = EditedBooks(till.acquirer, edit, **options)
    return await reconcile(till.gateway.store, books, *ALWAYS, young_since=young_since)


def causes(report: Report) -> list[Cause]:
    return [difference.cause for difference in report.differences]


async def test_books_of_a_busy_order_agree(database_url: str) -> None:
    async with running_shop() as shop, paid_till(database_url, shop_url=shop.url) as till:
        await till.move(CAPTURE, "80")
        await till.move(REFUND, "30")
        await till.move(REFUND)
        await shop.wait(1)

        async def agree() -> bool:
            return causes(await compare(till)) == []

        await eventually(agree)
        report = await compare(till)
        assert (report.operations, report.lines, report.orders) == (4, 4, 1)


async def test_a_voided_hold_is_no_difference(database_url: str) -> None:
    async with paid_till(database_url) as till:
        await till.move(VOID)
        assert causes(await compare(till)) == []


@pytest.mark.parametrize(
    ("edit", "cause"),
    (
        (lambda lines: lines[1:], Cause.MISSING_THERE),
        (lambda lines: [replace(lines[0], amount=1), *lines[1:]], Cause.AMOUNT),
        (lambda lines: [replace(lines[0], currency="USD"), *lines[1:]], Cause.AMOUNT),
        (lambda lines: [replace(lines[0], is_undone=True), *lines[1:]], Cause.UNDONE_THERE),
        (lambda lines: [replace(lines[0], is_approved=False), *lines[1:]], Cause.UNDONE_THERE),
        (lambda lines: [*lines, replace(lines[0], key=Ids().new())], Cause.UNKNOWN_HERE),
    ),
)
async def test_each_difference_has_its_cause(sqlite_url: str, edit: Any, cause: Cause) -> None:
    async with paid_till(sqlite_url, two_stage=False) as till:
        report = await compare(till, edit)
        assert causes(report) == [cause]
        assert ADVICE[cause]


async def test_what_is_taken_there_and_declined_here_is_found(sqlite_url: str) -> None:
    async with running_gateway(sqlite_url) as gateway:
        caller = Caller(gateway.app)
        await caller.pay(await caller.page(INVOICE), LOCKED_CARD)

        def forge(lines: list[StatementLine]) -> list[StatementLine]:
            return [replace(lines[0], is_approved=True)]

        books: Any = EditedBooks(gateway.acquirer, forge)
        report = await reconcile(gateway.store, books, *ALWAYS)
        assert causes(report) == [Cause.NOT_UNDONE]


@pytest.mark.parametrize(
    ("kind", "cause", "words"),
    (
        (REFUND, Cause.NOT_UNDONE, "nothing was given back, the acquirer gave it back"),
        (CAPTURE, Cause.NOT_UNDONE, "the acquirer took the money"),
        (VOID, Cause.NOT_UNDONE, "the acquirer released it"),
        (REFUND, Cause.UNDONE_THERE, "the payer is owed it"),
        (CAPTURE, Cause.UNDONE_THERE, "the money was taken, the acquirer declined"),
        (VOID, Cause.UNDONE_THERE, "have it released there"),
    ),
)
async def test_a_difference_speaks_of_its_kind(sqlite_url: str, kind: OperationKind, cause: Cause, words: str) -> None:
    """What is to be done about a sale would be wrong for a refund."""
    is_ours = cause is Cause.UNDONE_THERE
    amount = "100" if is_ours else "100.66"  # the simulator declines this one
    async with paid_till(sqlite_url, two_stage=kind is not REFUND, amount=amount) as till:
        assert (await till.move(kind)).is_approved is is_ours

        def forge(lines: list[StatementLine]) -> list[StatementLine]:
            return [
                replace(line, is_approved=not is_ours, is_undone=False) if line.kind is kind else line for line in lines
            ]

        (difference,) = [d for d in (await compare(till, forge)).differences if d.kind is kind]
        assert difference.cause is cause
        assert words in difference.advice
        assert "reverse" not in difference.advice


async def test_shops_that_were_not_told_are_found(database_url: str) -> None:
    async with running_shop() as shop, paid_till(database_url, shop_url=shop.url) as till:
        await shop.wait(1)

        async def agree() -> bool:
            return causes(await compare(till)) == []

        await eventually(agree)
        order = (await till.history()).order
        (message,) = await till.gateway.store.select(sa.select(*messages.columns))

        async def put(**changes: Any) -> list[Cause]:
            changed = replace(message, **changes)
            await till.gateway.store.change((keys.message_by_id(message.id),), lambda _: Decision(None, (changed,)))
            return causes(await compare(till))

        assert await put(state=MessageState.DEAD) == [Cause.NOT_ACKNOWLEDGED]
        assert await put(state=MessageState.DELIVERED) == []
        assert order.post_link == shop.url


@pytest.mark.parametrize("kind", (CAPTURE, VOID, REFUND))
async def test_captures_voids_and_refunds_that_were_not_told_are_found(database_url: str, kind: OperationKind) -> None:
    async with running_shop() as shop:
        two_stage = kind is not REFUND
        async with paid_till(database_url, two_stage=two_stage, shop_url=shop.url, tells=(kind.value,)) as till:
            await till.move(kind)
            await shop.wait(2)

            async def agree() -> bool:
                return causes(await compare(till)) == []

            await eventually(agree)
            rows = await till.gateway.store.select(sa.select(*messages.columns))
            (message,) = [row for row in rows if row.kind.value == kind.value]

            async def put(**changes: Any) -> list[Cause]:
                changed = replace(message, **changes)
                await till.gateway.store.change((keys.message_by_id(message.id),), lambda _: Decision(None, (changed,)))
                report = await compare(till)
                assert all(difference.here.startswith(f"{kind} approved 100 KZT") for difference in report.differences)
                return causes(report)

            assert await put(state=MessageState.DEAD) == [Cause.NOT_ACKNOWLEDGED]
            assert await put(state=MessageState.DELIVERED) == []


async def test_what_a_terminal_wants_to_be_told_of_and_was_not_is_found(sqlite_url: str) -> None:
    async with running_shop() as shop, paid_till(sqlite_url, two_stage=False, shop_url=shop.url) as till:
        await till.move(REFUND, "30")
        await shop.wait(1)

        async def agree() -> bool:
            return causes(await compare(till)) == []

        await eventually(agree)
        admin = Administration(till.gateway.store, SystemClock(), Ids())
        await admin.change_terminal(till.terminal.id, tells=("refund",))
        report = await compare(till)
        assert causes(report) == [Cause.NOT_TOLD]
        assert report.differences[0].here == "refund approved 30 KZT"


class StoppedClock(SystemClock):
    """Business time that stands still."""

    def __init__(self) -> None:
        super().__init__()
        self.at = datetime.now(UTC)

    def now(self) -> datetime:
        return self.at


async def test_each_message_belongs_to_one_operation(database_url: str) -> None:
    """Whatever the clock says: two refunds that ended at the same instant are told by a message each."""
    clock = StoppedClock()
    async with (
        running_shop() as shop,
        paid_till(database_url, shop_url=shop.url, clock=clock, tells=("refund",)) as till,
    ):
        await till.move(CAPTURE)
        for amount in ("30", "40"):
            assert (await till.move(REFUND, amount, external_id=f"r-{amount}")).is_approved
        await shop.wait(3)
        operations = (await till.history()).operations.values()
        assert {operation.finished_at for operation in operations} == {clock.at}

        async def agree() -> bool:
            report = await compare(till)
            return causes(report) == [] and report.operations == len(operations) == 4

        await eventually(agree)


async def test_what_happens_while_the_books_are_read_is_no_difference(database_url: str) -> None:
    """A hold is released between our side's reading and the acquirer's."""
    async with paid_till(database_url) as till:
        now = till.gateway.acquiring.clock.now()
        report = await compare(till, before=lambda: till.move(VOID), young_since=now)
        assert (causes(report), report.operations, report.young) == ([], 0, 1)
        # An hour later all of it is compared.
        report = await compare(till, young_since=now + timedelta(hours=1))
        assert (causes(report), report.operations, report.young) == ([], 2, 0)


async def test_a_payment_that_begins_while_the_books_are_read_is_known(database_url: str) -> None:
    async with paid_till(database_url, two_stage=False) as till:
        caller = PatientCaller(till.gateway.app)

        async def pay() -> None:
            await caller.pay(await caller.page("000000002"))

        report = await compare(till, before=pay)
        assert (causes(report), report.operations, report.lines) == ([], 1, 2)


async def test_what_is_on_its_way_is_too_young(sqlite_url: str) -> None:
    async with paid_till(sqlite_url, two_stage=False) as till:
        now = till.gateway.acquiring.clock.now()
        till.acquirer.feel(REFUND, Mood.SILENT)
        refund = asyncio.ensure_future(till.move(REFUND, "40"))

        async def is_prepared() -> bool:
            return not await till.is_settled()

        await eventually(is_prepared)
        report = await compare(till, young_since=now)
        assert (causes(report), report.operations, report.young) == ([], 1, 1)
        await refund


async def test_a_strange_line_is_a_difference_once_it_is_old_enough(sqlite_url: str) -> None:
    async with paid_till(sqlite_url, two_stage=False) as till:

        def forge(lines: list[StatementLine]) -> list[StatementLine]:
            return [*lines, replace(lines[0], key=Ids().new())]

        now = till.gateway.acquiring.clock.now()
        report = await compare(till, forge, young_since=now)
        assert (causes(report), report.young) == ([Cause.UNKNOWN_HERE], 0)
        report = await compare(till, forge, young_since=now - timedelta(minutes=1))
        assert causes(report) == []


@pytest.mark.parametrize("minutes", (-9, 9))
async def test_days_fit_together_though_the_clocks_differ(database_url: str, minutes: int) -> None:
    """Midnight lies between what we call the time of an exchange and what the acquirer calls it."""
    async with paid_till(database_url) as till:
        await till.move(CAPTURE, "80")
        await till.move(REFUND, "30")
        operations = [operation.created_at for operation in (await till.history()).operations.values()]
        books: Any = EditedBooks(till.acquirer, clock=timedelta(minutes=minutes))
        found = [0, 0]
        for midnight in (operations[0], operations[1], operations[2] + timedelta(minutes=1)):
            for number, (since, until) in enumerate(((ALWAYS[0], midnight), (midnight, ALWAYS[1]))):
                report = await reconcile(till.gateway.store, books, since, until)
                assert report.differences == ()
                found[number] = report.operations
            assert sum(found) == 3


async def test_an_open_void_explains_what_it_has_undone(sqlite_url: str) -> None:
    async with paid_till(sqlite_url) as till:
        till.acquirer.feel(VOID, *[Mood.LOST] * 9)
        till.acquirer.feel(OperationKind.INQUIRY, *[Mood.REFUSED] * 9)
        await till.move(VOID)
        report = await compare(till)
        assert [(d.cause, d.here) for d in report.differences] == [(Cause.OPEN, "void unknown 100 KZT")]


async def test_an_open_operation_is_a_difference(sqlite_url: str) -> None:
    async with paid_till(sqlite_url, two_stage=False) as till:
        till.acquirer.feel(REFUND, *[Mood.REFUSED] * 9)
        till.acquirer.feel(OperationKind.INQUIRY, *[Mood.REFUSED] * 9)
        await till.move(REFUND, "40")
        assert causes(await compare(till)) == [Cause.OPEN]
