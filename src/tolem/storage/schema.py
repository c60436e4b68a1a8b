"""Which record rests in which of the tables, what of it may change, and what belongs to an order's history."""

import sqlalchemy as sa

from tolem.domain.appearance import Logo
from tolem.domain.authentication import PendingAuthentication
from tolem.domain.declines import Declines
from tolem.domain.history import (
    Event,
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
from tolem.domain.message import ENDED, UNDELIVERED, Attempt, Message
from tolem.domain.order import AccessToken, Order, Page, RequestKey
from tolem.domain.payment import Operation, Payment
from tolem.domain.saved_card import CardConsent, SavedCard, VaultKey
from tolem.domain.sealed_card import CardKey, SealedCard
from tolem.storage.mapping import Child, Mapped, Pointer, Root, Schema
from tolem.storage.tables import (
    Setting,
    access_tokens,
    attempts,
    authentications,
    card_consents,
    card_keys,
    declines,
    events,
    logos,
    merchants,
    messages,
    one_of,
    operations,
    orders,
    pages,
    payments,
    request_keys,
    saved_cards,
    sealed_cards,
    settings,
    terminals,
    vault_keys,
    webhook_secrets,
)


def _all_but(table: sa.Table, *fixed: str) -> tuple[str, ...]:
    return tuple(name for name in table.columns.keys() if name not in fixed)  # noqa: SIM118 - a collection, not a dict


tolem_schema = Schema(
    Mapped(settings, Setting, mutable=("value",)),
    Mapped(
        merchants,
        Merchant,
        mutable=_all_but(merchants, "id", "client_id", "created_at"),
        unique=("client_id",),
    ),
    Mapped(terminals, Terminal, mutable=_all_but(terminals, "id", "merchant_id", "created_at")),
    Mapped(logos, Logo),
    Mapped(webhook_secrets, WebhookSecrets, mutable=_all_but(webhook_secrets, "terminal_id")),
    Mapped(
        orders,
        Order,
        mutable=_all_but(orders, "id", "terminal_id", "invoice_id", "created_at"),
        unique=("terminal_id", "invoice_id"),
    ),
    Mapped(access_tokens, AccessToken),
    Mapped(pages, Page, mutable=("language", "has_led_back")),
    Mapped(request_keys, RequestKey),
    Mapped(
        payments,
        Payment,
        mutable=(
            "status",
            "authorized",
            "captured",
            "refunded",
            "issuer_name",
            "rrn",
            "approval_code",
            "reason_code",
            "eci",
            "trans_status",
            "trans_status_reason",
            "hold_expires_at",
            "release_at",
            "is_hold_expired",
            "updated_at",
        ),
    ),
    Mapped(authentications, PendingAuthentication, mutable=("step", "url", "data", "reference", "deadline_at")),
    Mapped(sealed_cards, SealedCard, mutable=("sealed", "expires_at")),
    Mapped(card_keys, CardKey),
    Mapped(declines, Declines),
    Mapped(
        saved_cards,
        SavedCard,
        mutable=_all_but(saved_cards, "id", "merchant_id", "account_id", "fingerprint", "brand", "created_at"),
        unique=("fingerprint",),
    ),
    Mapped(card_consents, CardConsent, mutable=("holder", "key_id", "sealed")),
    Mapped(vault_keys, VaultKey, mutable=("sealed",)),
    Mapped(
        operations,
        Operation,
        mutable=(
            "status",
            "rrn",
            "reason_code",
            "tries",
            "due_at",
            "asked_until",
            "doubted_at",
            "alerted_at",
            "finished_at",
        ),
    ),
    Mapped(events, Event),
    Mapped(messages, Message, mutable=("state", "tries", "tries_before", "due_at", "lease_owner", "leased_until")),
    Mapped(attempts, Attempt),
    root=Root(
        Order,
        OrderHistory,
        "order",
        (
            Child(Payment, "order_id", "payments"),
            Child(Operation, "order_id", "operations"),
            Child(
                Message,
                "order_id",
                "messages",
                # Not "in UNDELIVERED": without statistics PostgreSQL takes the index of all that is undelivered for a
                # shorter way than the one of an order's few messages.
                where=~one_of(messages.c.state, ENDED),
                keeps=lambda message: message.state in UNDELIVERED,
            ),
        ),
    ),
    pointers=(
        Pointer(AccessToken, "order_id", TokenWithOrder),
        Pointer(Page, "order_id", PageWithOrder),
        Pointer(RequestKey, "order_id", RequestKeyWithOrder),
        Pointer(Message, "order_id", MessageWithOrder),
        Pointer(PendingAuthentication, "order_id", PendingWithOrder),
        Pointer(SealedCard, "order_id", SealedCardWithOrder),
    ),
    name="tolem",
)
