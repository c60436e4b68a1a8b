"""Compares three books: what the acquirer did, what tolem believes, what shops were told and acknowledged.

Called from the command line and by monitoring. Reads only. Every difference has its cause in words and what to do about
it; a difference is never mended here.
"""

from datetime import datetime
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID

from tolem.acquirers.base import Acquirer, StatementLine
from tolem.domain.message import MessageKind, MessageState
from tolem.domain.order import Order, OrderStatus
from tolem.domain.payment import MONEY_KINDS, OPEN_OPERATIONS, OperationStatus
from tolem.storage import queries
from tolem.storage.queries import BookedOperation, ToldOrder
from tolem.storage.store import Store


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
    Cause.NOT_TOLD: "the order has an outcome and an address, and no notification was composed",
    Cause.NOT_ACKNOWLEDGED: "the shop has not answered the notification with 2xx",
    Cause.TOLD_WRONGLY: "the shop acknowledged another outcome than the order has",
}


class Difference(NamedTuple):
    """One thing that two books tell differently."""

    cause: Cause
    key: UUID | None
    """The operation's id, or None for what concerns only the shop."""
    invoice_id: str
    here: str
    there: str


class Report(NamedTuple):
    """What a comparison found."""

    differences: tuple[Difference, ...]
    operations: int
    """Compared, ours."""
    lines: int
    """Compared, the acquirer's."""
    orders: int
    """Compared with what shops were told."""


async def reconcile(store: Store, acquirer: Acquirer, since: datetime, until: datetime) -> Report:
    """Compares everything with since ≤ at < until (business time). Raises what reading either side raises."""
    booked = await queries.list_booked_operations(store, since=since, until=until)
    told = await queries.list_told_orders(store, since=since, until=until)
    lines = {line.key: line for line in await acquirer.statement(since, until)}
    known = {entry.operation.id for entry in booked}
    differences = [difference for entry in booked if (difference := _compare(entry, lines.get(entry.operation.id)))]
    differences += [_stranger(line) for key, line in lines.items() if key not in known and line.is_approved]
    differences += [difference for order in told if (difference := _check_told(order))]
    return Report(tuple(differences), len(booked), len(lines), len(told))


def _compare(entry: BookedOperation, line: StatementLine | None) -> Difference | None:
    operation = entry.operation
    if operation.kind not in MONEY_KINDS:
        return None  # a reversal is judged by its original
    here = f"{operation.kind} {operation.status} {operation.amount}"
    there = "nothing" if line is None else _describe(line)

    def differs(cause: Cause) -> Difference:
        return Difference(cause, operation.id, entry.invoice_id, here, there)

    if operation.status in OPEN_OPERATIONS:
        return differs(Cause.OPEN)
    stands = line is not None and line.is_approved and not line.is_undone
    if operation.status is OperationStatus.APPROVED:
        if line is None:
            return differs(Cause.MISSING_THERE)
        # a hold that was voided since is undone on both sides: the void has an entry of its own
        if not line.is_approved or (line.is_undone and not entry.is_voided):
            return differs(Cause.UNDONE_THERE)
        if (line.amount, line.currency) != (operation.amount, entry.currency):
            return differs(Cause.AMOUNT)
        return None
    return differs(Cause.NOT_UNDONE) if stands else None


def _stranger(line: StatementLine) -> Difference:
    return Difference(Cause.UNKNOWN_HERE, line.key, "", "nothing", _describe(line))


def _describe(line: StatementLine) -> str:
    state = "undone" if line.is_undone else "approved" if line.is_approved else "declined"
    return f"{line.kind} {state} {line.amount}"


def _check_told(told: ToldOrder) -> Difference | None:
    """An order with an outcome was told of it, once, and its shop has acknowledged it."""
    order = told.order
    kind = MessageKind.SUCCESS if order.status is OrderStatus.PAID else MessageKind.FAILURE
    if not _has_address(order, kind):
        return None
    messages = [message for message in told.messages if message.round_id == order.round_id]
    wrong = [m for m in messages if m.kind is not kind and m.kind in (MessageKind.SUCCESS, MessageKind.FAILURE)]
    right = [m for m in messages if m.kind is kind]

    def differs(cause: Cause, there: str) -> Difference:
        return Difference(cause, None, order.invoice_id, f"order {order.status}", there)

    if any(message.state is MessageState.DELIVERED for message in wrong):
        return differs(Cause.TOLD_WRONGLY, f"told {wrong[0].kind}")
    if not right:
        return differs(Cause.NOT_TOLD, "nothing")
    if right[0].state is not MessageState.DELIVERED:
        return differs(Cause.NOT_ACKNOWLEDGED, f"message {right[0].id} {right[0].state} after {right[0].tries} tries")
    return None


def _has_address(order: Order, kind: MessageKind) -> bool:
    if order.opened_at is None:
        return False
    return bool(order.post_link or (kind is MessageKind.FAILURE and order.failure_post_link))
