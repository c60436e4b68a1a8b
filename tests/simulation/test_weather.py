"""An acquirer in every weather, through a whole gateway and over a real connection: what is not certain stays unknown
until the acquirer says what happened, or people do. Nothing is ever guessed.

A bank that misbehaves stands in front of the simulator, whose book stays true. All cases of a database are played at
once; the order's amount tells the bank which case an exchange belongs to.
"""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import sqlalchemy as sa

from tests.acquirers.test_http import Server, http
from tests.gateway import Caller, build_config, eventually, running_gateway, running_shop
from tests.merchant_api import ShopServer, service
from tests.simulation.clock import MovableClock
from tolem.acquirers.base import AcquirerRequest
from tolem.acquirers.messages import encode_answer, parse_request
from tolem.bootstrap import Gateway
from tolem.domain.history import OrderHistory
from tolem.domain.payment import Operation, OperationKind, OperationStatus, PaymentStatus
from tolem.flows.directory import Directory
from tolem.flows.reconciliation import Report, reconcile
from tolem.flows.recovery import INQUIRIES_MIN
from tolem.flows.resolution import Resolution
from tolem.ids import Ids
from tolem.sandbox.cards import build_number
from tolem.sandbox.fixtures import TERMINAL_ID
from tolem.sandbox.ledger import open_ledger
from tolem.sandbox.simulator import Simulator
from tolem.storage import keys, queries, tables

PURCHASE, REFUND = OperationKind.PURCHASE, OperationKind.REFUND
ALWAYS = (datetime(1970, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC))
DEADLINE_SECONDS = 2.0
FIRST_AMOUNT = 1_000
"""KZT of the first case's order; each has one more."""

Write = Callable[[asyncio.StreamWriter, bytes], Awaitable[None]]
"""What the bank does on the connection instead of sending this answer (a JSON body)."""


def told(**changes: Any) -> Write:
    """Another answer than the true one."""

    async def write(writer: asyncio.StreamWriter, answer: bytes) -> None:
        writer.write(http(json.dumps(json.loads(answer) | changes).encode()))

    return write


async def twice(writer: asyncio.StreamWriter, answer: bytes) -> None:
    """The connection then holds an answer that nobody has asked for."""
    writer.write(http(answer) * 2)


async def half(writer: asyncio.StreamWriter, answer: bytes) -> None:
    writer.write(http(answer)[: -len(answer) // 2])
    writer.close()


async def half_of_the_json(writer: asyncio.StreamWriter, answer: bytes) -> None:
    writer.write(http(answer[: len(answer) // 2]))


async def ten_megabytes(writer: asyncio.StreamWriter, answer: bytes) -> None:
    writer.write(http(answer[:-1] + b" " * 10_000_000 + b"}"))
    await writer.drain()


async def reset(writer: asyncio.StreamWriter, answer: bytes) -> None:
    writer.write(http(answer)[:20])
    await writer.drain()
    writer.transport.abort()


async def silence(writer: asyncio.StreamWriter, answer: bytes) -> None:
    await asyncio.sleep(60)


async def too_late(writer: asyncio.StreamWriter, answer: bytes) -> None:
    """After the gateway's deadline."""
    await asyncio.sleep(DEADLINE_SECONDS + 0.3)
    writer.write(http(answer))


async def error_with_an_approval(writer: asyncio.StreamWriter, answer: bytes) -> None:
    writer.write(http(answer, "500 Internal Server Error"))


async def html(writer: asyncio.StreamWriter, answer: bytes) -> None:
    writer.write(http(b"<h1>Approved</h1>", "200 OK", "content-type: text/html"))


WEATHERS: dict[str, Write] = {
    "another-operation": told(key=str(Ids().new())),
    "another-amount": told(amount=1),
    "another-currency": told(currency="USD"),
    "no-such-verdict": told(verdict="perhaps"),
    "approved-with-a-reason": told(verdict="approved", reason_code=799),
    "declined-without-a-reason": told(verdict="declined", reason_code=0),
    "declined-with-454": told(verdict="declined", reason_code=454),
    "declined-with-459": told(verdict="declined", reason_code=459),
    "not-found": told(verdict="not_found", reason_code=522),
    "half": half,
    "half-of-the-json": half_of_the_json,
    "ten-megabytes": ten_megabytes,
    "reset": reset,
    "silence": silence,
    "too-late": too_late,
    "error-with-an-approval": error_with_an_approval,
    "html": html,
}


class Case(NamedTuple):
    """One order's weather."""

    kind: OperationKind
    """What meets it first."""
    weather: str
    is_done: bool
    """The bank has done what it answers so badly; otherwise it forgot it."""
    is_long: bool
    """The first exchange of every kind meets it: reversal and repeat, too, and as many inquiries as recovery makes."""

    @property
    def name(self) -> str:
        """For test ids."""
        words = ("done" if self.is_done else "forgotten", *(["long"] if self.is_long else []))
        return "-".join((self.kind, self.weather, *words))

    @property
    def amount(self) -> int:
        """KZT of the order; also of the refund."""
        return FIRST_AMOUNT + CASES.index(self)

    @property
    def happens(self) -> bool:
        """Whether money moves in the end: a refund is repeated until it does, a purchase counts if the bank has it and
        could say so when it was asked."""
        return self.kind is REFUND or (self.is_done and not self.is_long)


CASES: list[Case] = [
    Case(kind, weather, is_done, is_long)
    for kind in (PURCHASE, REFUND)
    for weather in WEATHERS
    for is_done in (True, False)
    for is_long in (False, True)
]
BY_AMOUNT = {case.amount * 100: case for case in CASES}


class Bank:
    """The simulator, and a door that behaves as the weather is."""

    def __init__(self, simulator: Simulator) -> None:
        self.simulator = simulator
        self.met: Counter[tuple[int, OperationKind]] = Counter()
        """Amount and kind of exchanges that met bad weather."""
        self.server = Server(self._handle)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.port}"

    async def _handle(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = parse_request(self.server.requests[-1].partition(b"\r\n\r\n")[2])
        case = BY_AMOUNT.get(request.amount)
        if case is None or not self._is_bad(case, request):
            writer.write(http(encode_answer(await self.simulator.send(request))))
            return
        if case.is_done:
            answer = encode_answer(await self.simulator.send(request))
        else:
            approved = {"key": str(request.key), "verdict": "approved", "amount": request.amount, "currency": "KZT"}
            answer = json.dumps(
                approved | {"reason_code": 0, "approval_code": "123456", "rrn": request.rrn, "issuer_name": ""}
            ).encode()
        await WEATHERS[case.weather](writer, answer)

    def _is_bad(self, case: Case, request: AcquirerRequest) -> bool:
        place = (request.amount, request.kind)
        is_about_it = request.kind is case.kind or case.is_long
        is_preparation = case.kind is REFUND and request.kind is PURCHASE
        times = INQUIRIES_MIN if request.kind is OperationKind.INQUIRY else 1
        if self.met[place] >= times or not is_about_it or is_preparation:
            return False
        self.met[place] += 1
        return True


class Ended(NamedTuple):
    """What all came to."""

    histories: dict[Case, OrderHistory]
    refund_statuses: dict[Case, int]
    """HTTP status that the shop's call was answered with."""
    told_paid: set[str]
    """Payments of which the shop was told success."""
    report: Report
    met: Counter[tuple[int, OperationKind]]


async def test_nothing_is_guessed(database_url: str) -> None:
    """In any case; all are played on one database."""
    ended = await _play(database_url)
    wrong = [f"{case.name}: {fault}" for case in CASES for fault in _find_faults(ended, case)]
    assert not wrong, "\n".join(wrong)


def _find_faults(ended: Ended, case: Case) -> Iterator[str]:
    history = ended.histories[case]
    if (case.amount * 100, case.kind) not in ended.met:
        yield "the weather never came"
    (payment,) = history.payments.values()
    (operation,) = (o for o in history.operations.values() if o.kind is case.kind)
    if operation.doubted_at is None:
        yield "it was believed at once"
    if case.kind is REFUND:
        if ended.refund_statuses[case] != 503:
            yield f"the shop was answered {ended.refund_statuses[case]}"
        if (payment.status, payment.refunded) != (PaymentStatus.REFUNDED, case.amount * 100):
            yield f"{payment.refunded} refunded, {payment.status}"
    else:
        if payment.status is not (PaymentStatus.CAPTURED if case.happens else PaymentStatus.FAILED):
            yield f"the payment is {payment.status}"
        if (str(payment.id) in ended.told_paid) != case.happens:
            yield "the shop was told otherwise"
    ids = {operation.id for operation in history.operations.values()}
    yield from (f"differs: {d}" for d in ended.report.differences if d.key in ids or d.key is None)


async def _play(database: str) -> Ended:
    async with _open_bank(database) as bank, running_shop() as shop:
        settings: dict[str, Any] = {"acquirer_url": bank.url, "acquirer_timeout_seconds": DEADLINE_SECONDS}
        async with running_gateway(database, **settings) as gateway:
            caller = Caller(gateway.app, shop.url)
            shop_server = await service(gateway.app)
            at_once = asyncio.Semaphore(24)

            async def play(case: Case) -> int:
                async with at_once:
                    return await _act(gateway, caller, shop_server, case)

            statuses = await asyncio.gather(*(play(case) for case in CASES))
            await eventually(lambda: _is_settled(gateway), 30)
            await eventually(lambda: _is_told(gateway))
            histories = {case: await _find(gateway, case) for case in CASES}
            report = await reconcile(gateway.store, bank.simulator, *ALWAYS)
    told_paid = {body["id"] for body in shop.received if body["code"] == "ok"}
    return Ended(histories, dict(zip(CASES, statuses, strict=True)), told_paid, report, bank.met)


async def _act(gateway: Gateway, caller: Caller, shop_server: ShopServer, case: Case) -> int:
    """The payer pays; the shop refunds all if that is the case's kind. The call's HTTP status, 0 without one."""
    invoice = f"{case.amount:09d}"
    path = await caller.page(invoice, amount=str(case.amount))
    await caller.submit(path, build_number(0))
    if case.kind is PURCHASE:
        return 0
    (payment,) = (await _find(gateway, case)).payments.values()
    assert payment.status is PaymentStatus.CAPTURED
    return (await shop_server.operate(payment.id, "refund")).status


async def _find(gateway: Gateway, case: Case) -> OrderHistory:
    history = await gateway.store.find(keys.order_by_invoice(TERMINAL_ID, f"{case.amount:09d}"))
    assert history is not None
    return history


async def _is_settled(gateway: Gateway) -> bool:
    return (await queries.summarize_open_operations(gateway.store)).total == 0


async def _is_told(gateway: Gateway) -> bool:
    return await queries.count_undelivered(gateway.store) == 0


@asynccontextmanager
async def _open_bank(database: str) -> AsyncIterator[Bank]:
    simulator = Simulator(await open_ledger(build_config(database).ledger_url, instance=Ids().instance()))
    bank = Bank(simulator)
    await bank.server.start()
    try:
        yield bank
    finally:
        await bank.server.stop()
        await simulator.close()


async def test_an_answer_that_comes_twice_is_nobody_elses(sqlite_url: str) -> None:
    """The second one waits on the connection when the next exchange begins, which must not take it for its own."""
    async with _open_bank(sqlite_url) as bank:

        async def handle(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            request = parse_request(bank.server.requests[-1].partition(b"\r\n\r\n")[2])
            writer.write(http(encode_answer(await bank.simulator.send(request))) * 2)

        bank.server._handle = handle
        async with running_gateway(sqlite_url, acquirer_url=bank.url) as gateway:
            caller = Caller(gateway.app)
            for number, (card, state) in enumerate(((0, "approved"), (484, "declined"), (0, "approved")) * 3, start=1):
                page = await caller.pay(await caller.page(f"{number:09d}"), build_number(card))
                assert page.state in (state, "checking")
            await eventually(lambda: _is_settled(gateway))
            report = await reconcile(gateway.store, bank.simulator, *ALWAYS)
            assert report.differences == ()


class Hour(NamedTuple):
    """A gateway whose acquirer went down for long, after an order was paid."""

    gateway: Gateway
    bank: Bank
    clock: MovableClock
    caller: Caller
    shop_server: ShopServer

    async def operations(self) -> list[Operation]:
        """What the acquirer is asked about."""
        return [o for o in await self.gateway.store.select(_OPERATIONS) if o.due_at is not None]

    async def pass_time(self, minutes: float) -> None:
        """Recovery does all that it does in that time. No exchange takes longer than it would: time stands while the
        bank is asked."""
        end = self.clock.now() + timedelta(minutes=minutes)
        while True:
            operations = await self.operations()
            if any(operation.asked_until is not None for operation in operations):
                await asyncio.sleep(0.01)
                continue
            dues = [operation.due_at for operation in operations if operation.due_at is not None]
            if not dues or min(dues) > end:
                break
            self.clock.advance_to(min(dues))
            await asyncio.sleep(0.01)
        self.clock.advance_to(end)
        await asyncio.sleep(0.1)


@asynccontextmanager
async def down(database: str, shop_url: str) -> AsyncIterator[Hour]:
    """The bank goes away; then a payer pays and the shop refunds."""
    clock = MovableClock()
    async with _open_bank(database) as bank:
        real_limits: dict[str, Any] = {"acquirer_timeout_seconds": 10.0, "recovery_margin_seconds": 5.0}
        async with running_gateway(database, acquirer_url=bank.url, clock=clock, **real_limits) as gateway:
            caller = Caller(gateway.app, shop_url)
            shop_server = await service(gateway.app)
            assert (await caller.pay(await caller.page("000000001"), build_number(0))).state == "approved"
            (payment,) = await gateway.store.select(_PAYMENTS)
            await bank.server.stop()
            path = await caller.page("000000002")
            assert (await caller.pay(path, build_number(0))).state == "checking"
            assert (await shop_server.operate(payment.id, "refund", amount="40")).status == 503
            yield Hour(gateway, bank, clock, caller, shop_server)


async def test_back_after_half_an_hour(database_url: str) -> None:
    async with running_shop() as shop, down(database_url, shop.url) as hour:
        await hour.pass_time(30)
        assert [o.alerted_at for o in await hour.operations() if o.kind in (PURCHASE, REFUND)] == [None, None]
        await hour.bank.server.start()
        await hour.pass_time(2)
        assert await hour.operations() == []
        payments = {payment.status: payment for payment in await hour.gateway.store.select(_PAYMENTS)}
        assert payments[PaymentStatus.CAPTURED].refunded == 4_000  # sent again under its key
        assert PaymentStatus.FAILED in payments  # reversed before it ever arrived


async def test_down_for_hours_is_given_up_to_people(database_url: str) -> None:
    async with running_shop() as shop, down(database_url, shop.url) as hour:
        await hour.pass_time(50)
        assert all(operation.alerted_at is None for operation in await hour.operations())
        await hour.pass_time(25)
        await eventually(lambda: _is_given_up(hour))
        await hour.pass_time(60 * 24)  # nobody answers, and time alone settles nothing
        store = hour.gateway.store
        assert (await queries.summarize_open_operations(store)).given_up == 2
        statuses = {payment.status for payment in await store.select(_PAYMENTS)}
        assert statuses == {PaymentStatus.UNKNOWN, PaymentStatus.CAPTURED}
        await eventually(lambda: _is_told(hour.gateway))
        assert [body["code"] for body in shop.received] == ["ok"]  # nothing but the payment before
        report = await reconcile(store, hour.bank.simulator, *ALWAYS)
        assert [difference.cause for difference in report.differences] == ["open", "open"]

        resolution = Resolution(store, Directory(store), hour.clock, Ids())
        for waiting in await resolution.list_open():
            why = "the bank's statement of that day does not have it"
            await resolution.resolve(waiting.operation.id, happened=False, reason=why, who="root")
        assert await resolution.list_open() == []
        statuses = {payment.status for payment in await store.select(_PAYMENTS)}
        assert statuses == {PaymentStatus.FAILED, PaymentStatus.CAPTURED}
        await hour.bank.server.start()  # and the bank confirms, whenever it comes back, what it can
        await hour.pass_time(60 * 24)
        (unfound,) = await hour.operations()
        assert (unfound.kind, unfound.status) == (REFUND, OperationStatus.DECLINED)  # it never arrived
        report = await reconcile(store, hour.bank.simulator, *ALWAYS)
        assert [difference for difference in report.differences if difference.key] == []


async def test_back_after_a_day_settles_by_itself(database_url: str) -> None:
    """What was given up is still asked about, every quarter of an hour."""
    async with running_shop() as shop, down(database_url, shop.url) as hour:
        await hour.pass_time(60 * 24)
        await eventually(lambda: _is_given_up(hour))
        await hour.bank.server.start()
        await hour.pass_time(16)
        await eventually(lambda: _is_all_settled(hour))
        payments = {payment.status: payment for payment in await hour.gateway.store.select(_PAYMENTS)}
        assert payments[PaymentStatus.CAPTURED].refunded == 4_000
        assert PaymentStatus.FAILED in payments
        assert (await reconcile(hour.gateway.store, hour.bank.simulator, *ALWAYS)).differences == ()


async def _is_all_settled(hour: Hour) -> bool:
    return await hour.operations() == []


async def _is_given_up(hour: Hour) -> bool:
    return (await queries.summarize_open_operations(hour.gateway.store)).given_up == 2


_OPERATIONS = sa.select(*tables.operations.columns)
_PAYMENTS = sa.select(*tables.payments.columns)
