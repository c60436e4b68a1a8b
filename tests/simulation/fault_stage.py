"""The theatre of test_faults: real processes that stop at a step, are killed there, and are started again.

All rows of the table are played at once, each on an order of its own. At the step every one of them is held; when all
have come to it, the kill is one SIGKILL for all. Gateway and simulator talk HTTP, as in a real installation. What is
held is only the moment of the kill: nothing of the product is replaced.
"""

import asyncio
import os
import sys
from datetime import datetime
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

from tests.gateway import Answer, Caller, build_config
from tests.merchant_api import ShopServer, service
from tests.simulation.fault_table import CAPTURE, REFUND, ROWS, VOID, Row, Scene, Step
from tests.simulation.quick import quicken
from tolem import cli_sandbox, console
from tolem.acquirers.base import AcquirerAnswer, AcquirerRequest
from tolem.bootstrap import Gateway, open_gateway
from tolem.clock import SystemClock
from tolem.domain.message import Message
from tolem.domain.payment import MONEY_KINDS, OperationKind
from tolem.flows.administration import Administration
from tolem.flows.outcome import Recorded
from tolem.ids import Ids
from tolem.notifications.terms import Terms
from tolem.sandbox.fixtures import CLIENT_ID
from tolem.sandbox.line import Carried, Line
from tolem.storage import keys

HOTEL = UUID("00000000-0000-7000-8000-0000000000f1")
KIOSK = UUID("00000000-0000-7000-8000-0000000000f2")
TELLS = ("capture", "void", "refund")
WORDS = {CAPTURE: "charge", VOID: "cancel", REFUND: "refund"}
STEP_SECONDS_MAX = 30
LATE_SECONDS = 3.0
"""A late request: longer than the deadline and all that comes between it and the recovery."""
DELAY_SECONDS = 0.2


def limits(scene: Scene) -> dict[str, Any]:
    """Recovery begins when the test moves the clock, not before. The deadline ends what line 5 is silent about; while
    answers are held back it must not pass."""
    return {
        "acquirer_timeout_seconds": 30.0 if scene.step is Step.DURING else 1.0,
        "recovery_margin_seconds": 60.0,
    }


class Order(NamedTuple):
    """What a row is played on."""

    invoice: str
    path: str
    """Of its page."""
    payment_id: UUID | None
    """Of what is captured, voided or refunded; None: there is none yet."""


class Gate:
    """Holds everything that comes to one step of a gateway."""

    def __init__(self, step: Step | None) -> None:
        self._step = step
        self._opened = asyncio.Event()
        self._filled = asyncio.Event()
        self._held = 0
        self._is_armed = False

    def watch(self, gateway: Gateway) -> None:
        """Stands in the way of exchanges from now on."""
        acquiring = gateway.acquiring
        exchange, record = acquiring.exchange, acquiring.record

        async def watched_exchange(request: AcquirerRequest, until: datetime | None) -> AcquirerAnswer | str:
            if request.kind in MONEY_KINDS:
                await self._pass(Step.BEFORE)
            return await exchange(request, until)

        async def watched_record(*args: Any, **more: Any) -> Recorded:
            await self._pass(Step.ANSWERED)
            recorded = await record(*args, **more)
            await self._pass(Step.RECORDED)
            return recorded

        acquiring.exchange = watched_exchange  # type: ignore[method-assign]
        acquiring.record = watched_record  # type: ignore[method-assign]

    def arm(self, gateway: Gateway) -> None:
        """What was done until now was preparation. Nobody hears of what is recorded before the kill."""
        self._is_armed = True
        send = gateway.sender.send

        async def held_send(message: Message, terms: Terms) -> Any:
            if self._step is Step.RECORDED:
                await self._opened.wait()
            return await send(message, terms)

        gateway.sender.send = held_send  # type: ignore[method-assign]

    async def wait_full(self) -> None:
        """Returns once all rows are held."""
        async with asyncio.timeout(STEP_SECONDS_MAX):
            await self._filled.wait()

    def open(self) -> None:
        """Everything goes on."""
        self._opened.set()

    async def _pass(self, step: Step) -> None:
        if not self._is_armed or step is not self._step or self._opened.is_set():
            return
        self._held += 1
        if self._held == len(ROWS):
            self._filled.set()
        await self._opened.wait()


async def prepare(gateway: Gateway, post_link: str) -> dict[str, Order]:
    """An order for each row: with a page that was opened, or paid already where the shop moves money."""
    admin = Administration(gateway.store, SystemClock(), Ids())
    await admin.add_terminal(CLIENT_ID, "Hotel", HOTEL, two_stage=True, tells=TELLS)
    await admin.add_terminal(CLIENT_ID, "Kiosk", KIOSK, tells=TELLS)
    caller = Caller(gateway.app, post_link)

    async def order(number: int, row: Row) -> Order:
        invoice = f"{number:09d}"
        terminal = KIOSK if row.kind in (OperationKind.PURCHASE, REFUND) else HOTEL
        path = await caller.page(invoice, terminal=str(terminal), amount=row.order_amount)
        if row.is_card:
            return Order(invoice, path, None)
        assert (await caller.pay(path, row.card)).state == "approved"
        history = await gateway.store.find(keys.order_by_invoice(terminal, invoice))
        assert history is not None
        (payment_id,) = history.payments
        return Order(invoice, path, payment_id)

    orders = await asyncio.gather(*(order(number, row) for number, row in enumerate(ROWS, start=1)))
    return {row.name: placed for row, placed in zip(ROWS, orders, strict=True)}


async def act(gateway: Gateway, orders: dict[str, Order]) -> dict[str, Answer]:
    """Everybody at once: payers type cards, the shop moves money. What each was answered."""
    caller = Caller(gateway.app)
    shops = {terminal: await service(gateway.app, terminal=str(terminal)) for terminal in (HOTEL, KIOSK)}

    async def one(row: Row) -> Answer:
        order = orders[row.name]
        if row.is_card:
            return await caller.submit(order.path, row.card)
        return await move(shops[KIOSK if row.kind is REFUND else HOTEL], row, order)

    answers = await asyncio.gather(*(one(row) for row in ROWS))
    return {row.name: answer for row, answer in zip(ROWS, answers, strict=True)}


async def ask(gateway: Gateway, orders: dict[str, Order]) -> dict[str, str]:
    """At the end: payers look at their pages (the state), the shop repeats its calls (the HTTP status)."""
    caller = Caller(gateway.app)
    shops = {terminal: await service(gateway.app, terminal=str(terminal)) for terminal in (HOTEL, KIOSK)}
    found = {}
    for row in ROWS:
        order = orders[row.name]
        if row.is_card:
            found[row.name] = (await caller.get(order.path)).state
        else:
            found[row.name] = str((await move(shops[KIOSK if row.kind is REFUND else HOTEL], row, order)).status)
    return found


async def move(shop: ShopServer, row: Row, order: Order) -> Answer:
    """The shop's call, the same each time: it has a key, so it is safe to repeat."""
    body = {"amount": row.amount} if row.amount else None
    return await shop.post(f"/operation/{order.payment_id}/{WORDS[row.kind]}", body, idempotency_key=row.name)


class Simulator:
    """`tolem acquirer-simulator` as a process of its own, on a port that stays the same."""

    def __init__(self, context: ForkServerContext, folder: Path, ledger: str, scene: Scene) -> None:
        self._context = context
        self._folder = folder
        self._ledger = ledger
        self._is_held = scene.step is Step.DURING
        self._armed = context.Event()
        self._process: ForkServerProcess | None = None
        self._heard: Connection
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Returns once it listens."""
        self._heard, told = self._context.Pipe(duplex=False)
        arguments = [
            *("--port", str(self.port), "--ledger", self._ledger),
            *("--late-seconds", str(LATE_SECONDS), "--delay-seconds", str(DELAY_SECONDS)),
        ]
        held = self._armed if self._is_held and self._process is None else None
        log = str(self._folder / "simulator.log")
        self._process = self._context.Process(target=_simulate, args=(arguments, held, told, log), daemon=True)
        self._process.start()
        told.close()
        self.port = await self._hear()

    def arm(self) -> None:
        """From now on exchanges are held after they are done."""
        self._armed.set()

    def disarm(self) -> None:
        """Exchanges go through again."""
        self._armed.clear()

    async def wait_full(self) -> None:
        """Returns once an exchange of each row is held."""
        for _ in ROWS:
            await self._hear()

    def kill(self) -> None:
        """kill -9."""
        if self._process is not None and self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._heard.close()

    async def _hear(self) -> Any:
        return await hear(self._heard)


class Victim:
    """A gateway as a process of its own."""

    def __init__(
        self, context: ForkServerContext, folder: Path, database: str, scene: Scene, simulator: str, shop: str
    ) -> None:
        self._heard, told = context.Pipe(duplex=False)
        self._act = context.Event()
        arguments = (database, scene, simulator, shop, self._act, told, str(folder / "gateway.log"))
        self._process = context.Process(target=_serve, args=arguments, daemon=True)
        self._process.start()
        told.close()

    async def orders(self) -> dict[str, Order]:
        """Once they are prepared."""
        orders: dict[str, Order] = await hear(self._heard)
        return orders

    def act(self) -> None:
        """Begins."""
        self._act.set()

    async def wait_full(self) -> None:
        """Returns once all rows are held."""
        assert await hear(self._heard) == "full"

    def kill(self) -> None:
        """kill -9."""
        self._process.kill()
        self._process.join()
        self._heard.close()


async def hear(connection: Connection) -> Any:
    """What a child says next."""
    assert await asyncio.to_thread(connection.poll, STEP_SECONDS_MAX), "a process says nothing"
    return connection.recv()


def _simulate(arguments: list[str], armed: Any, told: Connection, log: str) -> None:
    """The process of a simulator: the command, told where it listens, held after an exchange if it is armed."""
    _write_to(log)
    bind, carry = console.bind, Line.carry

    def telling_bind(*address: Any) -> Any:
        listener = bind(*address)
        told.send(listener.getsockname()[1])
        return listener

    async def held_carry(line: Line, request: AcquirerRequest) -> Carried:
        carried = await carry(line, request)
        if request.kind in MONEY_KINDS and armed.is_set():
            told.send(str(request.key))
            await asyncio.Event().wait()
        return carried

    console.bind = telling_bind  # type: ignore[assignment]  # a process of its own: patched for nobody else
    if armed is not None:
        Line.carry = held_carry  # type: ignore[method-assign, assignment]
    cli_sandbox.acquirer_simulator.main(arguments, standalone_mode=False)


def _serve(database: str, scene: Scene, url: str, shop_url: str, begin: Any, told: Connection, log: str) -> None:
    """The process of a gateway that is going to be killed."""
    _write_to(log)
    quicken(setattr)
    asyncio.run(_live(database, scene, url, shop_url, begin, told))


async def _live(database: str, scene: Scene, url: str, shop_url: str, begin: Any, told: Connection) -> None:
    gateway = await open_gateway(build_config(database, acquirer_url=url, **limits(scene)))
    gate = Gate(scene.step)
    gate.watch(gateway)
    orders = await prepare(gateway, shop_url)
    told.send(orders)
    await asyncio.to_thread(begin.wait)
    gate.arm(gateway)
    acting = asyncio.create_task(act(gateway, orders))
    if scene.step is not Step.DURING:
        await gate.wait_full()
        told.send("full")
    await acting  # for ever: everybody is held


def _write_to(log: str) -> None:
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, sys.stdout.fileno())
    os.dup2(descriptor, sys.stderr.fileno())
