"""Whoever asks the acquirer says so in the row first: people settle nothing meanwhile, no step undoes another."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from tests.flows.moody import Mood
from tests.flows.test_operations import CAPTURE, REFUND, VOID, Till, paid_till, resolution_of
from tests.flows.test_resolution import WHY, doubtful
from tests.gateway import eventually
from tolem.acquirers.base import AcquirerAnswer, AcquirerRequest, Verdict
from tolem.clock import SystemClock
from tolem.domain.errors import Refused
from tolem.domain.payment import OPEN_OPERATIONS, Operation, OperationKind, OperationStatus, PaymentStatus
from tolem.flows.acquiring import Acquiring, Limits
from tolem.flows.directory import Directory
from tolem.flows.recovery import Recovery
from tolem.flows.resolution import Resolution
from tolem.ids import Ids
from tolem.storage import keys, sweeps
from tolem.storage.store import Decision

INQUIRY = OperationKind.INQUIRY


async def the_operation(till: Till, kind: OperationKind) -> Operation:
    """The first of its kind."""
    return min((o for o in (await till.history()).operations.values() if o.kind is kind), key=lambda o: o.id)


async def change(till: Till, operation: Operation) -> None:
    """Stores it as it is now."""
    await till.gateway.store.change((keys.order_by_id(operation.order_id),), lambda _: Decision(None, (operation,)))


@asynccontextmanager
async def given_up_till(database_url: str, kind: OperationKind) -> AsyncIterator[tuple[Till, Operation]]:
    """A capture, void or refund that never arrived, and that recovery has given up."""
    async with paid_till(database_url, two_stage=kind is not REFUND) as till:
        till.gateway.acquiring.limits = till.gateway.acquiring.limits._replace(recovery_tries=1)
        till.acquirer.feel(kind, *[Mood.REFUSED] * 1_000)
        till.acquirer.feel(INQUIRY, *[Mood.REFUSED] * 1_000)
        assert not (await till.move(kind, None if kind is VOID else "40")).is_settled

        async def is_given_up() -> bool:
            operation = await the_operation(till, kind)
            return operation.alerted_at is not None and operation.asked_until is None

        await eventually(is_given_up)
        till.acquirer.moods.clear()
        yield till, await the_operation(till, kind)


class Gate:
    """Holds the next exchanges of a kind until it is opened."""

    def __init__(self, till: Till, kind: OperationKind) -> None:
        self.arrived = asyncio.Event()
        self.is_open = asyncio.Event()
        self._kind = kind
        self._send = till.acquirer.send
        till.acquirer.send = self.send  # type: ignore[method-assign]

    async def send(self, request: AcquirerRequest) -> AcquirerAnswer:
        """Waits at the gate."""
        if request.kind is self._kind:
            self.arrived.set()
            await self.is_open.wait()
        return await self._send(request)


def other_process(till: Till, limits: Limits) -> Recovery:
    """Recovery of another gateway on the same database, whose limits are its own."""
    gateway = till.gateway
    acquiring = Acquiring(gateway.store, gateway.acquiring.clock, Ids(), gateway.acquirer, gateway.notifier, limits)
    return Recovery(acquiring, Directory(gateway.store))


@pytest.mark.parametrize("asked", (INQUIRY, REFUND))
async def test_a_gateway_with_longer_limits_is_waited_for(database_url: str, asked: OperationKind) -> None:
    """The command line knows its own limits only; the gateway's claim stands in the row."""
    async with given_up_till(database_url, REFUND) as (till, operation):
        gate = Gate(till, asked)
        if asked is REFUND:
            till.acquirer.feel(INQUIRY, Mood.UNSURE)  # so it is sent again
        await till.gateway.worker.stop(5)
        await resolution_of(till.gateway).retry(operation.id, reason=WHY, who="root")
        recovery = other_process(till, Limits(exchange_seconds=60.0, margin_seconds=30.0))
        step = asyncio.create_task(recovery.step())
        await gate.arrived.wait()
        for happened in (True, False):
            with pytest.raises(Refused, match=r"being asked about it just now: try again in (8\d|90) s"):
                await resolution_of(till.gateway).resolve(operation.id, happened=happened, reason=WHY, who="root")
        with pytest.raises(Refused, match="being asked about it just now"):
            await resolution_of(till.gateway).retry(operation.id, reason=WHY, who="root")
        gate.is_open.set()
        await step
        assert (await the_operation(till, REFUND)).status is OperationStatus.APPROVED
        assert (await till.payment()).refunded == 4_000


async def test_the_time_is_taken_when_it_is_decided(database_url: str) -> None:
    """A step takes the operation up between the command's start and its decision."""
    async with given_up_till(database_url, REFUND) as (till, operation):
        resolution, store = resolution_of(till.gateway), till.gateway.store
        acquiring = till.gateway.acquiring
        await till.gateway.worker.stop(5)
        await resolution.retry(operation.id, reason=WHY, who="root")

        class SlowStore:
            def __getattr__(self, name: str) -> Any:
                return getattr(store, name)

            async def change(self, named: Any, decide: Any) -> Any:
                await asyncio.sleep(0.05)
                now = acquiring.clock.real_now()
                (claimed,) = await sweeps.claim_operations(
                    store, real_now=now, until=now + timedelta(seconds=20), limit=10
                )
                assert claimed.id == operation.id
                return await store.change(named, decide)

        slow: Any = SlowStore()
        late = Resolution(slow, Directory(store), acquiring.clock, Ids())
        with pytest.raises(Refused, match="being asked about it just now"):
            await late.resolve(operation.id, happened=False, reason=WHY, who="root")
        assert (await the_operation(till, REFUND)).status in OPEN_OPERATIONS


@pytest.mark.parametrize("kind", (CAPTURE, VOID, REFUND))
async def test_what_was_settled_during_the_inquiry_is_not_sent_again(database_url: str, kind: OperationKind) -> None:
    """The claim ran out while the inquiry hung, and a person settled it: nothing is sent after their word."""
    async with given_up_till(database_url, kind) as (till, operation):
        resolution = resolution_of(till.gateway)
        await till.gateway.worker.stop(5)
        await resolution.retry(operation.id, reason=WHY, who="root")
        gate, sent = Gate(till, INQUIRY), len(till.acquirer.sent)
        till.acquirer.feel(INQUIRY, Mood.UNSURE)
        step = asyncio.create_task(other_process(till, Limits(5.0, 0.2, 1)).step())
        await gate.arrived.wait()
        claimed = await the_operation(till, kind)
        await change(till, replace(claimed, asked_until=None))  # as if it were over
        await resolution.resolve(operation.id, happened=False, reason=WHY, who="root")
        gate.is_open.set()
        await step
        assert [request.kind for request in till.acquirer.sent[sent:]] == [INQUIRY]
        settled = await the_operation(till, kind)
        assert (settled.status, settled.tries, settled.asked_until) == (OperationStatus.DECLINED, 0, None)
        payment = await till.payment()
        assert (payment.captured, payment.refunded) == ((0, 0) if kind is not REFUND else (10_000, 0))


async def test_a_step_that_was_overtaken_postpones_nothing(database_url: str) -> None:
    """What a late approval has opened again is due at once, whatever a step that began before comes to."""
    async with doubtful(database_url, Mood.LOST) as attempt:
        await eventually(attempt.is_given_up)
        await eventually(lambda: _is_at_rest(attempt.operation))
        await attempt.gateway.worker.stop(5)
        operation, acquiring = await attempt.operation(), attempt.gateway.acquiring
        await resolution_of(attempt.gateway).retry(operation.id, reason=WHY, who="root")
        named = (keys.order_by_id(operation.order_id),)
        asked, go_on = asyncio.Event(), asyncio.Event()
        send = attempt.acquirer.send

        async def refuse_later(request: AcquirerRequest) -> AcquirerAnswer:
            asked.set()
            await go_on.wait()
            raise ConnectionRefusedError("nobody there")

        attempt.acquirer.send = refuse_later  # type: ignore[method-assign]
        recovery = Recovery(acquiring, Directory(attempt.gateway.store))
        acquiring.limits = acquiring.limits._replace(exchange_seconds=20.0)
        step = asyncio.create_task(recovery.step())
        await asked.wait()
        claimed = await attempt.operation()
        await attempt.gateway.store.change(named, lambda _: Decision(None, (replace(claimed, asked_until=None),)))
        await attempt.resolve(happened=False)
        attempt.acquirer.moods.clear()
        await attempt.come_late()
        opened = await attempt.operation()
        go_on.set()
        await step
        assert await attempt.operation() == opened
        assert (opened.tries, opened.alerted_at, opened.asked_until) == (0, None, None)
        attempt.acquirer.send = send  # type: ignore[method-assign]
        assert await recovery.step() == 1
        assert (await attempt.operation()).status is OperationStatus.REVERSED


async def _is_at_rest(look: Callable[[], Awaitable[Operation]]) -> bool:
    return (await look()).asked_until is None


async def come_late(till: Till, operation: Operation) -> None:
    """The acquirer's approval, long after anybody waits for it."""
    answer = AcquirerAnswer(key=operation.id, verdict=Verdict.APPROVED, amount=operation.amount)
    await till.gateway.acquiring.record(operation, "KZT", till.terminal, answer)


@pytest.mark.parametrize("kind", (CAPTURE, VOID, REFUND))
async def test_a_late_approval_is_settled_by_recovery(database_url: str, kind: OperationKind) -> None:
    async with given_up_till(database_url, kind) as (till, operation):
        await resolution_of(till.gateway).resolve(operation.id, happened=False, reason=WHY, who="root")
        await till.acquirer.inner.send(_as_sent(till, operation))
        await come_late(till, operation)
        await eventually(till.is_settled)
        assert (await the_operation(till, kind)).status is OperationStatus.APPROVED
        payment = await till.payment()
        expected = {
            CAPTURE: (PaymentStatus.CAPTURED, 4_000, 0),
            VOID: (PaymentStatus.VOIDED, 0, 0),
            REFUND: (PaymentStatus.CAPTURED, 10_000, 4_000),
        }
        assert (payment.status, payment.captured, payment.refunded) == expected[kind]
        assert till.acquirer.count(kind) == 1


async def test_a_late_approval_beside_another_refund(database_url: str) -> None:
    """The shop gave the money back by another refund meanwhile, which is open: both are settled, each for itself."""
    async with given_up_till(database_url, REFUND) as (till, operation):
        resolution = resolution_of(till.gateway)
        till.acquirer.feel(INQUIRY, *[Mood.REFUSED] * 1_000)
        await resolution.resolve(operation.id, happened=False, reason=WHY, who="root")
        await till.acquirer.inner.send(_as_sent(till, operation))
        gate = Gate(till, REFUND)
        another = asyncio.create_task(till.move(REFUND, "30", "r-2"))
        await gate.arrived.wait()
        till.acquirer.moods.clear()
        await come_late(till, operation)
        gate.is_open.set()
        await another
        await eventually(till.is_settled)
        assert (await till.payment()).refunded == 7_000
        assert till.acquirer.count(REFUND) == 2


async def test_a_late_approval_without_room_waits_for_people(database_url: str) -> None:
    """All was given back meanwhile by another refund. tolem can't book it, and does not forget it."""
    async with given_up_till(database_url, REFUND) as (till, operation):
        resolution = resolution_of(till.gateway)
        await resolution.resolve(operation.id, happened=False, reason=WHY, who="root")
        assert (await till.move(REFUND)).is_approved
        send = till.acquirer.send

        async def approve_it(request: AcquirerRequest) -> AcquirerAnswer:
            if request.original_key == operation.id:
                till.acquirer.sent.append(request)
                return AcquirerAnswer(key=request.key, verdict=Verdict.APPROVED, amount=operation.amount)
            return await send(request)

        till.acquirer.send = approve_it  # type: ignore[method-assign]
        await come_late(till, operation)

        async def waits() -> bool:
            (found,) = await resolution.list_open()
            return found.operation.alerted_at is not None and found.operation.asked_until is None

        await eventually(waits)
        assert till.acquirer.count(REFUND) == 2  # it was not sent again
        with pytest.raises(Refused, match="no room for it"):
            await resolution.resolve(operation.id, happened=True, reason=WHY, who="root")
        await resolution.resolve(operation.id, happened=False, reason=WHY, who="root")
        payment = await till.payment()
        assert (payment.status, payment.refunded) == (PaymentStatus.REFUNDED, 10_000)
        assert await resolution.list_open() == []


def _as_sent(till: Till, operation: Operation) -> AcquirerRequest:
    """The message that was lost, as it arrives after all."""
    return next(request for request in till.acquirer.sent if request.key == operation.id)


async def test_nothing_is_sent_after_its_time(database_url: str) -> None:
    """A process that stood still between the commit and the call."""
    async with paid_till(database_url, two_stage=False) as till:
        acquiring = till.gateway.acquiring
        late = acquiring.clock.real_now() - timedelta(seconds=1)
        request = AcquirerRequest(
            key=Ids().new(),
            kind=INQUIRY,
            terminal_id=till.terminal.id,
            amount=1,
            currency="KZT",
            stan="000001",
            rrn="0" * 12,
            at=SystemClock().now(),
        )
        sent = len(till.acquirer.sent)
        assert await acquiring.exchange(request, late) == "its time was over before it was sent"
        assert len(till.acquirer.sent) == sent
