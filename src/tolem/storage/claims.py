"""The outbox as queues, one for each host: which hosts have something due, and leases of what a process will send.

Called by the notifier. A claim takes rows whose order nobody is working on (SKIP LOCKED on PostgreSQL, where it locks
the order, too): whatever changes anything of an order holds the order's lock. On SQLite the writer is alone anyway.

Its cost is that of what it takes, however long the queues are: it enters each queue at its head, by the index on host
and due time, which holds what waits and nothing else.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec
import sqlalchemy as sa

from tolem.domain.message import UNDELIVERED, Message, MessageState
from tolem.storage.columns import Instant
from tolem.storage.liveness import IsOrphaned
from tolem.storage.store import Store
from tolem.storage.tables import messages, one_of, orders

SCAN_MAX = 500
"""Due messages that are looked at to learn of their hosts. If more are due, hosts are asked for one by one."""

HOSTS_MAX = 250
"""Hosts that are asked for at one time."""

FREE_MAX = 1_000
"""Leases that are ended at one time."""

_FAR = datetime(9999, 1, 1, tzinfo=UTC)


class DueHosts(NamedTuple):
    """Hosts with something due."""

    names: tuple[str, ...]
    next_after: str | None
    """Ask again after this one: there may be more. None: these are all."""


async def list_due_hosts(store: Store, *, now: datetime, after: str = "") -> DueHosts:
    """Hosts with something due at `now` (business time): all of them, or, if much is due, those that follow `after` in
    the order of their names."""
    rows = await store.select(_SCAN, now=now)
    if sum(count for _, count in rows) < SCAN_MAX:
        return DueHosts(tuple(host for host, _ in rows), None)
    found = await store.select(_WALK, now=now, after=after)
    names = tuple(host for host, is_due in found if is_due)
    return DueHosts(names, found[-1][0] if len(found) == HOSTS_MAX else "")


async def claim_messages(
    store: Store, quotas: Mapping[str, int], *, now: datetime, lease: tuple[int, datetime], limit: int
) -> list[Message]:
    """Leases due messages (owner, until): at most `limit`, of each host at most its quota, the longest overdue first,
    and none while an older one of its order is undelivered."""
    owner, until = lease
    return await store.sweep(
        _CLAIM[store.dialect],
        now=now,
        owner=owner,
        until=until,
        quotas=msgspec.json.encode(quotas).decode(),
        quota_max=max(quotas.values()),
        limit=limit,
    )


async def free_leases(store: Store, *, real_now: datetime) -> list[Message]:
    """Ends leases that have run out and those of processes that are gone. Returns what they held, as it waits again: at
    most FREE_MAX."""
    return await store.sweep(_FREE, real_now=real_now)


async def free_all_leases(store: Store) -> list[Message]:
    """For a SQLite server that starts: it is alone, so whoever held a lease is gone. PostgreSQL knows who is."""
    freed: list[Message] = []
    if store.dialect == "sqlite":
        while found := await free_leases(store, real_now=_FAR):
            freed += found
    return freed


def is_first(message: sa.FromClause) -> sa.ColumnElement[bool]:
    """No older message of its order is undelivered."""
    other = messages.alias("other")
    # OFFSET 0 keeps PostgreSQL from looking through all that is undelivered instead of the few messages of one order,
    # which it takes for the better way as long as it has no statistics; NOT EXISTS it would make such a join, too.
    siblings = sa.select(other.c.id, other.c.state).where(other.c.order_id == message.c.order_id)
    older = siblings.correlate(message).offset(_literal(0)).subquery("older")
    found = sa.select(older.c.id).where(older.c.id < message.c.id, one_of(older.c.state, UNDELIVERED))
    return found.correlate(message).limit(_literal(1)).scalar_subquery().is_(None)


def _instant(name: str) -> sa.BindParameter[Any]:
    return sa.bindparam(name, type_=Instant)


def _number(name: str) -> sa.BindParameter[Any]:
    return sa.bindparam(name, type_=sa.Integer)


def _literal(number: int) -> sa.ColumnElement[Any]:
    return sa.literal_column(str(number))


def _is_waiting(message: sa.FromClause) -> sa.ColumnElement[bool]:
    return one_of(message.c.state, (MessageState.WAITING,))


def _is_due(message: sa.FromClause) -> sa.ColumnElement[bool]:
    return sa.and_(_is_waiting(message), message.c.due_at <= _instant("now"))


def _scan() -> sa.Executable:
    head = sa.select(messages.c.host).where(_is_due(messages)).order_by(messages.c.due_at).limit(_literal(SCAN_MAX))
    due = head.subquery("due")
    return sa.select(due.c.host, sa.func.count().label("count")).group_by(due.c.host)


def _walk() -> sa.Executable:
    """From one host of the index to the next, as if it were a list of hosts."""

    def first(condition: sa.ColumnElement[bool]) -> sa.Select[Any]:
        found = sa.select(other.c.host).where(_is_waiting(other), condition)
        return found.order_by(other.c.host).limit(_literal(1))

    other = messages.alias("other")
    start = first(other.c.host >= sa.bindparam("after", type_=sa.Text)).subquery("start")
    walk = sa.select(start.c.host).cte("walk", recursive=True)
    walk = walk.union_all(
        sa.select(first(other.c.host > walk.c.host).scalar_subquery().label("host")).where(walk.c.host.is_not(None))
    )
    own = messages.alias("own")
    head = sa.select(own.c.due_at).where(_is_waiting(own), own.c.host == walk.c.host)
    is_due = head.order_by(own.c.due_at).limit(_literal(1)).scalar_subquery() <= _instant("now")
    found = sa.select(walk.c.host, is_due.label("is_due")).where(walk.c.host.is_not(None))
    return found.limit(_literal(HOSTS_MAX))


def _candidates_on_postgresql() -> sa.Subquery:
    """The heads of the wanted queues, each no longer than its quota."""
    quotas = sa.cast(sa.bindparam("quotas", type_=sa.Text), sa.JSON)
    wanted = sa.func.json_each_text(quotas).table_valued("key", "value").alias("wanted")
    waiting = messages.alias("waiting")
    head = (
        sa.select(waiting.c.id, waiting.c.due_at)
        .where(waiting.c.host == wanted.c.key, _is_due(waiting), is_first(waiting))
        .order_by(waiting.c.due_at)
        .limit(sa.cast(wanted.c.value, sa.Integer))
        .lateral("head")
    )
    return sa.select(head.c.id, head.c.due_at).select_from(wanted.join(head, sa.true())).subquery("candidates")


def _candidates_on_sqlite() -> sa.Subquery:
    """The same: SQLite knows no LATERAL, and no LIMIT that differs from row to row."""
    wanted = sa.func.json_each(sa.bindparam("quotas", type_=sa.Text)).table_valued("key", "value").alias("wanted")
    waiting, head = messages.alias("waiting"), messages.alias("head")
    heads = (
        sa.select(waiting.c.id)
        .where(waiting.c.host == wanted.c.key, _is_due(waiting), is_first(waiting))
        .order_by(waiting.c.due_at)
        .limit(_number("quota_max"))
        .scalar_subquery()
    )
    turn = sa.func.row_number().over(partition_by=head.c.host, order_by=(head.c.due_at, head.c.id)).label("turn")
    ranked = (
        sa.select(head.c.id, head.c.due_at, turn, wanted.c.value.label("quota"))
        .select_from(wanted.join(head, head.c.id.in_(heads)))
        .subquery("ranked")
    )
    return sa.select(ranked.c.id, ranked.c.due_at).where(ranked.c.turn <= ranked.c.quota).subquery("candidates")


def _claim(candidates: sa.Subquery) -> sa.Executable:
    taken = messages.alias("taken")
    # What may have changed before the row was locked is asked again, of the locked row. Not in the words of the indexes
    # of what waits: PostgreSQL would rather read one of them whole than look up each of a few rows by its key.
    others = (state for state in MessageState if state is not MessageState.WAITING)
    is_still_due = sa.and_(~one_of(taken.c.state, others), taken.c.due_at <= _instant("now"))
    claimed = (
        sa.select(taken.c.id)
        .join(candidates, candidates.c.id == taken.c.id)
        .join(orders, orders.c.id == taken.c.order_id)
        .where(is_still_due)
        .order_by(candidates.c.due_at, taken.c.id)
        .limit(_number("limit"))
        .with_for_update(skip_locked=True, of=(taken, orders))
        .cte("claimed")
    )
    return (
        messages.update()
        .values(
            state=sa.literal_column(f"'{MessageState.SENDING.value}'"),
            lease_owner=_number("owner"),
            leased_until=_instant("until"),
        )
        .where(messages.c.id.in_(sa.select(claimed.c.id)))
        .returning(*messages.columns)
    )


def _free() -> sa.Executable:
    taken = messages.alias("taken")
    over = (
        sa.select(taken.c.id)
        .join(orders, orders.c.id == taken.c.order_id)
        .where(
            one_of(taken.c.state, (MessageState.SENDING,)),
            sa.or_(taken.c.leased_until <= _instant("real_now"), IsOrphaned(taken.c.lease_owner)),
        )
        .order_by(taken.c.leased_until)
        .limit(_literal(FREE_MAX))
        .with_for_update(skip_locked=True, of=(taken, orders))
        .cte("over")
    )
    return (
        messages.update()
        .values(
            state=sa.literal_column(f"'{MessageState.WAITING.value}'"), lease_owner=sa.null(), leased_until=sa.null()
        )
        .where(messages.c.id.in_(sa.select(over.c.id)))
        .returning(*messages.columns)
    )


_SCAN = _scan()
_WALK = _walk()
_CLAIM = {"postgresql": _claim(_candidates_on_postgresql()), "sqlite": _claim(_candidates_on_sqlite())}
_FREE = _free()
