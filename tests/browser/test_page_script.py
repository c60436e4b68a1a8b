"""page.js in a real browser: typing a card, what it says of mistakes, sending once, changing the language, running out
of time, losing the connection. Routes stand for the gateway."""

import asyncio
import re
import time
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs

import pytest
import pytest_asyncio
from msgspec.structs import replace
from playwright.async_api import Locator, Page, Route, expect

from tolem.domain.card import CardField, CardProblem, InvalidCard, parse_card
from tolem.flows.rounds import PageState
from tolem.i18n.reasons import PROBLEM_TEXTS
from tolem.i18n.translator import load_translator
from tolem.web.assets import static_files
from tolem.web.card_form import BUSY, PAUSED
from tolem.web.headers import security_headers
from tolem.web.pages import Pages
from tolem.web.view import PageView

ORIGIN = "http://tolem.localhost"
ADDRESS = ORIGIN + "/pay/sample"
TRANSLATOR = load_translator()
SANDBOX, PRODUCTION = (Pages(TRANSLATOR, sandbox=is_sandbox) for is_sandbox in (True, False))
NOW = datetime(2026, 11, 24, 7, 5, tzinfo=UTC)
VIEW = PageView(
    language="en",
    shop_name="Bookshop",
    amount=123_450,
    currency="KZT",
    invoice_id="000042",
    attempts_left=3,
    page_path="/pay/sample",
    now=NOW,
    deadline_at=NOW + timedelta(minutes=20),
    extension_minutes=10,
)
CHECKING = replace(VIEW, state=PageState.CHECKING)
APPROVED = replace(VIEW, state=PageState.APPROVED, masked_pan="440564...5096", brand="VISA", rrn="632807123456", at=NOW)
VISA = "4405639704015096"


class Gateway:
    """Answers the page's requests; the test says with what."""

    def __init__(self) -> None:
        self.pages = SANDBOX
        self.view = VIEW
        """What the page shows when it is opened, and what /state tells."""
        self.later: list[PageView] = []
        """What it becomes, one more with each question for the state."""
        self.answer: tuple[int, bytes] | None = (303, b"")
        """To the card form; None: the connection breaks."""
        self.is_away = False
        """True: nothing is answered at all."""
        self.hold: asyncio.Event | None = None
        """The card form's answer waits for it."""
        self.posts: list[tuple[str, str]] = []
        self.arrived = asyncio.Event()
        """The first of them is here."""
        self._shown_at = time.monotonic()

    async def handle(self, route: Route) -> None:
        path = route.request.url.removeprefix(ORIGIN)
        headers = {name.decode(): value.decode() for name, value in security_headers()}
        headers["content-type"] = "text/html; charset=utf-8"
        if asset := static_files().get(path):
            headers = {name.decode(): value.decode() for name, value in asset.headers(gzipped=False)}
            await route.fulfill(body=asset.body, headers=headers)
        elif self.is_away:
            await route.abort("internetdisconnected")
        elif route.request.method == "POST":
            await self._take(route, path, headers)
        elif path.endswith("/state"):
            if self.later:
                self.view = self.later.pop(0)
            await route.fulfill(
                json={
                    "state": self.view.state,
                    "version": self.view.version,
                    "seconds_left": self._seconds_left(),
                }
            )
        else:
            self._shown_at = time.monotonic()
            await route.fulfill(body=self.pages.page(self.view), headers=headers)

    def _seconds_left(self) -> int | None:
        left = self.view.seconds_left
        return left if left is None else max(0, left - round(time.monotonic() - self._shown_at))

    async def _take(self, route: Route, path: str, headers: dict[str, str]) -> None:
        body = route.request.post_data or ""
        self.posts.append((path, body))
        self.arrived.set()
        if path.endswith("/language"):
            self.view = replace(self.view, language=parse_qs(body)["language"][0])
        elif path.endswith("/extend"):
            self.view = replace(self.view, deadline_at=NOW + timedelta(minutes=30), extension_minutes=0)
        else:
            if self.hold:
                await self.hold.wait()
            if self.answer is None:
                await route.abort("connectionreset")
                return
            status, page = self.answer
            location = {"location": "/pay/sample"} if status == 303 else {}
            await route.fulfill(status=status, body=page, headers=headers | location)
            return
        await route.fulfill(body=self.pages.page(self.view), headers=headers)


@pytest_asyncio.fixture(loop_scope="session")
async def gateway(page: Page) -> Gateway:
    made = Gateway()
    await page.route("**/*", made.handle)
    return made


async def type_into(field: Locator, text: str) -> str:
    await field.fill("")
    await field.press_sequentially(text)
    return await field.input_value()


async def caret(field: Locator) -> int:
    position: int = await field.evaluate("field => field.selectionStart")
    return position


async def fill_card(page: Page, number: str = VISA) -> None:
    for field, text in (("number", number), ("exp", "12/30"), ("csc", "321"), ("name", "AIGERIM SEIT")):
        await page.locator(f"#cc-{field}").fill(text)


async def press_pay(page: Page) -> None:
    await page.locator("#card .primary").click()


def error_of(page: Page, field: str) -> Locator:
    return page.locator(f"#{field}-error")


# ---- Typing


async def test_card_number_is_grouped_and_recognized(page: Page, gateway: Gateway) -> None:
    await page.goto(ADDRESS)
    number, code, hint = page.locator("#cc-number"), page.locator("#cc-csc"), page.locator("#cc-csc-hint")
    assert await type_into(number, VISA) == "4405 6397 0401 5096"
    assert await page.locator(".brands li:not(.other)").get_attribute("data-brand") == "VISA"
    assert await page.locator("#brand").inner_text() == "Visa"
    assert await type_into(number, "377514500004820") == "3775 145000 04820"
    assert await hint.inner_text() == "4 digits on the front"
    assert await type_into(code, " 48207") == "4820"
    await code.fill("CVC 4820")
    assert await code.input_value() == "4820"
    for typed, shown, brand in (
        ("30569309025904", "3056 930902 5904", "Diners Club"),
        ("9398000000000001", "9398 0000 0000 0001", "AltyN"),
        ("6200000000000000003", "6200 0000 0000 0000 003", "UnionPay"),
        ("2200000000000004", "2200 0000 0000 0004", "Мир"),
        ("2", "2", ""),
    ):
        assert await type_into(number, typed) == shown
        assert await page.locator("#brand").inner_text() == brand
    await number.fill("4405-6397-0401-5096")
    assert await number.input_value() == "4405 6397 0401 5096"
    await number.fill("Card: 4405 6397 0401 5096 exp 1/2028 cvc 321")
    assert await number.input_value() == "4405 6397 0401 5096"
    assert await page.locator("#cc-exp").input_value() == "01/28"
    await number.fill("\u200e4405\u200b6397 0401 5096\ufeff")
    assert await number.input_value() == "4405 6397 0401 5096"
    assert await type_into(number, "44x5") == "44x5"  # what is wrong with it is said, not mended


async def test_caret_stays_where_the_payer_works(page: Page, gateway: Gateway) -> None:
    await page.goto(ADDRESS)
    number = page.locator("#cc-number")
    await type_into(number, VISA)
    await number.evaluate("field => field.setSelectionRange(5, 5)")
    await number.press("Backspace")  # over the space: the digit before it is meant
    assert (await number.input_value(), await caret(number)) == ("4406 3970 4015 096", 3)
    await number.press_sequentially("5")
    assert (await number.input_value(), await caret(number)) == ("4405 6397 0401 5096", 4)
    await number.press("Delete")  # before the space: the digit behind it is meant
    assert (await number.input_value(), await caret(number)) == ("4405 3970 4015 096", 4)
    await number.press_sequentially("6")
    assert (await number.input_value(), await caret(number)) == ("4405 6397 0401 5096", 6)


@pytest.mark.parametrize(
    ("typed", "shown"),
    (("0128", "01/28"), ("1/28", "01/28"), ("928", "09/28"), ("01/2028", "01/28"), ("012028", "01/28"),
     ("12 30", "12/30"), ("1230", "12/30"), ("128", "12/8"), ("1328", "1328"), ("13/27", "13/27"),
     ("01–27", "01/27"), ("1", "1")),
)  # fmt: skip
async def test_expiry_date_gets_its_slash(page: Page, gateway: Gateway, typed: str, shown: str) -> None:
    await page.goto(ADDRESS)
    expiry = page.locator("#cc-exp")
    assert await type_into(expiry, typed) == shown
    await expiry.fill("01/2028")
    for _ in range(3):
        await expiry.press("Backspace")
    assert await expiry.input_value() == "01"  # the slash does not come back while deleting


@pytest.mark.parametrize(
    "pasted",
    ("1/28", "01 / 2028", "2028-01", "01.28", " 012028 ", "01-2028", "01–28", "０１／２８", "exp 1/28 г."),
)
async def test_a_pasted_expiry_date_is_understood(page: Page, gateway: Gateway, pasted: str) -> None:
    await page.goto(ADDRESS)
    expiry = page.locator("#cc-exp")
    await expiry.focus()
    await page.keyboard.insert_text(pasted)
    await page.keyboard.press("Tab")
    assert await expiry.input_value() == "01/28"
    assert await error_of(page, "cc-exp").inner_text() == ""


# ---- Mistakes

NUMBERS = (
    "", VISA, "4405 6397 0401 5097", "4405", "44056397040150961234", "4405 63O7 0401 5096", "9999999999999995",
    "377514500004820", "30569309025904", "9398000000000001", "3530111333300000", "6011111111111117", "222100000000",
    "\u200e4405\u20606397\u00a00401–5096", "٤٤٠٥", "0000000000000000", "4000000000006", "5010000000009",
    "４４０５６３９７０４０１５０９６", "карта 4405-6397-0401-5096, 12/30 321", VISA + "; 5100000000000008",
    "12x 4405639704015097",
)  # fmt: skip
EXPIRIES = (
    "", "01/30", "1/30", "0130", "13/30", "00/30", "01/2030", "012030", "2030-01", "01/1930", "01/3", "ab/cd",
    "10/26", "11/26", "2026-10", "12 - 30", "1.30", "20/30", "01–30", "２０/３０", "１/３０", "exp 01/30 г.",
    "130", "030", "12030", "1 30", "12/7", "٠1/30", "01/30 321",
)  # fmt: skip
CODES = ("", "12", "123", "1234", "12a", "12345", " 321 ", "١٢٣", "３２１")
NAMES = ("", "ARMAN ALI", "  Ann-Marie  O'Neil Jr. ", "АРМАН", "A" * 46, "J. R. <b>", "1 BC", "A/B")


async def test_the_script_judges_as_the_server_does(page: Page, gateway: Gateway) -> None:
    gateway.pages = PRODUCTION
    await page.goto(ADDRESS)
    good = {"cc-number": VISA, "cc-exp": "01/30", "cc-csc": "321", "cc-name": "ARMAN ALI"}
    cases = [good | {field: text} for field, texts in zip(good, (NUMBERS, EXPIRIES, CODES, NAMES), strict=True)
             for text in texts]  # fmt: skip
    cases += [good | {"cc-number": "377514500004820", "cc-csc": code} for code in CODES]
    wrong = [case for case in cases if judge(case)]
    assert 30 < len(wrong) < len(cases)
    told = await page.evaluate(
        """cases => cases.map((typed) => {
            for (const [id, text] of Object.entries(typed)) document.getElementById(id).value = text;
            document.getElementById("card").requestSubmit();
            const wrong = [...document.querySelectorAll("[data-problem]")];
            return Object.fromEntries(wrong.map((field) => [field.id, field.dataset.problem]));
        })""",
        wrong,
    )
    for case, shown in zip(wrong, told, strict=True):
        assert shown == judge(case), case
    assert gateway.posts == []
    gateway.answer = None
    for case in cases:
        if not judge(case):
            await page.goto(ADDRESS)
            gateway.posts.clear()
            for field, text in case.items():
                await page.locator(f"#{field}").evaluate("(field, text) => { field.value = text }", text)
            await press_pay(page)
            await expect(page.get_by_role("heading", level=1)).to_have_text("The connection was lost")
            assert len(gateway.posts) == 1, case


def judge(case: dict[str, str]) -> dict[str, str]:
    """The server's judgement: the form's, and the acquirer's of the date."""
    try:
        card = parse_card(*(case[field] for field in CardField))
    except InvalidCard as invalid:
        return {field.value: problem.value for field, problem in invalid.problems.items()}
    return {CardField.EXPIRY.value: CardProblem.EXPIRY_PAST.value} if card.expiry.is_past(NOW.date()) else {}


async def test_a_press_is_not_lost_when_the_field_it_leaves_is_wrong(page: Page, gateway: Gateway) -> None:
    gateway.view = replace(VIEW, language="ru", offers_saving=True)
    gateway.answer = (422, SANDBOX.form(gateway.view))
    name, error, save = page.locator("#cc-name"), error_of(page, "cc-name"), page.locator("#save-card")
    for width in (360, 1280):
        await page.set_viewport_size({"width": width, "height": 900})
        await page.goto(ADDRESS)
        await fill_card(page)
        await name.fill("АЙГЕРИМ")
        await press_slowly(page, save, name)  # what is wrong would push it down
        await expect(save).to_be_checked()
        await expect(error).to_contain_text("только буквы от A до Z")
        await name.evaluate("field => { field.value = 'AIGERIM' }")
        await name.focus()
        async with page.expect_request(lambda request: request.method == "POST"):
            await press_slowly(page, page.locator("#card .primary"), name)  # and once it is mended, pulls it up
        await expect(error).to_have_text("")


async def press_slowly(page: Page, target: Locator, left: Locator) -> None:
    """Down and up near the upper edge of where it stands at first, as a hand does it; `left` loses the focus by it."""
    await target.scroll_into_view_if_needed()
    box = await target.bounding_box()
    assert box is not None
    await page.mouse.move(box["x"] + 12, box["y"] + 4)
    await page.mouse.down()
    await expect(left).not_to_be_focused()
    await page.evaluate("() => new Promise(requestAnimationFrame)")
    await page.mouse.up()


@pytest.mark.parametrize("language", TRANSLATOR.languages)
async def test_a_mistake_is_said_when_its_field_is_left_in_the_servers_words(
    page: Page, gateway: Gateway, language: str
) -> None:
    gateway.view = replace(VIEW, language=language)
    await page.goto(ADDRESS)
    number, error = page.locator("#cc-number"), error_of(page, "cc-number")
    await number.press_sequentially(VISA[:-1] + "7")
    await expect(error).to_have_text("")  # not while somebody types
    await number.press("Tab")
    await expect(error).to_contain_text(TRANSLATOR.text(language, PROBLEM_TEXTS[CardProblem.NUMBER_CHECK]))
    assert await error.get_attribute("aria-live") == "polite"
    assert "cc-number-error" in (await number.get_attribute("aria-describedby") or "")
    await expect(number).to_have_attribute("aria-invalid", "true")
    await number.press("End")
    await number.press("Backspace")
    await number.press_sequentially("6")
    await expect(error).to_have_text("")
    assert await number.get_attribute("aria-invalid") is None
    past = TRANSLATOR.text(language, PROBLEM_TEXTS[CardProblem.EXPIRY_PAST])
    for typed, told in (("10/26", past), ("11/26", ""), ("09/20", "")):  # by the page's clock; the last one is printed
        await type_into(page.locator("#cc-exp"), typed)
        await page.keyboard.press("Tab")
        await expect(error_of(page, "cc-exp")).to_contain_text(told)
        assert (await page.locator("#cc-exp").get_attribute("aria-invalid") is None) == (not told)
    await page.locator("#cc-exp").fill("")
    await page.locator("#cc-name").focus()
    await page.locator("#cc-exp").focus()
    await expect(error_of(page, "cc-name")).to_have_text("")  # who only passes by has made no mistake
    await press_pay(page)
    await expect(page.locator("#cc-exp")).to_be_focused()
    await expect(error_of(page, "cc-name")).to_contain_text(
        TRANSLATOR.text(language, PROBLEM_TEXTS[CardProblem.NAME_MISSING])
    )
    assert gateway.posts == []


async def test_the_servers_mistakes_stand_beside_what_was_typed(page: Page, gateway: Gateway) -> None:
    problems = {CardField.NUMBER: CardProblem.NUMBER_NOT_SANDBOX}
    gateway.answer = (422, SANDBOX.form(VIEW, problems))
    await page.goto(ADDRESS)
    await fill_card(page)
    await press_pay(page)
    await expect(error_of(page, "cc-number")).to_contain_text("only its test cards work")
    await expect(page.locator("#cc-number")).to_be_focused()
    assert await page.locator("#cc-number").input_value() == "4405 6397 0401 5096"
    assert await page.locator("#cc-csc").input_value() == "321"
    gateway.answer = (503, SANDBOX.form(VIEW, notice=BUSY))
    await page.locator("#cc-number").fill("440043000000001" + "2")
    await fill_card(page)
    await press_pay(page)
    await expect(page.locator("#notices")).to_contain_text("Nothing was sent to the bank")
    assert await page.locator("#cc-number").input_value() == "4405 6397 0401 5096"
    await expect(error_of(page, "cc-number")).to_have_text("")
    gateway.answer, gateway.view = (303, b""), APPROVED
    await press_pay(page)
    await page.locator("main[data-state=approved]").wait_for()
    assert len(gateway.posts) == 3


# ---- Sending


async def test_a_form_is_sent_once(page: Page, gateway: Gateway) -> None:
    gateway.hold = asyncio.Event()
    await page.goto(ADDRESS)
    await page.locator("summary").click()
    await page.locator(".fill").first.click()
    pay = page.locator("form[data-guard] button")
    await pay.dblclick()
    await page.locator(".leave button").click()
    assert await pay.inner_text() == "Sending to the bank…"
    assert await pay.get_attribute("aria-disabled") is not None
    await gateway.arrived.wait()
    assert len(gateway.posts) == 1
    assert "cc-number=4405+6397+0401+5096&cc-exp=12%2F" in gateway.posts[0][1]
    gateway.view = APPROVED
    gateway.hold.set()
    await page.locator("main[data-state=approved]").wait_for()


async def test_a_lost_connection_is_told_honestly_and_the_outcome_found(page: Page, gateway: Gateway) -> None:
    gateway.answer = None
    await page.goto(ADDRESS)
    await fill_card(page)
    gateway.hold = asyncio.Event()
    await press_pay(page)
    await gateway.arrived.wait()
    gateway.is_away = True
    gateway.hold.set()
    await expect(page.get_by_role("heading", level=1)).to_have_text("The connection was lost")
    await expect(page.get_by_role("alert")).to_contain_text("may have been charged")
    await expect(page.locator("main")).to_have_attribute("data-state", "checking")
    gateway.is_away, gateway.view, gateway.later = False, CHECKING, [CHECKING, APPROVED]
    await page.locator("main[data-state=approved]").wait_for()
    assert len(gateway.posts) == 1


async def test_what_did_not_arrive_is_never_sent_again_by_itself(page: Page, gateway: Gateway) -> None:
    gateway.answer = None
    await page.goto(ADDRESS)
    await fill_card(page)
    await press_pay(page)
    await expect(page.locator("#notices")).to_contain_text("have not reached us so far", timeout=30_000)
    assert len(gateway.posts) == 1
    assert await page.locator("#cc-number").input_value() == "4405 6397 0401 5096"
    assert await page.locator("#cc-csc").input_value() == "321"
    await expect(page.locator("#card .primary")).to_be_focused()
    await expect(page.locator("#card .primary")).to_have_text("Pay 1\u00a0234,50\u00a0₸")
    gateway.answer, gateway.view = (303, b""), APPROVED
    await page.keyboard.press("Enter")
    await page.locator("main[data-state=approved]").wait_for()
    assert len(gateway.posts) == 2


async def test_a_form_that_arrives_late_takes_the_page_along(page: Page, gateway: Gateway) -> None:
    gateway.answer = None
    await page.goto(ADDRESS)
    await fill_card(page)
    await press_pay(page)
    notices = page.locator("#notices")
    await expect(notices).to_contain_text("If they still arrive, this page shows it.", timeout=30_000)
    assert "nothing was charged" not in await notices.inner_text()
    await page.locator("#cc-csc").fill("32")
    for _ in range(2):  # it asks, and nothing has changed: what is typed stays
        async with page.expect_response("**/state", timeout=30_000):
            pass
    assert await page.locator("#cc-csc").input_value() == "32"
    assert await page.locator("html").get_attribute("data-late") == "", "frame.js: the card may have been sent"
    await expect(notices).to_contain_text("never charged twice")
    gateway.view = CHECKING  # a proxy has delivered what it held
    await page.locator("main[data-state=checking]").wait_for()
    gateway.view = APPROVED
    await page.locator("main[data-state=approved]").wait_for()
    assert len(gateway.posts) == 1


async def test_another_card_that_is_being_confirmed_is_told_of(page: Page, gateway: Gateway) -> None:
    gateway.answer = (409, b"")
    await page.goto(ADDRESS)
    await fill_card(page)
    async with page.expect_request(ADDRESS + "?other"):
        await press_pay(page)
    await page.wait_for_url(ADDRESS)  # told once: whoever opens it again sees the page as it is
    assert len(gateway.posts) == 1


async def test_a_fault_behind_the_gateway_is_no_answer(page: Page, gateway: Gateway) -> None:
    gateway.answer = (502, b"<html><body><h1>Bad gateway</h1></body></html>")
    await page.goto(ADDRESS)
    await fill_card(page)
    gateway.view = replace(CHECKING, is_slow=True)
    await press_pay(page)
    await expect(page.locator("h1")).to_have_text("The bank takes longer than usual")
    assert len(gateway.posts) == 1


async def test_checking_opens_the_outcome_by_itself(page: Page, gateway: Gateway) -> None:
    gateway.view, gateway.later = CHECKING, [CHECKING, replace(CHECKING, is_slow=True)]
    await page.goto(ADDRESS)
    await expect(page.locator("h1")).to_have_text("The bank takes longer than usual")
    gateway.later = [APPROVED]
    await page.locator("main[data-state=approved]").wait_for()


async def test_a_page_that_is_looked_at_again_shows_the_truth(page: Page, gateway: Gateway) -> None:
    await page.goto(ADDRESS)
    await page.locator("#cc-number").fill("4405")
    await page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    await page.wait_for_load_state("networkidle")
    assert await page.locator("#cc-number").input_value() == "4405"
    gateway.view = APPROVED  # paid in another tab
    await page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    await page.locator("main[data-state=approved]").wait_for()


async def test_maintenance_loses_nothing_that_is_typed(page: Page, gateway: Gateway) -> None:
    await page.goto(ADDRESS)
    await fill_card(page)
    gateway.view = replace(VIEW, state=PageState.MAINTENANCE)
    async with page.expect_response("**/state"):
        await page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    gateway.answer = (503, SANDBOX.form(VIEW, notice=PAUSED))
    await press_pay(page)
    await expect(page.locator("#notices")).to_contain_text("Payments pause for maintenance. Nothing was sent")
    async with page.expect_response("**/state"):
        await page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    assert await page.locator("#cc-number").input_value() == "4405 6397 0401 5096"
    gateway.answer, gateway.view = (303, b""), APPROVED
    await press_pay(page)
    await page.locator("main[data-state=approved]").wait_for()
    assert len(gateway.posts) == 2


async def test_a_page_in_maintenance_opens_by_itself_once_it_ends(page: Page, gateway: Gateway) -> None:
    gateway.view, gateway.later = replace(VIEW, state=PageState.MAINTENANCE), [VIEW]
    await page.goto(ADDRESS)
    await expect(page.locator("h1")).to_have_text("The payment page is under maintenance")
    await page.locator("main[data-state=form]").wait_for()


async def test_a_busy_gateways_page_opens_once_it_answers(page: Page, gateway: Gateway) -> None:
    busy = SANDBOX.busy("en", "/pay/sample").decode()
    await page.route(ADDRESS, lambda route: route.fulfill(status=503, body=busy, content_type="text/html"), times=1)
    await page.goto(ADDRESS)
    await expect(page.locator("h1")).to_have_text("The payment page is busy")
    await page.locator("main[data-state=form]").wait_for()


# ---- Language and time


async def test_another_language_loses_nothing(page: Page, gateway: Gateway) -> None:
    await page.goto(ADDRESS)
    await page.locator("#cc-exp").fill("13/30")
    await page.locator("#cc-csc").fill("321")
    await page.locator("#cc-name").fill("AIGERIM")
    await page.locator("#cc-number").press_sequentially("44056397")
    await page.locator("#cc-number").evaluate("field => field.setSelectionRange(2, 2)")
    for language, title, error in (
        ("kk", "Карта нөмірі", "Бұл жарамдылық мерзіміне ұқсамайды: 09/28 сияқты енгізіңіз"),
        ("ru", "Номер карты", "Это не похоже на срок действия: введите его так: 09/28"),
    ):
        await page.locator(f".languages [lang={language}]").click()
        await expect(page.locator("label[for=cc-number]")).to_contain_text(title)
        await expect(page.locator("html")).to_have_attribute("lang", language)
        await expect(error_of(page, "cc-exp")).to_contain_text(error)
        await expect(page.locator("[aria-current]")).to_be_focused()
        assert await page.locator("#cc-number").input_value() == "4405 6397"
        assert await caret(page.locator("#cc-number")) == 2
        assert await page.locator("#cc-exp").input_value() == "13/30"
        assert await page.locator("#cc-csc").input_value() == "321"
        assert await page.locator("#cc-name").input_value() == "AIGERIM"
        assert await page.locator("#brand").inner_text() == "Visa"
    assert "Оплата" in await page.title()
    assert [body for _, body in gateway.posts] == ["language=kk", "language=ru"]  # and nothing of the card
    await page.locator("#cc-number").press("End")
    await page.locator("#cc-number").press_sequentially("04015096")
    await page.locator("#cc-exp").fill("12/30")
    gateway.view = APPROVED
    await press_pay(page)
    await page.locator("main[data-state=approved]").wait_for()
    assert "cc-number=4405+6397+0401+5096&cc-exp=12%2F30&cc-csc=321&cc-name=AIGERIM" in gateway.posts[-1][1]


async def test_another_language_without_a_connection_changes_nothing(page: Page, gateway: Gateway) -> None:
    await page.goto(ADDRESS)
    await fill_card(page)
    gateway.is_away = True
    await page.locator(".languages [lang=kk]").click()
    await expect(page.locator("#notices")).to_contain_text("Check the connection")
    assert await page.locator("#cc-number").input_value() == "4405 6397 0401 5096"


async def test_the_deadline_is_announced_and_moved_once(page: Page, gateway: Gateway) -> None:
    gateway.view = replace(VIEW, deadline_at=NOW + timedelta(seconds=123))
    await page.goto(ADDRESS)
    hurry = page.locator(".hurry")
    await expect(hurry).to_be_hidden()
    await page.locator("#cc-number").fill("4405 6397")
    await expect(hurry).to_be_visible(timeout=20_000)
    await expect(hurry).to_contain_text("The time to pay ends at 12:07, Astana time.")
    await expect(hurry.locator("b")).to_have_text(re.compile(r"1:5\d|2:00"))
    await page.get_by_role("button", name="Add 10 minutes").click()
    await expect(hurry).to_be_hidden()
    await expect(page.locator("#notices")).to_contain_text("The time to pay ends at 12:35, Astana time.")
    assert await page.locator("#cc-number").input_value() == "4405 6397"
    assert await page.get_by_role("button", name="Add 10 minutes").count() == 0
    assert [path for path, _ in gateway.posts] == ["/pay/sample/extend"]


async def test_a_deadline_that_another_tab_moved_is_believed(page: Page, gateway: Gateway) -> None:
    gateway.view = replace(VIEW, deadline_at=NOW + timedelta(seconds=121))
    await page.goto(ADDRESS)
    gateway.view = replace(VIEW, deadline_at=NOW + timedelta(minutes=12), extension_minutes=0)
    async with page.expect_response("**/state"):
        pass
    await expect(page.locator(".hurry b")).to_have_text(re.compile(r"1[12]:\d\d"))
    await expect(page.locator(".hurry")).to_be_hidden()


async def test_the_end_of_the_time_is_shown_at_once(page: Page, gateway: Gateway) -> None:
    gateway.view = replace(VIEW, deadline_at=NOW + timedelta(seconds=2))
    await page.goto(ADDRESS)
    gateway.view = replace(VIEW, state=PageState.EXPIRED)
    await page.locator("main[data-state=expired]").wait_for()


async def test_receipt_is_copied_and_printed(page: Page, gateway: Gateway) -> None:
    await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    gateway.view = APPROVED
    await page.goto(ADDRESS)
    await page.evaluate("window.print = () => { document.title = 'printed' }")
    await page.get_by_role("button", name="Copy the receipt").click()
    await expect(page.get_by_role("button", name="Copied")).to_be_visible()
    assert (await page.evaluate("navigator.clipboard.readText()")).split("\n") == [
        "Sandbox no real money moves here",
        "Payment approved",
        "1\u00a0234,50\u00a0₸",
        "Shop: Bookshop",
        "Order: 000042",
        "Card: Visa •••• 5096",
        "Time: 24 November 2026, 12:05, Astana time",
        "Reference: 632807123456",
    ]
    await page.emulate_media(media="print")
    await expect(page.locator(".ribbon")).to_be_visible()
    await expect(page.locator(".languages")).to_be_hidden()
    await page.emulate_media(media="screen")
    await page.get_by_role("button", name="Print").click()
    assert await page.title() == "printed"

    await page.reload()
    await page.evaluate("""() => {
        navigator.clipboard.writeText = () => Promise.reject(new DOMException("", "NotAllowedError"));
    }""")
    await page.get_by_role("button", name="Copy the receipt").click()
    await expect(page.get_by_role("button", name="Selected: copy it yourself")).to_be_visible()
    selected = await page.evaluate("getSelection().toString()")
    assert all(words in selected for words in ("Payment approved", "234,50", "632807123456"))
    assert "Print" not in selected
