"""Everybody can pay: without JavaScript, with the keyboard alone, in Kazakh, Russian and English."""

import re

import pytest
from playwright.async_api import Page, expect

from tests.browser.conftest import MakePayer
from tests.browser.demo import DECLINED_CARD, PAID_ONCE, SLOW_CARD, Truth
from tests.browser.payer import Payer

TABS_MAX = 40
# What stands in the other alphabet on a page: names and marks.
LATIN_ON_CYRILLIC_PAGES = {"AMEX", "CVC", "Test", "Visa", "shop", "tolem"}
CYRILLIC_ON_ENGLISH_PAGES = {"МИР"}
KAZAKH_LETTERS = set("әғқңөұүһі")


async def without_javascript(payer: Payer, make_payer: MakePayer) -> Payer:
    """A browser that runs no scripts, on a card form. The shop needs one: halyk.pay() is JavaScript."""
    await payer.buy()
    plain = await make_payer(java_script_enabled=False)
    plain.invoice_id, plain.form_url = payer.invoice_id, payer.form_url
    await plain.page.goto(payer.form_url)
    return plain


async def test_without_javascript(payer: Payer, make_payer: MakePayer) -> None:
    plain = await without_javascript(payer, make_payer)
    await plain.pay("4405")
    await expect(plain.page.locator("#cc-number-error")).to_contain_text("The card number is too short")
    await plain.page.reload()  # without a question of the browser's: no answer to a form is a page
    await expect(plain.page.locator("#cc-number-error")).to_contain_text("The card number is too short")
    await plain.pay(DECLINED_CARD)
    await plain.sees("declined")
    await plain.page.go_back()  # to the form with the mistake
    await expect(plain.page.locator(".notice h2")).to_have_text("The payment was declined")
    other = await plain.open_tab()
    await plain.type_card(SLOW_CARD)
    await plain.send_and_stay()
    await other.sees("declined")
    await other.reload_until("checking")
    await other.sees("approved")  # the page asks by itself
    await plain.sees("approved")
    await plain.return_to_shop()
    await plain.sees_order("paid")
    await plain.sees_truth(
        Truth(
            "paid",
            "paid",
            ["declined", "captured"],
            ["purchase declined", "purchase approved"],
            ["purchase declined", "purchase approved"],
            ["success delivered"],
        )
    )


async def test_double_click_without_javascript(payer: Payer, make_payer: MakePayer) -> None:
    plain = await without_javascript(payer, make_payer)
    await plain.type_card()
    await plain.page.locator("form[data-guard] button").dblclick()
    await plain.sees("approved")
    await plain.sees_truth(PAID_ONCE)


async def test_another_language_and_more_time_without_javascript(payer: Payer, make_payer: MakePayer) -> None:
    plain = await without_javascript(payer, make_payer)
    await plain.type_card(expiry="1/30", name="AIGERIM SEIT")
    await plain.page.locator(".languages [lang=kk]").click()
    await expect(plain.page.locator("html")).to_have_attribute("lang", "kk")
    await expect(plain.page.locator("#notices")).to_contain_text("кері жіберілмейді")  # number and code are gone
    fields = [await plain.page.locator(f"#cc-{name}").input_value() for name in ("number", "exp", "csc", "name")]
    assert fields == ["", "1/30", "", "AIGERIM SEIT"]
    extend = plain.page.get_by_role("button", name="Тағы 10 минут қосу")
    await extend.click()
    await expect(extend).to_have_count(0)
    assert await plain.page.locator("#cc-exp").input_value() == "1/30"
    await plain.type_card()
    await plain.page.locator("#cc-name").press("Enter")  # pays, and does not press the first button of the page
    await expect(plain.page.locator("h1")).to_have_text("Төлем өтті")
    await plain.page.locator(".languages [lang=ru]").click()
    await expect(plain.page.locator("h1")).to_have_text("Оплата прошла")
    await plain.sees_truth(PAID_ONCE)


async def test_leaving_without_javascript(payer: Payer, make_payer: MakePayer) -> None:
    plain = await without_javascript(payer, make_payer)
    await plain.leave()
    await plain.sees_order("declined")


async def tab_to(page: Page, selector: str) -> None:
    """Presses Tab until the focus is there, and can be seen there."""
    for _ in range(TABS_MAX):
        await page.keyboard.press("Tab")
        if await page.evaluate("selector => document.activeElement.matches(selector)", selector):
            style = await page.evaluate(
                "() => { const s = getComputedStyle(document.activeElement); return [s.outlineStyle, s.boxShadow] }"
            )
            assert style != ["none", "none"], f"nothing shows that {selector} has the focus"
            return
    pytest.fail(f"{TABS_MAX} tabs do not lead to {selector}")


async def test_with_the_keyboard_alone(payer: Payer) -> None:
    page, keyboard = payer.page, payer.page.keyboard
    await page.goto(payer.demo.shop_url)
    await tab_to(page, "form[action^='/orders'] button")
    await keyboard.press("Enter")
    await payer.sees_order("waiting")
    payer.invoice_id = await page.locator("main").get_attribute("data-order") or ""
    await tab_to(page, "#pay")
    await keyboard.press("Enter")
    await payer.sees("form")

    await tab_to(page, "#cc-number")
    await keyboard.press("Enter")
    await expect(page.locator("#cc-number")).to_be_focused()
    await keyboard.type("4405639704015096")
    await keyboard.press("Tab")
    await keyboard.type("1230")
    await keyboard.press("Tab")
    await keyboard.type("123")
    await keyboard.press("Tab")
    await keyboard.type("AIGERIM SEIT")
    await tab_to(page, "form[data-guard] button")
    await keyboard.press("Space")
    await payer.sees("approved")
    await tab_to(page, "#return")
    await keyboard.press("Enter")
    await payer.sees_order("paid")
    await payer.sees_truth(PAID_ONCE)


@pytest.mark.parametrize(
    ("locale", "button", "declined", "approved", "paid"),
    (
        ("en-GB", "Pay 1 850 ₸", "The payment was declined", "Payment approved", "Paid"),
        ("ru-RU", "Оплатить 1 850 ₸", "Платёж отклонён", "Оплата прошла", "Оплачен"),
        ("kk-KZ", "1 850 ₸ төлеу", "Төлем қабылданбады", "Төлем өтті", "Төленді"),
    ),
    ids=("en", "ru", "kk"),
)
async def test_in_the_payers_language(
    make_payer: MakePayer, locale: str, button: str, declined: str, approved: str, paid: str
) -> None:
    payer = await make_payer(locale=locale)
    await payer.buy()
    await expect(payer.page.locator("form[data-guard] button")).to_have_text(button)
    await speaks(payer.page, locale)
    await payer.type_card(DECLINED_CARD, expiry="1")
    await payer.press_pay()
    await expect(payer.page.locator("#cc-exp-error")).to_be_visible()
    await speaks(payer.page, locale)
    await payer.pay(DECLINED_CARD)
    await expect(payer.page.locator(".notice h2")).to_have_text(declined)
    await speaks(payer.page, locale)
    await payer.pay()
    await expect(payer.page.locator("h1")).to_have_text(approved)
    await speaks(payer.page, locale)
    await payer.return_to_shop()
    await expect(payer.page.locator("h1")).to_have_text(paid)


async def speaks(page: Page, locale: str) -> None:
    """The page says that it is in this language, and is: no word of the other alphabet is left, and where both write
    Cyrillic, no letter that only the other has, or some that it has not."""
    assert await page.locator("html").get_attribute("lang") == locale[:2]
    text = await page.title()
    for part in (".ribbon", "main", "footer"):  # the languages' own names stand between them
        text += (await page.locator(part).inner_text()).replace("Таң", "")  # the name of a tea
    if locale == "en-GB":
        assert set(re.findall(r"[А-Яа-яЁё]{2,}", text)) <= CYRILLIC_ON_ENGLISH_PAGES
    else:
        assert set(re.findall(r"[A-Za-z]{2,}", text)) <= LATIN_ON_CYRILLIC_PAGES
        assert bool(set(text) & KAZAKH_LETTERS) is (locale == "kk-KZ")
