"""What is left of the tries of a process that ended: an event of their orders, since nobody stored what came of them.

Called by the notifier where it ends the leases of the dead, and by bootstrap at a SQLite server's start. The event
comes after the lease has ended: a kill between the two leaves no trace, and the message is sent all the same.
"""

import asyncio
from collections.abc import Iterable
from datetime import datetime

from tolem.domain.delivery_story import TRY_INTERRUPTED
from tolem.domain.history import Event
from tolem.domain.message import Message
from tolem.ids import Ids
from tolem.storage import keys
from tolem.storage.store import Decision, Store


async def note_interruptions(store: Store, ids: Ids, freed: Iterable[Message], now: datetime) -> None:
    """Records with each order that a try of its message may have arrived. `freed`: as the end of a lease left them;
    `now`: business time."""

    async def note(message: Message) -> None:
        event = Event(
            id=ids.new(),
            order_id=message.order_id,
            payment_id=message.payment_id,
            kind=TRY_INTERRUPTED,
            detail=f"{message.id} {message.tries + 1}",
            at=now,
        )
        await store.change((keys.message_by_id(message.id),), lambda _: Decision(None, (event,)))

    await asyncio.gather(*(note(message) for message in freed))
