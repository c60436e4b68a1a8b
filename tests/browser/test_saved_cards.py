"""Saved cards in the demo shop: saved with a tick, used by the code alone, removed after a question; with the keyboard,
without JavaScript, on the narrowest screen."""

import pytest
from playwright.async_api import Page, expect

from tests.browser.conftest import MakePayer
from tests.browser.demo import APPROVED_CARD, CHALLENGED_CARD, DECLINED_CARD
from tests.browser.payer import Payer
from tests.browser.test_access import tab_to
from tests.browser.test_challenge import bank, type_code
from tests.browser.test_looks import TARGET_PIXELS_MIN, fits

OTHER_CARD = "5522 0427 0506 6736"
SAVED = ".choice:not(:has(#card-new))"


async def save(payer: Payer, *numbers: str) -> None:
    """Buys once for each card, and saves it."""
    for number in numbers:
        await payer.buy()
        if await payer.page.locator("#card-new").count():
            await payer.page.locator("#card-new").check()
        await payer.type_card(number)
        await payer.page.locator("#save-card").check()
        await payer.press_pay()
        await payer.sees("approved")


def shown(page: Page) -> dict[str, bool]:
    """Which fields the form should show for a saved card."""
    return {"#cc-csc": True, "#cc-number": False, "#cc-exp": False, "#cc-name": False, "#save-card": False}


async def test_a_saved_card_pays_by_its_code(payer: Payer) -> None:
    await payer.buy()
    await expect(payer.page.locator("#save-card")).not_to_be_checked()  # nobody is taken at their silence
    await expect(payer.page.locator(".saved")).to_have_count(0)
    await save(payer, APPROVED_CARD)
    await payer.buy()
    card = payer.page.get_by_role("radio", name="Visa •••• 5096 until 12/30")
    await expect(card).to_be_checked()
    for selector, is_visible in shown(payer.page).items():
        await expect(payer.page.locator(selector)).to_be_visible(visible=is_visible)
    await payer.press_pay()
    await expect(payer.page.locator("#cc-csc-error")).to_contain_text("Enter the security code")
    await payer.page.locator("#cc-csc").fill("123")
    await payer.press_pay()
    await payer.sees("approved")
    await payer.return_to_shop()
    await payer.sees_order("paid")


async def test_another_card_can_be_typed_and_is_not_saved_unasked(payer: Payer) -> None:
    await save(payer, APPROVED_CARD)
    await payer.buy()
    await payer.page.get_by_label("Another card").check()
    await payer.pay(OTHER_CARD)
    await payer.sees("approved")
    await payer.buy()
    await expect(payer.page.locator(SAVED)).to_have_count(1)


async def test_the_length_of_the_code_is_the_chosen_cards(payer: Payer) -> None:
    await payer.buy()
    await payer.type_card("377514500004820", code="0198")
    await payer.page.locator("#save-card").check()
    await payer.press_pay()
    await payer.sees("approved")
    await save(payer, APPROVED_CARD)
    await payer.buy()
    code = payer.page.locator("#cc-csc")
    await code.fill("12345")
    await expect(code).to_have_value("123")
    await payer.page.get_by_role("radio", name="American Express •••• 4820").check()
    await code.fill("12345")
    await expect(code).to_have_value("1234")
    await expect(payer.page.locator("#cc-csc-hint")).to_have_text("4 digits on the front")
    await code.fill("019")
    await payer.press_pay()
    await expect(payer.page.locator("#cc-csc-error")).to_contain_text("this card has 4 digits")
    await code.fill("0198")
    await payer.press_pay()
    await payer.sees("approved")


async def test_a_saved_card_is_removed_and_nothing_typed_is_lost(payer: Payer) -> None:
    await save(payer, OTHER_CARD, APPROVED_CARD)
    await payer.buy()
    page = payer.page
    await page.locator("#cc-csc").fill("321")
    await page.get_by_role("button", name="Remove Mastercard •••• 6736").click()
    question = page.locator(".ask")
    await expect(question).to_contain_text("Remove Mastercard •••• 6736?")
    await expect(question.locator("button").first).to_be_focused()
    await question.get_by_role("button", name="Keep the card").click()
    await expect(question).to_have_count(0)
    await expect(page.locator(SAVED)).to_have_count(2)
    await page.get_by_role("button", name="Remove Visa •••• 5096").click()
    await page.get_by_role("button", name="Remove the card").click()
    await expect(page.locator("#notices")).to_contain_text("The card was removed.")
    await expect(page.locator(SAVED)).to_have_count(1)
    await expect(page.get_by_role("radio", name="Mastercard •••• 6736")).to_be_checked()
    assert await page.locator("#cc-csc").input_value() == "321"
    await page.locator(".languages [lang=kk]").click()
    await expect(page.locator("legend")).to_have_text("Сақталған карталарыңыз")
    await page.locator("#cc-csc").fill("775")
    await payer.press_pay()
    await payer.sees("approved")


async def test_a_card_that_was_removed_elsewhere_is_told_of(payer: Payer) -> None:
    await save(payer, APPROVED_CARD)
    await payer.buy()
    other = await payer.open_tab()
    await other.page.goto(payer.form_url)
    await other.page.get_by_role("button", name="Remove Visa •••• 5096").click()
    await other.page.get_by_role("button", name="Remove the card").click()
    await expect(other.page.locator(".saved")).to_have_count(0)
    await payer.page.locator("#cc-csc").fill("123")
    await payer.press_pay()
    payer.witness.forgive("422")
    await expect(payer.page.locator("#notices")).to_contain_text("This saved card cannot be used any more")
    await expect(payer.page.locator("#cc-number")).to_be_visible()
    await payer.pay(APPROVED_CARD)
    await payer.sees("approved")


async def test_without_javascript(payer: Payer, make_payer: MakePayer) -> None:
    await save(payer, OTHER_CARD, APPROVED_CARD)
    await payer.buy()
    plain = await make_payer(java_script_enabled=False)
    page = plain.page
    await page.goto(payer.form_url)
    await expect(page.locator("#cc-number")).to_be_hidden()
    await page.get_by_role("button", name="Remove Visa •••• 5096").click()
    await page.get_by_role("button", name="Remove the card").click()
    await expect(page.locator("#notices")).to_contain_text("The card was removed.")
    await page.locator("#card-new").check()
    await expect(page.locator("#cc-number")).to_be_visible()
    await page.locator("#save-card").check()
    await plain.pay("4405")
    await expect(page.locator("#card-new")).to_be_checked()
    await expect(page.locator("#save-card")).to_be_checked()
    await page.locator(".choice input").first.check()
    await page.locator("#cc-csc").fill("12")
    await plain.press_pay()
    await expect(page.locator("#cc-csc-error")).to_contain_text("this card has 3 digits")
    await expect(page.locator(".choice input").first).to_be_checked()
    await page.locator("#cc-csc").fill("775")
    await plain.press_pay()
    await plain.sees("approved")


async def test_with_the_keyboard_alone(payer: Payer) -> None:
    await payer.buy()
    page, keyboard = payer.page, payer.page.keyboard
    await payer.type_card()
    await tab_to(page, "#save-card")
    await keyboard.press("Space")
    await keyboard.press("Enter")
    await payer.sees("approved")
    await payer.buy()
    await tab_to(page, ".choice input")
    await keyboard.press("ArrowDown")
    await expect(page.locator("#card-new")).to_be_checked()
    await keyboard.press("ArrowUp")
    await tab_to(page, ".choice button")
    await keyboard.press("Enter")
    await expect(page.locator(".ask button").first).to_be_focused()
    await keyboard.press("Tab")
    await keyboard.press("Enter")
    await expect(page.locator(".ask")).to_have_count(0)
    await tab_to(page, "#cc-csc")
    await keyboard.type("123")
    await keyboard.press("Enter")
    await payer.sees("approved")


@pytest.mark.parametrize("locale", ("kk-KZ", "ru-RU", "en-GB"))
async def test_on_the_narrowest_screen(make_payer: MakePayer, locale: str) -> None:
    payer = await make_payer(locale=locale, viewport={"width": 320, "height": 640}, has_touch=True)
    await save(payer, APPROVED_CARD)
    await payer.buy()
    await fits(payer.page)
    await payer.page.locator(".choice button").click()
    await expect(payer.page.locator(".ask")).to_be_visible()
    await fits(payer.page)
    for target in await payer.page.locator(".choice input, .choice button, .ask button").all():
        box = await target.bounding_box()
        assert box is not None
        assert min(box["width"], box["height"]) >= TARGET_PIXELS_MIN, box


async def test_a_challenged_card_is_saved_and_challenged_again(payer: Payer) -> None:
    await payer.buy()
    await payer.type_card(CHALLENGED_CARD)
    await payer.page.locator("#save-card").check()
    await payer.press_pay()
    await type_code(bank(payer))
    await payer.sees("approved")
    await payer.buy()
    await payer.page.locator("#cc-csc").fill("123")
    await payer.press_pay()
    await type_code(bank(payer))
    await payer.sees("approved")


async def test_a_declined_card_is_not_saved(payer: Payer) -> None:
    await payer.buy()
    await payer.type_card(DECLINED_CARD)
    await payer.page.locator("#save-card").check()
    await payer.press_pay()
    await payer.sees("declined")
    await payer.leave()
    await payer.sees_order("declined")
    await payer.buy()
    await expect(payer.page.locator(".saved")).to_have_count(0)
