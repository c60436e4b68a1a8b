"""The shop in docs/merchants.md runs as it is printed."""

import html
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from types import ModuleType

import aiohttp
from aiohttp import web

from tests.merchant.gateway import FakeGateway

GUIDE = Path(__file__).parent.parent.parent / "docs" / "merchants.md"


def load_example() -> ModuleType:
    """The shop, and what the guide adds to it later."""
    blocks = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    assert blocks, "the guide has no example"
    module = ModuleType("guide_example")
    for block in blocks:
        exec(compile(block, str(GUIDE), "exec"), module.__dict__)  # noqa: S102 - our own documentation
    return module


@asynccontextmanager
async def running_example(gateway_url: str) -> AsyncIterator[tuple[ModuleType, str, aiohttp.ClientSession]]:
    example = load_example()
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

        async def notify(body: bytes) -> tuple[int, str]:
            async with browser.post(f"{shop}/notify", data=body) as answer:
                return answer.status, await answer.text()

        async def status() -> str:
            async with browser.get(f"{shop}/orders/{invoice_id}") as answer:
                return await answer.text()

        assert await status() == "waiting"
        assert await notify(gateway.post_link(secret_hash="forged")) == (
            400,
            "secret_hash is not the one of this order",
        )
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
        async with browser.post(f"{shop}/notify", data=refund) as answer:
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
