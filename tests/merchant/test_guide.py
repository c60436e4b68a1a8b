"""The shop in docs/merchants.md runs as it is printed, and so does the check of a signature in docs/notifications."""

import html
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from types import ModuleType

import aiohttp
from aiohttp import web
from standardwebhooks.webhooks import Webhook

from tests.merchant.gateway import WEBHOOK_SECRET, FakeGateway, sign
from tolem.sandbox import fixtures

DOCS = Path(__file__).parent.parent.parent / "docs"


def load_example(name: str) -> ModuleType:
    """The Python of a page of the documentation: its example, and what it adds to it later."""
    path = DOCS / name
    blocks = re.findall(r"```python\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL)
    assert blocks, f"{name} has no example"
    module = ModuleType("example")
    for block in blocks:
        exec(compile(block, str(path), "exec"), module.__dict__)  # noqa: S102 - our own documentation
    return module


@asynccontextmanager
async def running_example(gateway_url: str) -> AsyncIterator[tuple[ModuleType, str, aiohttp.ClientSession]]:
    example = load_example("merchants.md")
    example.GATEWAY = gateway_url  # type: ignore[attr-defined]  # a module made a moment ago
    runner = web.AppRunner(example.build_app(), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        async with aiohttp.ClientSession() as browser:
            yield example, f"http://127.0.0.1:{runner.addresses[0][1]}", browser
    finally:
        await runner.cleanup()


async def test_example_is_paid(gateway: FakeGateway) -> None:
    async with running_example(gateway.url) as (example, shop, browser):
        async with browser.get(shop) as answer:
            page = await answer.text()
        found = re.search(r'<script type="application/json" id="pay-object">(.*?)</script>', page, re.DOTALL)
        assert found, page
        pay_object = json.loads(html.unescape(found[1]))
        assert pay_object["amount"] == "1850.50"
        assert f'src="{gateway.url}/payform/payment-api.js"' in page
        invoice_id = pay_object["invoiceId"]

        async def notify(body: bytes, **headers: str) -> tuple[int, str]:
            async with browser.post(f"{shop}/notify", data=body, headers=sign(body) | headers) as answer:
                return answer.status, await answer.text()

        async def status() -> str:
            async with browser.get(f"{shop}/orders/{invoice_id}") as answer:
                return await answer.text()

        assert await status() == "waiting"
        assert await notify(gateway.post_link(secret_hash="forged")) == (
            400,
            "secret_hash is not the one of this order",
        )
        late = {"webhook-timestamp": "1764000000"}
        assert (await notify(gateway.post_link(), **late))[0] == 400
        async with browser.post(f"{shop}/notify", data=gateway.post_link()) as unsigned:
            assert unsigned.status == 400
            assert "not signed" in await unsigned.text()
        assert await status() == "waiting"
        assert await notify(gateway.post_link(is_paid=False, reason="Lost card")) == (200, "stored")
        assert await status() == "declined: Lost card"
        assert await notify(gateway.post_link()) == (200, "stored")
        assert await notify(gateway.post_link(is_paid=False)) == (200, "stored")
        assert await status() == "paid"
        assert example.ORDERS[invoice_id].secret_hash not in page


async def test_money_that_moves_later(gateway: FakeGateway) -> None:
    async with running_example(gateway.url) as (example, shop, browser):
        async with browser.get(shop):
            pass
        ((invoice_id, order),) = example.ORDERS.items()
        expected = example.ExpectedPayment(
            invoice_id=invoice_id,
            amount=order.amount,
            currency="KZT",
            terminal_id=example.TERMINAL,
            secret_hash=order.secret_hash,
        )
        refund = gateway.operation("refund", 50, 80)
        async with browser.post(f"{shop}/notify", data=refund, headers=sign(refund)) as answer:
            assert (answer.status, await answer.text()) == (
                400,
                "code is 'refund', no payment: verify_notification takes it",
            )
        example.take(gateway.post_link(), expected, order)
        assert order.status == "paid"
        for _ in range(2):
            example.take(gateway.operation("charge", "1000.50"), expected, order)
            example.take(refund, expected, order)
        assert (order.status, order.charged, order.refunded) == ("paid", Decimal("1000.50"), Decimal(80))
        example.take(gateway.operation("cancel", 1000), expected, order)
        assert order.is_cancelled


async def test_example_says_what_is_wrong(gateway: FakeGateway) -> None:
    gateway.status, gateway.answer = 401, b'{"code":7,"message":"wrong secret"}'
    async with running_example(gateway.url) as (_, shop, browser), browser.get(shop) as answer:
        assert answer.status == 502
        assert await answer.text() == "The gateway refused: wrong secret, code 7"


async def test_example_survives_a_silent_gateway(gateway: FakeGateway) -> None:
    gateway.status = 503
    async with running_example(gateway.url) as (_, shop, browser), browser.get(shop) as answer:
        assert answer.status == 503


def test_the_signature_is_checked_as_printed() -> None:
    is_signed = load_example("notifications.md").is_signed
    body = '{"code":"ok","name":"Әсем"}'.encode()
    good = sign(body)
    assert is_signed(good, body, WEBHOOK_SECRET)
    assert is_signed(good | {"webhook-signature": f"v1,AAAA {good['webhook-signature']}"}, body, WEBHOOK_SECRET)
    assert not is_signed(good, body + b" ", WEBHOOK_SECRET)
    assert not is_signed(good, body, "whsec_" + "A" * 44)
    assert not is_signed(sign(body, age_seconds=400), body, WEBHOOK_SECRET)
    assert not is_signed(sign(body, age_seconds=-400), body, WEBHOOK_SECRET)
    for name in good:
        assert not is_signed({k: v for k, v in good.items() if k != name}, body, WEBHOOK_SECRET)


def test_the_documentation_prints_the_secrets_that_are_true() -> None:
    assert fixtures.WEBHOOK_SECRET == WEBHOOK_SECRET == load_example("merchants.md").WEBHOOK_SECRET
    page = (DOCS / "notifications.md").read_text(encoding="utf-8")
    assert WEBHOOK_SECRET in page
    values = re.findall(r"`((?:whsec|msg)_\w{20,}|\d{10}|\{\"test[^`]*|v1,\S+=)`", page.partition("To try another")[2])
    secret, message_id, timestamp, body, signature = values[:5]
    at = datetime.fromtimestamp(int(timestamp), UTC)
    assert Webhook(secret).sign(message_id, at, body) == signature
