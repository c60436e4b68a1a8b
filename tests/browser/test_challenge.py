"""3-D Secure in a real browser: whatever happens at the bank's page, the payer and all books agree at the end."""

import asyncio
import re
from urllib.parse import urlsplit

import pytest
from playwright.async_api import FrameLocator, Page, Request, Response, Route, expect

from tests.browser.conftest import MakePayer, TakeScreenshot
from tests.browser.demo import CHALLENGED_CARD, PAID_ONCE, Truth
from tests.browser.payer import Payer
from tolem.sandbox.cards import build_number

CODE = "123456"
FAILED_AND_PAID = PAID_ONCE._replace(payments=["failed", "captured"])
DECLINED_AND_PAID = PAID_ONCE._replace(payments=["declined", "captured"])
WAITING = Truth("waiting", "open", ["authenticating"], [], [], [])


def bank(payer: Payer) -> FrameLocator:
    """The bank's page in its frame."""
    return payer.page.frame_locator("iframe[name=bank]")


async def type_code(where: FrameLocator | Page, code: str = CODE) -> None:
    """Types a code on the bank's page and confirms, as docs/threeds.md tells shops' tests to."""
    await where.get_by_label("Code").fill(code)
    await where.get_by_role("button", name="Confirm", exact=True).click()


async def start(payer: Payer, number: str = CHALLENGED_CARD) -> None:
    """From the shelves to the bank's page."""
    await payer.buy()
    await payer.pay(number)
    await payer.sees("challenge")
    await expect(bank(payer).locator("main")).to_have_attribute("data-acs", "challenge")


async def refuse_frames(payer: Payer) -> None:
    """From now on the bank's page may stand in no frame."""

    async def refuse(route: Route) -> None:
        if route.request.method == "HEAD":  # it is there
            return await route.continue_()
        # The name acs.localhost is the browser's: whoever fetches for it knows the address only.
        headers = {**route.request.headers, "host": urlsplit(payer.demo.bank_url).netloc}
        asked = await route.fetch(url=f"{payer.demo.url}/challenge", headers=headers, max_redirects=0)
        page = payer.demo.url + asked.headers["location"]
        response = await route.fetch(url=page, method="GET", post_data="", headers=headers)
        await route.fulfill(response=response, headers={**response.headers, "x-frame-options": "DENY"})

    await payer.page.context.route(f"{payer.demo.bank_url}/challenge", refuse)


def posts_to(payer: Payer, path: str) -> list[Request]:
    """What the browser posted to an address that begins like this."""
    return [
        request
        for request in payer.witness.requests
        if request.method == "POST" and urlsplit(request.url).path.startswith(path)
    ]


async def test_passed(payer: Payer, take_screenshot: TakeScreenshot) -> None:
    await start(payer)
    await payer.sees_truth(WAITING)
    await take_screenshot(payer.page, "challenge")
    address = payer.page.url
    await type_code(bank(payer))
    await payer.sees("approved")
    assert payer.page.url == address
    await payer.sees_truth(PAID_ONCE)
    await payer.return_to_shop()
    await payer.sees_order("paid")
    assert len(posts_to(payer, "/3ds/")) == 2  # after the look at the browser and after the challenge
    for request in posts_to(payer, "/3ds/"):
        assert urlsplit(address).path.removeprefix("/pay/") not in (request.post_data or "") + request.url


async def test_a_look_at_the_browser_alone(payer: Payer) -> None:
    await payer.buy()
    await payer.pay(build_number(0, "6"))
    await payer.sees("approved")
    await payer.sees_truth(PAID_ONCE)


async def test_a_look_at_the_browser_that_does_not_end(payer: Payer) -> None:
    """The page waits for it as long as the specification says, and goes on."""

    async def hang(route: Route) -> None:
        await asyncio.sleep(30)
        await route.abort()

    await payer.page.route("**/device", lambda route: hang(route) if "acs." in route.request.url else route.continue_())
    await payer.buy()
    await payer.pay(CHALLENGED_CARD)
    await payer.sees("challenge", 30)
    await type_code(bank(payer))
    await payer.sees("approved")
    await payer.page.unroute_all(behavior="ignoreErrors")


async def test_three_wrong_codes_and_another_card(payer: Payer) -> None:
    await start(payer)
    for left in ("2 attempts left", "1 attempt left"):
        await type_code(bank(payer), "000000")
        await expect(bank(payer).get_by_role("alert")).to_contain_text(left)
        await payer.sees("challenge")
    await type_code(bank(payer), "000000")
    await payer.sees("declined")
    await expect(payer.page.locator("#notices")).to_contain_text("did not confirm that the card is yours")
    await payer.pay()
    await payer.sees("approved")
    await payer.sees_truth(DECLINED_AND_PAID)


async def test_cancelled_at_the_bank(payer: Payer) -> None:
    await start(payer)
    await bank(payer).get_by_role("button", name="Cancel the confirmation").click()
    await payer.sees("declined")
    await expect(payer.page).to_have_title(re.compile("^The payment was not confirmed"))
    await expect(payer.page.locator("#notices")).to_contain_text("cancelled or not finished. No money was taken")
    await payer.pay()
    await payer.sees("approved")
    await payer.sees_truth(FAILED_AND_PAID)


async def test_cancelled_on_the_page(payer: Payer) -> None:
    await start(payer)
    await payer.page.get_by_role("button", name="Cancel and use another card").click()
    await payer.sees("declined")
    await payer.leave()
    await payer.sees_order("declined")
    await payer.sees_truth(Truth("declined", "failed", ["failed"], [], [], ["failure delivered"]))


async def test_the_banks_time_is_over(payer: Payer) -> None:
    await start(payer)
    await asyncio.to_thread(payer.demo.move_clock, 6 * 60)
    await payer.sees("declined")  # the page finds out by itself
    await payer.pay()
    await payer.sees("approved")
    await payer.sees_truth(FAILED_AND_PAID)


async def test_the_browser_is_closed_at_the_bank(payer: Payer) -> None:
    await start(payer)
    await payer.page.context.close()
    await asyncio.to_thread(payer.demo.move_clock, 40 * 60)
    await payer.sees_truth(Truth("declined", "failed", ["failed"], [], [], ["failure delivered"]))


async def test_back_and_forth(payer: Payer) -> None:
    await start(payer)
    await type_code(bank(payer), "000000")
    await expect(bank(payer).get_by_role("alert")).to_be_visible()
    for _ in range(2):  # through what the frame showed
        async with payer.page.expect_event("framenavigated"):
            await payer.page.evaluate("history.back()")
    await payer.page.goto(payer.form_url)
    await payer.sees("challenge")
    await type_code(bank(payer), "111111")
    await expect(bank(payer).get_by_role("alert")).to_contain_text("1 attempt left")  # it is the same challenge
    await type_code(bank(payer))
    await payer.sees("approved")
    await payer.page.go_back()
    await payer.page.goto(payer.form_url)
    await payer.sees("approved")
    await payer.sees_truth(PAID_ONCE)
    payer.witness.forgive("ERR_CACHE_MISS", is_certain=False)


async def test_reloaded_in_the_middle(payer: Payer) -> None:
    await start(payer)
    for _ in range(2):
        await payer.page.reload()
        await payer.sees("challenge")
    await type_code(bank(payer))
    await payer.sees("approved")
    await payer.sees_truth(PAID_ONCE)


async def test_two_tabs(payer: Payer) -> None:
    await start(payer)
    other = await payer.open_tab()
    await other.sees("challenge")
    await type_code(bank(other))
    await other.sees("approved")
    await payer.sees("approved")
    await payer.sees_truth(PAID_ONCE)


async def test_both_tabs_give_an_answer(payer: Payer) -> None:
    await start(payer)
    other = await payer.open_tab()
    await other.sees("challenge")
    for tab in (payer, other):
        await bank(tab).locator("#code").fill(CODE)
    await asyncio.gather(*(bank(tab).locator(".primary").click() for tab in (payer, other)))
    await payer.sees("approved")
    await other.sees("approved")
    await payer.sees_truth(PAID_ONCE)


async def test_opened_again_from_the_shop(payer: Payer) -> None:
    """Another opening looks on, and may begin again: what the first one does then is of no use."""
    await start(payer)
    other = Payer(await payer.page.context.new_page(), payer.demo, payer.witness)
    other.invoice_id = payer.invoice_id
    await other.page.goto(f"{payer.demo.shop_url}/orders/{payer.invoice_id}")
    await other.page.locator("#pay").click()
    await other.sees("challenge")
    await expect(other.page.locator("h1")).to_have_text("A confirmation at your bank has begun")
    await expect(other.page.locator("iframe")).to_have_count(0)
    await other.page.get_by_role("button", name="Begin again here").click()
    await other.sees("declined")
    await payer.sees("declined")
    await other.pay()
    await other.sees("approved")
    await payer.page.reload()
    await payer.sees("approved")
    await payer.sees_truth(FAILED_AND_PAID)


async def test_forged_answers(payer: Payer) -> None:
    """From the console of the payer's own browser, where everything can be said."""
    await start(payer)
    (look,) = posts_to(payer, "/3ds/")
    session = await payer.page.locator("[name=threeDSSessionData]").input_value()
    status = await payer.page.evaluate(
        """async ([url, session]) => {
            const cres = btoa(JSON.stringify({ transStatus: "Y", messageType: "CRes" }));
            const body = new URLSearchParams({ cres, threeDSSessionData: session });
            const answer = await fetch(url, { method: "POST", body });
            for (const data of ["tolem:challenge", "tolem:device", { transStatus: "Y" }]) {
                postMessage(data, "*");  // from the wrong window
                document.querySelector("iframe").contentWindow.postMessage(data, "*");
            }
            return answer.status;
        }""",
        [look.url, session],
    )
    assert status == 200
    await payer.sees_truth(WAITING)
    await payer.sees("challenge")
    await type_code(bank(payer))
    await payer.sees("approved")
    await payer.sees_truth(PAID_ONCE)


async def test_a_foreign_frame_cannot_knock(payer: Payer) -> None:
    """What the bank's page itself says is not heard, and opens nothing."""
    await start(payer)
    frame = payer.page.frame("bank")
    assert frame is not None
    loaded: list[str] = []
    payer.page.on("framenavigated", lambda moved: loaded.append(moved.url) if moved is payer.page.main_frame else None)
    await frame.evaluate("parent.postMessage('tolem:challenge', '*')")
    await type_code(bank(payer), "000000")
    await expect(bank(payer).get_by_role("alert")).to_be_visible()
    assert loaded == []


async def test_an_answer_that_comes_again(payer: Payer, make_payer: MakePayer) -> None:
    await start(payer)
    await type_code(bank(payer))
    await payer.sees("approved")
    request = posts_to(payer, "/3ds/")[-1]
    again = await payer.page.context.request.post(request.url, headers=request.headers, data=request.post_data)
    assert again.status == 200
    await payer.page.reload()
    await payer.sees("approved")
    await payer.sees_truth(PAID_ONCE)


async def test_without_javascript(payer: Payer, make_payer: MakePayer) -> None:
    await payer.buy()
    plain = await make_payer(java_script_enabled=False)
    plain.invoice_id, plain.form_url = payer.invoice_id, payer.form_url
    await plain.page.goto(payer.form_url)
    await plain.pay(CHALLENGED_CARD)
    await plain.sees("challenge")
    await expect(plain.page.locator("iframe")).to_have_count(0)
    await plain.page.get_by_role("button", name="Go to the bank").click()
    await type_code(plain.page, "000000")
    await expect(plain.page.get_by_role("alert")).to_contain_text("2 attempts left")
    await type_code(plain.page)
    await plain.page.get_by_role("button", name="Continue").click()
    await plain.sees("approved")
    assert plain.page.url == payer.form_url
    for state in ("return", "ended", "ended"):  # the bank's pages on the way back, none of which asks to post again
        await plain.page.go_back()
        await expect(plain.page.locator("main")).to_have_attribute("data-acs", state)
    await plain.page.get_by_role("link", name="Back to the payment page").click()
    await plain.page.get_by_role("button", name="Continue").click()
    await plain.sees("approved")
    await plain.sees_truth(PAID_ONCE)


async def test_cancelled_without_javascript(payer: Payer, make_payer: MakePayer) -> None:
    await payer.buy()
    plain = await make_payer(java_script_enabled=False)
    plain.invoice_id = payer.invoice_id
    await plain.page.goto(payer.form_url)
    await plain.pay(CHALLENGED_CARD)
    await plain.page.get_by_role("button", name="Go to the bank").click()
    await plain.page.get_by_role("button", name="Cancel the confirmation").click()
    await plain.page.get_by_role("button", name="Continue").click()
    await plain.sees("declined")


async def test_a_bank_that_will_not_be_framed(payer: Payer) -> None:
    """The payer opens it in full, and comes back to the page."""
    await refuse_frames(payer)
    await payer.buy()
    await payer.pay(CHALLENGED_CARD)
    await payer.sees("challenge")
    await payer.page.get_by_role("button", name="Open in full").click()
    await expect(payer.page.locator("main")).to_have_attribute("data-acs", "challenge")
    await type_code(payer.page)
    await payer.sees("approved")
    assert payer.page.url == payer.form_url
    await payer.sees_truth(PAID_ONCE)
    payer.witness.forgive("Refused to display|frame", is_certain=False)


async def test_back_from_the_bank_in_full(payer: Payer) -> None:
    """And, after it, to the bank: no page asks to post again or leads away by itself."""
    await start(payer)
    await payer.page.get_by_role("button", name="Open in full").click()
    await expect(payer.page.locator("main")).to_have_attribute("data-acs", "challenge")
    await payer.page.go_back()
    await payer.sees("challenge")
    await payer.page.go_forward()
    await type_code(payer.page, "000000")
    await expect(payer.page.get_by_role("alert")).to_contain_text("2 attempts left")
    await type_code(payer.page)
    await payer.sees("approved")
    await payer.page.go_back()
    await expect(payer.page.locator("main")).to_have_attribute("data-acs", "ended")
    await payer.page.get_by_role("link", name="Back to the payment page").click()
    await payer.sees("approved")
    await payer.sees_truth(PAID_ONCE)


async def test_confirmed_in_the_banks_app(payer: Payer) -> None:
    await payer.buy()
    await payer.pay(build_number(0, "7"))
    await payer.sees("challenge")
    await expect(payer.page.locator("h1")).to_have_text("Confirm in your bank’s app")
    await payer.sees("approved")
    await payer.sees_truth(PAID_ONCE)


async def test_refused_by_the_issuer(payer: Payer) -> None:
    await payer.buy()
    for number in (build_number(0, "4"), build_number(0, "5")):
        await payer.pay(number)
        await payer.sees("declined")
    await payer.pay()
    await payer.sees("approved")
    await payer.sees_truth(PAID_ONCE._replace(payments=["declined", "declined", "captured"]))


@pytest.mark.parametrize(
    ("width", "height", "window"),
    (
        (1280, 900, (500, 600)),
        (1280, 650, (600, 400)),
        (480, 900, (390, 400)),
        (280, 600, (250, 400)),
        (360, 740, None),
    ),
)
async def test_the_window_fits(
    make_payer: MakePayer, take_screenshot: TakeScreenshot, width: int, height: int, window: tuple[int, int] | None
) -> None:
    payer = await make_payer(viewport={"width": width, "height": height})
    await start(payer)
    await take_screenshot(payer.page, f"challenge-{width}")
    box = await payer.page.locator("iframe").bounding_box()
    assert box is not None
    if window is None:
        assert box["width"] > width - 70
        assert box["height"] >= 400
    else:
        assert (round(box["width"]), round(box["height"])) == window
    for scope in (payer.page.main_frame, payer.page.frame("bank")):
        assert scope is not None
        assert await scope.evaluate("document.documentElement.scrollWidth <= innerWidth")
    await type_code(bank(payer))
    await payer.sees("approved")


@pytest.mark.parametrize(
    ("language", "page_words", "bank_words"),
    (
        ("RU", "Ваш банк просит подтверждения", "Подтвердите, что это вы"),
        ("KZ", "Банкіңіз растауды сұрайды", "Бұл сіз екеніңізді растаңыз"),
    ),
)
async def test_the_banks_page_speaks_the_pages_language(
    payer: Payer, language: str, page_words: str, bank_words: str
) -> None:
    await payer.order()
    wish = await payer.pay_object() | {"language": language}
    await payer.page.wait_for_load_state()
    await payer.page.evaluate("wish => halyk.pay(wish)", wish)
    await payer.sees("form")
    await payer.pay(CHALLENGED_CARD)
    await payer.sees("challenge")
    await expect(payer.page.locator("h1")).to_have_text(page_words)
    await expect(bank(payer).locator("h1")).to_have_text(bank_words)


async def test_another_language_in_the_middle_of_the_challenge(payer: Payer, take_screenshot: TakeScreenshot) -> None:
    """The page's words change around the bank's frame, and the bank's own keep what is typed."""
    await start(payer)
    await type_code(bank(payer), "000000")
    await expect(bank(payer).get_by_role("alert")).to_contain_text("2 attempts left")
    await bank(payer).locator("#code").fill("12")
    loaded: list[str] = []
    payer.page.on("framenavigated", lambda moved: loaded.append(moved.url))
    for language, words in (("Қазақша", "Банкіңіз растауды сұрайды"), ("Русский", "Ваш банк просит подтверждения")):
        await payer.page.locator("header").get_by_role("button", name=language).click()
        await expect(payer.page.locator("h1")).to_have_text(words)
        await expect(payer.page.locator("header [aria-current]")).to_be_focused()
        await payer.sees("challenge")
    assert loaded == []
    await expect(bank(payer).locator("#code")).to_have_value("12")
    await bank(payer).get_by_role("button", name="Русский").click()
    await expect(bank(payer).locator("h1")).to_have_text("Подтвердите, что это вы")
    await expect(bank(payer).locator("#code")).to_have_value("12")
    await take_screenshot(payer.page, "challenge-language")
    await payer.sees_truth(WAITING)
    await bank(payer).locator("#code").fill(CODE)
    await bank(payer).locator(".primary").click()
    await payer.sees("approved")
    await expect(payer.page.locator("html")).to_have_attribute("lang", "ru")
    await payer.sees_truth(PAID_ONCE)


async def test_the_network_is_lost_while_the_banks_page_loads(payer: Payer, take_screenshot: TakeScreenshot) -> None:
    """What was lost is loaded again by itself, and is the same challenge."""
    await start(payer)
    await bank(payer).locator("#code").fill("000000")
    await payer.page.context.set_offline(True)
    await bank(payer).locator(".primary").click()
    await expect(payer.page.locator("#lost")).to_contain_text("The connection is lost")
    await take_screenshot(payer.page, "challenge-lost")
    await payer.page.locator("header").get_by_role("button", name="Русский").click()
    await expect(payer.page.locator("#lost")).to_contain_text("That did not work")
    await payer.page.context.set_offline(False)
    await expect(payer.page.locator("#lost")).to_be_hidden()
    await type_code(bank(payer), "000000")
    await expect(bank(payer).get_by_role("alert")).to_contain_text("2 attempts left")
    again = payer.page.get_by_role("button", name="Load again")
    await payer.page.route(f"{payer.demo.bank_url}/**", lambda route: route.abort("connectionrefused"))
    await again.click()
    await expect(payer.page.locator("#lost")).to_contain_text("your bank’s page did not load")  # the gateway answers
    await expect(again).to_be_in_viewport()
    await take_screenshot(payer.page, "challenge-away")
    await payer.sees_truth(WAITING)
    await payer.page.unroute_all()
    await expect(payer.page.locator("#lost")).to_be_hidden()
    await again.click()
    await type_code(bank(payer))
    await payer.sees("approved")
    await payer.sees_truth(PAID_ONCE)
    assert len([sent for sent in posts_to(payer, "/pay/") if urlsplit(sent.url).path.endswith("/device")]) == 1
    payer.witness.forgive("ERR_INTERNET_DISCONNECTED|ERR_CONNECTION_REFUSED|Failed to fetch", is_certain=True)


async def test_another_language_while_the_banks_app_is_asked(payer: Payer) -> None:
    await payer.buy()
    await payer.pay(build_number(0, "7"))
    await payer.sees("challenge")
    await payer.page.get_by_role("button", name="Русский").click()
    await expect(payer.page.locator("h1")).to_have_text("Подтвердите в приложении банка")
    await payer.sees("approved")
    await payer.sees_truth(PAID_ONCE)


async def test_the_policy_names_the_bank_while_it_is_there_and_no_longer(payer: Payer) -> None:
    policies: list[tuple[str, str]] = []

    async def note(response: Response) -> None:
        policy = await response.header_value("content-security-policy")
        if policy and urlsplit(response.url).path.startswith("/pay/"):
            policies.append((response.url, policy))

    payer.page.on("response", note)
    await start(payer)
    await type_code(bank(payer))
    await payer.sees("approved")
    named = [payer.demo.bank_url in policy for _, policy in policies]
    assert named[0] is False
    assert True in named
    assert named[-1] is False
    for _, policy in policies:
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
    framed = next(policy for _, policy in policies if payer.demo.bank_url in policy)
    assert f"frame-src 'self' {payer.demo.bank_url};" in framed
    assert f"form-action 'self' {payer.demo.bank_url};" in framed


async def test_the_keyboard_alone(payer: Payer) -> None:
    await start(payer)
    await expect(bank(payer).locator("#code")).to_be_visible()
    await bank(payer).locator("#code").focus()
    await payer.page.keyboard.type(CODE)
    await payer.page.keyboard.press("Enter")
    await payer.sees("approved")
    await payer.sees_truth(PAID_ONCE)
