"""Every state fits a phone and a desktop. SCREENSHOTS=1 leaves pictures to be looked at."""

import asyncio

from msgspec.structs import replace
from playwright.async_api import Page, ViewportSize

from tests.browser.conftest import MakePayer, TakeScreenshot
from tests.browser.demo import DECLINED_CARD, SLOW_CARD
from tests.browser.payer import Payer
from tests.browser.test_page_script import ADDRESS, APPROVED, VIEW, Gateway

PHONE: ViewportSize = {"width": 360, "height": 740}
DESKTOP: ViewportSize = {"width": 1280, "height": 800}
AMOUNT_MAX = 999_999_999_999
"""Minor units; no token asks for more."""
COUNT_LINES = """each => {
    const text = document.createRange();
    text.selectNodeContents(each);
    return new Set([...text.getClientRects()].map((box) => box.top)).size;
}"""
TARGET_PIXELS_MIN = 24
"""WCAG 2.2, 2.5.8: what a finger must hit."""


async def test_every_state(make_payer: MakePayer, take_screenshot: TakeScreenshot) -> None:
    """Buys twice, once with and once without luck."""
    payer = await make_payer(viewport=PHONE, locale="ru-RU", has_touch=True, color_scheme="dark")

    async def look(at: Payer, name: str) -> None:
        for eyes, size in (("desktop", DESKTOP), ("phone", PHONE)):
            await at.page.set_viewport_size(size)
            await fits(at.page)
            await take_screenshot(at.page, f"{name}-{eyes}")

    await payer.page.goto(payer.demo.shop_url)
    await look(payer, "shop")
    await payer.choose(good=3)
    await look(payer, "shop-order")
    stale = await payer.open_tab()
    await payer.open_form()
    await look(payer, "page")
    await payer.page.locator("summary").click()
    await look(payer, "page-test-cards")
    await payer.press_pay()
    await look(payer, "page-errors")
    await payer.pay(DECLINED_CARD)
    await payer.sees("declined")
    await look(payer, "page-declined")
    watcher = await payer.open_tab()
    early = await payer.open_tab()
    await early.page.goto(f"{payer.demo.shop_url}/orders/{payer.invoice_id}/return")
    await look(early, "shop-waiting")
    await early.page.close()
    await payer.type_card(SLOW_CARD)
    await payer.send_and_stay()
    await watcher.reload_until("checking")
    await look(watcher, "page-checking")
    await payer.sees("approved")
    await look(payer, "page-approved")
    await payer.return_to_shop()
    await payer.sees_order("paid")
    await look(payer, "shop-paid")
    await stale.page.locator("#pay").click()
    await stale.sees("paid")
    await look(stale, "page-paid")

    await payer.buy(good=1)
    for state in ("declined", "declined", "failed"):
        await payer.pay(DECLINED_CARD)
        await payer.sees(state)
    await look(payer, "page-failed")
    await payer.return_to_shop()
    await payer.sees_order("declined")
    await look(payer, "shop-declined")
    await payer.page.goto(f"{payer.demo.url}/pay/unknown")
    await payer.sees("invalid")
    await look(payer, "page-invalid")
    payer.witness.forgive("404")


async def test_the_largest_amount_stays_on_one_line(page: Page) -> None:
    gateway = Gateway()
    await page.route("**/*", gateway.handle)
    for view in (VIEW, APPROVED, replace(VIEW, frame_origin="https://shop.example")):
        for currency in ("KZT", "KWD"):
            gateway.view = replace(view, amount=AMOUNT_MAX, currency=currency)
            await page.goto(ADDRESS)
            for width in (320, 360, 640, 900, 1280):
                await page.set_viewport_size({"width": width, "height": 800})
                assert await page.locator("h1 .amount, p.amount").evaluate(COUNT_LINES) == 1, (currency, width)
                await fits(page)


async def fits(page: Page) -> None:
    """Nothing is wider than the screen, and what is to be pressed is large enough for a finger."""
    sizes = await page.evaluate("() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    assert sizes[0] <= sizes[1], "the page scrolls sideways"
    targets = page.locator(
        "button:visible:not([aria-hidden]), input:visible, summary:visible, a.primary:visible, a.big:visible"
    )
    boxes = await asyncio.gather(*(target.bounding_box() for target in await targets.all()))
    assert [box for box in boxes if box and min(box["height"], box["width"]) < TARGET_PIXELS_MIN] == []
