"""The sandbox's live page in Chromium: what happens appears by itself, and is sent again at the press of a button."""

import asyncio
from typing import Any

import pytest
from playwright.async_api import Browser, Locator, Page, expect

from tests.browser.conftest import MakePayer, TakeScreenshot
from tests.browser.demo import DECLINED_CARD, PAID_ONCE, Demo
from tests.browser.payer import Payer
from tests.browser.test_looks import DESKTOP, PHONE, fits
from tests.test_cli_messages import receiving
from tests.test_cli_money import Shop
from tolem.sandbox.cards import build_number

PATIENCE_MS = 20_000
MARKUP = b"<img src=x onerror=\"document.title='run'\"><script>document.title='run'</script>"


class Inspector:
    """Somebody who looks at the live page."""

    def __init__(self, page: Page, demo: Demo) -> None:
        self.page = page
        self.demo = demo

    async def open(self) -> None:
        await self.page.goto(f"{self.demo.url}/sandbox")
        await self.is_live()

    async def is_live(self) -> None:
        await expect(self.page.locator("#live")).to_have_attribute("data-live", "on", timeout=PATIENCE_MS)

    def row(self, invoice: str) -> Locator:
        return self.page.locator("#orders li", has_text=invoice)

    async def says(self, invoice: str, words: str) -> None:
        """The order's row says that, now or after a while, without a reload."""
        await expect(self.row(invoice).locator(".said")).to_have_text(words, timeout=PATIENCE_MS)

    async def choose(self, invoice: str) -> None:
        await self.row(invoice).locator("button").click()
        await expect(self.page.locator("#invoice")).to_have_text(invoice)

    async def tells(self, *facts: str) -> None:
        """The chosen order's story ends with these facts."""
        for number, fact in enumerate(reversed(facts), 1):
            line = self.page.locator(f"#story li:nth-last-child({number})")
            await expect(line).to_have_attribute("data-fact", fact, timeout=PATIENCE_MS)

    @property
    def message(self) -> Locator:
        """The newest message of the chosen order."""
        return self.page.locator("#messages article").first

    async def send(self, way: str) -> None:
        await self.message.locator(f"[data-way={way}]").click()

    async def has_tries(self, count: int) -> None:
        await expect(self.message.locator(".tries > li")).to_have_count(count, timeout=PATIENCE_MS)


@pytest.fixture
def inspector(page: Page, demo: Demo) -> Inspector:
    return Inspector(page, demo)


async def test_an_order_appears_and_moves_by_itself(inspector: Inspector, payer: Payer) -> None:
    await inspector.open()
    await expect(inspector.page.locator("#empty")).to_be_visible()
    invoice = await payer.order()
    await inspector.says(invoice, "page not opened")
    await expect(inspector.page.locator("#empty")).to_be_hidden()
    await inspector.choose(invoice)
    await inspector.tells("token_issued", "page_not_opened")
    await payer.open_form()
    await inspector.says(invoice, "no card yet")
    await inspector.tells("page_opened", "no_card")
    await payer.pay(DECLINED_CARD)
    await inspector.says(invoice, "declined, may try again")
    await payer.pay()
    await inspector.says(invoice, "paid, shop told")
    await inspector.tells("card_entered", "authenticated", "taken", "paid", "composed", "try_delivered")
    await expect(inspector.page.locator("#verdict")).to_have_attribute("data-mark", "done")
    await expect(inspector.page.locator("#summary")).to_contain_text("the shop has confirmed that it knows")
    await payer.sees_truth(
        PAID_ONCE._replace(
            payments=["declined", "captured"],
            operations=["purchase declined", "purchase approved"],
            ledger=["purchase declined", "purchase approved"],
        )
    )


async def test_what_was_sent_and_what_was_answered(inspector: Inspector, payer: Payer) -> None:
    invoice = await payer.buy()
    await payer.pay()
    await inspector.open()
    await inspector.says(invoice, "paid, shop told")
    await inspector.choose(invoice)
    await inspector.message.locator("[data-part=body] summary").click()
    body = inspector.message.locator("[data-part=body] pre")
    await expect(body).to_contain_text(f'"invoiceId": "{invoice}"')
    await expect(body).to_contain_text('"secret_hash": "••••••••"')
    await inspector.message.locator(".tries summary").click()
    message_id = await inspector.message.get_attribute("data-message")
    headers = inspector.message.locator(".headers")
    await expect(headers).to_contain_text(f"webhook-id: {message_id}")
    await expect(headers).to_contain_text("webhook-signature: v1,")
    await expect(inspector.message.locator(".answer")).to_have_text("200")
    await inspector.page.locator("#language").select_option("ru")
    await expect(inspector.page.locator("#summary")).to_contain_text("магазин подтвердил")
    await expect(headers).to_be_visible()  # what was opened stays open


async def test_again_twice_late_and_swapped(inspector: Inspector, payer: Payer) -> None:
    await payer.buy()
    await payer.pay()
    await payer.sees("approved")
    invoice = await payer.buy(good=1)
    await payer.pay()
    await inspector.open()
    await inspector.says(invoice, "paid, shop told")
    await inspector.choose(invoice)
    await inspector.send("again")
    await inspector.has_tries(2)
    await inspector.send("twice")
    await inspector.has_tries(4)
    await expect(inspector.message.locator(".result")).to_have_text("It was sent, and is on its way once more.")
    await inspector.send("swapped")
    await inspector.has_tries(5)
    await inspector.message.locator("select").select_option("3600")
    await inspector.send("late")
    await expect(inspector.message.locator(".state")).to_have_text("waiting")
    await inspector.tells("first_try_due")
    for _ in range(2):
        await inspector.page.locator("[data-advance='3600']").click()
    await inspector.has_tries(6)
    await expect(inspector.page.locator("#ahead")).to_contain_text("h")
    await inspector.says(invoice, "paid, shop told")
    await payer.sees_truth(PAID_ONCE)  # the shop has taken six messages for one


async def test_a_shop_in_trouble_is_told_what_to_do(inspector: Inspector) -> None:
    with receiving() as receiver:
        receiver.status, receiver.answer = 500, MARKUP
        shop = Shop(inspector.demo.port)
        await asyncio.to_thread(shop.pay, "900000001", build_number(0), receiver.url)
        await inspector.open()
        await inspector.choose("900000001")
        await inspector.tells("next_try_due")
        await expect(inspector.page.locator("#advice")).to_contain_text("look in its log at that time")
        said = inspector.page.locator("#story blockquote:visible").first
        await expect(said).to_have_text(MARKUP.decode())  # as text, whatever it is
        await expect(inspector.page).to_have_title("Sandbox · tolem")
        receiver.status = 200
        await inspector.send("again")
        await inspector.says("900000001", "paid, shop told")
        await inspector.page.locator("[data-filter=untold]").click()
        await expect(inspector.row("900000001")).to_have_count(0)
        await inspector.page.locator("[data-filter=all]").click()
        await inspector.page.locator("#find").fill("900000001")
        await expect(inspector.page.locator("#orders li")).to_have_count(1)
        await inspector.page.locator("#find").fill("nothing like that")
        await expect(inspector.page.locator("#none")).to_be_visible()


async def test_with_the_keyboard_alone(inspector: Inspector, payer: Payer) -> None:
    older, newer = await payer.order(), await payer.order(good=1)
    await inspector.open()
    await inspector.says(newer, "page not opened")
    page, keyboard = inspector.page, inspector.page.keyboard
    await page.locator("#find").focus()
    for _ in range(6):  # past the filters
        await keyboard.press("Tab")
    await expect(inspector.row(newer).locator("button")).to_be_focused()
    await keyboard.press("ArrowDown")
    await expect(inspector.row(older).locator("button")).to_be_focused()
    await keyboard.press("Enter")
    await expect(page.locator("#detail")).to_be_focused()
    await expect(page.locator("#invoice")).to_have_text(older)
    await expect(inspector.row(older).locator("button")).to_have_attribute("aria-current", "true")
    await page.go_back()
    await expect(page.locator("#order")).to_be_hidden()
    await page.go_forward()
    await expect(page.locator("#invoice")).to_have_text(older)


@pytest.mark.parametrize(("eyes", "viewport"), (("phone", PHONE), ("desktop", DESKTOP)))
async def test_looks(
    browser: Browser, demo: Demo, make_payer: MakePayer, take_screenshot: TakeScreenshot, eyes: str, viewport: Any
) -> None:
    payer = await make_payer()
    invoice = await payer.buy()
    await payer.pay()
    await payer.sees("approved")
    with receiving() as receiver:
        receiver.status, receiver.answer = 404, b"<h1>Not Found</h1>" + b"no-blanks-anywhere-" * 40
        shop = Shop(demo.port)
        trouble = "80000000" + ("1" if eyes == "phone" else "2")
        await asyncio.to_thread(shop.pay, trouble, build_number(0), receiver.url)
        context = await browser.new_context(viewport=viewport, has_touch=eyes == "phone", reduced_motion="reduce")
        inspector = Inspector(await context.new_page(), demo)
        await inspector.open()
        await inspector.says(invoice, "paid, shop told")

        async def look(name: str) -> None:
            await fits(inspector.page)
            for scheme in ("dark", "light"):
                await inspector.page.emulate_media(color_scheme=scheme)
                await take_screenshot(inspector.page, f"sandbox-{name}-{eyes}-{scheme}")

        await look("list")
        await inspector.choose(trouble)
        await inspector.tells("next_try_due")
        await look("story")
        for details in await inspector.page.locator("#messages details").all():
            await details.locator("summary").click()
        await look("message")
        if eyes == "phone":
            await inspector.page.locator("#back").click()
            await expect(inspector.row(trouble).locator("button")).to_be_focused()


async def test_the_page_comes_back_with_the_gateway(inspector: Inspector, payer: Payer) -> None:
    await inspector.open()
    await asyncio.to_thread(inspector.demo.close)
    await expect(inspector.page.locator("#live")).to_have_attribute("data-live", "off", timeout=PATIENCE_MS)
    await asyncio.to_thread(inspector.demo.start)
    await inspector.is_live()
    invoice = await payer.order()
    await inspector.says(invoice, "page not opened")
