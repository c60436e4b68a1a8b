"""Orders as they are sent, and the pay object beside the documentation's sample."""

import json
from decimal import Decimal
from typing import Any

import pytest

from tests.merchant.gateway import TERMINAL, TOKEN, read_sample
from tolem.merchant import OrderRequest, Token, build_pay_object, new_secret_hash, script_url

SECRET = "JDKCNDDGGDTPSKJD"
TOKEN_OF_ORDER = Token(access_token="DCEB8O_ZM5U7SO_T_U5EJQ", terminal_id=TERMINAL, expires_in=7200)


def build_order(**changes: Any) -> OrderRequest:
    values: dict[str, Any] = {"invoice_id": "000000001", "amount": 100, "secret_hash": SECRET}
    return OrderRequest(**(values | changes))


@pytest.mark.parametrize(
    ("changes", "words"),
    (
        ({"invoice_id": ""}, "6–15 digits"),
        ({"invoice_id": "12345"}, "6–15 digits"),
        ({"invoice_id": "1" * 16}, "6–15 digits"),
        ({"invoice_id": "12345a"}, "6–15 digits"),
        ({"invoice_id": "١٢٣٤٥٦"}, "6–15 digits"),
        ({"invoice_id": "123456\n"}, "6–15 digits"),
        ({"currency": "kzt"}, "ISO 4217"),
        ({"currency": "TENGE"}, "ISO 4217"),
        ({"secret_hash": ""}, "no notification of this order can be verified"),
        ({"amount": "1e3"}, "plain decimal"),
        ({"amount": -1}, "plain decimal"),
    ),
)
def test_order_that_would_be_refused_is_not_made(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        build_order(**changes)


def test_order_with_a_float_is_not_made() -> None:
    with pytest.raises(TypeError, match=r"1850\.5 is a float.*\"1850\.50\""):
        build_order(amount=1850.5)


def test_secrets_stay_out_of_logs() -> None:
    assert SECRET not in repr(build_order())
    assert "DCEB8O" not in repr(TOKEN_OF_ORDER)


def test_secret_hashes_are_new_and_plain() -> None:
    made = {new_secret_hash() for _ in range(100)}
    assert len(made) == 100
    assert all(len(secret) == 32 and secret.isascii() and secret.isprintable() for secret in made)


def test_pay_object_is_the_documentations_sample() -> None:
    sample = json.loads(read_sample("pay_object"))
    order = build_order(
        invoice_id=sample["invoiceId"],
        amount=sample["amount"],
        post_link=sample["postLink"],
        failure_post_link=sample["failurePostLink"],
        account_id=sample["accountId"],
    )
    built = build_pay_object(
        order,
        TOKEN_OF_ORDER,
        sample["backLink"],
        sample["failureBackLink"],
        "ru",
        sample["description"],
        phone=sample.get("phone", ""),
        email=sample.get("email", ""),
        name=sample.get("name", ""),
        data=sample.get("data", ""),
    )
    # What a shop may leave out, in the sample only.
    del sample["invoiceIdAlt"]
    assert built == sample
    assert built["auth"] == TOKEN


@pytest.mark.parametrize(
    ("amount", "written"),
    (
        (100, "100"),
        ("100.00", "100"),
        (Decimal("1850.50"), '"1850.50"'),
        (Decimal("9999999999999.99"), '"9999999999999.99"'),
    ),
)
def test_amount_in_json_is_exact(amount: Decimal | int | str, written: str) -> None:
    built = build_pay_object(build_order(amount=amount), TOKEN_OF_ORDER, "https://shop.example/ok")
    assert f'"amount": {written},' in json.dumps(built)


def test_pay_object_carries_no_secret() -> None:
    built = build_pay_object(build_order(), TOKEN_OF_ORDER, "https://shop.example/ok")
    assert SECRET not in json.dumps(built)


def test_options_and_defaults() -> None:
    plain = build_pay_object(build_order(), TOKEN_OF_ORDER, "https://shop.example/ok")
    assert plain["failureBackLink"] == "https://shop.example/ok"
    assert "autoBackLink" not in plain
    full = build_pay_object(
        build_order(), TOKEN_OF_ORDER, "https://shop.example/ok", language="kk", auto_back_link=True, card_save=True
    )
    assert (full["language"], full["autoBackLink"], full["cardSave"]) == ("kaz", True, True)


@pytest.mark.parametrize(
    ("changes", "words"),
    (
        ({"language": "de"}, "language 'de'"),
        ({"description": "ч" * 63}, "126 bytes"),
        ({"back_link": "javascript:alert(1)"}, "neither http"),
        ({"failure_back_link": "/orders/1"}, "neither http"),
    ),
)
def test_what_the_page_would_refuse(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        build_pay_object(build_order(), TOKEN_OF_ORDER, **({"back_link": "https://shop.example/ok"} | changes))


@pytest.mark.parametrize("base", ("http://127.0.0.1:8700", "http://127.0.0.1:8700/"))
def test_script_url(base: str) -> None:
    assert script_url(base) == "http://127.0.0.1:8700/payform/payment-api.js"
