"""A money call that is made again: how long it is known, and when its caller counts as told."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import aiohttp
import pytest

from tests.flows.test_operations import REFUND, MovedClock, Till, paid_till
from tests.gateway import eventually
from tests.merchant_api import service
from tolem.acquirers.base import AcquirerAnswer, AcquirerRequest
from tolem.domain.errors import Refusal
from tolem.server import serve_apps
from tolem.storage import sweeps
from tolem.web.http import Request


async def test_a_key_is_known_as_long_as_its_operation(database_url: str) -> None:
    clock = MovedClock()
    async with paid_till(database_url, two_stage=False, clock=clock) as till:
        first = await till.move(REFUND, "20", key="k1")
        declined = await till.move(REFUND, "10.66", key="k2")
        clock.offset = timedelta(days=1_000)
        while await sweeps.purge_expired(till.gateway.store, before=clock.now(), real_before=clock.now(), limit=100):
            pass
        assert await till.move(REFUND, "20", key="k1") == first
        assert await till.move(REFUND, "10.66", key="k2") == declined
        assert await till.refused(REFUND, "30", key="k1") is Refusal.KEY_REUSED
        assert (await till.payment()).refunded == 2_000
        assert till.acquirer.count(REFUND) == 2


@asynccontextmanager
async def served(till: Till) -> AsyncIterator[str]:
    """The gateway on a port of this machine, as the server serves it; the address of the payment's operations."""
    stopping, started = asyncio.Event(), asyncio.Event()

    async def start() -> None:
        started.set()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        serving = asyncio.create_task(serve_apps([(till.gateway.app, listener)], stopping, on_started=start))
        await started.wait()
        try:
            yield f"http://127.0.0.1:{port}/operation/{till.payment_id}"
        finally:
            stopping.set()
            await serving


async def test_over_a_connection_who_read_the_answer_was_told(database_url: str) -> None:
    async with paid_till(database_url, two_stage=False) as till, served(till) as url:
        headers = (await service(till.gateway.app, terminal=str(till.terminal.id))).headers
        async with aiohttp.ClientSession(headers=headers) as shop:
            for count in (1, 2, 3):
                async with shop.post(f"{url}/refund?amount=20") as answer:
                    assert (answer.status, await answer.json()) == (200, {"code": 0, "message": ""})
                assert (await till.payment()).refunded == count * 2_000
        assert till.acquirer.count(REFUND) == 3


async def test_over_a_connection_that_was_cut_nobody_was_told(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_gone, until_gone = asyncio.Event(), Request.until_gone

    async def hear(request: Request) -> None:
        await until_gone(request)
        is_gone.set()

    monkeypatch.setattr(Request, "until_gone", hear)
    async with paid_till(database_url, two_stage=False) as till, served(till) as url:
        headers = (await service(till.gateway.app, terminal=str(till.terminal.id))).headers
        asked, answered, send = asyncio.Event(), asyncio.Event(), till.acquirer.inner.send

        async def send_slowly(request: AcquirerRequest) -> AcquirerAnswer:
            asked.set()
            await answered.wait()
            return await send(request)

        till.acquirer.inner.send = send_slowly  # type: ignore[method-assign]
        till.gateway.acquiring.limits = till.gateway.acquiring.limits._replace(exchange_seconds=20.0)
        async with aiohttp.ClientSession(headers=headers) as shop:
            call = asyncio.create_task(shop.post(f"{url}/refund?amount=20"))
            await asked.wait()
            call.cancel()  # closes the connection
            await asyncio.wait([call])
        await is_gone.wait()
        answered.set()

        async def is_settled() -> bool:
            return (await till.payment()).refunded == 2_000

        await eventually(is_settled)
        async with aiohttp.ClientSession(headers=headers) as shop:
            for refunded in (2_000, 4_000):  # told now, and so the next one is another refund
                async with shop.post(f"{url}/refund?amount=20") as answer:
                    assert answer.status == 200
                assert (await till.payment()).refunded == refunded
