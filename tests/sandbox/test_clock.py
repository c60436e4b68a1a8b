"""Time that can be moved: by HTTP, from due instant to due instant, on both databases and in several processes."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.gateway import Answer, Caller, PatientCaller, ShopServer, running_gateway, running_shop
from tolem.bootstrap import Gateway

JSON = {"content-type": "application/json"}
DAY = 86_400


async def move(caller: Caller, **body: Any) -> Answer:
    return await caller.call("POST", "/sandbox/clock", json.dumps(body).encode(), JSON)


async def moved(caller: Caller, **body: Any) -> dict[str, Any]:
    answer = await move(caller, **body)
    assert answer.status == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


async def clock(caller: Caller) -> dict[str, Any]:
    told: dict[str, Any] = (await caller.get("/sandbox/clock")).json()
    return told


def instant(text: str) -> datetime:
    return datetime.fromisoformat(text)


@asynccontextmanager
async def sandbox(url: str, **changes: Any) -> AsyncIterator[tuple[Gateway, PatientCaller, ShopServer]]:
    async with running_shop() as shop, running_gateway(url, **changes) as gateway:
        yield gateway, PatientCaller(gateway.app, shop.url), shop


async def test_an_unmoved_clock_tells_real_time(database_url: str) -> None:
    async with sandbox(database_url) as (_, caller, _shop):
        told = await clock(caller)
        assert (told["offset_seconds"], told["moving_to"]) == (0, None)
        assert abs(instant(told["now"]) - datetime.now(UTC)) < timedelta(seconds=5)


async def test_a_moved_clock_stays_moved_over_a_restart(database_url: str) -> None:
    async with sandbox(database_url) as (_, caller, _shop):
        told = await moved(caller, advance_seconds=3 * DAY)
        assert told["offset_seconds"] == 3 * DAY
        assert instant(told["now"]) - instant(told["real_now"]) >= timedelta(days=3) - timedelta(seconds=1)
        assert (await moved(caller, advance_seconds=1))["offset_seconds"] == 3 * DAY + 1
    async with sandbox(database_url) as (gateway, caller, _shop):
        assert (await clock(caller))["offset_seconds"] == 3 * DAY + 1
        assert gateway.controls is not None
        assert gateway.controls.clock.now() - datetime.now(UTC) > timedelta(days=2.9)
        assert abs(gateway.controls.clock.real_now() - datetime.now(UTC)) < timedelta(seconds=5)


async def test_the_whole_schedule_of_a_shop_that_is_down_for_three_days(database_url: str) -> None:
    async with sandbox(database_url) as (_, caller, shop):
        shop.status = 503
        path = await caller.page("000000001")
        assert (await caller.pay(path)).state == "approved"
        start = instant((await clock(caller))["now"])
        told = await moved(caller, advance_seconds=3 * DAY)
        assert instant(told["now"]) >= start + timedelta(days=3)
        assert len(shop.received) == 9
        assert len(set(shop.bodies)) == 1
        shop.status = 200
        await moved(caller, advance_seconds=DAY)
        assert len(shop.received) == 10
        await moved(caller, advance_seconds=30 * DAY)
        assert len(shop.received) == 10
