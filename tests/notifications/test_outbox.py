"""Outcomes become messages."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import msgspec
import pytest

from tolem.domain.message import Message, MessageKind, MessageState
from tolem.domain.order import Order, OrderStatus
from tolem.notifications.outbox import Lease, compose, find_address

NOW = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)
ORDER = Order(
    id=UUID(int=1),
    terminal_id=UUID(int=2),
    invoice_id="000000001",
    status=OrderStatus.PAID,
    round_id=UUID(int=3),
    amount=10000,
    currency="KZT",
    post_link="https://Shop.kz/paid",
    created_at=NOW,
    updated_at=NOW,
)
MINUTE = timedelta(minutes=1)
LEASE = Lease(7, NOW + timedelta(seconds=30))


def compose_success(earlier: tuple[Message, ...] = (), lease: Lease | None = LEASE, order: Order = ORDER) -> Message:
    message = compose(
        order,
        MessageKind.SUCCESS,
        b'{"code":"ok"}',
        id=UUID(int=9),
        payment_id=UUID(int=4),
        at=NOW,
        earlier=earlier,
        lease=lease,
    )
    assert message is not None
    return message


@pytest.mark.parametrize(
    ("post_link", "failure_post_link", "success", "failure"),
    (
        ("https://a/p", "https://a/f", "https://a/p", "https://a/f"),
        ("https://a/p", "", "https://a/p", "https://a/p"),
        ("", "https://a/f", None, "https://a/f"),
        ("", "", None, None),
    ),
)
def test_which_address_counts(post_link: str, failure_post_link: str, success: str | None, failure: str | None) -> None:
    order = msgspec.structs.replace(ORDER, post_link=post_link, failure_post_link=failure_post_link)
    assert find_address(order, MessageKind.SUCCESS) == success
    assert find_address(order, MessageKind.FAILURE) == failure


def test_without_an_address_there_is_no_message() -> None:
    order = msgspec.structs.replace(ORDER, post_link="")
    assert compose(order, MessageKind.SUCCESS, b"", id=UUID(int=9), payment_id=None, at=NOW) is None


def test_the_committing_process_holds_the_first_lease() -> None:
    message = compose_success()
    assert message.state is MessageState.SENDING
    assert (message.lease_owner, message.leased_until) == LEASE
    assert (message.order_id, message.round_id, message.terminal_id) == (ORDER.id, ORDER.round_id, ORDER.terminal_id)
    assert (message.host, message.body, message.tries) == ("shop.kz:443", b'{"code":"ok"}', 0)


def test_without_a_lease_it_is_due_at_once() -> None:
    message = compose_success(lease=None)
    assert (message.state, message.due_at, message.lease_owner) == (MessageState.WAITING, NOW, None)


@pytest.mark.parametrize(
    ("state", "expected"),
    (
        (MessageState.WAITING, MessageState.WAITING),
        (MessageState.SENDING, MessageState.WAITING),
        (MessageState.DELIVERED, MessageState.SENDING),
        (MessageState.DEAD, MessageState.SENDING),
        (MessageState.WITHDRAWN, MessageState.SENDING),
    ),
)
def test_it_waits_for_an_undelivered_message_of_its_order(state: MessageState, expected: MessageState) -> None:
    earlier = msgspec.structs.replace(compose_success(), id=UUID(int=8), state=state)
    message = compose_success((earlier,))
    assert message.state is expected
    assert (message.lease_owner is None) == (expected is MessageState.WAITING)


@pytest.mark.parametrize(("ahead", "expected"), ((timedelta(hours=2), timedelta(hours=2)), (-MINUTE, timedelta(0))))
def test_what_waits_for_another_message_is_due_when_that_is(ahead: timedelta, expected: timedelta) -> None:
    earlier = [
        msgspec.structs.replace(compose_success(), id=UUID(int=n), state=MessageState.WAITING, due_at=due_at)
        for n, due_at in ((6, NOW - MINUTE), (7, NOW + ahead))
    ]
    over = msgspec.structs.replace(earlier[0], id=UUID(int=8), state=MessageState.DEAD, due_at=None)
    assert compose_success((*earlier, over)).due_at == NOW + expected


def test_an_impossible_address_does_not_cost_the_outcome() -> None:
    assert compose_success(order=msgspec.structs.replace(ORDER, post_link="http://[")).host == ""
