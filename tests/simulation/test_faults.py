"""Every operation × fault of the line × kill -9 of tolem, of the simulator, of both, at each step: three books agree
on both databases. The payer was charged at most once, and not at all if the shop was told "failed".

A scene (database, who is killed, at which step) is played once, with a row of the table (operation, fault) on each of
its orders; then every row is judged by itself. Left out, because they leave the same on disk and in memory: a step
between two of these; "long" (recovery tries while the simulator is down) where nothing was sent, where all is
recorded, and where tolem died holding an answer that only it had (as during the call).
"""

import asyncio
import json
from collections import Counter
from datetime import timedelta
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import sqlalchemy as sa
from click.testing import CliRunner

from tests.forks import fork_context
from tests.gateway import Answer, build_config, running_gateway
from tests.notifications.shops import Request, Shop, open_shop
from tests.simulation.books import CHARGES, Books, read_books, settle
from tests.simulation.clock import MovableClock
from tests.simulation.fault_stage import (
    LATE_SECONDS,
    STEP_SECONDS_MAX,
    Gate,
    Order,
    Simulator,
    Victim,
    act,
    ask,
    limits,
    prepare,
)
from tests.simulation.fault_table import ROWS, SCENES, Row, Scene, Step, happens
from tolem.bootstrap import Gateway
from tolem.cli import main
from tolem.domain.message import MessageState
from tolem.domain.order import OrderStatus
from tolem.domain.payment import (
    CARD_KINDS,
    OPEN_OPERATIONS,
    OPEN_STATUSES,
    Operation,
    OperationKind,
    OperationStatus,
    PaymentStatus,
)
from tolem.storage import tables

DOWN = timedelta(minutes=3)
"""How long a killed gateway is away: longer than recovery waits."""


class Evidence(NamedTuple):
    """What is left of a scene once the dust has settled."""

    orders: dict[str, Order]
    answers: dict[str, Answer]
    """To the first calls; empty where tolem died with them."""
    seen: dict[str, str]
    """What everybody found in the end (fault_stage.ask)."""
    books: Books
    received: list[Request]
    differences: list[dict[str, Any]]
    """Of `tolem reconcile`."""
    reconcile_status: int


@pytest.fixture(scope="module")
def processes() -> ForkServerContext:
    """Makes gateways and simulators that can be killed."""
    return fork_context()


@pytest.fixture
def evidence(
    request: pytest.FixtureRequest, processes: ForkServerContext, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Scene, Evidence]:
    """A scene, played."""
    engine, scene = request.param
    folder = tmp_path_factory.mktemp(f"{engine}-{scene.name}")
    database = f"sqlite:///{folder / 'tolem.db'}" if engine == "sqlite" else request.getfixturevalue("postgres_url")
    return scene, asyncio.run(play(scene, processes, folder, database))


@pytest.mark.parametrize(
    "evidence",
    [
        pytest.param((engine, scene), id=f"{engine}-{scene.name}")
        for engine in ("sqlite", "postgresql")
        for scene in SCENES
    ],
    indirect=True,
)
def test_books_agree(evidence: tuple[Scene, Evidence]) -> None:
    """For every row of the table, all played in one scene."""
    scene, found = evidence
    faults = [f"{row.name}: {fault}" for row in ROWS for fault in find_faults(found, row, happens(row, scene))]
    assert not faults, "\n".join(faults)


async def play(scene: Scene, processes: ForkServerContext, folder: Path, database: str) -> Evidence:
    """Plays a scene to its end."""
    simulator = Simulator(processes, folder, build_config(database).ledger_url, scene)
    await simulator.start()
    try:
        async with open_shop() as shop:
            if scene.kills_tolem:
                left = await _play_killed(scene, processes, folder, database, simulator, shop)
            else:
                left = await _play_alive(scene, database, simulator, shop)
            reconciled = await asyncio.to_thread(_reconcile, database, simulator.url)
    finally:
        simulator.kill()
    return left._replace(
        received=shop.requests,
        differences=reconciled[1],
        reconcile_status=reconciled[0],
    )


async def _play_killed(
    scene: Scene, processes: ForkServerContext, folder: Path, database: str, simulator: Simulator, shop: Shop
) -> Evidence:
    """Tolem is killed, perhaps the simulator with it, and another one starts."""
    victim = Victim(processes, folder, database, scene, simulator.url, shop.url)
    try:
        orders = await victim.orders()
        simulator.arm()
        victim.act()
        await (simulator if scene.step is Step.DURING else victim).wait_full()
    finally:
        victim.kill()
    simulator.disarm()
    if scene.kills_simulator:
        simulator.kill()
        if not scene.is_long:
            await simulator.start()
    clock = MovableClock(DOWN)
    async with running_gateway(database, clock=clock, acquirer_url=simulator.url, **limits(scene)) as gateway:
        if scene.is_long:
            await _recover_in_vain(gateway, clock)
            await simulator.start()
        return await _end(scene, gateway, clock, database, orders, {})


async def _play_alive(scene: Scene, database: str, simulator: Simulator, shop: Shop) -> Evidence:
    """Nobody is killed, or the simulator."""
    clock = MovableClock()
    async with running_gateway(database, clock=clock, acquirer_url=simulator.url, **limits(scene)) as gateway:
        gate = Gate(scene.step)
        gate.watch(gateway)
        orders = await prepare(gateway, shop.url)
        gate.arm(gateway)
        simulator.arm()
        acting = asyncio.create_task(act(gateway, orders))
        if scene.step is not None:
            await (simulator if scene.step is Step.DURING else gate).wait_full()
        if scene.kills_simulator:
            simulator.kill()
        gate.open()
        answers = await asyncio.wait_for(acting, STEP_SECONDS_MAX)
        if scene.is_long:
            await _recover_in_vain(gateway, clock)
        if scene.kills_simulator:
            await simulator.start()
        return await _end(scene, gateway, clock, database, orders, answers)


async def _end(
    scene: Scene,
    gateway: Gateway,
    clock: MovableClock,
    database: str,
    orders: dict[str, Order],
    answers: dict[str, Answer],
) -> Evidence:
    """Recovery settles everything, people look, and the late request has arrived."""
    late = asyncio.create_task(asyncio.sleep(0 if scene.kills_simulator else LATE_SECONDS + 0.2))
    await settle(gateway, clock)
    seen = await ask(gateway, orders)
    await late
    await settle(gateway, clock)
    return Evidence(orders, answers, seen, await read_books(gateway, database), [], [], 0)


async def _recover_in_vain(gateway: Gateway, clock: MovableClock) -> None:
    """Recovery tries everything that is open once, while nobody answers."""
    async with asyncio.timeout(STEP_SECONDS_MAX):
        while True:
            operations: list[Operation] = await gateway.store.select(_OPERATIONS)
            reversed_ids = {o.original_id for o in operations if o.kind is OperationKind.REVERSAL}
            untried = [
                operation
                for operation in operations
                if operation.status in OPEN_OPERATIONS
                and operation.kind is not OperationKind.REVERSAL
                and not (operation.tries and (operation.kind not in CARD_KINDS or operation.id in reversed_ids))
            ]
            if not untried:
                return
            clock.advance_to(max(o.due_at for o in untried if o.due_at is not None))
            await asyncio.sleep(0.02)


def _reconcile(database: str, acquirer_url: str) -> tuple[int, list[dict[str, Any]]]:
    """Exit status and differences of the command."""
    arguments = ["reconcile", "--json", "--database", database, "--acquirer", acquirer_url]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code in (0, 1), result.output
    differences: list[dict[str, Any]] = json.loads(result.stdout)["differences"]
    return result.exit_code, differences


def find_faults(found: Evidence, row: Row, must_happen: bool) -> list[str]:
    """All that is wrong about a row, each in a sentence."""
    invoice = found.orders[row.name].invoice
    faults = [f"reconcile: {d}" for d in found.differences if d["invoice_id"] in (invoice, "")]
    if bool(found.differences) != bool(found.reconcile_status):
        faults.append(f"reconcile ends with {found.reconcile_status}, its differences: {found.differences}")
    (order,) = (order for order in found.books.orders if order.invoice_id == invoice)
    payments = [payment for payment in found.books.payments if payment.order_id == order.id]
    operations = [operation for operation in found.books.operations if operation.order_id == order.id]
    if len(payments) != 1 or sum(operation.kind is row.kind for operation in operations) != 1:
        return [*faults, f"asked once: {payments}, {operations}"]
    (payment,), (operation,) = payments, (o for o in operations if o.kind is row.kind)
    faults += [f"{o.kind} is left {o.status}" for o in operations if o.status in OPEN_OPERATIONS]
    faults += [f"the payment is left {payment.status}" for _ in (1,) if payment.status in OPEN_STATUSES]

    ledger = {entry.key: entry for entry in found.books.ledger}
    ours = [ledger[o.id] for o in operations if o.id in ledger]
    charges = [entry for entry in ours if entry.kind in CHARGES]
    taken, held = sum(entry.taken for entry in charges), sum(entry.held for entry in charges)
    believed_held = payment.authorized if payment.status is PaymentStatus.AUTHORIZED else 0
    if (taken, held) != (payment.captured - payment.refunded, believed_held):
        faults.append(f"the acquirer took {taken} and holds {held}, tolem has {payment}")
    done = [e for e in ours if e.kind is row.kind and e.verdict == "approved" and e.reversed_at is None]
    happened = operation.status is OperationStatus.APPROVED
    if len(done) != happened:
        faults.append(f"done {len(done)} times at the acquirer, here it is {operation.status}")
    if happened != must_happen:
        faults.append(f"it is {operation.status}, which this scene can't end with")

    told = _told(found, order.id)
    is_paid = order.status is OrderStatus.PAID
    expected = Counter({"success" if is_paid else "failure": 1})
    if not row.is_card and happened:
        expected[row.kind.value] = 1
    if told != expected:
        faults.append(f"the shop was told {dict(told)}, it is {order.status} and {operation.status}")
    if told["failure"] and (taken or held):
        faults.append(f"the shop was told that it failed, {taken} was taken and {held} is held")
    return faults + _find_lies(found, row, happened)


def _find_lies(found: Evidence, row: Row, happened: bool) -> list[str]:
    """What callers were answered, compared with what is true."""
    seen = found.seen[row.name]
    if row.is_card:
        return [] if (seen == "approved") == happened else [f"the payer sees {seen}"]
    faults = [] if seen == ("200" if happened else "400") else [f"the repeated call is answered {seen}"]
    first = found.answers.get(row.name)
    truths = {200: happened, 400: not happened, 503: True}
    if first is not None and not truths.get(first.status, False):
        faults.append(f"the call was answered {first.status} {first.text}")
    return faults


def _told(found: Evidence, order_id: Any) -> Counter[str]:
    """Kinds of the messages that the shop has got, each counted once, and answered 2xx."""
    messages = [message for message in found.books.messages if message.order_id == order_id]
    arrived = {request.headers["webhook-id"] for request in found.received}
    delivered = [m for m in messages if m.state is MessageState.DELIVERED and str(m.id) in arrived]
    return Counter(message.kind.value for message in delivered)


_OPERATIONS = sa.select(*tables.operations.columns)
