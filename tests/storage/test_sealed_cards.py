"""Cards of challenges: only the page where they were typed opens them, only for the hours that their key lives."""

from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace

from tests.storage.build import AT, IDS, build_order, put
from tests.storage.conftest import Ask
from tolem.domain.card import Card, Cvc, Expiry, Pan
from tolem.domain.key import ServerKey
from tolem.domain.sealed_card import SealedCard
from tolem.storage import keys, sweeps
from tolem.storage.sealed_cards import CardSealer
from tolem.storage.sealing import CannotOpen, Sealer
from tolem.storage.store import Store

CARD = Card(Pan("4405639704015096"), Expiry(2030, 1), Cvc("973"), "ARMAN ALI")
PAGE = "pPd8Nqk0RkqfKcN4mB1x2A"
SERVER_KEY = ServerKey(b"k" * 32)


class Hands:
    """A clock that is set by hand."""

    def __init__(self, at: datetime = AT) -> None:
        self.at = at

    def now(self) -> datetime:
        return self.at + timedelta(days=100)  # business time is of no account here

    def real_now(self) -> datetime:
        return self.at


def sealer(store: Store, clock: Hands, key: ServerKey = SERVER_KEY) -> CardSealer:
    return CardSealer(store, clock, Sealer((key,)))


async def seal(store: Store, clock: Hands, cards: CardSealer | None = None) -> SealedCard:
    payment_id = IDS.new()
    key_name, sealed = await (cards or sealer(store, clock)).seal(CARD, PAGE, payment_id)
    return SealedCard(
        payment_id=payment_id, order_id=IDS.new(), key_name=key_name, sealed=sealed, fingerprint=b"f", expires_at=AT
    )


async def test_the_page_opens_its_card_in_any_process(store: Store) -> None:
    clock = Hands()
    record = await seal(store, clock)
    opened = await sealer(store, clock).open(record, PAGE)
    assert opened == CARD
    assert record.sealed is not None
    for digits in (b"4405639704015096", b"973", b"ARMAN"):
        assert digits not in record.sealed


async def test_nobody_else_opens_it(store: Store) -> None:
    clock = Hands()
    record = await seal(store, clock)
    assert record.sealed is not None
    cards = sealer(store, clock)
    changed = bytes((record.sealed[0] ^ 1, *record.sealed[1:]))
    for other, page in (
        (record, "another-page"),
        (replace(record, payment_id=IDS.new()), PAGE),
        (replace(record, sealed=changed), PAGE),
        (replace(record, sealed=record.sealed[:20]), PAGE),
        (replace(record, sealed=b""), PAGE),
        (replace(record, sealed=None), PAGE),
    ):
        with pytest.raises(CannotOpen):
            await cards.open(other, page)
    with pytest.raises(CannotOpen, match="not among the configured"):
        await sealer(store, clock, ServerKey(b"x" * 32)).open(record, PAGE)


async def test_a_key_lives_two_hours(store: Store, ask: Ask) -> None:
    clock = Hands(datetime(2026, 11, 24, 8, 59, 59, tzinfo=UTC))
    first = sealer(store, clock)
    record = await seal(store, clock, first)
    assert record.key_name == "2026-11-24T08"
    clock.at += timedelta(hours=1)
    assert await first.open(record, PAGE) == CARD
    other = await seal(store, clock, first)
    assert other.key_name == "2026-11-24T09"
    assert [row[0] for row in ask("SELECT name FROM card_keys ORDER BY name")] == ["2026-11-24T08", "2026-11-24T09"]
    clock.at += timedelta(seconds=2)
    for process in (first, sealer(store, clock)):  # also one that had it in memory, also before it is purged
        with pytest.raises(CannotOpen, match="is gone"):
            await process.open(record, PAGE)
    assert await sweeps.purge_expired(store, before=AT - timedelta(days=9), real_before=clock.at, limit=10) == 1
    assert ask("SELECT name FROM card_keys") == [("2026-11-24T09",)]
    assert await sealer(store, clock).open(other, PAGE) == CARD


async def test_processes_share_the_key_of_an_hour(store: Store, ask: Ask) -> None:
    clock = Hands()
    records = [await seal(store, clock) for _ in range(3)]
    assert len(ask("SELECT name FROM card_keys")) == 1
    assert len({record.sealed for record in records}) == 3
    last = sealer(store, clock)
    assert [await last.open(record, PAGE) for record in records] == [CARD] * 3


async def test_rows_are_purged_after_their_time(store: Store, ask: Ask) -> None:
    order = build_order()
    record = replace(await seal(store, Hands()), order_id=order.id)
    await put(store, order, record, replace(record, payment_id=IDS.new(), expires_at=AT + timedelta(minutes=1)))
    now = AT + timedelta(seconds=1)
    assert await sweeps.purge_expired(store, before=now, real_before=AT, limit=10) == 1
    assert len(ask("SELECT payment_id FROM sealed_cards")) == 1
    assert await store.find(keys.sealed_card_of(record.payment_id)) is None
