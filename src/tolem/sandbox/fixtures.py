"""The client and terminal that the bank publishes for everyone's tests (docs/protocol.md §2), with a webhook secret.

Called by bootstrap when a sandbox starts, so that the documentation's examples run as they stand. Their ids never
change, so several processes that start at once store the same records.
"""

from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from tolem.domain.key import WebhookSecrets
from tolem.domain.merchant import Merchant, Terminal, hash_secret

CLIENT_ID = "test"
CLIENT_SECRET = "yF587AV9Ms94qN2QShFzVR3vFnWkhjbAK3sG"  # noqa: S105 - printed in the bank's documentation
TERMINAL_ID = UUID("67e34d63-102f-4bd1-898e-370781d0074d")
WEBHOOK_SECRET = "whsec_dG9sZW0gc2FuZGJveDogZXZlcnlib2R5IGtub3dzIGl0"  # noqa: S105 - printed in our documentation
"""Signs the notifications of the published terminal, until it is given another."""
MERCHANT_ID = UUID("00000000-0000-7000-8000-000000000001")
"""Ours: a UUIDv7 of the first millisecond, which no clock makes again."""


class Fixtures(NamedTuple):
    """What a sandbox stores at its first start."""

    merchant: Merchant
    terminal: Terminal
    webhook_secrets: WebhookSecrets


def published_fixtures(at: datetime, salt: bytes, sealed_secret: bytes) -> Fixtures:
    """The published client and its terminal. `salt`: 16 random bytes; `sealed_secret`: WEBHOOK_SECRET; `at`: aware UTC.

    The documentation's examples use the terminal with tenge, and with dollars where a card is verified.
    """
    return Fixtures(
        Merchant(
            id=MERCHANT_ID,
            client_id=CLIENT_ID,
            name="Test shop",
            secret_salt=salt,
            secret_hash=hash_secret(salt, CLIENT_SECRET),
            created_at=at,
        ),
        Terminal(id=TERMINAL_ID, merchant_id=MERCHANT_ID, name="Test shop", currencies=("KZT", "USD"), created_at=at),
        WebhookSecrets(terminal_id=TERMINAL_ID, current=sealed_secret, changed_at=at),
    )
