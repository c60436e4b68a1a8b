"""page.js in a real browser: typing a card, sending it once, waiting for the outcome. Routes stand for the gateway."""

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
import pytest_asyncio
from msgspec.structs import replace
from playwright.async_api import Locator, Page, Route

from tolem.flows.rounds import PageState
from tolem.i18n.translator import load_translator
from tolem.web.assets import static_files
from tolem.web.headers import security_headers
from tolem.web.pages import Pages
from tolem.web.view import PageView

ORIGIN = "http://tolem.localhost"
PAGES = Pages(load_translator(), sandbox=True)
VIEW = PageView(
    language="en",
    shop_name="Bookshop",
    amount=123_450,
    currency="KZT",
    invoice_id="000042",
    page_path="/pay/sample",
    deadline_at=datetime(2026, 11, 24, 7, 5, tzinfo=UTC),
)


class Gateway:
    """Answers the page's requests; the test says with what."""

    def __init__(self) -> None:
        self.body = PAGES.form(VIEW)
        self.states: Iterator[str] = iter(())
        self.posts: list[str] = []

    async def answer(self, route: Route) -> None:
        path = route.request.url.removeprefix(ORIGIN)
        if asset := static_files().get(path):
            headers = {name.decode(): value.decode() for name, value in asset.headers(gzipped=False)}
            await route.fulfill(body=asset.body, headers=headers)
        elif route.request.method == "POST":
            self.posts.append(route.request.post_data or "")
            await route.fulfill(status=204)  # the browser stays on the page, as while an answer is awaited
        elif path.endswith("/state"):
            await route.fulfill(json={"state": next(self.states)})
        else:
            headers = {name.decode(): value.decode() for name, value in security_headers()}
            await route.fulfill(body=self.body, headers={**headers, "content-type": "text/html; charset=utf-8"})


@pytest_asyncio.fixture(loop_scope="session")
async def gateway(page: Page) -> Gateway:
    made = Gateway()
    await page.route("**/*", made.answer)
    return made


async def type_into(field: Locator, text: str) -> str:
    await field.fill("")
    await field.press_sequentially(text)
    return await field.input_value()


async def caret(field: Locator) -> int:
    position: int = await field.evaluate("field => field.selectionStart")
    return position


async def test_card_number_is_grouped_and_recognized(page: Page, gateway: Gateway) -> None:
    await page.goto(ORIGIN + "/pay/sample")
    number, code, hint = page.locator("#cc-number"), page.locator("#cc-csc"), page.locator("#cc-csc-hint")
    assert await type_into(number, "4405639704015096") == "4405 6397 0401 5096"
    assert await page.locator(".brands li:not(.other)").get_attribute("data-brand") == "VISA"
    assert await type_into(number, "377514500004820") == "3775 145000 04820"
    assert await hint.inner_text() == "4 digits on the front"
    assert await code.get_attribute("maxlength") == "4"
    await number.fill("4405-6397-0401-5096")
    assert await number.input_value() == "4405 6397 0401 5096"
    assert await type_into(number, "44x5") == "44x5"  # the server says what is wrong with it


async def test_caret_stays_where_the_payer_works(page: Page, gateway: Gateway) -> None:
    await page.goto(ORIGIN + "/pay/sample")
    number = page.locator("#cc-number")
    await type_into(number, "4405639704015096")
    await number.evaluate("field => field.setSelectionRange(5, 5)")
    await number.press("Backspace")  # over the space: the digit before it is meant
    assert (await number.input_value(), await caret(number)) == ("4406 3970 4015 096", 3)
    await number.press_sequentially("5")
    assert (await number.input_value(), await caret(number)) == ("4405 6397 0401 5096", 4)


@pytest.mark.parametrize(
    ("typed", "shown"),
    (("0128", "01/28"), ("1/28", "01/28"), ("928", "09/28"), ("01/2028", "01/28"), ("12 30", "12/30"), ("1", "1")),
)
async def test_expiry_date_gets_its_slash(page: Page, gateway: Gateway, typed: str, shown: str) -> None:
    await page.goto(ORIGIN + "/pay/sample")
    expiry = page.locator("#cc-exp")
    assert await type_into(expiry, typed) == shown
    await expiry.fill("01/2028")
    for _ in range(3):
        await expiry.press("Backspace")
    assert await expiry.input_value() == "01"  # the slash does not come back while deleting


async def test_a_form_is_sent_once(page: Page, gateway: Gateway) -> None:
    await page.goto(ORIGIN + "/pay/sample")
    await page.locator("summary").click()
    await page.locator(".fill").first.click()
    pay = page.locator("form[data-guard] button")
    await pay.dblclick()
    await page.locator(".leave button").click()
    assert await pay.inner_text() == "Sending to the bank…"
    assert await pay.get_attribute("aria-disabled") == "true"
    assert len(gateway.posts) == 1
    assert "cc-number=4405+6397+0401+5096&cc-exp=12%2F" in gateway.posts[0]


async def test_checking_opens_the_outcome_by_itself(page: Page, gateway: Gateway) -> None:
    gateway.body = PAGES.checking(replace(VIEW, state=PageState.CHECKING))
    gateway.states = iter(("checking", "approved"))
    await page.goto(ORIGIN + "/pay/sample")
    gateway.body = PAGES.approved(VIEW)
    await page.locator("main[data-state=approved]").wait_for()
    assert list(gateway.states) == []
