"""Saved cards as shops list and deactivate them: `GET /cards/{accountId}`, `POST /card/deactivate/{cardId}`
(docs/protocol.md §8). Called by the merchant API. Never the number, never the security code: neither has a field here.
"""

import re
from collections.abc import Sequence
from datetime import date
from uuid import UUID

import msgspec

from tolem.domain.errors import Refusal, Refused
from tolem.domain.saved_card import SavedCard
from tolem.wire.operations import render_error
from tolem.wire.post_link import render_instant

NO_CARDS_CODE = 1373
"""`code` of a customer without saved cards."""
ACCOUNT_CHARS_MAX = 255

_CARD_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


class _Card(msgspec.Struct, kw_only=True):
    """Fields as the bank names them, in its order."""

    ID: str
    """`cardId` of the notification."""
    TransactionId: str
    """Of the payment with which it was saved last."""
    MerchantID: str
    CardHash: str
    """Keyed: the same card of the same customer, and nothing else, has the same."""
    CardMask: str
    PayerName: str
    Reference: str
    IntReference: str
    """Nothing: tolem's acquirers name no second reference."""
    Token: str
    """Nothing: the card's id is all that a shop needs."""
    Terminal: str
    CreatedDate: str
    PaymentAvailable: bool
    """False: it has expired."""
    AccountID: str


def parse_account_id(text: str) -> str:
    """The shop's id of its customer, out of the path. Raises Refused."""
    if not text or len(text) > ACCOUNT_CHARS_MAX or not text.isprintable():
        raise Refused(
            Refusal.INVALID_REQUEST, f"accountId must have 1 to {ACCOUNT_CHARS_MAX} printable characters", "accountId"
        )
    return text


def parse_card_id(text: str) -> UUID:
    """The card's id in its usual form of 36 characters. Raises Refused."""
    if not _CARD_ID.fullmatch(text):
        raise Refused(
            Refusal.INVALID_REQUEST, "the card's id must be a UUID, as it stands in `cardId` of the notification", "id"
        )
    return UUID(text)


def render_cards(cards: Sequence[SavedCard], today: date) -> bytes:
    """A customer's cards, the one saved last first."""
    return msgspec.json.encode([_render(card, today) for card in cards])


def render_no_cards() -> bytes:
    """The customer has none."""
    return render_error("no saved cards", NO_CARDS_CODE)


def render_deactivated() -> bytes:
    """The card pays no more."""
    return render_error("", 0)


def _render(card: SavedCard, today: date) -> _Card:
    return _Card(
        ID=str(card.id),
        TransactionId=str(card.payment_id),
        MerchantID=str(card.merchant_id),
        CardHash=card.fingerprint.hex(),
        CardMask=card.masked_pan,
        PayerName=card.holder,
        Reference=card.rrn,
        IntReference="",
        Token="",
        Terminal=str(card.terminal_id),
        CreatedDate=render_instant(card.created_at),
        PaymentAvailable=card.may_pay(today),
        AccountID=card.account_id,
    )
