"""Time that can be moved: by HTTP, from due instant to due instant, on both databases and in several processes."""

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
from msgspec.structs import replace

from tests.flows.test_operations import paid_till
from tests.gateway import Answer, Caller, PatientCaller, ShopServer, eventually, running_gateway, running_shop
from tests.notifications.shops import find_free_port
from tolem.bootstrap import Gateway
from tolem.domain.message import Message, MessageKind, MessageState
from tolem.domain.order import Order, OrderStatus
from tolem.domain.payment import PaymentStatus
from tolem.ids import Ids
from tolem.notifications.outbox import compose
from tolem.notifications.terms import DEFAULT_TERMS
from tolem.sandbox import state
from tolem.sandbox.fixtures import TERMINAL_ID
from tolem.sandbox.state import STATE_NAME, SandboxState
from tolem.sandbox.time_machine import EXACT_STOPS, GATHER
from tolem.storage.migrate import migrate
from tolem.storage.open import open_store
from tolem.storage.schema import tolem_schema
from tolem.storage.store import Decision
from tolem.storage.tables import Setting, access_tokens, attempts, messages, pages

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
    async with sandbox(database_url) as (gateway, caller, shop):
        shop.status = 503
        began = time.monotonic()  # the first try may be made before the payer sees the outcome
        assert (await caller.pay(await caller.page("000000001"))).state == "approved"
        await moved(caller, advance_seconds=3 * DAY)
        assert len(shop.received) == 9  # the tenth is due after 75 hours and a half
        shop.status = 200
        told = await moved(caller, advance_seconds=DAY)
        took_seconds = time.monotonic() - began
        assert told["offset_seconds"] == 4 * DAY
        assert len(shop.received) == 10
        assert len(set(shop.bodies)) == len({headers["webhook-id"] for headers in shop.headers}) == 1

        tries = await gateway.store.select(sa.select(*attempts.columns).order_by(attempts.c.number))
        assert [attempt.status for attempt in tries] == [503] * 9 + [200]
        for number, (before, after) in enumerate(pairwise(tries), start=1):
            gap = DEFAULT_TERMS.gaps[number]
            late = GATHER + timedelta(seconds=took_seconds)
            assert gap <= after.at - before.at <= gap * (1 + DEFAULT_TERMS.jitter_share) + late, number
        # the signature's time is real, or the shop would refuse a notification from the future
        stamps = [int(headers["webhook-timestamp"]) for headers in shop.headers]
        assert max(stamps) - min(stamps) <= took_seconds + 1
        assert abs(stamps[-1] - time.time()) < took_seconds + 5
        assert took_seconds < 5

        await moved(caller, advance_seconds=30 * DAY)
        assert len(shop.received) == 10


async def test_tokens_and_pages_expire_by_the_moved_clock(database_url: str) -> None:
    async with sandbox(database_url) as (gateway, caller, _shop):
        token = await caller.token("000000002")
        path = await caller.page("000000003")
        await moved(caller, advance_seconds=int(token["expires_in"]) + 60)
        refused = await caller.open(token, "000000002")
        assert refused.status == 400
        assert "expired" in refused.text
        assert (await caller.get(path)).state == "expired"
        await moved(caller, advance_seconds=DAY)
        assert (await caller.get(path)).status == 404
        # nobody can use them any more: the move has cleared them away
        assert await gateway.store.select(sa.select(pages.c.hash)) == []
        assert await gateway.store.select(sa.select(access_tokens.c.hash)) == []


async def test_a_round_ends_at_its_deadline_and_the_shop_is_told_before_the_answer(database_url: str) -> None:
    async with sandbox(database_url) as (_, caller, shop):
        await caller.page("000000004")
        await moved(caller, advance_seconds=19 * 60)
        assert shop.received == []
        assert (await moved(caller, advance_seconds=2 * 60))["stops"] == 1
        assert [told["code"] for told in shop.received] == ["error"]


async def test_a_hold_is_released_when_it_is_too_old(database_url: str) -> None:
    async with paid_till(database_url, two_stage=True) as till:
        caller = Caller(till.gateway.app)
        await moved(caller, advance_seconds=6 * DAY)
        assert (await till.payment()).status is PaymentStatus.AUTHORIZED
        await moved(caller, advance_seconds=2 * DAY)
        assert (await till.payment()).status is PaymentStatus.VOIDED


async def test_a_message_that_is_on_its_way_is_waited_for(database_url: str) -> None:
    async with sandbox(database_url) as (_, caller, shop):
        shop.seconds = 0.5
        assert (await caller.pay(await caller.page("000000006"))).state == "approved"
        await moved(caller, advance_seconds=0)
        assert len(shop.received) == 1
        assert (await moved(caller, advance_seconds=DAY))["stops"] == 0


async def test_what_takes_longer_than_the_caller_waits_is_told_and_goes_on(database_url: str) -> None:
    async with sandbox(database_url) as (_, caller, shop):
        shop.seconds = 3
        assert (await caller.pay(await caller.page("000000007"))).state == "approved"
        late = await move(caller, advance_seconds=DAY, wait_seconds=1)
        assert late.status == 504, late.text
        assert "still to do: 1 sending" in late.json()["message"]
        assert late.json()["moving_to"] is not None
        told = await moved(caller, advance_seconds=0)
        assert (told["offset_seconds"], told["moving_to"]) == (DAY, None)
        assert len(shop.received) == 1


async def test_many_due_instants_make_fewer_stops(database_url: str) -> None:
    async with sandbox(database_url) as (gateway, caller, _shop):
        ids, now = Ids(), datetime.now(UTC)
        for number in range(1, 301):
            message = last_try(ids, f"http://127.0.0.1:{find_free_port()}/", now + timedelta(seconds=60 + 2 * number))
            await gateway.store.change((), lambda message=message: Decision(None, message))
        told = await moved(caller, advance_seconds=3600)
        # one by one, then by two, then by three
        assert told["stops"] <= 3 * EXACT_STOPS
        states = await gateway.store.select(sa.select(messages.c.state, sa.func.count()).group_by(messages.c.state))
        assert states == [(MessageState.DEAD, 300)]


def last_try(ids: Ids, url: str, due_at: datetime) -> tuple[Order, Message]:
    """A paid order whose message has one try left."""
    order = Order(
        id=ids.new(),
        terminal_id=TERMINAL_ID,
        invoice_id=f"{ids.new().int % 10**15:015d}",
        status=OrderStatus.PAID,
        round_id=ids.new(),
        amount=100,
        currency="KZT",
        post_link=url,
        created_at=due_at,
        updated_at=due_at,
    )
    message = compose(order, MessageKind.SUCCESS, b"{}", id=ids.new(), payment_id=None, at=due_at)
    assert message is not None
    return order, replace(message, tries=DEFAULT_TERMS.tries_max - 1)


async def test_moves_that_overlap_add_up(database_url: str) -> None:
    async with sandbox(database_url) as (_, caller, _shop):
        await asyncio.gather(*(moved(caller, advance_seconds=100) for _ in range(5)))
        assert (await clock(caller))["offset_seconds"] == 500


async def test_an_instant_is_reached(database_url: str) -> None:
    async with sandbox(database_url) as (_, caller, _shop):
        there = datetime.now(UTC) + timedelta(days=10)
        assert instant((await moved(caller, to=there.isoformat()))["now"]) >= there
        back = await move(caller, to=(there - timedelta(days=1)).isoformat())
        assert back.status == 400
        assert back.json()["field"] == "to"
        assert "never goes back" in back.json()["message"]
        assert (await clock(caller))["offset_seconds"] == pytest.approx(10 * DAY, abs=30)


@pytest.mark.parametrize(
    ("body", "field", "words"),
    (
        ({}, "advance_seconds", "either"),
        ({"advance_seconds": 1, "to": "2030-01-01T00:00:00Z"}, "advance_seconds", "either"),
        ({"advance_seconds": -1}, "advance_seconds", "never goes back"),
        ({"advance_seconds": 366 * DAY + 1}, "advance_seconds", "366 days"),
        ({"advance_seconds": 10**30}, "advance_seconds", "advance_seconds"),
        ({"advance_seconds": "3d"}, "advance_seconds", "int"),
        ({"advance_seconds": 1.5}, "advance_seconds", "int"),
        ({"advance_seconds": 1, "wait_seconds": 0}, "wait_seconds", "1 to 3600"),
        ({"seconds": 5}, "", "unknown field `seconds`"),
        ({"to": "2030-01-01T00:00:00"}, "to", "offset"),
        ({"to": "tomorrow"}, "to", "RFC3339"),
        ({"to": "1999-01-01T00:00:00Z"}, "to", "never goes back"),
        ({"to": "9999-01-01T00:00:00Z"}, "to", "366 days"),
    ),
)
async def test_moves_that_are_refused(sqlite_url: str, body: dict[str, Any], field: str, words: str) -> None:
    async with running_gateway(sqlite_url) as gateway:
        caller = Caller(gateway.app)
        refused = await move(caller, **body)
        assert refused.status == 400, refused.text
        told = refused.json()
        assert (told["code"], told.get("field", "")) == (400, field), told
        assert words in told["message"]
        assert (await clock(caller))["offset_seconds"] == 0


async def test_requests_that_are_refused(sqlite_url: str) -> None:
    async with running_gateway(sqlite_url) as gateway:
        caller = Caller(gateway.app)
        for body, headers, words in (
            (b'{"advance_seconds": 1}', {"content-type": "text/plain"}, "application/json"),
            (b"{", JSON, "no JSON"),
            (b"\xff\xfe", JSON, "no JSON"),
            (b'{"advance_seconds": 1, "advance_seconds": 2}', JSON, "advance_seconds stands twice"),
            (b'{"advance_seconds": 1, "advance_sec\\u006fnds": 2}', JSON, "advance_seconds stands twice"),
            (b'{"advance_seconds": 1' + b" " * 20_000 + b"}", JSON, "16384 bytes"),
        ):
            refused = await caller.call("POST", "/sandbox/clock", body, headers)
            assert refused.status == 400
            assert words in refused.json()["message"], refused.text
        wrong = await caller.call("DELETE", "/sandbox/clock")
        assert (wrong.status, wrong.headers["allow"], wrong.json()["message"]) == (405, "GET, POST", "use GET, POST")
        assert (await clock(caller))["offset_seconds"] == 0


async def test_ten_years_ahead_is_the_end(database_url: str) -> None:
    async with sandbox(database_url) as (_, caller, _shop):
        for _ in range(10):
            await moved(caller, advance_seconds=366 * DAY)
        refused = await move(caller, advance_seconds=1)
        assert refused.status == 400
        assert "new database" in refused.json()["message"]


async def test_the_password_guards_the_clock(sqlite_url: str) -> None:
    async with running_gateway(sqlite_url, sandbox_password="open sesame 12") as gateway:
        caller = Caller(gateway.app)
        assert (await caller.get("/sandbox/clock")).status == 401
        assert (await move(caller, advance_seconds=5)).status == 401
        good = base64.b64encode(b"sandbox:open sesame 12").decode()
        allowed = await caller.call("GET", "/sandbox/clock", headers={"authorization": f"Basic {good}"})
        assert (allowed.status, allowed.json()["offset_seconds"]) == (200, 0)


async def test_all_processes_have_followed_when_the_answer_comes(postgres_url: str) -> None:
    async with running_shop() as shop, running_gateway(postgres_url) as one, running_gateway(postgres_url) as other:
        mover, follower = PatientCaller(one.app, shop.url), PatientCaller(other.app, shop.url)
        shop.status = 500
        assert (await follower.pay(await follower.page("000000008"))).state == "approved"
        await shop.wait(1)
        for hours in range(1, 6):
            await moved(mover, advance_seconds=3600)
            assert (await clock(follower))["offset_seconds"] == hours * 3600
        await asyncio.gather(moved(mover, advance_seconds=7), moved(follower, advance_seconds=11))
        assert [(await clock(caller))["offset_seconds"] for caller in (mover, follower)] == [18_018] * 2
        tried = len(shop.received)
        await moved(follower, advance_seconds=4 * DAY)
        assert tried < len(shop.received) == 10


async def test_a_process_that_is_gone_is_not_waited_for(postgres_url: str) -> None:
    async with running_gateway(postgres_url) as one:
        async with running_gateway(postgres_url):
            await moved(Caller(one.app), advance_seconds=1)
        async with asyncio.timeout(30):
            await moved(Caller(one.app), advance_seconds=1)


async def test_a_process_that_hangs_is_told(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "PATIENCE_SECONDS", 0.3)
    async with running_gateway(postgres_url) as gateway:
        caller = Caller(gateway.app)
        hanging = await open_store(postgres_url, schema=tolem_schema, instance=99)  # alive: it holds its lock
        seen = Setting(name=f"{state.FOLLOWER_PREFIX}99", value="0")
        await hanging.change((), lambda: Decision(None, (seen,)))
        late = await move(caller, advance_seconds=60)
        assert late.status == 504
        for words in ("the move is stored", "another process has not followed", "advance_seconds 0"):
            assert words in late.json()["message"]
        fault = await caller.call("POST", "/sandbox/faults", b'{"fault": "lose"}', JSON)
        assert fault.status == 504  # as for a move: stored, and not to be asked for again
        assert "the change is stored" in fault.json()["message"]
        assert [one["id"] for one in (await caller.get("/sandbox/faults")).json()] == ["f1"]
        await hanging.close()
        # it goes on once that process is gone
        await eventually(lambda: _is_moved(caller, 60))


async def _is_moved(caller: Caller, seconds: int) -> bool:
    answer = await move(caller, advance_seconds=0)
    return answer.status == 200 and answer.json()["offset_seconds"] == seconds


async def test_a_move_whose_process_died_is_not_finished_by_the_next_one(database_url: str) -> None:
    dead = msgspec.json.encode(SandboxState(version=3, offset=timedelta(hours=1), target=timedelta(days=3))).decode()
    migrate(database_url, mode="sandbox")
    store = await open_store(database_url, schema=tolem_schema, instance=1)
    await store.change((), lambda: Decision(None, (Setting(name=STATE_NAME, value=dead),)))
    await store.close()
    async with sandbox(database_url) as (_, caller, _shop):
        told = await clock(caller)
        assert (told["offset_seconds"], told["moving_to"]) == (3600, None)
        assert (await moved(caller, advance_seconds=1))["offset_seconds"] == 3601
