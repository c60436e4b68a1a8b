"""3-D Secure in the widget: the bank's frame stands in the page's frame, which stands in the shop's page."""

from playwright.async_api import FrameLocator, expect

from tests.browser.demo import CHALLENGED_CARD, PAID_ONCE
from tests.browser.other_shop import OtherShop
from tests.browser.payer import Payer
from tests.browser.test_challenge import FAILED_AND_PAID, WAITING, type_code
from tests.browser.test_widget import Widget, asks, open_demo, open_elsewhere

WAITS = "Your bank is waiting for you to confirm the payment. If you close it now, it will hardly go through."


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
