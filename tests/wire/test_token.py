"""The token endpoint's spellings: three encodings, bounds, HTTP Basic, the golden answer."""

import base64
import json
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote_plus, urlencode
from uuid import UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tolem.domain.errors import Refusal, Refused
from tolem.wire.token import (
    BODY_BYTES_MAX,
    TokenRequest,
    parse_basic,
    parse_terminal_id,
    parse_token_request,
    render_oauth_error,
    render_token,
)

VECTOR = json.loads((Path(__file__).parent / "vectors" / "token.json").read_text(encoding="utf-8"))
FIELDS: dict[str, str] = VECTOR["request"]
BOUNDARY = "----WebKitFormBoundary7MA4YWxkTrZu0gW"
FORM = "application/x-www-form-urlencoded"
SAMPLE = TokenRequest(
    grant_type="client_credentials",
    scope="payment",
    client_id="test",
    client_secret="yF587AV9Ms94qN2QShFzVR3vFnWkhjbAK3sG",
    invoice_id="000000001",
    secret_hash="JDKCNDDGGDTPSKJD",
    amount="100",
    currency="KZT",
    terminal_id="67e34d63-102f-4bd1-898e-370781d0074d",
)

Encode = Callable[[dict[str, str]], tuple[str, bytes]]


def multipart(fields: dict[str, str]) -> tuple[str, bytes]:
    parts = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    ]
    return f"multipart/form-data; boundary={BOUNDARY}", ("".join(parts) + f"--{BOUNDARY}--\r\n").encode()


def urlencoded(fields: dict[str, str]) -> tuple[str, bytes]:
    return FORM, urlencode(fields).encode()


def as_json(fields: dict[str, str]) -> tuple[str, bytes]:
    return "application/json; charset=utf-8", json.dumps(fields).encode()


ENCODINGS = (multipart, urlencoded, as_json)


def refusal_of(content_type: str, body: bytes, authorization: str = "") -> Refused:
    with pytest.raises(Refused) as caught:
        parse_token_request(content_type, body, authorization)
    return caught.value


@pytest.mark.parametrize("encode", ENCODINGS)
def test_sample_request(encode: Encode) -> None:
    assert parse_token_request(*encode(FIELDS)) == SAMPLE
    assert SAMPLE.is_for_order


@pytest.mark.parametrize("encode", ENCODINGS)
def test_unknown_fields_and_empty_ones_are_passed_over(encode: Encode) -> None:
    assert parse_token_request(*encode({**FIELDS, "extra": "x\ny", "accountId": ""})) == SAMPLE


@pytest.mark.parametrize("encode", ENCODINGS)
def test_service_token_needs_no_order(encode: Encode) -> None:
    request = parse_token_request(*encode({"grant_type": "client_credentials", "client_id": "test"}))
    assert not request.is_for_order
    assert (request.client_id, request.invoice_id, request.terminal_id) == ("test", "", "")


def test_misspelt_currency_is_read() -> None:
    fields = {**FIELDS, "curency": FIELDS["currency"]}
    assert parse_token_request(*urlencoded(fields)) == SAMPLE
    del fields["currency"]
    assert parse_token_request(*urlencoded(fields)) == SAMPLE
    refused = refusal_of(*urlencoded({**FIELDS, "curency": "USD"}))
    assert (refused.field, refused.refusal) == ("curency", Refusal.INVALID_REQUEST)


def test_scope_is_trimmed() -> None:
    scope = " webapi usermanagement  payment "
    assert parse_token_request(*multipart({**FIELDS, "scope": scope})).scope == "webapi usermanagement payment"
    assert refusal_of(*multipart({"scope": 'pay"ment'})).refusal is Refusal.INVALID_SCOPE


@pytest.mark.parametrize(
    ("written", "read"), (("100", "100"), ("100.50", "100.50"), ('"100"', "100"), ("1e3", "1e3"), ("NaN", "NaN"))
)
def test_numbers_of_json_keep_their_text(written: str, read: str) -> None:
    body = json.dumps({**FIELDS, "amount": "@"}).replace('"@"', written)
    assert parse_token_request("application/json", body.encode()).amount == read


def test_null_is_absent() -> None:
    body = json.dumps({**FIELDS, "postLink": None, "accountId": None}).encode()
    assert parse_token_request("application/json", body) == SAMPLE


@pytest.mark.parametrize("field", ("invoiceID", "currency", "terminal"))
def test_amount_needs_its_order(field: str) -> None:
    refused = refusal_of(*multipart({name: value for name, value in FIELDS.items() if name != field}))
    assert (refused.refusal, refused.field) == (Refusal.INVALID_REQUEST, field)


@pytest.mark.parametrize(
    ("field", "value"),
    (
        ("invoiceID", "12345"),
        ("invoiceID", "1" * 16),
        ("invoiceID", "1" * 200),
        ("invoiceID", "12-173895"),
        ("invoiceID", "٠٠٠٠٠٠١"),
        ("secret_hash", "x" * 256),
        ("amount", "1" * 33),
        ("client_id", "a\x00b"),
        ("client_secret", "a\nb"),
        ("secret_hash", "tab\there"),
        ("postLink", "javascript:alert(1)"),
        ("failurePostLink", "https://shop.example/" + "a" * 2048),
        ("accountId", "a" * 256),
    ),
)
@pytest.mark.parametrize("encode", ENCODINGS)
def test_field_out_of_bounds(encode: Encode, field: str, value: str) -> None:
    refused = refusal_of(*encode({**FIELDS, field: value}))
    assert (refused.refusal, refused.field) == (Refusal.INVALID_REQUEST, field)
    assert "yF587AV9" not in refused.message


@pytest.mark.parametrize(
    ("content_type", "body", "word"),
    (
        ("text/plain", b"grant_type=client_credentials", "content type"),
        ("", b"", "content type"),
        ("application/jsonp", b"{}", "content type"),
        ("multipart/mixed; boundary=x", b"--x--\r\n", "content type"),
        ("multipart/form-data", b"--x--\r\n", "boundary"),
        (f"multipart/form-data; boundary={BOUNDARY}", b"no boundary here at all, but long enough for one", "multipart"),
        (f"multipart/form-data; boundary={BOUNDARY}", multipart(FIELDS)[1][:-20], "multipart"),
        (f"multipart/form-data; boundary={BOUNDARY}", multipart({str(n): "" for n in range(65)})[1], "multipart"),
        (f"multipart/form-data; boundary={BOUNDARY}", multipart({"a": "@"})[1].replace(b"@", b"\xff"), "UTF-8"),
        ("application/x-www-form-urlencoded", b"scope=\xff", "UTF-8"),
        ("application/x-www-form-urlencoded", b"scope=%ff", "UTF-8"),
        ("application/x-www-form-urlencoded", b"a=1&" * 65, "64 fields"),
        ("application/x-www-form-urlencoded", b"a" * (BODY_BYTES_MAX + 1), "bytes"),
        ("application/json", b'{"scope": "\xff"}', "UTF-8"),
        ("application/json", b'{"scope": "pay', "JSON"),
        ("application/json", b'[["scope", "payment"]]', "object"),
        ("application/json", b'"scope"', "object"),
        ("application/json", b"[" * 16000, "nested"),
        ("application/json", b'{"scope": ["payment"]}', "scope must be"),
        ("application/json", b'{"amount": {"a": 1}}', "amount must be"),
        ("application/json", b'{"amount": true}', "amount must be"),
        ("application/json", b'{"scope": "\\ud800"}', "surrogate"),
        ("application/json", b'{"amount": 1, "amount": 2}', "twice"),
        ("application/x-www-form-urlencoded", b"client_id=a&client_id=b", "twice"),
    ),
)
def test_body_that_cannot_be_read(content_type: str, body: bytes, word: str) -> None:
    refused = refusal_of(content_type, body)
    assert refused.refusal is Refusal.INVALID_REQUEST
    assert word.lower() in refused.message.lower()


def basic(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode()).decode()


def test_client_in_the_header() -> None:
    fields = {name: value for name, value in FIELDS.items() if not name.startswith("client_")}
    header = basic(f"test:{FIELDS['client_secret']}")
    assert parse_token_request(*urlencoded(fields), header) == SAMPLE
    assert parse_token_request(*urlencoded({**fields, "client_id": "test"}), header) == SAMPLE


def test_client_named_twice() -> None:
    assert refusal_of(*urlencoded(FIELDS), basic("test:x")).field == "client_id"
    assert refusal_of(*urlencoded({"client_id": "other"}), basic("test:x")).field == "client_id"


def test_other_schemes_are_passed_over() -> None:
    assert parse_token_request(*multipart(FIELDS), "Bearer abc") == SAMPLE


@given(client_id=st.text(min_size=1, max_size=20), secret=st.text(max_size=20))
def test_basic_is_form_encoded(client_id: str, secret: str) -> None:
    header = basic(f"{quote_plus(client_id)}:{quote_plus(secret)}")
    try:
        assert parse_basic(header) == (client_id, secret)
    except Refused:
        assert not (client_id + secret).isprintable()


@pytest.mark.parametrize(
    "header",
    ("", "Bearer x", "Basic", "Basic !", "Basic é", basic("nocolon"), basic(":x"), basic("%ff:x"), "Basic /w=="),
)
def test_header_that_is_not_basic(header: str) -> None:
    with pytest.raises(Refused) as caught:
        parse_basic(header)
    assert caught.value.refusal is Refusal.INVALID_CLIENT


CONTENT_TYPES = st.sampled_from((f"multipart/form-data; boundary={BOUNDARY}", FORM, "application/json")) | st.text(
    max_size=40
).map("multipart/form-data; boundary=".__add__)
BODIES = (
    st.binary(max_size=300)
    | st.dictionaries(st.sampled_from(tuple(FIELDS)) | st.text(max_size=9), st.text(max_size=30)).flatmap(
        lambda fields: st.sampled_from(tuple(encode(fields)[1] for encode in ENCODINGS))
    )
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=9),
        lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(tuple(FIELDS)), inner),
    ).map(lambda value: json.dumps(value).encode())
)


@given(content_type=CONTENT_TYPES, body=BODIES, authorization=st.just("") | st.text().map("Basic ".__add__))
@example(content_type="multipart/form-data; boundary=\ud800", body=b"", authorization="")
def test_only_refusals_escape(content_type: str, body: bytes, authorization: str) -> None:
    try:
        request = parse_token_request(content_type, body, authorization)
    except Refused:
        return
    assert isinstance(request, TokenRequest)


@given(fields=st.dictionaries(st.sampled_from(tuple(FIELDS)), st.text(max_size=20)))
def test_encodings_agree(fields: dict[str, str]) -> None:
    def outcome(encode: Encode) -> object:
        try:
            return parse_token_request(*encode(fields))
        except Refused as refused:
            return refused.refusal, refused.field

    if not any(BOUNDARY in value for value in fields.values()):
        assert outcome(multipart) == outcome(urlencoded) == outcome(as_json)


def test_repr_keeps_secrets() -> None:
    assert "yF587AV9" not in repr(SAMPLE)
    assert "JDKCND" not in repr(SAMPLE)


@pytest.mark.parametrize("text", ("67e34d63-102f-4bd1-898e-370781d0074d", "67E34D63-102F-4BD1-898E-370781D0074D"))
def test_terminal_id(text: str) -> None:
    assert parse_terminal_id(text) == UUID(text)


@pytest.mark.parametrize(
    "text",
    (
        "",
        "67890",
        "67e34d63102f4bd1898e370781d0074d",
        "{67e34d63-102f-4bd1-898e-370781d0074d}",
        "urn:uuid:67e34d63-102f-4bd1-898e-370781d0074d",
        "67e34d63-102f-4bd1-898e-370781d0074d\n",
        "67e34d63-102f-4bd1-898e-370781d0074g",
        "3ad0f5bd-88a8-464c-a9a4-cdb16d1dd31",
    ),
)
def test_terminal_id_that_is_none(text: str) -> None:
    with pytest.raises(Refused) as caught:
        parse_terminal_id(text)
    assert caught.value.field == "terminal"


def test_answer_is_the_golden_one() -> None:
    assert render_token("DCEB8O_ZM5U7SO_T_U5EJQ", 7200, "payment").decode() == VECTOR["answer"]


def test_answer_with_the_lifetime_as_text() -> None:
    assert b'"expires_in":"7200"' in render_token("DCEB8O_ZM5U7SO_T_U5EJQ", 7200, "payment", as_text=True)


def test_error_body_is_the_rfcs_and_the_banks() -> None:
    body = json.loads(render_oauth_error("invalid_client", 401, 'unknown client "тест\\"', ""))
    assert body == {
        "error": "invalid_client",
        "error_description": "unknown client '????/'",
        "code": 401,
        "message": 'unknown client "тест\\"',
    }
