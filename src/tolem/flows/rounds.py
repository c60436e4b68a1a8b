"""Rounds of an order: how one opens, what its page shows, how it ends. One round, one outcome, told once.

Pure decisions, called inside the writer's changes by every flow, so that the rules stand in one place.
"""

from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID

from msgspec.structs import replace

from tolem.domain.history import Event, OrderHistory, PageWithOrder
from tolem.domain.merchant import Terminal
from tolem.domain.message import Message, MessageKind, MessageState
from tolem.domain.order import Order, OrderStatus, Page
from tolem.domain.payment import Operation, Payment, PaymentStatus
from tolem.notifications.outbox import Lease, compose
from tolem.wire import post_link
from tolem.wire.reasons import LEFT_CODE

PAGE_LIFETIME = timedelta(days=1)
"""How long a page's address shows anything; rounds are far shorter."""
SLOW_AFTER = timedelta(seconds=30)
"""An outcome that is not known by then is said to take long."""


class Stamp(NamedTuple):
    """What a decision may not choose itself, chosen before it: the time and the ids of what it may write."""

    at: datetime
    """Business time."""
    real_at: datetime
    """Real time."""
    event_id: UUID
    message_id: UUID
    lease: Lease | None
    """Ours, if this process can send a message at once."""


class PageState(StrEnum):
    """What a page shows; also the `data-state` of its HTML, a stable contract."""

    FORM = "form"
    CHECKING = "checking"
    DEVICE = "device"  # the issuer looks at the payer's browser first; nothing goes on without the page
    CHALLENGE = "challenge"
    APPROVED = "approved"
    DECLINED = "declined"  # this attempt was, another may be made
    FAILED = "failed"  # the round ended without payment
    EXPIRED = "expired"
    MAINTENANCE = "maintenance"  # might be paid, if an operator had not made payments wait
    PAID = "paid"  # was paid before this page was opened
    INVALID = "invalid"


PAYABLE_STATES = (PageState.FORM, PageState.DECLINED)


def opened_at(page: Page) -> datetime:
    """When this browser opened it."""
    return page.expires_at - PAGE_LIFETIME


def is_overdue(order: Order, now: datetime) -> bool:
    """No new attempt may begin."""
    return order.deadline_at is not None and now >= order.deadline_at


def page_state(found: PageWithOrder, now: datetime) -> PageState:
    """What a page shows now: the true state of its order, whatever this browser did last."""
    page, history = found
    order = history.order
    if order.status is OrderStatus.PAID:
        payment = history.successful_payment()
        was_paid_before = payment is None or payment.created_at < opened_at(page)
        return PageState.PAID if was_paid_before else PageState.APPROVED
    if order.round_id != page.round_id:
        return PageState.INVALID
    payment = history.open_payment()
    if payment is not None:
        is_challenged = payment.status is PaymentStatus.AUTHENTICATING
        return PageState.CHALLENGE if is_challenged else PageState.CHECKING
    if order.status is OrderStatus.FAILED:
        has_expired = order.reason_code == LEFT_CODE and not order.has_left
        return PageState.EXPIRED if has_expired else PageState.FAILED
    if is_overdue(order, now):
        return PageState.EXPIRED
    return PageState.FORM if history.last_payment() is None else PageState.DECLINED


def settled_elsewhere(history: OrderHistory) -> PageState | None:
    """What became of an order on other pages than one that does not open: PAID, or CHECKING while the outcome of a card
    is open. None: nobody is known to have been charged."""
    if history.order.status is OrderStatus.PAID:
        return PageState.PAID
    return PageState.CHECKING if history.open_payment() else None


def is_payable(found: PageWithOrder, now: datetime) -> bool:
    """A card attempt may begin on this page now."""
    return page_state(found, now) in PAYABLE_STATES


def may_attempt(found: PageWithOrder, terminal: Terminal, now: datetime) -> bool:
    """The same, and an attempt is left."""
    return is_payable(found, now) and attempts_left(found.history, terminal) > 0


def attempts_left(history: OrderHistory, terminal: Terminal) -> int:
    """Card attempts that this round still allows."""
    return max(0, terminal.attempts_max - sum(1 for _ in history.round_payments()))


def is_slow(history: OrderHistory, now: datetime) -> bool:
    """The bank takes longer over the open payment than a payer expects."""
    payment = history.open_payment()
    return payment is not None and now - payment.created_at > SLOW_AFTER


def can_extend(order: Order, terminal: Terminal, now: datetime) -> bool:
    """The payer may have more time: once in a round, before its deadline."""
    is_running = order.status is OrderStatus.OPEN and order.deadline_at is not None and now < order.deadline_at
    return is_running and not order.is_extended and terminal.extension_minutes > 0


def extend(order: Order, terminal: Terminal, at: datetime) -> Order:
    """The order with its deadline moved. The caller has asked can_extend."""
    if order.deadline_at is None:
        raise ValueError("a round that was never opened has no deadline to extend")
    deadline_at = order.deadline_at + timedelta(minutes=terminal.extension_minutes)
    return replace(order, deadline_at=deadline_at, is_extended=True, updated_at=at)


def open_next_round(order: Order, round_id: UUID, amount: int, currency: str, at: datetime) -> Order:
    """The order in a new round: nothing of the old one's page or deadline remains. What the shop's server said of
    notifications does, until it says otherwise: an outcome that is told to nobody costs an order."""
    return Order(
        id=order.id,
        terminal_id=order.terminal_id,
        invoice_id=order.invoice_id,
        status=OrderStatus.OPEN,
        round_id=round_id,
        amount=amount,
        currency=currency,
        secret_hash=order.secret_hash,
        post_link=order.post_link,
        failure_post_link=order.failure_post_link,
        links_from_token=order.links_from_token,
        created_at=order.created_at,
        updated_at=at,
    )


def withdraw_failures(history: OrderHistory) -> tuple[Message, ...]:
    """Undelivered failures of ended rounds, when a new one's page opens: a later success is never followed by them.

    One that is being sent ends its try first, and holds back what is newer until then; the notifier withdraws it then.
    """
    return tuple(
        replace(m, state=MessageState.WITHDRAWN, due_at=None)
        for m in history.messages.values()
        if m.kind is MessageKind.FAILURE and m.state is MessageState.WAITING
    )


class RoundEnd(NamedTuple):
    """What is written when a round ends."""

    order: Order
    records: tuple[Event | Message, ...]
    message: Message | None
    """To be sent once the change is stored."""


def succeed(
    history: OrderHistory, payment: Payment, operation: Operation, terminal: Terminal, stamp: Stamp
) -> RoundEnd:
    """The round ends with an approved payment; the shop is told. `operation`: what was approved."""
    order = replace(history.order, status=OrderStatus.PAID, reason_code=0, updated_at=stamp.at)
    body = post_link.render_success(order, payment, stamp.at, seed_bodies=terminal.seed_bodies)
    message = _tell(history, order, MessageKind.SUCCESS, body, payment.id, operation, stamp)
    told = "" if message else "nobody is told: the order names no address"
    event = Event(
        id=stamp.event_id, order_id=order.id, payment_id=payment.id, kind="round_paid", detail=told, at=stamp.at
    )
    return RoundEnd(order, (event, message) if message else (event,), message)


def fail(
    history: OrderHistory,
    last: Payment | None,
    terminal: Terminal,
    stamp: Stamp,
    *,
    cause: str,
    operation: Operation | None = None,
    has_left: bool = False,
) -> RoundEnd:
    """The round ends unpaid; the shop is told the last attempt's reason, or that there was none. `operation`: the one
    that ended it.

    The caller has checked that no payment of it is open. Nothing is told of a page that was never opened.
    """
    reason_code = last.reason_code if last else LEFT_CODE
    order = replace(
        history.order,
        status=OrderStatus.FAILED,
        reason_code=reason_code,
        has_left=has_left,
        updated_at=stamp.at,
    )
    payment_id = last.id if last else None
    message = None
    if order.opened_at is not None:
        body = post_link.render_failure(order, last, stamp.at, reason_code, seed_bodies=terminal.seed_bodies)
        message = _tell(history, order, MessageKind.FAILURE, body, payment_id, operation, stamp)
    event = Event(
        id=stamp.event_id, order_id=order.id, payment_id=payment_id, kind="round_failed", detail=cause, at=stamp.at
    )
    return RoundEnd(order, (event, message) if message else (event,), message)


def tell_operation(
    history: OrderHistory, payment: Payment, operation: Operation, terminal: Terminal, stamp: Stamp
) -> Message | None:
    """The shop is told of a capture, void or refund, if its terminal asks for that."""
    if operation.kind.value not in terminal.tells:
        return None
    order, kind, amount = history.order, MessageKind(operation.kind.value), operation.amount
    body = post_link.render_operation(order, payment, kind, amount, stamp.at, seed_bodies=terminal.seed_bodies)
    return _tell(history, order, kind, body, payment.id, operation, stamp)


def deadline_from(terminal: Terminal, opened_at: datetime) -> datetime:
    """When a round that was opened first at `opened_at` stops taking attempts."""
    return opened_at + timedelta(minutes=terminal.round_minutes)


def _tell(
    history: OrderHistory,
    order: Order,
    kind: MessageKind,
    body: bytes,
    payment_id: UUID | None,
    operation: Operation | None,
    stamp: Stamp,
) -> Message | None:
    return compose(
        order,
        kind,
        body,
        id=stamp.message_id,
        payment_id=payment_id,
        operation_id=operation.id if operation else None,
        at=stamp.at,
        earlier=history.messages.values(),
        lease=stamp.lease,
    )
