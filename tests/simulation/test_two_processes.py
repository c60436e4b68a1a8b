"""Two gateways on one PostgreSQL, and one acquirer: money moves once, whoever asks, whoever recovers, whatever their
clocks say.
"""

import asyncio
import json
import re
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import aiohttp
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.acquirers.programs import Program, running_program
from tests.flows.test_operations import CAPTURE, REFUND
from tests.gateway import Answer, Caller, eventually, running_gateway, running_shop
from tests.merchant_api import ShopServer, service
from tests.postgres import PostgresServer
from tests.simulation.wire import RemoteApp
from tests.test_cli import serving
from tolem.acquirers.base import Acquirer, AcquirerAnswer, AcquirerRequest, StatementLine
from tolem.acquirers.http import HttpAcquirer
from tolem.bootstrap import Gateway
from tolem.clock import SystemClock
from tolem.domain.card import CardField, CardProblem, TypedCard
from tolem.domain.money import parse_amount
from tolem.domain.payment import Operation, OperationKind, OperationStatus, Payment, PaymentStatus
from tolem.flows.administration import Administration
from tolem.flows.reconciliation import reconcile
from tolem.ids import Ids
from tolem.sandbox.cards import build_number
from tolem.sandbox.fixtures import CLIENT_ID, TERMINAL_ID
from tolem.sandbox.simulator import check_card
from tolem.storage import keys, queries, tables
from tolem.storage.open import open_store
from tolem.storage.schema import tolem_schema
from tolem.storage.store import Store

HOTEL = UUID("00000000-0000-7000-8000-0000000000e1")
CALLS = 64
HOLD = 3_000
"""KZT on hold; all refunds together would be more than a capture brings."""
LATE_SECONDS = 2.5
"""A late request: after the deadline of 1 s and recovery's margin."""
RETRIES = 500
RETRY_SECONDS = 0.01
WORDS = {CAPTURE: "charge", REFUND: "refund"}
IN_PROGRESS = "in progress; ask"
ALWAYS = (datetime(1970, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC))


class Pair(NamedTuple):
    """Two gateways' processes and their acquirer's."""

    database: str
    ports: tuple[int, int]
    acquirer: Program

    def exchanges(self) -> Counter[tuple[str, str]]:
        """How often each (kind, key) reached the acquirer's program, by its log."""
        lines = [json.loads(line) for line in self.acquirer.log.read_text().splitlines() if line.startswith("{")]
        return Counter((line["kind"], line["key"]) for line in lines if line["event"] == "exchange")


class Call(NamedTuple):
    """One call of the shop's, made until it is answered with something else than "in progress"."""

    number: int
    kind: OperationKind
    amount: int
    """KZT. Amounts of calls without a key differ: two calls that ask for the same would be one."""
    key: str
    """"" none, "external": the refund's own key, "header": Idempotency-Key."""
    gateway: int
    is_twice: bool
    """With a key: sent to both processes at once."""
    delay_ms: int

    @property
    def external_id(self) -> str:
        return f"r-{self.number}" if self.key == "external" else ""

    async def make(self, shops: tuple[ShopServer, ShopServer], payment_id: UUID, gateway: int) -> Answer:
        """Every retry goes to the other process."""
        answer = None
        for turn in range(RETRIES):
            shop = shops[(gateway + turn) % 2]
            body: dict[str, Any] = {"amount": self.amount}
            if self.external_id:
                body["externalID"] = self.external_id
            headers = {"idempotency_key": f"{payment_id}-{self.number}"} if self.key == "header" else {}
            answer = await shop.post(f"/operation/{payment_id}/{WORDS[self.kind]}", body, **headers)
            if not (answer.status == 409 and IN_PROGRESS in answer.text):
                return answer
            await asyncio.sleep(RETRY_SECONDS)
        assert answer is not None
        return answer


@st.composite
def calls(draw: st.DrawFn) -> list[Call]:
    """A shop in a hurry: captures, of which one can succeed, and refunds, some of them before anything is captured."""
    made = []
    for number in range(CALLS):
        kind = CAPTURE if draw(st.integers(0, 7)) == 0 else REFUND
        base = draw(st.sampled_from((500, 1_000, 2_900))) if kind is CAPTURE else draw(st.sampled_from((10, 80, 150)))
        keys_of_kind = ("", "header") if kind is CAPTURE else ("", "header", "external")
        key = draw(st.sampled_from(keys_of_kind))
        is_twice = bool(key) and draw(st.booleans())
        delay_ms = draw(st.integers(0, 20 if kind is CAPTURE else 150))
        made.append(Call(number, kind, base + number, key, draw(st.integers(0, 1)), is_twice, delay_ms))
    return made


@pytest.fixture(scope="module")
def pair(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Real processes, as people start them."""
    folder = tmp_path_factory.mktemp("pair")
    name = postgres_server.create_database()
    database = postgres_server.url(name)
    with running_program(folder, "sqlite:///simulator.db") as acquirer:
        arguments = ("--database", database, "--acquirer-url", acquirer.url)
        with serving(folder, *arguments) as (_, first), serving(folder, *arguments) as (_, second):
            asyncio.run(_add_hotel(database))
            yield Pair(database, (first, second), acquirer)
    postgres_server.drop_database(name)


@given(mix=calls())
@settings(
    max_examples=8,
    deadline=None,
    database=None,
    phases=(Phase.generate,),  # an interleaving does not come back because its calls do: nothing to shrink
    suppress_health_check=(HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example),
)
def test_64_calls_at_once_move_money_once(pair: Pair, mix: list[Call]) -> None:
    asyncio.run(_hurry(pair, mix))


async def _hurry(pair: Pair, mix: list[Call]) -> None:
    """A new order is paid, all calls are made, and everybody is asked what they know."""
    invoice = f"{next(_invoices):09d}"
    async with aiohttp.ClientSession() as session, _reading(pair.database) as store:
        apps = [RemoteApp(session, port) for port in pair.ports]
        caller = Caller(apps[0])
        path = await caller.page(invoice, terminal=str(HOTEL), amount=str(HOLD))
        assert (await caller.pay(path, build_number(0))).state == "approved"
        payment_id = (await _read(store, invoice))[0].id
        shops = (await service(apps[0], terminal=str(HOTEL)), await service(apps[1], terminal=str(HOTEL)))

        async def make(call: Call) -> list[Answer]:
            await asyncio.sleep(call.delay_ms / 1000)
            gateways = (0, 1) if call.is_twice else (call.gateway,)
            return await asyncio.gather(*(call.make(shops, payment_id, gateway) for gateway in gateways))

        answers = dict(zip(mix, await asyncio.gather(*(make(call) for call in mix)), strict=True))
        payment, operations = await _read(store, invoice)
        for call, told in answers.items():
            if call.key and any(answer.status == 200 for answer in told):
                again = await call.make(shops, payment_id, 1 - call.gateway)
                first = next(answer for answer in told if answer.status == 200)
                assert (again.status, again.json()) == (200, first.json())
                if call.key == "header":
                    other = await call._replace(amount=call.amount + 1).make(shops, payment_id, call.gateway)
                    assert (other.status, other.json()["code"]) == (409, 100), f"{call}: {other.text}"
        assert await _read(store, invoice) == (payment, operations), "a repeat has changed something"
        lines = await _statement(pair)

    _check_answers(answers, operations)
    captures, refunds = ([o for o in operations if o.kind is kind] for kind in (CAPTURE, REFUND))
    assert {o.status for o in operations} <= {OperationStatus.APPROVED}
    assert len(captures) <= 1
    assert payment.captured == sum(o.amount for o in captures) <= payment.authorized == HOLD * 100
    assert payment.refunded == sum(o.amount for o in refunds) <= payment.captured
    reached = pair.exchanges()
    for operation in operations:
        line = lines[operation.id]
        assert (line.kind, line.amount, line.is_approved) == (operation.kind, operation.amount, True)
        assert reached[operation.kind.value, str(operation.id)] == 1
    originals = {operation.original_id for operation in operations}
    assert {key for key, line in lines.items() if line.original_key in originals} == {o.id for o in operations}


def _check_answers(answers: dict[Call, list[Answer]], operations: list[Operation]) -> None:
    """200 if and only if it is in the books; every operation is somebody's."""
    by_call = {(o.kind, o.amount): o for o in operations}
    assert len(by_call) == len(operations), "a call has moved money twice"
    for call, told in answers.items():
        operation = by_call.pop((call.kind, parse_amount(str(call.amount), "KZT")), None)
        statuses = [answer.status for answer in told]
        words = f"{call}: {[(answer.status, answer.text) for answer in told]}, in the books: {operation}"
        assert set(statuses) <= {200, 400, 409}, words
        assert (200 in statuses) == (operation is not None), words  # a twin may have been refused before the capture
        if operation is not None:
            assert operation.external_id == call.external_id, words
    assert by_call == {}, "nobody has asked for it"


async def test_two_recover_the_same_rows(postgres_url: str, tmp_path: Path) -> None:
    """Whatever one process left open is taken up by one of two others, and by one only."""
    cards = [build_number(0, line="2"), build_number(0, line="3"), build_number(459), build_number(460)] * 4
    with running_program(tmp_path, "sqlite:///simulator.db") as program:
        async with running_shop() as shop:
            async with running_gateway(postgres_url, acquirer_url=program.url, recovery_margin_seconds=60.0) as gateway:
                caller = Caller(gateway.app, shop.url)

                async def pay(number: int, card: str) -> None:
                    page = await caller.pay(await caller.page(f"{number:09d}"), card)
                    assert page.state == "checking"

                await asyncio.gather(*(pay(number, card) for number, card in enumerate(cards, start=1)))
            sent: list[AcquirerRequest] = []
            async with _two_gateways(postgres_url, program, sent, SkewedClock(120), SkewedClock(120)) as (one, two):
                await eventually(lambda: _is_settled(one.store))
                report = await reconcile(two.store, two.acquirer, *ALWAYS)
                assert [d for d in report.differences if d.cause != "not acknowledged"] == []
                payments = await one.store.select(_PAYMENTS)
    by_status = Counter(payment.status for payment in payments)
    assert by_status == {PaymentStatus.CAPTURED: 4, PaymentStatus.FAILED: 12}
    inquired = Counter(request.original_key for request in sent if request.kind is OperationKind.INQUIRY)
    assert (len(inquired), set(inquired.values())) == (16, {1})
    reversed_keys = Counter(request.original_key for request in sent if request.kind is OperationKind.REVERSAL)
    assert (len(reversed_keys), set(reversed_keys.values())) == (12, {1})


@pytest.mark.parametrize("minutes", (-7, 7))
async def test_clocks_that_differ_by_minutes(postgres_url: str, tmp_path: Path, minutes: int) -> None:
    """One process takes up what the other is still waiting for, and the books agree all the same."""
    options = ("--delay-seconds", "0.5", "--late-seconds", str(LATE_SECONDS))
    may_be_paid = [build_number(0, line=line) for line in "012"] + [build_number(454)]
    cards = [*may_be_paid, build_number(0, line="3"), build_number(0, line="5"), build_number(460)] * 2
    with running_program(tmp_path, "sqlite:///simulator.db", *options) as program:
        async with running_shop() as shop:
            async with running_gateway(postgres_url, acquirer_url=program.url) as gateway:
                caller = Caller(gateway.app, shop.url)
                for number in (1, 2):
                    assert (await caller.pay(await caller.page(f"{number:09d}"))).state == "approved"
            sent: list[AcquirerRequest] = []
            clocks = (SkewedClock(0), SkewedClock(minutes * 60))
            async with _two_gateways(postgres_url, program, sent, *clocks) as (one, two):
                callers = [Caller(gateway.app, shop.url) for gateway in (one, two)]

                async def pay(number: int, card: str) -> None:
                    """The payer goes from one process to the other with every request."""
                    path = await callers[number % 2].page(f"{number:09d}")
                    await callers[1 - number % 2].submit(path, card)
                    await callers[number % 2].get(path)

                await asyncio.gather(*(pay(number, card) for number, card in enumerate(cards, start=3)))
                await eventually(lambda: _is_settled(one.store), 15)
                await asyncio.sleep(LATE_SECONDS)  # the late ones have arrived by now
                # What was taken up before it reached the acquirer is reversed, so a prompt payment may fail, too.
                paid = [payment for payment in await one.store.select(_PAYMENTS) if payment.captured]
                assert 2 <= len(paid) <= 2 + 2 * len(may_be_paid)
                await _refund_from_both(one, two, paid)

                async def agree() -> bool:
                    """Once what is left to tell is told: rounds that failed are told at their deadlines."""
                    report = await reconcile(one.store, one.acquirer, *ALWAYS)
                    assert [d for d in report.differences if d.cause != "not acknowledged"] == []
                    return report.differences == ()

                await eventually(agree, 15)
            told_paid = {told["id"] for told in shop.received if told["code"] == "ok"}
            assert told_paid == {str(payment.id) for payment in paid}


async def _refund_from_both(one: Gateway, two: Gateway, paid: list[Payment]) -> None:
    """The same refund at both processes at once, sent late by one of them: once in the books."""
    shops = [await service(gateway.app, terminal=str(TERMINAL_ID)) for gateway in (one, two)]

    async def refund(payment: Payment, body: dict[str, Any], **headers: str) -> None:
        answers = await asyncio.gather(
            *(shop.post(f"/operation/{payment.id}/refund", body, **headers) for shop in shops)
        )
        assert {answer.status for answer in answers} <= {200, 503}, [answer.text for answer in answers]

    bodies = [{"amount": "20", "externalID": "r-1"}, {"amount": "20.58", "externalID": "r-2"}]
    for body in bodies:
        await asyncio.gather(*(refund(payment, body) for payment in paid))
        await eventually(lambda: _is_settled(one.store), 15)
    await asyncio.gather(*(refund(payment, {"amount": "10.54"}, idempotency_key=str(payment.id)) for payment in paid))
    await eventually(lambda: _is_settled(one.store), 15)
    for payment in await one.store.select(_PAYMENTS):
        assert payment.refunded == (2_000 + 2_058 + 1_054 if payment.captured else 0)


async def test_a_repeat_that_looked_for_its_key_too_early(postgres_url: str, tmp_path: Path) -> None:
    """The same capture at both processes: one reads that its key is unknown, and comes to the order's lock only after
    the other has captured all. It is the same call, so it gets the same answer."""
    sent: list[AcquirerRequest] = []
    clocks = (SkewedClock(0), SkewedClock(0))
    with running_program(tmp_path, "sqlite:///simulator.db") as program:
        async with _two_gateways(postgres_url, program, sent, *clocks) as (one, two):
            await Administration(one.store, SystemClock(), Ids()).add_terminal(
                CLIENT_ID, "Hotel", HOTEL, two_stage=True
            )
            caller = Caller(one.app)
            assert (await caller.pay(await caller.page("000000001", terminal=str(HOTEL)))).state == "approved"
            (payment,) = await one.store.select(_PAYMENTS)
            shops = [await service(gateway.app, terminal=str(HOTEL)) for gateway in (one, two)]

            def capture(shop: ShopServer) -> Awaitable[Answer]:
                return shop.post(f"/operation/{payment.id}/charge", idempotency_key="capture-1")

            has_read, is_captured = asyncio.Event(), asyncio.Event()
            engine: Any = two.store._engine
            fetch = engine.fetch

            async def slow_fetch(queries: Any) -> Any:
                if any(_LOCKS_AN_ORDER.match(query.text) for query in queries):
                    has_read.set()
                    await is_captured.wait()
                return await fetch(queries)

            engine.fetch = slow_fetch
            repeat = asyncio.ensure_future(capture(shops[1]))
            await asyncio.wait_for(has_read.wait(), 5)
            assert (await capture(shops[0])).status == 200
            is_captured.set()
            assert (await repeat).status == 200
            assert len([request for request in sent if request.kind is CAPTURE]) == 1


async def test_an_approval_after_anothers_reversal_began(postgres_url: str, tmp_path: Path) -> None:
    """One process is still waiting for the purchase; the other, whose clock is ahead, has found nothing and decided to
    reverse. The purchase is approved then, and the reversal undoes it: the approval must not count."""
    reversing, recorded = asyncio.Event(), asyncio.Event()

    class Late(CountedAcquirer):
        async def send(self, request: AcquirerRequest) -> AcquirerAnswer:
            if request.kind is OperationKind.PURCHASE:
                await reversing.wait()
            if request.kind is OperationKind.REVERSAL and not reversing.is_set():
                reversing.set()
                await recorded.wait()
            return await super().send(request)

    sent: list[AcquirerRequest] = []
    clocks = (SkewedClock(0), SkewedClock(420))
    with running_program(tmp_path, "sqlite:///simulator.db") as program:
        async with _two_gateways(postgres_url, program, sent, *clocks, acquirer=Late, acquirer_timeout_seconds=8.0) as (
            one,
            two,
        ):
            caller = Caller(one.app)
            page = await caller.pay(await caller.page("000000001"), build_number(0))
            assert page.state == "checking"
            recorded.set()
            await eventually(lambda: _is_settled(two.store))
            (payment,) = await two.store.select(_PAYMENTS)
            assert payment.status is PaymentStatus.FAILED
            lines = await two.acquirer.statement(*ALWAYS)
            assert [(line.kind, line.is_approved, line.is_undone) for line in lines] == [
                (OperationKind.PURCHASE, True, True),
                (OperationKind.REVERSAL, True, False),
            ]
            assert (await reconcile(one.store, one.acquirer, *ALWAYS)).differences == ()


class SkewedClock:
    """A machine whose clock is wrong."""

    def __init__(self, seconds: float) -> None:
        self._offset = timedelta(seconds=seconds)

    def now(self) -> datetime:
        """Business time."""
        return datetime.now(UTC) + self._offset

    def real_now(self) -> datetime:
        """Real time, as this machine knows it."""
        return datetime.now(UTC) + self._offset


class CountedAcquirer:
    """Writes down what is sent."""

    def __init__(self, inner: Acquirer, sent: list[AcquirerRequest]) -> None:
        self._inner = inner
        self._sent = sent

    def check(self, card: TypedCard, today: date) -> dict[CardField, CardProblem]:
        return self._inner.check(card, today)

    async def send(self, request: AcquirerRequest) -> AcquirerAnswer:
        self._sent.append(request)
        return await self._inner.send(request)

    async def statement(self, since: datetime, until: datetime) -> list[StatementLine]:
        return await self._inner.statement(since, until)

    async def close(self) -> None:
        await self._inner.close()


@asynccontextmanager
async def _two_gateways(
    database: str,
    program: Program,
    sent: list[AcquirerRequest],
    *clocks: SkewedClock,
    acquirer: type[CountedAcquirer] = CountedAcquirer,
    **settings: Any,
) -> AsyncIterator[tuple[Gateway, Gateway]]:
    """Two processes' worth of gateway; all that they send is written to `sent`."""

    def wrap(inner: Acquirer) -> Acquirer:
        return acquirer(inner, sent)

    first, second = clocks
    shared: dict[str, Any] = {"acquirer_url": program.url, "wrap_acquirer": wrap} | settings
    async with (
        running_gateway(database, clock=first, **shared) as one,
        running_gateway(database, clock=second, **shared) as two,
    ):
        yield one, two


@asynccontextmanager
async def _reading(database: str) -> AsyncIterator[Store]:
    store = await open_store(database, schema=tolem_schema, instance=1, exclusive=False)
    try:
        yield store
    finally:
        await store.close()


async def _add_hotel(database: str) -> None:
    async with _reading(database) as store:
        await Administration(store, SystemClock(), Ids()).add_terminal(CLIENT_ID, "Hotel", HOTEL, two_stage=True)


async def _read(store: Store, invoice: str) -> tuple[Payment, list[Operation]]:
    """The order's payment, and what the shop did with it. That its caller was told is noted after the answer, whenever
    that is."""
    history = await store.find(keys.order_by_invoice(HOTEL, invoice))
    assert history is not None
    (payment,) = history.payments.values()
    return payment, [replace(o, doubted_at=None) for o in history.operations.values() if o.kind in (CAPTURE, REFUND)]


async def _statement(pair: Pair) -> dict[UUID, StatementLine]:
    """The acquirer's whole book."""
    acquirer = HttpAcquirer(pair.acquirer.url, check=check_card)
    try:
        return {line.key: line for line in await acquirer.statement(*ALWAYS)}
    finally:
        await acquirer.close()


async def _is_settled(store: Store) -> bool:
    return (await queries.summarize_open_operations(store)).total == 0


_PAYMENTS = sa.select(*tables.payments.columns)
_LOCKS_AN_ORDER = re.compile(r"SELECT.*\sFROM orders\s.*\sFOR (NO KEY )?UPDATE", re.DOTALL)
_invoices = count(1)
