"""What recovery claims and what has expired, on both databases."""

from datetime import timedelta

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
from tolem.domain.order import OrderStatus
from tolem.domain.payment import OperationStatus, PaymentStatus
from tolem.storage import queries, sweeps
from tolem.storage.store import Store

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
