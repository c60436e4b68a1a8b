"""A person's "did not happen" that was wrong: the acquirer is asked on, and the person may correct it."""

from datetime import timedelta

import pytest
from msgspec.structs import replace
from structlog.testing import capture_logs

from tests.flows.moody import Mood
from tests.flows.test_claims import INQUIRY, change, given_up_till, the_operation
from tests.flows.test_operations import CAPTURE, REFUND, VOID, Till, resolution_of
from tests.flows.test_resolution import WHY, doubtful
from tests.gateway import eventually
from tolem.acquirers.base import AcquirerRequest
from tolem.domain.errors import Refused
from tolem.domain.payment import Operation, OperationKind, OperationStatus, PaymentStatus
from tolem.flows import outcome
from tolem.flows.reconciliation import reconcile
from tolem.storage import queries


async def arrive(till: Till, operation: Operation) -> None:
    """The acquirer did it, and tolem never heard of it."""
    sent: AcquirerRequest = next(request for request in till.acquirer.sent if request.key == operation.id)
    await till.acquirer.inner.send(sent)


async def is_confirmed(till: Till, kind: OperationKind) -> bool:
    return (await the_operation(till, kind)).due_at is None


@pytest.mark.parametrize("kind", (CAPTURE, VOID, REFUND))
async def test_a_wrong_word_is_noticed_and_booked(database_url: str, kind: OperationKind) -> None:
    """The acquirer had approved it: an inquiry says so, once it answers."""
    async with given_up_till(database_url, kind) as (till, operation):
        await arrive(till, operation)
        till.acquirer.feel(INQUIRY, Mood.REFUSED)
        await resolution_of(till.gateway).resolve(operation.id, happened=False, reason=WHY, who="root")

        async def was_asked() -> bool:
            now = await the_operation(till, kind)
            return now.tries == 1 and now.asked_until is None

        await eventually(was_asked)
        settled = await the_operation(till, kind)
        assert settled.status is OperationStatus.DECLINED  # no answer says nothing, and is not given up a second time
        assert settled.due_at is not None
        assert settled.due_at - till.gateway.acquiring.clock.real_now() > outcome.GIVEN_UP_GAP - timedelta(minutes=1)
        assert await resolution_of(till.gateway).list_open() == []
        assert (await queries.summarize_open_operations(till.gateway.store)).total == 0
        await change(till, replace(settled, due_at=till.gateway.acquiring.clock.real_now()))

        async def is_booked() -> bool:
            return (await the_operation(till, kind)).status is OperationStatus.APPROVED

        await eventually(is_booked)
        payment = await till.payment()
        expected = {
            CAPTURE: (PaymentStatus.CAPTURED, 4_000, 0),
            VOID: (PaymentStatus.VOIDED, 0, 0),
            REFUND: (PaymentStatus.CAPTURED, 10_000, 4_000),
        }
        assert (payment.status, payment.captured, payment.refunded) == expected[kind]
        assert (till.acquirer.count(kind), await is_confirmed(till, kind)) == (1, True)


async def test_an_acquirer_that_is_down_is_one_line_each_time(sqlite_url: str) -> None:
    """Not a trace: what is at fault is known."""
    with capture_logs() as logs:
        async with given_up_till(sqlite_url, REFUND):
            pass
    failed = [line for line in logs if line["event"] == "acquirer_failed"]
    assert len(failed) > 1
    assert {line.get("reason") for line in failed} == {"ConnectionRefusedError: nobody there"}
    assert not [line for line in failed if "exc_info" in line]


@pytest.mark.parametrize("mood", (Mood.WELL, Mood.UNSURE))
async def test_not_found_and_not_known_confirm_nothing(database_url: str, mood: Mood) -> None:
    async with given_up_till(database_url, REFUND) as (till, operation):
        till.acquirer.feel(INQUIRY, mood)  # it never arrived: not found
        await resolution_of(till.gateway).resolve(operation.id, happened=False, reason=WHY, who="root")

        async def was_asked() -> bool:
            now = await the_operation(till, REFUND)
            return now.tries == 1 and now.asked_until is None

        await eventually(was_asked)
        assert not await is_confirmed(till, REFUND)
        assert (await the_operation(till, REFUND)).status is OperationStatus.DECLINED
        assert till.acquirer.count(REFUND) == 1  # never sent again


async def test_a_decline_confirms_the_word(database_url: str) -> None:
    async with given_up_till(database_url, REFUND) as (till, operation):
        sent = next(request for request in till.acquirer.sent if request.key == operation.id)
        await till.acquirer.inner.send(replace(sent, amount=4_066))  # the simulator declines this amount
        await resolution_of(till.gateway).resolve(operation.id, happened=False, reason=WHY, who="root")
        await eventually(lambda: is_confirmed(till, REFUND))
        assert (await the_operation(till, REFUND)).status is OperationStatus.DECLINED
        with pytest.raises(Refused, match="settled already"):
            await resolution_of(till.gateway).resolve(operation.id, happened=True, reason=WHY, who="root")


@pytest.mark.parametrize("kind", (CAPTURE, VOID, REFUND))
async def test_a_person_corrects_it(database_url: str, kind: OperationKind) -> None:
    async with given_up_till(database_url, kind) as (till, operation):
        resolution = resolution_of(till.gateway)
        await arrive(till, operation)
        till.acquirer.feel(INQUIRY, *[Mood.REFUSED] * 1_000)
        await resolution.resolve(operation.id, happened=False, reason=WHY, who="root")

        async def may_speak() -> bool:
            now = await the_operation(till, kind)
            return now.tries > 0 and now.asked_until is None

        await eventually(may_speak)
        with pytest.raises(Refused, match="settled so already"):
            await resolution.resolve(operation.id, happened=False, reason=WHY, who="root")
        await resolution.resolve(operation.id, happened=True, reason="the desk's second look found it", who="arman")
        corrected = await the_operation(till, kind)
        assert (corrected.status, corrected.due_at, corrected.reason_code) == (OperationStatus.APPROVED, None, 0)
        payment = await till.payment()
        assert (payment.captured, payment.refunded) == {CAPTURE: (4_000, 0), VOID: (0, 0), REFUND: (10_000, 4_000)}[
            kind
        ]
        with pytest.raises(Refused, match="settled already"):
            await resolution.resolve(operation.id, happened=False, reason=WHY, who="root")
        at = operation.created_at
        report = await reconcile(till.gateway.store, till.acquirer, at - timedelta(days=1), at + timedelta(days=1))
        assert [difference for difference in report.differences if difference.key] == []


async def test_a_correction_without_room_is_refused(database_url: str) -> None:
    async with given_up_till(database_url, REFUND) as (till, operation):
        resolution = resolution_of(till.gateway)
        till.acquirer.feel(INQUIRY, *[Mood.REFUSED] * 1_000)
        await resolution.resolve(operation.id, happened=False, reason=WHY, who="root")
        assert (await till.move(REFUND)).is_approved

        async def may_speak() -> bool:
            now = await the_operation(till, REFUND)
            return now.tries > 0 and now.asked_until is None

        await eventually(may_speak)
        with pytest.raises(Refused, match="no room for it"):
            await resolution.resolve(operation.id, happened=True, reason=WHY, who="root")
        assert (await the_operation(till, REFUND)).status is OperationStatus.DECLINED
        assert (await till.payment()).refunded == 10_000


async def test_a_sale_that_people_call_not_happened_is_reversed(database_url: str) -> None:
    """It was approved and the answer was lost: once the acquirer is back, nothing stays taken."""
    async with doubtful(database_url, Mood.LOST) as attempt:
        await eventually(attempt.is_given_up)

        async def may_speak() -> bool:
            return (await attempt.operation()).asked_until is None

        await eventually(may_speak)
        await attempt.resolve(happened=False)
        assert await attempt.status() is PaymentStatus.FAILED

        async def was_tried() -> bool:
            now = await attempt.operation()
            return now.tries > 0 and now.asked_until is None

        await eventually(was_tried)
        settled = await attempt.operation()
        assert (settled.status, settled.due_at is None) == (OperationStatus.REVERSED, False)
        with pytest.raises(Refused, match="is being reversed"):
            await attempt.resolve(happened=True, approval_code="A1B2C3")
        attempt.acquirer.moods.clear()
        await resolution_of(attempt.gateway).retry(settled.id, reason=WHY, who="root")

        async def is_confirmed() -> bool:
            return (await attempt.operation()).due_at is None

        await eventually(is_confirmed)
        history = await attempt.history()
        (reversal,) = [o for o in history.operations.values() if o.kind is OperationKind.REVERSAL]
        assert reversal.status is OperationStatus.APPROVED
        assert await attempt.status() is PaymentStatus.FAILED
        at = settled.created_at
        report = await reconcile(
            attempt.gateway.store, attempt.acquirer, at - timedelta(days=1), at + timedelta(days=1)
        )
        assert [difference for difference in report.differences if difference.key] == []
        assert "not_happened_confirmed" in await attempt.event_kinds()
        # The payer goes on with the same order.
        assert (await attempt.caller.pay(attempt.path)).state == "approved"
