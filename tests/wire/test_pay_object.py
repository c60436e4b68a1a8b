"""The pay object, posted and from an address: the bank's sample, every field's rule, and input made to do harm."""

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tolem.wire.pay_object import FLAGS, PayObject, PayObjectError, parse_address, parse_posted

VECTORS: list[dict[str, Any]] = json.loads(Path(__file__).with_name("vectors").joinpath("pay_object.json").read_text())[
    "vectors"
]
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+-"
UNESCAPED = "!~*'()"
TOKEN = "DCEB8O_ZM5U7SO_T_U5EJQ"
TOKEN_ANSWER = {
    "access_token": TOKEN,
    "expires_in": 7200,
    "refresh_token": "",
    "scope": "payment",
    "token_type": "Bearer",
}


def build_object(**fields: Any) -> dict[str, Any]:
    return {"invoiceId": "000001", "auth": TOKEN_ANSWER, **fields}


def encode(value: Any) -> str:
    """The bank library's encoding of an object."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        value = {str(at): item for at, item in enumerate(value)}
    if isinstance(value, dict):
        return "&".join(f"{name}={quote(encode(item), safe=UNESCAPED)}" for name, item in value.items() if name)
    return str(value)


def pack(text: str) -> str:
    """The simplest LZString that a decoder must read: each unit by its own code, no phrases."""
    data = text.encode("utf-16-le")
    codes: dict[int, int] = {}
    bits: list[str] = []
    known, width = 3, 2

    def put(value: int, value_width: int) -> None:
        bits.append(f"{value:0{value_width}b}"[::-1])

    for at in range(0, len(data), 2):
        unit = int.from_bytes(data[at : at + 2], "little")
        defined = 0 if at == 0 else 1
        if unit in codes:
            put(codes[unit], width)
        else:
            put(1, width)
            put(unit, 16)
            codes[unit] = known
            defined += 1
        for _ in range(defined):
            known += 1
            width += known == 1 << width
    put(2, width)
    stream = "".join(bits)
    stream += "0" * (-len(stream) % 6)
    return "".join(ALPHABET[int(stream[at : at + 6], 2)] for at in range(0, len(stream), 6))


def parse_both(pay_object: dict[str, Any], flags: dict[str, str] | None = None) -> PayObject:
    """The object by either way; they must agree."""
    posted = parse_posted(json.dumps(pay_object, ensure_ascii=False), flags or {})
    assert parse_address(pack(encode(pay_object)), flags or {}) == posted
    return posted


def refuse_posted(params: str) -> PayObjectError:
    with pytest.raises(PayObjectError) as caught:
        parse_posted(params, {})
    return caught.value


def refuse_both(pay_object: dict[str, Any]) -> PayObjectError:
    """The refusal, the same by either way."""
    error = refuse_posted(json.dumps(pay_object))
    with pytest.raises(PayObjectError) as caught:
        parse_address(pack(encode(pay_object)), {})
    assert (caught.value.field, str(caught.value)) == (error.field, str(error))
    return error


@pytest.mark.parametrize("vector", VECTORS, ids=[vector["name"] for vector in VECTORS])
def test_vectors(vector: dict[str, Any]) -> None:
    parsed = PayObject(**vector["parsed"])
    assert parse_posted(vector["posted"], {}) == parsed
    assert parse_address(vector["address"], {}) == parsed
    assert parse_address(vector["address"].replace("+", " "), {"oid": parsed.invoice_id}) == parsed


def test_only_a_token_is_needed() -> None:
    assert parse_both({"auth": TOKEN}) == PayObject(access_token=TOKEN)


@pytest.mark.parametrize(
    "auth",
    (
        TOKEN_ANSWER,
        {"access_token": TOKEN, "token_type": "Bearer"},
        TOKEN,
        f" {TOKEN}\n",
        json.dumps(TOKEN_ANSWER),
        encode(TOKEN_ANSWER),
        f"token_type=Bearer&access_token={TOKEN}",
    ),
)
def test_auth_comes_in_many_shapes(auth: object) -> None:
    assert parse_both(build_object(auth=auth)).access_token == TOKEN


def test_a_bare_token_may_look_like_a_pair() -> None:
    assert parse_both(build_object(auth="c29tZSB0b2tlbg==")).access_token == "c29tZSB0b2tlbg=="


@pytest.mark.parametrize("auth", (None, "", " ", {}, [], {"error": "invalid_client"}, {"access_token": None}, "{}"))
def test_auth_without_a_token_is_refused(auth: object) -> None:
    error = refuse_posted(json.dumps(build_object(auth=auth)))
    assert error.field == "auth"
    assert "token endpoint" in str(error)


@pytest.mark.parametrize("token", ("two words", "тoken", "a\x00b", "t" * 4097))
def test_a_strange_token_is_refused(token: str) -> None:
    error = refuse_both(build_object(auth={"access_token": token}))
    assert error.field == "auth"
    assert token not in str(error)


@pytest.mark.parametrize(
    "json_text", ("100", "100.00", "0.10", "1e3", "-5", "1E400", "12345678901234567890.123", "NaN")
)
def test_an_amount_stays_its_source_text(json_text: str) -> None:
    posted = parse_posted(f'{{"auth":"{TOKEN}","amount":{json_text}}}', {})
    assert posted.amount == json_text
    assert parse_both(build_object(amount=json_text)).amount == json_text


@pytest.mark.parametrize(
    ("given", "language"),
    (
        ("RU", "ru"), ("KZ", "kk"), ("EN", "en"), ("rus", "ru"), ("kaz", "kk"), ("eng", "en"), ("ru", "ru"),
        ("kk", "kk"), ("en", "en"), ("Rus", "ru"), ("KAZ", "kk"), ("kk-KZ", "kk"), ("en_US", "en"),
        ("", ""), ("fr", ""), (None, ""), ("Ру", ""),
    ),
)  # fmt: skip
def test_languages(given: str | None, language: str) -> None:
    assert parse_both(build_object(language=given)).language == language


@pytest.mark.parametrize(
    ("given", "meant"),
    (
        (True, True), ("true", True), ("TRUE", True), ("1", True), (1, True), ("on", True),
        (False, False), ("false", False), ("0", False), (0, False), ("", False), (None, False), ("undefined", False),
    ),
)  # fmt: skip
def test_booleans(given: object, meant: bool) -> None:
    parsed = parse_both(build_object(cardSave=given, autoBackLink=given))
    assert (parsed.card_save, parsed.auto_return) == (meant, meant)


@pytest.mark.parametrize("field", ("cardSave", "autoBackLink"))
def test_a_boolean_that_is_none(field: str) -> None:
    assert refuse_both(build_object(**{field: "maybe"})).field == field


def test_flags_are_the_fields_beside_params() -> None:
    fields = {"params": "…", "oid": "1", "isTransfer": "true", "isAFT": "false", "isOCT": "1", "isNew": "true"}
    assert parse_both(build_object(isAFT=True), fields).flags == {"isTransfer", "isOCT"}
    assert parse_both(build_object(), dict.fromkeys(FLAGS, "true")).flags == FLAGS


def test_digits_are_kept_as_text() -> None:
    parsed = parse_both(build_object(invoiceId="000000001", invoiceIdAlt=8564546, phone=77777777777))
    assert (parsed.invoice_id, parsed.invoice_id_alt, parsed.phone) == ("000000001", "8564546", "77777777777")


def test_unknown_keys_and_empty_values_are_ignored() -> None:
    nothing = dict.fromkeys(("invoiceIdAlt", "backLink", "postLink", "language", "data", "amount", "name"))
    assert parse_both({"auth": TOKEN, "homebankToken": "x", "hidden": {"a": [1]}, **nothing}) == PayObject(
        access_token=TOKEN
    )


@pytest.mark.parametrize(
    ("data", "flat"),
    (
        ("text", "text"),
        ('{\n\t"a": 1}', '{\n\t"a": 1}'),
        ({"a": 1, "b": "x y"}, "a=1&b=x%20y"),
        ({"a": {"b": "&=", "c": None}}, "a=b%3D%2526%253D%26c%3D"),
        ({"": 1, "ok": True}, "ok=true"),
        (["a", {"b": 2}], "0=a&1=b%3D2"),
        ({}, ""),
        ([], ""),
        (5, "5"),
        ({"name": "Әли!~*'()-_."}, "name=%D3%98%D0%BB%D0%B8!~*'()-_."),
    ),
)
def test_data_is_flattened_as_the_library_does(data: object, flat: str) -> None:
    assert parse_both(build_object(data=data)).data == flat


LINKS = {
    "backLink": "return_url",
    "failureBackLink": "failure_return_url",
    "postLink": "post_link",
    "failurePostLink": "failure_post_link",
}


@pytest.mark.parametrize(("wire", "inside"), LINKS.items())
@pytest.mark.parametrize(
    "link",
    (
        "https://shop.example",
        "http://127.0.0.1:8701/orders/7?x=1&y=%20#end",
        "http://[::1]:8701/hook",
        "HTTPS://Shop.Example/",
        "https://shop.example./a@b",
        "https://дүкен.қаз/төлем",
        "https://my_shop-1.example/",
        "https://s.example/" + "a" * (2048 - 18),
    ),
)
def test_links(wire: str, inside: str, link: str) -> None:
    assert getattr(parse_both(build_object(**{wire: link})), inside) == link


@pytest.mark.parametrize("field", LINKS)
@pytest.mark.parametrize(
    "link",
    (
        "javascript:alert(1)",
        "JavaScript://shop.example/%0aalert(1)",
        "data:text/html,x",
        "ftp://shop.example/",
        "//shop.example/",
        "/relative",
        "shop.example",
        "https:shop.example",
        "https:/shop.example",
        "https://",
        "https:///path",
        "https://user:pass@shop.example/",
        "https://shop.example@evil.example/",
        "https://@shop.example/",
        "https://evil.example\\@shop.example/",
        "https://evil.example\\.shop.example/",
        "https:\\\\shop.example",
        " https://shop.example/",
        "https://shop.example/a b",
        "https://shop.example/\u00a0",
        "https://shop.example/\r\nX: y",
        "java\tscript:alert(1)",
        "https://shop.example/\x00",
        "\x01https://shop.example/",
        "https://shop.example:99999/",
        "https://shop.example:0/",
        "https://shop.example:x/",
        "https://[::1",
        "https://shop.example[::1]/",
        "https://[::1]shop.example/",
        "https://sh%6fp.example/",
        "https://shop..example/",
        "https://*.example/",
        "https://s.example/" + "a" * (2048 - 17),
    ),
)
def test_bad_links_are_refused(field: str, link: str) -> None:
    error = refuse_both(build_object(**{field: link}))
    assert error.field == field
    assert field in str(error)
    assert "evil" not in str(error)


@pytest.mark.parametrize(
    ("field", "good", "bad"),
    (
        ("invoiceId", "1" * 20, "1" * 21),
        ("invoiceId", "1", "1" * 200),
        ("invoiceId", "1", "1e3"),
        ("invoiceId", "1", "-1"),
        ("invoiceId", "1", "A-1"),
        ("invoiceId", "1", "١٢٣"),
        ("invoiceId", "1", "1 "),
        ("invoiceIdAlt", "1" * 6, "1" * 5),
        ("invoiceIdAlt", "1" * 15, "1" * 16),
        ("description", "ж" * 62 + "a", "ж" * 63),
        ("description", "a" * 125, "a" * 126),
        ("accountId", "ж" * 255, "ж" * 256),
        ("phone", "7" * 20, "7" * 21),
        ("email", "e" * 254, "e" * 255),
        ("name", "N" * 100, "N" * 101),
        ("data", "d" * 4096, "d" * 4097),
        ("terminal", "67e34d63-102f-4bd1-898e-370781d0074d", "t" * 65),
        ("currency", "KZT", "K" * 17),
        ("amount", "9" * 64, "9" * 65),
        ("paymentType", "cardVerification", "c" * 65),
        ("name", "Ali", "Al\x00i"),
        ("name", "Ali", "Al\ni"),
        ("email", "a@b.c", "a@b.c\u2028"),
        ("phone", "7", "7\x7f"),
        ("accountId", "😀", "a\x85"),
        ("description", "a", "a\tb"),
        ("data", "a\r\n\tb", "a\x00b"),
        ("data", "a", {"k\x00": "v"}),
        ("data", {"k": "v\x00"}, "a\x1bb"),  # inside an object it is %00, which is text
        ("language", "ru", "ru\x00"),
    ),
)
def test_bounds(field: str, good: object, bad: object) -> None:
    parse_both(build_object(**{field: good}))
    error = refuse_both(build_object(**{field: bad}))
    assert error.field == field
    assert str(error).startswith(field)


def test_data_is_counted_in_bytes() -> None:
    assert parse_posted(json.dumps(build_object(data="ж" * 2048), ensure_ascii=False), {}).data == "ж" * 2048
    assert "4097 bytes" in str(refuse_posted(json.dumps(build_object(data="ж" * 2048 + "a"), ensure_ascii=False)))


def test_the_error_says_how_long_the_description_is() -> None:
    error = refuse_both(build_object(description="ж" * 70))
    assert "140 bytes" in str(error)
    assert "125" in str(error)


@pytest.mark.parametrize(
    "field", ("name", "description", "data", "invoiceId", "backLink", "language", "cardSave", "accountId", "terminal")
)
def test_half_a_surrogate_pair_is_refused(field: str) -> None:
    assert refuse_posted(f'{{"auth":"{TOKEN}","{field}":"a\\ud83d"}}').field == field


def test_surrogates_in_odd_places() -> None:
    assert refuse_posted(f'{{"auth":"{TOKEN}","data":{{"a":"\\ud83d"}}}}').field == "data"
    assert refuse_posted(f'{{"auth":"{TOKEN}","data":{{"\\ud83d":"a"}}}}').field == "data"
    assert refuse_posted('{"auth":"\\ud83d"}').field == "auth"
    assert refuse_posted('{"auth":"\ud83d"}').field == "params"
    assert parse_posted(f'{{"auth":"{TOKEN}","name":"\\ud83d\\ude00"}}', {}).name == "😀"


@pytest.mark.parametrize("field", ("phone", "invoiceId", "amount", "postLink", "cardSave", "description", "terminal"))
@pytest.mark.parametrize("value", ({"a": 1}, [1]))
def test_a_text_that_is_an_object_is_refused(field: str, value: object) -> None:
    assert refuse_posted(json.dumps(build_object(**{field: value}))).field == field


@pytest.mark.parametrize(
    ("params", "reason"),
    (
        ("", "empty"),
        ("x", "not valid JSON"),
        ('{"auth":"a"', "not valid JSON"),
        ('{"auth":"a"}}', "not valid JSON"),
        ("{'auth':'a'}", "not valid JSON"),
        ('{"auth":"\x00"}', "not valid JSON"),
        ("\ufeff{}", "not valid JSON"),
        ("[]", "must be a JSON object"),
        ('"text"', "must be a JSON object"),
        ("null", "must be a JSON object"),
        ("NaN", "must be a JSON object"),
        ('{"auth":"a","auth":"b"}', "twice"),
        ('{"auth":"a","x":{"b":1,"b":1}}', "twice"),
        ('{"auth":"a","x":[[[[1]]]]}', "nested"),
        ('{"auth":"a","data":{"a":{"b":{"c":{"d":1}}}}}', "nested"),
        ('{"x":' * 2700 + "1" + "}" * 2700, "nested"),
        ("[" * 16384, "nested"),
        (json.dumps({f"k{n}": n for n in range(101)}), "more than 100 keys"),
        (json.dumps({"auth": "a", "x": {f"k{n}": n for n in range(101)}}), "more than 100 keys"),
        (json.dumps({"auth": "a", "x": [0] * 101}), "more than 100 items"),
        (json.dumps({"auth": "a", "x": "y" * 16384}), "at most 16384"),
        ('{"auth":"a","x":"' + "ж" * 8192 + '"}', "at most 16384"),
    ),
)
def test_harmful_json_is_refused(params: str, reason: str) -> None:
    error = refuse_posted(params)
    assert error.field == "params"
    assert reason in str(error)


def test_the_bounds_themselves_are_allowed() -> None:
    parse_posted(json.dumps({"auth": TOKEN, "data": {"a": {"b": {"c": 1}}}}), {})
    parse_posted(json.dumps({"auth": TOKEN, "x": [[["deep"]]], **{f"k{n}": n for n in range(98)}}), {})
    text = json.dumps({"auth": TOKEN, "x": ""})
    parse_posted(text[:-2] + "y" * (16384 - len(text)) + text[-2:], {})


@pytest.mark.parametrize(
    ("auth", "reason"),
    (
        ('{"access_token":', "not valid JSON"),
        ('{"access_token":"a","x":[[[1]]]}', "nested"),
        ('{"access_token":"a","access_token":"b"}', "twice"),
        ("access_token=a&access_token=b", "twice"),
        ("access_token=%ff", "UTF-8"),
        ("access_token=a&" + "&".join(f"k{n}=" for n in range(100)), "more than 100 keys"),
    ),
)
def test_harmful_auth_text_is_refused(auth: str, reason: str) -> None:
    error = refuse_both(build_object(auth=auth))
    assert error.field == "auth"
    assert reason in str(error)


@pytest.mark.parametrize(
    ("address", "reason"),
    (
        ("", "empty"),
        ("A", "truncated"),
        ("не то", "alphabet"),
        ("IYA/", "alphabet"),
        (VECTORS[0]["address"][:-4], "truncated"),
        (pack("a=1") * 4096, "at most 16384"),
        (pack("a=1&a=2"), "twice"),
        (pack("&".join(f"k{n}=" for n in range(101))), "more than 100 keys"),
        (pack("name=%ff%fe"), "UTF-8"),
    ),
)
def test_harmful_addresses_are_refused(address: str, reason: str) -> None:
    with pytest.raises(PayObjectError, match=reason) as caught:
        parse_address(address, {})
    assert caught.value.field == "params"


def test_a_bomb_is_refused() -> None:
    """8,000 codes of which each is one character longer than the last: 32 MB from 16 KB."""
    bits, known, width, limit = "00" + f"{ord('a'):08b}"[::-1], 4, 3, 8
    for _ in range(8000):
        bits += f"{known:0{width}b}"[::-1]
        known += 1
        if known == limit:
            width, limit = width + 1, limit * 2
    bits += f"{2:0{width}b}"[::-1] + "0" * 6
    address = "".join(ALPHABET[int(bits[at : at + 6], 2)] for at in range(0, len(bits) - 5, 6))
    with pytest.raises(PayObjectError, match="longer than 65536"):
        parse_address(address, {})


def test_a_percent_sign_that_encodes_nothing_stays() -> None:
    assert parse_address(pack(f"auth={TOKEN}&description=100%&&name=a+b"), {}).description == "100%"


def test_repr_and_errors_keep_secrets() -> None:
    parsed = parse_both(build_object(email="payer@example.kz"))
    assert TOKEN not in repr(parsed)
    assert "payer" not in str(parsed)


scalars = st.none() | st.booleans() | st.integers() | st.text()
objects = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3), max_leaves=8
)
fields = st.sampled_from(("auth", "invoiceId", "amount", "description", "backLink", "postLink", "data", "cardSave"))


@given(st.dictionaries(fields, objects))
def test_any_object_is_parsed_or_refused(pay_object: dict[str, Any]) -> None:
    try:
        parsed = parse_posted(json.dumps({"auth": TOKEN, **pay_object}), {})
    except PayObjectError as error:
        assert error.field  # noqa: PT017 - being parsed is fine too
    else:
        assert "\x00" not in parsed.data + parsed.description


@given(st.text() | st.text(alphabet=ALPHABET, max_size=300))
def test_garbage_is_refused(garbage: str) -> None:
    for parse in (parse_posted, parse_address):
        with pytest.raises(PayObjectError):
            parse(garbage, {})


@given(st.text())
def test_packed_garbage_is_refused_or_has_a_token(garbage: str) -> None:
    with pytest.raises(PayObjectError):
        parse_address(pack(garbage), {})


@given(st.dictionaries(st.sampled_from(("accountId", "data", "name")), st.text(max_size=20)))
def test_both_ways_agree_on_any_text(texts: dict[str, str]) -> None:
    pay_object = build_object(**texts)
    try:
        posted = parse_posted(json.dumps(pay_object), {})
    except PayObjectError:
        refuse_both(pay_object)
    else:
        assert parse_address(pack(encode(pay_object)), {}) == posted


@pytest.mark.parametrize(
    "params",
    (
        '{"auth": {"access_token": "T0-ken_", "expires_in": 7200}, "backLink": "x"}',
        '{"auth": "T0-ken_", "backLink": "x"}',
        '{"auth": "{\\"access_token\\":\\"T0-ken_\\"}", ',
        '{"auth": "access_token=T0-ken_&expires_in=7200", ',
    ),
)
def test_an_error_tells_whose_object_it_is(params: str) -> None:
    assert refuse_posted(params).access_token == "T0-ken_"


def test_an_error_in_an_address_tells_it_too() -> None:
    with pytest.raises(PayObjectError) as caught:
        parse_address(pack("auth=T0-ken_&backLink=x"), {})
    assert caught.value.access_token == "T0-ken_"


def test_an_error_without_a_token_tells_of_nobody() -> None:
    assert (refuse_posted("{").access_token, refuse_posted("{").language) == ("", "")


@pytest.mark.parametrize(("said", "language"), (("kaz", "kk"), ("EN-us", "en"), ("xx", "")))
def test_an_error_tells_the_language_to_tell_it_in(said: str, language: str) -> None:
    assert refuse_posted(f'{{"auth": "T0-ken_", "language": "{said}", "backLink": "x"}}').language == language
    with pytest.raises(PayObjectError) as caught:
        parse_address(pack(f"auth=T0-ken_&language={said}&backLink=x"), {})
    assert caught.value.language == language
