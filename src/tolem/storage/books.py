"""What reconciliation reads of our books, page by page: however long the day was, a page is held at a time.

Reads beside the writer and never waits for it. Each page is of one moment, the next one of a later moment.
"""

from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import sqlalchemy as sa

from tolem.domain.message import MessageKind, MessageState
from tolem.domain.order import ENDED_ORDERS, OrderStatus
from tolem.domain.payment import OperationKind, OperationStatus, PaymentStatus
from tolem.storage.columns import Id, Instant
from tolem.storage.store import Store
from tolem.storage.tables import messages, one_of, operations, orders, payments

PAGE = 500
LOOKUP_MAX = 256
"""Keys that one look-up asks for."""


class Place(NamedTuple):
    """How far a book was read: time, then id."""

    at: datetime
    id: UUID


class ToldMessage(NamedTuple):
    """A message, as far as books are compared with it."""

    id: UUID
    kind: MessageKind
    state: MessageState
    tries: int


class BookedOperation(NamedTuple):
    """An operation, with what its order and payment say of it."""

    id: UUID
    order_id: UUID
    payment_id: UUID
    kind: OperationKind
    status: OperationStatus
    amount: int
    """Minor units."""
    created_at: datetime
    finished_at: datetime | None
    terminal_id: UUID
    invoice_id: str
    currency: str
    post_link: str
    payment_status: PaymentStatus
    message: ToldMessage | None
    """What told its outcome."""


class EndedOrder(NamedTuple):
    """An order whose current round has ended, with the messages that told it: the success, the failure."""

    id: UUID
    invoice_id: str
    status: OrderStatus
    post_link: str
    failure_post_link: str
    opened_at: datetime | None
    updated_at: datetime
    messages: tuple[ToldMessage, ...]


async def read_operations(
    store: Store, since: datetime, until: datetime, after: Place | None = None
) -> tuple[list[BookedOperation], Place | None]:
    """Operations with since ≤ created_at < until, oldest first, and where to go on; None: that was all."""
    rows = await _read(store, _OPERATIONS, since, until, after)
    found = [BookedOperation._make((*row[:13], _message(row[13:]))) for row in rows]
    return found, Place(found[-1].created_at, found[-1].id) if len(found) == PAGE else None


async def read_ended_orders(
    store: Store, since: datetime, until: datetime, after: Place | None = None
) -> tuple[list[EndedOrder], Place | None]:
    """Orders that ended with since ≤ updated_at < until, oldest first, and where to go on; None: that was all."""
    rows = await _read(store, _ORDERS, since, until, after)
    found: dict[UUID, EndedOrder] = {}
    for row in rows:
        order = found.get(row[0]) or EndedOrder._make((*row[:7], ()))
        message = _message(row[7:])
        found[order.id] = order._replace(messages=(*order.messages, message)) if message else order
    ended = list(found.values())
    return ended, Place(ended[-1].updated_at, ended[-1].id) if len(ended) == PAGE else None


async def find_operations(store: Store, keys: list[UUID]) -> set[UUID]:
    """Which of at most LOOKUP_MAX keys are operations of ours, whatever their time."""
    padded = keys + [keys[-1]] * (LOOKUP_MAX - len(keys))
    return {row[0] for row in await store.select(_KNOWN, **{f"k{number}": key for number, key in enumerate(padded)})}


async def _read(
    store: Store, statement: sa.Executable, since: datetime, until: datetime, after: Place | None
) -> list[Any]:
    place = after or Place(since, UUID(int=0))
    return await store.select(
        statement, since=max(since, place.at), until=until, at=place.at, last=place.id, limit=PAGE
    )


def _message(row: tuple[Any, ...]) -> ToldMessage | None:
    return None if row[0] is None else ToldMessage(*row)


def _page_of(at: sa.ColumnElement[Any], id: sa.ColumnElement[Any]) -> sa.ColumnElement[bool]:
    instant = {name: sa.bindparam(name, type_=Instant) for name in ("since", "until", "at")}
    is_after = sa.or_(at > instant["at"], id > sa.bindparam("last", type_=Id))
    return sa.and_(at >= instant["since"], at < instant["until"], is_after)


_LIMIT = sa.bindparam("limit", type_=sa.Integer)
# Joined from the outside: each may be NULL, whatever the table says of its columns.
_TOLD = tuple(sa.type_coerce(messages.c[name], messages.c[name].type).label(name) for name in ToldMessage._fields)
# By the order, too: that has an index.
_OPERATIONS = (
    sa.select(
        *(operations.c[name] for name in BookedOperation._fields[:8]),
        orders.c.terminal_id,
        orders.c.invoice_id,
        orders.c.currency,
        orders.c.post_link,
        payments.c.status,
        *_TOLD,
    )
    .select_from(
        operations.join(orders, orders.c.id == operations.c.order_id)
        .join(payments, payments.c.id == operations.c.payment_id)
        .outerjoin(
            messages,
            sa.and_(messages.c.order_id == operations.c.order_id, messages.c.operation_id == operations.c.id),
        )
    )
    .where(_page_of(operations.c.created_at, operations.c.id))
    .order_by(operations.c.created_at, operations.c.id)
    .limit(_LIMIT)
)
_ENDED = (
    sa.select(*(orders.c[name] for name in EndedOrder._fields[:7]), orders.c.round_id)
    .where(_page_of(orders.c.updated_at, orders.c.id), one_of(orders.c.status, ENDED_ORDERS))
    .order_by(orders.c.updated_at, orders.c.id)
    .limit(_LIMIT)
    .subquery("ended")
)
_ORDERS = (
    sa.select(*(_ENDED.c[name] for name in EndedOrder._fields[:7]), *_TOLD)
    .select_from(
        _ENDED.outerjoin(
            messages,
            sa.and_(
                messages.c.order_id == _ENDED.c.id,
                messages.c.round_id == _ENDED.c.round_id,
                one_of(messages.c.kind, (MessageKind.SUCCESS, MessageKind.FAILURE)),
            ),
        )
    )
    .order_by(_ENDED.c.updated_at, _ENDED.c.id, messages.c.id)
)
_KNOWN = sa.select(operations.c.id).where(
    operations.c.id.in_([sa.bindparam(f"k{number}", type_=Id) for number in range(LOOKUP_MAX)])
)
