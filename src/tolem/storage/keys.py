"""The keys by which flows load what they decide on. For each: what `decide` and `find` get, or None."""

from uuid import UUID

from tolem.domain.appearance import Logo
from tolem.domain.history import MessageWithOrder, OrderHistory, PageWithOrder, RequestKeyWithOrder, TokenWithOrder
from tolem.domain.merchant import Merchant, Terminal
from tolem.domain.message import Message
from tolem.domain.order import AccessToken, Order, Page, RequestKey
from tolem.storage.change import Key
from tolem.storage.schema import Setting


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


def merchant_by_client(client_id: str) -> Key[Merchant]:
    """A merchant by the name it authenticates with."""
    return Key(Merchant, ("client_id",), (client_id,))


def terminal_by_id(terminal_id: UUID) -> Key[Terminal]:
    """A terminal."""
    return Key(Terminal, ("id",), (terminal_id,))


def logo_by_name(name: str) -> Key[Logo]:
    """A shop's logo."""
    return Key(Logo, ("name",), (name,))


def setting_by_name(name: str) -> Key[Setting]:
    """A fact about the database itself."""
    return Key(Setting, ("name",), (name,))
