"""3-D Secure in the widget: the bank's frame stands in the page's frame, which stands in the shop's page."""

from playwright.async_api import FrameLocator, expect

from tests.browser.conftest import TakeScreenshot
from tests.browser.demo import CHALLENGED_CARD, PAID_ONCE
from tests.browser.other_shop import OtherShop
from tests.browser.payer import Payer
from tests.browser.test_challenge import FAILED_AND_PAID, WAITING, refuse_frames, type_code
from tests.browser.test_widget import Widget, asks, open_demo, open_elsewhere

WAITS = "Nothing is charged until you confirm at your bank. If you have just confirmed, closing may not stop it."


def bank(widget: Widget) -> FrameLocator:
    """The bank's page in its frame."""
    return widget.frame.frame_locator("iframe[name=bank]")


async def challenge(widget: Widget) -> None:
    """From the form to the bank's question."""
    await widget.pay(CHALLENGED_CARD)
    await widget.sees("challenge")
    await expect(bank(widget).locator("main")).to_have_attribute("data-acs", "challenge", timeout=20_000)


async def test_passed_in_the_demo_shop(payer: Payer) -> None:
    widget = await open_demo(payer)
    await challenge(widget)
    await payer.sees_truth(WAITING)
    await type_code(bank(widget))
    await widget.sees("approved")
    await widget.press("Return to the shop")
    await payer.sees_order("paid")
    await payer.sees_truth(PAID_ONCE)


async def test_passed_in_a_shop_of_another_site(payer: Payer, other_shop: OtherShop) -> None:
    widget = await open_elsewhere(payer, other_shop)
    await challenge(widget)
    await type_code(bank(widget), "000000")
    await expect(bank(widget).get_by_role("alert")).to_be_visible()
    assert await widget.told() == []
    await type_code(bank(widget))
    await widget.sees("approved")
    await widget.press("Return to the shop")
    await widget.is_told(True)
    await payer.sees_truth(PAID_ONCE)


async def test_closed_at_the_bank_and_paid_after_all(payer: Payer, other_shop: OtherShop) -> None:
    widget = await open_elsewhere(payer, other_shop)
    await challenge(widget)
    await widget.cross.click()
    await asks(widget, WAITS)
    await widget.press("Go on")
    await expect(widget.question).to_be_hidden()
    await widget.sees("challenge")
    await widget.cross.click()
    await widget.press("Close")
    await widget.is_told(False)
    await payer.sees_truth(WAITING)  # the order is open, and so is the attempt

    await payer.page.locator("button").click()
    await widget.sees("challenge")
    await widget.press("Begin again here")
    await widget.sees("declined")
    await widget.pay()
    await widget.sees("approved")
    await widget.press("Return to the shop")
    await widget.is_told(False, True)
    await payer.sees_truth(FAILED_AND_PAID)


async def test_cancelled_at_the_bank(payer: Payer, other_shop: OtherShop) -> None:
    widget = await open_elsewhere(payer, other_shop)
    await challenge(widget)
    await bank(widget).get_by_role("button", name="Cancel the confirmation").click()
    await widget.sees("declined")
    await widget.pay()
    await widget.sees("approved")
    await payer.sees_truth(FAILED_AND_PAID)


async def test_a_bank_that_will_not_be_framed(
    payer: Payer, other_shop: OtherShop, take_screenshot: TakeScreenshot
) -> None:
    """It gets a window of its own; the widget behind follows by itself."""
    await refuse_frames(payer)
    widget = await open_elsewhere(payer, other_shop, autoBackLink=True)
    await widget.pay(CHALLENGED_CARD)
    await widget.sees("challenge")
    await expect(widget.frame.locator("#ask [role=status]")).to_contain_text("do not see your bank’s page")
    await take_screenshot(payer.page, "widget-bank-refuses")
    async with payer.page.context.expect_page() as opening:
        await widget.press("Open in a new window")
    window = await opening.value
    await expect(widget.frame.locator("#ask [role=status]")).to_contain_text("opens in a new window")
    await expect(widget.frame.locator("iframe")).to_have_count(0)
    await type_code(window, "000000")
    await expect(window.get_by_role("alert")).to_contain_text("2 attempts left")
    assert await window.evaluate("opener") is None
    await payer.sees_truth(WAITING)
    await take_screenshot(payer.page, "widget-bank-beside")
    await type_code(window)
    await expect(window.locator("h1")).to_have_text("You are back from your bank")
    await take_screenshot(window, "widget-bank-answered")
    await widget.is_told(True)
    await payer.sees_truth(PAID_ONCE)
    await window.get_by_role("link", name="Continue here").click()  # as whoever has closed the shop's window would
    await expect(window.locator("main")).to_have_attribute("data-state", "approved")
    await expect(window.locator("#return")).to_be_visible()
    payer.witness.forgive("Refused to display|frame", is_certain=False)
