"""Calls that move money: what shops send, what they are answered, and what is refused before anything happens."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tolem.domain.errors import Refusal, Refused
from tolem.domain.payment import OperationKind
from tolem.wire.operations import (
    BODY_BYTES_MAX,
    OPERATIONS,
    OperationRequest,
    WrongContentType,
    parse_idempotency_key,
    parse_operation,
    parse_payment_id,
    render_declined,
    render_done,
    render_error,
    render_unknown,
)

VECTORS: dict[str, Any] = json.loads((Path(__file__).parent / "vectors" / "operations.json").read_text("utf-8"))
PAYMENT_ID = UUID("019ab3c4-5d00-7000-8000-0000000000a1")
JSON = "application/json"
REFUND = OperationKind.REFUND


def headers(*values: str) -> tuple[tuple[bytes, bytes], ...]:
    return tuple((b"idempotency-key", value.encode("latin-1", "replace")) for value in values)


def parse(query: str = "", body: str = "", content_type: str = JSON) -> OperationRequest:
    return parse_operation(REFUND, query.encode(), content_type, body.encode())


@pytest.mark.parametrize("vector", VECTORS["requests"], ids=lambda vector: vector["name"])
def test_request_is_read_as_the_golden_one(vector: dict[str, Any]) -> None:
    kind = OPERATIONS[vector["call"]]
    asked = parse_operation(kind, vector["query"].encode(), vector["content_type"], vector["body"].encode())
    assert (asked.amount, asked.external_id) == (vector["amount"], vector["external_id"])


def test_answers_are_the_golden_ones() -> None:
    answers = {
        "done": render_done(""),
        "done with a key": render_done("tracking-123"),
        "refused": render_error("there is no such payment"),
        "declined": render_declined(466),
        "unknown": render_unknown(),
    }
    assert {name: body.decode() for name, body in answers.items()} == VECTORS["answers"]


@pytest.mark.parametrize(
    ("query", "body", "words"),
    (
        ("amount=10", '{"amount": 11}', "different values"),
        ("amount=10&amount=11", "", "different values"),
        ("", '{"amount": 10, "amount": 11}', "different values"),
        ("amount=abc", '{"amount": 10}', "different values"),
        ("externalID=a", '{"externalId": "b"}', "different values"),
        ("amount=", "", "empty"),
        ("", '{"amount": ""}', "empty"),
        ("", '{"amount": true}', "text or a number"),
        ("", '{"amount": {"value": 10}}', "text or a number"),
        ("", '{"amount": [10]}', "text or a number"),
        ("amount=" + "1" * 33, "", "32 characters"),
        ("externalID=" + "x" * 65, "", "64 characters"),
        ("externalID=a%0Ab", "", "not printable"),
        ("", '{"externalID": "a\\ud800"}', "not printable"),
        ("externalID=e1+", "", "begins or ends with a space"),
        ("", '{"externalId": " e1"}', "begins or ends with a space"),
        ("currency=tenge", "", "three letters"),
        ("", "{", "not valid JSON"),
        ("", "[1]", "JSON object"),
        ("", '"amount"', "JSON object"),
        ("", "17", "JSON object"),
        ("", "[" * 5_000, "JSON"),
        ("", "1" * 5_000, "JSON object"),
        ("amount=%ff", "", "UTF-8"),
        ("&".join(f"f{n}=1" for n in range(65)), "", "64 fields"),
        ("", json.dumps({f"f{n}": 1 for n in range(65)}), "64 fields"),
    ),
)
def test_requests_that_are_refused(query: str, body: str, words: str) -> None:
    with pytest.raises(Refused, match=words) as refused:
        parse(query, body)
    assert refused.value.refusal is Refusal.INVALID_REQUEST


def test_bytes_that_are_no_text_are_refused() -> None:
    with pytest.raises(Refused, match="UTF-8"):
        parse_operation(REFUND, b"", JSON, b'{"amount": "\xff"}')
    with pytest.raises(Refused, match="UTF-8"):
        parse_operation(REFUND, b"amount=\xff", JSON, b"")


def test_a_body_is_bounded() -> None:
    assert parse(body="{}".ljust(BODY_BYTES_MAX)).amount is None
    with pytest.raises(Refused, match="at most 16384"):
        parse(body="{}".ljust(BODY_BYTES_MAX + 1))


@pytest.mark.parametrize("content_type", ("application/x-www-form-urlencoded", "text/plain", "multipart/form-data"))
def test_a_body_of_another_type_is_refused(content_type: str) -> None:
    with pytest.raises(WrongContentType):
        parse(body="amount=10", content_type=content_type)
    assert parse(query="amount=10", content_type=content_type).amount == "10"


@pytest.mark.parametrize("content_type", ("", JSON, "Application/JSON ; charset=UTF-8"))
def test_json_is_read_by_its_usual_names(content_type: str) -> None:
    assert parse(body='{"amount": 10.50}', content_type=content_type).amount == "10.50"


def test_cancel_takes_no_amount() -> None:
    """To ignore it would release all where the shop meant a part."""
    with pytest.raises(Refused, match="whole hold"):
        parse_operation(OperationKind.VOID, b"amount=10", "", b"")


def test_only_a_refund_has_a_key_of_its_own() -> None:
    for kind in (OperationKind.CAPTURE, OperationKind.VOID):
        with pytest.raises(Refused, match="header Idempotency-Key"):
            parse_operation(kind, b"externalID=3", "", b"")
    assert parse("externalID=a&externalId=a", '{"externalID": "a"}').external_id == "a"


def test_nulls_are_absent() -> None:
    asked = parse("reason=x", '{"amount": null, "externalID": null, "amnt": null, "comment": "a", "currency": "kzt"}')
    assert asked == OperationRequest(None, "", "KZT")


@pytest.mark.parametrize(
    ("name", "meant"),
    (
        *(
            (name, "amount")
            for name in ("Amount", "AMOUNT", "ammount", "amout", "amonut", "anount", "amount ", "amounts")
        ),
        *((name, "amount") for name in ("refundAmount", "amount_kzt", "amount[]", "sum", "total", "orgAmount")),
        *(
            (name, "amount")
            for name in ("\u0430mount", "\u0430m\u043eunt", "\uff21mount", "payoutAmount", "amountBonus")
        ),
        *((name, "amount") for name in ("amnt", "amt", "refund", "partial", "\u0441\u0443\u043c\u043c\u0430")),
        *((name, "externalID") for name in ("external", "externalRefundId", "key", "refundId", "requestId")),
        *((name, "externalID") for name in ("externalid", "ExternalID", "external_id", "exernalID", "externalIDs")),
        *((name, "currency") for name in ("Currency", "curency", "currency_code")),
        *((name, "Idempotency-Key") for name in ("idempotencyKey", "Idempotency-Key", "idempotency_key")),
    ),
)
def test_what_looks_like_a_field_is_not_passed_over(name: str, meant: str) -> None:
    """It would move everything, or move it twice."""
    for kind in OPERATIONS.values():
        for query, body in (
            (urlencode({name: "10"}), ""),
            ("", json.dumps({name: 10})),
            ("reason=x", json.dumps({"terminal": 1, name: "10"})),
        ):
            with pytest.raises(Refused, match=meant) as refused:
                parse_operation(kind, query.encode(), JSON, body.encode())
            assert (refused.value.refusal, refused.value.field) == (Refusal.INVALID_REQUEST, meant)


@pytest.mark.parametrize("inner", ("amount", "Amount", "externalID", "sum"))
def test_a_field_inside_of_something_is_not_passed_over(inner: str) -> None:
    wish: Any = {inner: 10}
    for value in (wish, [wish], {"x": 1, "b": wish}, [1, {"b": [[wish]]}], {"b": {"c": {"d": wish}}}):
        for name in ("params", "comment"):
            with pytest.raises(Refused, match=f"'{inner}' stands inside of '{name}'"):
                parse(body=json.dumps({name: value}))
    deep = '{"a":' * 200 + json.dumps(wish) + "}" * 200
    with pytest.raises(Refused, match=f"'{inner}' stands inside of 'a'"):
        parse(body=deep)


@pytest.mark.parametrize(
    "name",
    ("", "id", "x", "count", "data", "approvalCode", "reference", "\u0432\u043e\u0437\u0432\u0440\u0430\u0442", "_"),
)
def test_what_is_not_known_is_refused(name: str) -> None:
    """It may have been meant as an amount, or as a key, whatever its name."""
    for query, body in (
        (urlencode({name: "10"}), ""),
        ("amount=10", json.dumps({name: "r-1"})),
        ("", json.dumps({name: 10})),
        ("", json.dumps({name: [10]})),
        ("", json.dumps({name: {}})),
    ):
        for kind in OPERATIONS.values():
            with pytest.raises(Refused, match="only amount, currency and, of a refund, externalID are"):
                parse_operation(kind, query.encode(), JSON, body.encode())


@pytest.mark.parametrize(
    "name",
    ("invoiceID", "invoiceId", "terminal", "terminalID", "terminalId", "accountID", "accountId", "language",
     "description", "reason", "comment"),
)  # fmt: skip
def test_what_a_shop_says_of_the_order_is_passed_over(name: str) -> None:
    assert parse(urlencode({name: "10"}), json.dumps({name: 10})) == OperationRequest(None)
    for value in ([10], {"b": 10}, []):
        with pytest.raises(Refused, match=f"{name} must be a text or a number"):
            parse(body=json.dumps({name: value}))


def test_amounts_of_a_status_may_come_back_beside_an_amount() -> None:
    body = json.dumps({"amount": 10, "orgAmount": 100, "payoutAmount": 20, "amountBonus": 0})
    assert parse(body=body) == OperationRequest("10")


@pytest.mark.parametrize(
    ("left", "right", "is_same"),
    (
        (OperationRequest("100"), OperationRequest("100.00"), True),
        (OperationRequest("0100.5"), OperationRequest("100.50"), True),
        (OperationRequest("100"), OperationRequest("100", "", "KZT"), True),
        (OperationRequest("100"), OperationRequest("1000"), False),
        (OperationRequest(None), OperationRequest("0"), False),
        (OperationRequest("100"), OperationRequest(None), False),
        (OperationRequest("100", "a"), OperationRequest("100", "b"), False),
        (OperationRequest("1", "00"), OperationRequest("100", ""), False),
    ),
)
def test_content_is_the_same_for_the_same_wish(left: OperationRequest, right: OperationRequest, is_same: bool) -> None:
    assert (left.content(REFUND, PAYMENT_ID) == right.content(REFUND, PAYMENT_ID)) is is_same


def test_content_names_operation_and_payment() -> None:
    asked = OperationRequest("100")
    contents = {asked.content(kind, id) for kind in OperationKind for id in (PAYMENT_ID, UUID(int=1))}
    assert len(contents) == 2 * len(OperationKind)


@pytest.mark.parametrize(
    ("values", "key"),
    (
        ((), ""),
        (("8e03978e-40d5-43dd-bc93-6894a57f9324",), "8e03978e-40d5-43dd-bc93-6894a57f9324"),
        ((' "order 17" ',), '"order 17"'),
        (("a", "a"), "a"),
        (("x" * 255,), "x" * 255),
    ),
)
def test_idempotency_key(values: tuple[str, ...], key: str) -> None:
    assert parse_idempotency_key(headers(*values)) == key


@pytest.mark.parametrize("values", (("",), ("  ",), ("a", "b"), ("x" * 256,), ("a\tb",), ("clé",), ("a\0",)))
def test_idempotency_keys_that_are_refused(values: tuple[str, ...]) -> None:
    with pytest.raises(Refused, match="Idempotency-Key"):
        parse_idempotency_key(headers(*values))


@pytest.mark.parametrize(
    "name",
    ("x-idempotency-key", "idempotency_key", "idempotency-token", "idempotency", "idempotencykey", "idempotent-id",
     "idemptency-key", "x-idempotency-key-2"),
)  # fmt: skip
def test_headers_that_were_meant_as_the_key_are_refused(name: str) -> None:
    for more in ((), headers("k-1")):
        with pytest.raises(Refused, match="write Idempotency-Key") as refused:
            parse_idempotency_key((*more, (name.encode(), b"k-1")))
        assert refused.value.field == "Idempotency-Key"


def test_headers_of_clients_and_their_infrastructure_mean_nothing() -> None:
    names = (
        b"host",
        b"accept",
        b"x-request-id",
        b"x-correlation-id",
        b"traceparent",
        b"x-forwarded-for",
        b"api-key",
        b"k\xe9y",
    )
    assert parse_idempotency_key((name, b"k-1") for name in names) == ""


def test_payment_id() -> None:
    assert parse_payment_id(str(PAYMENT_ID).upper()) == PAYMENT_ID


@pytest.mark.parametrize("text", ("", "17", PAYMENT_ID.hex, f"{{{PAYMENT_ID}}}", f"{PAYMENT_ID}\n", "g" * 36))
def test_payment_ids_that_are_refused(text: str) -> None:
    with pytest.raises(Refused, match="UUID"):
        parse_payment_id(text)


@given(query=st.binary(max_size=200), content_type=st.sampled_from(("", JSON)), body=st.binary(max_size=200))
def test_whatever_comes_is_read_or_refused(query: bytes, content_type: str, body: bytes) -> None:
    for kind in OPERATIONS.values():
        try:
            asked = parse_operation(kind, query, content_type, body)
        except Refused:
            continue
        assert asked.amount != ""


_VALUES = st.sampled_from(
    (
        None,
        True,
        0,
        -1,
        10,
        10.5,
        1e300,
        float("nan"),
        "",
        "10",
        "10.00",
        "a\0",
        "x" * 65,
        "\ud800",
        [],
        [1],
        {},
        {"a": 1},
    )
)


@given(st.dictionaries(st.sampled_from(("amount", "externalID", "externalId", "currency", "x")), _VALUES))
def test_whatever_json_comes_is_read_or_refused(fields: dict[str, Any]) -> None:
    with suppress(Refused):
        parse(body=json.dumps(fields)).content(REFUND, PAYMENT_ID)
