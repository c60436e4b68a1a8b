"""Plays the delivery of messages again in ways that a shop should be able to bear: twice, late, in another order.

Called by the sandbox's page. Each is made of ordinary redeliveries, one after the other: what the shop gets is what
production may send it.
"""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID

from tolem.domain.errors import Refusal, Refused
from tolem.domain.message import Message
from tolem.flows.inspection import Inspection
from tolem.flows.redelivery import Again, Redelivery

TRY_SECONDS = 20.0
"""So long one try is waited for before the next message is sent."""
LOOK_SECONDS = 0.05
LATE_SECONDS_MAX = 30 * 86_400


class Way(StrEnum):
    """How a message is sent again."""

    AGAIN = "again"
    TWICE = "twice"
    LATE = "late"
    SWAPPED = "swapped"  # before the one that came before it


class Played(NamedTuple):
    """What was sent again."""

    sent: tuple[UUID, ...]
    """In its order."""
    waits_for: UUID | None
    """What the last of it waits for: an earlier message of its order."""


class Replay:
    """Sends again."""

    def __init__(self, inspection: Inspection, redelivery: Redelivery) -> None:
        self._inspection = inspection
        self._redelivery = redelivery

    async def play(self, message_id: UUID, way: Way, who: str, *, late_seconds: int = 60) -> Played:
        """Sends a message again in that way. Returns once all but the last has been tried. Raises Refused.

        `late_seconds`: business time.
        """
        match way:
            case Way.LATE:
                if not 1 <= late_seconds <= LATE_SECONDS_MAX:
                    raise Refused(Refusal.INVALID_REQUEST, f"seconds must be 1 to {LATE_SECONDS_MAX}", "seconds")
                again = await self._redelivery.redeliver(message_id, who, after=timedelta(seconds=late_seconds))
                return Played((message_id,), again.waits_for)
            case Way.AGAIN:
                sequence: Sequence[UUID] = (message_id,)
            case Way.TWICE:
                sequence = (message_id, message_id)
            case Way.SWAPPED:
                sequence = (message_id, await self._find_earlier(message_id))
        for number, one in enumerate(sequence, 1):
            again = await self._redelivery.redeliver(one, who)
            if number < len(sequence):
                await self._wait_for_try(again)
        return Played(tuple(sequence), again.waits_for)

    async def _find_earlier(self, message_id: UUID) -> UUID:
        """The message before it: of its order, else of its terminal."""
        found = await self._inspection.get_message(message_id)
        terminal_id = found.delivery.message.terminal_id
        page = await self._inspection.page_of_order(found.order, before=message_id, limit=1)
        if not page.messages:
            page = await self._inspection.list_messages((terminal_id,), before=message_id, limit=1)
        if not page.messages:
            raise Refused(
                Refusal.WRONG_STATE, "there is no earlier message to change places with: pay another order first", "id"
            )
        return page.messages[0].id

    async def _wait_for_try(self, again: Again) -> None:
        sent, waits_for = again
        if waits_for is not None:
            raise Refused(
                Refusal.WRONG_STATE,
                f"message {sent.id} waits until its order's earlier message {waits_for} has been delivered: send that"
                " one first",
                "id",
            )
        try:
            async with asyncio.timeout(TRY_SECONDS):
                while not await self._is_tried(sent):  # noqa: ASYNC110 - what it waits for happens in a database
                    await asyncio.sleep(LOOK_SECONDS)
        except TimeoutError:
            raise Refused(
                Refusal.WRONG_STATE, f"message {sent.id} was not tried within {TRY_SECONDS:g} s: look at it first", "id"
            ) from None

    async def _is_tried(self, sent: Message) -> bool:
        found = await self._inspection.get_message(sent.id)
        return found.delivery.message.tries > sent.tries
