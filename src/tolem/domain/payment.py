"""Payments and their operations, and the one graph of states that a payment may go through.

A payment is one card attempt in a round. An operation is one exchange with the acquirer. `advance` is the only way to
change a payment's status; anything that the graph does not name raises. docs/states.md is generated from GRAPH.
"""

from datetime import datetime
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID

import msgspec

from tolem.domain.authentication import TransStatus
from tolem.domain.card import Brand


class PaymentStatus(StrEnum):
    """Where a payment stands."""

    NEW = "new"  # accepted from the card form
    AUTHENTICATING = "authenticating"  # the issuer looks at the payer's browser, or challenges the payer
    AUTHORIZING = "authorizing"  # an authorize or purchase is on its way
    UNKNOWN = "unknown"  # its outcome is not known and is being found out
    AUTHORIZED = "authorized"  # the amount is held
    CAPTURED = "captured"  # the amount is taken
    DECLINED = "declined"  # the issuer or acquirer said no
    VOIDED = "voided"  # the hold is released
    REFUNDED = "refunded"  # all that was taken is given back
    FAILED = "failed"  # ended, and nothing is taken: the acquirer confirmed it, or was never asked


class Edge(NamedTuple):
    """One permitted change of status with its cause in words."""

    source: PaymentStatus
    target: PaymentStatus
    cause: str


_S = PaymentStatus
GRAPH = (
    Edge(_S.NEW, _S.AUTHENTICATING, "the issuer looks at the payer's browser first, or asks for a challenge"),
    Edge(_S.NEW, _S.AUTHORIZING, "authenticated without a challenge, or the card takes no part in 3-D Secure"),
    Edge(_S.NEW, _S.DECLINED, "the issuer refuses, or the terminal insists on an authentication that there is not"),
    Edge(_S.AUTHENTICATING, _S.AUTHORIZING, "the authenticator says, server to server, what lets the payment go on"),
    Edge(_S.AUTHENTICATING, _S.DECLINED, "the authenticator says, server to server, what does not"),
    Edge(_S.AUTHENTICATING, _S.FAILED, "the payer gave up, or the time was over"),
    Edge(_S.AUTHORIZING, _S.AUTHORIZED, "the acquirer approved the hold"),
    Edge(_S.AUTHORIZING, _S.CAPTURED, "the acquirer approved the purchase"),
    Edge(_S.AUTHORIZING, _S.DECLINED, "the acquirer declined"),
    Edge(_S.AUTHORIZING, _S.FAILED, "the acquirer confirmed the reversal of an exchange that was cut short"),
    Edge(_S.AUTHORIZING, _S.UNKNOWN, "no answer, a garbled answer, or one that leaves the outcome open"),
    Edge(_S.UNKNOWN, _S.AUTHORIZED, "an inquiry found the hold approved"),
    Edge(_S.UNKNOWN, _S.CAPTURED, "an inquiry found the purchase approved"),
    Edge(_S.UNKNOWN, _S.DECLINED, "an inquiry found it declined"),
    Edge(_S.UNKNOWN, _S.FAILED, "the acquirer confirmed the reversal"),
    Edge(_S.AUTHORIZED, _S.CAPTURED, "the shop captured the hold, or a part of it"),
    Edge(_S.AUTHORIZED, _S.VOIDED, "the acquirer confirmed the release of the hold"),
    Edge(_S.CAPTURED, _S.REFUNDED, "the last of what was taken is given back"),
)
"""Every way from one status to another. Partial captures and refunds are totals on the payment, not states."""

_EDGES = frozenset((edge.source, edge.target) for edge in GRAPH)

OPEN_STATUSES = (_S.NEW, _S.AUTHENTICATING, _S.AUTHORIZING, _S.UNKNOWN)
"""At most one payment of an order is in one of these (unique index)."""

SUCCESSFUL_STATUSES = (_S.AUTHORIZED, _S.CAPTURED, _S.VOIDED, _S.REFUNDED)
"""The payment was approved once; at most one of a round is (unique index)."""


class InvalidTransition(Exception):
    """The graph has no such edge: our fault, never a caller's."""


class OperationKind(StrEnum):
    """What is asked of the acquirer."""

    AUTHORIZE = "authorize"
    PURCHASE = "purchase"
    CAPTURE = "capture"
    VOID = "void"
    REFUND = "refund"
    REVERSAL = "reversal"  # undoes an authorize or purchase by its key, whether it arrived or not
    INQUIRY = "inquiry"  # asks what became of an operation; never stored, it changes nothing


CARD_KINDS = (OperationKind.AUTHORIZE, OperationKind.PURCHASE)
"""What a payer's card attempt is: what became of it may be undone by a reversal."""

MONEY_KINDS = (
    OperationKind.AUTHORIZE,
    OperationKind.PURCHASE,
    OperationKind.CAPTURE,
    OperationKind.VOID,
    OperationKind.REFUND,
)
"""At most one of these is open per payment (unique index)."""


class OperationStatus(StrEnum):
    """Where an operation stands."""

    PREPARED = "prepared"  # committed before the call; the call may or may not have happened
    UNKNOWN = "unknown"  # the call happened, its outcome is not known
    APPROVED = "approved"
    DECLINED = "declined"
    REVERSED = "reversed"  # the acquirer confirmed that it did not and will not happen


OPEN_OPERATIONS = (OperationStatus.PREPARED, OperationStatus.UNKNOWN)


class Payment(msgspec.Struct, frozen=True, kw_only=True):
    """One card attempt."""

    id: UUID
    order_id: UUID
    round_id: UUID
    status: PaymentStatus
    amount: int
    """Asked for, minor units of the order's currency."""
    currency: str
    authorized: int = 0
    """Approved by the acquirer."""
    captured: int = 0
    """Taken; ≤ authorized."""
    refunded: int = 0
    """Given back; ≤ captured."""
    masked_pan: str
    brand: Brand
    holder: str = ""
    issuer_name: str = ""
    """The payer's bank, as the acquirer names it."""
    stan: str
    """System trace audit number, ISO 8583 field 11, 6 digits."""
    rrn: str
    """Retrieval reference number, ISO 8583 field 37, 12 digits."""
    approval_code: str = ""
    """ISO 8583 field 38."""
    reason_code: int = 0
    """Why it was declined or failed (docs/protocol.md, reason codes); 0: no reason."""
    eci: str = ""
    """Electronic commerce indicator that the acquirer was told."""
    trans_status: TransStatus | None = None
    """What 3-D Secure came to; None: it is under way, or came to nothing."""
    trans_status_reason: str = ""
    """Why, where the authenticator said so: two digits of EMV 3-D Secure."""
    ip: str = ""
    """The payer's address."""
    card_id: UUID
    """What the shop is told as the card's id; pays nothing unless the card is saved."""
    saves_card: bool = False
    """True: its payer agreed to save the card, if the payment is approved."""
    hold_expires_at: datetime | None = None
    """From then on it can't be captured; None where nothing is held."""
    release_at: datetime | None = None
    """When the acquirer is asked, or asked again, to release the hold; None where nothing is held."""
    is_hold_expired: bool = False
    """True: voided because of its age, not by the shop."""
    created_at: datetime
    updated_at: datetime

    @property
    def is_authenticated(self) -> bool:
        """True: the issuer vouched for the payer (3-D Secure)."""
        return self.trans_status is TransStatus.AUTHENTICATED


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One exchange with the acquirer; its id is the key by which the acquirer knows it."""

    id: UUID
    order_id: UUID
    payment_id: UUID
    kind: OperationKind
    status: OperationStatus
    amount: int
    stan: str
    rrn: str
    original_id: UUID | None = None
    """The operation that a reversal, capture, void or refund is about."""
    external_id: str = ""
    """The shop's own key of this refund; unique within the payment unless empty."""
    is_keyed: bool = False
    """True: asked for under an Idempotency-Key, so only that key repeats it."""
    is_whole: bool = False
    """True: all that there was to capture, void or refund. A call without an amount repeats only such a one."""
    cause: str = ""
    """Who asked for it, where it was not the payer: `shop`, `hold expired`."""
    reason_code: int = 0
    tries: int = 0
    """Recovery steps made so far."""
    due_at: datetime | None
    """Real time from which recovery may take it up, also after it was given up to people, and after a person settled it
    as not happened. None once the acquirer has settled it, and of a reversal, which its original drives."""
    asked_until: datetime | None = None
    """Real time until which somebody may be asking the acquirer about it, who wrote it here first; nobody asks longer.
    None: nobody does. It belongs to whoever wrote the value that stands here."""
    doubted_at: datetime | None = None
    """Since when its caller may not know its result; None: told it. Of a capture, void or refund without a key a
    repeat within a day then returns the result and moves nothing."""
    alerted_at: datetime | None = None
    """When recovery gave it up: it stays open and waits for `tolem resolve`."""
    created_at: datetime
    finished_at: datetime | None = None
    """When it was settled; of one that a late approval has opened again: when it was settled before."""


def advance(payment: Payment, status: PaymentStatus, at: datetime, **changes: object) -> Payment:
    """The payment in its next status, other fields changed with it. Raises InvalidTransition where there is no edge."""
    if (payment.status, status) not in _EDGES:
        raise InvalidTransition(f"payment {payment.id}: {payment.status} → {status}")
    moved = msgspec.structs.replace(payment, status=status, updated_at=at, **changes)
    check_totals(moved)
    return moved


def change_totals(payment: Payment, at: datetime, **changes: object) -> Payment:
    """The payment with other totals in the same status: a partial refund. Raises InvalidTransition."""
    changed = msgspec.structs.replace(payment, updated_at=at, **changes)
    check_totals(changed)
    return changed


def check_totals(payment: Payment) -> None:
    """refunded ≤ captured ≤ authorized ≤ asked for: also a CHECK of the table."""
    if not 0 <= payment.refunded <= payment.captured <= payment.authorized <= payment.amount:
        raise InvalidTransition(
            f"payment {payment.id}: totals {payment.refunded}/{payment.captured}/{payment.authorized}/{payment.amount}"
        )
