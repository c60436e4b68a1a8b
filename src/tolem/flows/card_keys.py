"""Server keys of saved cards: which ones the vault needs, how many cards each seals, sealing all under the first.

Called by bootstrap at a start, and by the command line. Cards are resealed a hundred at a time beside a running server:
each row is put in place only if it is still the one that was read.
"""

from collections import Counter

from tolem.storage import keys, saved_cards
from tolem.storage.sealing import Sealer, key_id_of
from tolem.storage.store import Decision, Store
from tolem.storage.vault import owner_of_card, owner_of_key

BATCH = 100


class CardKeeper:
    """What an operator may do with the server keys of saved cards."""

    def __init__(self, store: Store, sealer: Sealer) -> None:
        self._store = store
        self._sealer = sealer

    async def count_by_server_key(self) -> Counter[str]:
        """How many saved cards, consents and keys of the vault each server key seals, by the key's id."""
        counted = Counter({id: await saved_cards.count_cards(self._store, id) for id in await self._list_ids()})
        counted.update(consent.key_id or "" for consent in await saved_cards.list_open_consents(self._store))
        counted.update(key_id_of(key.sealed) for key in await saved_cards.list_vault_keys(self._store))
        return counted

    async def list_missing_keys(self) -> list[str]:
        """Server keys that something here needs and that are not configured."""
        return sorted(set(await self.count_by_server_key()) - set(self._sealer.key_ids))

    async def reseal(self) -> int:
        """Seals everything under the first server key; how much was not. Raises CannotOpen, and then stops."""
        return await self._reseal_keys() + await self._reseal_consents() + await self._reseal_cards()

    async def _list_ids(self) -> list[str]:
        return await saved_cards.list_key_ids(self._store)

    async def _reseal_cards(self) -> int:
        moved = 0
        for key_id in await self._list_ids():
            while key_id != self._sealer.key_id:
                cards = await saved_cards.list_cards_of_key(self._store, key_id, BATCH)
                if not cards:
                    break
                for card in cards:
                    sealed = self._renew(card.sealed or b"", owner_of_card(card.fingerprint))
                    moved += await saved_cards.swap_sealed(self._store, card, self._sealer.key_id, sealed)
        return moved

    async def _reseal_consents(self) -> int:
        moved = 0
        for consent in await saved_cards.list_open_consents(self._store):
            if consent.sealed is not None and consent.key_id != self._sealer.key_id:
                sealed = self._renew(consent.sealed, owner_of_card(consent.fingerprint))
                moved += await saved_cards.swap_consent(self._store, consent, self._sealer.key_id, sealed)
        return moved

    async def _reseal_keys(self) -> int:
        moved = 0
        for key in await saved_cards.list_vault_keys(self._store):
            if key_id_of(key.sealed) != self._sealer.key_id:
                renewed = type(key)(name=key.name, sealed=self._renew(key.sealed, owner_of_key(key.name)))
                await self._store.change(
                    (keys.vault_key_by_name(key.name),), lambda _, renewed=renewed: Decision(None, (renewed,))
                )
                moved += 1
        return moved

    def _renew(self, sealed: bytes, owner: bytes) -> bytes:
        return self._sealer.seal(self._sealer.open(sealed, owner), owner)
