"""Queues by host: what is due is found behind any backlog, and leased by one process only. On both databases."""

import asyncio
from collections import Counter
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import psycopg
import pytest
from msgspec.structs import replace

from tests.storage.build import AT, IDS, build_message, build_order, put
from tests.storage.conftest import Ask
from tolem.domain.message import Message, MessageState
from tolem.storage import claims, keys, queries
from tolem.storage.claims import HOSTS_MAX, SCAN_MAX, list_due_hosts
from tolem.storage.open import open_store
from tolem.storage.schema import tolem_schema
from tolem.storage.store import Decision, Store

MINUTE = timedelta(minutes=1)
OURS = 7
STRANGER = 99
HOST = "shop.kz:443"


async def claim(
    store: Store, quotas: Mapping[str, int] | None = None, *, now: datetime = AT, owner: int = OURS, limit: int = 100
) -> list[Message]:
    lease = (owner, now + MINUTE)
    return await claims.claim_messages(store, quotas or {HOST: 100}, now=now, lease=lease, limit=limit)


async def put_messages(store: Store, *changes: dict[str, Any]) -> list[Message]:
    """One message for each, each of an order of its own."""
    orders = [build_order(f"{IDS.new()}") for _ in changes]
    messages = [build_message(order, **change) for order, change in zip(orders, changes, strict=True)]
    await put(store, *orders, *messages)
    return messages


def ids(messages: list[Message]) -> set[Any]:
    return {message.id for message in messages}


async def test_due_messages_are_leased_whole(store: Store) -> None:
    due, _later, _done = await put_messages(
        store, {}, {"due_at": AT + MINUTE}, {"state": MessageState.DELIVERED, "due_at": None}
    )
    claimed = await claim(store)
    assert claimed == [replace(due, state=MessageState.SENDING, lease_owner=OURS, leased_until=AT + MINUTE)]
    found = await store.find(keys.message_by_id(due.id))
    assert found is not None
    assert found.record == claimed[0]
    assert await claim(store) == []


async def test_messages_of_an_order_go_one_after_the_other(store: Store) -> None:
    order = build_order()
    first, second = build_message(order, due_at=AT + MINUTE), build_message(order)
    await put(store, order, first, second)
    assert await claim(store) == []
    assert ids(await claim(store, now=AT + MINUTE)) == {first.id}
    assert await claim(store, now=AT + MINUTE) == []
    await put(store, order)
    done = replace(first, state=MessageState.DELIVERED, due_at=None)
    await put(store, done)
    assert ids(await claim(store)) == {second.id}


async def test_what_has_to_wait_takes_no_place_of_what_need_not(store: Store) -> None:
    order = build_order()
    blocked = [build_message(order, due_at=AT + MINUTE)]
    blocked += [build_message(order, due_at=AT - n * MINUTE) for n in range(1, 4)]
    await put(store, order, *blocked)
    (free,) = await put_messages(store, {})
    assert ids(await claim(store, {HOST: 1})) == {free.id}


async def test_quotas_and_the_limit_are_kept_and_the_longest_overdue_go_first(store: Store) -> None:
    slow = await put_messages(store, *({"host": "slow.kz:443", "due_at": AT - n * MINUTE} for n in range(10)))
    await put_messages(store, *[{"host": "fast.kz:443"}] * 3, {"host": "other.kz:443"})
    claimed = await claim(store, {"slow.kz:443": 2, "fast.kz:443": 5})
    assert Counter(message.host for message in claimed) == {"slow.kz:443": 2, "fast.kz:443": 3}
    assert {slow[9].id, slow[8].id} < ids(claimed)
    assert ids(await claim(store, {"slow.kz:443": 100, "other.kz:443": 1}, limit=3)) == ids(slow[5:8])
    assert len(await claim(store, {"slow.kz:443": 100, "other.kz:443": 1})) == 6


async def test_a_host_of_any_name_is_a_host(store: Store) -> None:
    names = ('"; DROP TABLE messages', "дүкен", "[::1]:80", "")
    await put_messages(store, *({"host": name} for name in names))
    assert set((await list_due_hosts(store, now=AT)).names) == set(names)
    assert len(await claim(store, dict.fromkeys(names, 1))) == 4


async def test_the_hosts_of_what_is_due(store: Store) -> None:
    assert await list_due_hosts(store, now=AT) == ((), None)
    await put_messages(
        store,
        *({"host": f"{number % 5}.kz:443"} for number in range(40)),
        {"host": "later.kz:443", "due_at": AT + MINUTE},
        {"host": "done.kz:443", "state": MessageState.DEAD, "due_at": None},
        {"host": "sent.kz:443", "state": MessageState.SENDING, "lease_owner": OURS, "leased_until": AT + MINUTE},
    )
    names, next_after = await list_due_hosts(store, now=AT)
    assert (sorted(names), next_after) == ([f"{number}.kz:443" for number in range(5)], None)


async def test_hosts_are_found_behind_any_backlog(store: Store) -> None:
    others = sorted(f"{number}.kz:443" for number in range(HOSTS_MAX + 20))
    await put_messages(store, *[{"host": "dead.kz:443", "due_at": AT - MINUTE}] * SCAN_MAX)
    await put_messages(store, {"host": "0-later.kz:443", "due_at": AT + MINUTE}, *({"host": name} for name in others))
    found: list[str] = []
    after = ""
    for pages in (1, 2):
        names, next_after = await list_due_hosts(store, now=AT, after=after)
        assert next_after is not None
        found += names
        after = next_after
        assert (after == "") == (pages == 2)
    assert sorted(set(found)) == sorted({"dead.kz:443", *others})
    assert len(found) <= len(others) + 2  # the host at the turn of the page may be named twice


async def test_a_lease_ends_by_its_time(store: Store) -> None:
    lease = {"state": MessageState.SENDING, "lease_owner": store.instance}
    running, over = await put_messages(
        store, {**lease, "leased_until": AT + MINUTE}, {**lease, "leased_until": AT - MINUTE}
    )
    assert await claim(store) == []
    assert len(await claims.free_leases(store, real_now=AT)) == 1
    assert ids(await claim(store, owner=store.instance)) == {over.id}
    assert len(await claims.free_leases(store, real_now=AT + MINUTE)) == 2
    assert ids(await claim(store)) == {running.id, over.id}


async def test_a_starting_sqlite_server_frees_all_leases(store: Store, ask: Ask) -> None:
    lease = {"state": MessageState.SENDING, "lease_owner": store.instance, "leased_until": AT + MINUTE}
    await put_messages(store, *[lease] * 3)
    await claims.free_all_leases(store)
    freed = 3 if store.dialect == "sqlite" else 0
    assert ask("SELECT count(*) FROM messages WHERE state = 'waiting' AND lease_owner IS NULL") == [(freed,)]


async def test_a_lease_ends_with_its_process_on_postgresql(postgres: str) -> None:
    ours = await open_store(postgres, schema=tolem_schema, instance=OURS)
    stranger = await open_store(postgres, schema=tolem_schema, instance=STRANGER)
    await put_messages(ours, {})
    (taken,) = await claim(stranger, owner=STRANGER)
    assert len(await claims.free_leases(ours, real_now=AT)) == 0
    with psycopg.connect(postgres, autocommit=True) as server:
        cut = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND objid = 99"
        server.execute(cut)
    await stranger.change((), lambda: Decision(None))  # connected again, it holds its lock again
    assert len(await claims.free_leases(ours, real_now=AT)) == 0
    await stranger.close()
    async with asyncio.timeout(30):  # its backend needs a moment to end
        while not await claims.free_leases(ours, real_now=AT):  # noqa: ASYNC110 - what it waits for is the server's
            await asyncio.sleep(0.02)
    assert ids(await claim(ours)) == {taken.id}
    await ours.close()


async def test_two_processes_never_claim_the_same(postgres: str) -> None:
    stores = [await open_store(postgres, schema=tolem_schema, instance=n) for n in (OURS, STRANGER)]
    await put_messages(stores[0], *[{}] * 40)
    taken: list[Any] = []
    async with asyncio.timeout(30):
        while len(taken) < 40:
            claimed = await asyncio.gather(*[claim(s, {HOST: 5}, owner=s.instance) for s in stores for _ in range(3)])
            taken += [message.id for messages in claimed for message in messages]
    assert len(taken) == len(set(taken)) == 40
    for store in stores:
        await store.close()


async def test_a_claim_leaves_an_order_alone_that_is_being_changed(postgres: str) -> None:
    store = await open_store(postgres, schema=tolem_schema, instance=OURS)
    busy, free = await put_messages(store, {}, {})
    async with await psycopg.AsyncConnection.connect(postgres) as rival:
        await rival.execute("SELECT * FROM orders WHERE id = %s FOR UPDATE", (busy.order_id,))
        assert ids(await claim(store)) == {free.id}
    assert ids(await claim(store)) == {busy.id}
    await store.close()


async def test_what_is_undelivered_is_counted(store: Store) -> None:
    lease = {"state": MessageState.SENDING, "lease_owner": OURS, "leased_until": AT}
    await put_messages(store, {}, {}, lease, {"state": MessageState.DEAD, "due_at": None})
    assert await queries.count_undelivered(store) == 3


async def test_a_message_that_waits_is_due_at_some_time(store: Store) -> None:
    for changes in ({"due_at": None}, {"state": MessageState.SENDING}):
        with pytest.raises(Exception, match=r"(?i)constraint"):
            await put_messages(store, changes)
