"""The vault: the numbers of saved cards, each sealed under a server key and bound to its customer.

AES-256-GCM (sealing.py). Whether a card is known already is told by its fingerprint, an HMAC under a random key that
rests sealed beside the cards: replacing server keys changes no fingerprint. Called by the flow of saved cards.
Invariant: a number is opened only to be sent to the issuer and the acquirer of a payment that its customer makes.
"""

import hashlib
import hmac
import os
from uuid import UUID

from tolem.domain.card import Pan
from tolem.domain.saved_card import SavedCard, VaultKey
from tolem.storage import keys
from tolem.storage.sealing import CannotOpen, Sealer
from tolem.storage.store import Decision, Store

FINGERPRINT_KEY = "fingerprint"
"""Name of the key under which fingerprints are made."""
_KEY_BYTES = 32


class Vault:
    """One process's way to the numbers of saved cards."""

    def __init__(self, store: Store, sealer: Sealer) -> None:
        self._store = store
        self._sealer = sealer
        self._fingerprint_key = b""
        """Opened at the first use."""

    async def fingerprint(self, pan: Pan, merchant_id: UUID, account_id: str) -> bytes:
        """32 bytes, the same for the same card of the same customer of a merchant; it links nothing else."""
        key = self._fingerprint_key or await self._load_key()
        owner = hashlib.sha256(account_id.encode()).digest()
        return hmac.digest(key, merchant_id.bytes + owner + pan.reveal().encode(), hashlib.sha256)

    def seal(self, pan: Pan, fingerprint: bytes) -> tuple[str, bytes]:
        """`key_id` and `sealed` of a card's record."""
        return self._sealer.key_id, self._sealer.seal(pan.reveal().encode(), owner_of_card(fingerprint))

    def open(self, card: SavedCard) -> Pan:
        """The number. Raises CannotOpen."""
        if card.sealed is None:
            raise CannotOpen("the card was removed")
        return Pan(self._sealer.open(card.sealed, owner_of_card(card.fingerprint)).decode())

    async def _load_key(self) -> bytes:
        """The key of fingerprints, made once for a database."""
        owner = owner_of_key(FINGERPRINT_KEY)
        fresh = VaultKey(name=FINGERPRINT_KEY, sealed=self._sealer.seal(os.urandom(_KEY_BYTES), owner))

        def decide(stored: VaultKey | None) -> Decision[VaultKey]:
            return Decision(fresh, (fresh,)) if stored is None else Decision(stored)

        stored = await self._store.change((keys.vault_key_by_name(FINGERPRINT_KEY),), decide)
        self._fingerprint_key = self._sealer.open(stored.sealed, owner)
        return self._fingerprint_key


def owner_of_card(fingerprint: bytes) -> bytes:
    """What a sealed number is bound to."""
    return b"saved card " + fingerprint


def owner_of_key(name: str) -> bytes:
    """What a sealed key of the vault is bound to."""
    return b"vault key " + name.encode()
