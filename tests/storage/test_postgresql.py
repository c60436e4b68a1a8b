"""PostgreSQL: connections cut at any moment, locks and their order, what another process does meanwhile."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from typing import Any

import psycopg
import pytest
from msgspec.structs import replace

from tests.storage.build import (
    AT,
    TERMINAL_ID,
    build_merchant,
    build_message,
    build_operation,
    build_order,
    build_payment,
    build_request_key,
    build_token,
    open_order,
    put,
)
from tests.storage.conftest import ask_database, until_somebody_waits_for_a_lock
from tolem.domain.history import MessageWithOrder, OrderHistory
from tolem.domain.merchant import Merchant
from tolem.domain.message import MessageState
from tolem.domain.order import Order, RequestKey
from tolem.storage import keys
from tolem.storage.batch import Batch
from tolem.storage.migrate import create_tables
from tolem.storage.open import open_store
from tolem.storage.postgresql import PostgresEngine
from tolem.storage.schema import tolem_schema
from tolem.storage.statements import Query, Statements
from tolem.storage.store import Decision, Key, Overloaded, Store, Unavailable, Uncertain

CUT = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
)


@pytest.fixture
async def store(postgres: str) -> AsyncIterator[Store]:
    opened = await open_store(postgres, schema=tolem_schema, instance=7)
    yield opened
    await opened.close()


@pytest.fixture
async def other(postgres: str) -> AsyncIterator[Store]:
    """Another process, for what that matters here."""
    opened = await open_store(postgres, schema=tolem_schema, instance=8)
    yield opened
    await opened.close()


def change(store: Store, invoice_id: str) -> "asyncio.Future[Any]":
    return store.change((keys.order_by_invoice(TERMINAL_ID, invoice_id),), open_order(invoice_id))


async def find_at_last(store: Store, invoice_id: str) -> OrderHistory | None:
    """The order, asked again while the connections are cut: an error is an honest answer, and comes no more once they
    are left alone."""
    async with asyncio.timeout(60):
        while True:
            try:
                return await store.find(keys.order_by_invoice(TERMINAL_ID, invoice_id))
            except (psycopg.Error, Unavailable):
                await asyncio.sleep(0.01)


async def test_cut_connections_give_no_wrong_answer(store: Store, postgres: str) -> None:
    cutting = True
    answered: set[str] = set()
    failed: set[str] = set()

    async def call(number: int) -> None:
        done = 0
        while cutting:
            invoice_id = f"{number:03d}{done:06d}"
            done += 1
            try:
                await change(store, invoice_id)
                answered.add(invoice_id)
            except (psycopg.Error, Overloaded):
                failed.add(invoice_id)
            found = await find_at_last(store, invoice_id)
            assert (found is not None) == (invoice_id in answered)

    callers = [asyncio.create_task(call(number)) for number in range(16)]
    pause = random.Random(5)
    for _ in range(15):
        await asyncio.sleep(pause.uniform(0.03, 0.12))
        await asyncio.to_thread(ask_database, postgres, CUT)
    cutting = False
    await asyncio.gather(*callers)
    stored = {row[0] for row in ask_database(postgres, "SELECT invoice_id FROM orders")}
    assert stored == answered
    assert not failed & stored
    assert len(answered) > 100
    assert store.failed_batches > 0


class _LosingEngine(PostgresEngine):
    """Loses the connection around its first COMMIT: before it arrives, or after, or in a crash of the server after
    which the transaction's id was given to another."""

    moment = "after"
    is_losing = True

    async def commit(self, writes: Any, witness: Query | None = None, *, wakes: bool = False) -> None:
        if not self.is_losing:
            await super().commit(writes, witness, wakes=wakes)
            return
        self.is_losing = False
        if self.moment == "after":
            await super().commit(writes, witness, wakes=wakes)
        else:
            self._commit_sent, self._witness = True, witness
        if self.moment == "crash":
            async with await psycopg.AsyncConnection.connect(self._writer_info) as rival:
                row = await (await rival.execute("SELECT pg_current_xact_id()::text")).fetchone()
                assert row is not None
                self._transaction_id = row[0]
        await self._connection().close()
        raise psycopg.OperationalError("connection lost")


@pytest.mark.parametrize("moment", ("before", "after", "crash"))
async def test_a_commit_whose_answer_is_lost_is_asked_about(postgres: str, moment: str) -> None:
    engine = _LosingEngine(postgres, 7, name="tolem")
    engine.moment = moment
    store = Store(engine, tolem_schema, 7)
    await store.open()
    runs = 0
    event_count = "SELECT count(*) FROM events"

    def decide(history: OrderHistory | None) -> Decision[Any]:
        nonlocal runs
        runs += 1
        return open_order("1")(history)

    await store.change((keys.order_by_invoice(TERMINAL_ID, "1"),), decide)
    await store.close()
    assert ask_database(postgres, event_count) == [(1,)]
    assert runs == (1 if moment == "after" else 2)


async def test_an_outcome_that_cannot_be_learned_is_uncertain(postgres: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tolem.storage.postgresql.OUTCOME_TRIES", 2)
    monkeypatch.setattr("tolem.storage.postgresql.OUTCOME_SECONDS", 0.01)
    engine = _LosingEngine(postgres, 7, name="tolem")
    store = Store(engine, tolem_schema, 7)
    await store.open()
    reachable, engine._writer_info = engine._writer_info, "host=127.0.0.1 port=1 connect_timeout=1"
    with pytest.raises(Uncertain):
        await change(store, "1")
    engine._writer_info = reachable
    assert await store.find(keys.order_by_invoice(TERMINAL_ID, "1")) is not None
    await change(store, "2")
    await store.close()


async def test_a_server_that_is_away_is_told_and_comes_back(
    store: Store, postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tolem.storage.store.CONNECT_SECONDS_MAX", 0.1)
    await change(store, "1")
    engine = store._engine
    assert isinstance(engine, PostgresEngine)
    reachable = engine._writer_info, engine._reader_info
    engine._writer_info = engine._reader_info = "host=127.0.0.1 port=1 connect_timeout=1"
    ask_database(postgres, CUT)
    outcomes = await asyncio.gather(*[change(store, str(n)) for n in range(20)], return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {Unavailable}
    with pytest.raises(Unavailable):
        await store.find(keys.order_by_invoice(TERMINAL_ID, "1"))
    engine._writer_info, engine._reader_info = reachable
    await change(store, "2")
    assert await store.find(keys.order_by_invoice(TERMINAL_ID, "2")) is not None


async def test_reading_goes_on_after_its_connection_was_cut(store: Store, postgres: str) -> None:
    order_id = await change(store, "1")
    for _ in range(3):
        assert await store.find(keys.order_by_id(order_id)) is not None
        ask_database(postgres, CUT)


async def test_a_reader_that_gives_up_leaves_the_next_one_its_own_answer(store: Store) -> None:
    ids = [await change(store, str(number)) for number in range(20)]
    for order_id in ids:
        gone = store.find(keys.order_by_id(ids[0]))
        await asyncio.sleep(random.Random(str(order_id)).uniform(0, 0.003))
        gone.cancel()
        found = await store.find(keys.order_by_id(order_id))
        assert found is not None
        assert found.order.id == order_id


async def test_a_change_that_waited_for_an_order_sees_what_was_paid_meanwhile(store: Store, postgres: str) -> None:
    order = build_order()
    payment = build_payment(order)
    await put(store, order)
    text, encode = Statements(tolem_schema, "postgresql").insert[type(payment)]
    async with await psycopg.AsyncConnection.connect(postgres) as rival:
        await rival.execute("SELECT * FROM orders WHERE id = %s FOR UPDATE", (order.id,))
        waiting = store.change((keys.order_by_id(order.id),), lambda history: Decision(dict(history.payments)))
        await asyncio.sleep(0.2)
        assert not waiting.done()
        await rival.execute(text, encode(payment))
    assert await waiting == {payment.id: payment}


async def test_a_message_is_read_again_once_its_order_is_locked(store: Store, postgres: str) -> None:
    order = build_order()
    message = build_message(order)
    await put(store, order, message)
    async with await psycopg.AsyncConnection.connect(postgres) as rival:
        await rival.execute("SELECT * FROM orders WHERE id = %s FOR UPDATE", (order.id,))
        waiting = store.change((keys.message_by_id(message.id),), lambda found: Decision(found))
        await asyncio.sleep(0.2)
        await rival.execute("UPDATE messages SET state = 'delivered', due_at = NULL")
    found: MessageWithOrder = await waiting
    assert found.record.state is MessageState.DELIVERED
    assert found.history.messages == {}


async def test_a_key_that_was_not_there_is_read_again_once_its_order_is_locked(store: Store, postgres: str) -> None:
    order = build_order()
    operation = build_operation(build_payment(order))
    request_key, unknown = build_request_key(operation), keys.request_key_by_hash(b"0" * 32)
    await put(store, order)
    text, encode = Statements(tolem_schema, "postgresql").insert[RequestKey]
    async with await psycopg.AsyncConnection.connect(postgres) as rival:
        await rival.execute("SELECT * FROM orders WHERE id = %s FOR UPDATE", (order.id,))
        named: tuple[Key[Any], ...] = (
            keys.order_by_id(order.id),
            keys.request_key_by_hash(request_key.hash),
            unknown,
        )
        waiting = store.change(named, lambda *found: Decision(found))
        await until_somebody_waits_for_a_lock(postgres)
        await rival.execute(text, encode(request_key))
    history, found, nothing = await waiting
    assert (found.record, found.history, nothing) == (request_key, history, None)
    assert store.failed_batches == 0


async def test_a_key_that_came_meanwhile_with_an_order_that_is_not_locked_is_decided_anew(
    store: Store, postgres: str
) -> None:
    order, elsewhere = build_order("1"), build_order("2")
    operation = build_operation(build_payment(elsewhere))
    request_key = build_request_key(operation)
    await put(store, order, elsewhere)
    text, encode = Statements(tolem_schema, "postgresql").insert[RequestKey]
    async with await psycopg.AsyncConnection.connect(postgres) as rival:
        await rival.execute("SELECT * FROM orders WHERE id = %s FOR UPDATE", (order.id,))
        named: tuple[Key[Any], ...] = (keys.order_by_id(order.id), keys.request_key_by_hash(request_key.hash))
        waiting = store.change(named, lambda *found: Decision(found))
        await until_somebody_waits_for_a_lock(postgres)
        await rival.execute(text, encode(request_key))
    _, found = await waiting
    assert (found.record, found.history.order) == (request_key, elsewhere)


async def test_only_what_may_have_come_is_read_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    order = build_order()
    token = build_token(order)
    await put(store, order, token)
    queries: list[int] = []
    fetch = store._engine.fetch

    async def counted(asked: Sequence[Query]) -> Any:
        queries.append(len(asked))
        return await fetch(asked)

    monkeypatch.setattr(store._engine, "fetch", counted)
    by_id, children = keys.order_by_id(order.id), 3
    for wanted, trips in (
        ((by_id, keys.token_by_hash(token.hash)), [1, 1 + children]),
        ((by_id, keys.token_by_hash(b"0" * 32)), [1, 1 + children + 1]),
    ):
        queries.clear()
        await store.change(wanted, lambda *found: Decision(found))
        assert queries == trips


async def test_orders_are_locked_in_the_order_of_their_ids_and_children_read_later(store: Store) -> None:
    statements = Statements(tolem_schema, "postgresql")
    ids = [(build_order().id,) for _ in range(3)]
    locking = statements.select(Order, ("id",), ids, lock=True).text
    assert locking.endswith("ORDER BY orders.id FOR UPDATE")
    assert "payments" not in locking


def test_new_rows_are_inserted_in_the_order_of_their_unique_key() -> None:
    batch = Batch(tolem_schema, Statements(tolem_schema, "postgresql"))
    for number in (3, 1, 2):
        batch.put(build_order(f"{number}"))
    (inserts,) = batch.rows()
    assert [row[2] for row in inserts.rows] == ["1", "2", "3"]


async def test_two_processes_with_the_same_orders_never_lock_in_a_circle(store: Store, other: Store) -> None:
    orders = [build_order(str(number)) for number in range(30)]
    for order in orders:
        await put(store, order)

    def touch(*histories: OrderHistory) -> Decision[None]:
        return Decision(None, tuple(replace(history.order, updated_at=AT) for history in histories))

    order_keys = [keys.order_by_id(order.id) for order in orders]
    for seed in range(10):
        shuffled = random.Random(seed).sample(order_keys, len(order_keys))
        await asyncio.gather(
            *[store.change((key,), touch) for key in order_keys], *[other.change((key,), touch) for key in shuffled]
        )
    assert (store.failed_batches, other.failed_batches) == (0, 0)


async def test_a_plain_record_changed_by_two_keeps_both_changes(store: Store, other: Store) -> None:
    await put(store, build_merchant())
    key = keys.merchant_by_client("test")

    def add_letter(merchant: Merchant | None) -> Decision[None]:
        assert merchant is not None
        return Decision(None, (replace(merchant, name=merchant.name + "!"),))

    for _ in range(10):
        await asyncio.gather(store.change((key,), add_letter), other.change((key,), add_letter))
    found = await store.find(key)
    assert found is not None
    assert found.name == "Дүкен" + "!" * 20


async def test_a_lock_that_is_not_given_back_fails_only_who_wants_it(
    postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "tolem.storage.postgresql.WRITER_OPTIONS",
        "-c default_transaction_isolation=read\\ committed -c lock_timeout=50",
    )
    store = await open_store(postgres, schema=tolem_schema, instance=7)
    order = build_order()
    await put(store, order)
    async with await psycopg.AsyncConnection.connect(postgres) as rival:
        await rival.execute("SELECT * FROM orders FOR UPDATE")
        stuck = store.change((keys.order_by_id(order.id),), lambda history: Decision(1))
        good = [change(store, f"good{number}") for number in range(10)]
        await asyncio.gather(*good)
        with pytest.raises(psycopg.errors.LockNotAvailable):
            await stuck
    await store.close()


async def test_the_connection_is_set_up_as_the_rules_say(store: Store) -> None:
    engine = store._engine
    assert isinstance(engine, PostgresEngine)
    names = ("lock_timeout", "idle_in_transaction_session_timeout", "default_transaction_isolation", "TimeZone")
    shown = [
        (await (await engine._connection().execute(f"SHOW {name}".encode())).fetchone() or ("",))[0] for name in names
    ]
    assert shown == ["2s", "10s", "read committed", "UTC"]


async def test_errors_name_the_rule_and_never_the_row(store: Store) -> None:
    with pytest.raises(psycopg.errors.CheckViolation) as refused:
        await put(store, build_order("1", amount=-5, email="payer@example.kz"))
    assert "orders_amount" in str(refused.value)
    assert "payer@example.kz" not in str(refused.value)


async def test_tables_may_live_in_a_namespace_of_their_own(postgres: str) -> None:
    create_tables(postgres, tolem_schema, pg_schema="apart")
    create_tables(postgres, tolem_schema, pg_schema="apart")
    store = await open_store(postgres, schema=tolem_schema, instance=7, pg_schema="apart")
    await change(store, "1")
    await store.close()
    assert ask_database(postgres, "SELECT count(*) FROM apart.orders") == [(1,)]
    assert ask_database(postgres, "SELECT count(*) FROM public.orders") == [(0,)]
