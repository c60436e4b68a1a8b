"""Capture, void and refund: amounts, repeats, outcomes that are not known, on both databases."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from msgspec.structs import replace
from psycopg import AsyncConnection

from tests.flows.moody import Fault, Mood, MoodyAcquirer, MoodyStore
from tests.gateway import PatientCaller, eventually, running_gateway, running_shop
from tests.storage.conftest import until_somebody_waits_for_a_lock
from tolem.bootstrap import Gateway
from tolem.clock import SystemClock
from tolem.domain.errors import Overloaded, Refusal, Refused
from tolem.domain.history import OrderHistory
from tolem.domain.merchant import Terminal
from tolem.domain.payment import Operation, OperationKind, OperationStatus, Payment, PaymentStatus
from tolem.flows.access import Access, Bearer
from tolem.flows.administration import Administration
from tolem.flows.directory import Directory
from tolem.flows.operations import MoneyRequest, MoneyResult, Operations
from tolem.flows.resolution import Resolution
from tolem.ids import Ids
from tolem.sandbox.fixtures import CLIENT_ID, CLIENT_SECRET
from tolem.storage import keys
from tolem.storage.schema import tolem_schema
from tolem.storage.statements import Statements
from tolem.storage.store import Uncertain
from tolem.telemetry import operations_total

CAPTURE, VOID, REFUND = OperationKind.CAPTURE, OperationKind.VOID, OperationKind.REFUND
INVOICE = "000000001"


class MovedClock(SystemClock):
    """Business time that a test moves."""

    offset = timedelta()

    def now(self) -> datetime:
        return datetime.now(UTC) + self.offset


class Till:
    """A shop that has been paid, and what it does with the money."""

    def __init__(
        self, gateway: Gateway, acquirer: MoodyAcquirer, terminal: Terminal, bearer: Bearer, id: UUID, invoice: str
    ) -> None:
        self.gateway = gateway
        self.invoice = invoice
        self.acquirer = acquirer
        self.terminal = terminal
        self.bearer = bearer
        self.payment_id = id
        directory = Directory(gateway.store)
        access = Access(gateway.store, directory, SystemClock())
        self.operations = Operations(gateway.acquiring, directory, access)

    async def move(
        self, kind: OperationKind, amount: str | None = None, external_id: str = "", key: str = ""
    ) -> MoneyResult:
        content = f"{kind} {amount} {external_id}".encode()
        request = MoneyRequest(kind, self.payment_id, amount, external_id, key, content)
        result = await self.operations.move(self.bearer, request)
        await self.operations.note_told(result)
        return result._replace(untold=None)

    async def refused(self, kind: OperationKind, amount: str | None = None, **more: str) -> Refusal:
        before = await self.history()
        with pytest.raises(Refused) as caught:
            await self.move(kind, amount, **more)
        after = await self.history()
        assert (before.payments, before.operations) == (after.payments, after.operations)
        return caught.value.refusal

    async def history(self) -> OrderHistory:
        history = await self.gateway.store.find(keys.order_by_invoice(self.terminal.id, self.invoice))
        assert history is not None
        return history

    async def payment(self) -> Payment:
        return (await self.history()).payments[self.payment_id]

    async def is_settled(self) -> bool:
        return not await self.has_open()

    async def has_open(self) -> bool:
        return (await self.history()).open_operation(self.payment_id) is not None

    def in_moods(self) -> Any:
        """The store that operations work with from now on, whose next changes may fail."""
        self.gateway.acquiring.store = moody = MoodyStore(self.gateway.store)  # type: ignore[assignment]
        return moody


@asynccontextmanager
async def paid_till(
    database_url: str,
    *,
    two_stage: bool = True,
    amount: str = "100",
    invoice: str = INVOICE,
    shop_url: str = "",
    clock: Any = None,
    **settings: Any,
) -> AsyncIterator[Till]:
    """A gateway whose only order is paid by card."""
    moody: list[MoodyAcquirer] = []

    def wrap(inner: Any) -> MoodyAcquirer:
        moody.append(MoodyAcquirer(inner))
        return moody[0]

    async with running_gateway(database_url, wrap_acquirer=wrap, clock=clock) as gateway:
        admin = Administration(gateway.store, SystemClock(), Ids())
        terminal = await admin.add_terminal(CLIENT_ID, "Hotel", two_stage=two_stage, **settings)
        caller = PatientCaller(gateway.app, shop_url)
        path = await caller.page(invoice, terminal=str(terminal.id), amount=amount)
        assert (await caller.pay(path)).state == "approved"
        service = {"grant_type": "client_credentials", "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}
        token = (await caller.form("/oauth2/token", service)).json()["access_token"]
        access = Access(gateway.store, Directory(gateway.store), SystemClock())
        history = await gateway.store.find(keys.order_by_invoice(terminal.id, invoice))
        assert history is not None
        (payment_id,) = history.payments
        yield Till(gateway, moody[0], terminal, await access.authenticate(token), payment_id, invoice)


async def test_a_hold_is_captured_whole_or_in_part_once(database_url: str) -> None:
    async with paid_till(database_url) as till:
        payment = await till.payment()
        assert payment.hold_expires_at == payment.release_at is not None
        assert await till.refused(CAPTURE, "100.01") is Refusal.INVALID_REQUEST
        assert await till.refused(CAPTURE, "0") is Refusal.INVALID_REQUEST
        assert await till.refused(REFUND) is Refusal.WRONG_STATE
        assert (await till.move(CAPTURE, "60.50")).is_approved
        payment = await till.payment()
        assert (payment.status, payment.captured, payment.hold_expires_at) == (PaymentStatus.CAPTURED, 6_050, None)
        assert await till.refused(CAPTURE) is Refusal.WRONG_STATE
        assert await till.refused(VOID) is Refusal.WRONG_STATE
        assert await till.refused(REFUND, "60.51") is Refusal.INVALID_REQUEST


async def test_a_hold_is_voided(database_url: str) -> None:
    async with paid_till(database_url) as till:
        assert (await till.move(VOID)).is_approved
        payment = await till.payment()
        assert (payment.status, payment.is_hold_expired) == (PaymentStatus.VOIDED, False)
        assert await till.refused(CAPTURE) is Refusal.WRONG_STATE


async def test_refunds_add_up_to_what_was_captured(database_url: str) -> None:
    async with paid_till(database_url, two_stage=False) as till:
        assert await till.refused(REFUND, "9.99") is Refusal.INVALID_REQUEST
        assert (await till.move(REFUND, "30")).is_approved
        assert (await till.payment()).status is PaymentStatus.CAPTURED
        assert (await till.move(REFUND, "65", "r-2")).external_id == "r-2"
        assert await till.refused(REFUND, "5.01") is Refusal.INVALID_REQUEST
        assert (await till.move(REFUND)).is_approved  # 5 tenge: less than ten, but all that is left
        payment = await till.payment()
        assert (payment.status, payment.refunded) == (PaymentStatus.REFUNDED, 10_000)
        assert await till.refused(REFUND) is Refusal.WRONG_STATE
        assert till.acquirer.count(REFUND) == 3


async def test_the_refunds_own_key_answers_as_the_first_time(database_url: str) -> None:
    async with paid_till(database_url, two_stage=False) as till:
        first = await till.move(REFUND, "20", "order-7")
        assert await till.move(REFUND, "20", "order-7") == first
        assert await till.move(REFUND, None, "order-7") == first
        assert await till.refused(REFUND, "21", external_id="order-7") is Refusal.KEY_REUSED
        assert (await till.payment()).refunded == 2_000
        assert till.acquirer.count(REFUND) == 1


async def test_an_idempotency_key_is_one_request(database_url: str) -> None:
    async with paid_till(database_url, two_stage=False) as till:
        results = await asyncio.gather(*(till.move(REFUND, "20", key="k1") for _ in range(8)))
        assert {result.is_approved for result in results} == {True}
        assert await till.refused(REFUND, "30", key="k1") is Refusal.KEY_REUSED
        assert (await till.move(REFUND, "20", key="k2")).is_approved
        assert (await till.payment()).refunded == 4_000
        assert till.acquirer.count(REFUND) == 2


async def test_one_operation_of_a_payment_at_a_time(database_url: str) -> None:
    async with paid_till(database_url, two_stage=False) as till:
        till.acquirer.feel(REFUND, Mood.LOST)
        till.acquirer.feel(OperationKind.INQUIRY, Mood.REFUSED, Mood.REFUSED)  # nobody is faster than the answers here
        first = asyncio.create_task(till.move(REFUND, "20"))
        await eventually(till.has_open)
        assert await till.refused(REFUND, "30") is Refusal.IN_PROGRESS
        joined = await till.move(REFUND, "20")
        assert not joined.is_settled
        assert not (await first).is_settled
        assert till.acquirer.count(REFUND) == 1
        await eventually(till.is_settled)
        assert (await till.payment()).refunded == 2_000
        assert (await till.move(REFUND, "20")).is_approved  # the result that nobody was told
        assert (await till.payment()).refunded == 2_000
        assert till.acquirer.count(REFUND) == 1


@pytest.mark.parametrize("mood", tuple(Mood))
@pytest.mark.parametrize("kind", (CAPTURE, VOID, REFUND))
async def test_whatever_the_line_does_the_books_agree(database_url: str, kind: OperationKind, mood: Mood) -> None:
    async with paid_till(database_url, two_stage=kind is not REFUND) as till:
        till.acquirer.feel(kind, mood)
        result = await till.move(kind, None if kind is VOID else "40")
        # only the approval of a card attempt has a code
        assert result.is_settled == (mood in (Mood.WELL, Mood.UNCODED, Mood.MISCODED))
        await eventually(till.is_settled)
        payment = await till.payment()
        assert till.acquirer.count(kind) == 1  # sent again at most under the same key
        assert till.acquirer.count(OperationKind.REVERSAL) == 0
        expected = {
            CAPTURE: (PaymentStatus.CAPTURED, 4_000, 0),
            VOID: (PaymentStatus.VOIDED, 0, 0),
            REFUND: (PaymentStatus.CAPTURED, 10_000, 4_000),
        }
        assert (payment.status, payment.captured, payment.refunded) == expected[kind]


def resolution_of(gateway: Gateway) -> Resolution:
    """What people decide, as the command line makes it, at the gateway's own time."""
    return Resolution(gateway.store, Directory(gateway.store), gateway.acquiring.clock, Ids())


async def test_all_of_it_again_is_not_the_half_of_before(database_url: str) -> None:
    async with paid_till(database_url, two_stage=False) as till:
        till.acquirer.feel(REFUND, Mood.UNSURE)
        assert not (await till.move(REFUND, "50")).is_settled
        await eventually(till.is_settled)
        assert (await till.move(REFUND)).is_approved  # the other half
        assert (await till.payment()).refunded == 10_000
        assert till.acquirer.count(REFUND) == 2


async def test_all_of_it_again_joins_all_of_it(database_url: str) -> None:
    async with paid_till(database_url, two_stage=False) as till:
        till.acquirer.feel(REFUND, Mood.SILENT, Mood.LOST)
        assert not any(result.is_settled for result in await asyncio.gather(till.move(REFUND), till.move(REFUND)))
        await eventually(till.is_settled)
        assert (await till.move(REFUND)).is_approved
        assert (await till.move(REFUND, "100")).is_approved
        assert till.acquirer.count(REFUND) == 1


async def test_a_decline_that_nobody_was_told_is_no_answer_to_a_repeat(database_url: str) -> None:
    """It has moved nothing, so the shop may try again, and the acquirer decides anew."""
    for number, (kind, amount) in enumerate(((CAPTURE, "40.66"), (VOID, None), (REFUND, "40.66"))):
        is_held, invoice = kind is not REFUND, f"{number:09d}"
        async with paid_till(database_url, two_stage=is_held, amount="100.66", invoice=invoice) as till:
            till.acquirer.feel(kind, Mood.UNSURE)
            assert not (await till.move(kind, amount)).is_settled
            await eventually(till.is_settled)
            assert till.acquirer.count(kind) == 1
            assert await till.move(kind, amount) == MoneyResult(True, False, 466)
            assert await till.move(kind, amount) == MoneyResult(True, False, 466)
            assert till.acquirer.count(kind) == 3


async def test_what_was_open_for_days_is_not_repeated_by_a_second_movement(database_url: str) -> None:
    """A day to ask again begins when there is something to be told."""
    clock = MovedClock()
    async with paid_till(database_url, two_stage=False, clock=clock) as till:
        till.gateway.acquiring.limits = till.gateway.acquiring.limits._replace(recovery_tries=1)
        till.acquirer.feel(REFUND, *[Mood.REFUSED] * 50)
        till.acquirer.feel(OperationKind.INQUIRY, *[Mood.REFUSED] * 50)
        assert not (await till.move(REFUND, "40")).is_settled

        async def is_given_up() -> bool:
            return any(o.alerted_at for o in (await till.history()).operations.values())

        await eventually(is_given_up)
        clock.offset = timedelta(days=3)
        resolution = resolution_of(till.gateway)
        (waiting,) = await resolution.list_open()
        await resolution.resolve(waiting.operation.id, happened=True, reason="the bank's desk has it", who="root")
        till.acquirer.moods.clear()
        assert (await till.move(REFUND, "40")).is_approved
        assert (await till.payment()).refunded == 4_000
        clock.offset += timedelta(days=1)
        assert (await till.move(REFUND, "40")).is_approved  # after a day it is another refund
        assert (await till.payment()).refunded == 8_000


async def test_what_was_asked_for_under_a_key_is_repeated_by_that_key_only(database_url: str) -> None:
    async with paid_till(database_url, two_stage=False) as till:
        till.acquirer.feel(REFUND, Mood.SILENT)
        first = asyncio.create_task(till.move(REFUND, "20", key="k1"))
        await eventually(till.has_open)
        assert await till.refused(REFUND, "20") is Refusal.IN_PROGRESS
        assert not (await first).is_settled
        await eventually(till.is_settled)
        assert (await till.move(REFUND, "20")).is_approved
        assert (await till.payment()).refunded == 4_000
        assert (await till.move(REFUND, "20", key="k1")).is_approved
        assert (await till.payment()).refunded == 4_000
        assert till.acquirer.count(REFUND) == 2


async def test_each_key_moves_money_once(database_url: str) -> None:
    """The same refund under different keys, at once and afterwards: each key is a refund of its own."""
    async with paid_till(database_url, two_stage=False) as till:
        till.acquirer.feel(REFUND, Mood.LOST)
        first = asyncio.create_task(till.move(REFUND, "20", key="k1"))
        await eventually(till.has_open)
        for key in ("k2", "k3", "k2"):
            assert await till.refused(REFUND, "20", key=key) is Refusal.IN_PROGRESS
        assert not (await first).is_settled
        await eventually(till.is_settled)

        async def refund(key: str) -> MoneyResult:
            for _ in range(500):
                try:
                    return await till.move(REFUND, "20", key=key)
                except Refused as refused:
                    if refused.refusal is not Refusal.IN_PROGRESS:
                        raise
                    await asyncio.sleep(0.01)
            raise TimeoutError(key)

        named = ["k1", "k2", "k3", "k4"] * 4
        results = dict(zip(named, await asyncio.gather(*(refund(key) for key in named)), strict=True))
        assert {result.is_approved for result in results.values()} == {True}
        assert till.acquirer.count(REFUND) == 4
        assert (await till.payment()).refunded == 8_000
        # Every key has an operation of its own, and a decline is told under its key again, never tried again.
        declined = await till.move(REFUND, "10.66", key="k5")
        assert (declined.is_settled, declined.reason_code) == (True, 466)
        assert [await till.move(REFUND, "20", key=key) for key in named[:4]] == [results[key] for key in named[:4]]
        assert await till.move(REFUND, "10.66", key="k5") == declined
        assert till.acquirer.count(REFUND) == 5
        keyed = [o for o in (await till.history()).operations.values() if o.kind is REFUND]
        assert [o.is_keyed for o in keyed] == [True] * 5


async def test_a_key_that_came_with_a_known_refund_is_remembered(database_url: str) -> None:
    async with paid_till(database_url, two_stage=False) as till:
        first = await till.move(REFUND, "20", "r-1", "k1")
        assert await till.move(REFUND, "20", "r-1", "k2") == first
        assert await till.refused(REFUND, "20", external_id="r-2", key="k2") is Refusal.KEY_REUSED
        assert till.acquirer.count(REFUND) == 1


async def test_what_was_refused_leaves_its_key_free(database_url: str) -> None:
    async with paid_till(database_url, two_stage=False) as till:
        assert await till.refused(REFUND, "200", key="k1") is Refusal.INVALID_REQUEST
        assert (await till.move(REFUND, "20", key="k1")).is_approved


@pytest.mark.parametrize("fault", (Fault.STORED, Fault.LOST))
async def test_a_reservation_in_doubt_is_settled_by_its_id(database_url: str, fault: Fault) -> None:
    async with paid_till(database_url, two_stage=False) as till:
        store = till.in_moods()
        store.changes = [fault]
        assert (await till.move(REFUND, "20")).is_approved
        store.changes = [fault]
        assert (await till.move(REFUND, "20", key="k1")).is_approved
        assert (await till.payment()).refunded == 4_000
        assert till.acquirer.count(REFUND) == 2
        store.changes = [fault]
        assert await till.refused(REFUND, "70") is Refusal.INVALID_REQUEST


@pytest.mark.parametrize("key", ("", "k1"))
@pytest.mark.parametrize("again", (Fault.LOST, Fault.BUSY))
@pytest.mark.parametrize("fault", (Fault.STORED, Fault.LOST))
async def test_a_reservation_that_stays_in_doubt_is_told_as_such(
    database_url: str, fault: Fault, again: Fault, key: str
) -> None:
    """If it is stored, recovery sends it; if not, nothing has happened. A repeat gets what came of it."""
    async with paid_till(database_url, two_stage=False) as till:
        store = till.in_moods()
        store.changes = [fault, again]
        assert await till.move(REFUND, "20", key=key) == MoneyResult(is_settled=False)
        assert till.acquirer.count(REFUND) == 0
        await eventually(till.is_settled)
        assert till.acquirer.count(REFUND) == (fault is Fault.STORED)
        assert (await till.move(REFUND, "20", key=key)).is_approved
        assert (await till.payment()).refunded == 2_000
        assert till.acquirer.count(REFUND) == 1


async def test_a_commit_that_is_still_on_its_way_is_waited_for(postgres_url: str) -> None:
    """The connection is lost at COMMIT, and the server ends it only later: until then its lock on the order is held."""
    async with paid_till(postgres_url, two_stage=False) as till, await AsyncConnection.connect(postgres_url) as rival:
        store = till.in_moods()
        inner, insert = till.gateway.store, Statements(tolem_schema, "postgresql").insert[Operation]
        committed: list[asyncio.Task[None]] = []

        async def commit() -> None:
            await until_somebody_waits_for_a_lock(postgres_url)
            await rival.commit()

        async def change_slowly(named: Any, decide: Any) -> Any:
            del store.change
            history: Any = await inner.find(named[0])
            await rival.execute("SELECT * FROM orders WHERE id = %s FOR UPDATE", (history.order.id,))
            (operation,) = decide(history).writes
            await rival.execute(insert.text, insert.encode(operation))
            committed.append(asyncio.create_task(commit()))
            raise Uncertain("the connection was lost at COMMIT")

        store.change = change_slowly
        assert (await till.move(REFUND, "20")).is_approved
        await committed[0]
        assert (await till.payment()).refunded == 2_000
        assert till.acquirer.count(REFUND) == 1


async def test_a_reservation_that_the_store_refuses_has_asked_nothing(database_url: str) -> None:
    async with paid_till(database_url, two_stage=False) as till:
        store = till.in_moods()
        store.changes = [Fault.BUSY]
        with pytest.raises(Overloaded):
            await till.move(REFUND, "20")
        assert till.acquirer.count(REFUND) == 0
        assert len((await till.history()).operations) == 1
        assert (await till.move(REFUND, "20")).is_approved


@pytest.mark.parametrize("fault", (Fault.STORED, Fault.LOST, Fault.BUSY))
async def test_an_outcome_that_could_not_be_stored_is_in_progress_and_found_by_a_repeat(
    database_url: str, fault: Fault
) -> None:
    async with paid_till(database_url, two_stage=False) as till:
        store = till.in_moods()
        store.changes = [Fault.NONE, fault]
        assert not (await till.move(REFUND, "20")).is_settled
        await eventually(till.is_settled)
        assert (await till.move(REFUND, "20")).is_approved
        assert (await till.payment()).refunded == 2_000
        assert till.acquirer.count(REFUND) == 1


async def test_an_outcome_that_could_not_be_read_is_in_progress_and_found_by_a_repeat(database_url: str) -> None:
    async with paid_till(database_url, two_stage=False) as till:
        store = till.in_moods()
        record = till.gateway.acquiring.record

        async def record_and_lose(*args: Any) -> Any:
            recorded = await record(*args)
            store.failing_finds = 1
            return recorded

        till.gateway.acquiring.record = record_and_lose  # type: ignore[method-assign, assignment]
        assert not (await till.move(REFUND, "20")).is_settled
        assert (await till.payment()).refunded == 2_000
        assert (await till.move(REFUND, "20")).is_approved
        assert (await till.payment()).refunded == 2_000
        assert till.acquirer.count(REFUND) == 1


@pytest.mark.parametrize("fault", (Fault.NONE, Fault.LOST, Fault.STORED))
async def test_a_told_result_is_not_told_again_for_another_refund(database_url: str, fault: Fault) -> None:
    """The third change notes that the caller is told. Whether that is stored or not: no refund moves money twice."""
    async with paid_till(database_url, two_stage=False) as till:
        store = till.in_moods()
        store.changes = [Fault.NONE, Fault.NONE, fault]
        assert (await till.move(REFUND, "20")).is_approved
        assert (await till.move(REFUND, "20")).is_approved
        assert (await till.payment()).refunded == (2_000 if fault is Fault.LOST else 4_000)


async def test_a_process_that_ends_before_it_answers_leaves_its_operation_to_the_repeat(database_url: str) -> None:
    async with paid_till(database_url, two_stage=False) as till:
        store = till.in_moods()
        stopped = asyncio.Event()
        look = store.find

        async def stop(key: Any) -> Any:
            history = await look(key)
            if history.open_operation(till.payment_id) is None and len(history.operations) == 2:
                stopped.set()
                await asyncio.Event().wait()  # and nothing is heard of this call any more
            return history

        store.find = stop
        lost = asyncio.create_task(till.move(REFUND, "20"))
        await stopped.wait()
        store.find = look
        assert (await till.move(REFUND, "20")).is_approved
        assert (await till.payment()).refunded == 2_000
        assert till.acquirer.count(REFUND) == 1
        lost.cancel()


async def test_operations_are_counted_once(database_url: str) -> None:
    def counted() -> dict[str, float]:
        names = ("approved", "declined", "unknown")
        return {name: operations_total.labels("refund", name)._value.get() for name in names}

    async with paid_till(database_url, two_stage=False) as till:
        before = counted()
        await asyncio.gather(*(till.move(REFUND, "20") for _ in range(5)))
        await asyncio.gather(*(till.move(REFUND, "20", key="k1") for _ in range(5)))
        await till.move(REFUND, "10.66", "r-1")
        await till.move(REFUND, "10.66", "r-1")
        till.acquirer.feel(REFUND, Mood.UNSURE)
        await till.move(REFUND, "30")
        await eventually(till.is_settled)
        await till.move(REFUND, "30")
        after = counted()
        assert till.acquirer.count(REFUND) == 4
        assert {name: after[name] - before[name] for name in after} == {"approved": 2, "declined": 1, "unknown": 1}


async def test_recovery_gives_up_and_a_person_resolves(database_url: str) -> None:
    async with paid_till(database_url, two_stage=False) as till:
        till.gateway.acquiring.limits = till.gateway.acquiring.limits._replace(recovery_tries=2)
        till.acquirer.feel(REFUND, *[Mood.REFUSED] * 50)
        till.acquirer.feel(OperationKind.INQUIRY, *[Mood.REFUSED] * 50)
        assert not (await till.move(REFUND, "40")).is_settled

        async def is_given_up() -> bool:
            return any(o.alerted_at for o in (await till.history()).operations.values())

        await eventually(is_given_up)
        resolution = resolution_of(till.gateway)
        (waiting,) = await resolution.list_open()
        assert (waiting.operation.kind, waiting.invoice_id) == (REFUND, INVOICE)
        with pytest.raises(Refused, match="reason"):
            await resolution.resolve(waiting.operation.id, happened=True, reason="ok", who="root")
        await resolution.resolve(waiting.operation.id, happened=False, reason="the bank's desk says no", who="root")
        assert (await till.payment()).refunded == 0
        assert (await till.history()).operations[waiting.operation.id].status is OperationStatus.DECLINED
        till.acquirer.moods.clear()
        assert (await till.move(REFUND, "50")).is_approved


async def test_the_shop_is_told_of_operations_if_its_terminal_asks(database_url: str) -> None:
    told_of = ("capture", "refund")
    async with running_shop() as shop, paid_till(database_url, shop_url=shop.url, tells=told_of) as till:
        await till.move(CAPTURE, "80")
        await till.move(REFUND, "30")
        told = await shop.wait(3)
        assert [(t["code"], t["amount"]) for t in told] == [("ok", 100), ("charge", 80), ("refund", 30)]


async def test_64_operations_at_once_never_exceed(database_url: str) -> None:
    async with paid_till(database_url, two_stage=False) as till:

        async def refund(number: int) -> str:
            for _ in range(200):
                try:
                    result = await till.move(REFUND, "10", f"r-{number}")
                except Refused as refused:
                    if refused.refusal is not Refusal.IN_PROGRESS:
                        return refused.refusal.value
                    await asyncio.sleep(0.01)
                else:
                    if result.is_settled:
                        return "approved" if result.is_approved else "declined"
                    await asyncio.sleep(0.05)  # a busy machine: the same refund is asked for again
            return "gave up"

        outcomes = await asyncio.gather(*(refund(number) for number in range(64)))
        assert outcomes.count("approved") == 10
        assert (await till.payment()).status is PaymentStatus.REFUNDED
        assert till.acquirer.count(REFUND) == 10


async def test_the_token_decides_what_may_be_moved(sqlite_url: str) -> None:
    async with paid_till(sqlite_url) as till:
        scope_less = till.bearer._replace(token=replace(till.bearer.token, scope="statistics"))
        other_terminal = till.bearer._replace(token=replace(till.bearer.token, terminal_id=UUID(int=7)))
        own_order = till.bearer._replace(token=replace(till.bearer.token, order_id=(await till.history()).order.id))
        stranger = till.bearer._replace(merchant=replace(till.bearer.merchant, id=UUID(int=9)))
        for bearer, refusal in (
            (scope_less, Refusal.FORBIDDEN),
            (other_terminal, Refusal.FORBIDDEN),
            (own_order, Refusal.FORBIDDEN),
            (stranger, Refusal.NOT_FOUND),
        ):
            till.bearer, good = bearer, till.bearer
            assert await till.refused(VOID) is refusal
            till.bearer = good
        loose = replace(till.bearer.merchant, order_token_powers=True)
        till.bearer = own_order._replace(merchant=loose)
        assert (await till.move(VOID)).is_approved
