"""Bodies of postLink and failurePostLink: the golden vectors, and every rule that departs from them."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tolem.domain.authentication import TransStatus
from tolem.domain.card import Brand
from tolem.domain.message import MessageKind
from tolem.domain.money import AMOUNT_MAX, EXPONENTS
from tolem.domain.order import Order, OrderStatus
from tolem.domain.payment import Payment, PaymentStatus
from tolem.wire.post_link import OPERATION_CODES, render_failure, render_instant, render_operation, render_success

VECTORS = Path(__file__).parent / "vectors"
AT = datetime(2026, 11, 24, 4, 42, 51, 960781, tzinfo=UTC)
PAYMENT_ID = UUID("019ab3c4-5d00-7000-8000-0000000000a1")
ROUND_ID = UUID("019ab3c4-5d00-7000-8000-0000000000b2")
ORDER_ID = UUID("019ab3c4-5d00-7000-8000-0000000000c3")

ORDER = Order(
    id=ORDER_ID,
    terminal_id=UUID("67e34d63-102f-4bd1-898e-370781d0074d"),
    invoice_id="000000001",
    status=OrderStatus.PAID,
    round_id=ROUND_ID,
    amount=80000,
    currency="KZT",
    secret_hash="JDKCNDDGGDTPSKJD",
    account_id="testuser1",
    language="ru",
    description="Оплата в интернет магазине",
    email="example@example.com",
    phone="77777777777",
    name="Arman Ali",
    created_at=AT,
    updated_at=AT,
)
PAYMENT = Payment(
    id=PAYMENT_ID,
    order_id=ORDER_ID,
    round_id=ROUND_ID,
    status=PaymentStatus.CAPTURED,
    amount=80000,
    currency="KZT",
    authorized=80000,
    captured=80000,
    masked_pan="440043...0128",
    brand=Brand.VISA,
    holder="ARMAN ALI",
    issuer_name="Tolem Sandbox Bank",
    stan="123456",
    rrn="632804123456",
    approval_code="178644",
    eci="05",
    trans_status=TransStatus.AUTHENTICATED,
    ip="192.0.2.7",
    card_id=UUID("4cd44b44-4445-44a6-a063-1b01040a44c4"),
    created_at=AT,
    updated_at=AT,
)


def read_vector(name: str) -> str:
    body = json.loads((VECTORS / f"{name}.json").read_text(encoding="utf-8"))["body"]
    assert isinstance(body, str)
    return body


def test_success_is_the_golden_body() -> None:
    assert render_success(ORDER, PAYMENT, AT, seed_bodies=True).decode() == read_vector("post_link_success")


@pytest.mark.parametrize("seed_bodies", (True, False))
def test_failure_is_the_golden_body(seed_bodies: bool) -> None:
    assert render_failure(ORDER, PAYMENT, AT, 473, seed_bodies=seed_bodies).decode() == read_vector("post_link_failure")


def test_success_names_the_account_both_ways() -> None:
    body = json.loads(render_success(ORDER, PAYMENT, AT))
    assert (body["accountId"], body["acountId"]) == ("testuser1", "testuser1")
    del body["accountId"]
    assert list(body.items()) == list(json.loads(read_vector("post_link_success")).items())


def test_shops_own_texts_come_back_unless_the_sample_is_wanted() -> None:
    order = replace(ORDER, data='{"cart":"№7"}', invoice_id_alt="8564546")
    for body in (render_success(order, PAYMENT, AT), render_failure(order, PAYMENT, AT, 484)):
        fields = json.loads(body)
        assert (fields["data"], fields["invoiceIdAlt"]) == ('{"cart":"№7"}', "8564546")
        assert list(fields) == sorted(fields, key=_sample_order)
    assert render_success(order, PAYMENT, AT, seed_bodies=True).decode() == read_vector("post_link_success")
    assert render_failure(order, PAYMENT, AT, 473, seed_bodies=True).decode() == read_vector("post_link_failure")


def test_failure_without_an_attempt_is_told_under_the_round() -> None:
    body = json.loads(render_failure(replace(ORDER, name=""), None, AT, 476))
    assert body["id"] == str(ROUND_ID)
    assert (body["reasonCode"], body["reason"], body["code"]) == (476, "No action taken", "error")
    assert (body["ip"], body["issuer"], body["name"], body["secure"]) == ("", "", "", "no")


@pytest.mark.parametrize(
    ("status", "secure", "details"),
    (
        (TransStatus.AUTHENTICATED, "yes", "F"),
        (TransStatus.ATTEMPTED, "no", "A"),
        (TransStatus.UNAVAILABLE, "no", ""),
        (TransStatus.INFORMATION, "no", ""),
        (None, "no", ""),
    ),
)
def test_what_authentication_came_to(status: TransStatus | None, secure: str, details: str) -> None:
    body = json.loads(render_success(ORDER, replace(PAYMENT, trans_status=status), AT))
    assert (body["secure"], body["secureDetails"]) == (secure, details)


def test_name_is_the_cards_where_the_shop_gave_none() -> None:
    assert json.loads(render_success(replace(ORDER, name=""), PAYMENT, AT))["name"] == "ARMAN ALI"


@pytest.mark.parametrize(("language", "wire"), (("ru", "RUS"), ("kk", "KAZ"), ("en", "ENG"), ("", "RUS")))
def test_language(language: str, wire: str) -> None:
    assert json.loads(render_success(replace(ORDER, language=language), PAYMENT, AT))["language"] == wire


@pytest.mark.parametrize("brand", tuple(Brand))
def test_every_brand_has_a_spelling(brand: Brand) -> None:
    assert json.loads(render_success(ORDER, replace(PAYMENT, brand=brand), AT))["cardType"]


@pytest.mark.parametrize(
    ("amount", "text"), ((80000, "800"), (80050, "800.50"), (1, "0.01"), (0, "0"), (AMOUNT_MAX, "9999999999.99"))
)
def test_amount_is_an_exact_number(amount: int, text: str) -> None:
    body = render_success(ORDER, replace(PAYMENT, amount=amount), AT)
    assert f'"amount":{text},'.encode() in body
    assert f'"amount":{text},'.encode() in render_failure(replace(ORDER, amount=amount), None, AT, 476)


@given(amount=st.integers(0, AMOUNT_MAX), currency=st.sampled_from(sorted(EXPONENTS)))
def test_amount_survives_a_decimal_reader(amount: int, currency: str) -> None:
    body = render_success(ORDER, replace(PAYMENT, amount=amount, currency=currency), AT)
    read = json.loads(body, parse_float=Decimal, parse_int=Decimal)["amount"]
    assert read.scaleb(EXPONENTS[currency]) == amount


@pytest.mark.parametrize(("kind", "code"), tuple(OPERATION_CODES.items()))
@pytest.mark.parametrize("seed_bodies", (True, False))
def test_an_operation_reads_neither_as_paid_nor_as_declined(kind: MessageKind, code: str, seed_bodies: bool) -> None:
    payment = replace(PAYMENT, refunded=30050)
    rendered = render_operation(ORDER, payment, kind, 20050, AT, seed_bodies=seed_bodies)
    assert b'"amount":200.50,' in rendered
    body, success = json.loads(rendered), json.loads(render_success(ORDER, PAYMENT, AT, seed_bodies=seed_bodies))
    told = {"amount": 200.5, "code": code, "reason": code, "reasonCode": -1, "orgAmount": 800, "payoutAmount": 300.5}
    assert body == success | told
    assert list(body) == sorted(body, key=_sample_order)


def test_a_refund_is_the_golden_body() -> None:
    payment = replace(PAYMENT, refunded=50000)
    assert render_operation(ORDER, payment, MessageKind.REFUND, 20000, AT).decode() == read_vector("post_link_refund")


def test_instant_has_its_fraction_even_on_the_second() -> None:
    assert render_instant(datetime(2026, 12, 31, 19, 0, tzinfo=UTC)) == "2027-01-01T00:00:00.000000+05:00"


def test_same_records_give_the_same_bytes() -> None:
    assert render_success(ORDER, PAYMENT, AT) == render_success(ORDER, PAYMENT, AT)


def _sample_order(name: str) -> str:
    return name.lower()
