"""The shop's own books: orders and the notifications that came for them, in one small SQLite file.

Called by the pages through threads, so that a slow disk holds no page. Invariants: an order's status changes only in
`record`, by a verified notification; a paid order stays paid, whatever becomes of its money later (`record_operation`);
secret_hash is in no logged body; what a method wrote is on the disk when it returns.
"""

import os
import secrets
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import StrEnum

from tolem.merchant import Notification, Operation, OperationNotification, Token, new_secret_hash
from tolem.merchant.amount import render_amount

LOGGED_PER_ORDER_MAX = 20
"""Older notifications of an order are dropped from the log: anybody can post rejected ones."""

INVOICE_TRIES_MAX = 20

_SCHEMA = """
CREATE TABLE IF NOT EXISTS orders (
    invoice_id TEXT PRIMARY KEY,
    good TEXT NOT NULL,
    amount INTEGER NOT NULL CHECK (amount > 0),
    currency TEXT NOT NULL,
    language TEXT NOT NULL,
    account_id TEXT NOT NULL,
    secret_hash TEXT NOT NULL,
    status TEXT NOT NULL DEFAULT 'waiting' CHECK (status IN ('waiting', 'paid', 'declined')),
    reason TEXT NOT NULL DEFAULT '',
    reason_code INTEGER NOT NULL DEFAULT 0,
    payment_id TEXT NOT NULL DEFAULT '',
    card_mask TEXT NOT NULL DEFAULT '',
    reference TEXT NOT NULL DEFAULT '',
    approval_code TEXT NOT NULL DEFAULT '',
    access_token TEXT NOT NULL DEFAULT '',
    token_seconds INTEGER NOT NULL DEFAULT 0,
    token_expires_at TEXT NOT NULL DEFAULT '',
    created_at TEXT NOT NULL
);
-- The bank wants the last six digits unique too (docs/protocol.md, section 3).
CREATE UNIQUE INDEX IF NOT EXISTS orders_last_digits ON orders (substr(invoice_id, -6));
CREATE TABLE IF NOT EXISTS notifications (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    invoice_id TEXT NOT NULL REFERENCES orders,
    verdict TEXT NOT NULL,
    detail TEXT NOT NULL,
    outcome TEXT NOT NULL,
    payment_id TEXT NOT NULL,
    body TEXT NOT NULL,
    at TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS notifications_of_order ON notifications (invoice_id, number);
-- A repeat has the same sum of refunds, a further refund a larger one; a charge and a cancel come once.
CREATE TABLE IF NOT EXISTS operations (
    invoice_id TEXT NOT NULL REFERENCES orders,
    payment_id TEXT NOT NULL,
    operation TEXT NOT NULL,
    refunded TEXT NOT NULL,
    amount TEXT NOT NULL,
    at TEXT NOT NULL,
    PRIMARY KEY (invoice_id, payment_id, operation, refunded)
);
"""


class OrderStatus(StrEnum):
    """How an order stands, as far as the shop was told."""

    WAITING = "waiting"  # not paid yet, or the outcome has not been told yet
    PAID = "paid"
    DECLINED = "declined"  # may be paid again


class Standing(StrEnum):
    """How an order stands with its money, for people: its status, until the money moves on."""

    WAITING = "waiting"
    PAID = "paid"
    DECLINED = "declined"
    CANCELLED = "cancelled"  # the hold was released
    REFUNDED = "refunded"  # all is given back


class Verdict(StrEnum):
    """What the shop made of a notification."""

    ACCEPTED = "accepted"  # verified, and it changed the order, or told what became of its money
    REPEATED = "repeated"  # verified and known: the gateway did not see the first answer
    OVERTAKEN = "overtaken"  # verified, but the order was paid meanwhile
    REJECTED = "rejected"  # not verified, nothing changed


@dataclass(frozen=True, slots=True, kw_only=True)
class ShopOrder:
    """One order of one article."""

    invoice_id: str
    good: str
    amount: int
    """Whole tenge."""
    currency: str
    language: str
    account_id: str
    """Whose order: a name of the shop's own for the customer's browser."""
    secret_hash: str = field(repr=False)
    status: OrderStatus
    reason: str
    """Why it was declined, in the gateway's words; empty otherwise."""
    reason_code: int
    payment_id: str
    card_mask: str
    reference: str
    approval_code: str
    access_token: str = field(repr=False)
    """Of the newest token; empty once the order is told."""
    token_seconds: int
    token_expires_at: datetime | None
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedNotification:
    """One notification as it is shown on the order's page."""

    number: int
    verdict: Verdict
    detail: str
    """Why it was rejected; empty otherwise."""
    outcome: str
    """As it said: `paid`, `declined`, or the operation; empty if it was rejected."""
    body: str
    """Pretty JSON without the secret."""
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ToldOperation:
    """A charge, cancel or refund that the gateway told."""

    operation: Operation
    amount: Decimal
    refunded: Decimal
    """Given back by then, in all."""
    at: datetime


def find_standing(order: ShopOrder, operations: Sequence[ToldOperation]) -> Standing:
    """What became of a paid order's money; everybody else's status."""
    if order.status is not OrderStatus.PAID:
        return Standing(order.status.value)
    if any(told.operation is Operation.CANCEL for told in operations):
        return Standing.CANCELLED
    taken = next((told.amount for told in operations if told.operation is Operation.CHARGE), Decimal(order.amount))
    refunded = max((told.refunded for told in operations), default=Decimal(0))
    return Standing.REFUNDED if refunded >= taken else Standing.PAID


class Orders:
    """The books, open. Methods block and may be called from any thread."""

    def __init__(self, path: str) -> None:
        self._lock = threading.Lock()
        if path != ":memory:":  # for its user only: it holds what proves a notification
            with suppress(FileExistsError):
                os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        self._database = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=5)
        self._database.row_factory = sqlite3.Row
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = FULL")
        self._database.execute("PRAGMA foreign_keys = ON")
        self._database.executescript(_SCHEMA)

    def close(self) -> None:
        """Closes the file."""
        with self._lock:
            self._database.close()

    def create(self, good: str, amount: int, currency: str, language: str, account_id: str) -> ShopOrder:
        """A new order with a number and a secret of its own."""
        # Twelve random digits: nobody finds another buyer's order by counting.
        for _ in range(INVOICE_TRIES_MAX):
            invoice_id = str(secrets.randbelow(9 * 10**11) + 10**11)
            values = (
                invoice_id,
                good,
                amount,
                currency,
                language,
                account_id,
                new_secret_hash(),
                _now().isoformat(),
            )
            with self._transaction() as database:
                inserted = database.execute(
                    "INSERT INTO orders"
                    " (invoice_id, good, amount, currency, language, account_id, secret_hash, created_at)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                    values,
                )
                if inserted.rowcount == 1:
                    return _order(database.execute("SELECT * FROM orders WHERE invoice_id = ?", (invoice_id,)))
        raise RuntimeError(f"no free order number in {INVOICE_TRIES_MAX} tries: this book of orders is full")

    def find(self, invoice_id: str) -> ShopOrder | None:
        """The order of that number, or None."""
        with self._transaction() as database:
            found = database.execute("SELECT * FROM orders WHERE invoice_id = ?", (invoice_id,)).fetchone()
        return None if found is None else _read_order(found)

    def save_token(self, invoice_id: str, token: Token) -> None:
        """The order may be paid, or paid again, with this token. A paid order is left alone."""
        expires_at = _now() + timedelta(seconds=token.expires_in)
        with self._transaction() as database:
            database.execute(
                "UPDATE orders SET access_token = ?, token_seconds = ?, token_expires_at = ?, status = 'waiting',"
                " reason = '', reason_code = 0 WHERE invoice_id = ? AND status != 'paid'",
                (token.access_token, token.expires_in, expires_at.isoformat(), invoice_id),
            )

    def record(self, notification: Notification, body: str) -> Verdict:
        """A verified notification: changes the order unless it is a repeat or the order is paid already."""
        invoice_id, outcome = notification.invoice_id, "paid" if notification.is_paid else "declined"
        with self._transaction() as database:
            order = _order(database.execute("SELECT * FROM orders WHERE invoice_id = ?", (invoice_id,)))
            # The same outcome of the same payment: a repeat must not decline an order that is being paid again.
            if database.execute(
                "SELECT 1 FROM notifications WHERE invoice_id = ? AND verdict = 'accepted'"
                " AND outcome = ? AND payment_id = ?",
                (invoice_id, outcome, notification.payment_id),
            ).fetchone():
                verdict = Verdict.REPEATED
            elif order.status is OrderStatus.PAID:
                verdict = Verdict.OVERTAKEN
            else:
                verdict = Verdict.ACCEPTED
                database.execute(
                    "UPDATE orders SET status = ?, reason = ?, reason_code = ?, payment_id = ?, card_mask = ?,"
                    " reference = ?, approval_code = ?, access_token = '' WHERE invoice_id = ?",
                    (
                        outcome,
                        "" if notification.is_paid else notification.reason,
                        notification.reason_code,
                        notification.payment_id,
                        notification.card_mask,
                        notification.reference,
                        notification.approval_code,
                        invoice_id,
                    ),
                )
            _log(database, invoice_id, verdict, body, outcome=outcome, payment_id=notification.payment_id)
        return verdict

    def record_operation(self, notification: OperationNotification, body: str) -> Verdict:
        """A verified change of a payment's money: kept once, and never taken for a payment."""
        invoice_id, operation = notification.invoice_id, notification.operation.value
        with self._transaction() as database:
            inserted = database.execute(
                "INSERT INTO operations (invoice_id, payment_id, operation, refunded, amount, at)"
                " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                (
                    invoice_id,
                    notification.payment_id,
                    operation,
                    render_amount(notification.refunded),
                    render_amount(notification.amount),
                    _now().isoformat(),
                ),
            )
            verdict = Verdict.ACCEPTED if inserted.rowcount == 1 else Verdict.REPEATED
            _log(database, invoice_id, verdict, body, outcome=operation, payment_id=notification.payment_id)
        return verdict

    def list_operations(self, invoice_id: str) -> list[ToldOperation]:
        """Oldest first."""
        with self._transaction() as database:
            rows = database.execute(
                "SELECT * FROM operations WHERE invoice_id = ? ORDER BY rowid", (invoice_id,)
            ).fetchall()
        return [
            ToldOperation(
                operation=Operation(row["operation"]),
                amount=Decimal(row["amount"]),
                refunded=Decimal(row["refunded"]),
                at=datetime.fromisoformat(row["at"]),
            )
            for row in rows
        ]

    def record_rejected(self, invoice_id: str, reason: str, body: str) -> None:
        """A body that claimed to be about this order and was not believed: logged, changes nothing."""
        with self._transaction() as database:
            _log(database, invoice_id, Verdict.REJECTED, body, detail=reason)

    def list_notifications(self, invoice_id: str) -> list[LoggedNotification]:
        """Newest first, at most LOGGED_PER_ORDER_MAX."""
        with self._transaction() as database:
            rows = database.execute(
                "SELECT * FROM notifications WHERE invoice_id = ? ORDER BY number DESC", (invoice_id,)
            ).fetchall()
        return [
            LoggedNotification(
                number=row["number"],
                verdict=Verdict(row["verdict"]),
                detail=row["detail"],
                outcome=row["outcome"],
                body=row["body"],
                at=datetime.fromisoformat(row["at"]),
            )
            for row in rows
        ]

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield self._database
            except BaseException:
                self._database.execute("ROLLBACK")
                raise
            self._database.execute("COMMIT")


def _log(
    database: sqlite3.Connection,
    invoice_id: str,
    verdict: Verdict,
    body: str,
    *,
    detail: str = "",
    outcome: str = "",
    payment_id: str = "",
) -> None:
    database.execute(
        "INSERT INTO notifications (invoice_id, verdict, detail, outcome, payment_id, body, at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (invoice_id, verdict, detail, outcome, payment_id, body, _now().isoformat()),
    )
    # What changed the order is never dropped: repeats are known by it.
    database.execute(
        "DELETE FROM notifications WHERE invoice_id = ?1 AND verdict != 'accepted' AND number <= ("
        "SELECT number FROM notifications WHERE invoice_id = ?1 ORDER BY number DESC LIMIT 1 OFFSET ?2)",
        (invoice_id, LOGGED_PER_ORDER_MAX),
    )


def _order(cursor: sqlite3.Cursor) -> ShopOrder:
    return _read_order(cursor.fetchone())


def _read_order(row: sqlite3.Row) -> ShopOrder:
    expires_at = row["token_expires_at"]
    return ShopOrder(
        invoice_id=row["invoice_id"],
        good=row["good"],
        amount=row["amount"],
        currency=row["currency"],
        language=row["language"],
        account_id=row["account_id"],
        secret_hash=row["secret_hash"],
        status=OrderStatus(row["status"]),
        reason=row["reason"],
        reason_code=row["reason_code"],
        payment_id=row["payment_id"],
        card_mask=row["card_mask"],
        reference=row["reference"],
        approval_code=row["approval_code"],
        access_token=row["access_token"],
        token_seconds=row["token_seconds"],
        token_expires_at=datetime.fromisoformat(expires_at) if expires_at else None,
        created_at=datetime.fromisoformat(row["created_at"]),
    )


def _now() -> datetime:
    return datetime.now(UTC)
