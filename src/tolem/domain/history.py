"""An order with all that hangs on it, as decisions see it, and the events that tell its story."""

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import msgspec

from tolem.domain.authentication import PendingAuthentication
from tolem.domain.message import Message
from tolem.domain.order import AccessToken, Order, Page, RequestKey
from tolem.domain.payment import (
    MONEY_KINDS,
    OPEN_OPERATIONS,
    OPEN_STATUSES,
    SUCCESSFUL_STATUSES,
    Operation,
    Payment,
)
from tolem.domain.sealed_card import SealedCard


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """A fact about an order, in the past tense. Only ever added."""

    id: UUID
    order_id: UUID
    payment_id: UUID | None
    kind: str
    detail: str = ""
    """Words or numbers for people; never card data."""
    at: datetime


class OrderHistory:
    """One order, its payments and operations, and its messages that are not delivered yet. Decisions read it only."""

    __slots__ = ("messages", "operations", "order", "payments")

    def __init__(self, order: Order) -> None:
        self.order = order
        self.payments: dict[UUID, Payment] = {}
        self.operations: dict[UUID, Operation] = {}
        self.messages: dict[UUID, Message] = {}

    def round_payments(self) -> Iterable[Payment]:
        """Payments of the current round, oldest first."""
        round_id = self.order.round_id
        return sorted((p for p in self.payments.values() if p.round_id == round_id), key=lambda p: p.id)

    def open_payment(self) -> Payment | None:
        """The payment, of any round, whose outcome is not there yet."""
        return next((p for p in self.payments.values() if p.status in OPEN_STATUSES), None)

    def successful_payment(self) -> Payment | None:
        """The approved payment of the current round."""
        return next((p for p in self.round_payments() if p.status in SUCCESSFUL_STATUSES), None)

    def open_operation(self, payment_id: UUID) -> Operation | None:
        """The exchange about this payment's money whose outcome is not there yet; the last one, since a late approval
        may have opened another again."""
        return max(
            (
                o
                for o in self.operations.values()
                if o.payment_id == payment_id and o.status in OPEN_OPERATIONS and o.kind in MONEY_KINDS
            ),
            key=lambda o: o.id,
            default=None,
        )

    def last_payment(self) -> Payment | None:
        """The latest attempt of the current round."""
        return max(self.round_payments(), key=lambda p: p.id, default=None)


class TokenWithOrder(NamedTuple):
    """A stored access token, with its order if it has one."""

    record: AccessToken
    history: OrderHistory | None


class PageWithOrder(NamedTuple):
    """A stored page with its order."""

    record: Page
    history: OrderHistory


class RequestKeyWithOrder(NamedTuple):
    """A stored Idempotency-Key with its order."""

    record: RequestKey
    history: OrderHistory


class MessageWithOrder(NamedTuple):
    """A stored message with its order."""

    record: Message
    history: OrderHistory


class PendingWithOrder(NamedTuple):
    """An authentication that is or was under way, with its order."""

    record: PendingAuthentication
    history: OrderHistory


class SealedCardWithOrder(NamedTuple):
    """A sealed card with its order."""

    record: SealedCard
    history: OrderHistory
