"""halyk.showPaymentWidget(): the payment page in a frame over the shop's, in the demo shop and in one of another site.

What passes between the two pages goes through exactly one pair of origins; closing asks first where something is at
stake; a payment goes on whatever becomes of the frame.
"""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Frame, FrameLocator, Route, expect

from tests.browser.conftest import MakePayer, TakeScreenshot
from tests.browser.demo import APPROVED_CARD, CHALLENGED_CARD, DECLINED_CARD, PAID_ONCE, SLOW_CARD, Demo, Truth
from tests.browser.other_shop import OtherShop
from tests.browser.payer import Payer
from tests.browser.test_library import encode, payform_requests
from tests.wire.test_lzstring import compress, utf16_units
from tolem.clock import SystemClock
from tolem.flows.administration import Administration
from tolem.ids import Ids
from tolem.sandbox.fixtures import TERMINAL_ID
from tolem.storage.open import open_store
from tolem.storage.schema import tolem_schema

LEFT = Truth("declined", "failed", [], [], [], ["failure delivered"])
UNTOUCHED = Truth("waiting", "open", [], [], [], [])
CARD_FIELDS = (("number", APPROVED_CARD), ("exp", "12/30"), ("csc", "123"), ("name", "AIGERIM SEIT"))


class Widget:
    """The frame, and the payer who looks at it."""

    def __init__(self, payer: Payer) -> None:
        self.payer = payer
        self.shop = payer.page
        self.dialog = self.shop.locator("dialog")
        self.frame: FrameLocator = self.shop.frame_locator("dialog iframe")
        self.cross = self.shop.locator("dialog > button")
        self.question = self.frame.locator("#stop")

    def document(self) -> Frame:
        """The page in the frame, to run script in."""
        (frame,) = (frame for frame in self.shop.frames if "/pay/" in frame.url)
        return frame

    async def sees(self, state: str) -> None:
        """The page in the frame shows this state, now or after a while."""
        await expect(self.frame.locator("main")).to_have_attribute("data-state", state, timeout=20_000)

    async def opens(self, state: str = "form") -> None:
        """The same, and its scripts listen: a key that is pressed before they do belongs to the browser."""
        await self.sees(state)
        main = await self.frame.locator("main").element_handle()
        frame = await main.owner_frame()
        assert frame is not None
        await frame.wait_for_load_state()

    async def type_card(self, number: str = APPROVED_CARD) -> None:
        """Fills the form."""
        for token, text in (("number", number), *CARD_FIELDS[1:]):
            await self.frame.locator(f"[name=cc-{token}]").fill(text)

    async def pay(self, number: str = APPROVED_CARD) -> None:
        """Fills the form and sends it."""
        await self.type_card(number)
        await self.frame.locator("#card .primary").click()

    async def press(self, name: str) -> None:
        """A button or link of the page in the frame, by its English words."""
        await self.frame.get_by_text(name, exact=True).click()

    async def is_gone(self) -> None:
        """The shop's page is as it was."""
        await expect(self.dialog).to_have_count(0)
        assert await self.shop.evaluate("document.documentElement.style.overflow") == ""

    async def told(self) -> list[bool]:
        """What the shop's callback was given so far."""
        answers: list[bool] = await self.shop.evaluate("answers")
        return answers

    async def is_told(self, *answers: bool) -> None:
        """The same, now or after a while; the frame is gone then."""
        await self.is_gone()
        assert await self.told() == list(answers)


async def open_demo(payer: Payer) -> Widget:
    """From the demo shop's order to the form in the frame."""
    await payer.order()
    await payer.page.locator("#pay-widget").click()
    widget = Widget(payer)
    await widget.opens()
    return widget


async def open_elsewhere(
    payer: Payer, shop: OtherShop, *, policy: str = "", head: str = "", state: str = "form", **changes: Any
) -> Widget:
    """A shop of another site; each answer of the callback is kept."""
    await payer.order()
    wish = await payer.pay_object() | changes
    call = f"halyk.showPaymentWidget({json.dumps(wish)}, result => answers.push(result.success));"
    shop.page = (
        f"<!doctype html><html lang=en><head>{head}</head><body>"
        f'<script src="{payer.demo.url}/payform/payment-api.js"></script><a href="#">before</a><button>pay</button>'
        f"<input><script>answers = []; document.querySelector('button').onclick = () => {{ {call * 2} }};</script>"
    )
    shop.headers = {"content-security-policy": policy} if policy else {}
    payer.witness.leave_out(shop.url)
    await payer.page.goto(f"{shop.url}/checkout")
    await payer.page.locator("button").click()
    widget = Widget(payer)
    if state:
        await widget.opens(state)
    return widget


@asynccontextmanager
async def frame_hosts(demo: Demo, *hosts: str) -> AsyncIterator[None]:
    """The terminal's list, emptied again at the end; a running gateway follows within a second."""

    async def change(hosts: tuple[str, ...]) -> None:
        ids = Ids()
        url = f"sqlite:///{demo.folder / 'tolem.db'}"
        store = await open_store(url, schema=tolem_schema, instance=ids.instance(), exclusive=False)
        try:
            await Administration(store, SystemClock(), ids).change_terminal(TERMINAL_ID, frame_hosts=hosts)
        finally:
            await store.close()
        await asyncio.sleep(1.1)  # the directory's memory of a second

    await change(hosts)
    try:
        yield
    finally:
        await change(())


async def asks(widget: Widget, words: str) -> None:
    """Closing is a question now, in these words only."""
    await expect(widget.question).to_be_visible()
    await expect(widget.question.locator("p:visible")).to_have_text(words)


TYPED = "The card details have not been sent, and would have to be typed again."
ASKED = "The request may be with the bank already. Closing does not call it back: it may still go through."
LOOKED_AT = "Your bank is still checking the card. Nothing has been charged, and if you close now, nothing will be."


# ---- Paying


async def test_paid_in_the_demo_shop(payer: Payer) -> None:
    widget = await open_demo(payer)
    assert urlsplit(payer.page.url).netloc == urlsplit(payer.demo.shop_url).netloc
    await widget.pay()
    await widget.sees("approved")
    await expect(widget.frame.locator("h1")).to_be_focused()
    await widget.press("Return to the shop")
    await payer.sees_order("paid")
    await payer.sees_truth(PAID_ONCE)


async def test_the_demo_shop_says_what_became_of_a_closed_frame(payer: Payer, take_screenshot: TakeScreenshot) -> None:
    """In place: the focus stays on the button, and goes to the heading of what is new once the button is gone."""
    widget = await open_demo(payer)
    await payer.page.keyboard.press("Escape")
    await widget.is_gone()
    await expect(payer.page.locator("#news")).to_have_text(re.compile("Not paid so far"))
    assert await payer.page.evaluate("document.activeElement.id") == "pay-widget"
    await take_screenshot(payer.page, "shop-order-closed")
    await payer.page.keyboard.press("Enter")
    await widget.sees("form")
    await widget.press("Cancel and return to the shop")
    await widget.is_gone()
    await payer.sees_order("declined")
    await expect(payer.page.locator("h1")).to_be_focused()
    await expect(payer.page.locator("#pay-again")).to_be_visible()


async def test_paid_in_a_shop_of_another_site_without_any_storage(payer: Payer, other_shop: OtherShop) -> None:
    """Where a browser blocks third parties, touching storage throws; nothing of the page does."""
    await payer.page.add_init_script(
        "if (self !== top) for (const [where, name] of [[Document.prototype, 'cookie'], [window, 'localStorage'],"
        " [window, 'sessionStorage'], [window, 'indexedDB']]) Object.defineProperty(where, name,"
        " {get() { throw new DOMException(name, 'SecurityError'); }, set() { throw new DOMException(name); }});"
    )
    widget = await open_elsewhere(payer, other_shop)
    (request,) = payform_requests(payer.witness.requests)
    assert (request.method, urlsplit(request.url).query) == ("POST", "")
    await widget.pay()
    await widget.sees("approved")
    assert await widget.told() == []
    await widget.press("Return to the shop")
    await widget.is_told(True)
    await payer.sees_truth(PAID_ONCE)
    cookies = await payer.page.context.cookies()
    assert [cookie.get("name") for cookie in cookies] == ["customer"]  # of the demo's shop, where the order was begun
    assert urlsplit(payer.page.url).path == "/checkout"


async def test_the_page_closes_itself_where_the_shop_wants_its_payer_back_at_once(
    payer: Payer, other_shop: OtherShop
) -> None:
    widget = await open_elsewhere(payer, other_shop, autoBackLink=True)
    await widget.pay(DECLINED_CARD)
    await widget.sees("declined")
    await widget.pay()
    await widget.is_told(True)


async def test_cancelled(payer: Payer, other_shop: OtherShop) -> None:
    widget = await open_elsewhere(payer, other_shop)
    await widget.press("Cancel and return to the shop")
    await widget.is_told(False)
    await payer.sees_truth(LEFT)


async def test_no_address_to_return_to_is_needed(payer: Payer, other_shop: OtherShop) -> None:
    widget = await open_elsewhere(payer, other_shop, backLink="")
    await widget.pay()
    await widget.sees("approved")
    assert await widget.frame.locator("#return").get_attribute("href") == other_shop.url
    await widget.press("Return to the shop")
    await widget.is_told(True)


async def test_a_second_call_while_one_is_open_does_nothing(payer: Payer, other_shop: OtherShop) -> None:
    """The shop's button calls twice; and nobody gets past the open frame with pay()."""
    widget = await open_elsewhere(payer, other_shop)
    await payer.page.evaluate("halyk.pay({auth: 'T'}); halyk.showPaymentWidget({auth: 'T'})")
    await expect(widget.dialog).to_have_count(1)
    assert len(payform_requests(payer.witness.requests)) == 1
    await widget.cross.click()
    await widget.is_told(False)
    await payer.page.locator("button").click()
    await widget.sees("form")
    assert len(payform_requests(payer.witness.requests)) == 2, "and after that it opens again"


# ---- Closing


@pytest.mark.parametrize("where", ("frame", "shop", "cross"))
async def test_closed_at_once_while_nothing_is_at_stake(payer: Payer, other_shop: OtherShop, where: str) -> None:
    widget = await open_elsewhere(payer, other_shop)
    if where == "cross":
        await widget.cross.click()
    else:
        await (widget.frame.locator("#cc-number") if where == "frame" else widget.cross).focus()
        await payer.page.keyboard.press("Escape")
    await widget.is_told(False)
    assert await payer.page.evaluate("document.activeElement.tagName") == "BUTTON", "the focus is where it was"
    await payer.sees_truth(UNTOUCHED)


@pytest.mark.parametrize("where", ("frame", "shop", "cross"))
async def test_asks_before_typed_details_are_lost(payer: Payer, other_shop: OtherShop, where: str) -> None:
    widget = await open_elsewhere(payer, other_shop)
    await widget.type_card()

    async def close() -> None:
        if where == "cross":
            await widget.cross.click()
        else:
            await (widget.frame.locator("#cc-name") if where == "frame" else widget.cross).focus()
            await payer.page.keyboard.press("Escape")

    await close()
    await asks(widget, TYPED)
    await widget.frame.locator("[data-do=stay]").focus()
    await payer.page.keyboard.press("Escape")  # a no, however it was asked
    await expect(widget.question).to_be_hidden()
    await close()
    await asks(widget, TYPED)
    await widget.press("Go on")
    await expect(widget.question).to_be_hidden()
    assert await widget.frame.locator("#cc-name").input_value() == "AIGERIM SEIT"
    await close()
    await widget.press("Close")
    await widget.is_told(False)
    await payer.sees_truth(UNTOUCHED)


async def test_a_payment_goes_on_without_the_frame(payer: Payer, other_shop: OtherShop) -> None:
    widget = await open_elsewhere(payer, other_shop)
    await widget.pay(SLOW_CARD)
    await widget.cross.click()
    await asks(widget, ASKED)
    await widget.press("Close")
    await widget.is_told(False)
    await payer.sees_truth(PAID_ONCE)


async def test_the_question_speaks_the_language_that_the_payer_chose(payer: Payer, other_shop: OtherShop) -> None:
    widget = await open_elsewhere(payer, other_shop, language="KZ")
    assert await widget.dialog.get_attribute("aria-label") == "Төлем"
    assert await widget.cross.get_attribute("aria-label") == "Жабу"
    await widget.type_card()
    await widget.press("Русский")
    await expect(widget.frame.locator("#card .primary")).to_contain_text("Оплатить")
    await widget.cross.click()
    await asks(widget, "Данные карты не отправлены, их придётся ввести заново.")


async def test_focus_stays_in_the_frame(payer: Payer, other_shop: OtherShop) -> None:
    widget = await open_elsewhere(payer, other_shop)
    assert await payer.page.evaluate("document.activeElement.tagName") == "IFRAME"
    seen = set()
    for _ in range(40):
        await payer.page.keyboard.press("Tab")
        seen.add(await payer.page.evaluate("document.activeElement.tagName"))
    assert "IFRAME" in seen
    assert seen <= {"IFRAME", "BUTTON", "BODY", "DIALOG"}, "neither the shop's link nor its field"
    await payer.page.evaluate("document.querySelector('a').focus()")
    assert await payer.page.evaluate("document.activeElement.tagName") != "A"
    assert await widget.told() == []


async def test_a_page_that_does_not_answer_is_asked_for_by_the_library(
    payer: Payer, other_shop: OtherShop, take_screenshot: TakeScreenshot
) -> None:
    """Whatever is under way: nobody knows. In the language that the page spoke last."""
    widget = await open_elsewhere(payer, other_shop)
    await widget.press("Русский")
    await expect(widget.frame.locator("#card .primary")).to_contain_text("Оплатить")
    await payer.page.route("**/pay/**", lambda route: route.abort())
    await widget.document().evaluate("location.reload()")
    question = payer.page.get_by_role("alertdialog")
    for press in ("Escape", "Подождать"):
        await widget.cross.click()
        await expect(question).to_contain_text("Страница оплаты не отвечает.")  # after two seconds of silence
        for _ in range(5):
            await payer.page.keyboard.press("Tab")
            assert await payer.page.evaluate("document.activeElement.matches('[role=alertdialog] *, body')")
        await take_screenshot(payer.page, "widget-silent")
        if press == "Escape":
            await payer.page.keyboard.press(press)
        else:
            await question.get_by_text(press).click()
        await expect(question).to_have_count(0)
        assert await payer.page.evaluate("document.activeElement.parentNode.tagName") == "DIALOG"
    await payer.page.evaluate("document.querySelector('dialog').close()")  # as Android's second Back
    await expect(question).to_be_visible()
    assert await widget.told() == []
    await question.get_by_text("Закрыть").click()
    await widget.is_told(False)
    await payer.sees_truth(UNTOUCHED)

    await payer.page.route("**/payform/", lambda route: route.abort())
    await payer.page.locator("button").click()  # no page has ever come, and none has the keys
    await payer.page.keyboard.press("Escape")
    await widget.cross.click()
    await question.get_by_text("Close").click()
    await widget.is_told(False, False)
    payer.witness.forgive("postMessage")  # to what stands where the page should
    payer.witness.forgive("ERR_FAILED", is_certain=False)


async def test_the_question_during_the_look_at_the_browser(payer: Payer, other_shop: OtherShop) -> None:
    """Nothing is charged before the bank has answered the page; once the page has gone on, it may be."""

    async def hold(route: Route) -> None:
        is_theirs = "acs." in route.request.url
        (theirs if is_theirs else ours).append(route)
        if not is_theirs:
            asked.set()

    theirs: list[Route] = []
    ours: list[Route] = []
    asked = asyncio.Event()
    await payer.page.route("**/device", hold)
    widget = await open_elsewhere(payer, other_shop)
    await widget.pay(CHALLENGED_CARD)
    await widget.sees("device")
    await widget.cross.click()
    await asks(widget, LOOKED_AT)
    await widget.press("Go on")
    await asyncio.wait_for(asked.wait(), 20)  # ten seconds are enough for a bank
    await widget.cross.click()
    await asks(widget, ASKED)
    for route in (*theirs, *ours):
        await route.continue_()
    await widget.sees("challenge")
    await widget.cross.click()
    await widget.press("Close")
    await widget.is_told(False)


# ---- Who may speak to whom


async def test_only_the_page_in_the_frame_is_believed(payer: Payer, other_shop: OtherShop) -> None:
    widget = await open_elsewhere(payer, other_shop)
    await payer.page.evaluate(
        """async gateway => {
            const frame = document.querySelector("dialog iframe").contentWindow;
            const lies = [["https://evil.example", frame], [gateway, window], [gateway, null], ["null", frame],
                          [gateway + ".evil.example", frame], [location.origin, frame]];
            for (const data of ['{"success":true}', '{"success":false}'])
                for (const [origin, source] of lies) dispatchEvent(new MessageEvent("message", {data, origin, source}));
            postMessage('{"success":true}', "*");
            const stranger = document.createElement("iframe");
            stranger.srcdoc = "<script>parent.postMessage('{\\"success\\":true}', '*');"
                + "parent.frames[0].postMessage('{\\"close\\":true}', '*');parent.done = true</script>";
            document.body.append(stranger);
            while (!window.done) await new Promise(next => setTimeout(next, 20));
            await new Promise(next => setTimeout(next, 200));
        }""",
        payer.demo.url,
    )
    await widget.sees("form")
    assert await widget.told() == []


async def test_the_page_obeys_its_shop_only(payer: Payer, other_shop: OtherShop) -> None:
    widget = await open_elsewhere(payer, other_shop)
    await widget.document().evaluate(
        """async shop => {
            const lies = [["https://evil.example", parent], [shop, window], [shop, null], ["null", parent],
                          [location.origin, parent]];
            const data = '{"close":true}';
            for (const [origin, source] of lies) dispatchEvent(new MessageEvent("message", {data, origin, source}));
            for (const other of ["close", "{}", "{", null, {close: true}])
                dispatchEvent(new MessageEvent("message", {data: other, origin: shop, source: parent}));
            await new Promise(next => setTimeout(next, 200));
        }""",
        other_shop.url,
    )
    await widget.sees("form")
    assert await widget.told() == []


async def test_the_outcome_is_told_to_no_other_page_that_frames(payer: Payer, other_shop: OtherShop) -> None:
    """The page was opened for another origin than the one that shows it: in a sandbox it is shown and tells nothing."""
    heard = "<script>heard = []; addEventListener('message', event => heard.push(event.data))</script>"
    widget = await open_elsewhere(payer, other_shop, head=heard)
    address = widget.document().url
    opened = await payer.open_tab()
    other_shop.page = f'{heard}<iframe src="{address}"></iframe>'
    await opened.page.goto(other_shop.url.replace("localhost", "127.0.0.1"))
    payer.witness.leave_out(other_shop.url.replace("localhost", "127.0.0.1"))
    await opened.page.frame_locator("iframe").get_by_text("Cancel and return to the shop").click()
    await expect(opened.page.frame_locator("iframe").locator("main")).to_have_attribute("data-state", "failed")
    assert await opened.page.evaluate("heard") == []
    payer.witness.forgive("postMessage")


async def test_a_page_that_was_opened_alone_stands_in_no_frame(payer: Payer, other_shop: OtherShop) -> None:
    await payer.buy()
    other_shop.page, other_shop.headers = f'<iframe src="{payer.page.url}"></iframe>', {}
    payer.witness.leave_out(other_shop.url)
    tab = await payer.open_tab()
    await tab.page.goto(other_shop.url)
    await expect(tab.page.frame_locator("iframe").locator("main[data-state]")).to_have_count(0)
    payer.witness.forgive("frame-ancestors 'none'")


async def test_a_host_that_is_not_on_the_list(payer: Payer, other_shop: OtherShop) -> None:
    """Says so in the frame, to the shop's developer, and closes like any other."""
    async with frame_hosts(payer.demo, "shop.example", urlsplit(payer.demo.shop_url).netloc):
        widget = await open_elsewhere(payer, other_shop, state="invalid")
        await widget.frame.locator("summary").click()
        await expect(widget.frame.locator("details p")).to_contain_text(f"a page of '{other_shop.url}' may not show")
        await payer.page.keyboard.press("Escape")
        await widget.is_told(False)
        payer.witness.forgive("status of 400")
    async with frame_hosts(payer.demo, urlsplit(other_shop.url).netloc):
        await payer.page.locator("button").click()
        await widget.sees("form")


# ---- Policies of shops, old copies of the library


async def test_object_goes_into_the_frames_address_where_a_policy_blocks_the_form(
    payer: Payer, other_shop: OtherShop
) -> None:
    widget = await open_elsewhere(payer, other_shop, policy="form-action 'self'")
    (request,) = payform_requests(payer.witness.requests)
    assert (request.method, urlsplit(request.url).query.partition("=")[0]) == ("GET", "params")
    assert urlsplit(widget.document().url).query == ""
    await widget.pay()
    await widget.sees("approved")
    await widget.press("Return to the shop")
    await widget.is_told(True)
    payer.witness.forgive("form-action")


@pytest.mark.parametrize("policy", ("frame-src 'none'", "frame-src 'self'; form-action 'none'"))
async def test_the_page_opens_alone_where_a_policy_blocks_the_frame(
    payer: Payer, other_shop: OtherShop, policy: str
) -> None:
    await open_elsewhere(payer, other_shop, policy=policy, state="")
    await payer.sees("form")
    assert urlsplit(payer.page.url).netloc == urlsplit(payer.demo.url).netloc
    payer.witness.forgive("frame-src")
    payer.witness.forgive("form-action", is_certain=False)


async def open_old_copy(payer: Payer, shop: OtherShop, *, script: str = "") -> FrameLocator:
    """A frame as the bank's library makes it."""
    await payer.order()
    params = compress(utf16_units(encode(await payer.pay_object())))
    address = f"{payer.demo.url}/payform/?params={params}&isShortForm=true"
    shop.page, shop.headers = f'<script>{script}</script><iframe src="{address}"></iframe>', {}
    payer.witness.leave_out(shop.url)
    await payer.page.goto(f"{shop.url}/checkout")
    frame = payer.page.frame_locator("iframe")
    await expect(frame.locator("main")).to_have_attribute("data-state", "form")
    return frame


async def test_an_old_copy_hears_nothing_but_the_outcome(payer: Payer, other_shop: OtherShop) -> None:
    script = "heard = []; addEventListener('message', event => heard.push([event.origin, event.data]))"
    frame = await open_old_copy(payer, other_shop, script=script)
    for token, text in CARD_FIELDS:
        await frame.locator(f"[name=cc-{token}]").fill(text)
    await frame.locator("#card .primary").press("Escape")  # asks by itself
    await frame.get_by_text("Go on").click()
    await frame.locator("#card .primary").click()
    await frame.locator("#return").click()
    await payer.page.wait_for_function("heard.length")
    assert await payer.page.evaluate("heard[0]") == [payer.demo.url, '{"success":true}']


async def test_where_nobody_listens_the_link_leads_to_the_shop(payer: Payer, other_shop: OtherShop) -> None:
    frame = await open_old_copy(payer, other_shop)
    for token, text in CARD_FIELDS:
        await frame.locator(f"[name=cc-{token}]").fill(text)
    await frame.locator("#card .primary").click()
    await frame.locator("#return").click()
    await payer.sees_order("paid")
    assert urlsplit(payer.page.url).netloc == urlsplit(payer.demo.shop_url).netloc


# ---- Looks


@pytest.mark.parametrize(
    ("width", "height", "scheme"),
    ((320, 480, "light"), (360, 740, "dark"), (844, 390, "light"), (1280, 900, "dark")),
)
async def test_fits_every_window(
    make_payer: MakePayer, take_screenshot: TakeScreenshot, width: int, height: int, scheme: str
) -> None:
    payer = await make_payer(viewport={"width": width, "height": height}, color_scheme=scheme)
    widget = await open_demo(payer)
    await take_screenshot(payer.page, f"widget-form-{width}-{scheme}")
    box = await widget.dialog.bounding_box()
    assert box is not None
    assert (box["width"], box["height"]) == (min(width, 480), min(height, 780))
    assert box["x"] == pytest.approx((width - box["width"]) / 2)
    assert box["y"] == pytest.approx((height - box["height"]) / 2)
    is_wide = "document.documentElement.scrollWidth > innerWidth"
    assert not await payer.page.evaluate(is_wide)
    assert not await widget.document().evaluate(is_wide)
    cross = await widget.cross.bounding_box()
    assert cross is not None
    assert min(cross["width"], cross["height"]) >= 44
    covered = await widget.document().evaluate(
        """cross => [...document.querySelectorAll("button, a, input, .ribbon")].filter(each => {
            const box = each.getBoundingClientRect();
            return box.width > 1 && box.right > cross.x && box.bottom > 0 && box.top < cross.height;
        }).map(each => each.outerHTML)""",
        {"x": cross["x"] - box["x"], "height": cross["height"]},
    )
    assert covered == []
    await widget.type_card()
    await widget.cross.click()
    await asks(widget, TYPED)
    await take_screenshot(payer.page, f"widget-question-{width}-{scheme}")
    await widget.press("Go on")
    await widget.frame.locator("#card .primary").click()
    await widget.sees("approved")
    await take_screenshot(payer.page, f"widget-approved-{width}-{scheme}")
