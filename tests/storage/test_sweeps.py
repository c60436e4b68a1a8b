"""What recovery claims and what has expired, on both databases."""

import itertools
from datetime import datetime, timedelta
from typing import Any

from msgspec.structs import replace

from tests.storage.build import (
    AT,
    build_operation,
    build_order,
    build_page,
    build_payment,
    build_token,
    put,
)
from tests.storage.conftest import Ask
from tolem.domain.order import Order, OrderStatus
from tolem.domain.payment import OperationKind, OperationStatus, Payment, PaymentStatus
from tolem.storage import queries, sweeps
from tolem.storage.store import Store
from tolem.storage.sweeps import DueHold

MINUTE = timedelta(minutes=1)
OURS = 7
STRANGER = 99


async def test_operations_are_claimed_when_due_and_counted(store: Store) -> None:
    orders = [build_order(str(n)) for n in range(4)]
    payments = [build_payment(order) for order in orders]
    due = build_operation(payments[0], due_at=AT)
    unknown = build_operation(payments[1], due_at=AT, status=OperationStatus.UNKNOWN, tries=4)
    later = build_operation(payments[2], due_at=AT + MINUTE)
    settled = build_operation(payments[3], due_at=None, status=OperationStatus.APPROVED)
    await put(store, *orders, *payments, due, unknown, later, settled)
    until = AT + timedelta(seconds=25)
    claimed = await sweeps.claim_operations(store, real_now=AT, until=until, limit=10)
    assert sorted(claimed, key=lambda o: o.id) == [
        replace(due, tries=1, due_at=until, asked_until=until),
        replace(unknown, tries=5, due_at=until, asked_until=until),
    ]
    assert await sweeps.claim_operations(store, real_now=AT, until=until, limit=10) == []
    assert len(await sweeps.claim_operations(store, real_now=until, until=until + MINUTE, limit=2)) == 2
    assert (await queries.summarize_open_operations(store)).total == 3


async def test_open_operations_are_counted_by_their_age(store: Store) -> None:
    hour = 60 * MINUTE
    ages = (0 * MINUTE, 0.9 * MINUTE, MINUTE, 59 * MINUTE, 60 * MINUTE, 2 * hour, 3 * hour, 4 * hour)
    records: list[Any] = []
    for number, age in enumerate(ages):
        order = build_order(str(number))
        payment = build_payment(order)
        given_up = {"alerted_at": AT} if age >= 3 * hour else {}
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
    def held(release_at: datetime | None, **changes: Any) -> tuple[Order, Payment]:
        order = build_order(str(next(numbers)), status=OrderStatus.PAID)
        paid = {"status": PaymentStatus.AUTHORIZED, "authorized": 1, "release_at": release_at}
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
    assert await sweeps.purge_expired(store, before=AT, real_before=AT, limit=2) == 4
    assert await sweeps.purge_expired(store, before=AT, real_before=AT, limit=2) == 2
    assert await sweeps.purge_expired(store, before=AT, real_before=AT, limit=2) == 0
    assert ask("SELECT (SELECT count(*) FROM access_tokens), (SELECT count(*) FROM pages)") == [(1, 1)]
