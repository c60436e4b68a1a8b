"""A person with a browser who buys in the demo shop, and a witness of all that the browser did meanwhile."""

import asyncio
import json
import re
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urljoin, urlsplit

from playwright.async_api import BrowserContext, ConsoleMessage, Page, Request, WebError, expect

from tests.browser.demo import APPROVED_CARD, Demo, Truth
from tolem.shop.goods import GOODS

TRUTH_SECONDS_MAX = 30
SENDING_SECONDS_MAX = 20


class Witness:
    """What a browser asked for and complained about. A payment's whole way must leave nothing to complain about."""

    def __init__(self, context: BrowserContext, demo: Demo) -> None:
        self.requests: list[Request] = []
        self.complaints: list[str] = []
        self.tokens: set[str] = set()
        """Access tokens that the shop's pages carried."""
        self._hosts = {urlsplit(url).netloc for url in (demo.url, demo.shop_url, demo.bank_url)}
        context.on("request", lambda request: self.requests.append(request))
        context.on("console", self._hear)
        context.on("weberror", self._hear_fault)

    def check(self) -> None:
        """No console error (a violated policy is one), no other host, no token in any address, no page's address in
        a Referer that another host reads."""
        assert self.complaints == [], self.complaints
        for request in self.requests:
            parts = urlsplit(request.url)
            assert parts.scheme == "data" or parts.netloc in self._hosts, request.url
            assert not any(token in request.url for token in self.tokens), request.url
            referer = request.headers.get("referer", "")
            assert "/pay/" not in referer or urlsplit(referer).netloc == parts.netloc, request.url

    def forgive(self, pattern: str, *, is_certain: bool = True) -> None:
        """Takes back complaints that a test provoked. There must be one, unless the browser may have left the page
        before it was heard."""
        kept = [complaint for complaint in self.complaints if not re.search(pattern, complaint)]
        assert kept != self.complaints or not is_certain, f"no complaint like {pattern!r} in {self.complaints}"
        self.complaints = kept

    def leave_out(self, origin: str) -> None:
        """A page that the test itself serves may be asked for, too."""
        self._hosts.add(urlsplit(origin).netloc)

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def _hear_fault(self, fault: WebError) -> None:
        self.complaints.append(str(fault.error))


class Payer:
    """Buys and pays on one tab."""

    def __init__(self, page: Page, demo: Demo, witness: Witness) -> None:
        self.page = page
        self.demo = demo
        self.witness = witness
        self.invoice_id = ""
        self.form_url = ""
        """The page's own address, once it is open."""

    async def choose(self, good: int = 0) -> str:
        """Buys an article of the shelves; the shop's order page is open then. Returns the order's number."""
        await self.page.goto(self.demo.shop_url)
        await self.page.locator("form[action^='/orders'] button").nth(good).click()
        return await self._read_order()

    async def order(self, good: int = 0) -> str:
        """The same without the shelves, which take a browser longer to draw than all the rest."""
        made = await self.page.context.request.post(
            f"{self.demo.shop_url}/orders",
            form={"good": GOODS[good].key},
            headers={
                "origin": self.demo.shop_url,
                "accept-language": await self.page.evaluate("navigator.language"),
            },
            max_redirects=0,
        )
        assert made.status == 303, await made.text()
        await self.page.goto(urljoin(made.url, made.headers["location"]))
        return await self._read_order()

    async def _read_order(self) -> str:
        main = self.page.locator("main[data-order]")
        self.invoice_id = await main.get_attribute("data-order") or ""
        self.witness.tokens.add((await self.pay_object())["auth"]["access_token"])
        return self.invoice_id

    async def pay_object(self) -> dict[str, Any]:
        """What the order's page in the shop gives to halyk.pay()."""
        parsed: dict[str, Any] = json.loads(await self.page.locator("#pay-object").text_content() or "")
        return parsed

    async def open_form(self) -> None:
        """From the order's page in the shop to the card form."""
        await self.page.locator("#pay").click()
        await self.sees("form")
        self.form_url = self.page.url

    async def buy(self, good: int = 0) -> str:
        """From the shelves to the card form. Returns the order's number."""
        invoice_id = await self.order(good)
        await self.open_form()
        return invoice_id

    async def type_card(
        self, number: str = APPROVED_CARD, expiry: str = "12/30", code: str = "123", name: str = "AIGERIM SEIT"
    ) -> None:
        """Fills the form."""
        for token, text in (("number", number), ("exp", expiry), ("csc", code), ("name", name)):
            await self.page.locator(f"[name=cc-{token}]").fill(text)

    async def press_pay(self) -> None:
        """Sends the form; returns when the browser has the next page, or the form says what is wrong."""
        await self.page.locator("form[data-guard] .primary").click()
        await expect(self.page.locator("#card [aria-disabled]")).to_have_count(0, timeout=SENDING_SECONDS_MAX * 1000)

    async def send_and_stay(self) -> None:
        """Sends the form without waiting for what comes of it."""
        await self.page.locator("#cc-name").press("Enter", no_wait_after=True)

    async def pay(self, number: str = APPROVED_CARD) -> None:
        """Fills the form and sends it."""
        await self.type_card(number)
        await self.press_pay()

    async def sees(self, state: str, seconds: float = 20) -> None:
        """The payment page shows this state, now or after a while."""
        await expect(self.page.locator("main")).to_have_attribute("data-state", state, timeout=seconds * 1000)

    async def reload_until(self, state: str) -> None:
        """Reloads the payment page until it shows this state."""
        deadline = time.monotonic() + TRUTH_SECONDS_MAX
        main = self.page.locator("main")
        while (shown := await main.get_attribute("data-state")) != state:
            assert time.monotonic() < deadline, shown
            await asyncio.sleep(0.05)
            await self.page.reload()

    async def sees_order(self, status: str, seconds: float = 20) -> None:
        """The shop's page shows the order with this status, now or after a while."""
        main = self.page.locator("main[data-order]")
        await expect(main).to_have_attribute("data-order-status", status, timeout=seconds * 1000)

    async def leave(self) -> None:
        """Back to the shop without paying, by the form's own button."""
        await self.page.locator(".leave button").click()

    async def open_tab(self) -> "Payer":
        """The same page once more, in another tab of the same browser."""
        tab = Payer(await self.page.context.new_page(), self.demo, self.witness)
        tab.invoice_id = self.invoice_id
        await tab.page.goto(self.page.url)
        return tab

    async def return_to_shop(self) -> None:
        """By the link of the result page."""
        await self.page.locator("#return").click()

    async def operation_is_open(self) -> None:
        """The gateway has reserved an exchange and waits for the acquirer, whose book has it too."""
        await self._until(lambda truth: truth.operations == ["purchase prepared"] and len(truth.ledger) == 1)

    async def sees_truth(self, expected: Truth) -> None:
        """All books say the same, now or after a while."""
        await self._until(lambda truth: truth == expected)

    async def _until(self, condition: Callable[[Truth], bool]) -> None:
        deadline = time.monotonic() + TRUTH_SECONDS_MAX
        while not condition(truth := self.demo.read_truth(self.invoice_id)):
            assert time.monotonic() < deadline, truth
            await asyncio.sleep(0.05)
