"""The signature of a notification (Standard Webhooks specification, https://www.standardwebhooks.com).

Called by `verify_post_link` where the shop has a webhook secret; a shop may call `verify_signature` itself. The bank
signs nothing: a shop that is paid through the bank has no secret, and goes by secret_hash alone.
"""

import base64
import hashlib
import hmac
import re
import time
from collections.abc import Iterator, Mapping, Sequence

TOLERANCE_SECONDS = 300
"""A signature that is older, or from further in the future, is refused: somebody may have kept it."""

SECRET_PREFIX = "whsec_"  # noqa: S105 - what every webhook secret begins with
SECRET_BYTES_MIN = 24
SECRET_BYTES_MAX = 64
SIGNATURES_MAX = 16
"""Signatures in one header that are looked at: a gateway sends one for each of its live secrets, two at most."""


class InvalidNotification(Exception):
    """The request is no notification of this order. `reason` says why, without any secret: log it, answer 4xx."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def verify_signature(
    body: bytes,
    headers: Mapping[str, str],
    webhook_secret: str | Sequence[str],
    *,
    now: float | None = None,
) -> str:
    """The id of a message that was signed with the secret, or with one of several, in the last five minutes.

    body: the bytes as they came. headers: the request's, in any case. now: seconds since 1970, the machine's clock by
    default. Raises InvalidNotification for everything else, ValueError for a secret that is none.
    """
    keys = [_parse_secret(secret) for secret in _list_secrets(webhook_secret)]
    given = {name.lower(): value for name, value in headers.items()}
    message_id, timestamp = _get(given, "webhook-id"), _get(given, "webhook-timestamp")
    signatures = list(_read_signatures(_get(given, "webhook-signature")))
    _check_time(timestamp, time.time() if now is None else now)
    content = b".".join((message_id.encode(errors="surrogateescape"), timestamp.encode(), body))
    expected = [hmac.digest(key, content, hashlib.sha256) for key in keys]
    # All are compared, whichever fits: the time taken says nothing.
    if not any([hmac.compare_digest(signature, wanted) for signature in signatures for wanted in expected]):
        raise InvalidNotification("webhook-signature is not of this body, or was made with another secret")
    return message_id


def _list_secrets(webhook_secret: str | Sequence[str]) -> Sequence[str]:
    secrets = (webhook_secret,) if isinstance(webhook_secret, str) else webhook_secret
    if not secrets:
        raise ValueError("webhook_secret is empty: pass None if this shop has no secret")
    return secrets


def _parse_secret(secret: str) -> bytes:
    key = b""
    if secret.startswith(SECRET_PREFIX):
        text = secret.removeprefix(SECRET_PREFIX).rstrip("=")
        try:
            key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
        except ValueError:  # of which binascii.Error is one
            key = b""
    if not SECRET_BYTES_MIN <= len(key) <= SECRET_BYTES_MAX:
        raise ValueError(
            f"webhook_secret is not {SECRET_PREFIX} and {SECRET_BYTES_MIN} to {SECRET_BYTES_MAX} bytes in base64"
        )
    return key


def _get(headers: Mapping[str, str], name: str) -> str:
    value = headers.get(name)
    if not value:
        raise InvalidNotification(f"{name} is missing: the notification is not signed")
    return value


def _read_signatures(header: str) -> Iterator[bytes]:
    """Those of a version that we know; others are for other receivers."""
    for part in header.split()[:SIGNATURES_MAX]:
        version, _, signature = part.partition(",")
        if version == "v1":
            try:
                yield base64.b64decode(signature, validate=True)
            except ValueError:  # not base64, so not the right one
                continue


def _check_time(timestamp: str, now: float) -> None:
    if not re.fullmatch("[0-9]{1,12}", timestamp):
        raise InvalidNotification("webhook-timestamp is not a number of seconds")
    age_seconds = now - int(timestamp)
    if abs(age_seconds) > TOLERANCE_SECONDS:
        direction = "old" if age_seconds > 0 else "in the future: is the clock of this machine right?"
        raise InvalidNotification(f"webhook-timestamp is {abs(age_seconds):.0f} s {direction}")
