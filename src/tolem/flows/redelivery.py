"""Sending a message again by a person's wish: the same bytes under the same id, with a new schedule. Audited.

Called by the command line, the merchant API and the sandbox's page. What a newer round has overtaken stays unsent: a
success must never be followed by an older failure.
"""

import asyncio
from collections.abc import Callable, Collection
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from msgspec.structs import replace

from tolem.clock import Clock
from tolem.domain.delivery_story import SENT_AGAIN
from tolem.domain.errors import Refusal, Refused
from tolem.domain.history import Event, MessageWithOrder
from tolem.domain.message import UNDELIVERED, Message, MessageKind, MessageState
from tolem.flows.inspection import Inspection
from tolem.ids import Ids
from tolem.notifications.attempts import hold_back
from tolem.storage import keys
from tolem.storage.store import Decision, Store

WHO_CHARS_MAX = 200
PAGE = 200
"""Messages that are looked up at one time."""
AT_ONCE = 100
"""Messages that are made due side by side."""


class Again(NamedTuple):
    """A message that was made due again."""

    message: Message
    waits_for: UUID | None
    """An earlier message of its order, which has to be delivered or to end first."""


class Resent(NamedTuple):
    """What sending many again came to."""

    sent: int
    """Made due."""
    left: int
    """Left as they are: on their way just now, or overtaken."""
    waiting: int = 0
    """Of those that were made due: behind an earlier message of their order, which may be one of them."""


class Redelivery:
    """Makes messages due again."""

    def __init__(self, store: Store, clock: Clock, ids: Ids, wake: Callable[[], None] = lambda: None) -> None:
        """`wake`: tells this process's notifier that something is due."""
        self._store = store
        self._clock = clock
        self._ids = ids
        self._wake = wake

    async def redeliver(
        self,
        message_id: UUID,
        who: str,
        *,
        terminals: Collection[UUID] | None = None,
        after: timedelta = timedelta(),
    ) -> Again:
        """Sends one again, at once or `after` some business time. Raises Refused.

        `terminals`: those that the caller may see, None: all. `who` asks for it: kept with the order.
        """
        now = self._clock.now()
        event_id = self._ids.new()

        def decide(found: MessageWithOrder | None) -> Decision[Again]:
            if found is None or not (terminals is None or found.record.terminal_id in terminals):
                raise Refused(Refusal.NOT_FOUND, f"there is no message {message_id}", "id")
            again, beside = _make_due(found, now + after)
            message = again.message
            event = Event(
                id=event_id,
                order_id=message.order_id,
                payment_id=message.payment_id,
                kind=SENT_AGAIN,
                detail=f"{message_id} {who[:WHO_CHARS_MAX]}",
                at=now,
            )
            return Decision(again, (message, *beside, event), wakes=not after)

        again = await self._store.change((keys.message_by_id(message_id),), decide)
        self._wake()
        return again

    async def redeliver_all(
        self,
        inspection: Inspection,
        who: str,
        *,
        states: Collection[MessageState],
        terminals: Collection[UUID] | None = None,
        since: datetime | None = None,
        on_progress: Callable[[Resent], None] = lambda _: None,
    ) -> Resent:
        """Sends all that a list has again, the oldest first, so that each order's are told in their order.

        The memory that it takes does not grow with their bodies: it remembers only where the pages of the list begin.
        """

        async def read(before: UUID | None) -> tuple[list[Message], UUID | None]:
            return await inspection.list_messages(terminals, states=states, since=since, before=before, limit=PAGE)

        starts: list[UUID | None] = []
        start: UUID | None = None
        while start is not None or not starts:
            starts.append(start)
            _, start = await read(start)
        total = Resent(0, 0)
        end: UUID | None = None
        for start in reversed(starts):
            messages, _ = await read(start)
            # those that are older than the page's end had their turn
            ids = [message.id for message in reversed(messages) if end is None or message.id >= end]
            end = start
            for first in range(0, len(ids), AT_ONCE):
                done = await asyncio.gather(*(self._try(one, who) for one in ids[first : first + AT_ONCE]))
                sent = [again for again in done if again is not None]
                total = Resent(
                    total.sent + len(sent),
                    total.left + len(done) - len(sent),
                    total.waiting + sum(again.waits_for is not None for again in sent),
                )
                on_progress(total)
        return total

    async def _try(self, message_id: UUID, who: str) -> Again | None:
        try:
            return await self.redeliver(message_id, who)
        except Refused:
            return None


def _make_due(found: MessageWithOrder, due_at: datetime) -> tuple[Again, list[Message]]:
    """The message as it waits again, and those of its order that are due later for it."""
    message, order = found.record, found.history.order
    if message.state is MessageState.SENDING:
        raise Refused(
            Refusal.WRONG_STATE, f"message {message.id} is on its way just now: look at it in a few seconds", "id"
        )
    is_overtaken = message.kind is MessageKind.FAILURE and order.has_overtaken(message.round_id)
    if message.state is MessageState.WITHDRAWN or is_overtaken:
        raise Refused(
            Refusal.WRONG_STATE,
            f"message {message.id} tells a failure that a newer round has overtaken: it must not be told any more",
            "id",
        )
    others = [other for other in found.history.messages.values() if other.state in UNDELIVERED]
    earlier = [other for other in others if other.id < message.id]
    due_at = max([due_at, *(other.due_at for other in earlier if other.due_at is not None)])
    again = replace(
        message,
        state=MessageState.WAITING,
        due_at=due_at,
        tries_before=message.tries,
        lease_owner=None,
        leased_until=None,
    )
    waits_for = min((other.id for other in earlier), default=None)
    return Again(again, waits_for), hold_back((other for other in others if other.id > message.id), due_at)
