"""What a try leaves behind: its attempt, the message's next state, and when the messages that wait behind it are due.

Pure: the notifier runs `decide_result` in the change that stores a try. Invariant: a message that waits for an older
one of its order is due no sooner than that one, so that the heads of the queues can be sent.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

from msgspec.structs import replace

from tolem.domain.history import MessageWithOrder
from tolem.domain.message import Attempt, Message, MessageKind, MessageState
from tolem.notifications.schedule import Outcome, TryResult, next_try
from tolem.notifications.terms import Terms
from tolem.storage.store import Decision


class Stored(NamedTuple):
    """A try that counts."""

    number: int
    outcome: Outcome


def decide_result(
    loaded: MessageWithOrder | None,
    message: Message,
    terms: Terms,
    instance: int,
    at: datetime,
    result: TryResult,
    now: datetime,
    jitter: float,
) -> Decision[Stored | None]:
    """The try of `message` that began at `at` as an attempt and the message's next state; None if our lease was lost.

    A message that was withdrawn meanwhile stays withdrawn, but what the shop was told is on record.
    """
    if loaded is None:
        return Decision(None)
    record, history = loaded
    is_withdrawn = record.state is MessageState.WITHDRAWN and record.tries == message.tries
    if not is_withdrawn and not is_leased(record, message, instance):
        return Decision(None)
    number = record.tries + 1
    if is_withdrawn:
        outcome = Outcome(MessageState.WITHDRAWN, None)
    else:
        outcome = next_try(terms, number - record.tries_before, result, now, jitter)
    is_overtaken = record.kind is MessageKind.FAILURE and history.order.has_overtaken(record.round_id)
    if is_overtaken and outcome.state is MessageState.WAITING:
        outcome = Outcome(MessageState.WITHDRAWN, None)  # a new round began while this was on its way
    attempt = Attempt(
        message_id=record.id,
        number=number,
        at=at,
        duration_ms=result.duration_ms,
        status=result.status,
        error=result.error,
        fault=result.fault,
        address=result.address,
        headers=result.headers,
        response=result.response,
    )
    moved = replace(
        record, state=outcome.state, tries=number, due_at=outcome.due_at, lease_owner=None, leased_until=None
    )
    behind = sorted((m for m in history.messages.values() if m.id > record.id), key=lambda m: m.id)
    return Decision(
        Stored(number, outcome),
        (attempt, moved, *_follow(behind, outcome, now)),
        wakes=bool(behind) and outcome.state is not MessageState.WAITING,
    )


def is_leased(record: Message, message: Message, instance: int) -> bool:
    """The stored message is still in the hands of the try that began with `message`: a later lease of ours is another
    one's, whose try is on its way."""
    held = (MessageState.SENDING, instance, message.leased_until, message.tries)
    return (record.state, record.lease_owner, record.leased_until, record.tries) == held


def decide_return(loaded: MessageWithOrder | None, message: Message, instance: int) -> Decision[None]:
    """Ends our lease without a try: the message waits again, and is due as it was."""
    if loaded is None or not is_leased(loaded.record, message, instance):
        return Decision(None)
    waiting = replace(loaded.record, state=MessageState.WAITING, lease_owner=None, leased_until=None)
    return Decision(None, (waiting,))


def hold_back(behind: Iterable[Message], due_at: datetime) -> list[Message]:
    """Those of the messages behind one that is due at that time which would be due sooner."""
    return [
        replace(m, due_at=due_at)
        for m in behind
        if m.state is MessageState.WAITING and (m.due_at is None or m.due_at < due_at)
    ]


def _follow(behind: list[Message], outcome: Outcome, now: datetime) -> list[Message]:
    """Those of the messages behind one, oldest first, that become due at another time by its outcome."""
    if outcome.due_at is not None:
        return hold_back(behind, outcome.due_at)
    waiting = [message for message in behind if message.state is MessageState.WAITING]
    # The first of them is next. If it was tried before, it has a due time of its own.
    return [replace(m, due_at=now) for m in waiting[:1] if m.tries == m.tries_before]
