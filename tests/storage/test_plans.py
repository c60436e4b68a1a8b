"""PostgreSQL's plans for what the notifier asks all the time, of tables that were filled a moment ago and have no
statistics: rows are found by the indexes made for them. A wrong plan is a hundred times slower, and no answer shows it.
"""

from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest

from tests.storage.build import AT, build_message, build_order, put
from tolem.domain.message import Message
from tolem.domain.order import Order
from tolem.storage import claims
from tolem.storage.open import open_store
from tolem.storage.postgresql import PostgresEngine
from tolem.storage.schema import tolem_schema
from tolem.storage.statements import Query
from tolem.storage.store import Store

MESSAGES = 3_000
IDS = [(build_order("0").id,) for _ in range(128)]


@pytest.fixture
async def busy(postgres: str) -> AsyncIterator[Store]:
    """With a backlog that no statistics tell of."""
    with psycopg.connect(postgres, autocommit=True) as server:
        server.execute("ALTER TABLE messages SET (autovacuum_enabled = off)")
        server.execute("ALTER TABLE orders SET (autovacuum_enabled = off)")
    store = await open_store(postgres, schema=tolem_schema, instance=7)
    for start in range(0, MESSAGES, 500):
        orders = [build_order(str(number)) for number in range(start, start + 500)]
        await put(store, *orders, *(build_message(order, host=f"{order.invoice_id[-2:]}.kz:443") for order in orders))
    yield store
    await store.close()


async def explain(store: Store, query: Query) -> str:
    engine = store._engine
    assert isinstance(engine, PostgresEngine)
    async with await psycopg.AsyncConnection.connect(engine._writer_info, autocommit=True) as server:
        cursor = await server.execute(b"EXPLAIN " + query.text.encode(), query.values)
        return "\n".join(row[0] for row in await cursor.fetchall())


def prepared(store: Store, statement: Any, **params: Any) -> Query:
    text, encode, _ = store._statements.prepared(statement)
    return Query(text, encode(params))


@pytest.mark.parametrize("count", (1, 8, 128))
async def test_an_order_and_its_messages_are_found_by_their_keys(busy: Store, count: int) -> None:
    select = busy._statements.select
    children = await explain(busy, select(Message, ("order_id",), IDS[:count]))
    assert "messages_order" in children
    assert "messages_undelivered" not in children
    for query in (
        select(Order, ("id",), IDS[:count], lock=True),
        select(Message, ("id",), IDS[:count]),
        select(Message, ("order_id",), IDS[:count]),
    ):
        assert "Seq Scan" not in await explain(busy, query)


async def test_queues_are_entered_at_their_heads(busy: Store) -> None:
    scan = await explain(busy, prepared(busy, claims._SCAN, now=AT))
    assert "messages_due" in scan
    walk = await explain(busy, prepared(busy, claims._WALK, now=AT, after=""))
    assert "messages_host" in walk
    quotas = ", ".join(f'"{number:02}.kz:443": 4' for number in range(32))
    claim = await explain(
        busy,
        prepared(
            busy, claims._CLAIM["postgresql"],
            now=AT, owner=7, until=AT, quotas=f"{{{quotas}}}", quota_max=4, limit=128,
        ),
    )  # fmt: skip
    assert "messages_host" in claim
    assert "messages_order" in claim  # is it the first of its order?
    assert "messages_due" not in claim
    free = await explain(busy, prepared(busy, claims._FREE, real_now=AT))
    assert "messages_leased" in free
    for plan in (scan, walk, claim, free):
        assert "Seq Scan" not in plan
        assert "BitmapAnd" not in plan
