"""Keys: the server's own, under which secrets rest sealed, and the webhook secrets that notifications are signed with.

A server key comes from the configuration and never from the database; its id is stored beside what it sealed, so that
it can be replaced while older ones still open. A webhook secret is shared with a shop (Standard Webhooks).
"""

import base64
import binascii
import hashlib
from datetime import datetime
from uuid import UUID

import msgspec

SERVER_KEY_BYTES = 32
"""AES-256."""
SERVER_KEYS_MAX = 8
WEBHOOK_SECRET_BYTES_MIN = 24
WEBHOOK_SECRET_BYTES_MAX = 64
WEBHOOK_SECRET_BYTES = 32
"""What we make ourselves: the size of HMAC-SHA-256."""
WEBHOOK_SECRET_PREFIX = "whsec_"  # noqa: S105 - what every webhook secret begins with


class InvalidKey(ValueError):
    """A text is no key of its kind; says what to change, without repeating it."""


class ServerKey(msgspec.Struct, frozen=True):
    """One key of the server."""

    secret: bytes
    """32 bytes."""

    @property
    def id(self) -> str:
        """Names the key without giving it away: 16 hexadecimal digits of a hash."""
        return hashlib.sha256(b"tolem server key\0" + self.secret).hexdigest()[:16]

    def __repr__(self) -> str:
        return f"ServerKey({self.id})"


class WebhookSecrets(msgspec.Struct, frozen=True, kw_only=True):
    """A terminal's webhook secrets, each sealed under a server key."""

    terminal_id: UUID
    current: bytes | None
    """None: notifications of this terminal are not signed."""
    previous: bytes | None = None
    """The one before, which signs too until the shop has changed over."""
    previous_until: datetime | None = None
    """Real time after which it does not sign any more."""
    changed_at: datetime
    """When they were last changed, for people."""


SANDBOX_SERVER_KEY = ServerKey(hashlib.sha256(b"tolem sandbox").digest())
"""Known to everybody: sandboxes on PostgreSQL that were given none use it, production refuses it."""


def parse_server_keys(text: str) -> tuple[ServerKey, ...]:
    """Keys in base64, separated by commas or white space: the first seals, all open. Raises InvalidKey."""
    keys = []
    for number, part in enumerate(text.replace(",", " ").split(), start=1):
        octets = _decode(part)
        if octets is None or len(octets) != SERVER_KEY_BYTES:
            raise InvalidKey(
                f"server key {number} is not {SERVER_KEY_BYTES} bytes in base64; `tolem keys new` makes one"
            )
        keys.append(ServerKey(octets))
    if len(keys) > SERVER_KEYS_MAX:
        raise InvalidKey(f"{len(keys)} server keys are too many: keep {SERVER_KEYS_MAX} at most")
    return tuple(dict.fromkeys(keys))


def render_server_key(key: ServerKey) -> str:
    """The key as parse_server_keys reads it."""
    return base64.urlsafe_b64encode(key.secret).decode()


def parse_webhook_secret(text: str) -> bytes:
    """The key of a `whsec_…` text: 24 to 64 bytes. Raises InvalidKey."""
    octets = _decode(text.removeprefix(WEBHOOK_SECRET_PREFIX)) if text.startswith(WEBHOOK_SECRET_PREFIX) else None
    if octets is None or not WEBHOOK_SECRET_BYTES_MIN <= len(octets) <= WEBHOOK_SECRET_BYTES_MAX:
        raise InvalidKey(
            f"a webhook secret is {WEBHOOK_SECRET_PREFIX} and then {WEBHOOK_SECRET_BYTES_MIN} to"
            f" {WEBHOOK_SECRET_BYTES_MAX} bytes in base64"
        )
    return octets


def render_webhook_secret(secret: bytes) -> str:
    """The text that shops are given."""
    return WEBHOOK_SECRET_PREFIX + base64.b64encode(secret).decode()


def _decode(text: str) -> bytes | None:
    """Base64 in the usual or the URL's alphabet, padded or not; None: it is not."""
    text = text.rstrip("=").translate(str.maketrans("-_", "+/"))
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None
