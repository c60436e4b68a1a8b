"""What the sandbox's live page asks for: orders with their stories, bodies without secrets, four ways to send again."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import pytest
from tests.gateway import Answer, PatientCaller, eventually, running_gateway, running_shop
from tests.gateway import ShopServer as Receiver
from tests.merchant_api import JSON

from tolem.bootstrap import Gateway

INVOICE = "000000001"


class Scene:
    """A gateway, a shop, and a developer's browser."""

    def __init__(self, gateway: Gateway, shop: Receiver) -> None:
        self.gateway = gateway
        self.shop = shop
        self.caller = PatientCaller(gateway.app, shop.url)

    async def orders(self) -> list[dict[str, Any]]:
        """What the feed would tell."""
        assert self.gateway.inspector is not None
        return [json.loads(one) for one in (await self.gateway.inspector._look()).values()]

    async def order(self, query: str = "") -> dict[str, Any]:
        """The newest order in full."""
        (newest, *_) = await self.orders()
        answer = await self.caller.get(f"/sandbox/orders/{newest['id']}{query}")
        assert (answer.status, answer.headers["cache-control"]) == (200, "no-store")
        told: dict[str, Any] = answer.json()
        return told

    async def pay(self, invoice: str = INVOICE) -> str:
        """The id of the message of a new paid order, once it was tried."""
        await self.caller.pay(await self.caller.page(invoice))
        await self.is_tried(1)
        (delivery,) = (await self.order())["deliveries"]
        return str(delivery["id"])

    async def is_tried(self, count: int) -> None:
        """The newest order's first message has so many tries, and is not on its way."""

        async def tried() -> bool:
            deliveries = (await self.order())["deliveries"]
            return bool(deliveries) and deliveries[-1]["tries"] == count and deliveries[-1]["state"] != "sending"

        await eventually(tried)

    async def send(self, message_id: str, body: Any) -> Answer:
        return await self.caller.call("POST", f"/sandbox/messages/{message_id}/send", json.dumps(body).encode(), JSON)


@asynccontextmanager
async def opened(database_url: str, **changes: Any) -> AsyncIterator[Scene]:
    async with running_shop() as shop, running_gateway(database_url, **changes) as gateway:
        yield Scene(gateway, shop)


async def test_the_page_loads_nothing_from_elsewhere(sqlite_url: str) -> None:
    async with opened(sqlite_url) as scene:
        page = await scene.caller.get("/sandbox")
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        assert "script-src 'self'; style-src 'self'" in page.headers["content-security-policy"]
        assert " style=" not in page.text
        assert "<script>" not in page.text
        assert " onclick=" not in page.text


async def test_an_order_as_it_goes(database_url: str) -> None:
    async with opened(database_url) as scene:
        assert await scene.orders() == []
        await scene.caller.token(INVOICE)
        (told,) = await scene.orders()
        assert (told["invoice"], told["status"], told["end"], told["card"]) == (INVOICE, "open", "page_not_opened", "")
        await scene.pay()
        (told,) = await scene.orders()
        assert (told["state"], told["mark"], told["card"]) == ("order_paid", "done", "VISA •••• 5096")
        assert [(one["kind"], one["state"], one["tries"]) for one in told["messages"]] == [("success", "delivered", 1)]
        full = await scene.order("?language=kk")
        assert full["story"]["summary"].startswith("000000001 тапсырысы")
        (delivery,) = full["deliveries"]
        body = json.loads(delivery["body"])
        assert body["invoiceId"] == INVOICE
        assert body["secret_hash"] == "••••••••"  # what proves a notification reaches no browser
        assert "JDKCNDDGGDTPSKJD" not in json.dumps(full)
        assert ["webhook-id", delivery["id"]] in delivery["attempts"][0]["headers"]


async def test_a_shop_that_echoes_does_not_show_the_secret(sqlite_url: str) -> None:
    async with opened(sqlite_url) as scene:
        scene.shop.is_echoing = True
        scene.shop.status = 400
        await scene.pay()
        scene.shop.status = 200
        full = await scene.order()
        response = full["deliveries"][0]["attempts"][0]["response"]
        assert json.loads(response)["invoiceId"] == INVOICE
        assert json.loads(response)["secret_hash"] == "••••••••"
        assert "JDKCNDDGGDTPSKJD" not in json.dumps([full, await scene.orders()])


async def test_the_newest_first_and_old_ones_when_something_happens(database_url: str) -> None:
    async with opened(database_url) as scene:
        first = await scene.pay("000000001")
        await scene.pay("000000002")
        assert [one["invoice"] for one in await scene.orders()] == ["000000002", "000000001"]
        assert (await scene.send(first, {"way": "again"})).status == 200

        async def is_first() -> bool:
            return [one["invoice"] for one in await scene.orders()] == ["000000001", "000000002"]

        await eventually(is_first)


async def test_again_and_twice(database_url: str) -> None:
    async with opened(database_url) as scene:
        message_id = await scene.pay()
        answer = await scene.send(message_id, {"way": "again"})
        assert (answer.status, answer.json()) == (200, {"sent": [message_id], "waits_for": None})
        await scene.is_tried(2)
        answer = await scene.send(message_id, {"way": "twice"})
        assert answer.json() == {"sent": [message_id, message_id], "waits_for": None}
        await scene.is_tried(4)
        assert len(set(scene.shop.bodies)) == 1
        told = await scene.order()
        assert [one["text"] for one in told["story"]["lines"] if one["fact"] == "sent_again"] == [
            "Sent again by hand (at the sandbox's page)."
        ] * 3


async def test_late(database_url: str) -> None:
    async with opened(database_url) as scene:
        message_id = await scene.pay()
        assert (await scene.send(message_id, {"way": "late", "seconds": 3600})).status == 200
        (delivery,) = (await scene.order())["deliveries"]
        assert (delivery["state"], delivery["tries"]) == ("waiting", 1)
        moved = await scene.caller.call("POST", "/sandbox/clock", b'{"advance_seconds": 3601}', JSON)
        assert moved.status == 200
        await scene.is_tried(2)


async def test_swapped(database_url: str) -> None:
    async with opened(database_url) as scene:
        first = await scene.pay("000000001")
        answer = await scene.send(first, {"way": "swapped"})
        assert (answer.status, "no earlier message" in answer.json()["message"]) == (400, True)
        second = await scene.pay("000000002")
        assert (await scene.send(second, {"way": "swapped"})).json()["sent"] == [second, first]
        await scene.shop.wait(4)
        assert [told["invoiceId"] for told in scene.shop.received[2:]] == ["000000002", "000000001"]


@pytest.mark.parametrize(
    ("body", "words"),
    (
        ({"way": "sideways"}, "sideways"),
        ({"way": "late", "seconds": 0}, "1 to 2592000"),
        ({"way": "late", "seconds": 2_592_001}, "1 to 2592000"),
        ({"way": "again", "who": "me"}, "unknown field"),
        ([], "body is not"),
        ("x" * 2000, "larger than 1024"),
    ),
)
async def test_bad_wishes(sqlite_url: str, body: Any, words: str) -> None:
    async with opened(sqlite_url) as scene:
        message_id = await scene.pay()
        answer = await scene.send(message_id, body)
        assert answer.status == 400
        assert words in answer.json()["message"]
        assert len(scene.shop.received) == 1


async def test_a_foreign_pages_form_sends_nothing(sqlite_url: str) -> None:
    async with opened(sqlite_url) as scene:
        message_id = await scene.pay()
        for content_type in ("text/plain", "application/x-www-form-urlencoded"):
            answer = await scene.caller.call(
                "POST", f"/sandbox/messages/{message_id}/send", b'{"way": "again"}', {"content-type": content_type}
            )
            assert (answer.status, "application/json" in answer.json()["message"]) == (400, True)
        twice = b'{"way": "again", "way": "twice"}'
        answer = await scene.caller.call(
            "POST", f"/sandbox/messages/{message_id}/send", twice, {"content-type": "application/json"}
        )
        assert (answer.status, answer.json()["message"]) == (400, "way stands twice in the body: say it once")
        assert (await scene.caller.get(f"/sandbox/messages/{message_id}/send")).status == 405


async def test_what_is_not_there(sqlite_url: str) -> None:
    async with opened(sqlite_url) as scene:
        await scene.caller.token(INVOICE)
        (order,) = await scene.orders()
        for path in (f"/sandbox/orders/{uuid4()}", "/sandbox/orders/1", f"/sandbox/orders/{order['id']}?language=xx"):
            assert (await scene.caller.get(path)).status in (400, 404)
        assert (await scene.send(str(uuid4()), {"way": "again"})).status == 404


@pytest.mark.parametrize(
    ("host", "status"),
    (
        ("127.0.0.1:8700", 200),
        ("[::1]:8700", 200),
        ("localhost", 200),
        ("shop.localhost:8700", 200),
        ("gateway.test", 200),
        ("GATEWAY.test:80", 200),
        ("evil.example:8700", 403),
        ("127.0.0.1.evil.example", 403),
        ("localhost.evil.example", 403),
        ("[::1", 403),
        ("", 403),
    ),
)
async def test_a_name_that_was_pointed_here_opens_nothing(sqlite_url: str, host: str, status: int) -> None:
    async with running_gateway(sqlite_url) as gateway:
        caller = PatientCaller(gateway.app)
        for path in ("/sandbox", "/sandbox/clock", "/metrics"):
            assert (await caller.call("GET", path, headers={"host": host})).status == status
        assert (await caller.call("GET", "/healthz", headers={"host": host})).status == 200


async def test_behind_a_password_any_name_will_do(sqlite_url: str) -> None:
    async with running_gateway(sqlite_url, sandbox_password="correct-horse-battery") as gateway:
        caller = PatientCaller(gateway.app)
        assert (await caller.call("GET", "/sandbox", headers={"host": "sandbox.shop.example"})).status == 401
        credentials = {
            "authorization": "Basic c2FuZGJveDpjb3JyZWN0LWhvcnNlLWJhdHRlcnk=",
            "host": "sandbox.shop.example",
        }
        assert (await caller.call("GET", "/sandbox", headers=credentials)).status == 200
