"""Buying in the demo shop, whatever way a payer takes: each ends with gateway, acquirer and shop of one mind."""

import asyncio
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Page, Request, Route, expect

from tests.browser.conftest import MakePayer
from tests.browser.demo import APPROVED_CARD, DECLINED_CARD, FOREIGN_CARD, PAID_ONCE, Truth
from tests.browser.payer import Payer

DECLINED_ONCE = Truth(
    "declined", "failed", ["declined"], ["purchase declined"], ["purchase declined"], ["failure delivered"]
)
PAID_AT_SECOND_CARD = Truth(
    "paid",
    "paid",
    ["declined", "captured"],
    ["purchase declined", "purchase approved"],
    ["purchase declined", "purchase approved"],
    ["success delivered"],
)
UNTOUCHED = Truth("waiting", "open", [], [], [], [])


def card_posts(payer: Payer) -> list[Request]:
    """The card forms that left the browser."""
    return [request for request in payer.witness.requests if request.method == "POST" and "/pay/" in request.url]


async def pay_with(payer: Payer, **changes: object) -> None:
    """As the shop's button does, with other fields in the pay object."""
    wish = await payer.pay_object() | changes
    await payer.page.wait_for_load_state()  # the library is there then
    await payer.page.evaluate("wish => halyk.pay(wish)", wish)


async def test_approved(payer: Payer) -> None:
    await payer.choose()
    await payer.open_form()
    address = urlsplit(payer.page.url)
    assert (address.netloc, address.query) == (urlsplit(payer.demo.url).netloc, "")
    await payer.pay()
    await payer.sees("approved")
    # Nobody has returned yet: the shop knows it from the notification.
    await payer.sees_truth(PAID_ONCE)
    await payer.return_to_shop()
    await payer.sees_order("paid")
    await expect(payer.page.locator("[data-verdict=accepted]")).to_have_count(1)


async def test_card_of_the_pages_own_list(payer: Payer) -> None:
    await payer.buy()
    await payer.page.locator("summary").click()
    await payer.page.locator(".fill").first.click()
    await payer.press_pay()
    await payer.sees("approved")
    await payer.sees_truth(PAID_ONCE)


async def test_click_before_the_library_came(payer: Payer) -> None:
    async def come_late(route: Route) -> None:
        await asyncio.sleep(0.5)
        await route.continue_()

    await payer.page.route("**/payment-api.js", come_late)
    await payer.page.goto(payer.demo.shop_url)
    await payer.page.locator("form[action^='/orders'] button").first.click(no_wait_after=True)
    await payer.page.locator("#pay").click()
    await payer.sees("form")


async def test_library_does_not_load(payer: Payer) -> None:
    await payer.page.route("**/payment-api.js", lambda route: route.abort())
    await payer.order()
    await payer.page.locator("#pay").click()
    await expect(payer.page.locator("#no-library")).to_be_visible()
    payer.witness.forgive("ERR_FAILED")


async def test_returned_before_the_outcome(payer: Payer) -> None:
    """The shop believes the notification, not the browser's coming back, and its page waits for it."""
    await payer.buy()
    early = await payer.open_tab()
    await early.page.goto(f"{payer.demo.shop_url}/orders/{payer.invoice_id}/return")
    await early.sees_order("waiting")
    await payer.pay()
    await early.sees_order("paid")


async def test_declined_and_left(payer: Payer) -> None:
    await payer.buy()
    await payer.pay(DECLINED_CARD)
    await payer.sees("declined")
    await payer.leave()
    await payer.sees_order("declined")
    assert await payer.page.locator("[data-reason-code]").get_attribute("data-reason-code") == "465"
    await payer.sees_truth(DECLINED_ONCE)


async def test_declined_then_approved_with_another_card(payer: Payer) -> None:
    await payer.buy()
    await payer.pay(DECLINED_CARD)
    await payer.sees("declined")
    await payer.pay()
    await payer.sees("approved")
    await payer.return_to_shop()
    await payer.sees_order("paid")
    await payer.sees_truth(PAID_AT_SECOND_CARD)


async def test_declined_and_paid_again_from_the_shop(payer: Payer) -> None:
    await payer.buy()
    await payer.pay(DECLINED_CARD)
    await payer.sees("declined")
    await payer.leave()
    await payer.sees_order("declined")
    await payer.page.locator("#pay-again").click()
    await payer.sees_order("waiting")
    await payer.open_form()
    await payer.pay()
    await payer.sees("approved")
    await payer.return_to_shop()
    await payer.sees_order("paid")
    await payer.sees_truth(PAID_AT_SECOND_CARD._replace(messages=["failure delivered", "success delivered"]))


async def test_all_attempts_declined(payer: Payer) -> None:
    await payer.buy()
    for state in ("declined", "declined", "failed"):
        await payer.pay(DECLINED_CARD)
        await payer.sees(state)
    assert await payer.page.locator("#card").count() == 0
    await payer.return_to_shop()
    await payer.sees_order("declined")
    await payer.sees_truth(
        Truth(
            "declined",
            "failed",
            ["declined"] * 3,
            ["purchase declined"] * 3,
            ["purchase declined"] * 3,
            ["failure delivered"],
        )
    )


async def test_left_without_an_attempt(payer: Payer) -> None:
    await payer.buy()
    await payer.leave()
    await payer.sees_order("declined")
    assert await payer.page.locator("[data-reason-code]").get_attribute("data-reason-code") == "476"
    await payer.sees_truth(Truth("declined", "failed", [], [], [], ["failure delivered"]))


async def test_back_to_the_shop_and_in_again(payer: Payer) -> None:
    await payer.buy()
    await payer.page.go_back()
    await payer.sees_order("waiting")
    await payer.sees_truth(UNTOUCHED)
    await payer.open_form()
    await payer.pay()
    await payer.sees("approved")
    await payer.sees_truth(PAID_ONCE)


async def test_reload_after_payment(payer: Payer) -> None:
    await payer.buy()
    await payer.pay()
    for _ in range(2):
        await payer.page.reload()
        await payer.sees("approved")
    await payer.sees_truth(PAID_ONCE)


async def test_back_after_payment(payer: Payer) -> None:
    await payer.buy()
    form = payer.page.url
    await payer.pay()
    await payer.sees("approved")
    await payer.return_to_shop()
    await payer.sees_order("paid")
    await payer.page.go_back()
    assert payer.page.url == form
    await payer.sees("approved")
    assert await payer.page.locator("#card").count() == 0
    await payer.sees_truth(PAID_ONCE)


async def test_paid_order_is_not_paid_again(payer: Payer) -> None:
    await payer.order()
    late = await payer.open_tab()  # the shop's page as it was before the payment, its token and all
    await payer.open_form()
    stale = await payer.open_tab()  # the card form as it was before the payment
    await payer.pay()
    await payer.sees("approved")

    await stale.pay()
    await stale.sees("approved")
    await late.page.locator("#pay").click()
    await late.sees("paid")
    assert await late.page.locator("#card").count() == 0
    await late.return_to_shop()
    await late.sees_order("paid")
    await payer.sees_truth(PAID_ONCE)


async def test_double_click(payer: Payer) -> None:
    await payer.buy()
    await payer.type_card()
    await payer.page.locator("form[data-guard] button").dblclick()
    await payer.sees("approved")
    assert len(card_posts(payer)) == 1
    await payer.sees_truth(PAID_ONCE)


async def test_enter_again_and_again(payer: Payer) -> None:
    await payer.buy()
    await payer.type_card()
    await payer.page.evaluate(
        "() => { for (let i = 0; i < 5; i++) document.querySelector('form[data-guard] button').click() }"
    )
    await payer.sees("approved")
    assert len(card_posts(payer)) == 1
    await payer.sees_truth(PAID_ONCE)


async def test_form_sent_again(payer: Payer) -> None:
    """What a browser does when a payer confirms that the form be sent again."""
    await payer.buy()
    await payer.pay()
    await payer.sees("approved")
    (post,) = card_posts(payer)
    answers = await asyncio.gather(
        *(
            payer.page.context.request.post(
                payer.form_url,
                data=post.post_data or "",
                headers={"content-type": "application/x-www-form-urlencoded", "origin": payer.demo.url},
                max_redirects=0,
            )
            for _ in range(5)
        )
    )
    back_to_page = (303, payer.form_url.removeprefix(payer.demo.url))
    assert [(answer.status, answer.headers["location"]) for answer in answers] == [back_to_page] * 5
    await payer.sees_truth(PAID_ONCE)


async def test_returns_without_a_click(payer: Payer) -> None:
    await payer.order()
    await pay_with(payer, autoBackLink=True)
    await payer.sees("form")
    form_url = payer.page.url
    await payer.pay()
    await payer.sees_order("paid")
    await payer.sees_truth(PAID_ONCE)
    await payer.page.goto(form_url)  # whoever comes back to it is not sent away again
    await payer.sees("approved")
    await payer.page.locator(".languages [lang=kk]").click()
    await expect(payer.page.locator("h1")).to_have_text("Төлем өтті")
    await payer.page.wait_for_load_state("networkidle")
    await payer.sees("approved")
    await payer.return_to_shop()
    await payer.sees_order("paid")


async def test_back_after_leaving_stays_on_the_page(payer: Payer) -> None:
    """Somebody who goes back wants to see the page, and is not sent away again."""
    await payer.buy()
    await payer.leave()
    await payer.sees_order("declined")
    await payer.page.go_back()
    await payer.sees("failed")
    await payer.page.reload()
    await payer.page.wait_for_load_state("networkidle")
    await payer.sees("failed")


async def test_back_without_javascript_does_not_lead_away_for_ever(payer: Payer, make_payer: MakePayer) -> None:
    await payer.order()
    await pay_with(payer, autoBackLink=True)
    await payer.sees("form")
    plain = await make_payer(java_script_enabled=False)
    plain.invoice_id = payer.invoice_id
    await plain.page.goto(payer.page.url)
    await plain.pay()
    await plain.sees_order("paid")
    await plain.page.goto(payer.page.url)
    await plain.sees("approved")
    await plain.page.wait_for_load_state("networkidle")
    await plain.sees("approved")


async def test_link_that_is_no_address_is_refused(payer: Payer) -> None:
    await payer.order()
    await pay_with(payer, backLink="javascript:document.title='taken'")
    await payer.sees("invalid")
    await expect(payer.page.locator("details")).to_contain_text("backLink must begin with https:// or http://")
    payer.witness.forgive("400")
    await payer.sees_truth(UNTOUCHED)


@pytest.mark.parametrize(
    ("number", "told"),
    (
        (FOREIGN_CARD, "This is a sandbox: only its test cards work, never a real one"),
        ("4405 6397 0401 5O96", "A card number has digits only"),
        ("4405 6397 0401 5097", "There is a typing mistake in the card number"),
    ),
)
async def test_number_that_cannot_be_charged(payer: Payer, number: str, told: str) -> None:
    await payer.buy()
    await payer.pay(number)
    await expect(payer.page.locator("#cc-number-error")).to_contain_text(told)
    await expect(payer.page.locator("#cc-number")).to_be_focused()
    payer.witness.forgive("422", is_certain=number == FOREIGN_CARD)  # the others are not even sent
    assert await typed(payer.page) == [number, "12/30", "123", "AIGERIM SEIT"]
    await payer.sees_truth(UNTOUCHED)
    await payer.pay(APPROVED_CARD.replace(" ", "-"))
    await payer.sees("approved")
    await payer.sees_truth(PAID_ONCE)


async def typed(page: Page) -> list[str]:
    """What stands in the form's fields."""
    return [await page.locator(f"[name=cc-{token}]").input_value() for token in ("number", "exp", "csc", "name")]


async def test_people_do_not_see_each_other(make_payer: MakePayer) -> None:
    first, second = await make_payer(), await make_payer(locale="ru-RU")
    await first.buy()
    await second.buy(good=1)
    await first.pay()
    await second.pay(DECLINED_CARD)
    await first.sees("approved")
    await second.sees("declined")
    await first.sees_truth(PAID_ONCE)
    await second.sees_truth(Truth("waiting", "open", ["declined"], ["purchase declined"], ["purchase declined"], []))
