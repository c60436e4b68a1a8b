"""Answers to questions for the status: the golden vectors, and every rule that departs from them."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.wire.test_post_link import AT, ORDER, PAYMENT, ROUND_ID
from tolem.domain.authentication import TransStatus
from tolem.domain.card import Brand
from tolem.domain.money import AMOUNT_MAX, EXPONENTS
from tolem.domain.order import Order, OrderStatus
from tolem.domain.payment import OPEN_STATUSES, SUCCESSFUL_STATUSES, Payment, PaymentStatus
from tolem.wire.status import (
    RESULT_MESSAGES,
    STATUS_IDS,
    STATUSES,
    ResultCode,
    StatusName,
    order_status,
    payment_status,
    render_result,
    render_status,
)

VECTORS = Path(__file__).parent / "vectors"
FIELDS = [
    "id",
    "createdDate",
    "invoiceID",
    "amount",
    "amountBonus",
    "payoutAmount",
    "orgAmount",
    "approvalCode",
    "data",
    "currency",
    "terminal",
    "terminalID",
    "accountID",
    "description",
    "language",
    "cardMask",
    "cardType",
    "issuer",
    "reference",
    "reason",
    "reasonCode",
    "intReference",
    "secure",
    "secureDetails",
    "statusID",
    "statusName",
    "name",
    "email",
    "phone",
    "cardID",
    "xlsRRN",
    "ip",
    "ipCountry",
    "ipCity",
    "ipRegion",
    "ipDistrict",
    "ipLatitude",
    "ipLongitude",
]
NUMBERS = ("amount", "amountBonus", "payoutAmount", "orgAmount", "ipLatitude", "ipLongitude")

OPEN = replace(ORDER, status=OrderStatus.OPEN)
UNPAID = replace(ORDER, status=OrderStatus.FAILED, reason_code=476)
DECLINED = replace(
    PAYMENT,
    status=PaymentStatus.DECLINED,
    authorized=0,
    captured=0,
    approval_code="",
    reason_code=484,
    trans_status=TransStatus.UNAVAILABLE,
)
VECTOR_CASES: dict[str, tuple[Order, Payment | None]] = {
    "status_charge": (ORDER, PAYMENT),
    "status_partly_refunded": (
        replace(ORDER, data='{"custom_id":"2026"}'),
        replace(PAYMENT, amount=2222, authorized=2222, captured=2222, refunded=1000),
    ),
    "status_refund": (ORDER, replace(PAYMENT, status=PaymentStatus.REFUNDED, refunded=80000)),
    "status_auth": (ORDER, replace(PAYMENT, status=PaymentStatus.AUTHORIZED, captured=0)),
    "status_cancel_old": (
        ORDER,
        replace(PAYMENT, status=PaymentStatus.VOIDED, captured=0, is_hold_expired=True),
    ),
    "status_reject": (replace(ORDER, status=OrderStatus.FAILED, reason_code=484), DECLINED),
    "status_unknown": (OPEN, replace(DECLINED, status=PaymentStatus.UNKNOWN, reason_code=0)),
    "status_new": (OPEN, None),
    "status_failed": (UNPAID, None),
}


def render(order: Order, payment: Payment | None) -> bytes:
    return render_status(order, payment, order_status(order, payment))


def transaction(order: Order, payment: Payment | None) -> dict[str, object]:
    found = json.loads(render(order, payment))["transaction"]
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize("name", tuple(VECTOR_CASES))
def test_answer_is_the_golden_body(name: str) -> None:
    vector = json.loads((VECTORS / f"{name}.json").read_text(encoding="utf-8"))
    assert render(*VECTOR_CASES[name]).decode() == vector["body"]


@pytest.mark.parametrize("name", tuple(VECTOR_CASES))
def test_golden_body_reads_as_clients_type_it(name: str) -> None:
    """The other direction: what a client's model of the bank's answer makes of the vector."""
    body = json.loads(json.loads((VECTORS / f"{name}.json").read_text(encoding="utf-8"))["body"])
    assert list(body) == ["resultCode", "resultMessage", "transaction"]
    assert body["resultCode"] in set(ResultCode)
    told = body["transaction"]
    assert list(told) == FIELDS
    assert {field for field, value in told.items() if not isinstance(value, str)} == {*NUMBERS, "secure"}
    assert isinstance(told["secure"], bool)
    assert all(isinstance(told[field], int | float) and not isinstance(told[field], bool) for field in NUMBERS)
    assert datetime.fromisoformat(told["createdDate"]) == AT
    assert STATUS_IDS[StatusName(told["statusName"])] == told["statusID"]
    order, payment = VECTOR_CASES[name]
    assert UUID(told["id"]) == (payment.id if payment else order.round_id)


@pytest.mark.parametrize(
    ("status", "name", "result"),
    (
        (PaymentStatus.NEW, "NEW", "107"),
        (PaymentStatus.AUTHENTICATING, "3D", "107"),
        (PaymentStatus.AUTHORIZING, "NEW", "107"),
        (PaymentStatus.UNKNOWN, "NEW", "107"),
        (PaymentStatus.AUTHORIZED, "AUTH", "100"),
        (PaymentStatus.CAPTURED, "CHARGE", "100"),
        (PaymentStatus.DECLINED, "REJECT", "101"),
        (PaymentStatus.VOIDED, "CANCEL", "100"),
        (PaymentStatus.REFUNDED, "REFUND", "100"),
        (PaymentStatus.FAILED, "FAILED", "101"),
    ),
)
def test_every_status_of_a_payment_has_its_name(status: PaymentStatus, name: str, result: str) -> None:
    assert payment_status(replace(PAYMENT, status=status)) == (name, result)
    assert len(STATUSES) == len(PaymentStatus)


def test_a_decline_does_not_end_an_order_that_may_still_be_paid() -> None:
    assert order_status(OPEN, DECLINED) == ("REJECT", "107")
    assert order_status(replace(ORDER, status=OrderStatus.FAILED), DECLINED) == ("REJECT", "101")
    assert payment_status(DECLINED) == ("REJECT", "101")


@pytest.mark.parametrize(
    ("payment", "amounts"),
    (
        (PAYMENT, (800, 0, 800)),
        (replace(PAYMENT, captured=60000), (600, 0, 800)),
        (replace(PAYMENT, captured=60000, refunded=10050), (499.5, 100.5, 800)),
        (replace(PAYMENT, status=PaymentStatus.REFUNDED, captured=60000, refunded=60000), (0, 600, 800)),
        (replace(PAYMENT, status=PaymentStatus.AUTHORIZED, captured=0), (800, 0, 800)),
        (replace(PAYMENT, status=PaymentStatus.VOIDED, captured=0), (0, 0, 800)),
        (DECLINED, (800, 0, 800)),
        (replace(DECLINED, status=PaymentStatus.AUTHORIZING), (800, 0, 800)),
    ),
)
def test_amounts_tell_what_remains(payment: Payment, amounts: tuple[float, ...]) -> None:
    told = transaction(ORDER, payment)
    assert (told["amount"], told["payoutAmount"], told["orgAmount"]) == amounts


@given(
    amount=st.integers(0, AMOUNT_MAX),
    currency=st.sampled_from(sorted(EXPONENTS)),
    share=st.fractions(min_value=0, max_value=1),
)
def test_amounts_are_exact(amount: int, currency: str, share: float) -> None:
    refunded = int(amount * share)
    payment = replace(PAYMENT, amount=amount, authorized=amount, captured=amount, refunded=refunded, currency=currency)
    body = json.loads(render(ORDER, payment), parse_float=Decimal, parse_int=Decimal)["transaction"]
    assert body["amount"].scaleb(EXPONENTS[currency]) == amount - refunded
    assert body["payoutAmount"] + body["amount"] == body["orgAmount"]


@pytest.mark.parametrize("status", tuple(PaymentStatus))
def test_only_success_reads_as_success(status: PaymentStatus) -> None:
    told = transaction(OPEN, replace(DECLINED, status=status))
    assert (told["reasonCode"] == "0") == (told["reason"] == "success") == (status in SUCCESSFUL_STATUSES)
    assert (told["cardID"] != "") == (status in SUCCESSFUL_STATUSES)
    if status is PaymentStatus.UNKNOWN:
        assert told["reasonCode"] == "454"
    elif status in OPEN_STATUSES:
        assert (told["reason"], told["reasonCode"]) == ("", "")


def test_round_without_an_attempt_is_told_under_its_own_id() -> None:
    told = transaction(UNPAID, None)
    assert (told["id"], told["reasonCode"], told["statusName"]) == (str(ROUND_ID), "476", "FAILED")
    assert (told["cardMask"], told["reference"], told["ip"]) == ("", "", "")


@pytest.mark.parametrize("brand", tuple(Brand))
def test_every_brand_has_a_spelling(brand: Brand) -> None:
    assert transaction(ORDER, replace(PAYMENT, brand=brand))["cardType"]


@pytest.mark.parametrize("result", tuple(ResultCode))
def test_what_was_not_found_has_both_forms_of_an_error(result: ResultCode) -> None:
    body = json.loads(render_result(result))
    message = RESULT_MESSAGES[result]
    assert body == {
        "resultCode": result,
        "resultMessage": message,
        "transaction": None,
        "code": 100,
        "message": message,
    }
    told = json.loads(render_result(result, "why", 461))
    assert (told["resultMessage"], told["message"], told["code"]) == ("why", "why", 461)


def test_name_is_the_cards_where_the_shop_gave_none() -> None:
    assert transaction(replace(ORDER, name=""), PAYMENT)["name"] == "ARMAN ALI"


def test_created_is_told_in_kazakhstans_time() -> None:
    payment = replace(PAYMENT, created_at=datetime(2026, 12, 31, 19, 0, tzinfo=UTC))
    assert transaction(ORDER, payment)["createdDate"] == "2027-01-01T00:00:00.000000+05:00"
