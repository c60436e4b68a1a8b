"""The signature against the specification's own library, and against a vector worked out elsewhere."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from tolem.domain.key import parse_webhook_secret, render_webhook_secret
from tolem.notifications.signature import render_headers

ID = "019f3c4e-0000-7000-8000-000000000001"
BODY = '{"code":"ok","description":"Төлем","amount":1850.50}'.encode()
OLD, NEW = b"o" * 24, b"n" * 64


def now() -> datetime:
    """Not the module's: it may be minutes old when a test runs, and a signature ends after five."""
    return datetime.now(UTC)


def verify(secret: bytes, headers: dict[str, str], body: bytes = BODY) -> None:
    Webhook(render_webhook_secret(secret)).verify(body, headers, json_parse=False)


def test_the_vector_of_the_specifications_library() -> None:
    """The example that its libraries in all languages are tested with."""
    secret = parse_webhook_secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    at = datetime.fromtimestamp(1614265330, UTC)
    headers = render_headers("msg_p5jXN8AQM9LWM0D4loKWxJek", at, b'{"test": 2432232314}', [secret])
    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_each_live_secret_signs() -> None:
    headers = render_headers(ID, now() + timedelta(seconds=0.9), BODY, [NEW, OLD])
    assert headers["webhook-signature"].count("v1,") == 2
    verify(NEW, headers)
    verify(OLD, headers)
    with pytest.raises(WebhookVerificationError, match="No matching signature"):
        verify(b"x" * 32, headers)


def test_without_a_secret_nothing_is_signed() -> None:
    at = now()
    assert render_headers(ID, at, BODY, []) == {"webhook-id": ID, "webhook-timestamp": str(int(at.timestamp()))}


@pytest.mark.parametrize("header", ("webhook-id", "webhook-timestamp"))
def test_id_and_time_are_signed(header: str) -> None:
    at = now()
    headers = render_headers(ID, at, BODY, [OLD])
    changed = {"webhook-id": ID[::-1], "webhook-timestamp": str(int(at.timestamp()) + 1)}[header]
    with pytest.raises(WebhookVerificationError, match="No matching signature"):
        verify(OLD, headers | {header: changed})


@given(st.text().map(str.encode), st.binary(min_size=24, max_size=64))
def test_any_body_and_any_secret(body: bytes, secret: bytes) -> None:
    verify(secret, render_headers(ID, now(), body, [secret]), body)


def test_the_headers_are_ascii_of_one_line() -> None:
    headers = render_headers(ID, now(), BODY, [OLD, NEW])
    assert all(value.isascii() and value.isprintable() for value in headers.values())
