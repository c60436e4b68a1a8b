"""What a shop repeats of what it was sent is shown without the secret."""

import base64
import html
import json
from collections.abc import Callable
from urllib.parse import quote

import pytest

from tolem.domain.secrecy import MASK, hide

SECRET = 'кілт "7"&+'


@pytest.mark.parametrize(
    "written",
    (
        'кілт "7"&+',
        'кілт \\"7\\"&+',
        '\\u043a\\u0456\\u043b\\u0442 \\"7\\"&+',
        "кілт &quot;7&quot;&amp;+",
        "%D0%BA%D1%96%D0%BB%D1%82%20%227%22%26%2B",
        "%D0%BA%D1%96%D0%BB%D1%82+%227%22%26%2B",
    ),
)
def test_a_secret_in_the_ways_in_which_it_is_written(written: str) -> None:
    assert hide(f"got <{written}> and <{written}>".encode(), [SECRET]).decode() == f"got <{MASK}> and <{MASK}>"


PATHS = 'Abc/d+e"f&g <Қ>'
ECHOES: dict[str, Callable[[str], str]] = {
    "JSON of PHP": lambda text: json.dumps(text).replace("/", "\\/"),
    "JSON within JSON": lambda text: json.dumps(json.dumps(json.dumps(text))),
    "JSON of PHP within JSON": lambda text: json.dumps(json.dumps(text).replace("/", "\\/")),
    "an address": lambda text: quote(text, safe=""),
    "an address, in small letters": lambda text: quote(text, safe="").lower(),
    "a path": lambda text: quote(text),
    "an address within an address": lambda text: quote(quote(text, safe=""), safe=""),
    "every byte of an address": lambda text: "".join(f"%{byte:02X}" for byte in text.encode()),
    "HTML": html.escape,
    "HTML by numbers": lambda text: "".join(f"&#{ord(char)};" for char in text),
    "HTML by numbers in hex": lambda text: "".join(f"&#x{ord(char):X};" for char in text),
    "capitals": str.upper,
    "small letters": str.lower,
    "hex": lambda text: text.encode().hex(),
    "hex in capitals": lambda text: text.encode().hex().upper(),
}


@pytest.mark.parametrize("secret", (PATHS, "s3cr3t-hash/of+shop=="))
@pytest.mark.parametrize("echo", ECHOES)
def test_a_secret_in_the_ways_of_other_languages(echo: str, secret: str) -> None:
    written = ECHOES[echo](secret)
    wanted = written[: len(written) - len(written.lstrip('\\"'))] + MASK + written[len(written.rstrip('\\"')) :]
    assert hide(f"got [{written}] and [{written}]".encode(), [secret]).decode() == f"got [{wanted}] and [{wanted}]"


@pytest.mark.parametrize("encode", (base64.b64encode, base64.urlsafe_b64encode))
@pytest.mark.parametrize("before", range(4))
def test_a_secret_within_base64(before: int, encode: Callable[[bytes], bytes]) -> None:
    for secret in (PATHS, "s3cr3t-hash/of+shop"):
        body = b"x" * before + json.dumps({"secret_hash": secret}, ensure_ascii=False).encode()
        shown = hide(b"<" + encode(body) + b">", [secret]).decode()
        around, found, _ = shown.partition(MASK)
        assert found
        # at most the bits that share a letter with what stands around it
        assert len(shown) - len(MASK) <= len(encode(body)) + 2 - (len(secret.encode()) * 8 // 6 - 2)
        assert around


def test_a_secret_in_utf_16() -> None:
    for coding in ("utf-16", "utf-16-be"):
        shown = hide("got кілт/7 there".encode(coding), ["кілт/7"])
        assert MASK.encode() in shown
        assert "кілт".encode("utf-16-le") not in shown


def test_the_beginning_of_a_coded_secret_where_the_answer_was_cut_off() -> None:
    secret = "JDKCNDDGGDTPSKJD/қ"
    for cut in (json.dumps(secret)[:-3], quote(secret)[:-1], secret.encode().hex()[:-5], quote(secret)[:20]):
        assert hide(cut.encode(), [secret]).decode() in (MASK, f'"{MASK}'), cut


def test_other_texts_stay() -> None:
    text = b"got s3cr3t-hash/of+shoes and S3CR3T, %73 and &amp; &#39;"
    assert hide(text, ["s3cr3t-hash/of+shop=="]) == text


def test_the_beginning_of_a_secret_where_the_answer_was_cut_off() -> None:
    assert hide(b'{"secret_hash":"JDKCNDDGG', ["JDKCNDDGGDTPSKJD"]).decode() == f'{{"secret_hash":"{MASK}'


def test_a_short_secret_is_hidden_where_it_stands_alone() -> None:
    assert hide(b'{"a":1,"secret_hash":"a","data":"banana"}', ["a"]).decode() == (
        f'{{"{MASK}":1,"secret_hash":"{MASK}","data":"banana"}}'
    )


def test_no_secret_hides_nothing() -> None:
    assert hide(b"all of it", ["", "other"]) == b"all of it"
