"""Set-based statements: what recovery claims, what has expired. Each is a function of the store.

A claim takes rows whose order nobody is working on (SKIP LOCKED on PostgreSQL, where it locks the order, too): whatever
changes anything of an order holds the order's lock. On SQLite the writer is alone anyway.
"""

from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import sqlalchemy as sa

from tolem.domain.order import OrderStatus
from tolem.domain.payment import MONEY_KINDS, OPEN_OPERATIONS, OPEN_STATUSES, Operation
from tolem.storage.columns import EPOCH, Id, Instant
from tolem.storage.store import Store
from tolem.storage.tables import (
    access_tokens,
    authentications,
    card_keys,
    declines,
    one_of,
    operations,
    orders,
    pages,
    payments,
    sealed_cards,
)

NIL = UUID(int=0)


class DueHold(NamedTuple):
    """A hold that is to be released and is not being moved."""

    release_at: datetime
    payment_id: UUID
    order_id: UUID


async def claim_operations(store: Store, *, real_now: datetime, until: datetime, limit: int) -> list[Operation]:
    """Takes up operations that are due, and counts the try: those without a known outcome, and those that a person has
    settled and the acquirer has not confirmed. They may be asked about until then, and are due again then unless the
    outcome is recorded before."""
    return await store.sweep(_CLAIM_OPERATIONS, real_now=real_now, until=until, limit=limit)


async def due_rounds(store: Store, *, now: datetime, limit: int) -> list[UUID]:
    """Ids of orders whose round is open past its deadline, without an open payment; longest overdue first."""
    return [row[0] for row in await store.select(_DUE_ROUNDS, now=now, limit=limit)]


async def due_holds(store: Store, *, now: datetime, limit: int, after: DueHold | None = None) -> list[DueHold]:
    """Holds that are to be released and are not being moved, longest overdue first; `after`: those behind that one."""
    release_at, payment_id = (after.release_at, after.payment_id) if after else (EPOCH, NIL)
    found = await store.select(_DUE_HOLDS, now=now, after_at=release_at, after_id=payment_id, limit=limit)
    return [DueHold(*row) for row in found]


async def due_authentications(store: Store, *, now: datetime, limit: int) -> list[UUID]:
    """Ids of payments whose payers are with the issuer for too long, longest overdue first."""
    return [row[0] for row in await store.select(_DUE_AUTHENTICATIONS, now=now, limit=limit)]


async def purge_expired(store: Store, *, before: datetime, real_before: datetime, limit: int) -> int:
    """Deletes access tokens, pages, sealed cards and faded declines that expired before an instant (business time), and
    card keys that did (real time), at most `limit` of each."""
    purged = [await store.sweep(purge, before=before, limit=limit) for purge in _PURGES]
    purged.append(await store.sweep(_PURGE_KEYS, before=real_before, limit=limit))
    return sum(len(rows) for rows in purged)


def _instant(name: str) -> sa.BindParameter[Any]:
    return sa.bindparam(name, type_=Instant)


def _number(name: str) -> sa.BindParameter[Any]:
    return sa.bindparam(name, type_=sa.Integer)


def _claim_operations() -> sa.Executable:
    taken = operations.alias("taken")
    claimed = (
        sa.select(taken.c.id)
        .join(orders, orders.c.id == taken.c.order_id)
        .where(taken.c.due_at <= _instant("real_now"))
        .order_by(taken.c.due_at)
        .limit(_number("limit"))
        .with_for_update(skip_locked=True, of=(taken, orders))
        .cte("claimed")
    )
    return (
        operations.update()
        .values(
            due_at=_instant("until"), asked_until=_instant("until"), tries=operations.c.tries + sa.literal_column("1")
        )
        .where(operations.c.id.in_(sa.select(claimed.c.id)))
        .returning(*operations.columns)
    )


def _purge(table: sa.Table) -> sa.Executable:
    (key,) = table.primary_key.columns
    expired = (
        sa.select(key)
        .where(table.c.expires_at < _instant("before"))
        .order_by(table.c.expires_at)
        .limit(_number("limit"))
        .with_for_update(skip_locked=True)
        .cte("expired")
    )
    return table.delete().where(key.in_(sa.select(expired.c[key.name]))).returning(key)


def is_open_round() -> sa.ColumnElement[bool]:
    """The order may end by its deadline: a round with an open payment waits for that payment."""
    is_paying = sa.exists().where(payments.c.order_id == orders.c.id, one_of(payments.c.status, OPEN_STATUSES))
    return sa.and_(one_of(orders.c.status, (OrderStatus.OPEN,)), orders.c.deadline_at.is_not(None), ~is_paying)


_CLAIM_OPERATIONS = _claim_operations()
_DUE_ROUNDS = (
    sa.select(orders.c.id)
    .where(orders.c.deadline_at <= _instant("now"), is_open_round())
    .order_by(orders.c.deadline_at)
    .limit(_number("limit"))
)
_DUE_HOLDS = (
    sa.select(payments.c.release_at, payments.c.id, payments.c.order_id)
    .where(
        payments.c.release_at <= _instant("now"),
        payments.c.release_at >= _instant("after_at"),
        sa.or_(payments.c.release_at > _instant("after_at"), payments.c.id > sa.bindparam("after_id", type_=Id)),
        ~sa.exists().where(
            operations.c.payment_id == payments.c.id,
            operations.c.order_id == payments.c.order_id,
            one_of(operations.c.status, OPEN_OPERATIONS),
            one_of(operations.c.kind, MONEY_KINDS),
        ),
    )
    .order_by(payments.c.release_at, payments.c.id)
    .limit(_number("limit"))
)
_DUE_AUTHENTICATIONS = (
    sa.select(authentications.c.payment_id)
    .where(authentications.c.deadline_at <= _instant("now"))
    .order_by(authentications.c.deadline_at)
    .limit(_number("limit"))
)
_PURGES = tuple(_purge(table) for table in (access_tokens, pages, sealed_cards, declines))
_PURGE_KEYS = _purge(card_keys)
