"""Cards that payers keep with a shop: the saved card, and the consent that makes one.

A payer agrees to it with a payment, or with a verification, which takes nothing. What was agreed to rests as a
CardConsent until that payment's outcome is there; an approved one makes or renews the SavedCard, anything else leaves
nothing. Never here: the security code, which a payer types anew for every payment.
"""

from datetime import date, datetime
from uuid import UUID

import msgspec

from tolem.domain.card import Brand, Expiry


class SavedCard(msgspec.Struct, frozen=True, kw_only=True):
    """A card of a shop's customer. One and the same card of a customer has one record, however often it is saved."""

    id: UUID
    """`cardId` on the wire; random, since shops keep it for years."""
    merchant_id: UUID
    """Whose customer: every terminal of the merchant may offer the card."""
    terminal_id: UUID
    """Where it was saved last."""
    account_id: str
    """The shop's own id of its customer, vouched for by its server."""
    fingerprint: bytes
    """HMAC-SHA-256 of merchant, account and number under a key of the vault: the same card of the same customer."""
    masked_pan: str
    brand: Brand
    expiry_year: int
    expiry_month: int
    holder: str
    key_id: str | None
    """Of the server key that sealed the number."""
    sealed: bytes | None
    """The number; None: not saved yet, or removed. Such a record pays nothing and is purged."""
    payment_id: UUID
    """The payment with which it was saved last."""
    rrn: str
    """That payment's retrieval reference number."""
    created_at: datetime
    updated_at: datetime

    @property
    def expiry(self) -> Expiry:
        """Last month in which the card is valid."""
        return Expiry(self.expiry_year, self.expiry_month)

    def may_pay(self, today: date) -> bool:
        """It is saved, and has not expired."""
        return self.sealed is not None and not self.expiry.is_past(today)


class CardConsent(msgspec.Struct, frozen=True, kw_only=True):
    """A payer's word to save the card of a payment whose outcome is not there yet: all that its record will need."""

    payment_id: UUID
    card_id: UUID
    """Of the record that it is to become, or renews; the shop is told this id."""
    merchant_id: UUID
    terminal_id: UUID
    account_id: str
    fingerprint: bytes
    masked_pan: str
    brand: Brand
    expiry_year: int
    expiry_month: int
    holder: str
    key_id: str | None
    sealed: bytes | None
    """None: settled, one way or the other."""
    created_at: datetime


class VaultKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key of the vault that outlives server keys; itself sealed under one."""

    name: str
    sealed: bytes
