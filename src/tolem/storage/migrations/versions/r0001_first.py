"""The first tables. Written out, so that later changes of schema.py don't change the past."""

import sqlalchemy as sa
from alembic import op

from tolem.storage.columns import Flag, Id, Instant

revision = "0001"
down_revision = None


def upgrade() -> None:
    """An empty database → version 0001."""
    op.create_table(
        "settings",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )

    op.create_table(
        "merchants",
        sa.Column("id", Id(), nullable=False),
        sa.Column("client_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("secret_salt", sa.LargeBinary(), nullable=False),
        sa.Column("secret_hash", sa.LargeBinary(), nullable=False),
        sa.Column("expires_in_text", Flag(), nullable=False),
        sa.Column("order_token_powers", Flag(), nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("client_id", name="merchants_client"),
    )

    op.create_table(
        "terminals",
        sa.Column("id", Id(), nullable=False),
        sa.Column("merchant_id", Id(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("acquirer", sa.Text(), nullable=False),
        sa.Column("currencies", sa.Text(), nullable=False),
        sa.Column("two_stage", Flag(), nullable=False),
        sa.Column("accept_attempted", Flag(), nullable=False),
        sa.Column("accept_not_enrolled", Flag(), nullable=False),
        sa.Column("accept_unavailable", Flag(), nullable=False),
        sa.Column("attempts_max", sa.Integer(), nullable=False),
        sa.Column("round_minutes", sa.Integer(), nullable=False),
        sa.Column("extension_minutes", sa.Integer(), nullable=False),
        sa.Column("link_hosts", sa.Text(), nullable=False),
        sa.Column("frame_hosts", sa.Text(), nullable=False),
        sa.Column("seed_bodies", Flag(), nullable=False),
        sa.Column("hold_days", sa.Integer(), nullable=False),
        sa.Column("tells", sa.Text(), nullable=False),
        sa.Column("notify_gaps", sa.Text(), nullable=False),
        sa.Column("notify_jitter_percent", sa.Integer(), nullable=False),
        sa.Column("notify_connect_seconds", sa.Integer(), nullable=False),
        sa.Column("notify_whole_seconds", sa.Integer(), nullable=False),
        sa.Column("notify_retry_after_max_seconds", sa.Integer(), nullable=False),
        sa.Column("notify_response_bytes", sa.Integer(), nullable=False),
        sa.Column("logo", sa.Text(), nullable=False),
        sa.Column("colour", sa.Text(), nullable=False),
        sa.Column("text_colour", sa.Text(), nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.ForeignKeyConstraint(["merchant_id"], ["merchants.id"], name="terminals_merchant"),
    )

    op.create_table(
        "logos",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )

    op.create_table(
        "webhook_secrets",
        sa.Column("terminal_id", Id(), nullable=False),
        sa.Column("current", sa.LargeBinary(), nullable=True),
        sa.Column("previous", sa.LargeBinary(), nullable=True),
        sa.Column("previous_until", Instant(), nullable=True),
        sa.Column("changed_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("terminal_id"),
    )

    op.create_table(
        "orders",
        sa.Column("id", Id(), nullable=False),
        sa.Column("terminal_id", Id(), nullable=False),
        sa.Column("invoice_id", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("round_id", Id(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("secret_hash", sa.Text(), nullable=False),
        sa.Column("post_link", sa.Text(), nullable=False),
        sa.Column("failure_post_link", sa.Text(), nullable=False),
        sa.Column("links_from_token", Flag(), nullable=False),
        sa.Column("account_is_vouched", Flag(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("opened_at", Instant(), nullable=True),
        sa.Column("deadline_at", Instant(), nullable=True),
        sa.Column("is_extended", Flag(), nullable=False),
        sa.Column("has_left", Flag(), nullable=False),
        sa.Column("reason_code", sa.Integer(), nullable=False),
        sa.Column("return_url", sa.Text(), nullable=False),
        sa.Column("failure_return_url", sa.Text(), nullable=False),
        sa.Column("auto_return", Flag(), nullable=False),
        sa.Column("language", sa.Text(), nullable=False),
        sa.Column("invoice_id_alt", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("email", sa.Text(), nullable=False),
        sa.Column("phone", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("data", sa.Text(), nullable=False),
        sa.Column("payment_type", sa.Text(), nullable=False),
        sa.Column("offers_saving", Flag(), nullable=False),
        sa.Column("page_refusal", sa.Text(), nullable=False),
        sa.Column("page_refused_at", Instant(), nullable=True),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("updated_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.CheckConstraint(
            "amount BETWEEN 0 AND 999999999999",
            name="orders_amount",
        ),
        sa.UniqueConstraint("terminal_id", "invoice_id", name="orders_invoice"),
    )
    _create_partial_index(
        "orders_deadline", "orders", ["deadline_at"], "status IN ('open') AND deadline_at IS NOT NULL"
    )
    _create_partial_index("orders_ended", "orders", ["updated_at"], "status IN ('paid', 'failed')")

    op.create_table(
        "access_tokens",
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("client_id", sa.Text(), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("terminal_id", Id(), nullable=True),
        sa.Column("order_id", Id(), nullable=True),
        sa.Column("round_id", Id(), nullable=True),
        sa.Column("expires_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("hash"),
        sqlite_with_rowid=False,
    )
    op.create_index("access_tokens_expiry", "access_tokens", ["expires_at"])

    op.create_table(
        "pages",
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("order_id", Id(), nullable=False),
        sa.Column("round_id", Id(), nullable=False),
        sa.Column("language", sa.Text(), nullable=False),
        sa.Column("frame_origin", sa.Text(), nullable=False),
        sa.Column("has_led_back", Flag(), nullable=False),
        sa.Column("expires_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("hash"),
        sqlite_with_rowid=False,
    )
    op.create_index("pages_expiry", "pages", ["expires_at"])

    op.create_table(
        "request_keys",
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("order_id", Id(), nullable=False),
        sa.Column("operation_id", Id(), nullable=False),
        sa.Column("content_hash", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("hash"),
        sqlite_with_rowid=False,
    )

    op.create_table(
        "payments",
        sa.Column("id", Id(), nullable=False),
        sa.Column("order_id", Id(), nullable=False),
        sa.Column("round_id", Id(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("authorized", sa.BigInteger(), nullable=False),
        sa.Column("captured", sa.BigInteger(), nullable=False),
        sa.Column("refunded", sa.BigInteger(), nullable=False),
        sa.Column("masked_pan", sa.Text(), nullable=False),
        sa.Column("brand", sa.Text(), nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("issuer_name", sa.Text(), nullable=False),
        sa.Column("stan", sa.Text(), nullable=False),
        sa.Column("rrn", sa.Text(), nullable=False),
        sa.Column("approval_code", sa.Text(), nullable=False),
        sa.Column("reason_code", sa.Integer(), nullable=False),
        sa.Column("eci", sa.Text(), nullable=False),
        sa.Column("trans_status", sa.Text(), nullable=True),
        sa.Column("trans_status_reason", sa.Text(), nullable=False),
        sa.Column("ip", sa.Text(), nullable=False),
        sa.Column("card_id", Id(), nullable=False),
        sa.Column("saves_card", Flag(), nullable=False),
        sa.Column("hold_expires_at", Instant(), nullable=True),
        sa.Column("release_at", Instant(), nullable=True),
        sa.Column("is_hold_expired", Flag(), nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("updated_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.CheckConstraint(
            "amount BETWEEN 0 AND 999999999999",
            name="payments_amount",
        ),
        sa.CheckConstraint(
            "0 <= refunded AND refunded <= captured AND captured <= authorized AND authorized <= amount",
            name="payments_totals",
        ),
    )
    _create_partial_index(
        "payments_open",
        "payments",
        ["order_id"],
        "status IN ('new', 'authenticating', 'authorizing', 'unknown')",
        unique=True,
    )
    _create_partial_index("payments_release", "payments", ["release_at"], "release_at IS NOT NULL")
    op.create_index("payments_order", "payments", ["order_id"])
    _create_partial_index(
        "payments_successful",
        "payments",
        ["round_id"],
        "status IN ('authorized', 'captured', 'voided', 'refunded')",
        unique=True,
    )

    op.create_table(
        "authentications",
        sa.Column("payment_id", Id(), nullable=False),
        sa.Column("order_id", Id(), nullable=False),
        sa.Column("page_hash", sa.LargeBinary(), nullable=False),
        sa.Column("step", sa.Text(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("data", sa.Text(), nullable=False),
        sa.Column("reference", sa.Text(), nullable=False),
        sa.Column("window", sa.Text(), nullable=False),
        sa.Column("return_nonce", sa.Text(), nullable=False),
        sa.Column("deadline_at", Instant(), nullable=True),
        sa.Column("created_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("payment_id"),
    )
    _create_partial_index("authentications_due", "authentications", ["deadline_at"], "deadline_at IS NOT NULL")

    op.create_table(
        "sealed_cards",
        sa.Column("payment_id", Id(), nullable=False),
        sa.Column("order_id", Id(), nullable=False),
        sa.Column("key_name", sa.Text(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=True),
        sa.Column("fingerprint", sa.LargeBinary(), nullable=False),
        sa.Column("expires_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("payment_id"),
    )
    op.create_index("sealed_cards_expiry", "sealed_cards", ["expires_at"])

    op.create_table(
        "declines",
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("last_at", Instant(), nullable=False),
        sa.Column("expires_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("hash"),
        sqlite_with_rowid=False,
    )
    op.create_index("declines_expiry", "declines", ["expires_at"])

    op.create_table(
        "card_keys",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("expires_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )

    op.create_table(
        "saved_cards",
        sa.Column("id", Id(), nullable=False),
        sa.Column("merchant_id", Id(), nullable=False),
        sa.Column("terminal_id", Id(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(), nullable=False),
        sa.Column("masked_pan", sa.Text(), nullable=False),
        sa.Column("brand", sa.Text(), nullable=False),
        sa.Column("expiry_year", sa.Integer(), nullable=False),
        sa.Column("expiry_month", sa.Integer(), nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("key_id", sa.Text(), nullable=True),
        sa.Column("sealed", sa.LargeBinary(), nullable=True),
        sa.Column("payment_id", Id(), nullable=False),
        sa.Column("rrn", sa.Text(), nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("updated_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("fingerprint", name="saved_cards_fingerprint"),
        sa.CheckConstraint("(sealed IS NULL) = (key_id IS NULL)", name="saved_cards_sealed"),
    )
    op.create_index("saved_cards_account", "saved_cards", ["merchant_id", "account_id"])
    _create_partial_index("saved_cards_key", "saved_cards", ["key_id"], "key_id IS NOT NULL")
    _create_partial_index("saved_cards_empty", "saved_cards", ["updated_at"], "sealed IS NULL")

    op.create_table(
        "card_consents",
        sa.Column("payment_id", Id(), nullable=False),
        sa.Column("card_id", Id(), nullable=False),
        sa.Column("merchant_id", Id(), nullable=False),
        sa.Column("terminal_id", Id(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(), nullable=False),
        sa.Column("masked_pan", sa.Text(), nullable=False),
        sa.Column("brand", sa.Text(), nullable=False),
        sa.Column("expiry_year", sa.Integer(), nullable=False),
        sa.Column("expiry_month", sa.Integer(), nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("key_id", sa.Text(), nullable=True),
        sa.Column("sealed", sa.LargeBinary(), nullable=True),
        sa.Column("created_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("payment_id"),
        sa.CheckConstraint("(sealed IS NULL) = (key_id IS NULL)", name="card_consents_sealed"),
    )
    _create_partial_index("card_consents_open", "card_consents", ["payment_id"], "sealed IS NOT NULL")
    op.create_index("card_consents_created", "card_consents", ["created_at"])

    op.create_table(
        "vault_keys",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )

    op.create_table(
        "operations",
        sa.Column("id", Id(), nullable=False),
        sa.Column("order_id", Id(), nullable=False),
        sa.Column("payment_id", Id(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("stan", sa.Text(), nullable=False),
        sa.Column("rrn", sa.Text(), nullable=False),
        sa.Column("original_id", Id(), nullable=True),
        sa.Column("external_id", sa.Text(), nullable=False),
        sa.Column("is_keyed", Flag(), nullable=False),
        sa.Column("is_whole", Flag(), nullable=False),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.Column("reason_code", sa.Integer(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("due_at", Instant(), nullable=True),
        sa.Column("asked_until", Instant(), nullable=True),
        sa.Column("doubted_at", Instant(), nullable=True),
        sa.Column("alerted_at", Instant(), nullable=True),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("finished_at", Instant(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.CheckConstraint(
            "amount BETWEEN 0 AND 999999999999",
            name="operations_amount",
        ),
    )
    _create_partial_index("operations_due", "operations", ["due_at"], "due_at IS NOT NULL")
    _create_partial_index(
        "operations_open",
        "operations",
        ["payment_id"],
        "status IN ('prepared', 'unknown') AND kind IN ('authorize', 'purchase', 'capture', 'void', 'refund')"
        " AND finished_at IS NULL",
        unique=True,
    )
    _create_partial_index(
        "operations_external", "operations", ["payment_id", "external_id"], "external_id != ''", unique=True
    )
    op.create_index("operations_order", "operations", ["order_id"])
    op.create_index("operations_created", "operations", ["created_at"])
    _create_partial_index("operations_reversal", "operations", ["original_id"], "kind IN ('reversal')", unique=True)

    op.create_table(
        "events",
        sa.Column("id", Id(), nullable=False),
        sa.Column("order_id", Id(), nullable=False),
        sa.Column("payment_id", Id(), nullable=True),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("events_order", "events", ["order_id"])

    op.create_table(
        "messages",
        sa.Column("id", Id(), nullable=False),
        sa.Column("order_id", Id(), nullable=False),
        sa.Column("round_id", Id(), nullable=False),
        sa.Column("terminal_id", Id(), nullable=False),
        sa.Column("payment_id", Id(), nullable=True),
        sa.Column("operation_id", Id(), nullable=True),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("tries_before", sa.Integer(), nullable=False),
        sa.Column("due_at", Instant(), nullable=True),
        sa.Column("lease_owner", sa.Integer(), nullable=True),
        sa.Column("leased_until", Instant(), nullable=True),
        sa.Column("created_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.CheckConstraint("state NOT IN ('waiting', 'sending') OR due_at IS NOT NULL", name="messages_are_due"),
        sa.CheckConstraint(
            "state <> 'sending' OR (lease_owner IS NOT NULL AND leased_until IS NOT NULL)", name="messages_are_leased"
        ),
    )
    _create_partial_index("messages_due", "messages", ["due_at"], "state IN ('waiting')")
    _create_partial_index("messages_host", "messages", ["host", "due_at"], "state IN ('waiting')")
    _create_partial_index("messages_leased", "messages", ["leased_until"], "state IN ('sending')")
    op.create_index("messages_order", "messages", ["order_id"])
    op.create_index("messages_terminal", "messages", ["terminal_id", "id"])
    _create_partial_index("messages_undelivered", "messages", ["id"], "state IN ('waiting', 'sending')")
    _create_partial_index("messages_dead", "messages", ["id"], "state IN ('dead')")

    op.create_table(
        "attempts",
        sa.Column("message_id", Id(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("at", Instant(), nullable=False),
        sa.Column("duration_ms", sa.Integer(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("fault", sa.Text(), nullable=True),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("headers", sa.Text(), nullable=False),
        sa.Column("response", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("message_id", "number"),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    """Back to an empty database."""
    for table in (
        "attempts",
        "messages",
        "events",
        "operations",
        "payments",
        "pages",
        "access_tokens",
        "orders",
        "terminals",
        "merchants",
        "settings",
    ):
        op.drop_table(table)


def _create_partial_index(name: str, table: str, columns: list[str], where: str, *, unique: bool = False) -> None:
    condition = sa.text(where)
    op.create_index(name, table, columns, unique=unique, sqlite_where=condition, postgresql_where=condition)
