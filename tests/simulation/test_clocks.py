"""Two gateways on one PostgreSQL whose machines disagree by minutes about the time: neither touches what runs in the
other one.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from tests.acquirers.programs import running_program
from tests.gateway import Caller, PatientCaller, eventually, running_gateway, running_shop
from tests.simulation.test_two_processes import CountedAcquirer
from tolem.acquirers.base import Acquirer, AcquirerAnswer, AcquirerRequest
from tolem.bootstrap import Gateway
from tolem.clock import SystemClock
from tolem.domain.payment import OperationKind, PaymentStatus
from tolem.sandbox.cards import build_number
from tolem.storage import claims, queries, sweeps, tables

PAYMENTS = 8
LOOKS = 5
"""So many times the other process looks for what is due, while the first one's exchanges run."""


class Gate(CountedAcquirer):
    """Holds purchases up until it is opened."""

    def __init__(self, inner: Acquirer, sent: list[AcquirerRequest], opened: asyncio.Event) -> None:
        super().__init__(inner, sent)
        self._opened = opened

    async def send(self, request: AcquirerRequest) -> AcquirerAnswer:
        if request.kind is OperationKind.PURCHASE:
            self._sent.append(request)
            await self._opened.wait()
            return await self._inner.send(request)
        return await super().send(request)


class Looks:
    """How often a gateway has looked for due operations and messages."""

    def __init__(self, gateway: Gateway) -> None:
        self.operations = self.messages = 0
        store: Any = gateway.store
        sweep = store.sweep

        def count(statement: Any, **params: Any) -> Any:
            self.operations += statement is sweeps._CLAIM_OPERATIONS
            self.messages += statement is claims._FREE
            return sweep(statement, **params)

        store.sweep = count


def wrong_by(minutes: int) -> SystemClock:
    """The clock of a machine that has the wrong time."""
    return SystemClock(lambda: time.time_ns() + minutes * 60_000_000_000)


@asynccontextmanager
async def two_machines(
    database: str, minutes: tuple[int, int], acquirer_url: str, sent: list[AcquirerRequest], opened: asyncio.Event
) -> AsyncIterator[tuple[Gateway, Gateway]]:
    """Gateways on machines whose clocks are so wrong."""
    shared: dict[str, Any] = {"acquirer_url": acquirer_url, "wrap_acquirer": lambda inner: Gate(inner, sent, opened)}
    shared["acquirer_timeout_seconds"] = 60.0
    async with (
        running_gateway(database, clock=wrong_by(minutes[0]), **shared) as first,
        running_gateway(database, clock=wrong_by(minutes[1]), **shared) as second,
    ):
        yield first, second


@pytest.mark.parametrize("minutes", ((0, 7), (-7, 0), (-7, 7)))
async def test_running_payments_are_left_alone(postgres_url: str, tmp_path: Path, minutes: tuple[int, int]) -> None:
    sent: list[AcquirerRequest] = []
    opened = asyncio.Event()
    with running_program(tmp_path, "sqlite:///simulator.db") as program:
        async with two_machines(postgres_url, minutes, program.url, sent, opened) as (one, two):
            looks = Looks(two)
            caller = PatientCaller(one.app)

            async def pay(number: int) -> None:
                page = await caller.pay(await caller.page(f"{number:09d}"), build_number(0))
                assert page.state == "approved"

            paying = asyncio.gather(*(pay(number) for number in range(1, PAYMENTS + 1)))

            async def all_run() -> bool:
                return len(sent) == PAYMENTS

            await eventually(all_run)
            seen = looks.operations

            async def has_looked() -> bool:
                return looks.operations >= seen + LOOKS

            await eventually(has_looked)
            opened.set()
            await paying
            assert (await queries.summarize_open_operations(two.store)).total == 0
            payments = await two.store.select(sa.select(*tables.payments.columns))
    assert [payment.status for payment in payments] == [PaymentStatus.CAPTURED] * PAYMENTS
    assert [request.kind for request in sent] == [OperationKind.PURCHASE] * PAYMENTS


async def test_a_notification_is_left_to_who_sends_it(postgres_url: str, tmp_path: Path) -> None:
    opened = asyncio.Event()
    opened.set()
    with running_program(tmp_path, "sqlite:///simulator.db") as program:
        async with running_shop() as shop:
            shop.seconds = 4
            async with two_machines(postgres_url, (0, 7), program.url, [], opened) as (one, two):
                looks = Looks(two)
                caller = Caller(one.app, shop.url)
                assert (await caller.pay(await caller.page("000000001"))).state == "approved"
                await shop.wait(1)

                async def is_told() -> bool:
                    return await queries.count_undelivered(one.store) == 0

                await eventually(is_told, 20)
                assert looks.messages >= 2
                assert len(shop.received) == 1


async def test_business_time_and_ids_are_the_databases_too(postgres_url: str) -> None:
    ahead = wrong_by(7)
    async with running_gateway(postgres_url, clock=ahead) as gateway:
        caller = Caller(gateway.app)
        await caller.pay(await caller.page("000000001"))
        (payment,) = await gateway.store.select(sa.select(*tables.payments.columns))
    by_id = (payment.id.int >> 80) / 1000
    assert abs(by_id - time.time()) < 60
    assert abs(payment.created_at.timestamp() - time.time()) < 60
    assert abs(ahead.now().timestamp() - time.time()) < timedelta(minutes=1).total_seconds()
