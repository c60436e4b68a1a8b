"""Holds that have expired are released, each once, whatever keeps others from it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

import pytest
from msgspec.structs import replace
from structlog.testing import capture_logs

from tests.flows.moody import Mood
from tests.flows.test_operations import CAPTURE, VOID, MovedClock, Till, paid_till
from tests.gateway import eventually
from tests.storage.build import IDS, build_order, build_payment, put
from tolem.domain.errors import Refusal, Refused
from tolem.domain.order import OrderStatus
from tolem.domain.payment import Payment, PaymentStatus
from tolem.flows import holds
from tolem.flows.access import Access
from tolem.flows.acquiring import Acquiring
from tolem.flows.directory import Directory
from tolem.flows.holds import Holds
from tolem.flows.operations import MoneyResult, Operations
from tolem.ids import Ids
from tolem.storage import keys
from tolem.storage.store import Decision

DAY = timedelta(days=1)


async def test_an_expired_hold_is_released_by_a_void(database_url: str) -> None:
    clock = MovedClock()
    async with paid_till(database_url, clock=clock, hold_days=3) as till:
        clock.offset = 3 * DAY - timedelta(hours=1)
        await asyncio.sleep(1.2)
        assert (await till.payment()).status is PaymentStatus.AUTHORIZED
        till.acquirer.feel(VOID, Mood.LOST)
        clock.offset = 3 * DAY + timedelta(seconds=5)

        async def is_voided() -> bool:
            return (await till.payment()).status is PaymentStatus.VOIDED

        await eventually(is_voided)
        payment = await till.payment()
        assert (payment.is_hold_expired, payment.hold_expires_at, payment.release_at) == (True, None, None)
        assert till.acquirer.count(VOID) == 1


class Evening(NamedTuple):
    """A till whose hold is there, with loops of its own that a test steps and whose clock it moves. The gateway's own
    loops live in the present, where nothing has expired."""

    till: Till
    clock: MovedClock
    operations: Operations
    holds: Holds

    async def release(self) -> MoneyResult:
        order_id = (await self.till.history()).order.id
        return await self.operations.release_hold(order_id, self.till.payment_id)


@asynccontextmanager
async def evening(database_url: str, *, amount: str = "100") -> AsyncIterator[Evening]:
    async with paid_till(database_url, hold_days=3, amount=amount) as till:
        gateway, clock = till.gateway, MovedClock()
        parts = (gateway.acquirer, gateway.notifier, gateway.acquiring.limits)
        acquiring = Acquiring(gateway.store, clock, Ids(), *parts)
        directory = Directory(gateway.store)
        operations = Operations(acquiring, directory, Access(gateway.store, directory, clock))
        yield Evening(till, clock, operations, Holds(gateway.store, clock, operations))


async def release_at(till: Till) -> datetime:
    instant = (await till.payment()).release_at
    assert instant is not None
    return instant


async def test_a_hold_that_the_acquirer_does_not_release_is_asked_for_once_a_day(database_url: str) -> None:
    async with evening(database_url, amount="100.66") as (till, clock, _, loop):
        clock.offset = 3 * DAY
        for day in range(1, 4):
            assert await loop.step() == 1
            assert [await loop.step() for _ in range(3)] == [0, 0, 0]
            assert till.acquirer.count(VOID) == day
            assert (await till.payment()).status is PaymentStatus.AUTHORIZED
            assert timedelta(hours=23) < await release_at(till) - clock.now() <= DAY
            clock.offset += DAY


async def test_a_hold_that_is_to_be_released_again_stays_expired(database_url: str) -> None:
    """The acquirer declined to release it: until the next try it can be cancelled, and not captured."""
    async with evening(database_url, amount="100.66") as (till, clock, operations, loop):
        before, clock.offset = await till.payment(), 3 * DAY
        assert await loop.step() == 1
        payment, till.operations = await till.payment(), operations
        assert (payment.status, payment.hold_expires_at) == (PaymentStatus.AUTHORIZED, before.hold_expires_at)
        for amount in (None, "40"):
            assert await till.refused(CAPTURE, amount) is Refusal.WRONG_STATE
        assert (till.acquirer.count(CAPTURE), till.acquirer.count(VOID)) == (0, 1)
        assert (await till.move(VOID)).reason_code == 466
        assert till.acquirer.count(VOID) == 2


async def test_a_shops_cancel_that_was_declined_is_no_answer_to_the_worker(database_url: str) -> None:
    """It was told "in progress", turned out declined, and within a day of that the hold expires."""
    async with evening(database_url, amount="100.66") as (till, clock, _, loop):
        till.acquirer.feel(VOID, Mood.UNSURE)
        assert not (await till.move(VOID)).is_settled
        await eventually(till.is_settled)
        clock.offset = timedelta(hours=12)
        payment = replace(await till.payment(), release_at=clock.now() - timedelta(minutes=1))
        await till.gateway.store.change((keys.order_by_id(payment.order_id),), lambda _: Decision(None, (payment,)))
        assert [await loop.step() for _ in range(3)] == [1, 0, 0]
        assert till.acquirer.count(VOID) == 2
        assert await release_at(till) > clock.now()


async def test_a_hold_is_released_only_when_it_is_due_and_nobody_moves_it(database_url: str) -> None:
    async with evening(database_url) as one:
        till, clock = one.till, one.clock
        assert await one.holds.step() == 0
        assert await refusal(one) is Refusal.WRONG_STATE
        clock.offset = 3 * DAY
        till.acquirer.feel(CAPTURE, Mood.SILENT)
        capture = asyncio.create_task(till.move(CAPTURE, "40"))
        await eventually(till.has_open)
        assert await one.holds.step() == 0
        assert await refusal(one) is Refusal.IN_PROGRESS
        assert not (await capture).is_settled
        await eventually(till.is_settled)
        assert (await till.payment()).status is PaymentStatus.CAPTURED
        assert await refusal(one) is Refusal.WRONG_STATE
        assert till.acquirer.count(VOID) == 0


async def refusal(one: Evening) -> Refusal:
    with pytest.raises(Refused) as refused:
        await one.release()
    return refused.value.refusal


async def test_two_processes_release_a_hold_once(database_url: str) -> None:
    async with evening(database_url) as one:
        one.clock.offset = 3 * DAY
        others = [Holds(one.till.gateway.store, one.clock, one.operations) for _ in range(4)]
        assert sum(await asyncio.gather(*(loop.step() for loop in others))) == 1
        assert (await one.till.payment()).status is PaymentStatus.VOIDED
        assert one.till.acquirer.count(VOID) == 1


async def test_holds_that_are_stuck_keep_no_other_waiting(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than a whole batch that expired earlier and can't be released: not even its approved authorize is there."""
    monkeypatch.setattr(holds, "BATCH", 4)
    async with evening(database_url) as (till, clock, _, loop):
        clock.offset = 3 * DAY + timedelta(hours=1)
        stuck = await put_stuck(till, 9)
        with capture_logs() as logs:
            done = [await loop.step() for _ in range(3)]
        assert done == [0, 0, 1]
        assert (await till.payment()).status is PaymentStatus.VOIDED
        failed = [line["payment"] for line in logs if line["event"] == "hold_release_failed"]
        assert failed == [str(id) for id in stuck]
        assert [await loop.step() for _ in range(4)] == [0] * 4  # and they are looked at again, from the first


async def test_the_worker_releases_a_hold_behind_many_that_are_stuck(database_url: str) -> None:
    clock = MovedClock()
    async with paid_till(database_url, clock=clock, hold_days=3) as till:
        await put_stuck(till, holds.BATCH + 1)
        clock.offset = 3 * DAY + timedelta(hours=1)

        async def is_voided() -> bool:
            return (await till.payment()).status is PaymentStatus.VOIDED

        await eventually(is_voided, 30)


async def put_stuck(till: Till, count: int) -> list[UUID]:
    """Expired holds of other orders without the operation that made them, all at the same instant."""
    expired = await release_at(till) - timedelta(minutes=1)
    made: list[Payment] = []
    for number in range(count):
        order = build_order(f"5{number:08d}", terminal_id=till.terminal.id, status=OrderStatus.PAID)
        held = {"status": PaymentStatus.AUTHORIZED, "authorized": order.amount, "release_at": expired}
        made.append(build_payment(order, id=IDS.new(), **held))
        await put(till.gateway.store, order, made[-1])
    return sorted(payment.id for payment in made)
