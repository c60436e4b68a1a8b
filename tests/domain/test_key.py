"""Server keys and webhook secrets as texts: what is read, what is refused, and that nothing is shown by mistake."""

import base64
import os

import pytest

from tolem.domain.key import (
    SERVER_KEYS_MAX,
    InvalidKey,
    ServerKey,
    parse_server_keys,
    parse_webhook_secret,
    render_server_key,
    render_webhook_secret,
)

FIRST = ServerKey(bytes(range(32)))
SECOND = ServerKey(b"\xff" * 32)


@pytest.mark.parametrize("separator", (",", " ", "\n", ", ", " , "))
def test_several_server_keys_in_one_text(separator: str) -> None:
    text = separator.join((render_server_key(SECOND), render_server_key(FIRST), render_server_key(SECOND)))
    assert parse_server_keys(text) == (SECOND, FIRST)


def test_no_text_no_keys() -> None:
    assert parse_server_keys(" \n,") == ()


def test_both_alphabets_and_no_padding() -> None:
    usual, url = base64.b64encode(SECOND.secret).decode(), base64.urlsafe_b64encode(SECOND.secret).decode()
    assert usual != url
    assert parse_server_keys(usual) == parse_server_keys(url) == parse_server_keys(url.rstrip("=")) == (SECOND,)


@pytest.mark.parametrize("text", ("short", "é" * 43, render_server_key(FIRST) + "AAAA", "=", "!" * 43))
def test_what_is_no_server_key(text: str) -> None:
    with pytest.raises(InvalidKey, match="server key 2 is not 32 bytes in base64") as caught:
        parse_server_keys(f"{render_server_key(FIRST)},{text}")
    assert text not in str(caught.value).split()


def test_too_many_server_keys() -> None:
    texts = [render_server_key(ServerKey(os.urandom(32))) for _ in range(SERVER_KEYS_MAX + 1)]
    assert len(parse_server_keys(" ".join(texts[1:]))) == SERVER_KEYS_MAX
    with pytest.raises(InvalidKey, match="keep 8 at most"):
        parse_server_keys(" ".join(texts))


def test_a_key_does_not_show_itself() -> None:
    shown = f"{FIRST} {FIRST!r} {[FIRST]} {FIRST.id}"
    assert FIRST.id != SECOND.id
    assert render_server_key(FIRST) not in shown
    assert repr(FIRST.secret) not in shown
    assert FIRST.secret.hex() not in shown


@pytest.mark.parametrize("size", (24, 32, 33, 64))
def test_webhook_secrets(size: int) -> None:
    secret = os.urandom(size)
    text = render_webhook_secret(secret)
    assert text.startswith("whsec_")
    assert parse_webhook_secret(text) == parse_webhook_secret(text.rstrip("=")) == secret


@pytest.mark.parametrize(
    "text",
    (
        "",
        "whsec_",
        base64.b64encode(b"a" * 32).decode(),
        "whsec_" + base64.b64encode(b"a" * 23).decode(),
        "whsec_" + base64.b64encode(b"a" * 65).decode(),
        "whsec_not base64 at all, though long enough",
        "WHSEC_" + base64.b64encode(b"a" * 32).decode(),
        "whsec_whsec_" + base64.b64encode(b"a" * 32).decode(),
    ),
)
def test_what_is_no_webhook_secret(text: str) -> None:
    with pytest.raises(InvalidKey, match="24 to 64 bytes in base64") as caught:
        parse_webhook_secret(text)
    assert not text or text == "whsec_" or text not in str(caught.value)
