"""Compares three books: what the acquirer did, what tolem believes, what shops were told and acknowledged.

Called from the command line and by monitoring, beside gateways that go on. Reads only. Every difference has its cause
in words and what to do about it; a difference is never mended here.

The books move while they are read, and the acquirer's clock is not ours. So nothing counts as a difference before it
was looked at again: what is missing on one side is looked for beyond the bounds of the time asked for, and a payment
that something has happened to just now is left to the next comparison.

Both sides are read side by side in the order of time, and what was compared is let go: a day of a million operations
takes the memory of its busiest half hour.
"""

from datetime import datetime, timedelta
from enum import StrEnum
from itertools import takewhile
from typing import NamedTuple
from uuid import UUID

from tolem.acquirers.base import Acquirer, StatementLine
from tolem.domain.message import MessageKind, MessageState
from tolem.domain.money import render_amount
from tolem.domain.order import OrderStatus
from tolem.domain.payment import MONEY_KINDS, OPEN_OPERATIONS, OperationKind, OperationStatus, PaymentStatus
from tolem.storage import books, keys, queries
from tolem.storage.books import BookedOperation, EndedOrder, Place, ToldMessage
from tolem.storage.store import Store

CLOCKS_MARGIN = timedelta(minutes=10)
"""How far the acquirer's time of an exchange may be from ours."""
CHUNK = 5_000
"""Operations for which one statement is asked for, or some more."""

TOLD_KINDS = (OperationKind.CAPTURE, OperationKind.VOID, OperationKind.REFUND)
"""What a terminal may want to be told of; their names are those of the messages."""


class Cause(StrEnum):
    """Why two books differ."""

    UNKNOWN_HERE = "unknown here"
    MISSING_THERE = "missing there"
    NOT_UNDONE = "not undone there"
    UNDONE_THERE = "undone there"
    AMOUNT = "amount"
    OPEN = "open"
    NOT_TOLD = "not told"
    NOT_ACKNOWLEDGED = "not acknowledged"
    TOLD_WRONGLY = "told wrongly"


ADVICE = {
    Cause.UNKNOWN_HERE: "the acquirer did something that tolem never asked for under this key: ask the acquirer",
    Cause.MISSING_THERE: "tolem believes it happened, the acquirer has no such exchange: ask the acquirer",
    Cause.NOT_UNDONE: "tolem believes that nothing is taken, the acquirer still holds or took it: reverse it there",
    Cause.UNDONE_THERE: "tolem believes it happened, the acquirer declined or undid it: the shop was told wrongly",
    Cause.AMOUNT: "both have it, with different amounts or currencies: ask the acquirer",
    Cause.OPEN: "no known outcome yet: recovery works on it, or it waits for tolem resolve",
    Cause.NOT_TOLD: "it has an outcome, and an address that is to be told; no notification was composed"
    " (none is, of captures, voids and refunds, for what was before the terminal asked to be told)",
    Cause.NOT_ACKNOWLEDGED: "the shop has not answered the notification with 2xx",
    Cause.TOLD_WRONGLY: "the shop acknowledged another outcome than the order has",
}
"""For an authorize or purchase, and for whatever has no words of its own."""
_CORRECT = "resolve it as happened, if tolem still asks about it; otherwise have it undone there"
ADVICE_OF_KIND = {
    (Cause.NOT_UNDONE, OperationKind.CAPTURE): "tolem believes that the hold stands or was released, the acquirer took"
    f" the money: {_CORRECT}",
    (Cause.NOT_UNDONE, OperationKind.VOID): "tolem believes that the hold was not released, the acquirer released it:"
    f" {_CORRECT}",
    (Cause.NOT_UNDONE, OperationKind.REFUND): "tolem believes that nothing was given back, the acquirer gave it back:"
    f" {_CORRECT}",
    (
        Cause.UNDONE_THERE,
        OperationKind.CAPTURE,
    ): "tolem believes that the money was taken, the acquirer declined that or undid it: the shop was told wrongly",
    (Cause.UNDONE_THERE, OperationKind.VOID): "tolem believes that the hold was released, the acquirer declined that:"
    " the payer's money may still be held, have it released there",
    (
        Cause.UNDONE_THERE,
        OperationKind.REFUND,
    ): "tolem believes that the money was given back, the acquirer declined that"
    " or undid it: the payer is owed it, have it given back there",
}


class Difference(NamedTuple):
    """One thing that two books tell differently."""

    cause: Cause
    key: UUID | None
    """The operation's id, or None for what concerns only the order."""
    invoice_id: str
    here: str
    there: str
    kind: OperationKind | None = None
    """Of the operation."""

    @property
    def advice(self) -> str:
        """What it means, and what to do."""
        own = ADVICE_OF_KIND.get((self.cause, self.kind)) if self.kind else None
        return own or ADVICE[self.cause]


class Report(NamedTuple):
    """What a comparison found."""

    differences: tuple[Difference, ...]
    operations: int
    """Compared, ours."""
    lines: int
    """The acquirer's, of that time by its clock."""
    orders: int
    """Compared with what shops were told."""
    young: int = 0
    """Operations and orders that were not compared: something has happened to them just now."""


async def reconcile(
    store: Store, acquirer: Acquirer, since: datetime, until: datetime, *, young_since: datetime | None = None
) -> Report:
    """Compares everything with since ≤ at < until (business time). Raises what reading either side raises.

    `young_since`: what began or ended at this instant or later may still be on its way from one book to the next, and
    is not compared. None: all is at rest.
    """
    return await _Comparison(store, acquirer, since, until, young_since).run()


class _Comparison:
    def __init__(
        self, store: Store, acquirer: Acquirer, since: datetime, until: datetime, young_since: datetime | None
    ) -> None:
        self._store = store
        self._acquirer = acquirer
        self._since = since
        self._until = until
        self._young_since = young_since
        self._tells: dict[UUID, tuple[str, ...]] = {}
        """What each terminal wants to be told of."""
        self._lines: dict[UUID, StatementLine] = {}
        """Of the acquirer, read and not met yet, oldest first."""
        self._read_until = since - CLOCKS_MARGIN
        """The statement was read up to here."""
        self._differences: list[Difference] = []
        self._operation_count = self._line_count = self._order_count = self._young_count = 0

    async def run(self) -> Report:
        self._tells = {terminal.id: terminal.tells for terminal in await queries.list_terminals(self._store)}
        await self._compare_operations()
        await self._compare_orders()
        return Report(
            tuple(self._differences), self._operation_count, self._line_count, self._order_count, self._young_count
        )

    async def _compare_operations(self) -> None:
        place: Place | None = None
        while True:
            chunk, place = await self._read_chunk(place)
            end = place.at if place else self._until
            await self._read_lines(end + CLOCKS_MARGIN)
            for entry in chunk:
                await self._compare(entry, self._lines.pop(entry.id, None))
            await self._judge_lines(end - CLOCKS_MARGIN if place else None)
            if place is None:
                return

    async def _read_chunk(self, place: Place | None) -> tuple[list[BookedOperation], Place | None]:
        chunk, place = await books.read_operations(self._store, self._since, self._until, place)
        while place is not None and len(chunk) < CHUNK:
            page, place = await books.read_operations(self._store, self._since, self._until, place)
            chunk += page
        return chunk, place

    async def _read_lines(self, until: datetime) -> None:
        if until <= self._read_until:
            return
        for line in await self._acquirer.statement(self._read_until, until):
            self._lines[line.key] = line
            self._line_count += self._since <= line.at < self._until
        self._read_until = until

    async def _compare(self, entry: BookedOperation, line: StatementLine | None) -> None:
        if entry.kind not in MONEY_KINDS:
            return  # a reversal is judged by its original
        if self._is_young(entry.created_at, entry.finished_at):
            self._young_count += 1
            return
        difference = _compare(entry, line, is_voided=entry.payment_status is PaymentStatus.VOIDED)
        if difference is not None:
            looked_again = await self._look_again(entry, line)
            if looked_again is None:
                self._young_count += 1
                return
            difference = looked_again.difference
        self._operation_count += 1
        self._differences += [found for found in (difference, self._check_told(entry)) if found]

    async def _look_again(self, entry: BookedOperation, line: StatementLine | None) -> "_Second | None":
        """What stands in our book by now. None: something has happened to the payment just now."""
        history = await self._store.find(keys.order_by_id(entry.order_id))
        if history is None:
            raise LookupError(f"order {entry.order_id} of an operation is not stored")
        operation = history.operations[entry.id]
        of_payment = [other for other in history.operations.values() if other.payment_id == entry.payment_id]
        if any(self._is_young(other.created_at, other.finished_at) for other in of_payment):
            return None
        # A void that is open has an entry of its own; it explains what it may have undone.
        is_voided = history.payments[entry.payment_id].status is PaymentStatus.VOIDED or any(
            other.kind is OperationKind.VOID and other.status in OPEN_OPERATIONS for other in of_payment
        )
        return _Second(_compare(entry._replace(status=operation.status), line, is_voided=is_voided))

    def _check_told(self, entry: BookedOperation) -> Difference | None:
        """The shop is told of a capture, void or refund if its terminal wants it, and has acknowledged that."""
        is_told = entry.kind in TOLD_KINDS and entry.status is OperationStatus.APPROVED and entry.post_link
        if not is_told or (entry.message is None and entry.kind not in self._tells.get(entry.terminal_id, ())):
            return None
        return _check_message(entry.message, entry.id, entry.invoice_id, _describe_ours(entry))

    async def _judge_lines(self, before: datetime | None) -> None:
        """Lets go what is older than all that follows, and finds what we have nothing of. None: all that is left."""
        lines = list(self._lines.values())
        if before is not None:
            lines = list(takewhile(lambda line: line.at < before, lines))
        for line in lines:
            del self._lines[line.key]
        strange = [
            line
            for line in lines
            if line.is_approved and self._since <= line.at < self._until and not self._is_young(line.at)
        ]
        for start in range(0, len(strange), books.LOOKUP_MAX):
            some = strange[start : start + books.LOOKUP_MAX]
            known = await books.find_operations(self._store, [line.key for line in some])
            self._differences += [
                Difference(Cause.UNKNOWN_HERE, line.key, "", "nothing", _describe(line))
                for line in some
                if line.key not in known
            ]

    async def _compare_orders(self) -> None:
        place: Place | None = None
        while True:
            page, place = await books.read_ended_orders(self._store, self._since, self._until, place)
            for order in page:
                if self._is_young(order.updated_at):
                    self._young_count += 1
                    continue
                self._order_count += 1
                if difference := _check_order(order):
                    self._differences.append(difference)
            if place is None:
                return

    def _is_young(self, *times: datetime | None) -> bool:
        young_since = self._young_since
        return young_since is not None and any(at is not None and at >= young_since for at in times)


class _Second(NamedTuple):
    """What a second look found."""

    difference: Difference | None


def _compare(entry: BookedOperation, line: StatementLine | None, *, is_voided: bool) -> Difference | None:
    """`is_voided`: the payment's hold was released since."""
    here = _describe_ours(entry)
    there = "nothing" if line is None else _describe(line)

    def differs(cause: Cause) -> Difference:
        return Difference(cause, entry.id, entry.invoice_id, here, there, entry.kind)

    if entry.status in OPEN_OPERATIONS:
        return differs(Cause.OPEN)
    stands = line is not None and line.is_approved and not line.is_undone
    if entry.status is OperationStatus.APPROVED:
        if line is None:
            return differs(Cause.MISSING_THERE)
        # a hold that was voided since is undone on both sides: the void has an entry of its own
        if not line.is_approved or (line.is_undone and not is_voided):
            return differs(Cause.UNDONE_THERE)
        if (line.amount, line.currency) != (entry.amount, entry.currency):
            return differs(Cause.AMOUNT)
        return None
    return differs(Cause.NOT_UNDONE) if stands else None


def _describe(line: StatementLine) -> str:
    state = "undone" if line.is_undone else "approved" if line.is_approved else "declined"
    return f"{line.kind} {state} {render_amount(line.amount, line.currency)} {line.currency}"


def _describe_ours(entry: BookedOperation) -> str:
    return f"{entry.kind} {entry.status} {render_amount(entry.amount, entry.currency)} {entry.currency}"


def _check_order(order: EndedOrder) -> Difference | None:
    """An order with an outcome was told of it, once, and its shop has acknowledged it."""
    kind = MessageKind.SUCCESS if order.status is OrderStatus.PAID else MessageKind.FAILURE
    address = order.post_link or (order.failure_post_link if kind is MessageKind.FAILURE else "")
    if order.opened_at is None or not address:
        return None
    here = f"order {order.status}"
    right = next((message for message in order.messages if message.kind is kind), None)
    wrong = next((message for message in order.messages if message.kind is not kind), None)
    if wrong is not None and wrong.state is MessageState.DELIVERED:
        return Difference(Cause.TOLD_WRONGLY, None, order.invoice_id, here, f"told {wrong.kind}")
    return _check_message(right, None, order.invoice_id, here)


def _check_message(message: ToldMessage | None, key: UUID | None, invoice_id: str, here: str) -> Difference | None:
    if message is None:
        return Difference(Cause.NOT_TOLD, key, invoice_id, here, "nothing")
    if message.state is not MessageState.DELIVERED:
        there = f"message {message.id} {message.state} after {message.tries} tries"
        return Difference(Cause.NOT_ACKNOWLEDGED, key, invoice_id, here, there)
    return None
