"""Three books of the same money: the acquirer's ledger, tolem's tables, and what the shop was told. They must agree.

Called once everything has come to rest (`settle`); `find_faults` names each disagreement in a sentence.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

import sqlalchemy as sa

from tests.gateway import build_config
from tests.notifications.shops import Request
from tests.simulation.clock import MovableClock
from tolem.bootstrap import Gateway
from tolem.domain.authentication import AuthenticationStep, PendingAuthentication
from tolem.domain.message import Attempt, Message, MessageKind, MessageState
from tolem.domain.money import to_decimal
from tolem.domain.order import Order, OrderStatus
from tolem.domain.payment import (
    OPEN_OPERATIONS,
    OPEN_STATUSES,
    SUCCESSFUL_STATUSES,
    Operation,
    OperationKind,
    OperationStatus,
    Payment,
    PaymentStatus,
)
from tolem.domain.sealed_card import SealedCard
from tolem.sandbox.ledger import PG_SCHEMA, LedgerEntry, entries, ledger_schema
from tolem.storage import queries, tables
from tolem.storage.columns import Instant
from tolem.storage.open import open_store
from tolem.storage.sweeps import is_open_round

CHARGES = (OperationKind.AUTHORIZE, OperationKind.PURCHASE)
ENDS = {OperationStatus.REVERSED: PaymentStatus.FAILED, OperationStatus.DECLINED: PaymentStatus.DECLINED}
"""What a payment comes to whose charge did not: undone is not declined."""


class Books(NamedTuple):
    """Every row that matters."""

    orders: list[Order]
    payments: list[Payment]
    operations: list[Operation]
    messages: list[Message]
    attempts: list[Attempt]
    ledger: list[LedgerEntry]
    authentications: list[PendingAuthentication]
    cards: list[SealedCard]


async def settle(gateway: Gateway, clock: MovableClock, seconds: float = 60) -> None:
    """Moves time from due instant to due instant until nothing is left to do. Fails after `seconds`."""
    store, loop = gateway.store, asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while True:
        due = [row[0] for statement in _NEXT for row in await store.select(statement)]
        instants = [instant for instant in due if instant is not None]
        undelivered = await queries.count_undelivered(store)
        unsettled = (await queries.summarize_open_operations(store)).total
        if not (instants or undelivered or unsettled):
            return
        left = f"{due} due, {undelivered} messages and {unsettled} operations at {clock.now()}"
        assert loop.time() < deadline, f"after {seconds} s there is still something to do: {left}"
        if instants:
            clock.advance_to(max(instants))
        gateway.notifier.wake()
        await asyncio.sleep(0.01)


async def read_books(gateway: Gateway, database: str) -> Books:
    """All rows of tolem and of the acquirer."""
    store = gateway.store
    ledger_url = build_config(database).ledger_url
    ledger = await open_store(ledger_url, schema=ledger_schema, instance=1, exclusive=False, pg_schema=PG_SCHEMA)
    try:
        return Books(
            await store.select(_ORDERS),
            await store.select(_PAYMENTS),
            await store.select(_OPERATIONS),
            await store.select(_MESSAGES),
            await store.select(_ATTEMPTS),
            await ledger.select(_ENTRIES),
            await store.select(_AUTHENTICATIONS),
            await store.select(_CARDS),
        )
    finally:
        await ledger.close()


def find_faults(books: Books, received: Sequence[Request], invoices: Iterable[str]) -> list[str]:
    """Each disagreement about the orders of `invoices`; `received`: all that their shop got, in order of arrival."""
    wanted = set(invoices)
    faults = _find_strangers(books, received)
    for order in books.orders:
        if order.invoice_id in wanted:
            faults += [f"order {order.invoice_id}: {fault}" for fault in _find_order_faults(order, books, received)]
    return faults


def _find_strangers(books: Books, received: Sequence[Request]) -> list[str]:
    """Charges and messages that tolem knows nothing of."""
    operations = {operation.id for operation in books.operations}
    messages = {str(message.id): message for message in books.messages}
    faults = [f"the ledger has {e.kind} {e.key}, tolem does not" for e in books.ledger if e.key not in operations]
    for request in received:
        message = messages.get(request.headers["webhook-id"])
        if message is None:
            faults.append(f"the shop got {request.body!r}, which tolem never stored")
        elif message.body != request.body:
            faults.append(f"message {message.id} was sent as {request.body!r}, stored as {message.body!r}")
    return faults


def _find_order_faults(order: Order, books: Books, received: Sequence[Request]) -> list[str]:
    payments = [payment for payment in books.payments if payment.order_id == order.id]
    operations = [operation for operation in books.operations if operation.order_id == order.id]
    messages = [message for message in books.messages if message.order_id == order.id]
    ids = {str(message.id) for message in messages}
    told = [
        json.loads(request.body, parse_float=Decimal) for request in received if request.headers["webhook-id"] in ids
    ]
    ledger = {entry.key: entry for entry in books.ledger}
    charges = {o.payment_id: ledger[o.id] for o in operations if o.kind in CHARGES and o.id in ledger}
    return [
        *_check_money(order, payments, operations, list(charges.values())),
        *_check_states(payments, operations, ledger),
        *_check_authentications(order, books),
        *_check_told(order, charges, told),
        *_check_messages(order, messages, books.attempts, Counter(r.headers["webhook-id"] for r in received)),
    ]


def _check_money(
    order: Order, payments: list[Payment], operations: list[Operation], charges: list[LedgerEntry]
) -> list[str]:
    live = [entry for entry in charges if entry.is_live]
    taken, held = sum(entry.taken for entry in charges), sum(entry.held for entry in charges)
    captured = sum(payment.captured - payment.refunded for payment in payments)
    authorized = sum(p.authorized for p in payments if p.status is PaymentStatus.AUTHORIZED)
    faults = []
    if len(live) > 1:
        faults.append(f"{len(live)} charges")
    if (taken, held) != (captured, authorized):
        faults.append(f"the acquirer took {taken} and holds {held}, tolem says {captured} and {authorized}")
    if (order.status is OrderStatus.PAID) != bool(live):
        faults.append(f"it is {order.status}, with {len(live)} charges in the ledger")
    if any((entry.amount, entry.currency) != (order.amount, order.currency) for entry in live):
        faults.append(f"charged is {[e.amount for e in live]}, asked {order.amount}")
    approved = {operation.id for operation in operations if operation.status is OperationStatus.APPROVED}
    faults += [f"{e.kind} {e.key} is live, its operation not approved" for e in live if e.key not in approved]
    return faults


def _check_states(payments: list[Payment], operations: list[Operation], ledger: dict[UUID, LedgerEntry]) -> list[str]:
    faults = [f"payment {p.id} is left {p.status}" for p in payments if p.status in OPEN_STATUSES]
    faults += [f"{o.kind} {o.id} is left {o.status}" for o in operations if o.status in OPEN_OPERATIONS]
    faults += [f"{o.kind} {o.id} is settled and still due" for o in operations if o.due_at is not None]
    successful = Counter(p.round_id for p in payments if p.status in SUCCESSFUL_STATUSES)
    faults += [f"round {round_id} has {n} successful payments" for round_id, n in successful.items() if n > 1]
    by_id = {payment.id: payment for payment in payments}
    for operation in operations:
        end = ENDS.get(operation.status) if operation.kind in CHARGES else None
        if end is not None and by_id[operation.payment_id].status is not end:
            faults.append(f"{operation.kind} is {operation.status}, its payment {by_id[operation.payment_id].status}")
        entry = ledger.get(operation.id)
        if operation.status is OperationStatus.REVERSED and (entry is None or entry.reversed_at is None):
            faults.append(f"{operation.kind} {operation.id} is reversed here, not at the acquirer")
    return faults


def _check_authentications(order: Order, books: Books) -> list[str]:
    pending = [one for one in books.authentications if one.order_id == order.id]
    cards = [one for one in books.cards if one.order_id == order.id]
    is_open = [one for one in pending if one.step is not AuthenticationStep.ENDED or one.deadline_at is not None]
    faults = [f"the authentication of payment {one.payment_id} is left at {one.step}" for one in is_open]
    return faults + [f"the card of payment {one.payment_id} is left" for one in cards if one.sealed is not None]


def _check_told(order: Order, charges: dict[UUID, LedgerEntry], told: list[dict[str, Any]]) -> list[str]:
    codes = [body["code"] for body in told]
    faults = []
    if (order.status is OrderStatus.PAID) != ("ok" in codes):
        faults.append(f"it is {order.status}, the shop was told {codes}")
    if "ok" in codes and "error" in codes[codes.index("ok") :]:
        faults.append(f"a failure followed the success: {codes}")
    for body in told:
        if body["code"] != "ok":
            continue
        entry = charges.get(UUID(body["id"]))
        if entry is None or not entry.is_live:
            faults.append(f"told paid by payment {body['id']}, which has no charge")
            continue
        charged = (entry.approval_code, entry.rrn, to_decimal(entry.amount, entry.currency))
        if (body["approvalCode"], body["reference"], body["amount"]) != charged:
            faults.append(f"told {body}, charged {charged}")
    return faults


def _check_messages(
    order: Order, messages: list[Message], attempts: list[Attempt], received: Counter[str]
) -> list[str]:
    faults = []
    rounds = Counter(message.round_id for message in messages)
    faults += [f"round {round_id} was told {n} outcomes" for round_id, n in rounds.items() if n > 1]
    for message in messages:
        tries = [attempt for attempt in attempts if attempt.message_id == message.id]
        times = received[str(message.id)]
        is_withdrawn = message.state is MessageState.WITHDRAWN and message.kind is MessageKind.FAILURE
        if message.state is not MessageState.DELIVERED and not is_withdrawn:
            faults.append(f"{message.kind} {message.id} is left {message.state}")
        if message.state is MessageState.DELIVERED and not times:
            faults.append(f"{message.kind} {message.id} is delivered, the shop has not got it")
        if len(tries) != message.tries or sum(attempt.status is not None for attempt in tries) > times:
            faults.append(f"{message.kind} {message.id}: {message.tries} tries, {len(tries)} stored, {times} arrived")
    is_ended = order.status is OrderStatus.PAID or (order.status is OrderStatus.FAILED and order.opened_at is not None)
    current = [m for m in messages if m.round_id == order.round_id]
    kind = MessageKind.SUCCESS if order.status is OrderStatus.PAID else MessageKind.FAILURE
    if [m.kind for m in current if m.state is MessageState.DELIVERED] != ([kind] if is_ended else []):
        faults.append(f"it is {order.status}, its round's messages are {[(m.kind, m.state) for m in current]}")
    return faults


_ORDERS = sa.select(*tables.orders.columns)
_PAYMENTS = sa.select(*tables.payments.columns)
_OPERATIONS = sa.select(*tables.operations.columns)
_MESSAGES = sa.select(*tables.messages.columns)
_ATTEMPTS = sa.select(*tables.attempts.columns)
_ENTRIES = sa.select(*entries.columns)
_AUTHENTICATIONS = sa.select(*tables.authentications.columns)
_CARDS = sa.select(*tables.sealed_cards.columns)


def _earliest(instant: sa.Column[Any], *conditions: sa.ColumnElement[bool]) -> sa.Select[Any]:
    return sa.select(sa.func.min(instant, type_=Instant)).where(*conditions)


_NEXT = (
    _earliest(tables.messages.c.due_at, tables.one_of(tables.messages.c.state, (MessageState.WAITING,))),
    _earliest(tables.operations.c.due_at, tables.one_of(tables.operations.c.status, OPEN_OPERATIONS)),
    _earliest(tables.orders.c.deadline_at, is_open_round()),
    _earliest(tables.authentications.c.deadline_at),
)
"""What there is to do next, past or future; messages that somebody is sending don't count."""
