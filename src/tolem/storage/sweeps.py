"""Set-based statements: what the sender and recovery claim, what has expired. Each is a function of the store.

A claim takes rows whose order nobody is working on (SKIP LOCKED on PostgreSQL, where it locks the order, too): whatever
changes anything of an order holds the order's lock. On SQLite the writer is alone anyway.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles

from tolem.domain.message import UNDELIVERED, Message, MessageState
from tolem.domain.order import OrderStatus
from tolem.domain.payment import MONEY_KINDS, OPEN_OPERATIONS, OPEN_STATUSES, Operation
from tolem.storage.columns import Instant, Texts
from tolem.storage.liveness import IsOrphaned
from tolem.storage.schema import (
    access_tokens,
    messages,
    one_of,
    operations,
    orders,
    pages,
    payments,
    request_keys,
)
from tolem.storage.store import Store

SCAN_MAX = 1_000
"""Due messages that one claim looks at: bounds its cost, however long the backlog is."""


class NextDue(NamedTuple):
    """The earliest instants at which there is something to do; None: nothing waits."""

    message: datetime | None
    """Business time."""
    operation: datetime | None
    """Real time."""
    round: datetime | None
    """Business time."""


async def claim_messages(
    store: Store,
    *,
    now: datetime,
    real_now: datetime,
    lease: tuple[int, datetime],
    limit: int,
    per_host: int,
    full_hosts: Iterable[str] = (),
) -> list[Message]:
    """Leases due messages (owner, until), the oldest of each order only, at most `limit` and `per_host` of a host, none
    of `full_hosts`. A lease that has run out, or whose owner is gone, is no obstacle."""
    owner, until = lease
    return await store.sweep(
        _CLAIM_MESSAGES,
        now=now,
        real_now=real_now,
        owner=owner,
        until=until,
        limit=limit,
        per_host=per_host,
        full_hosts=tuple(full_hosts),
    )


async def free_leases(store: Store) -> int:
    """A SQLite server that starts is alone: whoever held leases is gone. Returns how many there were. PostgreSQL: 0,
    since there the claim itself sees whose owner is gone."""
    return len(await store.sweep(_FREE_LEASES)) if store.dialect == "sqlite" else 0


async def claim_operations(store: Store, *, real_now: datetime, hold: timedelta, limit: int) -> list[Operation]:
    """Takes up operations without a known outcome that are due, and counts the try. They are due again after
    `hold` unless the outcome is recorded before."""
    return await store.sweep(_CLAIM_OPERATIONS, real_now=real_now, again_at=real_now + hold, limit=limit)


async def due_rounds(store: Store, *, now: datetime, limit: int) -> list[UUID]:
    """Ids of orders whose round is open past its deadline, without an open payment; longest overdue first."""
    return [row[0] for row in await store.select(_DUE_ROUNDS, now=now, limit=limit)]


async def due_holds(store: Store, *, now: datetime, limit: int) -> list[tuple[UUID, UUID]]:
    """Order and payment of holds that have expired and are not being moved, longest overdue first."""
    return [(row[0], row[1]) for row in await store.select(_DUE_HOLDS, now=now, limit=limit)]


async def purge_tokens_pages(store: Store, *, before: datetime, limit: int) -> int:
    """Deletes access tokens, pages and idempotency keys that expired before an instant, at most `limit` of each."""
    purged = [await store.sweep(purge, before=before, limit=limit) for purge in _PURGES]
    return sum(len(rows) for rows in purged)


async def next_due(store: Store, *, real_now: datetime) -> NextDue:
    """When there is something to do next, past or future; messages that somebody is sending don't count."""
    (message,) = await store.select(_NEXT_MESSAGE, real_now=real_now)
    (operation,) = await store.select(_NEXT_OPERATION)
    (deadline,) = await store.select(_NEXT_ROUND)
    return NextDue(message[0], operation[0], deadline[0])


class _IsOneOf(sa.sql.functions.FunctionElement[bool]):
    """A column has one of the texts of a parameter of type Texts: one statement for lists of any length."""

    name = "is_one_of"
    inherit_cache = True


@compiles(_IsOneOf, "postgresql")
def _is_one_of_on_postgresql(element: Any, compiler: Any, **options: Any) -> str:
    column, texts = (compiler.process(clause, **options) for clause in element.clauses)
    return f"({column} IN (SELECT json_array_elements_text(({texts})::json)))"


@compiles(_IsOneOf, "sqlite")
def _is_one_of_on_sqlite(element: Any, compiler: Any, **options: Any) -> str:
    column, texts = (compiler.process(clause, **options) for clause in element.clauses)
    return f"({column} IN (SELECT value FROM json_each({texts})))"  # noqa: S608 - a column and a placeholder


def _instant(name: str) -> sa.BindParameter[Any]:
    return sa.bindparam(name, type_=Instant)


def _number(name: str) -> sa.BindParameter[Any]:
    return sa.bindparam(name, type_=sa.Integer)


def _is_free(message: sa.FromClause) -> sa.ColumnElement[bool]:
    """Nobody is sending it."""
    owner = message.c.lease_owner
    return sa.or_(owner.is_(None), message.c.leased_until <= _instant("real_now"), IsOrphaned(owner))


def is_first(message: sa.FromClause) -> sa.ColumnElement[bool]:
    """No older message of its order is undelivered."""
    older = messages.alias("older")
    return ~sa.exists().where(
        older.c.order_id == message.c.order_id, older.c.id < message.c.id, one_of(older.c.state, UNDELIVERED)
    )


def _claim_messages() -> sa.Executable:
    waiting = messages.alias("waiting")
    due = (
        sa.select(waiting.c.id, waiting.c.host, waiting.c.due_at)
        .where(
            waiting.c.due_at <= _instant("now"),
            one_of(waiting.c.state, UNDELIVERED),
            _is_free(waiting),
            sa.not_(_IsOneOf(waiting.c.host, sa.bindparam("full_hosts", type_=Texts))),
            is_first(waiting),
        )
        .order_by(waiting.c.due_at)
        .limit(sa.literal_column(str(SCAN_MAX)))
        .subquery("due")
    )
    turn = sa.func.row_number().over(partition_by=due.c.host, order_by=(due.c.due_at, due.c.id)).label("turn")
    ranked = sa.select(due.c.id, turn).subquery("ranked")
    taken = messages.alias("taken")
    # What may have changed before the row was locked is asked again, of the locked row.
    claimed = (
        sa.select(taken.c.id)
        .join(ranked, ranked.c.id == taken.c.id)
        .join(orders, orders.c.id == taken.c.order_id)
        .where(ranked.c.turn <= _number("per_host"), one_of(taken.c.state, UNDELIVERED), _is_free(taken))
        .order_by(taken.c.due_at, taken.c.id)
        .limit(_number("limit"))
        .with_for_update(skip_locked=True, of=(taken, orders))
        .cte("claimed")
    )
    return (
        messages.update()
        .values(
            state=sa.literal_column(f"'{MessageState.SENDING.value}'"),
            lease_owner=sa.bindparam("owner", type_=sa.Integer),
            leased_until=_instant("until"),
        )
        .where(messages.c.id.in_(sa.select(claimed.c.id)))
        .returning(*messages.columns)
    )


def _claim_operations() -> sa.Executable:
    taken = operations.alias("taken")
    claimed = (
        sa.select(taken.c.id)
        .join(orders, orders.c.id == taken.c.order_id)
        .where(taken.c.due_at <= _instant("real_now"), one_of(taken.c.status, OPEN_OPERATIONS))
        .order_by(taken.c.due_at)
        .limit(_number("limit"))
        .with_for_update(skip_locked=True, of=(taken, orders))
        .cte("claimed")
    )
    return (
        operations.update()
        .values(due_at=_instant("again_at"), tries=operations.c.tries + sa.literal_column("1"))
        .where(operations.c.id.in_(sa.select(claimed.c.id)))
        .returning(*operations.columns)
    )


def _purge(table: sa.Table) -> sa.Executable:
    expired = (
        sa.select(table.c.hash)
        .where(table.c.expires_at < _instant("before"))
        .order_by(table.c.expires_at)
        .limit(_number("limit"))
        .with_for_update(skip_locked=True)
        .cte("expired")
    )
    return table.delete().where(table.c.hash.in_(sa.select(expired.c.hash))).returning(table.c.hash)


def is_open_round() -> sa.ColumnElement[bool]:
    """The order may end by its deadline: a round with an open payment waits for that payment."""
    is_paying = sa.exists().where(payments.c.order_id == orders.c.id, one_of(payments.c.status, OPEN_STATUSES))
    return sa.and_(one_of(orders.c.status, (OrderStatus.OPEN,)), orders.c.deadline_at.is_not(None), ~is_paying)


_CLAIM_MESSAGES = _claim_messages()
_FREE_LEASES = (
    messages.update()
    .values(state=sa.literal_column(f"'{MessageState.WAITING.value}'"), lease_owner=sa.null(), leased_until=sa.null())
    .where(messages.c.due_at.is_not(None), messages.c.lease_owner.is_not(None))
    .returning(messages.c.id)
)
_CLAIM_OPERATIONS = _claim_operations()
_DUE_ROUNDS = (
    sa.select(orders.c.id)
    .where(orders.c.deadline_at <= _instant("now"), is_open_round())
    .order_by(orders.c.deadline_at)
    .limit(_number("limit"))
)
_DUE_HOLDS = (
    sa.select(payments.c.order_id, payments.c.id)
    .where(
        payments.c.hold_expires_at <= _instant("now"),
        ~sa.exists().where(
            operations.c.payment_id == payments.c.id,
            operations.c.order_id == payments.c.order_id,
            one_of(operations.c.status, OPEN_OPERATIONS),
            one_of(operations.c.kind, MONEY_KINDS),
        ),
    )
    .order_by(payments.c.hold_expires_at)
    .limit(_number("limit"))
)
_PURGES = tuple(_purge(table) for table in (access_tokens, pages, request_keys))
_NEXT_MESSAGE = sa.select(sa.func.min(messages.c.due_at, type_=Instant)).where(
    messages.c.due_at.is_not(None), one_of(messages.c.state, UNDELIVERED), _is_free(messages), is_first(messages)
)
_NEXT_OPERATION = sa.select(sa.func.min(operations.c.due_at, type_=Instant)).where(
    operations.c.due_at.is_not(None), one_of(operations.c.status, OPEN_OPERATIONS)
)
_NEXT_ROUND = sa.select(sa.func.min(orders.c.deadline_at, type_=Instant)).where(is_open_round())
