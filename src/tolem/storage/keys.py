"""The keys by which flows load what they decide on. For each: what `decide` and `find` get, or None."""

from uuid import UUID

from tolem.domain.appearance import Logo
from tolem.domain.authentication import PendingAuthentication
from tolem.domain.declines import Declines
from tolem.domain.history import (
    MessageWithOrder,
    OrderHistory,
    PageWithOrder,
    PendingWithOrder,
    RequestKeyWithOrder,
    SealedCardWithOrder,
    TokenWithOrder,
)
from tolem.domain.key import WebhookSecrets
from tolem.domain.merchant import Merchant, Terminal
from tolem.domain.message import Message
from tolem.domain.order import AccessToken, Order, Page, RequestKey
from tolem.domain.saved_card import CardConsent, SavedCard, VaultKey
from tolem.domain.sealed_card import CardKey, SealedCard
from tolem.storage.change import Key
from tolem.storage.tables import Setting


def order_by_id(order_id: UUID) -> Key[OrderHistory]:
    """The order with its payments, operations and undelivered messages."""
    return Key(Order, ("id",), (order_id,))


def order_by_invoice(terminal_id: UUID, invoice_id: str) -> Key[OrderHistory]:
    """The same, by the shop's number."""
    return Key(Order, ("terminal_id", "invoice_id"), (terminal_id, invoice_id))


def token_by_hash(token_hash: bytes) -> Key[TokenWithOrder]:
    """An access token with its order, if it has one."""
    return Key(AccessToken, ("hash",), (token_hash,))


def page_by_hash(page_hash: bytes) -> Key[PageWithOrder]:
    """An opening of the payment page with its order."""
    return Key(Page, ("hash",), (page_hash,))


def request_key_by_hash(key_hash: bytes) -> Key[RequestKeyWithOrder]:
    """An Idempotency-Key with the order whose money it moved."""
    return Key(RequestKey, ("hash",), (key_hash,))


def message_by_id(message_id: UUID) -> Key[MessageWithOrder]:
    """A message with its order."""
    return Key(Message, ("id",), (message_id,))


def authentication_of(payment_id: UUID) -> Key[PendingWithOrder]:
    """The authentication of a payment that needed its payer, with its order."""
    return Key(PendingAuthentication, ("payment_id",), (payment_id,))


def sealed_card_of(payment_id: UUID) -> Key[SealedCardWithOrder]:
    """The card of such a payment, with its order."""
    return Key(SealedCard, ("payment_id",), (payment_id,))


def card_key_by_name(name: str) -> Key[CardKey]:
    """The key of an hour."""
    return Key(CardKey, ("name",), (name,))


def saved_card_by_id(card_id: UUID) -> Key[SavedCard]:
    """A saved card, or one that was or is to be one."""
    return Key(SavedCard, ("id",), (card_id,))


def saved_card_by_fingerprint(fingerprint: bytes) -> Key[SavedCard]:
    """The same, by whose card it is."""
    return Key(SavedCard, ("fingerprint",), (fingerprint,))


def card_consent_of(payment_id: UUID) -> Key[CardConsent]:
    """The word of a payment's payer to save the card."""
    return Key(CardConsent, ("payment_id",), (payment_id,))


def vault_key_by_name(name: str) -> Key[VaultKey]:
    """A key of the vault."""
    return Key(VaultKey, ("name",), (name,))


def declines_of(fingerprint: bytes) -> Key[Declines]:
    """The recent declines of a card, address or terminal."""
    return Key(Declines, ("hash",), (fingerprint,))


def merchant_by_client(client_id: str) -> Key[Merchant]:
    """A merchant by the name it authenticates with."""
    return Key(Merchant, ("client_id",), (client_id,))


def terminal_by_id(terminal_id: UUID) -> Key[Terminal]:
    """A terminal."""
    return Key(Terminal, ("id",), (terminal_id,))


def webhook_secrets_of(terminal_id: UUID) -> Key[WebhookSecrets]:
    """A terminal's webhook secrets, sealed."""
    return Key(WebhookSecrets, ("terminal_id",), (terminal_id,))


def logo_by_name(name: str) -> Key[Logo]:
    """A shop's logo."""
    return Key(Logo, ("name",), (name,))


def setting_by_name(name: str) -> Key[Setting]:
    """A fact about the database itself."""
    return Key(Setting, ("name",), (name,))
