"""Declines as both databases count them."""

import asyncio
from datetime import timedelta

from tests.storage.build import AT
from tests.storage.conftest import Ask
from tolem.domain.declines import Declines
from tolem.storage import declines, keys, sweeps
from tolem.storage.declines import Counted
from tolem.storage.open import open_store
from tolem.storage.schema import tolem_schema
from tolem.storage.store import Store

MINUTE = timedelta(minutes=1)
CARD, ADDRESS, TERMINAL = b"c" * 32, b"a" * 32, b"t" * 32
ALL = (
    Counted(CARD, 12 * MINUTE, 120 * MINUTE),
    Counted(ADDRESS, 2 * MINUTE, 60 * MINUTE),
    Counted(TERMINAL, MINUTE, 90 * MINUTE),
)


async def test_each_decline_moves_the_end_on_by_its_own_time(store: Store) -> None:
    first = await declines.count(store, ALL, AT)
    ends = {CARD: AT + 12 * MINUTE, ADDRESS: AT + 2 * MINUTE, TERMINAL: AT + MINUTE}
    assert {row.hash: (row.last_at, row.expires_at) for row in first} == {h: (AT, end) for h, end in ends.items()}
    later = AT + 5 * MINUTE
    await declines.count(store, ALL, later)
    card = await store.find(keys.declines_of(CARD))
    assert card == Declines(hash=CARD, last_at=later, expires_at=AT + 24 * MINUTE)
    address = await store.find(keys.declines_of(ADDRESS))
    assert address == Declines(hash=ADDRESS, last_at=later, expires_at=later + 2 * MINUTE)  # the first had faded


async def test_no_number_of_declines_is_remembered_for_longer(store: Store) -> None:
    for _ in range(100):
        rows = await declines.count(store, ALL, AT)
    ends = {CARD: AT + 120 * MINUTE, ADDRESS: AT + 60 * MINUTE, TERMINAL: AT + 90 * MINUTE}
    assert {row.hash: row.expires_at for row in rows} == ends


async def test_two_processes_count_together_and_lose_nothing(store: Store, url: str) -> None:
    others = [store]
    if not url.startswith("sqlite"):  # a SQLite file has one server process
        others.append(await open_store(url, schema=tolem_schema, instance=8))
    fade = timedelta(seconds=1)
    counted = [(Counted(name, fade, MINUTE), Counted(TERMINAL, fade, 60 * MINUTE)) for name in (CARD, ADDRESS)]
    await asyncio.gather(*(declines.count(others[n % len(others)], counted[n % 2], AT) for n in range(60)))
    for opened in others:
        terminal = await opened.find(keys.declines_of(TERMINAL))
        assert terminal is not None
        assert terminal.expires_at == AT + 60 * fade
    for opened in others[1:]:
        await opened.close()


async def test_what_has_faded_is_purged(store: Store, ask: Ask) -> None:
    await declines.count(store, ALL, AT)
    assert await sweeps.purge_expired(store, before=AT + 3 * MINUTE, real_before=AT, limit=10) == 2
    assert [bytes(row[0]) for row in ask("SELECT hash FROM declines")] == [CARD]
