"""Reconciliation: books that agree, and every difference by its cause."""

from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy as sa
from msgspec.structs import replace

from tests.flows.moody import Mood
from tests.flows.test_operations import CAPTURE, INVOICE, REFUND, VOID, Till, paid_till
from tests.gateway import LOCKED_CARD, Caller, eventually, running_gateway, running_shop
from tolem.acquirers.base import StatementLine
from tolem.domain.message import MessageState
from tolem.domain.payment import OperationKind
from tolem.flows.reconciliation import ADVICE, Cause, Report, reconcile
from tolem.ids import Ids
from tolem.storage import keys
from tolem.storage.schema import messages
from tolem.storage.store import Decision

ALWAYS = (datetime(1970, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC))


class EditedBooks:
    """The acquirer's books with one line changed, added or torn out."""

    def __init__(self, inner: Any, edit: Any) -> None:
        self.inner = inner
        self.edit = edit

    async def statement(self, since: datetime, until: datetime) -> list[StatementLine]:
        """The forged statement."""
        lines: list[StatementLine] = self.edit(await self.inner.statement(since, until))
        return lines


async def compare(till: Till, edit: Any = lambda lines: lines) -> Report:
    books: Any = EditedBooks(till.acquirer, edit)
    return await reconcile(till.gateway.store, books, *ALWAYS)


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


async def test_an_open_operation_is_a_difference(sqlite_url: str) -> None:
    async with paid_till(sqlite_url, two_stage=False) as till:
        till.acquirer.feel(REFUND, *[Mood.REFUSED] * 9)
        till.acquirer.feel(OperationKind.INQUIRY, *[Mood.REFUSED] * 9)
        await till.move(REFUND, "40")
        assert causes(await compare(till)) == [Cause.OPEN]
