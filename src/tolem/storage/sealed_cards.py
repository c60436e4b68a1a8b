"""Cards at rest while their payers are with the issuer: AES-256-GCM, opened only by who has the page's address.

The key of a card is derived from two secrets: the address of its payment page, of which the database has only a hash,
and a random key of the hour. That one rests sealed under the server key, so that any process can open it, and is
deleted after two hours: what a backup holds can't be opened any more then, even by who has the server key and the
address. Called by the flow of authentication; who takes the card clears its row in the same change.

    sealed = nonce (12) | ciphertext | tag (16), bound to the payment
"""

import os
from datetime import UTC, datetime, timedelta
from uuid import UUID

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from tolem.clock import Clock
from tolem.domain.card import Card, Cvc, Expiry, Pan
from tolem.domain.sealed_card import CardKey, SealedCard
from tolem.storage import keys
from tolem.storage.sealing import CannotOpen, Sealer
from tolem.storage.store import Decision, Store

KEY_HOURS = 2
"""So long the key of an hour is kept, counted from the hour's beginning; no challenge lasts half as long."""

_KEY_BYTES = 32
_NONCE_BYTES = 12
_INFO = b"tolem sealed card\0"


class CardSealer:
    """One process's way to the keys of the hours."""

    def __init__(self, store: Store, clock: Clock, sealer: Sealer) -> None:
        self._store = store
        self._clock = clock
        self._sealer = sealer
        self._opened: dict[str, bytes] = {}
        """Keys of this hour and the one before."""

    async def seal(self, card: Card, page_id: str, payment_id: UUID) -> tuple[str, bytes]:
        """`key_name` and `sealed` of the record of a card that was typed at a page."""
        name = _name(self._clock.real_now())
        key = self._known(name) or self._keep(await self._make(name))
        nonce = os.urandom(_NONCE_BYTES)
        ciphertext = AESGCM(_derive(key, page_id, payment_id)).encrypt(nonce, _reveal(card), payment_id.bytes)
        return name, nonce + ciphertext

    async def open(self, record: SealedCard, page_id: str) -> Card:
        """The card. Raises CannotOpen: another page's, taken already, or the key of its hour is gone."""
        if record.sealed is None:
            raise CannotOpen("the card was taken already")
        key = self._known(record.key_name)
        if key is None:
            stored = await self._store.find(keys.card_key_by_name(record.key_name))
            if stored is None or stored.expires_at <= self._clock.real_now():
                raise CannotOpen(f"the card key of {record.key_name} is gone")
            key = self._keep(stored)
        nonce, ciphertext = record.sealed[:_NONCE_BYTES], record.sealed[_NONCE_BYTES:]
        try:
            plain = AESGCM(_derive(key, page_id, record.payment_id)).decrypt(nonce, ciphertext, record.payment_id.bytes)
        except (InvalidTag, ValueError) as error:  # ValueError: too short for a nonce
            raise CannotOpen("the card was typed at another page, or was changed since") from error
        return _conceal(plain)

    async def _make(self, name: str) -> CardKey:
        """The key of this hour, ours or the one that another process made first."""
        sealed = self._sealer.seal(os.urandom(_KEY_BYTES), _INFO + name.encode())
        fresh = CardKey(name=name, sealed=sealed, expires_at=_end_of(name))

        def decide(stored: CardKey | None) -> Decision[CardKey]:
            return Decision(fresh, (fresh,)) if stored is None else Decision(stored)

        return await self._store.change((keys.card_key_by_name(name),), decide)

    def _keep(self, stored: CardKey) -> bytes:
        self._opened[stored.name] = key = self._sealer.open(stored.sealed, _INFO + stored.name.encode())
        return key

    def _known(self, name: str) -> bytes | None:
        """The key, if this process has opened it; those whose time is over are forgotten first."""
        now = self._clock.real_now()
        for old in [old for old in self._opened if _end_of(old) <= now]:
            del self._opened[old]
        return self._opened.get(name)


def _name(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H")


def _end_of(name: str) -> datetime:
    return datetime.strptime(name, "%Y-%m-%dT%H").replace(tzinfo=UTC) + timedelta(hours=KEY_HOURS)


def _derive(key: bytes, page_id: str, payment_id: UUID) -> bytes:
    return HKDF(SHA256(), _KEY_BYTES, salt=page_id.encode(), info=_INFO + payment_id.bytes).derive(key)


def _reveal(card: Card) -> bytes:
    expiry = card.expiry
    return msgspec.json.encode((card.pan.reveal(), expiry.year, expiry.month, card.cvc.reveal(), card.holder))


def _conceal(plain: bytes) -> Card:
    pan, year, month, cvc, holder = msgspec.json.decode(plain, type=tuple[str, int, int, str, str])
    return Card(Pan(pan), Expiry(year, month), Cvc(cvc), holder)
