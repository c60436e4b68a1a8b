"""Reads and set-based statements of saved cards. Each is a function of the store."""

from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import sqlalchemy as sa

from tolem.domain.payment import OPEN_STATUSES, SUCCESSFUL_STATUSES
from tolem.domain.saved_card import CardConsent, SavedCard, VaultKey
from tolem.storage.columns import Id, Instant
from tolem.storage.store import Store
from tolem.storage.tables import card_consents, one_of, payments, saved_cards, vault_keys


class DueConsent(NamedTuple):
    """A consent whose payment has an outcome."""

    payment_id: UUID
    rrn: str
    is_approved: bool


async def list_cards(store: Store, merchant_id: UUID, account_id: str, limit: int) -> list[SavedCard]:
    """A customer's saved cards, expired ones too, the one saved last first."""
    return await store.select(_CARDS_OF_CUSTOMER, merchant_id=merchant_id, account_id=account_id, limit=limit)


async def list_due_consents(store: Store, limit: int) -> list[DueConsent]:
    """Consents that wait to be settled, oldest first."""
    return [
        DueConsent(payment_id, rrn, bool(is_approved))
        for payment_id, rrn, is_approved in await store.select(_DUE_CONSENTS, limit=limit)
    ]


async def list_key_ids(store: Store) -> list[str]:
    """The server keys that seal cards: each is a step to the next one in an index, however many cards there are."""
    found: list[str] = []
    while True:
        ((key_id,),) = await store.select(_NEXT_KEY, after=found[-1] if found else "")
        if key_id is None:
            return found
        found.append(key_id)


async def count_cards(store: Store, key_id: str) -> int:
    """How many cards a server key seals."""
    ((count,),) = await store.select(_COUNT_OF_KEY, key_id=key_id)
    return int(count)


async def list_cards_of_key(store: Store, key_id: str, limit: int) -> list[SavedCard]:
    """Some of the cards that a server key seals."""
    return await store.select(_CARDS_OF_KEY, key_id=key_id, limit=limit)


async def list_open_consents(store: Store) -> list[CardConsent]:
    """Consents that are not settled: seconds old, but for those of payments without a known outcome."""
    return await store.select(_OPEN_CONSENTS)


async def list_vault_keys(store: Store) -> list[VaultKey]:
    """All keys of the vault."""
    return await store.select(_VAULT_KEYS)


async def swap_sealed(store: Store, card: SavedCard, key_id: str, sealed: bytes) -> bool:
    """Puts another sealed number in the place of the one that was read; False: it was removed or renewed meanwhile."""
    return bool(await store.sweep(_SWAP, id=card.id, before=card.sealed, key_id=key_id, sealed=sealed))


async def swap_consent(store: Store, consent: CardConsent, key_id: str, sealed: bytes) -> bool:
    """The same for a consent."""
    return bool(
        await store.sweep(_SWAP_CONSENT, id=consent.payment_id, before=consent.sealed, key_id=key_id, sealed=sealed)
    )


async def purge_cards(store: Store, *, before: datetime, limit: int) -> int:
    """Deletes what is left of cards that were removed or never came to be saved, and settled consents, both older than
    an instant; at most `limit` of each."""
    purged = [await store.sweep(statement, before=before, limit=limit) for statement in (_PURGE, _PURGE_CONSENTS)]
    return sum(len(rows) for rows in purged)


def _purge(table: sa.Table, at: sa.Column[datetime]) -> sa.Executable:
    (key,) = table.primary_key.columns
    expired = (
        sa.select(key)
        .where(table.c.sealed.is_(None), at < sa.bindparam("before", type_=Instant))
        .order_by(at)
        .limit(sa.bindparam("limit", type_=sa.Integer))
        .with_for_update(skip_locked=True)
        .cte("expired")
    )
    return table.delete().where(key.in_(sa.select(expired.c[key.name]))).returning(key)


def _swap(table: sa.Table) -> sa.Executable:
    (key,) = table.primary_key.columns
    return (
        table.update()
        .where(key == sa.bindparam("id", type_=Id), table.c.sealed == sa.bindparam("before", type_=sa.LargeBinary))
        .values(
            key_id=sa.bindparam("key_id", type_=sa.Text),
            sealed=sa.bindparam("sealed", type_=sa.LargeBinary),
        )
        .returning(key)
    )


_LIMIT = sa.bindparam("limit", type_=sa.Integer)
_KEY_ID = sa.bindparam("key_id", type_=sa.Text)
_CARDS_OF_CUSTOMER = (
    sa.select(*saved_cards.columns)
    .where(
        saved_cards.c.merchant_id == sa.bindparam("merchant_id", type_=Id),
        saved_cards.c.account_id == sa.bindparam("account_id", type_=sa.Text),
        saved_cards.c.sealed.is_not(None),
    )
    .order_by(saved_cards.c.updated_at.desc(), saved_cards.c.id)
    .limit(_LIMIT)
)
_DUE_CONSENTS = (
    sa.select(
        card_consents.c.payment_id,
        payments.c.rrn,
        sa.case((one_of(payments.c.status, SUCCESSFUL_STATUSES), sa.literal_column("1")), else_=sa.literal_column("0")),
    )
    .join(payments, payments.c.id == card_consents.c.payment_id)
    .where(card_consents.c.sealed.is_not(None), ~one_of(payments.c.status, OPEN_STATUSES))
    .order_by(card_consents.c.payment_id)
    .limit(_LIMIT)
)
_NEXT_KEY = sa.select(sa.func.min(saved_cards.c.key_id).label("key_id")).where(
    saved_cards.c.key_id.is_not(None), saved_cards.c.key_id > sa.bindparam("after", type_=sa.Text)
)
_COUNT_OF_KEY = sa.select(sa.func.count().label("count")).where(
    saved_cards.c.key_id.is_not(None), saved_cards.c.key_id == _KEY_ID
)
_CARDS_OF_KEY = (
    sa.select(*saved_cards.columns)
    .where(saved_cards.c.key_id.is_not(None), saved_cards.c.key_id == _KEY_ID)
    .limit(_LIMIT)
)
_OPEN_CONSENTS = sa.select(*card_consents.columns).where(card_consents.c.sealed.is_not(None))
_VAULT_KEYS = sa.select(*vault_keys.columns).order_by(vault_keys.c.name)
_SWAP = _swap(saved_cards)
_SWAP_CONSENT = _swap(card_consents)
_PURGE = _purge(saved_cards, saved_cards.c.updated_at)
_PURGE_CONSENTS = _purge(card_consents, card_consents.c.created_at)
