"""What the sender and recovery claim, on both databases."""

import asyncio
import itertools
from datetime import datetime, timedelta
from typing import Any

import psycopg
import pytest
from msgspec.structs import replace

from tests.storage.build import (
    AT,
    IDS,
    build_message,
    build_operation,
    build_order,
    build_page,
    build_payment,
    build_token,
    put,
)
from tests.storage.conftest import Ask
from tolem.domain.message import Message, MessageState
from tolem.domain.order import Order, OrderStatus
from tolem.domain.payment import OperationKind, OperationStatus, Payment, PaymentStatus
from tolem.storage import keys, queries, sweeps
from tolem.storage.open import open_store
from tolem.storage.schema import tolem_schema
from tolem.storage.store import Decision, Store
from tolem.storage.sweeps import DueHold

MINUTE = timedelta(minutes=1)
OURS = 7
STRANGER = 99


async def claim(store: Store, *, now: datetime = AT, owner: int = OURS, **limits: Any) -> list[Message]:
    options: dict[str, Any] = {"limit": 100, "per_host": 100, "full_hosts": (), **limits}
    return await sweeps.claim_messages(store, now=now, real_now=now, lease=(owner, now + MINUTE), **options)


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


async def test_a_lease_ends_by_its_time(store: Store) -> None:
    lease = {"state": MessageState.SENDING, "lease_owner": OURS}
    running, over = await put_messages(
        store, {**lease, "leased_until": AT + MINUTE}, {**lease, "leased_until": AT - MINUTE}
    )
    assert ids(await claim(store)) == {over.id}
    assert ids(await claim(store, now=AT + MINUTE)) == {running.id, over.id}


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


async def test_limits_and_full_hosts_are_kept(store: Store) -> None:
    slow = [{"host": "slow.kz:443", "due_at": AT - MINUTE}] * 10
    fast = [{"host": "fast.kz:443"}] * 3
    await put_messages(store, *slow, *fast)
    claimed = await claim(store, per_host=2)
    assert sorted(message.host for message in claimed) == ["fast.kz:443"] * 2 + ["slow.kz:443"] * 2
    assert [m.host for m in await claim(store, full_hosts=("slow.kz:443", "other.kz:443"))] == ["fast.kz:443"]
    assert len(await claim(store, limit=3)) == 3
    assert len(await claim(store)) == 5


async def test_a_starting_sqlite_server_frees_all_leases(store: Store) -> None:
    lease = {"state": MessageState.SENDING, "lease_owner": STRANGER, "leased_until": AT + MINUTE}
    (message,) = await put_messages(store, lease)
    freed = await sweeps.free_leases(store)
    assert freed == (1 if store.dialect == "sqlite" else 0)
    # on PostgreSQL the claim itself sees that nobody holds the stranger's advisory lock
    assert ids(await claim(store)) == {message.id}


async def test_a_lease_of_a_living_process_is_respected(postgres: str) -> None:
    ours = await open_store(postgres, schema=tolem_schema, instance=OURS)
    stranger = await open_store(postgres, schema=tolem_schema, instance=STRANGER)
    await put_messages(ours, {})
    (taken,) = await claim(stranger, owner=STRANGER)
    assert await claim(ours) == []
    with psycopg.connect(postgres, autocommit=True) as server:
        cut = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND objid = 99"
        server.execute(cut)
    await stranger.change((), lambda: Decision(None))  # connected again, it holds its lock again
    assert await claim(ours) == []
    await stranger.close()
    async with asyncio.timeout(10):  # its backend needs a moment to end
        while not (claimed := await claim(ours)):  # noqa: ASYNC110 - what it waits for is the server's
            await asyncio.sleep(0.02)
    assert ids(claimed) == {taken.id}
    await ours.close()


async def test_two_processes_never_claim_the_same(postgres: str) -> None:
    stores = [await open_store(postgres, schema=tolem_schema, instance=n) for n in (OURS, STRANGER)]
    await put_messages(stores[0], *[{}] * 40)
    claims = await asyncio.gather(*[claim(s, owner=s.instance, limit=5) for s in stores for _ in range(6)])
    taken = [message.id for claimed in claims for message in claimed]
    assert len(taken) == len(set(taken))
    assert len(taken) == 40
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


async def test_operations_are_claimed_when_due_and_counted(store: Store) -> None:
    orders = [build_order(str(n)) for n in range(4)]
    payments = [build_payment(order) for order in orders]
    due = build_operation(payments[0], due_at=AT)
    unknown = build_operation(payments[1], due_at=AT, status=OperationStatus.UNKNOWN, tries=4)
    later = build_operation(payments[2], due_at=AT + MINUTE)
    settled = build_operation(payments[3], due_at=None, status=OperationStatus.APPROVED)
    await put(store, *orders, *payments, due, unknown, later, settled)
    hold = timedelta(seconds=25)
    claimed = await sweeps.claim_operations(store, real_now=AT, hold=hold, limit=10)
    again_at = AT + hold
    assert sorted(claimed, key=lambda o: o.id) == [
        replace(due, tries=1, due_at=again_at),
        replace(unknown, tries=5, due_at=again_at),
    ]
    assert await sweeps.claim_operations(store, real_now=AT, hold=hold, limit=10) == []
    assert len(await sweeps.claim_operations(store, real_now=again_at, hold=hold, limit=2)) == 2
    assert (await queries.summarize_open_operations(store)).total == 3


async def test_open_operations_are_counted_by_their_age(store: Store) -> None:
    hour = 60 * MINUTE
    ages = (0 * MINUTE, 0.9 * MINUTE, MINUTE, 59 * MINUTE, 60 * MINUTE, 2 * hour, 3 * hour, 4 * hour)
    records: list[Any] = []
    for number, age in enumerate(ages):
        order = build_order(str(number))
        payment = build_payment(order)
        given_up = {"due_at": None, "alerted_at": AT} if age >= 3 * hour else {}
        records += [order, payment, build_operation(payment, created_at=AT - age, **given_up)]
    settled = build_order("9")
    payment = build_payment(settled)
    old = build_operation(payment, created_at=AT - hour, status=OperationStatus.APPROVED, due_at=None)
    await put(store, *records, settled, payment, old)
    found = await queries.summarize_open_operations(store, AT)
    assert found == (8, AT - 4 * hour, 2, (2, 2, 2, 2))
    assert (await queries.summarize_open_operations(store)) == (8, AT - 4 * hour, 2, None)


async def test_due_rounds_are_open_overdue_and_without_an_open_payment(store: Store) -> None:
    overdue = build_order("overdue", deadline_at=AT - MINUTE)
    longer = build_order("longer", deadline_at=AT - 2 * MINUTE)
    paying = build_order("paying", deadline_at=AT - MINUTE)
    others = (
        build_order("never opened"),
        build_order("later", deadline_at=AT + MINUTE),
        build_order("paid", deadline_at=AT - MINUTE, status=OrderStatus.PAID),
    )
    declined = build_payment(overdue, status=PaymentStatus.DECLINED)
    await put(store, overdue, longer, paying, *others, build_payment(paying), declined)
    assert await sweeps.due_rounds(store, now=AT, limit=10) == [longer.id, overdue.id]
    assert await sweeps.due_rounds(store, now=AT, limit=1) == [longer.id]


async def test_due_holds_come_longest_overdue_first_and_go_on_where_one_stopped(store: Store) -> None:
    def held(hold_expires_at: datetime | None, **changes: Any) -> tuple[Order, Payment]:
        order = build_order(str(next(numbers)), status=OrderStatus.PAID)
        paid = {"status": PaymentStatus.AUTHORIZED, "authorized": 1, "hold_expires_at": hold_expires_at}
        return order, build_payment(order, **paid | changes)

    numbers = itertools.count()
    last, first, tie, busy = (held(AT - gap * MINUTE) for gap in (1, 3, 1, 2))
    others = (held(AT + MINUTE), held(None))
    moving = build_operation(busy[1], kind=OperationKind.CAPTURE)
    await put(store, *(record for pair in (last, first, tie, busy, *others) for record in pair), moving)
    expected = [
        DueHold(AT - gap * MINUTE, payment.id, order.id) for gap, (order, payment) in ((3, first), (1, last), (1, tie))
    ]
    assert await sweeps.due_holds(store, now=AT, limit=10) == expected
    assert await sweeps.due_holds(store, now=AT, limit=2) == expected[:2]
    for number, hold in enumerate(expected, start=1):
        assert await sweeps.due_holds(store, now=AT, limit=10, after=hold) == expected[number:]


async def test_expired_tokens_and_pages_are_purged(store: Store, ask: Ask) -> None:
    order = build_order()
    past, future = AT - MINUTE, AT + MINUTE
    tokens = [replace(build_token(order, str(n)), expires_at=past) for n in range(3)]
    pages = [replace(build_page(order, str(n)), expires_at=past) for n in range(3)]
    kept = replace(build_token(order, "kept"), expires_at=future), replace(build_page(order, "kept"), expires_at=future)
    await put(store, order, *tokens, *pages, *kept)
    assert await sweeps.purge_tokens_pages(store, before=AT, limit=2) == 4
    assert await sweeps.purge_tokens_pages(store, before=AT, limit=2) == 2
    assert await sweeps.purge_tokens_pages(store, before=AT, limit=2) == 0
    assert ask("SELECT (SELECT count(*) FROM access_tokens), (SELECT count(*) FROM pages)") == [(1, 1)]


async def test_the_next_due_instants(store: Store) -> None:
    assert await sweeps.next_due(store, real_now=AT) == (None, None, None)
    order = build_order(deadline_at=AT + MINUTE)
    paid = build_order("paid", status=OrderStatus.PAID, deadline_at=AT)
    payment = build_payment(paid, status=PaymentStatus.AUTHORIZING)
    operation = build_operation(payment, due_at=AT + 2 * MINUTE)
    waiting = build_message(order, due_at=AT + 3 * MINUTE)
    behind = build_message(order, due_at=AT)
    sending = build_message(paid, state=MessageState.SENDING, lease_owner=store.instance, leased_until=AT + MINUTE)
    await put(store, order, paid, payment, operation, waiting, behind, sending)
    assert await sweeps.next_due(store, real_now=AT) == (AT + 3 * MINUTE, AT + 2 * MINUTE, AT + MINUTE)
    assert await queries.count_undelivered(store) == 3


@pytest.mark.parametrize("number", (1, 40))
async def test_a_backlog_of_one_host_is_claimed_in_bounds(store: Store, number: int) -> None:
    await put_messages(store, *[{"host": "dead.kz:443"}] * number)
    assert len(await claim(store, per_host=8)) == min(8, number)
