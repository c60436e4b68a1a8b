"""What a shop may move, and what it repeats by asking again. Pure decisions about one order's history.

Called by `operations`. Money moves only on a call that repeats nothing, and within what status and totals allow.
"""

from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from tolem.domain.errors import Refusal, Refused
from tolem.domain.history import OrderHistory
from tolem.domain.money import InvalidAmount, parse_amount, render_amount
from tolem.domain.payment import CARD_KINDS, Operation, OperationKind, OperationStatus, Payment, PaymentStatus
from tolem.ids import rrn

REFUND_LEAST = {"KZT": 1_000}
"""Minor units: a refund is at least 10 KZT, or all that is left (docs/protocol.md §7)."""
REPEAT_LIFETIME = timedelta(hours=24)
"""So long a repeat without a key returns the result of an approved operation whose caller may not know it."""
_PAST = {OperationKind.CAPTURE: "captured", OperationKind.VOID: "cancelled"}


class MoneyRequest(NamedTuple):
    """What a shop asks for."""

    kind: OperationKind
    """capture, void or refund."""
    payment_id: UUID
    amount: str | None
    """Decimal text; None: all that there is."""
    external_id: str
    """The shop's own key of a refund; empty: none."""
    idempotency_key: str
    """Empty: none."""
    content: bytes
    """All that was asked for: the same key with other content is refused."""


class Draft(NamedTuple):
    """What is chosen before a decision, which may run more than once."""

    id: UUID
    stan: str
    at: datetime
    until: datetime
    """Real time: `Operation.asked_until`, and when recovery may take it up."""


def find_repeated(history: OrderHistory, payment: Payment, request: MoneyRequest, at: datetime) -> Operation | None:
    """The operation that a request repeats (docs/protocol.md §7). Raises Refused(IN_PROGRESS) if another one of the
    payment is open, and KEY_REUSED if the refund's own key was used for another amount.

    What was declined has moved nothing: without a key it is not repeated, but asked for anew.
    """
    amount = _asked_amount(payment, request)
    ours = [o for o in history.operations.values() if o.payment_id == payment.id and o.kind is request.kind]
    if request.external_id:
        for operation in ours:
            if operation.external_id == request.external_id:
                if amount is not None and amount != operation.amount:
                    raise Refused(Refusal.KEY_REUSED, "externalID was used for another amount", "externalID")
                return operation
    open_operation = history.open_operation(payment.id)
    if open_operation is not None:
        if open_operation.kind is request.kind and _asks_for(request, amount, open_operation):
            return open_operation
        raise _busy(open_operation)
    for operation in sorted(ours, key=lambda o: o.id, reverse=True):
        is_approved = operation.status is OperationStatus.APPROVED
        if is_approved and _asks_for(request, amount, operation) and _may_be_untold(operation, at):
            return operation
    return None


def is_untold(operation: Operation) -> bool:
    """Its caller may not have been told the result, and nobody was told "in progress": one telling ends the doubt. Who
    was told "in progress" may be several, who repeat for a day (docs/protocol.md §7)."""
    return operation.doubted_at is not None and operation.doubted_at == operation.created_at


def may_be_being_told(operation: Operation, at: datetime, duration: timedelta) -> bool:
    """It ended less than that long ago, and its caller may be reading the result now."""
    ended_at = operation.finished_at
    return is_untold(operation) and ended_at is not None and at - ended_at < duration


def check(payment: Payment, request: MoneyRequest, at: datetime) -> int:
    """The amount to move, in minor units. Raises Refused where status or totals forbid it."""
    if request.kind is OperationKind.REFUND:
        return _check_refund(payment, request)
    if payment.status is not PaymentStatus.AUTHORIZED:
        raise Refused(
            Refusal.WRONG_STATE, f"the payment is {payment.status}; only an authorized one can be {_PAST[request.kind]}"
        )
    if request.kind is OperationKind.VOID:
        return payment.authorized
    if payment.authorized == 0:
        raise Refused(Refusal.WRONG_STATE, "a card verification holds nothing that could be captured")
    if payment.hold_expires_at is not None and at >= payment.hold_expires_at:
        raise Refused(Refusal.WRONG_STATE, "the hold has expired and is being released")
    amount = _asked_amount(payment, request)
    if amount is not None and amount > payment.authorized:
        raise _above(payment.authorized, payment.currency, "is held")
    return payment.authorized if amount is None else amount


def check_release(history: OrderHistory, payment: Payment, at: datetime) -> None:
    """Raises Refused unless the hold is still there, has expired, and nobody is moving it."""
    open_operation = history.open_operation(payment.id)
    if open_operation is not None:
        raise _busy(open_operation)
    if payment.status is not PaymentStatus.AUTHORIZED:
        raise Refused(Refusal.WRONG_STATE, f"the payment is {payment.status}")
    if payment.release_at is None or at < payment.release_at:
        raise Refused(Refusal.WRONG_STATE, "the hold is not to be released yet")


def prepare(
    history: OrderHistory, payment: Payment, kind: OperationKind, amount: int, draft: Draft, **details: Any
) -> Operation:
    """The operation that will move `amount`, minor units. `details`: other fields of it."""
    return Operation(
        id=draft.id,
        order_id=payment.order_id,
        payment_id=payment.id,
        kind=kind,
        status=OperationStatus.PREPARED,
        amount=amount,
        stan=draft.stan,
        rrn=rrn(draft.at, draft.stan),
        original_id=_original(history, payment).id,
        is_whole=amount == _rest(payment, kind),
        due_at=draft.until,
        asked_until=draft.until,
        created_at=draft.at,
        **details,
    )


def _asks_for(request: MoneyRequest, amount: int | None, operation: Operation) -> bool:
    """Neither has a key of its own, and they ask for the same.

    A key makes a request of its own. Joined to another's operation it would be forgotten, and its repeat would move
    money; and whoever has no key would take the result of another request for its own.
    """
    if request.idempotency_key or request.external_id or operation.is_keyed or operation.external_id:
        return False
    return operation.is_whole if amount is None else amount == operation.amount


def _may_be_untold(operation: Operation, at: datetime) -> bool:
    """Its caller may not know the result, and has not had a day yet to ask again."""
    if operation.doubted_at is None or operation.finished_at is None:
        return False
    return at - max(operation.doubted_at, operation.finished_at) < REPEAT_LIFETIME


def _asked_amount(payment: Payment, request: MoneyRequest) -> int | None:
    """Minor units; None: all that there is. Raises Refused."""
    if request.amount is None or request.kind is OperationKind.VOID:
        return None
    try:
        amount = parse_amount(request.amount, payment.currency)
    except InvalidAmount as error:
        raise Refused(Refusal.INVALID_REQUEST, str(error), "amount") from error
    if amount == 0:
        raise Refused(Refusal.INVALID_REQUEST, "amount must be above 0", "amount")
    return amount


def _check_refund(payment: Payment, request: MoneyRequest) -> int:
    if payment.status is not PaymentStatus.CAPTURED:
        raise Refused(Refusal.WRONG_STATE, f"the payment is {payment.status}; only a captured one can be refunded")
    rest, asked = _rest(payment, request.kind), _asked_amount(payment, request)
    amount = rest if asked is None else asked
    if amount > rest:
        raise _above(rest, payment.currency, "is left")
    if amount < min(rest, REFUND_LEAST.get(payment.currency, 1)):
        raise Refused(Refusal.INVALID_REQUEST, "a refund is at least 10 KZT, or all that is left", "amount")
    return amount


def _rest(payment: Payment, kind: OperationKind) -> int:
    """All that an operation of that kind could move, minor units."""
    return payment.captured - payment.refunded if kind is OperationKind.REFUND else payment.authorized


def _original(history: OrderHistory, payment: Payment) -> Operation:
    """The authorize or purchase that made the payment."""
    for operation in history.operations.values():
        if (
            operation.payment_id == payment.id
            and operation.kind in CARD_KINDS
            and operation.status is OperationStatus.APPROVED
        ):
            return operation
    raise LookupError(f"payment {payment.id} has no approved authorize or purchase")


def _busy(operation: Operation) -> Refused:
    return Refused(Refusal.IN_PROGRESS, f"a {operation.kind} of this payment is in progress; ask for its status first")


def _above(limit: int, currency: str, words: str) -> Refused:
    text = f"amount is above the {render_amount(limit, currency)} {currency} that {words}"
    return Refused(Refusal.INVALID_REQUEST, text, "amount")
