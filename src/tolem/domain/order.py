"""Orders, their rounds, and the two permissions on them: access tokens and page addresses.

An order is the shop's invoice. A token opens a *round* of it: amount, links, attempts and a deadline; a round has one
outcome, told once (docs/states.md). The current round is part of the order's row; payments and messages name the round
they belong to.
"""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

import msgspec


class OrderStatus(StrEnum):
    """How the current round stands."""

    OPEN = "open"  # may be paid
    PAID = "paid"  # a payment was approved, the success is told
    FAILED = "failed"  # ended without an approved payment, the failure is told


ENDED_ORDERS = (OrderStatus.PAID, OrderStatus.FAILED)
"""The current round has an outcome."""


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """An invoice of a terminal with its current round."""

    id: UUID
    terminal_id: UUID
    invoice_id: str
    """The shop's number, digits kept as text; unique within the terminal."""
    status: OrderStatus
    round_id: UUID
    """New for each round; a failure without an attempt is told under it."""
    amount: int
    """Minor units; 0 verifies a card and takes nothing."""
    currency: str
    secret_hash: str = ""
    """The shop's own text, given back to it in each notification; never shown to a browser."""
    post_link: str = ""
    failure_post_link: str = ""
    """Empty: failures go to post_link."""
    links_from_token: bool = False
    """True: the token named a notification address, so those of the pay object are ignored."""
    account_is_vouched: bool = False
    """True: the token request itself carried account_id."""
    account_id: str = ""
    opened_at: datetime | None = None
    """First opening of the round's page; None: never opened, nothing is ever told."""
    deadline_at: datetime | None = None
    """No new attempt after this; set at the first opening."""
    is_extended: bool = False
    """True: the payer has taken the one extension of the deadline."""
    has_left: bool = False
    """True: the payer chose to leave without paying."""
    reason_code: int = 0
    """Why the round failed (docs/protocol.md, reason codes); 0 while open or paid."""
    return_url: str = ""
    failure_return_url: str = ""
    auto_return: bool = False
    """True: the result page goes back to the shop by itself."""
    language: str = ""
    """`ru`, `kk` or `en` as the pay object asked; empty: not said."""
    invoice_id_alt: str = ""
    description: str = ""
    email: str = ""
    phone: str = ""
    name: str = ""
    data: str = ""
    """The shop's own text, given back as it came."""
    payment_type: str = ""
    offers_saving: bool = False
    """True: the shop's page asked for the payer to be offered to save the card (`cardSave`)."""
    page_refusal: str = ""
    """Why the round's page did not open last time, English, for the shop's developer; empty once it has."""
    page_refused_at: datetime | None = None
    created_at: datetime
    updated_at: datetime

    def has_overtaken(self, round_id: UUID) -> bool:
        """A newer round was opened since: the older one's failure must not be told any more. A token alone, which
        may be asked for the status, overtakes nothing."""
        return round_id != self.round_id and self.opened_at is not None

    @property
    def customer(self) -> str:
        """Whose saved cards may be shown, used, added and removed: the account that the shop's server vouched for;
        empty: nobody's."""
        return self.account_id if self.account_is_vouched else ""

    @property
    def is_verification(self) -> bool:
        """True: the card is checked and nothing is taken."""
        return self.amount == 0


class AccessToken(msgspec.Struct, frozen=True, kw_only=True):
    """An OAuth access token, known by its hash only. With an order: opens, pays and tells the status of that one."""

    hash: bytes
    """SHA-256 of the token."""
    client_id: str
    scope: str
    terminal_id: UUID | None = None
    order_id: UUID | None = None
    """None: a service token."""
    round_id: UUID | None = None
    """The round it was issued for; another current round revokes it."""
    expires_at: datetime


class RequestKey(msgspec.Struct, frozen=True, kw_only=True):
    """An Idempotency-Key under which a client moved money; the same key is never another request, so it is kept as long
    as its operation."""

    hash: bytes
    """SHA-256 of the client and its key."""
    order_id: UUID
    operation_id: UUID
    content_hash: bytes
    """SHA-256 of what was asked for."""


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """One opening of the payment page. Its address is the permission to pay; only the hash is kept."""

    hash: bytes
    """SHA-256 of the page id."""
    order_id: UUID
    round_id: UUID
    language: str
    """The language that this opening asked for or its payer chose, may be empty."""
    frame_origin: str = ""
    """Origin of the shop's page that shows this one in a frame; empty: none does."""
    has_led_back: bool = False
    """It has led its payer back to the shop by itself, which it does once."""
    expires_at: datetime
    """The row is purged after this."""
