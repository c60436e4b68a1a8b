"""What a shop is told when it asks for the status of an order or a payment (docs/protocol.md §6).

Called by the merchant API with records that the flow has looked up. Pure: the same records give the same bytes. Names
differ from those of a notification (`invoiceID` here, `invoiceId` there), and so do types: `reasonCode` is a text,
`secure` a boolean.
"""

from enum import StrEnum
from typing import NamedTuple

import msgspec

from tolem.domain.money import render_amount
from tolem.domain.order import Order, OrderStatus
from tolem.domain.payment import OPEN_STATUSES, SUCCESSFUL_STATUSES, Payment, PaymentStatus
from tolem.wire.names import render_brand, render_language
from tolem.wire.post_link import render_instant, render_secure_details
from tolem.wire.reasons import reason_text


class ResultCode(StrEnum):
    """`resultCode`: what the question came to."""

    FOUND = "100"
    REJECTED = "101"
    NO_SUCH_INVOICE = "102"
    ERROR = "103"
    NO_TERMINAL = "104"  # the access token names none
    WRONG_TERMINAL = "106"  # the payment was made at another one
    IN_PROGRESS = "107"
    FOREIGN_TERMINAL = "109"  # the terminal is not this client's


RESULT_MESSAGES = {
    ResultCode.FOUND: "SUCCESS",
    ResultCode.REJECTED: "rejected",
    ResultCode.NO_SUCH_INVOICE: "there is no such invoice",
    ResultCode.ERROR: "error",
    ResultCode.NO_TERMINAL: "the access token has no terminal; name it in the token request",
    ResultCode.WRONG_TERMINAL: "the payment belongs to another terminal than the access token",
    ResultCode.IN_PROGRESS: "in progress, ask again",
    ResultCode.FOREIGN_TERMINAL: "the terminal does not belong to this client",
}
"""`SUCCESS` is the documentation's, the others are ours."""


class StatusName(StrEnum):
    """`statusName`."""

    NEW = "NEW"
    FINGERPRINT = "FINGERPRINT"
    CHALLENGE = "3D"
    AUTH = "AUTH"
    CHARGE = "CHARGE"
    CANCEL = "CANCEL"
    CANCEL_OLD = "CANCEL_OLD"
    REFUND = "REFUND"
    FAILED = "FAILED"
    REJECT = "REJECT"


STATUS_IDS = {name: str(number) for number, name in enumerate(StatusName, 1)}
"""`statusID`, a text: numbers of our choice, `1` for NEW to `10` for REJECT. The bank's own are ids of its database."""


class WireStatus(NamedTuple):
    """How a status of ours reads on the wire."""

    name: StatusName
    result: ResultCode


_R, _N = ResultCode, StatusName
STATUSES = {
    PaymentStatus.NEW: WireStatus(_N.NEW, _R.IN_PROGRESS),
    PaymentStatus.AUTHENTICATING: WireStatus(_N.CHALLENGE, _R.IN_PROGRESS),
    PaymentStatus.AUTHORIZING: WireStatus(_N.NEW, _R.IN_PROGRESS),
    PaymentStatus.UNKNOWN: WireStatus(_N.NEW, _R.IN_PROGRESS),
    PaymentStatus.AUTHORIZED: WireStatus(_N.AUTH, _R.FOUND),
    PaymentStatus.CAPTURED: WireStatus(_N.CHARGE, _R.FOUND),
    PaymentStatus.DECLINED: WireStatus(_N.REJECT, _R.REJECTED),
    PaymentStatus.VOIDED: WireStatus(_N.CANCEL, _R.FOUND),
    PaymentStatus.REFUNDED: WireStatus(_N.REFUND, _R.FOUND),
    PaymentStatus.FAILED: WireStatus(_N.FAILED, _R.REJECTED),
}
"""Every status of a payment. A hold that was released because of its age reads CANCEL_OLD, see payment_status."""

ORDER_STATUSES = {
    OrderStatus.OPEN: WireStatus(_N.NEW, _R.IN_PROGRESS),
    OrderStatus.FAILED: WireStatus(_N.FAILED, _R.REJECTED),
}
"""A round without an attempt."""

UNKNOWN_REASON = 454
"""Told while an outcome is being found out: not final, the amount may be held (docs/protocol.md §10)."""


class _Transaction(msgspec.Struct, kw_only=True):
    """Fields as the bank names them, in its order."""

    id: str
    createdDate: str
    invoiceID: str
    amount: msgspec.Raw
    """What remains. Amounts are numbers, whole ones without a fraction."""
    amountBonus: int = 0
    payoutAmount: msgspec.Raw
    """Refunded so far."""
    orgAmount: msgspec.Raw
    """As it was asked for."""
    approvalCode: str = ""
    data: str
    currency: str
    terminal: str
    """The bank has a number of eight digits here; tolem has the UUID only."""
    terminalID: str
    accountID: str
    description: str
    language: str
    cardMask: str = ""
    cardType: str = ""
    issuer: str = ""
    reference: str = ""
    reason: str
    reasonCode: str
    intReference: str = ""
    secure: bool = False
    secureDetails: str = ""
    statusID: str
    statusName: str
    name: str
    email: str
    phone: str
    cardID: str = ""
    xlsRRN: str = ""
    ip: str = ""
    # Where the payer's address lies: tolem asks no service about its payers.
    ipCountry: str = ""
    ipCity: str = ""
    ipRegion: str = ""
    ipDistrict: str = ""
    ipLatitude: int = 0
    ipLongitude: int = 0


class _Body(msgspec.Struct, kw_only=True):
    resultCode: str
    resultMessage: str
    transaction: _Transaction | None
    # Clients of the other calls read these two of every error.
    code: int | msgspec.UnsetType = msgspec.UNSET
    message: str | msgspec.UnsetType = msgspec.UNSET


_encode = msgspec.json.Encoder().encode


def payment_status(payment: Payment) -> WireStatus:
    """How one attempt stands."""
    if payment.status is PaymentStatus.VOIDED and payment.is_hold_expired:
        return WireStatus(StatusName.CANCEL_OLD, ResultCode.FOUND)
    return STATUSES[payment.status]


def order_status(order: Order, payment: Payment | None) -> WireStatus:
    """How an order stands, told by the attempt that counts; None: its round has none.

    While the round is open the payer may try another card, so a rejected attempt does not make the order rejected yet.
    """
    if payment is None:
        return ORDER_STATUSES[order.status]
    status = payment_status(payment)
    is_payable = order.status is OrderStatus.OPEN and payment.round_id == order.round_id
    if is_payable and status.result is ResultCode.REJECTED:
        return WireStatus(status.name, ResultCode.IN_PROGRESS)
    return status


def render_status(order: Order, payment: Payment | None, status: WireStatus) -> bytes:
    """The answer to a question that found something. Without an attempt `id` is the round's own."""
    transaction = _render_round(order, status) if payment is None else _render_payment(order, payment, status)
    return _encode(
        _Body(resultCode=status.result, resultMessage=RESULT_MESSAGES[status.result], transaction=transaction)
    )


def render_result(result: ResultCode, message: str = "", code: int = 100) -> bytes:
    """The answer to a question that found nothing. `message`: in place of the result's usual one."""
    message = message or RESULT_MESSAGES[result]
    return _encode(_Body(resultCode=result, resultMessage=message, transaction=None, code=code, message=message))


def remaining(payment: Payment) -> int:
    """`amount`, minor units: held, or taken and not given back. An attempt that moved nothing tells what was asked."""
    if payment.status in (PaymentStatus.CAPTURED, PaymentStatus.REFUNDED):
        return payment.captured - payment.refunded
    if payment.status is PaymentStatus.AUTHORIZED:
        return payment.authorized
    return 0 if payment.status is PaymentStatus.VOIDED else payment.amount


def _render_payment(order: Order, payment: Payment, status: WireStatus) -> _Transaction:
    is_successful = payment.status in SUCCESSFUL_STATUSES
    reason, reason_code = _reason(payment)
    return _Transaction(
        id=str(payment.id),
        createdDate=render_instant(payment.created_at),
        invoiceID=order.invoice_id,
        amount=_number(remaining(payment), payment.currency),
        payoutAmount=_number(payment.refunded, payment.currency),
        orgAmount=_number(payment.amount, payment.currency),
        approvalCode=payment.approval_code,
        data=order.data,
        currency=payment.currency,
        terminal=str(order.terminal_id),
        terminalID=str(order.terminal_id),
        accountID=order.account_id,
        description=order.description,
        language=render_language(order.language),
        cardMask=payment.masked_pan,
        cardType=render_brand(payment.brand),
        issuer=payment.issuer_name,
        reference=payment.rrn,
        reason=reason,
        reasonCode=reason_code,
        secure=payment.is_authenticated,
        secureDetails=render_secure_details(payment),
        statusID=STATUS_IDS[status.name],
        statusName=status.name,
        name=order.name or payment.holder,
        email=order.email,
        phone=order.phone,
        cardID=str(payment.card_id) if is_successful else "",
        ip=payment.ip,
    )


def _render_round(order: Order, status: WireStatus) -> _Transaction:
    has_failed = order.status is OrderStatus.FAILED
    return _Transaction(
        id=str(order.round_id),
        createdDate=render_instant(order.created_at),
        invoiceID=order.invoice_id,
        amount=_number(order.amount, order.currency),
        payoutAmount=_number(0, order.currency),
        orgAmount=_number(order.amount, order.currency),
        data=order.data,
        currency=order.currency,
        terminal=str(order.terminal_id),
        terminalID=str(order.terminal_id),
        accountID=order.account_id,
        description=order.description,
        language=render_language(order.language),
        reason=reason_text(order.reason_code) if has_failed else "",
        reasonCode=str(order.reason_code) if has_failed else "",
        statusID=STATUS_IDS[status.name],
        statusName=status.name,
        name=order.name,
        email=order.email,
        phone=order.phone,
    )


def _reason(payment: Payment) -> tuple[str, str]:
    """`reason` and `reasonCode`. Both are empty while the attempt goes on: code 0 would read as success."""
    if payment.status is PaymentStatus.UNKNOWN:
        return reason_text(UNKNOWN_REASON), str(UNKNOWN_REASON)
    if payment.status in OPEN_STATUSES:
        return "", ""
    code = 0 if payment.status in SUCCESSFUL_STATUSES else payment.reason_code
    return reason_text(code), str(code)


def _number(amount: int, currency: str) -> msgspec.Raw:
    """Minor units → the text of a JSON number, exact: no float on the way."""
    return msgspec.Raw(render_amount(amount, currency).encode())
