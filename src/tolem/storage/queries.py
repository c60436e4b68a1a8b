"""Short reads for the command line, readiness and metrics, beside the writer."""

from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from uuid import UUID

import sqlalchemy as sa

from tolem.domain.key import WebhookSecrets
from tolem.domain.merchant import Merchant, Terminal
from tolem.domain.message import UNDELIVERED
from tolem.domain.payment import MONEY_KINDS, OPEN_OPERATIONS, Operation
from tolem.storage.columns import Id, Instant
from tolem.storage.store import Store
from tolem.storage.tables import merchants, messages, one_of, operations, orders, payments, terminals, webhook_secrets

COUNT_MAX = 10_001
"""Past this nothing is counted: whoever looks learns that it is much, and holds nobody up."""


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


class Ages(NamedTuple):
    """Open exchanges by the business time since they were prepared; those that were given up have a count of their own.
    Most of the youngest are not unknown, but on their way."""

    under_a_minute: int
    up_to_an_hour: int
    over_an_hour: int
    given_up: int


class OpenOperations(NamedTuple):
    """Exchanges with the acquirer whose outcome is not known (yet)."""

    total: int
    oldest_at: datetime | None
    """Business time at which the oldest one was prepared."""
    given_up: int
    """Of them, those that wait for people."""
    ages: Ages | None
    """None: nobody asked."""


async def summarize_open_operations(store: Store, now: datetime | None = None) -> OpenOperations:
    """How many exchanges are open, since when, how many recovery has given up, and, at a business time, their ages."""
    at = now or _EPOCH
    ((total, oldest_at, given_up, recent, old),) = await store.select(
        _OPEN_OPERATIONS, minute_ago=at - _MINUTE, hour_ago=at - _HOUR
    )
    ages = Ages(recent, total - given_up - recent - old, old, given_up) if now else None
    return OpenOperations(total, oldest_at, given_up, ages)


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MINUTE = timedelta(minutes=1)
_HOUR = timedelta(hours=1)
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
# What is open is due at some time: the index operations_due holds these few rows.
_IS_OPEN = sa.and_(
    operations.c.due_at.is_not(None),
    one_of(operations.c.status, OPEN_OPERATIONS),
    one_of(operations.c.kind, MONEY_KINDS),
)
_LIST_OPEN = (
    sa.select(*operations.columns)
    .where(_IS_OPEN)
    .order_by(operations.c.created_at, operations.c.id)
    .limit(sa.literal_column("1000"))
)
_COUNT = sa.func.count().label("count")
_UNDELIVERED = sa.select(_COUNT).select_from(
    sa.select(messages.c.id)
    .where(one_of(messages.c.state, UNDELIVERED))
    .order_by(messages.c.id)
    .limit(sa.literal_column(str(COUNT_MAX)))
    .subquery("undelivered")
)


def _count_if(condition: sa.ColumnElement[bool], name: str) -> sa.ColumnElement[int]:
    """How many of them are not given up and meet the condition."""
    return sa.func.count().filter(operations.c.alerted_at.is_(None), condition).label(name)


_OPEN_OPERATIONS = sa.select(
    _COUNT,
    sa.func.min(operations.c.created_at, type_=Instant).label("oldest_at"),
    sa.func.count(operations.c.alerted_at).label("given_up"),
    _count_if(operations.c.created_at > sa.bindparam("minute_ago", type_=Instant), "recent"),
    _count_if(operations.c.created_at <= sa.bindparam("hour_ago", type_=Instant), "old"),
).where(_IS_OPEN)
