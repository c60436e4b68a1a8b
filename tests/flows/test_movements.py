"""What a request repeats: every way to ask, against every operation that may be there."""

from datetime import timedelta
from typing import Any

import pytest

from tests.storage.build import AT, IDS, build_operation, build_order, build_payment
from tolem.domain.errors import Refusal, Refused
from tolem.domain.history import OrderHistory
from tolem.domain.payment import Operation, OperationKind, OperationStatus, Payment, PaymentStatus
from tolem.flows.movements import REPEAT_LIFETIME, MoneyRequest, find_repeated

CAPTURE, VOID, REFUND = OperationKind.CAPTURE, OperationKind.VOID, OperationKind.REFUND
OPEN, APPROVED, DECLINED = OperationStatus.UNKNOWN, OperationStatus.APPROVED, OperationStatus.DECLINED
HOUR = timedelta(hours=1)
ALL = {"amount": 10_000, "is_whole": True}
HALF = {"amount": 5_000}
KEYED, EXTERNAL = {"is_keyed": True}, {"external_id": "r-1"}

ORDER = build_order()
PAYMENT = build_payment(ORDER, status=PaymentStatus.CAPTURED, authorized=10_000, captured=10_000)


def history_with(*operations: Operation, payment: Payment = PAYMENT) -> OrderHistory:
    history = OrderHistory(ORDER)
    history.payments[payment.id] = payment
    for operation in operations:
        history.operations[operation.id] = operation
    return history


def refund(status: OperationStatus, **changes: Any) -> Operation:
    """A refund whose caller was told "in progress" an hour ago, and that ended half an hour ago, if it has."""
    ended = {} if status is OPEN else {"due_at": None, "finished_at": AT - HOUR / 2}
    return build_operation(PAYMENT, **{"kind": REFUND, "status": status, "doubted_at": AT - HOUR} | ended | changes)


def ask(amount: str | None = None, *, external: str = "", key: str = "", kind: OperationKind = REFUND) -> MoneyRequest:
    return MoneyRequest(kind, PAYMENT.id, amount, external, key, b"content")


REPEATS = (
    (refund(OPEN, **ALL), ask()),
    (refund(OPEN, **ALL), ask("100")),
    (refund(OPEN, **HALF), ask("50.00")),
    (refund(APPROVED, **ALL), ask()),
    (refund(APPROVED, **ALL), ask("100")),
    (refund(APPROVED, **HALF), ask("50")),
    (refund(APPROVED, **HALF, doubted_at=AT - 30 * HOUR), ask("50")),  # open for long, and told to nobody
    (refund(APPROVED, **HALF, finished_at=AT - REPEAT_LIFETIME + HOUR / 60), ask("50")),
    (refund(OPEN, **HALF, **EXTERNAL), ask("50", external="r-1")),
    (refund(APPROVED, **HALF, **EXTERNAL, doubted_at=None), ask(external="r-1")),
    (refund(DECLINED, **HALF, **EXTERNAL), ask("50", external="r-1", key="k")),
)
NEW = (
    (refund(APPROVED, **HALF), ask()),  # all that is left, not the half again
    (refund(APPROVED, **HALF), ask("40")),
    (refund(APPROVED, **HALF), ask("50", key="k")),
    (refund(APPROVED, **HALF), ask("50", external="r-1")),
    (refund(APPROVED, **HALF, **KEYED), ask("50")),
    (refund(APPROVED, **ALL, **KEYED), ask()),
    (refund(APPROVED, **HALF, **EXTERNAL), ask("50")),
    (refund(APPROVED, **HALF, doubted_at=None), ask("50")),
    (refund(DECLINED, **HALF), ask("50")),
    (refund(DECLINED, **ALL), ask()),
    (refund(APPROVED, **HALF, doubted_at=AT - 30 * HOUR, finished_at=AT - REPEAT_LIFETIME), ask("50")),
    (refund(APPROVED, **HALF, payment_id=IDS.new()), ask("50")),
    (refund(APPROVED, **ALL, kind=CAPTURE), ask()),
)
REFUSED = (
    (refund(OPEN, **HALF), ask(), Refusal.IN_PROGRESS),
    (refund(OPEN, **ALL), ask("50"), Refusal.IN_PROGRESS),
    (refund(OPEN, **HALF), ask("50", key="k"), Refusal.IN_PROGRESS),
    (refund(OPEN, **HALF), ask("50", external="r-1"), Refusal.IN_PROGRESS),
    (refund(OPEN, **HALF, **KEYED), ask("50"), Refusal.IN_PROGRESS),
    (refund(OPEN, **ALL, **KEYED), ask(), Refusal.IN_PROGRESS),
    (refund(OPEN, **HALF, **EXTERNAL), ask("50"), Refusal.IN_PROGRESS),
    (refund(OPEN, **ALL, kind=CAPTURE), ask(), Refusal.IN_PROGRESS),
    (refund(APPROVED, **HALF, **EXTERNAL), ask("51", external="r-1"), Refusal.KEY_REUSED),
    (refund(APPROVED, **HALF), ask("0"), Refusal.INVALID_REQUEST),
    (refund(APPROVED, **HALF), ask("1e1"), Refusal.INVALID_REQUEST),
)


@pytest.mark.parametrize(("operation", "request_"), REPEATS)
def test_a_repeat_finds_its_operation(operation: Operation, request_: MoneyRequest) -> None:
    assert find_repeated(history_with(operation), PAYMENT, request_, AT) == operation


@pytest.mark.parametrize(("operation", "request_"), NEW)
def test_what_repeats_nothing(operation: Operation, request_: MoneyRequest) -> None:
    assert find_repeated(history_with(operation), PAYMENT, request_, AT) is None


@pytest.mark.parametrize(("operation", "request_", "refusal"), REFUSED)
def test_what_is_refused(operation: Operation, request_: MoneyRequest, refusal: Refusal) -> None:
    with pytest.raises(Refused) as refused:
        find_repeated(history_with(operation), PAYMENT, request_, AT)
    assert refused.value.refusal is refusal


@pytest.mark.parametrize("kind", (CAPTURE, VOID))
def test_a_capture_and_a_void_are_repeated_the_same_way(kind: OperationKind) -> None:
    held = build_payment(ORDER, status=PaymentStatus.AUTHORIZED, authorized=10_000)
    asked = ask(kind=kind)._replace(payment_id=held.id)
    mine = {"kind": kind, "payment_id": held.id}
    approved = refund(APPROVED, **ALL, **mine)
    assert find_repeated(history_with(approved, payment=held), held, asked, AT) == approved
    declined = refund(DECLINED, **ALL, **mine)
    assert find_repeated(history_with(approved, declined, payment=held), held, asked, AT) == approved
    assert find_repeated(history_with(declined, payment=held), held, asked, AT) is None
    assert find_repeated(history_with(refund(APPROVED, **HALF, **mine), payment=held), held, asked, AT) is None


def test_the_newest_of_several_is_repeated() -> None:
    first, second = refund(APPROVED, **HALF), refund(APPROVED, **HALF)
    assert find_repeated(history_with(first, second), PAYMENT, ask("50"), AT) == second
