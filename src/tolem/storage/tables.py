"""tolem's tables, beside the records of the domain that rest in them. The meaning of each column is the record's
field of the same name; only what the table adds is said here.

Foreign keys: rows that hang on an order are written under the order's lock and orders are never deleted, and the
writer refuses a child whose order it has not loaded; a foreign key there would only repeat that, at a look-up and a
share lock a row. The only one, terminal → merchant, guards what people add by hand.

What must be unique is a unique index. What recovery and the sender look for has a partial index: it holds the few rows
that are due, however many are stored. Reconciliation reads a day by its times: operations_created, orders_ended.
SQLite: rows of random keys (hashes) rest in the key's own tree.
"""

from collections.abc import Iterable
from enum import StrEnum
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy import Column, Index, Integer, LargeBinary, Text

from tolem.domain.authentication import AuthenticationStep, ChallengeWindow, TransStatus
from tolem.domain.card import Brand
from tolem.domain.message import UNDELIVERED, Fault, MessageKind, MessageState
from tolem.domain.money import AMOUNT_MAX
from tolem.domain.order import ENDED_ORDERS, OrderStatus
from tolem.domain.payment import (
    MONEY_KINDS,
    OPEN_OPERATIONS,
    OPEN_STATUSES,
    SUCCESSFUL_STATUSES,
    OperationKind,
    OperationStatus,
    PaymentStatus,
)
from tolem.storage.columns import Choice, Flag, Id, Instant, Integers, Texts


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """A fact about the database itself, such as its mode."""

    name: str
    value: str


metadata = sa.MetaData()


def one_of(column: sa.ColumnElement[Any], values: Iterable[StrEnum]) -> sa.ColumnElement[bool]:
    """`column IN ('a', 'b')` with the values in the text, so that the planner sees that a partial index will do."""
    return column.in_([sa.literal_column(f"'{value.value}'") for value in values])


def _needed(name: str, column_type: Any, **options: Any) -> Column[Any]:
    return Column(name, column_type, nullable=False, **options)


def _key(name: str, column_type: Any) -> Column[Any]:
    return Column(name, column_type, primary_key=True, nullable=False)


def _partial(name: str, *columns: Column[Any], where: sa.ColumnElement[bool], unique: bool = False) -> Index:
    return Index(name, *columns, unique=unique, sqlite_where=where, postgresql_where=where)


settings = sa.Table("settings", metadata, _key("name", Text), _needed("value", Text))

merchants = sa.Table(
    "merchants",
    metadata,
    _key("id", Id),
    _needed("client_id", Text),
    _needed("name", Text),
    _needed("secret_salt", LargeBinary),
    _needed("secret_hash", LargeBinary),
    _needed("expires_in_text", Flag),
    _needed("order_token_powers", Flag),
    _needed("created_at", Instant),
    sa.UniqueConstraint("client_id", name="merchants_client"),
)

terminals = sa.Table(
    "terminals",
    metadata,
    _key("id", Id),
    Column("merchant_id", Id, sa.ForeignKey("merchants.id", name="terminals_merchant"), nullable=False),
    _needed("name", Text),
    _needed("acquirer", Text),
    _needed("currencies", Texts),
    _needed("two_stage", Flag),
    _needed("accept_attempted", Flag),
    _needed("accept_not_enrolled", Flag),
    _needed("accept_unavailable", Flag),
    _needed("attempts_max", Integer),
    _needed("round_minutes", Integer),
    _needed("extension_minutes", Integer),
    _needed("link_hosts", Texts),
    _needed("frame_hosts", Texts),
    _needed("seed_bodies", Flag),
    _needed("hold_days", Integer),
    _needed("tells", Texts),
    _needed("notify_gaps", Integers),
    _needed("notify_jitter_percent", Integer),
    _needed("notify_connect_seconds", Integer),
    _needed("notify_whole_seconds", Integer),
    _needed("notify_retry_after_max_seconds", Integer),
    _needed("notify_response_bytes", Integer),
    _needed("logo", Text),
    _needed("colour", Text),
    _needed("text_colour", Text),
    _needed("created_at", Instant),
)

logos = sa.Table("logos", metadata, _key("name", Text), _needed("body", LargeBinary))

webhook_secrets = sa.Table(
    "webhook_secrets",
    metadata,
    _key("terminal_id", Id),
    Column("current", LargeBinary),
    Column("previous", LargeBinary),
    Column("previous_until", Instant),
    _needed("changed_at", Instant),
)

orders = sa.Table(
    "orders",
    metadata,
    _key("id", Id),
    _needed("terminal_id", Id),
    _needed("invoice_id", Text),
    _needed("status", Choice(OrderStatus)),
    _needed("round_id", Id),
    _needed("amount", sa.BigInteger),
    _needed("currency", Text),
    _needed("secret_hash", Text),
    _needed("post_link", Text),
    _needed("failure_post_link", Text),
    _needed("links_from_token", Flag),
    _needed("account_is_vouched", Flag),
    _needed("account_id", Text),
    Column("opened_at", Instant),
    Column("deadline_at", Instant),
    _needed("is_extended", Flag),
    _needed("has_left", Flag),
    _needed("reason_code", Integer),
    _needed("return_url", Text),
    _needed("failure_return_url", Text),
    _needed("auto_return", Flag),
    _needed("language", Text),
    _needed("invoice_id_alt", Text),
    _needed("description", Text),
    _needed("email", Text),
    _needed("phone", Text),
    _needed("name", Text),
    _needed("data", Text),
    _needed("payment_type", Text),
    _needed("offers_saving", Flag),
    _needed("page_refusal", Text),
    Column("page_refused_at", Instant),
    _needed("created_at", Instant),
    _needed("updated_at", Instant),
    sa.UniqueConstraint("terminal_id", "invoice_id", name="orders_invoice"),
    sa.CheckConstraint(f"amount BETWEEN 0 AND {AMOUNT_MAX}", name="orders_amount"),
)
_partial(
    "orders_deadline",
    orders.c.deadline_at,
    where=sa.and_(one_of(orders.c.status, (OrderStatus.OPEN,)), orders.c.deadline_at.is_not(None)),
)
_partial("orders_ended", orders.c.updated_at, where=one_of(orders.c.status, ENDED_ORDERS))

access_tokens = sa.Table(
    "access_tokens",
    metadata,
    _key("hash", LargeBinary),
    _needed("client_id", Text),
    _needed("scope", Text),
    Column("terminal_id", Id),
    Column("order_id", Id),
    Column("round_id", Id),
    _needed("expires_at", Instant),
    sqlite_with_rowid=False,
)
Index("access_tokens_expiry", access_tokens.c.expires_at)

pages = sa.Table(
    "pages",
    metadata,
    _key("hash", LargeBinary),
    _needed("order_id", Id),
    _needed("round_id", Id),
    _needed("language", Text),
    _needed("frame_origin", Text),
    _needed("has_led_back", Flag),
    _needed("expires_at", Instant),
    sqlite_with_rowid=False,
)
Index("pages_expiry", pages.c.expires_at)

request_keys = sa.Table(
    "request_keys",
    metadata,
    _key("hash", LargeBinary),
    _needed("order_id", Id),
    _needed("operation_id", Id),
    _needed("content_hash", LargeBinary),
    sqlite_with_rowid=False,
)

payments = sa.Table(
    "payments",
    metadata,
    _key("id", Id),
    _needed("order_id", Id),
    _needed("round_id", Id),
    _needed("status", Choice(PaymentStatus)),
    _needed("amount", sa.BigInteger),
    _needed("currency", Text),
    _needed("authorized", sa.BigInteger),
    _needed("captured", sa.BigInteger),
    _needed("refunded", sa.BigInteger),
    _needed("masked_pan", Text),
    _needed("brand", Choice(Brand)),
    _needed("holder", Text),
    _needed("issuer_name", Text),
    _needed("stan", Text),
    _needed("rrn", Text),
    _needed("approval_code", Text),
    _needed("reason_code", Integer),
    _needed("eci", Text),
    Column("trans_status", Choice(TransStatus)),
    _needed("trans_status_reason", Text),
    _needed("ip", Text),
    _needed("card_id", Id),
    _needed("saves_card", Flag),
    Column("hold_expires_at", Instant),
    Column("release_at", Instant),
    _needed("is_hold_expired", Flag),
    _needed("created_at", Instant),
    _needed("updated_at", Instant),
    sa.CheckConstraint(f"amount BETWEEN 0 AND {AMOUNT_MAX}", name="payments_amount"),
    sa.CheckConstraint(
        "0 <= refunded AND refunded <= captured AND captured <= authorized AND authorized <= amount",
        name="payments_totals",
    ),
)
Index("payments_order", payments.c.order_id)
_partial("payments_release", payments.c.release_at, where=payments.c.release_at.is_not(None))
_partial("payments_open", payments.c.order_id, where=one_of(payments.c.status, OPEN_STATUSES), unique=True)
_partial("payments_successful", payments.c.round_id, where=one_of(payments.c.status, SUCCESSFUL_STATUSES), unique=True)

authentications = sa.Table(
    "authentications",
    metadata,
    _key("payment_id", Id),
    _needed("order_id", Id),
    _needed("page_hash", LargeBinary),
    _needed("step", Choice(AuthenticationStep)),
    _needed("url", Text),
    _needed("data", Text),
    _needed("reference", Text),
    _needed("window", Choice(ChallengeWindow)),
    _needed("return_nonce", Text),
    Column("deadline_at", Instant),
    _needed("created_at", Instant),
)
_partial("authentications_due", authentications.c.deadline_at, where=authentications.c.deadline_at.is_not(None))

sealed_cards = sa.Table(
    "sealed_cards",
    metadata,
    _key("payment_id", Id),
    _needed("order_id", Id),
    _needed("key_name", Text),
    Column("sealed", LargeBinary),
    _needed("fingerprint", LargeBinary),
    _needed("expires_at", Instant),
)
Index("sealed_cards_expiry", sealed_cards.c.expires_at)

declines = sa.Table(
    "declines",
    metadata,
    _key("hash", LargeBinary),
    _needed("last_at", Instant),
    _needed("expires_at", Instant),
    sqlite_with_rowid=False,
)
Index("declines_expiry", declines.c.expires_at)

card_keys = sa.Table(
    "card_keys",
    metadata,
    _key("name", Text),
    _needed("sealed", LargeBinary),
    _needed("expires_at", Instant),
)

saved_cards = sa.Table(
    "saved_cards",
    metadata,
    _key("id", Id),
    _needed("merchant_id", Id),
    _needed("terminal_id", Id),
    _needed("account_id", Text),
    _needed("fingerprint", LargeBinary),
    _needed("masked_pan", Text),
    _needed("brand", Choice(Brand)),
    _needed("expiry_year", Integer),
    _needed("expiry_month", Integer),
    _needed("holder", Text),
    Column("key_id", Text),
    Column("sealed", LargeBinary),
    _needed("payment_id", Id),
    _needed("rrn", Text),
    _needed("created_at", Instant),
    _needed("updated_at", Instant),
    sa.UniqueConstraint("fingerprint", name="saved_cards_fingerprint"),
    sa.CheckConstraint("(sealed IS NULL) = (key_id IS NULL)", name="saved_cards_sealed"),
)
Index("saved_cards_account", saved_cards.c.merchant_id, saved_cards.c.account_id)
_partial("saved_cards_key", saved_cards.c.key_id, where=saved_cards.c.key_id.is_not(None))
_partial("saved_cards_empty", saved_cards.c.updated_at, where=saved_cards.c.sealed.is_(None))

card_consents = sa.Table(
    "card_consents",
    metadata,
    _key("payment_id", Id),
    _needed("card_id", Id),
    _needed("merchant_id", Id),
    _needed("terminal_id", Id),
    _needed("account_id", Text),
    _needed("fingerprint", LargeBinary),
    _needed("masked_pan", Text),
    _needed("brand", Choice(Brand)),
    _needed("expiry_year", Integer),
    _needed("expiry_month", Integer),
    _needed("holder", Text),
    Column("key_id", Text),
    Column("sealed", LargeBinary),
    _needed("created_at", Instant),
    sa.CheckConstraint("(sealed IS NULL) = (key_id IS NULL)", name="card_consents_sealed"),
)
_partial("card_consents_open", card_consents.c.payment_id, where=card_consents.c.sealed.is_not(None))
Index("card_consents_created", card_consents.c.created_at)

vault_keys = sa.Table("vault_keys", metadata, _key("name", Text), _needed("sealed", LargeBinary))

operations = sa.Table(
    "operations",
    metadata,
    _key("id", Id),
    _needed("order_id", Id),
    _needed("payment_id", Id),
    _needed("kind", Choice(OperationKind)),
    _needed("status", Choice(OperationStatus)),
    _needed("amount", sa.BigInteger),
    _needed("stan", Text),
    _needed("rrn", Text),
    Column("original_id", Id),
    _needed("external_id", Text),
    _needed("is_keyed", Flag),
    _needed("is_whole", Flag),
    _needed("cause", Text),
    _needed("reason_code", Integer),
    _needed("tries", Integer),
    Column("due_at", Instant),
    Column("asked_until", Instant),
    Column("doubted_at", Instant),
    Column("alerted_at", Instant),
    _needed("created_at", Instant),
    Column("finished_at", Instant),
    sa.CheckConstraint(f"amount BETWEEN 0 AND {AMOUNT_MAX}", name="operations_amount"),
)
Index("operations_order", operations.c.order_id)
Index("operations_created", operations.c.created_at)
_partial(
    "operations_external",
    operations.c.payment_id,
    operations.c.external_id,
    where=operations.c.external_id != sa.literal_column("''"),
    unique=True,
)
_partial(
    "operations_open",
    operations.c.payment_id,
    where=sa.and_(
        one_of(operations.c.status, OPEN_OPERATIONS),
        one_of(operations.c.kind, MONEY_KINDS),
        operations.c.finished_at.is_(None),  # a late approval opens again what was settled, beside another
    ),
    unique=True,
)
_partial(
    "operations_reversal",
    operations.c.original_id,
    where=one_of(operations.c.kind, (OperationKind.REVERSAL,)),
    unique=True,
)
_partial("operations_due", operations.c.due_at, where=operations.c.due_at.is_not(None))

events = sa.Table(
    "events",
    metadata,
    _key("id", Id),
    _needed("order_id", Id),
    Column("payment_id", Id),
    _needed("kind", Text),
    _needed("detail", Text),
    _needed("at", Instant),
)
Index("events_order", events.c.order_id)

messages = sa.Table(
    "messages",
    metadata,
    _key("id", Id),
    _needed("order_id", Id),
    _needed("round_id", Id),
    _needed("terminal_id", Id),
    Column("payment_id", Id),
    Column("operation_id", Id),
    _needed("kind", Choice(MessageKind)),
    _needed("url", Text),
    _needed("host", Text),
    _needed("body", LargeBinary),
    _needed("state", Choice(MessageState)),
    _needed("tries", Integer),
    _needed("tries_before", Integer),
    Column("due_at", Instant),
    Column("lease_owner", Integer),
    Column("leased_until", Instant),
    _needed("created_at", Instant),
    sa.CheckConstraint("state NOT IN ('waiting', 'sending') OR due_at IS NOT NULL", name="messages_are_due"),
    sa.CheckConstraint(
        "state <> 'sending' OR (lease_owner IS NOT NULL AND leased_until IS NOT NULL)", name="messages_are_leased"
    ),
)
_partial("messages_due", messages.c.due_at, where=one_of(messages.c.state, (MessageState.WAITING,)))
_partial("messages_host", messages.c.host, messages.c.due_at, where=one_of(messages.c.state, (MessageState.WAITING,)))
_partial("messages_leased", messages.c.leased_until, where=one_of(messages.c.state, (MessageState.SENDING,)))
Index("messages_order", messages.c.order_id)
Index("messages_terminal", messages.c.terminal_id, messages.c.id)
_partial("messages_undelivered", messages.c.id, where=one_of(messages.c.state, UNDELIVERED))
_partial("messages_dead", messages.c.id, where=one_of(messages.c.state, (MessageState.DEAD,)))

attempts = sa.Table(
    "attempts",
    metadata,
    _key("message_id", Id),
    _key("number", Integer),
    _needed("at", Instant),
    _needed("duration_ms", Integer),
    Column("status", Integer),
    _needed("error", Text),
    Column("fault", Choice(Fault)),
    _needed("address", Text),
    _needed("headers", Text),
    _needed("response", LargeBinary),
    sqlite_with_rowid=False,
)
