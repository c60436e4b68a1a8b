"""What a try leaves behind: the attempt, the message's next state, and those that wait behind it."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from msgspec.structs import replace

from tolem.domain.history import MessageWithOrder, OrderHistory
from tolem.domain.message import Attempt, Fault, Message, MessageKind, MessageState
from tolem.domain.order import Order, OrderStatus
from tolem.notifications.attempts import Stored, decide_result, decide_return
from tolem.notifications.schedule import TryResult
from tolem.notifications.terms import DEFAULT_TERMS
from tolem.storage.store import Decision

NOW = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
OURS = 7
ORDER = Order(
    id=UUID(int=1),
    terminal_id=UUID(int=2),
    invoice_id="000000001",
    status=OrderStatus.PAID,
    round_id=UUID(int=3),
    amount=10000,
    currency="KZT",
    post_link="https://shop.kz/paid",
    created_at=NOW,
    updated_at=NOW,
)
SENDING = Message(
    id=UUID(int=10),
    order_id=ORDER.id,
    round_id=ORDER.round_id,
    terminal_id=ORDER.terminal_id,
    payment_id=None,
    kind=MessageKind.SUCCESS,
    url=ORDER.post_link,
    host="shop.kz:443",
    body=b"{}",
    state=MessageState.SENDING,
    tries=2,
    due_at=NOW,
    lease_owner=OURS,
    leased_until=NOW + HOUR,
    created_at=NOW,
)
BEHIND = tuple(
    replace(SENDING, id=UUID(int=n), state=MessageState.WAITING, tries=0, lease_owner=None, leased_until=None)
    for n in (11, 12)
)
FAILED = TryResult(None, "connection refused", b"", 3, fault=Fault.REFUSED, address="192.0.2.1:443", headers="a: b\n")


def decide(result: TryResult, stored: Message = SENDING, *others: Message, **order: Any) -> Decision[Stored | None]:
    history = OrderHistory(replace(ORDER, **order))
    history.messages.update({message.id: message for message in (stored, *others)})
    return decide_result(MessageWithOrder(stored, history), SENDING, DEFAULT_TERMS, OURS, NOW, result, NOW, 0.0)


def test_a_try_is_on_record_with_all_that_was_seen() -> None:
    answer, (attempt, message), wakes = decide(FAILED)
    assert attempt == Attempt(
        message_id=SENDING.id,
        number=3,
        at=NOW,
        duration_ms=3,
        status=None,
        error="connection refused",
        fault=Fault.REFUSED,
        address="192.0.2.1:443",
        headers="a: b\n",
        response=b"",
    )
    due_at = NOW + DEFAULT_TERMS.gaps[3]
    assert message == replace(
        SENDING, state=MessageState.WAITING, tries=3, due_at=due_at, lease_owner=None, leased_until=None
    )
    assert answer is not None
    assert (answer.number, answer.outcome.due_at, wakes) == (3, due_at, False)


def test_the_schedule_of_a_message_sent_again_begins_anew() -> None:
    again = replace(SENDING, tries_before=2)
    _, (_, message), _ = decide(FAILED, again)
    assert message.due_at == NOW + DEFAULT_TERMS.gaps[1]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "taken",
    (
        {"lease_owner": 8},
        {"leased_until": NOW + 2 * HOUR},  # ours again: another try of ours is on its way
        {"tries": 3},
        {"state": MessageState.WAITING, "lease_owner": None},
        {"state": MessageState.DELIVERED, "due_at": None},
    ),
)
def test_without_our_lease_nothing_counts(taken: dict[str, Any]) -> None:
    assert decide(FAILED, replace(SENDING, **taken)) == Decision(None)
    stored = replace(SENDING, **taken)
    assert decide_return(MessageWithOrder(stored, OrderHistory(ORDER)), SENDING, OURS) == Decision(None)


def test_a_message_that_is_gone_is_no_fault() -> None:
    assert decide_result(None, SENDING, DEFAULT_TERMS, OURS, NOW, FAILED, NOW, 0.0) == Decision(None)
    assert decide_return(None, SENDING, OURS) == Decision(None)


def test_a_lease_is_given_back_as_it_was_taken() -> None:
    _, (message,), wakes = decide_return(MessageWithOrder(SENDING, OrderHistory(ORDER)), SENDING, OURS)
    assert message == replace(SENDING, state=MessageState.WAITING, lease_owner=None, leased_until=None)
    assert not wakes


def test_those_behind_are_due_when_it_is_tried_again() -> None:
    late = replace(BEHIND[1], due_at=NOW + 24 * HOUR)
    _, writes, wakes = decide(FAILED, SENDING, BEHIND[0], late)
    assert list(writes[2:]) == [replace(BEHIND[0], due_at=NOW + DEFAULT_TERMS.gaps[3])]
    assert not wakes


@pytest.mark.parametrize("result", (TryResult(200), TryResult(410)))
def test_the_next_one_is_due_at_once_when_it_has_ended(result: TryResult) -> None:
    behind = [replace(message, due_at=NOW + HOUR) for message in BEHIND]
    _, writes, wakes = decide(result, SENDING, *reversed(behind))
    assert list(writes[2:]) == [replace(behind[0], due_at=NOW)]
    assert wakes


def test_the_next_one_keeps_a_due_time_of_its_own() -> None:
    tried = replace(BEHIND[0], tries=1, due_at=NOW + HOUR)
    _, writes, wakes = decide(TryResult(200), SENDING, tried)
    assert len(writes) == 2
    assert wakes


def test_an_older_message_is_left_alone() -> None:
    older = replace(BEHIND[0], id=UUID(int=9))
    for result in (TryResult(200), FAILED):
        _, writes, wakes = decide(result, SENDING, older)
        assert (len(writes), wakes) == (2, False)


def test_a_failure_that_a_new_round_has_overtaken_is_withdrawn() -> None:
    failure = replace(SENDING, kind=MessageKind.FAILURE)
    _, (_, message, *_), _ = decide(FAILED, failure, round_id=UUID(int=4), opened_at=NOW)
    assert message.state is MessageState.WITHDRAWN  # type: ignore[attr-defined]
    _, (_, message, *_), _ = decide(FAILED, failure, round_id=UUID(int=4))  # a token alone: its page is not open yet
    assert message.state is MessageState.WAITING  # type: ignore[attr-defined]
    withdrawn = replace(failure, state=MessageState.WITHDRAWN, due_at=None)
    answer, (attempt, message, following), wakes = decide(TryResult(200), withdrawn, replace(BEHIND[0], due_at=None))
    assert answer is not None
    assert message.state is MessageState.WITHDRAWN  # type: ignore[attr-defined]
    assert following.due_at == NOW  # type: ignore[attr-defined]
    assert isinstance(attempt, Attempt)
    assert wakes
