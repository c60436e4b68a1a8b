"""Looking at orders and messages: why an order is unpaid, what was sent, and what shops answered. Reads only.

Called by the command line, the merchant API and the sandbox's page. A caller that may see some terminals only names
them; what belongs to others is told like what does not exist. What a shop answered is told without the order's
secret_hash, which it may have repeated.
"""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from tolem.clock import Clock
from tolem.domain.delivery_story import find_waited_for, tell_delivery, tell_end
from tolem.domain.errors import Refusal, Refused
from tolem.domain.history import OrderHistory
from tolem.domain.message import Attempt, Message, MessageState
from tolem.domain.order import Order
from tolem.domain.order_story import tell_story
from tolem.domain.secrecy import hide_in_attempt
from tolem.domain.story import Delivery, Line, Story, Trace
from tolem.flows.directory import Directory
from tolem.storage import inspection, keys
from tolem.storage.inspection import NEWEST, MessagePage, Wanted
from tolem.storage.store import Store
from tolem.wire.post_link import read_secret_hash
from tolem.wire.reasons import reason_text

PAGE_MAX = 200
"""Messages of one page."""


class ListedMessage(NamedTuple):
    """A message in a list."""

    message: Message
    invoice_id: str
    last: Attempt | None
    """Its latest try."""
    waits_for: UUID | None = None
    """An earlier message of its order, which has to be delivered or to end first."""


class WatchedOrder(NamedTuple):
    """An order that something happened to lately."""

    shop: str
    """Name of its terminal."""
    trace: Trace
    story: Story
    touched_at: datetime
    """When the last of it happened, business time."""


class InspectedMessage(NamedTuple):
    """A message with all that is known of its delivery."""

    delivery: Delivery
    order: Order
    end: Line
    """How it stands, and what to do next."""
    lines: tuple[Line, ...]
    """From its composition to its end."""
    waits_for: UUID | None
    """An earlier message of its order, which has to be delivered or to end first."""


class Inspection:
    """Answers who looks."""

    def __init__(self, store: Store, directory: Directory, clock: Clock) -> None:
        self._store = store
        self._directory = directory
        self._clock = clock

    async def get_order(self, invoice_id: str, terminals: Collection[UUID] | None = None) -> Order:
        """The order of that number at one of `terminals` (None: any). Raises Refused for none, and for several."""
        found = await inspection.list_orders_of_invoice(self._store, invoice_id)
        orders = [order for order in found if terminals is None or order.terminal_id in terminals]
        if not orders:
            raise Refused(
                Refusal.NOT_FOUND,
                f"there is no order {invoice_id[:64]!r}: no token was issued for this invoice. If the shop asked for"
                " one, the answer said why it was refused; the gateway's log has it, too: look for token_refused",
                "invoice",
            )
        if len(orders) > 1:
            known = ", ".join(sorted(str(order.terminal_id) for order in orders))
            raise Refused(
                Refusal.INVALID_REQUEST,
                f"several terminals have an order {invoice_id}: name one of {known}",
                "terminal",
            )
        return orders[0]

    async def tell(self, order: Order) -> Story:
        """Why the order stands as it stands."""
        history = await self._store.find(keys.order_by_id(order.id))
        if history is None:
            raise LookupError(f"order {order.id} is not stored")
        return tell_story(await self._trace(history), self._clock.now(), reason_text)

    async def get_message(self, message_id: UUID, terminals: Collection[UUID] | None = None) -> InspectedMessage:
        """One message of one of `terminals` (None: any). Raises Refused."""
        found = await self._store.find(keys.message_by_id(message_id))
        if found is None or not (terminals is None or found.record.terminal_id in terminals):
            raise Refused(Refusal.NOT_FOUND, f"there is no message {message_id}", "id")
        message, order = found.record, found.history.order
        attempts = await inspection.list_attempts(self._store, message_id)
        delivery = _deliveries(order, (message,), attempts)[0]
        siblings = tuple(found.history.messages.values())
        events = await inspection.list_events(self._store, order.id)
        return InspectedMessage(
            delivery,
            order,
            tell_end(delivery, siblings),
            tuple(tell_delivery(delivery, siblings, events)),
            find_waited_for(message, siblings),
        )

    async def list_messages(
        self,
        terminals: Collection[UUID] | None = None,
        *,
        states: Collection[MessageState] = tuple(MessageState),
        since: datetime | None = None,
        before: UUID | None = None,
        limit: int = PAGE_MAX,
    ) -> MessagePage:
        """At most `limit` messages of `terminals` (None: all), newest first; with `before` only those older than it.

        A page may be short, even empty, and still have a next one: each looks at a bounded number of rows.
        """
        wanted = [Wanted(frozenset(states), terminal_id, since) for terminal_id in (terminals or ())]
        if terminals is None:
            wanted = [Wanted(frozenset(states), None, since)]
        pages = [
            await inspection.list_messages(self._store, one, before=before or NEWEST, limit=limit) for one in wanted
        ]
        return _merge(pages, limit)

    async def page_of_order(
        self,
        order: Order,
        *,
        states: Collection[MessageState] = tuple(MessageState),
        since: datetime | None = None,
        before: UUID | None = None,
        limit: int = PAGE_MAX,
    ) -> MessagePage:
        """The same of one order."""
        found = [
            message
            for message in (await inspection.list_messages_of_order(self._store, order.id))[::-1]
            if message.state in states
            and (since is None or message.created_at >= since)
            and (before is None or message.id < before)
        ]
        return MessagePage(found[:limit], found[limit - 1].id if len(found) > limit else None)

    async def describe(self, messages: Iterable[Message]) -> list[ListedMessage]:
        """Messages with what a list says of them."""
        return [
            ListedMessage(
                message,
                await inspection.find_invoice(self._store, message.order_id),
                await inspection.find_last_attempt(self._store, message.id),
                await self._find_waited_for(message),
            )
            for message in messages
        ]

    async def _find_waited_for(self, message: Message) -> UUID | None:
        if message.state is not MessageState.WAITING:
            return None
        return await inspection.find_waited_for(self._store, message)

    async def list_recent(self) -> list[WatchedOrder]:
        """The orders that something happened to lately, the latest first."""
        recent = await inspection.read_recent(self._store)
        attempts, now = _group(recent.attempts, "message_id"), self._clock.now()
        by_order = {name: _group(getattr(recent, name), "order_id") for name in _PARTS}
        watched = []
        for order in recent.orders:
            payments, operations, events, messages = (by_order[name].get(order.id, ()) for name in _PARTS)
            terminal = await self._directory.get_terminal(order.terminal_id)
            tried = (attempt for message in messages for attempt in attempts.get(message.id, ()))
            deliveries = _deliveries(order, messages, tried)
            trace = Trace(order, payments, operations, events, deliveries, terminal.attempts_max)
            watched.append(_watch(trace, terminal.name, now))
        return sorted(watched, key=lambda one: (one.touched_at, one.trace.order.id), reverse=True)

    async def watch_order(self, order_id: UUID) -> WatchedOrder:
        """One order in the same way. Raises Refused."""
        history = await self._store.find(keys.order_by_id(order_id))
        if history is None:
            raise Refused(Refusal.NOT_FOUND, f"there is no order {order_id}", "id")
        terminal = await self._directory.get_terminal(history.order.terminal_id)
        return _watch(await self._trace(history), terminal.name, self._clock.now())

    async def _trace(self, history: OrderHistory) -> Trace:
        order = history.order
        messages = await inspection.list_messages_of_order(self._store, order.id)
        attempts = await inspection.list_attempts_of_order(self._store, order.id)
        terminal = await self._directory.get_terminal(order.terminal_id)
        return Trace(
            order=order,
            payments=tuple(sorted(history.payments.values(), key=lambda one: one.id)),
            operations=tuple(sorted(history.operations.values(), key=lambda one: one.id)),
            events=tuple(await inspection.list_events(self._store, order.id)),
            deliveries=_deliveries(order, messages, attempts),
            attempts_max=terminal.attempts_max,
        )


_PARTS = ("payments", "operations", "events", "messages")


def list_secrets(order: Order, messages: Iterable[Message]) -> tuple[str, ...]:
    """What must not be shown of an order: its secret_hash, and those that a newer token has replaced."""
    secrets = (order.secret_hash, *(read_secret_hash(message.body) for message in messages))
    return tuple({secret: None for secret in secrets if secret})


def _deliveries(order: Order, messages: Sequence[Message], attempts: Iterable[Attempt]) -> tuple[Delivery, ...]:
    """An order's messages with their tries, in which no answer repeats a secret."""
    secrets = list_secrets(order, messages)
    tries = _group((hide_in_attempt(attempt, secrets) for attempt in attempts), "message_id")
    return tuple(Delivery(message, tries.get(message.id, ())) for message in messages)


def _group(records: Iterable[Any], name: str) -> dict[UUID, tuple[Any, ...]]:
    """Records by the id that they name."""
    groups: dict[UUID, list[Any]] = {}
    for record in records:
        groups.setdefault(getattr(record, name), []).append(record)
    return {key: tuple(group) for key, group in groups.items()}


def _watch(trace: Trace, shop: str, now: datetime) -> WatchedOrder:
    return WatchedOrder(shop, trace, tell_story(trace, now, reason_text), _touched_at(trace))


def _touched_at(trace: Trace) -> datetime:
    moments = [trace.order.updated_at, *(event.at for event in trace.events)]
    moments += [payment.updated_at for payment in trace.payments]
    moments += [attempt.at for one in trace.deliveries for attempt in one.attempts]
    return max(moments + [at for at in (trace.order.page_refused_at,) if at is not None])


def _merge(pages: list[MessagePage], limit: int) -> MessagePage:
    """One page of several. What is older than where one of them ends must wait: there may be more in between."""
    found = sorted((message for page in pages for message in page.messages), key=lambda one: one.id, reverse=True)
    frontier = max((page.next for page in pages if page.next is not None), default=None)
    if frontier is not None:
        found = [message for message in found if message.id >= frontier]
    if len(found) > limit:
        return MessagePage(found[:limit], found[limit - 1].id)
    return MessagePage(found, frontier)
