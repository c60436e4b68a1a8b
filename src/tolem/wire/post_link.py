"""The notification that a shop's server receives: the bodies of postLink and failurePostLink (docs/protocol.md §5).

Called when an outcome is decided, in the same transaction: the bytes made here are stored and every try sends them.
Pure: the same records and instant give the same bytes. Keys stand in the order of the bank's samples (alphabetical).
"""

from datetime import datetime, timedelta, timezone

import msgspec

from tolem.domain.authentication import RULES
from tolem.domain.message import MessageKind
from tolem.domain.money import render_amount
from tolem.domain.order import Order
from tolem.domain.payment import Payment
from tolem.wire.names import render_brand, render_language
from tolem.wire.reasons import reason_text

KAZAKHSTAN = timezone(timedelta(hours=5))
"""One zone for the whole country, without summer time, since 1 March 2024."""

OPERATION_CODES = {MessageKind.CAPTURE: "charge", MessageKind.VOID: "cancel", MessageKind.REFUND: "refund"}
"""`code`, and `reason`, of what is told of a payment later."""
NO_REASON = -1
"""`reasonCode` of what is told of a payment later: neither 0, which reads as paid, nor a code of a decline."""


class _Body(msgspec.Struct, kw_only=True):
    """Fields as the bank names them, in its order. A field that is UNSET is not sent."""

    accountId: str | msgspec.UnsetType = msgspec.UNSET
    """What shops read."""
    acountId: str | msgspec.UnsetType = msgspec.UNSET
    """What the documentation's success sample says."""
    amount: msgspec.Raw
    """A number; whole amounts without a fraction. Of the order, or of the operation that is told."""
    approvalCode: str = ""
    cardId: str = ""
    cardMask: str = ""
    cardType: str = ""
    code: str
    """`ok`, `error`, or the operation that is told."""
    currency: str
    data: str | msgspec.UnsetType = msgspec.UNSET
    """The pay object's own text; not in the documentation's samples."""
    dateTime: str
    """When the outcome was decided."""
    description: str
    email: str
    id: str
    invoiceId: str
    invoiceIdAlt: str | msgspec.UnsetType = msgspec.UNSET
    """Not in the documentation's samples."""
    ip: str = ""
    # Where the payer's address lies: tolem asks no service about its payers.
    ipCity: str = ""
    ipCountry: str = ""
    ipDistrict: str = ""
    ipLatitude: int = 0
    ipLongitude: int = 0
    ipRegion: str = ""
    issuer: str = ""
    language: str
    name: str
    orgAmount: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    """Of an operation: what the payment was for, as the status calls it."""
    payoutAmount: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    """Of an operation: what was given back of the payment by now, as the status calls it."""
    phone: str
    reason: str
    reasonCode: int
    reference: str = ""
    secret_hash: str
    secure: str = "no"
    secureDetails: str = ""
    terminal: str


class _SecretHash(msgspec.Struct):
    secret_hash: str = ""


_encode = msgspec.json.Encoder().encode


def render_success(order: Order, payment: Payment, at: datetime, *, seed_bodies: bool = False) -> bytes:
    """The body that tells an approved payment, decided at the aware instant `at`.

    `seed_bodies` (Terminal.seed_bodies) leaves exactly the fields of the documentation's sample.
    """
    return _encode(_payment_body(order, payment, at, seed_bodies))


def render_operation(
    order: Order, payment: Payment, kind: MessageKind, amount: int, at: datetime, *, seed_bodies: bool = False
) -> bytes:
    """The body that tells a capture, void or refund of `amount` minor units; `payment` as it stands after it.

    Neither `code` nor `reason` nor `reasonCode` is that of a success: it must not read as a new payment
    (docs/protocol.md §5).
    """
    code = OPERATION_CODES[kind]
    body = _payment_body(order, payment, at, seed_bodies)
    return _encode(
        msgspec.structs.replace(
            body,
            amount=_number(amount, payment.currency),
            code=code,
            orgAmount=_number(payment.amount, payment.currency),
            payoutAmount=_number(payment.refunded, payment.currency),
            reason=code,
            reasonCode=NO_REASON,
        )
    )


def _payment_body(order: Order, payment: Payment, at: datetime, seed_bodies: bool) -> _Body:
    return _Body(
        accountId=msgspec.UNSET if seed_bodies else order.account_id,
        acountId=order.account_id,
        amount=_number(payment.amount, payment.currency),
        approvalCode=payment.approval_code,
        cardId=str(payment.card_id),
        cardMask=payment.masked_pan,
        cardType=render_brand(payment.brand),
        code="ok",
        currency=payment.currency,
        data=_extra(order.data, seed_bodies),
        dateTime=render_instant(at),
        description=order.description,
        email=order.email,
        id=str(payment.id),
        invoiceId=order.invoice_id,
        invoiceIdAlt=_extra(order.invoice_id_alt, seed_bodies),
        ip=payment.ip,
        issuer=payment.issuer_name,
        language=render_language(order.language),
        name=order.name or payment.holder,
        phone=order.phone,
        reason=reason_text(0),
        reasonCode=0,
        reference=payment.rrn,
        secret_hash=order.secret_hash,
        secure="yes" if payment.is_authenticated else "no",
        secureDetails=render_secure_details(payment),
        terminal=str(order.terminal_id),
    )


def render_failure(
    order: Order, payment: Payment | None, at: datetime, reason_code: int, *, seed_bodies: bool = False
) -> bytes:
    """The body that tells a round that ended without an approved payment, decided at the aware instant `at`.

    `payment` is the last attempt; None if there was none: then `id` is the round's own. Card, approval code and
    reference stay empty, as in the documentation's sample.
    """
    return _encode(
        _Body(
            accountId=order.account_id,
            amount=_number(order.amount, order.currency),
            code="error",
            currency=order.currency,
            data=_extra(order.data, seed_bodies),
            dateTime=render_instant(at),
            description=order.description,
            email=order.email,
            id=str(payment.id if payment else order.round_id),
            invoiceId=order.invoice_id,
            invoiceIdAlt=_extra(order.invoice_id_alt, seed_bodies),
            ip=payment.ip if payment else "",
            issuer=payment.issuer_name if payment else "",
            language=render_language(order.language),
            name=order.name or (payment.holder if payment else ""),
            phone=order.phone,
            reason=reason_text(reason_code),
            reasonCode=reason_code,
            secret_hash=order.secret_hash,
            terminal=str(order.terminal_id),
        )
    )


def read_secret_hash(body: bytes) -> str:
    """The secret_hash that a rendered body holds."""
    return msgspec.json.decode(body, type=_SecretHash).secret_hash


def render_secure_details(payment: Payment) -> str:
    """`secureDetails` of an approved payment: `F` fully authenticated, `A` attempted, else empty."""
    return RULES[payment.trans_status].secure_details if payment.trans_status else ""


def render_instant(at: datetime) -> str:
    """An aware instant → RFC 3339 in Kazakhstan's time, always with six digits of fraction."""
    return at.astimezone(KAZAKHSTAN).isoformat(timespec="microseconds")


def _number(amount: int, currency: str) -> msgspec.Raw:
    """Minor units → the text of a JSON number, exact: no float on the way."""
    return msgspec.Raw(render_amount(amount, currency).encode())


def _extra(text: str, seed_bodies: bool) -> str | msgspec.UnsetType:
    return text if text and not seed_bodies else msgspec.UNSET
