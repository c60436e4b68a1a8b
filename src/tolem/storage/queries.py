"""Short reads for the command line, readiness and metrics, beside the writer."""

from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import sqlalchemy as sa

from tolem.domain.key import WebhookSecrets
from tolem.domain.merchant import Merchant, Terminal
from tolem.domain.message import UNDELIVERED, Message
from tolem.domain.order import Order, OrderStatus
from tolem.domain.payment import MONEY_KINDS, OPEN_OPERATIONS, Operation, PaymentStatus
from tolem.storage.columns import Id, Instant
from tolem.storage.schema import merchants, messages, one_of, operations, orders, payments, terminals, webhook_secrets
from tolem.storage.store import Store

PAGE = 500
"""Rows of one read, so that a long list holds nothing up."""
COUNT_MAX = 10_001
"""Past this nothing is counted: whoever looks learns that it is much, and holds nobody up."""
_FIRST_ID = UUID(int=0)


async def list_merchants(store: Store) -> list[Merchant]:
    """All merchants, oldest first."""
    return await store.select(_MERCHANTS)


async def list_terminals(store: Store) -> list[Terminal]:
    """All terminals, oldest first."""
    return await store.select(_TERMINALS)


async def list_webhook_secrets(store: Store) -> list[WebhookSecrets]:
    """The sealed webhook secrets of all terminals that ever had one."""
    return await store.select(_WEBHOOK_SECRETS)


async def list_terminal_ids(store: Store, merchant_id: UUID) -> tuple[UUID, ...]:
    """Of one merchant, oldest first."""
    return tuple(row[0] for row in await store.select(_TERMINALS_OF_MERCHANT, merchant_id=merchant_id))


class BookedOperation(NamedTuple):
    """An operation with what its order and payment say of it."""

    operation: Operation
    invoice_id: str
    currency: str
    is_voided: bool
    """The payment's hold was released since."""


class ToldOrder(NamedTuple):
    """An order whose round has ended, with its messages."""

    order: Order
    messages: tuple[Message, ...]


async def list_booked_operations(store: Store, *, since: datetime, until: datetime) -> list[BookedOperation]:
    """Operations with since ≤ created_at < until, oldest first; read in pages."""
    found: list[BookedOperation] = []
    last = _FIRST_ID
    while True:
        page = await store.select(_BOOKED, since=since, until=until, last=last, limit=PAGE)
        for operation in page:
            ((invoice_id, currency),) = await store.select(_INVOICE_OF_ORDER, order_id=operation.order_id)
            ((status,),) = await store.select(_STATUS_OF_PAYMENT, payment_id=operation.payment_id)
            found.append(BookedOperation(operation, invoice_id, currency, status is PaymentStatus.VOIDED))
        if len(page) < PAGE:
            return found
        last = page[-1].id


async def list_told_orders(store: Store, *, since: datetime, until: datetime) -> list[ToldOrder]:
    """Orders whose current round has ended with since ≤ updated_at < until, with their messages; read in pages."""
    found: list[ToldOrder] = []
    last = _FIRST_ID
    while True:
        page = await store.select(_ENDED_ORDERS, since=since, until=until, last=last, limit=PAGE)
        for order in page:
            found.append(ToldOrder(order, tuple(await store.select(_MESSAGES_OF_ORDER, order_id=order.id))))
        if len(page) < PAGE:
            return found
        last = page[-1].id


async def find_order_id(store: Store, payment_id: UUID) -> UUID | None:
    """The order of a payment; it never changes."""
    rows = await store.select(_ORDER_OF_PAYMENT, payment_id=payment_id)
    return rows[0][0] if rows else None


async def find_order_of_operation(store: Store, operation_id: UUID) -> UUID | None:
    """The order of an operation."""
    rows = await store.select(_ORDER_OF_OPERATION, operation_id=operation_id)
    return rows[0][0] if rows else None


async def list_open_operations(store: Store) -> list[tuple[Operation, str, str]]:
    """Operations without a known outcome, oldest first, with their order's invoice and currency."""
    found = []
    for operation in await store.select(_LIST_OPEN):
        ((invoice_id, currency),) = await store.select(_INVOICE_OF_ORDER, order_id=operation.order_id)
        found.append((operation, invoice_id, currency))
    return found


async def count_undelivered(store: Store) -> int:
    """Messages that are still to be delivered; COUNT_MAX of them mean that there are more."""
    ((count,),) = await store.select(_UNDELIVERED)
    return int(count)


class OpenOperations(NamedTuple):
    """Exchanges with the acquirer whose outcome is not known (yet)."""

    total: int
    oldest_at: datetime | None
    """Business time at which the oldest one was prepared."""
    given_up: int
    """Of them, those that wait for people."""


async def summarize_open_operations(store: Store) -> OpenOperations:
    """How many exchanges are open, since when, and how many recovery has given up."""
    ((count, oldest_at, given_up),) = await store.select(_OPEN_OPERATIONS)
    return OpenOperations(int(count), oldest_at, int(given_up))


_MERCHANTS = sa.select(*merchants.columns).order_by(merchants.c.created_at, merchants.c.id)
_TERMINALS = sa.select(*terminals.columns).order_by(terminals.c.created_at, terminals.c.id)
_WEBHOOK_SECRETS = sa.select(*webhook_secrets.columns).order_by(webhook_secrets.c.terminal_id)
_TERMINALS_OF_MERCHANT = (
    sa.select(terminals.c.id)
    .where(terminals.c.merchant_id == sa.bindparam("merchant_id", type_=Id))
    .order_by(terminals.c.id)
)
_ORDER_OF_PAYMENT = sa.select(payments.c.order_id).where(payments.c.id == sa.bindparam("payment_id", type_=Id))
_ORDER_OF_OPERATION = sa.select(operations.c.order_id).where(operations.c.id == sa.bindparam("operation_id", type_=Id))
_INVOICE_OF_ORDER = sa.select(orders.c.invoice_id, orders.c.currency).where(
    orders.c.id == sa.bindparam("order_id", type_=Id)
)
_LIST_OPEN = (
    sa.select(*operations.columns)
    .where(one_of(operations.c.status, OPEN_OPERATIONS), one_of(operations.c.kind, MONEY_KINDS))
    .order_by(operations.c.created_at, operations.c.id)
    .limit(sa.literal_column("1000"))
)
_STATUS_OF_PAYMENT = sa.select(payments.c.status).where(payments.c.id == sa.bindparam("payment_id", type_=Id))
_BOOKED = (
    sa.select(*operations.columns)
    .where(
        operations.c.created_at >= sa.bindparam("since", type_=Instant),
        operations.c.created_at < sa.bindparam("until", type_=Instant),
        operations.c.id > sa.bindparam("last", type_=Id),
    )
    .order_by(operations.c.id)
    .limit(sa.bindparam("limit", type_=sa.Integer))
)
_ENDED_ORDERS = (
    sa.select(*orders.columns)
    .where(
        orders.c.updated_at >= sa.bindparam("since", type_=Instant),
        orders.c.updated_at < sa.bindparam("until", type_=Instant),
        one_of(orders.c.status, (OrderStatus.PAID, OrderStatus.FAILED)),
        orders.c.id > sa.bindparam("last", type_=Id),
    )
    .order_by(orders.c.id)
    .limit(sa.bindparam("limit", type_=sa.Integer))
)
_MESSAGES_OF_ORDER = (
    sa.select(*messages.columns)
    .where(messages.c.order_id == sa.bindparam("order_id", type_=Id))
    .order_by(messages.c.id)
)
_COUNT = sa.func.count().label("count")
_UNDELIVERED = sa.select(_COUNT).select_from(
    sa.select(messages.c.id)
    .where(one_of(messages.c.state, UNDELIVERED))
    .order_by(messages.c.id)
    .limit(sa.literal_column(str(COUNT_MAX)))
    .subquery("undelivered")
)
# The condition of the index operations_open, word for word: it holds the few rows that are open.
_OPEN_OPERATIONS = sa.select(
    _COUNT,
    sa.func.min(operations.c.created_at, type_=Instant).label("oldest_at"),
    sa.func.count(operations.c.alerted_at).label("given_up"),
).where(one_of(operations.c.status, OPEN_OPERATIONS), one_of(operations.c.kind, MONEY_KINDS))
