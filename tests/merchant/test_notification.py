"""postLink: the documentation's samples are believed, everything else is not, with words."""

import json
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.merchant.gateway import read_sample
from tolem.merchant import (
    ExpectedPayment,
    InvalidNotification,
    Operation,
    OperationNotification,
    read_invoice_id,
    verify_notification,
    verify_post_link,
)
from tolem.merchant.notification import BODY_BYTES_MAX

SUCCESS = json.loads(read_sample("post_link_success"))
FAILURE = json.loads(read_sample("post_link_failure"))
REFUND = json.loads(read_sample("post_link_refund"), parse_float=Decimal)
EXPECTED = ExpectedPayment(
    invoice_id=SUCCESS["invoiceId"],
    amount=SUCCESS["amount"],
    currency=SUCCESS["currency"],
    terminal_id=SUCCESS["terminal"],
    secret_hash=SUCCESS["secret_hash"],
)


def body(sample: dict[str, Any] = SUCCESS, **changes: Any) -> bytes:
    return json.dumps(sample | changes, ensure_ascii=False).encode()


def test_success() -> None:
    told = verify_post_link(read_sample("post_link_success").encode(), EXPECTED)
    assert told.is_paid
    assert told.payment_id == SUCCESS["id"]
    assert told.amount == SUCCESS["amount"]
    assert told.approval_code == SUCCESS["approvalCode"]
    assert told.reference == SUCCESS["reference"]
    assert told.card_mask == SUCCESS["cardMask"]
    assert (told.reason, told.reason_code) == ("success", 0)
    assert told.account_id == SUCCESS["acountId"]
    assert EXPECTED.secret_hash not in repr(told)
    assert "secret_hash" not in told.raw
    assert told.raw["issuer"] == SUCCESS["issuer"]


def test_failure() -> None:
    expected = replace(
        EXPECTED,
        invoice_id=FAILURE["invoiceId"],
        amount=FAILURE["amount"],
        terminal_id=FAILURE["terminal"],
        secret_hash=FAILURE["secret_hash"],
    )
    told = verify_post_link(read_sample("post_link_failure").encode(), expected)
    assert not told.is_paid
    assert (told.reason, told.reason_code) == (FAILURE["reason"], FAILURE["reasonCode"])
    assert (told.reference, told.approval_code, told.card_mask) == ("", "", "")
    assert told.account_id == FAILURE["accountId"]


@pytest.mark.parametrize("operation", tuple(Operation))
def test_an_operation_is_told_and_is_no_payment(operation: Operation) -> None:
    raw = body(REFUND, code=operation.value, reason=operation.value)
    told = verify_notification(raw, EXPECTED)
    assert isinstance(told, OperationNotification)
    assert (told.operation, told.amount, told.refunded) == (operation, Decimal(200), Decimal(500))
    assert (told.payment_id, told.reference) == (REFUND["id"], REFUND["reference"])
    assert "secret_hash" not in told.raw
    assert not hasattr(told, "is_paid")
    with pytest.raises(InvalidNotification, match=f"code is '{operation}', no payment"):
        verify_post_link(raw, EXPECTED)


def test_an_outcome_is_told_as_before() -> None:
    assert verify_notification(body(), EXPECTED) == verify_post_link(body(), EXPECTED)


@pytest.mark.parametrize(
    ("changes", "reason"),
    (
        ({"secret_hash": "WRONG"}, "secret_hash is not the one of this order"),
        ({"invoiceId": "000000099"}, "invoiceId is '000000099'"),
        ({"currency": "USD"}, "currency is 'USD'"),
        ({"terminal": "x"}, "terminal is 'x'"),
        ({"code": "REFUND"}, "no operation"),
        ({"code": "reversal"}, "no operation"),
        ({"amount": 0}, "refund of 0"),
        ({"amount": "800.01", "payoutAmount": 801}, "refund of 800.01, the order has 800"),
        ({"amount": -1}, "not a plain decimal"),
        ({"amount": None}, "amount is not a number"),
        ({"payoutAmount": None}, "payoutAmount is not a number"),
        ({"payoutAmount": 199}, "payoutAmount is 199 after refund of 200"),
        ({"payoutAmount": "800.01"}, "payoutAmount is 800.01"),
        ({"id": []}, "id is not a text"),
    ),
)
def test_what_is_not_believed_of_an_operation(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidNotification) as caught:
        verify_notification(body(REFUND, **changes), EXPECTED)
    assert reason in caught.value.reason
    assert EXPECTED.secret_hash not in caught.value.reason


@pytest.mark.parametrize(
    ("changes", "account_id"),
    (
        ({"acountId": "a", "accountId": "b"}, "b"),
        ({"acountId": "a", "accountId": ""}, "a"),
        ({"acountId": "a", "accountId": None}, "a"),
        ({"acountId": "", "accountId": "b"}, "b"),
    ),
)
def test_both_spellings_of_the_account(changes: dict[str, Any], account_id: str) -> None:
    assert verify_post_link(body(**changes), EXPECTED).account_id == account_id


@pytest.mark.parametrize(
    ("written", "expected"),
    (
        ("100", "100.00"),
        ("100.00", 100),
        ("100.0", Decimal("100")),
        ('"100.00"', 100),
        ("1850.5", "1850.50"),
        ("0.3", "0.3"),
    ),
)
def test_amounts_compare_as_decimals(written: str, expected: Decimal | int | str) -> None:
    raw = body(amount=0).replace(b'"amount": 0', f'"amount": {written}'.encode())
    told = verify_post_link(raw, replace(EXPECTED, amount=expected))
    assert told.amount == Decimal(str(expected))
    assert not isinstance(told.raw["amount"], float)


@pytest.mark.parametrize(
    ("changes", "reason"),
    (
        ({"secret_hash": "WRONG"}, "secret_hash is not the one of this order"),
        ({"secret_hash": ""}, "secret_hash"),
        ({"secret_hash": None}, "secret_hash"),
        ({"secret_hash": 7}, "secret_hash"),
        ({"secret_hash": [EXPECTED.secret_hash]}, "secret_hash"),
        ({"secret_hash": EXPECTED.secret_hash.lower() + " "}, "secret_hash"),
        ({"secret_hash": "\ud800"}, "secret_hash"),
        ({"invoiceId": "000000099"}, "invoiceId is '000000099'"),
        ({"invoiceId": 1}, "invoiceId is '1'"),
        ({"invoiceId": None}, "invoiceId is ''"),
        ({"amount": 1}, "amount is '1'"),
        ({"amount": "1e2"}, "not a plain decimal"),
        ({"amount": -100}, "not a plain decimal"),
        ({"amount": None}, "amount is not a number"),
        ({"amount": True}, "amount is not a number"),
        ({"amount": [100]}, "amount is not a number"),
        ({"currency": "USD"}, "currency is 'USD'"),
        ({"terminal": "00000000-0000-0000-0000-000000000000"}, "terminal is '00000000"),
        ({"terminal": {}}, "terminal is not a text"),
        ({"code": "OK"}, "code is 'OK'"),
        ({"code": ""}, "code is ''"),
        ({"code": True}, "code is not a text"),
        ({"reasonCode": "x"}, "reasonCode is not a number"),
        ({"reasonCode": "465"}, "code is 'ok' beside reasonCode 465"),
        ({"reasonCode": -1}, "code is 'ok' beside reasonCode -1"),
        ({"id": []}, "id is not a text"),
    ),
)
def test_what_is_not_believed(changes: dict[str, Any], reason: str) -> None:
    raw = json.dumps(SUCCESS | changes).encode()
    with pytest.raises(InvalidNotification) as caught:
        verify_post_link(raw, EXPECTED)
    assert reason in caught.value.reason
    assert EXPECTED.secret_hash not in caught.value.reason


@pytest.mark.parametrize("name", ("secret_hash", "invoiceId", "amount", "currency", "terminal", "code"))
def test_missing_fields_are_not_believed(name: str) -> None:
    with pytest.raises(InvalidNotification):
        verify_post_link(body({k: v for k, v in SUCCESS.items() if k != name}), EXPECTED)


@pytest.mark.parametrize(
    "raw",
    (
        b"",
        b"null",
        b"[]",
        b"{",
        b"\xff\xfe\x00",
        b"invoiceId=1",
        b'{"amount": NaN}',
        b'{"amount": Infinity}',
        b"[" * 20_000,
        b'{"amount": 1e999999999999999999999}',
        b'{"amount": ' + b"9" * 5000 + b"}",
        b" " * (BODY_BYTES_MAX + 1),
    ),
)
def test_rubbish_is_not_believed(raw: bytes) -> None:
    with pytest.raises(InvalidNotification):
        verify_post_link(raw, EXPECTED)
    with pytest.raises(InvalidNotification):
        read_invoice_id(raw)


def test_huge_exponent_costs_nothing() -> None:
    raw = body(amount=0).replace(b'"amount": 0', b'"amount": 1.0e999999')
    with pytest.raises(InvalidNotification, match="not an amount of money"):
        verify_post_link(raw, EXPECTED)


@pytest.mark.parametrize("invoice", ("", "abc", "1" * 16, "1 OR 1=1", "١٢٣", None, [], True))
def test_invoice_to_look_up_is_a_number(invoice: object) -> None:
    with pytest.raises(InvalidNotification):
        read_invoice_id(body(invoiceId=invoice))


def test_invoice_to_look_up() -> None:
    assert read_invoice_id(body(secret_hash="of somebody else")) == SUCCESS["invoiceId"]


def test_expectation_without_a_secret_is_not_made() -> None:
    with pytest.raises(ValueError, match="anybody"):
        replace(EXPECTED, secret_hash="")


def test_expectation_with_a_float_is_not_made() -> None:
    with pytest.raises(TypeError, match="float"):
        replace(EXPECTED, amount=100.0)  # type: ignore[arg-type]  # what a careless shop would do


@given(st.binary(max_size=300))
def test_no_bytes_are_believed_without_the_secret(raw: bytes) -> None:
    with pytest.raises(InvalidNotification):
        verify_post_link(raw, EXPECTED)


@given(
    st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda x: st.lists(x, max_size=3), max_leaves=5)
)
def test_any_value_in_any_field_is_believed_or_refused(value: object) -> None:
    for name in SUCCESS:
        raw = json.dumps(SUCCESS | {name: value}).encode()
        try:
            told = verify_post_link(raw, EXPECTED)
        except InvalidNotification:
            continue
        assert told.invoice_id == EXPECTED.invoice_id
        assert told.amount == EXPECTED.amount
