"""The merchant API's part about messages: whose they are, pages, sending again, why an order is unpaid."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID, uuid4

import pytest
from msgspec.structs import replace
from tests.gateway import PatientCaller, eventually, running_gateway, running_shop
from tests.gateway import ShopServer as Receiver
from tests.merchant_api import ShopServer, assert_error, service, stranger

from tolem.bootstrap import Gateway
from tolem.clock import SystemClock
from tolem.domain.message import MessageState
from tolem.flows.administration import Administration
from tolem.ids import Ids
from tolem.sandbox.fixtures import CLIENT_ID, TERMINAL_ID
from tolem.storage import keys
from tolem.storage.store import Decision


class Scene:
    """A gateway with a shop that is told, and looks at what it was told."""

    def __init__(self, gateway: Gateway, receiver: Receiver, shop: ShopServer) -> None:
        self.gateway = gateway
        self.receiver = receiver
        self.shop = shop
        self.caller = PatientCaller(gateway.app, receiver.url)

    async def pay(self, invoice: str, **changes: str) -> dict[str, Any]:
        """The message of a new paid order, once its first try is stored."""
        await self.caller.pay(await self.caller.page(invoice, **changes))

        async def is_tried() -> bool:
            listed = await self.list(f"?invoice={invoice}")
            return [(one["tries"] > 0, one["state"] != "sending") for one in listed] == [(True, True)]

        await eventually(is_tried)
        (message,) = await self.list(f"?invoice={invoice}")
        return message

    async def list(self, query: str = "") -> list[dict[str, Any]]:
        listed: list[dict[str, Any]] = (await self.get(f"/api/messages{query}"))["messages"]
        return listed

    async def get(self, path: str) -> Any:
        answer = await self.shop.get(path)
        assert answer.status == 200, answer.text
        return answer.json()


@asynccontextmanager
async def opened(sqlite_url: str) -> AsyncIterator[Scene]:
    async with running_shop() as receiver, running_gateway(sqlite_url) as gateway:
        yield Scene(gateway, receiver, await service(gateway.app))


async def test_a_shop_looks_at_its_message_and_has_it_sent_again(sqlite_url: str) -> None:
    async with opened(sqlite_url) as scene:
        scene.receiver.status = 410
        listed = await scene.pay("000000001")
        assert (listed["state"], listed["kind"], listed["invoice"]) == ("dead", "success", "000000001")
        assert (listed["last_try"]["status"], listed["next_try_at"]) == (410, None)
        shown = await scene.get(f"/messages/{listed['id']}")
        (attempt,) = shown["attempts"]
        assert ["webhook-id", listed["id"]] in attempt["headers"]
        assert shown["body"].encode() == scene.receiver.bodies[0]

        why = await scene.get("/api/orders/000000001/why")
        assert (why["state"], why["mark"], why["status"]) == ("order_paid_untold", "bad", "paid")
        assert why["advice"] == f"Once the shop is ready for it: tolem redeliver {listed['id']}"
        assert why["lines"][-1]["fact"] == "ended_by_shop"
        russian = await scene.get(f"/orders/000000001/why?language=ru&terminal={TERMINAL_ID}")
        assert [line["fact"] for line in russian["lines"]] == [line["fact"] for line in why["lines"]]
        assert russian["summary"].startswith("Заказ 000000001 на 100\u00a0₸ оплачен, но")

        scene.receiver.status = 200
        again = await scene.shop.post(f"/api/messages/{listed['id']}/redeliver")
        assert (again.status, again.json()["state"]) == (200, "waiting")
        assert again.json()["next_try_at"] is not None
        await scene.receiver.wait(2)
        assert scene.receiver.bodies[0] == scene.receiver.bodies[1]
        await eventually(lambda: is_delivered(scene))
        why = await scene.get("/api/orders/000000001/why")
        assert why["state"] == "order_paid"
        assert [line["text"] for line in why["lines"] if line["fact"] == "sent_again"] == [
            f"Sent again by hand (by client {CLIENT_ID})."
        ]


async def test_a_message_that_waits_tells_for_which(sqlite_url: str) -> None:
    async with opened(sqlite_url) as scene:
        scene.receiver.status = 500
        first = await scene.pay("000000001")
        assert first["waits_for"] is None
        found = await scene.gateway.store.find(keys.message_by_id(UUID(first["id"])))
        assert found is not None
        record = found.record
        again = replace(record, id=Ids().new(), state=MessageState.WAITING, lease_owner=None, leased_until=None)
        await scene.gateway.store.change((keys.message_by_id(record.id),), lambda _: Decision(None, (again,)))
        listed = {one["id"]: one["waits_for"] for one in await scene.list()}
        assert listed == {first["id"]: None, str(again.id): first["id"]}
        assert (await scene.get(f"/messages/{again.id}"))["waits_for"] == first["id"]
        scene.receiver.status = 200
        await scene.shop.post(f"/api/messages/{first['id']}/redeliver")
        await eventually(lambda: are_delivered(scene))
        assert {one["waits_for"] for one in await scene.list()} == {None}


async def are_delivered(scene: Scene) -> bool:
    return {one["state"] for one in await scene.list()} == {"delivered"}


async def is_delivered(scene: Scene) -> bool:
    return [one["state"] for one in await scene.list()] == ["delivered"]


async def test_pages_and_filters(sqlite_url: str) -> None:
    async with opened(sqlite_url) as scene:
        admin = Administration(scene.gateway.store, SystemClock(), Ids())
        kiosk = str((await admin.add_terminal(CLIENT_ID, "Kiosk")).id)
        for number in range(1, 4):
            await scene.pay(f"00000000{number}")
        await scene.pay("000000004", terminal=kiosk)
        first = await scene.get("/messages?limit=3")
        assert [one["invoice"] for one in first["messages"]] == ["000000004", "000000003", "000000002"]
        rest = await scene.get(f"/messages?limit=3&cursor={first['next']}")
        assert ([one["invoice"] for one in rest["messages"]], rest["next"]) == (["000000001"], None)
        assert [one["invoice"] for one in await scene.list(f"?terminal={kiosk}")] == ["000000004"]
        assert len(await scene.list("?state=delivered")) == 4
        assert await scene.list("?state=dead,undelivered") == []
        assert await scene.list("?since=2030-01-01T00:00:00Z") == []
        assert len(await scene.list("?invoice=000000001&limit=1")) == 1
        narrow = await service(scene.gateway.app, terminal=kiosk)
        told = (await narrow.get("/messages")).json()["messages"]
        assert [one["invoice"] for one in told] == ["000000004"]
        assert_error(await narrow.get("/orders/000000001/why"), 404, "no order")


async def test_what_is_not_ones_own_does_not_exist(sqlite_url: str) -> None:
    async with opened(sqlite_url) as scene:
        mine = await scene.pay("000000001")
        foreign = await stranger(scene.gateway)
        assert (await foreign.get("/api/messages")).json() == {"messages": [], "next": None}
        assert_error(await foreign.get(f"/messages/{mine['id']}"), 404, "no message")
        assert_error(await foreign.post(f"/messages/{mine['id']}/redeliver"), 404, "no message")
        assert_error(await foreign.get("/orders/000000001/why"), 404, "no order")
        assert_error(await foreign.get(f"/messages?terminal={TERMINAL_ID}"), 404, "not one of this token")
        assert_error(await foreign.get("/messages?invoice=000000001"), 404, "no order")
        token = (await scene.caller.token("000000001"))["access_token"]
        payer = ShopServer(scene.caller, token)  # its order's token reaches the payer's browser
        for path in ("/messages", f"/messages/{mine['id']}", "/orders/000000001/why"):
            assert_error(await payer.get(path), 403, "without invoiceID")
            assert_error(await ShopServer(scene.caller, "").get(path), 401, "missing")
        assert_error(await payer.post(f"/messages/{mine['id']}/redeliver"), 403, "without invoiceID")
        assert len(scene.receiver.received) == 1


@pytest.mark.parametrize(
    ("path", "words"),
    (
        ("/messages?state=lost", "known are waiting, sending"),
        ("/messages?limit=0", "1 to 200"),
        ("/messages?limit=1&limit=2", "'limit' comes twice"),
        ("/messages?state=dead&%73tate=dead", "'state' comes twice"),
        ("/orders/000000001/why?language=en&language=kk", "'language' comes twice"),
        ("/messages?limit=201", "1 to 200"),
        ("/messages?limit=1e2", "1 to 200"),
        ("/messages?limit=%D9%A1", "1 to 200"),
        ("/messages?cursor=next", "cursor must be a UUID"),
        ("/messages?terminal=urn:uuid:67e34d63-102f-4bd1-898e-370781d0074d", "terminal must be a UUID"),
        ("/messages?since=2026-11-24", "with its offset"),
        ("/messages?since=yesterday", "with its offset"),
        ("/messages?since=0001-01-01T00:00:00%2B14:00", "with its offset"),
        ("/messages?status=dead", "known are state, terminal"),
        ("/messages/1", "id must be a UUID"),
        ("/orders/000000001/why?language=xx", "one of en, kk, ru"),
    ),
)
async def test_bad_questions(sqlite_url: str, path: str, words: str) -> None:
    async with opened(sqlite_url) as scene:
        assert_error(await scene.shop.get(path), 400, words)


async def test_what_is_not_there(sqlite_url: str) -> None:
    async with opened(sqlite_url) as scene:
        assert_error(await scene.shop.get(f"/messages/{uuid4()}"), 404, "no message")
        assert_error(await scene.shop.post(f"/messages/{uuid4()}/redeliver"), 404, "no message")
        assert_error(await scene.shop.get("/orders/000000009/why"), 404, "no order '000000009'")
        assert_error(await scene.shop.get(f"/messages/{uuid4()}/redeliver"), 405, "use POST")
        assert_error(await scene.shop.post("/messages"), 405, "use GET")
        head = await scene.caller.call("HEAD", "/messages", headers=scene.shop.headers)
        assert (head.status, head.body) == (200, b"")
