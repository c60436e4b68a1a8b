"""What the inspector reads beside the writer: all that is known of an order, and messages page by page.

A page of messages looks at a bounded number of rows, however many are stored and however few of them are wanted: it may
come back short, or empty, and still have a next one.
"""

from collections.abc import Iterable
from datetime import datetime
from functools import cache
from typing import Any, NamedTuple
from uuid import UUID

import sqlalchemy as sa

from tolem.domain.history import Event
from tolem.domain.message import UNDELIVERED, Attempt, Message, MessageState
from tolem.domain.order import Order
from tolem.domain.payment import Operation, Payment
from tolem.storage.columns import Id, Instant
from tolem.storage.store import Store
from tolem.storage.tables import attempts, events, messages, one_of, operations, orders, payments, terminals

SCAN_MAX = 2_000
"""Rows that one page looks at."""
NEWEST = UUID(int=2**128 - 1)
RECENT_ORDERS = 40
RECENT_EVENTS = 80
ORDERS_MAX = 20
"""Terminals may each have an order of the same invoice number."""


class Wanted(NamedTuple):
    """Which messages a list has."""

    states: frozenset[MessageState] = frozenset(MessageState)
    terminal_id: UUID | None = None
    """None: of every terminal."""
    since: datetime | None = None
    """Composed at or after this, business time."""


class MessagePage(NamedTuple):
    """A part of a list, newest first."""

    messages: list[Message]
    next: UUID | None
    """Where the next page begins; None: this was the last."""


async def list_orders_of_invoice(store: Store, invoice_id: str) -> list[Order]:
    """The orders with that number, of every terminal."""
    return await store.select(_ORDERS_OF_INVOICE, invoice_id=invoice_id)


async def list_events(store: Store, order_id: UUID) -> list[Event]:
    """Of one order, oldest first."""
    return await store.select(_EVENTS, order_id=order_id)


async def list_messages_of_order(store: Store, order_id: UUID) -> list[Message]:
    """All of them, oldest first."""
    return await store.select(_MESSAGES_OF_ORDER, order_id=order_id)


async def list_attempts_of_order(store: Store, order_id: UUID) -> list[Attempt]:
    """The tries of all its messages, in the order of messages and numbers."""
    return await store.select(_ATTEMPTS_OF_ORDER, order_id=order_id)


async def list_attempts(store: Store, message_id: UUID) -> list[Attempt]:
    """The tries of one message, the first one first."""
    return await store.select(_ATTEMPTS, message_id=message_id)


class Recent(NamedTuple):
    """The orders that something happened to lately, with all that hangs on them; each list oldest first."""

    orders: list[Order]
    payments: list[Payment]
    operations: list[Operation]
    events: list[Event]
    messages: list[Message]
    attempts: list[Attempt]


async def read_recent(store: Store) -> Recent:
    """The newest orders, and those of the newest events. The parts are read one after the other: what is new may be in
    one and not in another yet."""
    return Recent(*[await store.select(statement) for statement in _RECENT])


async def find_last_attempt(store: Store, message_id: UUID) -> Attempt | None:
    """The latest try of a message."""
    rows = await store.select(_LAST_ATTEMPT, message_id=message_id)
    return rows[0] if rows else None


async def find_waited_for(store: Store, message: Message) -> UUID | None:
    """The earliest undelivered message of its order, if it is older than this one."""
    rows = await store.select(_EARLIER, order_id=message.order_id, before=message.id)
    return rows[0][0] if rows else None


async def find_invoice(store: Store, order_id: UUID) -> str:
    """The shop's number of an order that is stored."""
    ((invoice_id,),) = await store.select(_INVOICE, order_id=order_id)
    return str(invoice_id)


async def list_messages(store: Store, wanted: Wanted, *, before: UUID = NEWEST, limit: int) -> MessagePage:
    """At most `limit` messages older than the message `before`, newest first."""
    params: dict[str, object] = {"before": before}
    if wanted.terminal_id is not None:
        params["terminal_id"] = wanted.terminal_id
    if wanted.since is not None:
        params["since"] = wanted.since
    states = tuple(sorted(wanted.states))
    page, end = _page(states, wanted.terminal_id is not None, wanted.since is not None)
    found = await store.select(page, limit=limit + 1, **params)
    if len(found) > limit:
        return MessagePage(found[:limit], found[limit - 1].id)
    params.pop("since", None)
    scanned = await store.select(end, **params)
    if not scanned:
        return MessagePage(found, None)
    ((last, last_at, count),) = scanned
    is_last = count < SCAN_MAX or (wanted.since is not None and last_at < wanted.since)
    return MessagePage(found, None if is_last else last)


_ORDER_ID = sa.bindparam("order_id", type_=Id)
_ORDERS_OF_INVOICE = (
    sa.select(*orders.columns)
    # the index has the terminal first: a look-up in it for each, instead of a scan or one more index
    .where(orders.c.terminal_id.in_(sa.select(terminals.c.id)))
    .where(orders.c.invoice_id == sa.bindparam("invoice_id", type_=sa.Text))
    .limit(sa.literal_column(str(ORDERS_MAX)))
)
_EVENTS = sa.select(*events.columns).where(events.c.order_id == _ORDER_ID).order_by(events.c.id)
_MESSAGES_OF_ORDER = sa.select(*messages.columns).where(messages.c.order_id == _ORDER_ID).order_by(messages.c.id)
_ATTEMPTS_OF_ORDER = (
    sa.select(*attempts.columns)
    .select_from(messages.join(attempts, attempts.c.message_id == messages.c.id))
    .where(messages.c.order_id == _ORDER_ID)
    .order_by(attempts.c.message_id, attempts.c.number)
)
_ATTEMPTS = (
    sa.select(*attempts.columns)
    .where(attempts.c.message_id == sa.bindparam("message_id", type_=Id))
    .order_by(attempts.c.number)
)
_LAST_ATTEMPT = (
    sa.select(*attempts.columns)
    .where(attempts.c.message_id == sa.bindparam("message_id", type_=Id))
    .order_by(attempts.c.number.desc())
    .limit(sa.literal_column("1"))
)
_EARLIER = (
    sa.select(messages.c.id)
    .where(messages.c.order_id == _ORDER_ID)
    .where(messages.c.id < sa.bindparam("before", type_=Id))
    .where(one_of(messages.c.state, UNDELIVERED))
    .order_by(messages.c.id)
    .limit(sa.literal_column("1"))
)
_INVOICE = sa.select(orders.c.invoice_id).where(orders.c.id == _ORDER_ID)
_NEWEST_ORDERS = (
    sa.select(orders.c.id).order_by(orders.c.id.desc()).limit(sa.literal_column(str(RECENT_ORDERS))).subquery("newest")
)
_NEWEST_EVENTS = (
    sa.select(events.c.order_id.label("id"))
    .order_by(events.c.id.desc())
    .limit(sa.literal_column(str(RECENT_EVENTS)))
    .subquery("touched")
)
_RECENT_IDS = sa.union(sa.select(_NEWEST_ORDERS.c.id), sa.select(_NEWEST_EVENTS.c.id)).cte("recent")


def _recent(table: sa.Table, column: sa.Column[Any]) -> sa.Executable:
    return (
        sa.select(*table.columns)
        .select_from(_RECENT_IDS.join(table, column == _RECENT_IDS.c.id))
        .order_by(*table.primary_key.columns)
    )


_RECENT = (
    _recent(orders, orders.c.id),
    _recent(payments, payments.c.order_id),
    _recent(operations, operations.c.order_id),
    _recent(events, events.c.order_id),
    _recent(messages, messages.c.order_id),
    sa.select(*attempts.columns)
    .select_from(
        _RECENT_IDS.join(messages, messages.c.order_id == _RECENT_IDS.c.id).join(
            attempts, attempts.c.message_id == messages.c.id
        )
    )
    .order_by(attempts.c.message_id, attempts.c.number),
)


@cache  # a few shapes, each compiled once
def _page(states: tuple[MessageState, ...], has_terminal: bool, has_since: bool) -> tuple[sa.Executable, sa.Executable]:
    """What is wanted among the next SCAN_MAX rows of the index that has the fewest others; and the last one of these,
    with their number."""
    columns = (messages.c.id, messages.c.terminal_id, messages.c.state, messages.c.created_at)
    scanned = sa.select(*columns).where(messages.c.id < sa.bindparam("before", type_=Id))
    is_of_terminal = messages.c.terminal_id == sa.bindparam("terminal_id", type_=Id)
    index = _index_of(states)
    if index:  # it holds few rows; those of other terminals among them are looked at, too
        scanned = scanned.where(one_of(messages.c.state, index))
    elif has_terminal:
        scanned = scanned.where(is_of_terminal)
    window = scanned.order_by(messages.c.id.desc()).limit(sa.literal_column(str(SCAN_MAX))).subquery("scanned")
    page = sa.select(*messages.columns).select_from(window.join(messages, messages.c.id == window.c.id))
    if len(states) < len(MessageState):
        page = page.where(one_of(window.c.state, states))
    if has_terminal:
        page = page.where(window.c.terminal_id == sa.bindparam("terminal_id", type_=Id))
    if has_since:
        page = page.where(window.c.created_at >= sa.bindparam("since", type_=Instant))
    page = page.order_by(window.c.id.desc()).limit(sa.bindparam("limit", type_=sa.Integer))
    count = sa.func.count().over().label("count")
    end = sa.select(window.c.id, window.c.created_at, count).order_by(window.c.id).limit(sa.literal_column("1"))
    return page, end


def _index_of(states: Iterable[MessageState]) -> tuple[MessageState, ...]:
    """The states of a partial index that holds all of `states`; empty: there is none."""
    for index in (UNDELIVERED, (MessageState.DEAD,)):
        if set(states) <= set(index):
            return index
    return ()
