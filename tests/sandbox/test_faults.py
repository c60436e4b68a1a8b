"""Faults on demand, through a whole gateway: what the shop gets, and what is stored of it."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import sqlalchemy as sa
from aiohttp import web

from tests.gateway import PatientCaller, ShopServer, running_gateway, running_shop
from tests.merchant_api import service
from tests.sandbox.test_clock import JSON, moved
from tolem.bootstrap import Gateway
from tolem.clock import SystemClock
from tolem.domain.delivery_story import advise
from tolem.domain.message import Attempt, Fault, Message, MessageState
from tolem.domain.story import Advice
from tolem.flows.administration import Administration
from tolem.ids import Ids
from tolem.merchant import InvalidNotification
from tolem.merchant.signature import verify_signature
from tolem.sandbox.fixtures import CLIENT_ID, TERMINAL_ID
from tolem.storage import tables

INVOICE = "000000001"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwAAAAAAAAAAA="


@asynccontextmanager
async def sandbox(url: str, **changes: Any) -> AsyncIterator[tuple[Gateway, PatientCaller, ShopServer]]:
    async with running_shop() as shop, running_gateway(url, webhook_secret=SECRET, **changes) as gateway:
        yield gateway, PatientCaller(gateway.app, shop.url), shop


async def make(caller: PatientCaller, fault: str, **options: Any) -> dict[str, Any]:
    answer = await caller.call("POST", "/sandbox/faults", json.dumps({"fault": fault} | options).encode(), JSON)
    assert answer.status == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def buy(caller: PatientCaller, invoice: str = INVOICE) -> None:
    assert (await caller.pay(await caller.page(invoice))).state == "approved"


async def settle(caller: PatientCaller) -> None:
    """Waits for what has fallen due."""
    await moved(caller, advance_seconds=0)


async def messages_of(gateway: Gateway) -> list[Message]:
    return await gateway.store.select(sa.select(*tables.messages.columns).order_by(tables.messages.c.id))


async def attempts_of(gateway: Gateway) -> list[Attempt]:
    return await gateway.store.select(
        sa.select(*tables.attempts.columns).order_by(tables.attempts.c.at, tables.attempts.c.number)
    )


async def test_lost_tries_are_made_again_on_schedule(sqlite_url: str) -> None:
    async with sandbox(sqlite_url) as (gateway, caller, shop):
        made = await make(caller, "lose", invoice=INVOICE, tries=2)
        await buy(caller)
        await settle(caller)
        assert shop.received == []
        await moved(caller, advance_seconds=3600)
        assert len(shop.received) == 1
        tries = await attempts_of(gateway)
        words = f"lost on the way by the sandbox's fault {made['id']}"
        assert [(attempt.status, attempt.error) for attempt in tries] == [(None, words), (None, words), (200, "")]
        assert advise(tries[0]) is Advice.REMOVE_FAULT


async def test_a_lost_answer_makes_the_shop_get_it_again(sqlite_url: str) -> None:
    async with sandbox(sqlite_url) as (gateway, caller, shop):
        await make(caller, "lose_answer", invoice=INVOICE)
        await buy(caller)
        await moved(caller, advance_seconds=60)
        assert len(shop.received) == 2
        assert len(set(shop.bodies)) == len({headers["webhook-id"] for headers in shop.headers}) == 1
        first, second = await attempts_of(gateway)
        assert (first.status, second.status) == (None, 200)
        assert first.error.startswith("the answer (200) was lost on the way")
        assert advise(first) is Advice.REMOVE_FAULT
        assert first.address
        assert first.headers


async def test_a_delayed_message_sets_out_later(sqlite_url: str) -> None:
    async with sandbox(sqlite_url) as (gateway, caller, shop):
        await make(caller, "delay", seconds=3600, terminal=str(TERMINAL_ID))
        await buy(caller)
        await moved(caller, advance_seconds=3500)
        assert shop.received == []
        assert await attempts_of(gateway) == []
        await moved(caller, advance_seconds=120)
        assert len(shop.received) == 1
        (attempt,) = await attempts_of(gateway)
        assert attempt.number == 1


async def test_a_repeated_message_comes_as_often(sqlite_url: str) -> None:
    async with sandbox(sqlite_url) as (gateway, caller, shop):
        await make(caller, "repeat", times=3)
        await buy(caller)
        await settle(caller)
        assert len(shop.received) == 3
        assert len(set(shop.bodies)) == len({headers["webhook-id"] for headers in shop.headers}) == 1
        (message,) = await messages_of(gateway)
        assert (message.state, message.tries) == (MessageState.DELIVERED, 1)


async def test_repetitions_of_a_slow_shop_share_the_time_of_one_try(sqlite_url: str) -> None:
    async with sandbox(sqlite_url) as (gateway, caller, shop):
        administration = Administration(gateway.store, SystemClock(), Ids())
        await administration.change_terminal(TERMINAL_ID, notify_connect_seconds=1, notify_whole_seconds=2)
        await make(caller, "repeat", times=10)
        shop.seconds = 0.9
        await buy(caller)
        await settle(caller)
        (message,) = await messages_of(gateway)
        assert (message.state, message.tries) == (MessageState.DELIVERED, 1)
        assert 1 <= len(shop.received) <= 3  # the last one may have been cut off
        (attempt,) = await attempts_of(gateway)
        assert attempt.status == 200


async def refund_after(gateway: Gateway, caller: PatientCaller) -> None:
    """A paid order of which half is given back; the terminal tells of refunds."""
    admin = Administration(gateway.store, SystemClock(), Ids())
    terminal = await admin.add_terminal(CLIENT_ID, "Hotel", tells=("refund",))
    page = await caller.page(INVOICE, terminal=str(terminal.id))
    assert (await caller.pay(page)).state == "approved"
    shop = await service(gateway.app, terminal=str(terminal.id))
    payment_id = (await shop.status())["transaction"]["id"]
    refunded = await shop.operate(payment_id, "refund", amount="50")
    assert refunded.status == 200, refunded.text


async def test_a_newer_message_of_the_order_goes_first(sqlite_url: str) -> None:
    async with sandbox(sqlite_url) as (gateway, caller, shop):
        await make(caller, "reorder", invoice=INVOICE, seconds=3600)
        await refund_after(gateway, caller)
        assert shop.received == []
        await moved(caller, advance_seconds=5)
        assert [told["code"] for told in shop.received] == ["refund", "ok"]
        assert [message.state for message in await messages_of(gateway)] == [MessageState.DELIVERED] * 2
        assert len(await attempts_of(gateway)) == 2


async def test_without_a_fault_messages_keep_their_order(sqlite_url: str) -> None:
    async with sandbox(sqlite_url) as (gateway, caller, shop):
        await refund_after(gateway, caller)
        await settle(caller)
        assert [told["code"] for told in shop.received] == ["ok", "refund"]


async def test_nobody_comes_after_a_message_that_waits_for_a_newer_one(sqlite_url: str) -> None:
    async with sandbox(sqlite_url) as (_, caller, shop):
        await make(caller, "reorder", invoice=INVOICE, seconds=20)
        await buy(caller)
        await moved(caller, advance_seconds=10)
        assert shop.received == []
        await moved(caller, advance_seconds=15)
        assert len(shop.received) == 1


async def run_with_seed(url: str, seed: int) -> tuple[list[int], list[int], list[bool]]:
    """Twelve orders under several faults: in which order the shop got what of them, how many tries each took, and which
    arrivals were cut."""
    async with sandbox(url) as (gateway, caller, shop):
        await make(caller, "reorder", seconds=86_400, seed=seed)
        await make(caller, "lose", percent=40, seed=seed)
        await make(caller, "corrupt", percent=30, how="cut", seed=seed)
        for number in range(12):
            await buy(caller, f"{number:09}")
        await moved(caller, advance_seconds=2 * 86_400)
        stored = await messages_of(gateway)
        number_of = {str(message.id): number for number, message in enumerate(stored)}
        arrived = [number_of[headers["webhook-id"]] for headers in shop.headers]
        is_cut = [body != stored[number].body for number, body in zip(arrived, shop.bodies, strict=True)]
        return arrived, [message.tries for message in stored], is_cut


async def test_a_seed_makes_the_same_run_again(sqlite_url: str, postgres_url: str) -> None:
    arrived, tries, is_cut = run = await run_with_seed(sqlite_url, 7)
    assert arrived != sorted(arrived)
    assert 12 < sum(tries) < 24
    assert 0 < sum(is_cut) < 12
    assert await run_with_seed(postgres_url, 7) == run
    assert await run_with_seed(sqlite_url.replace("tolem.db", "other.db"), 8) != run


@pytest.mark.parametrize("how", ("cut", "empty", "digit", "garble", "signature"))
async def test_changed_bytes_do_not_verify(sqlite_url: str, how: str) -> None:
    async with sandbox(sqlite_url) as (gateway, caller, _):
        received: list[tuple[bytes, dict[str, str]]] = []
        async with strict_shop(received) as url:
            caller.post_link = url
            await make(caller, "corrupt", how=how)
            await buy(caller)
            await moved(caller, advance_seconds=60)
        (bad, bad_headers), (good, good_headers) = received
        assert bad_headers["webhook-id"] == good_headers["webhook-id"]
        assert (bad == good) is (how == "signature")
        (message,) = await messages_of(gateway)
        assert (message.state, message.body) == (MessageState.DELIVERED, good)
        changed, clean = await attempts_of(gateway)
        assert (changed.status, changed.fault) == (400, Fault.SANDBOX)
        assert changed.error == f"changed on the way ({how}) by the sandbox's fault f1"
        assert changed.answer == f"400 ({changed.error})"
        assert advise(changed) is Advice.REMOVE_FAULT
        assert (clean.status, clean.fault, clean.error) == (200, None, "")


async def test_a_shop_that_takes_what_was_changed_is_told_to_verify(sqlite_url: str) -> None:
    async with sandbox(sqlite_url) as (gateway, caller, _):
        await make(caller, "corrupt", how="cut")
        await buy(caller)
        await settle(caller)
        (attempt,) = await attempts_of(gateway)
        assert (attempt.status, attempt.fault) == (200, Fault.SANDBOX)
        assert advise(attempt) is Advice.VERIFY_CHANGED


async def test_the_shop_is_told_before_the_browser_is_back(sqlite_url: str) -> None:
    async with sandbox(sqlite_url) as (gateway, caller, shop):
        await make(caller, "before_return", invoice=INVOICE)
        shop.seconds = 0.5
        await buy(caller)
        assert [attempt.status for attempt in await attempts_of(gateway)] == [200]
        # without the fault the page does not wait
        shop.seconds = 3
        await buy(caller, "000000002")
        assert len(await attempts_of(gateway)) == 1


async def test_the_browser_is_back_before_the_shop_is_told(sqlite_url: str) -> None:
    async with sandbox(sqlite_url) as (_, caller, shop):
        await make(caller, "after_return", invoice=INVOICE)
        path = await caller.page(INVOICE)
        await caller.submit(path)
        await moved(caller, advance_seconds=240)
        assert shop.received == []  # nobody has looked at the result yet
        assert (await caller.get(path)).state == "approved"
        assert shop.received == []
        await shop.wait(1)
        await settle(caller)
        assert len(shop.received) == 1


async def test_a_browser_that_never_comes_back_is_waited_for_five_minutes(sqlite_url: str) -> None:
    async with sandbox(sqlite_url) as (_, caller, shop):
        await make(caller, "after_return")
        path = await caller.page(INVOICE)
        await caller.submit(path)
        await moved(caller, advance_seconds=290)
        assert shop.received == []
        await moved(caller, advance_seconds=30)
        assert len(shop.received) == 1


async def test_faults_are_listed_and_removed(sqlite_url: str) -> None:
    async with sandbox(sqlite_url) as (_, caller, shop):
        first = await make(caller, "lose", tries=100, messages=["success"])
        second = await make(caller, "delay", seconds=5, seed=11)
        assert first["seed"] > 0
        assert second == {"id": "f2", "fault": "delay", "seed": 11, "seconds": 5}
        assert (await caller.get("/sandbox/faults")).json() == [first, second]
        left = await caller.call("DELETE", "/sandbox/faults/f1")
        assert (left.status, left.json()) == (200, [second])
        gone = await caller.call("DELETE", "/sandbox/faults/f1")
        assert (gone.status, gone.json()["message"]) == (404, "there is no fault f1")
        assert (await caller.call("DELETE", "/sandbox/faults")).json() == []
        assert (await make(caller, "lose"))["id"] == "f3"  # a number is never given again
        await caller.call("DELETE", "/sandbox/faults")
        await buy(caller)
        await settle(caller)
        assert len(shop.received) == 1


async def test_faults_that_are_refused(sqlite_url: str) -> None:
    async with sandbox(sqlite_url) as (_, caller, _shop):
        for body, field, words in (
            ({"fault": "explode"}, "fault", "use lose, lose_answer, delay, repeat, reorder, corrupt, after_return"),
            ({}, "", "missing required field `fault`"),
            ({"fault": "lose", "seconds": 5}, "seconds", "goes with delay"),
            ({"fault": "lose", "terminal": "mine"}, "terminal", "Invalid UUID"),
            ({"fault": "lose", "messages": ["gossip"]}, "messages", "use success, failure, capture, void, refund"),
            ({"fault": "corrupt", "how": "badly"}, "how", "use cut, empty, digit, garble, signature"),
            ({"fault": "lose", "tires": 5}, "", "unknown field `tires`"),
        ):
            refused = await caller.call("POST", "/sandbox/faults", json.dumps(body).encode(), JSON)
            assert (refused.status, refused.json().get("field", "")) == (400, field), refused.text
            assert words in refused.json()["message"]
        twice = await caller.call("POST", "/sandbox/faults", b'{"fault":"lose","tries":1,"tries":9}', JSON)
        assert (twice.status, twice.json()["field"]) == (400, "tries")
        for _ in range(100):
            await make(caller, "lose")
        full = await caller.call("POST", "/sandbox/faults", b'{"fault":"lose"}', JSON)
        assert (full.status, full.json()["message"]) == (400, "there are 100 faults already: remove some first")


async def test_faults_are_in_force_in_all_processes_and_after_a_restart(postgres_url: str) -> None:
    async with sandbox(postgres_url) as (_, caller, _shop), sandbox(postgres_url) as (_, other, shop):
        await make(caller, "lose", tries=100)
        await buy(other)
        await settle(other)
        assert shop.received == []
    async with sandbox(postgres_url) as (_, caller, shop):
        await buy(caller, "000000002")
        await settle(caller)
        assert shop.received == []
        await caller.call("DELETE", "/sandbox/faults")
        await moved(caller, advance_seconds=60)
        assert len(shop.received) == 1


@asynccontextmanager
async def strict_shop(received: list[tuple[bytes, dict[str, str]]]) -> AsyncIterator[str]:
    """A shop that answers 200 only to what its secret has signed."""

    async def handle(request: web.Request) -> web.Response:
        body = await request.read()
        received.append((body, {name.lower(): value for name, value in request.headers.items()}))
        try:
            verify_signature(body, request.headers, SECRET)
        except InvalidNotification:
            return web.Response(status=400)
        return web.Response(status=200)

    app = web.Application()
    app.router.add_post("/{path:.*}", handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/notify"
    finally:
        await runner.cleanup()
