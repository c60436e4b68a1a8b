"""The one door for writing, on both databases: what a change sees, what it leaves, who is told what."""

import asyncio
from typing import Any

import psycopg
import pytest
from msgspec.structs import replace

from tests.storage.build import (
    AT,
    IDS,
    TERMINAL_ID,
    build_event,
    build_merchant,
    build_message,
    build_operation,
    build_order,
    build_page,
    build_payment,
    build_terminal,
    build_token,
    open_order,
    pay,
    put,
)
from tests.storage.conftest import Ask
from tolem.domain.history import MessageWithOrder, OrderHistory
from tolem.domain.message import MessageState
from tolem.domain.order import AccessToken, Order, OrderStatus
from tolem.domain.payment import OperationStatus, PaymentStatus
from tolem.storage import claims, keys
from tolem.storage.mapping import Mapped
from tolem.storage.open import open_store
from tolem.storage.schema import tolem_schema
from tolem.storage.store import Decision, Key, Overloaded, Store, Uncertain
from tolem.storage.tables import orders


def by_invoice(invoice_id: str) -> Key[OrderHistory]:
    return keys.order_by_invoice(TERMINAL_ID, invoice_id)


async def test_nothing_is_found_where_nothing_is_stored(store: Store) -> None:
    wanted: list[Key[Any]] = [
        keys.order_by_id(IDS.new()),
        by_invoice("1"),
        keys.token_by_hash(b"0" * 32),
        keys.page_by_hash(b"0" * 32),
        keys.message_by_id(IDS.new()),
        keys.merchant_by_client("nobody"),
        keys.terminal_by_id(IDS.new()),
    ]
    seen = await store.change(wanted, lambda *loaded: Decision(loaded))
    assert seen == (None,) * len(wanted)
    assert [await store.find(key) for key in wanted] == [None] * len(wanted)


async def test_an_order_comes_with_all_that_hangs_on_it(store: Store) -> None:
    order = build_order()
    declined = build_payment(order, status=PaymentStatus.DECLINED)
    payment = build_payment(order)
    operation = build_operation(payment)
    waiting = build_message(order)
    delivered = build_message(order, state=MessageState.DELIVERED, due_at=None)
    token, page = build_token(order), build_page(order)
    await put(store, order, declined, payment, operation, waiting, delivered, token, page)

    def check(history: OrderHistory | None) -> None:
        assert history is not None
        assert history.order == order
        assert history.payments == {declined.id: declined, payment.id: payment}
        assert history.operations == {operation.id: operation}
        assert history.messages == {waiting.id: waiting}

    wanted: tuple[Key[Any], ...] = (
        keys.order_by_id(order.id),
        by_invoice(order.invoice_id),
        keys.token_by_hash(token.hash),
        keys.page_by_hash(page.hash),
        keys.message_by_id(delivered.id),
    )
    loaded: tuple[Any, ...] = await store.change(wanted, lambda *loaded: Decision(loaded))
    read: tuple[Any, ...] = tuple([await store.find(key) for key in wanted])
    for found in (loaded, read):
        check(found[0])
        check(found[1])
        assert [pointer.record for pointer in found[2:]] == [token, page, delivered]
        for pointer in found[2:]:
            check(pointer.history)


async def test_a_service_token_has_no_order(store: Store) -> None:
    token = build_token(None)
    await put(store, token)
    found = await store.find(keys.token_by_hash(token.hash))
    assert found is not None
    assert (found.record, found.history) == (token, None)


async def test_a_loaded_row_is_updated_and_an_unknown_one_inserted(store: Store, ask: Ask) -> None:
    order = build_order()
    await put(store, order)

    def rename(history: OrderHistory | None) -> Decision[None]:
        assert history is not None
        return Decision(
            None, (replace(history.order, description="сыр", status=OrderStatus.FAILED), build_event(order))
        )

    await store.change((keys.order_by_id(order.id),), rename)
    assert ask("SELECT description, status FROM orders") == [("сыр", "failed")]
    assert ask("SELECT count(*) FROM events") == [(1,)]


async def test_the_same_key_in_one_batch_gives_one_order(store: Store, ask: Ask) -> None:
    ids = await asyncio.gather(*[store.change((by_invoice("777"),), open_order("777")) for _ in range(5)])
    assert len(set(ids)) == 1
    assert store.batches == 1
    assert ask("SELECT count(*) FROM orders") == [(1,)]
    assert ask("SELECT count(*) FROM events") == [(5,)]


async def test_a_batch_waits_for_the_next_turn_of_the_loop_while_each_brings_more(store: Store) -> None:
    async def change_after(turns: int) -> None:
        for _ in range(turns):
            await asyncio.sleep(0)
        await store.change((by_invoice(str(turns)),), open_order(str(turns)))

    await asyncio.gather(*[change_after(turns) for turns in range(5)])
    assert store.batches == 1


async def test_a_later_change_sees_what_an_earlier_one_wrote(store: Store) -> None:
    order = build_order()
    token, payment = build_token(order), build_payment(order)
    operation, message = build_operation(payment), build_message(order)

    def finish(found: MessageWithOrder | None) -> Decision[None]:
        assert found is not None
        delivered = replace(found.record, state=MessageState.DELIVERED, due_at=None)
        return Decision(None, (delivered,))

    changes: list[asyncio.Future[Any]] = [
        store.change(
            (by_invoice(order.invoice_id),), lambda h: Decision(h, (order, token, payment, operation, message))
        ),
        store.change((keys.order_by_id(order.id),), lambda h: Decision((h.order, dict(h.messages)))),
        store.change((keys.token_by_hash(token.hash),), lambda f: Decision((f.record, f.history.payments))),
        store.change((keys.message_by_id(message.id),), finish),
        store.change((keys.message_by_id(message.id),), lambda f: Decision((f.record.state, dict(f.history.messages)))),
    ]
    none, opened, by_token, _, by_message = await asyncio.gather(*changes)
    assert store.batches == 1
    assert none is None
    assert opened == (order, {message.id: message})
    assert by_token == (token, {payment.id: payment})
    assert by_message == (MessageState.DELIVERED, {})
    found = await store.find(keys.message_by_id(message.id))
    assert found is not None
    assert found.record.state is MessageState.DELIVERED


async def test_a_row_may_be_inserted_and_changed_in_one_batch(store: Store, ask: Ask) -> None:
    order = build_order()
    payment = build_payment(order)

    def decline(history: OrderHistory | None) -> Decision[None]:
        assert history is not None
        return Decision(None, (replace(history.payments[payment.id], status=PaymentStatus.DECLINED),))

    first = store.change((), lambda: Decision(None, (order, payment)))
    second = store.change((keys.order_by_id(order.id),), decline)
    await asyncio.gather(first, second)
    assert ask("SELECT status FROM payments") == [("declined",)]


async def test_a_refusal_reaches_its_caller_only(store: Store, ask: Ask) -> None:
    def refuse(_: OrderHistory | None) -> Decision[None]:
        raise ZeroDivisionError("no")

    good = [store.change((by_invoice(str(i)),), open_order(str(i))) for i in range(3)]
    bad = store.change((by_invoice("1"),), refuse)
    good += [store.change((by_invoice(str(i)),), open_order(str(i))) for i in range(3, 6)]
    await asyncio.gather(*good)
    with pytest.raises(ZeroDivisionError):
        await bad
    assert (store.batches, store.failed_batches) == (1, 0)
    assert ask("SELECT count(*) FROM orders") == [(6,)]


async def test_poison_in_a_full_batch_harms_nobody_else(store: Store, ask: Ask, url: str) -> None:
    def good(numbers: range) -> list[asyncio.Future[Any]]:
        return [store.change((by_invoice(f"{i:09d}"),), open_order(f"{i:09d}")) for i in numbers]

    broken_order = build_order("broken")
    broken = build_payment(broken_order, captured=200_000)
    expected = good(range(30))
    nul = store.change((by_invoice("n\0ul"),), open_order("n\0ul"))
    check = store.change((), lambda: Decision(None, (broken_order, broken)))
    raising = store.change((), lambda: Decision(1 // 0))
    unencodable = store.change((), lambda: Decision(None, (replace(broken_order, id="no id"),)))
    expected += good(range(30, 60))
    cancelled = store.change((by_invoice("888"),), open_order("888"))
    cancelled.cancel()

    assert len(set(await asyncio.gather(*expected))) == 60
    outcomes = await asyncio.gather(nul, check, raising, unencodable, return_exceptions=True)
    # SQLite keeps text with NUL, PostgreSQL has no place for it
    assert isinstance(outcomes[0], Exception) == url.startswith("postgresql")
    assert "payments_totals" in str(outcomes[1])
    assert isinstance(outcomes[2], ZeroDivisionError)
    assert isinstance(outcomes[3], AttributeError | psycopg.DataError)
    assert store.failed_batches > 0
    assert ask("SELECT count(*) FROM orders WHERE invoice_id LIKE '0000%'") == [(60,)]
    assert ask("SELECT count(*) FROM orders WHERE invoice_id IN ('888', 'broken')") == [(0,)]


async def test_a_change_that_breaks_a_unique_index_gets_the_error(store: Store) -> None:
    order = build_order()
    await put(store, order, build_payment(order))
    with pytest.raises(Exception, match=r"(?i)unique|payments_open"):
        await put(store, build_payment(order))


@pytest.mark.parametrize(
    "second",
    (
        pytest.param(lambda o, p, op: build_payment(o), id="a second open payment"),
        pytest.param(lambda o, p, op: build_operation(p), id="a second open money operation"),
        pytest.param(lambda o, p, op: build_order(o.invoice_id), id="a second order of the invoice"),
        pytest.param(
            lambda o, p, op: build_payment(o, status=PaymentStatus.DECLINED, amount=-1), id="a negative amount"
        ),
        pytest.param(
            lambda o, p, op: build_payment(o, status=PaymentStatus.DECLINED, authorized=1, captured=2),
            id="more captured than authorized",
        ),
        pytest.param(lambda o, p, op: build_order("2", amount=10**12), id="13 digits"),
    ),
)
async def test_what_must_not_be_is_refused_by_the_tables(store: Store, second: Any) -> None:
    order = build_order()
    payment = build_payment(order)
    operation = build_operation(payment)
    await put(store, order, payment, operation)
    with pytest.raises(Exception, match=r"(?i)unique|check"):
        await put(store, second(order, payment, operation))


async def test_a_round_succeeds_once_and_an_operation_is_reversed_once(store: Store) -> None:
    order = build_order()
    paid = {"status": PaymentStatus.CAPTURED, "authorized": 1, "captured": 1}
    payment = build_payment(order, **paid)
    operation = build_operation(payment, status=OperationStatus.APPROVED)
    reversal = build_operation(payment, kind="reversal", original_id=operation.id)
    reversal = replace(reversal, kind=type(operation.kind).REVERSAL)
    await put(store, order, payment, operation, reversal)
    with pytest.raises(Exception, match=r"(?i)unique"):
        await put(store, build_payment(order, **paid))
    with pytest.raises(Exception, match=r"(?i)unique"):
        await put(store, replace(reversal, id=IDS.new()))
    await put(store, build_payment(order, **paid, round_id=IDS.new()))


async def test_a_child_is_written_only_with_its_order_loaded(store: Store, ask: Ask) -> None:
    order = build_order()
    await put(store, order)
    with pytest.raises(LookupError, match="root"):
        await store.change((), lambda: Decision(None, (build_payment(order),)))
    assert ask("SELECT count(*) FROM payments") == [(0,)]


async def test_what_never_changes_is_not_written_twice(store: Store) -> None:
    token = build_token(None)
    await put(store, token)
    with pytest.raises(TypeError, match="AccessToken"):
        await store.change(
            (keys.token_by_hash(token.hash),), lambda found: Decision(None, (replace(token, scope="more"),))
        )


async def test_a_token_of_an_order_that_the_batch_has_not_loaded_is_seen_with_it(store: Store) -> None:
    order = build_order()
    token = build_token(order)
    await put(store, order)
    first = store.change((keys.token_by_hash(b"0" * 32),), lambda _: Decision(None, (token,)))
    second = store.change((keys.token_by_hash(token.hash),), lambda found: Decision(found))
    await first
    found = await second
    assert found.record == token
    assert found.history.order == order


async def test_plain_records_are_changed_too(store: Store) -> None:
    merchant = build_merchant()
    terminal = build_terminal(merchant)
    await put(store, merchant, terminal)
    wanted = (keys.merchant_by_client("test"), keys.terminal_by_id(terminal.id))
    await store.change(wanted, lambda m, t: Decision(None, (replace(m, name="Shop"), replace(t, currencies=("EUR",)))))
    assert await store.find(wanted[0]) == replace(merchant, name="Shop")
    assert await store.find(wanted[1]) == replace(terminal, currencies=("EUR",))


async def test_an_answer_comes_after_the_commit(store: Store, ask: Ask) -> None:
    write = store.change((by_invoice("1"),), open_order("1"))
    read = store.change((by_invoice("1"),), lambda history: Decision(history.order.id))
    done: list[int] = []
    read.add_done_callback(lambda _: done.append(ask("SELECT count(*) FROM orders")[0][0]))
    assert await read == await write
    await asyncio.sleep(0)
    assert done == [1]


async def test_what_is_answered_is_found(store: Store) -> None:
    for number in range(20):
        order_id = await store.change((by_invoice(str(number)),), open_order(str(number)))
        assert await store.find(keys.order_by_id(order_id)) is not None


async def test_whole_payments_of_many_payers(store: Store, ask: Ask) -> None:
    paid = await asyncio.gather(*[pay(store, f"{number % 10:03d}") for number in range(40)])
    assert sum(paid) == 10
    assert ask("SELECT count(*), count(DISTINCT order_id) FROM payments WHERE status = 'captured'") == [(10, 10)]
    assert ask("SELECT count(*) FROM messages") == [(10,)]
    assert store.failed_batches == 0


async def test_a_caller_cancelled_before_its_turn_is_dropped(store: Store, ask: Ask) -> None:
    async def call() -> None:
        await store.change((by_invoice("gone"),), open_order("gone"))

    running = asyncio.create_task(call())
    await asyncio.sleep(0)
    assert store.waiting_count == 1
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await store.change((by_invoice("here"),), open_order("here"))
    assert ask("SELECT invoice_id FROM orders") == [("here",)]


async def test_a_caller_cancelled_after_its_turn_leaves_the_change(store: Store, ask: Ask) -> None:
    turn = asyncio.Event()

    def decide(history: OrderHistory | None) -> Decision[None]:
        turn.set()
        return Decision(None, (build_order("late"),))

    gone = store.change((by_invoice("late"),), decide)
    await turn.wait()
    gone.cancel()
    await store.change((by_invoice("here"),), open_order("here"))
    assert ask("SELECT count(*) FROM orders") == [(2,)]


async def test_too_many_waiting_changes_are_refused_at_once(store: Store) -> None:
    changes = [store.change((), lambda: Decision(1)) for _ in range(5_000)]
    with pytest.raises(Overloaded, match="5000"):
        await store.change((), lambda: Decision(1))
    assert sum(await asyncio.gather(*changes)) == 5_000
    assert await store.change((), lambda: Decision(2)) == 2


async def test_close_finishes_what_waits_and_refuses_what_is_new(url: str, ask: Ask) -> None:
    store = await open_store(url, schema=tolem_schema, instance=7)
    changes = [store.change((by_invoice(f"{i:03d}"),), open_order(f"{i:03d}")) for i in range(300)]
    closing = asyncio.create_task(store.close())
    await asyncio.sleep(0)
    with pytest.raises(Overloaded, match="closing"):
        await store.change((), lambda: Decision(1))
    await closing
    assert all(change.done() and change.exception() is None for change in changes)
    assert ask("SELECT count(*) FROM orders") == [(300,)]


async def test_a_writer_that_is_ended_by_force_leaves_nobody_waiting(url: str) -> None:
    store = await open_store(url, schema=tolem_schema, instance=7)
    await store.change((), lambda: Decision(None))
    waiting = [store.change((), lambda: Decision(1)) for _ in range(200)]
    writer = next(task for task in asyncio.all_tasks() if task.get_name() == "tolem writer")
    writer.cancel()
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(outcome, Overloaded) for outcome in outcomes)
    with pytest.raises(asyncio.CancelledError):
        await store.close()


async def test_a_fault_of_the_writer_itself_is_told_and_survived(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(_: Exception) -> bool:
        raise RuntimeError("rollback failed")

    with monkeypatch.context() as patched:
        patched.setattr(store._engine, "settle", fail)
        order = build_order()
        with pytest.raises(Uncertain, match="rollback failed"):
            await put(store, order, build_order(order.invoice_id))
    await store._engine.settle(RuntimeError())
    assert await store.change((), lambda: Decision(1)) == 1


async def test_changes_and_sweeps_keep_their_order(store: Store) -> None:
    order = build_order()
    message = build_message(order)

    first = store.change((), lambda: Decision(None, (order, message)))
    claim = asyncio.create_task(
        claims.claim_messages(store, {message.host: 10}, now=AT, lease=(7, AT.replace(hour=10)), limit=10)
    )
    await first
    assert [m.id for m in await claim] == [message.id]
    found = await store.change((keys.message_by_id(message.id),), lambda f: Decision(f.record))
    assert (found.state, found.lease_owner) == (MessageState.SENDING, 7)


def test_records_and_tables_must_agree() -> None:
    with pytest.raises(TypeError, match="AccessToken and table orders differ"):
        Mapped(orders, AccessToken)
    assert {Order, AccessToken} <= set(tolem_schema.mapped)


async def test_what_is_asked_for_at_one_time_is_read_together(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    orders = [build_order(str(number)) for number in range(5)]
    for order in orders:
        await put(store, order)
    read, readings = store._engine.read, 0

    async def counted(work: Any) -> Any:
        nonlocal readings
        readings += 1
        return await read(work)

    monkeypatch.setattr(store._engine, "read", counted)
    found = await asyncio.gather(*[store.find(keys.order_by_id(order.id)) for order in orders])
    assert [history.order.id for history in found if history] == [order.id for order in orders]
    assert readings == 1


async def test_a_key_that_cannot_be_read_spoils_nobody_elses_reading(store: Store) -> None:
    order = build_order()
    await put(store, order)
    good, bad = keys.order_by_id(order.id), keys.merchant_by_client("\ud800")
    gone = store.find(good)
    gone.cancel()
    found = await asyncio.gather(store.find(good), store.find(bad), store.find(good), return_exceptions=True)
    assert isinstance(found[1], UnicodeEncodeError)
    for history in (found[0], found[2]):
        assert isinstance(history, OrderHistory)
        assert history.order == order


async def test_closing_answers_what_was_being_read(store: Store) -> None:
    order = build_order()
    await put(store, order)
    reading = store.find(keys.order_by_id(order.id))
    await store.close()
    history = await reading
    assert history is not None
    assert history.order == order
