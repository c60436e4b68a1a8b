"""Who listens hears of every commit that wakes, of all processes on PostgreSQL, of its own on SQLite."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import psycopg
import pytest

from tests.storage.build import build_order, put
from tolem.storage import keys
from tolem.storage.open import open_store
from tolem.storage.postgresql import PostgresEngine
from tolem.storage.schema import tolem_schema
from tolem.storage.store import Decision, Store


class Ear:
    """Counts what it hears."""

    def __init__(self) -> None:
        self.heard = 0

    def __call__(self) -> None:
        self.heard += 1


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - what it waits for comes from a server
            await asyncio.sleep(0.005)


def is_listening(store: Store) -> bool:
    engine = store._engine
    return not isinstance(engine, PostgresEngine) or engine._listener.is_listening


@asynccontextmanager
async def opened(url: str, instance: int) -> AsyncIterator[Store]:
    store = await open_store(url, schema=tolem_schema, instance=instance)
    yield store
    await store.close()


async def store_one(store: Store, *, wakes: bool) -> None:
    order = build_order(f"{wakes}")
    await store.change((), lambda: Decision(None, (order,), wakes))


async def test_a_commit_that_wakes_is_heard_by_its_own_process(store: Store) -> None:
    ears = Ear(), Ear()
    for ear in ears:
        store.listen(ear)
    await until(lambda: is_listening(store))
    before = ears[0].heard
    await store_one(store, wakes=False)
    await store_one(store, wakes=True)
    await until(lambda: ears[0].heard > before)
    assert [ear.heard for ear in ears] == [before + 1] * 2


async def test_what_is_refused_or_fails_wakes_nobody(store: Store) -> None:
    ear = Ear()
    store.listen(ear)
    await until(lambda: is_listening(store))
    before = ear.heard
    order = build_order("again")
    await put(store, order)

    def refuse(_: object) -> Decision[None]:
        raise PermissionError

    with pytest.raises(PermissionError):
        await store.change((keys.order_by_id(order.id),), refuse)
    twin = build_order("again")
    with pytest.raises(Exception, match=r"(?i)unique"):
        await store.change((), lambda: Decision(None, (twin,), True))
    await store_one(store, wakes=True)
    await until(lambda: ear.heard > before)
    assert ear.heard == before + 1


async def test_a_commit_that_wakes_is_heard_by_other_processes(postgres: str) -> None:
    async with opened(postgres, 7) as one, opened(postgres, 8) as other:
        ear = Ear()
        other.listen(ear)
        await until(lambda: is_listening(other))
        before = ear.heard
        await store_one(one, wakes=False)
        await store_one(one, wakes=True)
        await until(lambda: ear.heard > before)
        assert ear.heard == before + 1


async def test_a_listener_that_lost_its_connection_listens_again_and_looks_at_once(postgres: str) -> None:
    async with opened(postgres, 7) as store:
        ear = Ear()
        store.listen(ear)
        await until(lambda: is_listening(store))
        before = ear.heard
        with psycopg.connect(postgres, autocommit=True) as server:
            cut = server.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND query LIKE 'LISTEN%'"
            )
            assert cut.fetchall() == [(True,)]
        await until(lambda: ear.heard > before)  # something may have been missed
        await until(lambda: is_listening(store))
        before = ear.heard
        await store_one(store, wakes=True)
        await until(lambda: ear.heard > before)
