"""The signature of a notification: what the specification's own library signs is believed, everything else is not."""

import base64
import time
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook

from tests.merchant.gateway import read_sample
from tests.merchant.test_notification import EXPECTED
from tolem.merchant import InvalidNotification, verify_post_link, verify_signature
from tolem.merchant.signature import SIGNATURES_MAX, TOLERANCE_SECONDS

SECRET = "whsec_" + base64.b64encode(b"s" * 32).decode()
OTHER = "whsec_" + base64.b64encode(b"o" * 24).decode()
NOW = 1_764_000_000
ID = "019f3c4e-0000-7000-8000-000000000001"
BODY = read_sample("post_link_success").encode()


def sign(body: bytes = BODY, *secrets: str, at: float = NOW) -> dict[str, str]:
    moment = datetime.fromtimestamp(at, UTC)
    made = [Webhook(secret).sign(ID, moment, body.decode()) for secret in secrets or (SECRET,)]
    return {"webhook-id": ID, "webhook-timestamp": str(int(at)), "webhook-signature": " ".join(made)}


def refuse(headers: dict[str, str], body: bytes = BODY, secret: str | list[str] = SECRET, now: float = NOW) -> str:
    with pytest.raises(InvalidNotification) as caught:
        verify_signature(body, headers, secret, now=now)
    return caught.value.reason


def test_the_librarys_signature_is_believed() -> None:
    assert verify_signature(BODY, sign(), SECRET, now=NOW) == ID


@given(st.text(), st.binary(min_size=24, max_size=64))
def test_any_body_and_any_secret(text: str, key: bytes) -> None:
    secret = "whsec_" + base64.b64encode(key).decode()
    body = text.encode(errors="replace")
    assert verify_signature(body, sign(body, secret), secret, now=NOW) == ID


@pytest.mark.parametrize("case", (str.title, str.upper, str.lower))
def test_headers_in_any_case(case: Callable[[str], str]) -> None:
    assert verify_signature(BODY, {case(name): value for name, value in sign().items()}, SECRET, now=NOW) == ID


def test_while_the_secret_is_replaced_either_side_may_have_two() -> None:
    assert verify_signature(BODY, sign(BODY, OTHER, SECRET), SECRET, now=NOW) == ID
    assert verify_signature(BODY, sign(BODY, OTHER, SECRET), OTHER, now=NOW) == ID
    assert verify_signature(BODY, sign(BODY, SECRET), [OTHER, SECRET], now=NOW) == ID


def test_signatures_of_other_versions_are_passed_over() -> None:
    headers = sign()
    headers["webhook-signature"] = f"v1a,AAAA v2,x v1 {headers['webhook-signature']}"
    assert verify_signature(BODY, headers, SECRET, now=NOW) == ID


@pytest.mark.parametrize("name", ("webhook-id", "webhook-timestamp", "webhook-signature"))
def test_a_missing_header_is_named(name: str) -> None:
    assert (
        refuse({k: v for k, v in sign().items() if k != name}) == f"{name} is missing: the notification is not signed"
    )
    assert name in refuse(sign() | {name: ""})


@pytest.mark.parametrize(
    "changes",
    (
        {"webhook-id": "another"},
        {"webhook-id": "\udce9"},
        {"webhook-timestamp": str(NOW + 1)},
        {"webhook-signature": "v1,"},
        {"webhook-signature": "v1,not base64"},
        {"webhook-signature": "v1,é"},
        {"webhook-signature": "v1"},
        {"webhook-signature": ","},
        {"webhook-signature": "v1a," + sign()["webhook-signature"].partition(",")[2]},
        {"webhook-signature": sign()["webhook-signature"][:-5]},
        {"webhook-signature": "v1,AAAA " * SIGNATURES_MAX + sign()["webhook-signature"]},
    ),
)
def test_what_was_changed_is_not_believed(changes: dict[str, str]) -> None:
    assert "webhook-signature is not of this body" in refuse(sign() | changes)


def test_another_body_or_secret_is_not_believed() -> None:
    assert "another secret" in refuse(sign(), BODY + b" ")
    assert "another secret" in refuse(sign(), secret=OTHER)
    assert "another secret" in refuse(sign(), secret=[OTHER])


@pytest.mark.parametrize("age_seconds", (0, TOLERANCE_SECONDS, -TOLERANCE_SECONDS))
def test_five_minutes_either_way(age_seconds: int) -> None:
    assert verify_signature(BODY, sign(at=NOW - age_seconds), SECRET, now=NOW) == ID


@pytest.mark.parametrize(
    ("age_seconds", "words"),
    ((TOLERANCE_SECONDS + 1, "301 s old"), (-TOLERANCE_SECONDS - 1, "301 s in the future: is the clock")),
)
def test_what_was_kept_is_refused(age_seconds: int, words: str) -> None:
    assert words in refuse(sign(at=NOW - age_seconds))


@pytest.mark.parametrize("timestamp", ("now", "1764000000.5", "-5", "١٧٦٤٠٠٠٠٠٠", "9" * 13, " 1764000000"))
def test_a_timestamp_is_a_whole_number(timestamp: str) -> None:
    assert refuse(sign() | {"webhook-timestamp": timestamp}) == "webhook-timestamp is not a number of seconds"


def test_the_machines_clock_is_the_default() -> None:
    assert verify_signature(BODY, sign(at=time.time()), SECRET) == ID
    with pytest.raises(InvalidNotification, match="old"):
        verify_signature(BODY, sign(at=time.time() - 400), SECRET)


@pytest.mark.parametrize(
    "secret", ("", "whsec_", SECRET[6:], "whsec_" + "A" * 31, "whsec_!" + SECRET[6:], [], [SECRET, ""])
)
def test_a_secret_that_is_none_is_the_shops_mistake(secret: str | list[str]) -> None:
    with pytest.raises(ValueError, match="webhook_secret is"):
        verify_signature(BODY, sign(), secret, now=NOW)


def test_post_link_with_a_secret() -> None:
    headers = sign(at=time.time())
    told = verify_post_link(BODY, EXPECTED, headers, webhook_secret=SECRET)
    assert (told.is_paid, told.message_id) == (True, ID)
    with pytest.raises(InvalidNotification, match="webhook-signature"):
        verify_post_link(BODY, EXPECTED, headers, webhook_secret=OTHER)
    with pytest.raises(InvalidNotification, match="is missing"):
        verify_post_link(BODY, EXPECTED, {}, webhook_secret=SECRET)
    with pytest.raises(TypeError, match="headers"):
        verify_post_link(BODY, EXPECTED, webhook_secret=SECRET)


def test_a_signature_does_not_stand_for_secret_hash() -> None:
    body = BODY.replace(EXPECTED.secret_hash.encode(), b"FORGED")
    with pytest.raises(InvalidNotification, match="secret_hash"):
        verify_post_link(body, EXPECTED, sign(body, at=time.time()), webhook_secret=SECRET)


def test_the_unsigned_bank_is_believed_without_a_secret() -> None:
    assert verify_post_link(BODY, EXPECTED).message_id == ""
    # An id that nobody vouches for is not passed on.
    assert verify_post_link(BODY, EXPECTED, {"webhook-id": "forged"}).message_id == ""
