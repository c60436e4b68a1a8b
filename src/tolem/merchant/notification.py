"""The notification (postLink) that tells a shop how a payment ended, and, if its terminal wants to be told, what became
of the money later (docs/protocol.md §5).

Called by the shop's postLink handler: `read_invoice_id` to find the order, `verify_post_link` to believe the body,
then the order is changed, and only then 2xx is answered. A shop that is told of charges, cancels and refunds calls
`verify_notification` instead. Invariant: a `Notification` exists only for a body that knows the order's secret_hash and
agrees with the order in invoice, amount, currency and terminal; and, where the shop has a webhook secret, only for a
request that was signed with it in the last five minutes. An `OperationNotification` is never taken for one.
"""

import hmac
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from typing import NoReturn

from tolem.merchant.amount import Amount, exact
from tolem.merchant.signature import InvalidNotification, verify_signature

__all__ = ["ExpectedPayment", "InvalidNotification", "Notification", "read_invoice_id", "verify_post_link"]

BODY_BYTES_MAX = 64 * 1024
"""A postLink has about 1 KB; a handler need not read more than this."""

_OUTCOMES = {"ok": True, "error": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedPayment:
    """What the shop's own records say about the order. The same rules as for OrderRequest."""

    invoice_id: str
    amount: Amount
    """In the main unit, exact."""
    currency: str
    terminal_id: str
    secret_hash: str = field(repr=False)
    """The one sent with the token request of this order."""

    def __post_init__(self) -> None:
        exact(self.amount)
        if not self.secret_hash:
            raise ValueError("secret_hash is empty: anybody could have sent the notification")


@dataclass(frozen=True, slots=True, kw_only=True)
class Notification:
    """A verified outcome. Texts that the gateway left out are empty."""

    is_paid: bool
    """True: the money is taken or held. False: this attempt, or the whole order, failed; see reason."""
    payment_id: str
    """The gateway's id, for status, capture and refund. A repeated notification has the same one."""
    invoice_id: str
    amount: Decimal
    currency: str
    approval_code: str
    """6 characters from the issuer; empty on failure."""
    reference: str
    """RRN, 12 digits; empty on failure."""
    card_mask: str
    card_type: str
    reason: str
    reason_code: int
    """0 on success, else docs/protocol.md §10."""
    account_id: str
    """The gateway spells it `accountId` or `acountId`."""
    message_id: str
    """The same on every try to deliver this notification; empty if no signature was verified."""
    raw: Mapping[str, object]
    """All fields as they came, numbers exact, without secret_hash: safe to log."""


class Operation(StrEnum):
    """What became of a payment's money after it was paid, in the words of the calls that do it."""

    CHARGE = "charge"  # of the held amount this much was taken, the rest is released; once
    CANCEL = "cancel"  # the hold was released; nothing is taken
    REFUND = "refund"  # this much was given back; may come several times


_OPERATIONS = {operation.value: operation for operation in Operation}


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationNotification:
    """A verified change of a payment that was told before. It pays for nothing."""

    operation: Operation
    payment_id: str
    """The one that was told as paid."""
    invoice_id: str
    amount: Decimal
    """Charged, released or given back by this operation; at most the order's amount."""
    refunded: Decimal
    """Given back by now, this operation included. A repeated notification has the same one, a further refund more."""
    currency: str
    reference: str
    """RRN of the payment."""
    message_id: str
    """webhook-id: the same on every try. Empty: its signature was not looked at."""
    raw: Mapping[str, object]
    """All fields as they came, numbers exact, without secret_hash: safe to log."""


def verify_post_link(
    body: bytes,
    expected: ExpectedPayment,
    headers: Mapping[str, str] | None = None,
    *,
    webhook_secret: str | Sequence[str] | None = None,
) -> Notification:
    """A postLink, if it is true of this order. Raises InvalidNotification for everything else.

    webhook_secret: the terminal's `whsec_…`, or several while it is being replaced; the request's headers are needed
    with it. None: the gateway signs nothing, as the bank. Secrets are compared in constant time and first; amounts are
    compared as decimals, `100.00` is 100. That the same notification comes again is normal (the gateway repeats it
    until it sees a 2xx): treat it as told. Raises ValueError for a secret that is none.
    """
    told = verify_notification(body, expected, headers, webhook_secret=webhook_secret)
    if isinstance(told, OperationNotification):
        raise InvalidNotification(f"code is {told.operation.value!r}, no payment: verify_notification takes it")
    return told


def verify_notification(
    body: bytes,
    expected: ExpectedPayment,
    headers: Mapping[str, str] | None = None,
    *,
    webhook_secret: str | Sequence[str] | None = None,
) -> Notification | OperationNotification:
    """The same for a shop whose terminal tells of charges, cancels and refunds, too: ask which of the two came."""
    message_id = ""
    if webhook_secret is not None:
        if headers is None:
            raise TypeError("verify_post_link needs the request's headers to verify its signature")
        message_id = verify_signature(body, headers, webhook_secret)
    payload = _parse(body)
    secret = payload.get("secret_hash")
    # surrogatepass: JSON may carry half a surrogate pair, which plain UTF-8 can't write.
    given = secret.encode(errors="surrogatepass") if isinstance(secret, str) else b""
    if not hmac.compare_digest(given, expected.secret_hash.encode(errors="surrogatepass")):
        raise InvalidNotification("secret_hash is not the one of this order")
    if (invoice := _text(payload, "invoiceId")) != expected.invoice_id:
        _differs("invoiceId", invoice, expected.invoice_id)
    if (currency := _text(payload, "currency")) != expected.currency:
        _differs("currency", currency, expected.currency)
    if (terminal := _text(payload, "terminal")).lower() != expected.terminal_id.lower():
        _differs("terminal", terminal, expected.terminal_id)
    code = _text(payload, "code")
    if code in _OUTCOMES:
        return _read_outcome(payload, expected, message_id, _OUTCOMES[code])
    if code in _OPERATIONS:
        return _read_operation(payload, expected, message_id, _OPERATIONS[code])
    raise InvalidNotification(f"code is {code[:16]!r}, not 'ok' or 'error', and no operation")


def read_invoice_id(body: bytes) -> str:
    """The order that a body claims to be about. UNVERIFIED: anybody may have sent it; use it only to find the order
    whose secret verify_post_link then compares. Raises InvalidNotification if there is none."""
    invoice = _text(_parse(body), "invoiceId")
    if not (invoice.isascii() and invoice.isdecimal() and len(invoice) <= 15):
        raise InvalidNotification(f"invoiceId {invoice[:32]!r} is not a number of up to 15 digits")
    return invoice


def _read_outcome(
    payload: Mapping[str, object], expected: ExpectedPayment, message_id: str, is_paid: bool
) -> Notification:
    amount = _amount(payload, "amount")
    if amount != exact(expected.amount):
        _differs("amount", amount, expected.amount)
    reason_code = _reason_code(payload.get("reasonCode", 0))
    if is_paid and reason_code != 0:
        raise InvalidNotification(f"code is 'ok' beside reasonCode {reason_code}: one of the two is wrong")
    return Notification(
        is_paid=is_paid,
        payment_id=_text(payload, "id"),
        invoice_id=expected.invoice_id,
        amount=amount,
        currency=expected.currency,
        approval_code=_text(payload, "approvalCode"),
        reference=_text(payload, "reference"),
        card_mask=_text(payload, "cardMask"),
        card_type=_text(payload, "cardType"),
        reason=_text(payload, "reason"),
        reason_code=reason_code,
        account_id=_text(payload, "accountId") or _text(payload, "acountId"),
        message_id=message_id,
        raw=_without_secret(payload),
    )


def _read_operation(
    payload: Mapping[str, object], expected: ExpectedPayment, message_id: str, operation: Operation
) -> OperationNotification:
    amount, refunded = _amount(payload, "amount"), _amount(payload, "payoutAmount")
    if not 0 < amount <= exact(expected.amount):
        raise InvalidNotification(f"{operation} of {amount}, the order has {expected.amount}")
    if not (amount if operation is Operation.REFUND else 0) <= refunded <= exact(expected.amount):
        raise InvalidNotification(f"payoutAmount is {refunded} after {operation} of {amount} of {expected.amount}")
    return OperationNotification(
        operation=operation,
        payment_id=_text(payload, "id"),
        invoice_id=expected.invoice_id,
        amount=amount,
        refunded=refunded,
        currency=expected.currency,
        reference=_text(payload, "reference"),
        message_id=message_id,
        raw=_without_secret(payload),
    )


def _without_secret(payload: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in payload.items() if name != "secret_hash"}


def _parse(body: bytes) -> dict[str, object]:
    if len(body) > BODY_BYTES_MAX:
        raise InvalidNotification(f"the body has {len(body)} bytes, a notification has at most {BODY_BYTES_MAX}")
    try:
        payload = json.loads(body, parse_float=Decimal, parse_constant=_refuse_constant)
    except (ValueError, InvalidOperation, RecursionError) as problem:
        raise InvalidNotification(f"the body is not JSON: {type(problem).__name__}") from problem
    if not isinstance(payload, dict):
        raise InvalidNotification("the body is not a JSON object")
    return payload


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")  # NaN and Infinity, which Python would read


def _differs(name: str, given: object, expected: object) -> NoReturn:
    raise InvalidNotification(f"{name} is {str(given)[:64]!r}, the order has {str(expected)!r}")


def _text(payload: Mapping[str, object], name: str) -> str:
    value = payload.get(name)
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise InvalidNotification(f"{name} is not a text")
    return str(value)


def _amount(payload: Mapping[str, object], name: str) -> Decimal:
    value = payload.get(name)
    if isinstance(value, bool) or not isinstance(value, Decimal | int | str):
        raise InvalidNotification(f"{name} is not a number")
    try:
        return exact(value)
    except ValueError as problem:
        raise InvalidNotification(str(problem)) from problem


def _reason_code(value: object) -> int:
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 10:
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidNotification("reasonCode is not a number")
    return value
