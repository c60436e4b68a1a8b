"""Cards at rest while their payers are with the issuer: sealed, for minutes, and gone before the acquirer is asked.

storage/sealed_cards.py seals and opens; docs/threeds.md says what a stolen backup would open.
"""

from datetime import datetime
from uuid import UUID

import msgspec


class SealedCard(msgspec.Struct, frozen=True, kw_only=True):
    """The card of an authentication that is under way, sealed. Taken away by the change that sends it on."""

    payment_id: UUID
    order_id: UUID
    key_name: str
    """Of the CardKey."""
    sealed: bytes | None
    """None: taken, or not needed any more."""
    fingerprint: bytes
    """Keyed, of the number: whose decline it is if the payer does not come back (flows/limits.py)."""
    expires_at: datetime
    """Business time; the row is purged after this."""


class CardKey(msgspec.Struct, frozen=True, kw_only=True):
    """The random key of an hour, under which cards rest during a challenge; itself sealed under the server key."""

    name: str
    """The hour: 2026-11-24T08."""
    sealed: bytes
    expires_at: datetime
    """Real time; the row is purged after this, and no copy of the cards can be opened any more."""
