"""The page over HTTP: languages, the shop's look, what its buttons do, what it says when it can't be shown."""

import gzip
from html import escape
from typing import Any

import pytest
from structlog.testing import capture_logs
from tests.gateway import APPROVED_CARD, LOCKED_CARD, ORIGIN, Answer, Caller, running_gateway
from tests.issuer import CHALLENGED_CARD, Issuer
from tests.pictures import build_png

from tolem.bootstrap import Gateway
from tolem.clock import SystemClock
from tolem.domain.errors import Overloaded
from tolem.flows.administration import Administration
from tolem.ids import Ids
from tolem.sandbox.fixtures import TERMINAL_ID

SHOP = "https://shop.example"


TYPED = {"cc-number": APPROVED_CARD, "cc-exp": "12/30", "cc-csc": "719", "cc-name": "ARMAN ALI"}


async def post_without_script(caller: Caller, path: str, fields: dict[str, str], left: str = "") -> Answer:
    """A form, as a browser sends it that then opens the answer; `left`: address of the page that it stands on."""
    headers = {"origin": ORIGIN, "accept": "text/html,application/xhtml+xml,*/*;q=0.8", "referer": ORIGIN + left}
    return await caller.form(path, fields, headers)


def language_of(answer: Answer) -> str:
    return answer.text.partition('<html lang="')[2][:2]


async def open_with(caller: Caller, invoice: str, headers: dict[str, str], **wish: Any) -> Answer:
    """Opens a page as a browser with those headers does, and follows the redirect."""
    token = await caller.token(invoice)
    fields = {"params": caller.params(token, invoice, **wish)}
    opened = await caller.form("/payform/", fields, {"origin": SHOP} | headers)
    return await caller.get(opened.headers["location"]) if opened.status == 303 else opened


async def dress(gateway: Gateway, **settings: Any) -> None:
    await Administration(gateway.store, SystemClock(), Ids()).change_terminal(TERMINAL_ID, **settings)


@pytest.mark.parametrize(
    ("asked", "accepted", "language"),
    (("KZ", "ru", "kk"), ("eng", "kk", "en"), ("", "kk-KZ,ru;q=0.8", "kk"), ("", "de,en;q=0.5", "en"), ("", "de", "ru"),
     ("fr", "en", "en")),
)  # fmt: skip
async def test_the_object_says_the_language_or_the_browser_does(
    sqlite_url: str, asked: str, accepted: str, language: str
) -> None:
    async with running_gateway(sqlite_url) as gateway:
        page = await open_with(Caller(gateway.app), "000000001", {"accept-language": accepted}, language=asked)
        assert (page.status, language_of(page)) == (200, language)


async def test_what_cannot_be_opened_is_said_in_every_language_and_leads_back_to_where_one_came_from(
    sqlite_url: str,
) -> None:
    async with running_gateway(sqlite_url) as gateway:
        caller = Caller(gateway.app)
        wrong = {"amount": 1, "backLink": "https://evil.example/", "language": "KZ"}
        page = await open_with(
            caller, "000000002", {"referer": SHOP + "/basket?id=7", "accept-language": "en"}, **wrong
        )
        assert (page.status, page.state, language_of(page)) == (400, "invalid", "kk")
        for words in ("Бұл төлемді ашу мүмкін емес", "Этот платёж нельзя открыть", "This payment cannot be opened"):
            assert words in page.text
        assert f'href="{SHOP}/"' in page.text
        assert "evil.example" not in page.text
        for referer in ("", "javascript:alert(1)", "data:,x", "about:blank"):
            page = await open_with(caller, "000000002", {"referer": referer}, **wrong)
            assert 'id="return"' not in page.text
            assert "дүкенге оралуға болады" in page.text  # in words


async def test_what_cannot_be_opened_leads_back_to_what_the_gateway_knows_of_the_shop(sqlite_url: str) -> None:
    async with running_gateway(sqlite_url) as gateway:
        await dress(gateway, frame_hosts=("shop.example",))
        caller = Caller(gateway.app)
        wrong = {"amount": 1, "backLink": "https://evil.example/"}
        page = await open_with(caller, "000000016", {}, **wrong)
        assert 'href="https://shop.example/"' in page.text
        await caller.page("000000016")
        for token in (await caller.token("000000016"), "nobodys"):  # where the order's page led that did open
            page = await caller.open(token, "000000016", **wrong)
            assert (page.status, 'href="https://shop.example/ok"' in page.text) == (400, token != "nobodys")
            assert "evil.example" not in page.text
        unread = await caller.open(await caller.token("000000016"), "000000016", backLink="javascript:alert(1)")
        assert 'href="https://shop.example/ok"' in unread.text


async def test_what_cannot_be_opened_says_first_that_the_order_is_paid_or_being_paid(sqlite_url: str) -> None:
    async with running_gateway(sqlite_url) as gateway:
        caller = Caller(gateway.app)
        paying, paid = "being paid on another page", "This order is already paid"

        async def refuse(**wrong: Any) -> str:
            page = await caller.open(token, "000000021", language="ENG", **wrong)
            assert page.state == "invalid"
            assert "<details" in page.text  # what the shop's developer needs
            return page.text

        token = await caller.token("000000021")
        first = (await caller.open(token, "000000021")).headers["location"]
        text = await refuse(amount=1)
        assert (paying in text, paid in text) == (False, False)
        await Issuer(caller).start(first)
        for wrong in ({"amount": 1}, {"description": "x" * 126}, {"paymentType": "cardId"}):
            text = await refuse(**wrong)
            assert (paying in text, paid in text) == (True, False)
        await caller.press(first, "abandon")
        await caller.pay(first)
        for wrong in ({"amount": 1}, {"description": "x" * 126}, {"paymentType": "cardId"}):
            text = await refuse(**wrong)
            assert (paying in text, paid in text) == (False, True)


async def test_logo_and_colours_of_the_shop(database_url: str) -> None:
    async with running_gateway(database_url) as gateway:
        await dress(gateway, logo=build_png(), colour="#7a1f3d", name="Парасат")
        caller = Caller(gateway.app)
        page = await caller.get(await caller.page("000000003"))
        (logo,) = {part.split('"')[0] for part in page.text.split('src="') if part.startswith("/logo/")}
        (style,) = {part.split('"')[0] for part in page.text.split('href="') if part.startswith("/colours/")}
        picture, colours = await caller.get(logo), await caller.get(style)
        assert (picture.status, picture.body, picture.headers["content-type"]) == (200, build_png(), "image/png")
        assert colours.headers["content-type"] == "text/css; charset=utf-8"
        assert "--shop:#7a1f3d;--on-shop:#ffffff" in colours.text
        for answer in (picture, colours):
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert "immutable" in answer.headers["cache-control"]
            assert answer.headers["content-security-policy"] == "default-src 'none'; sandbox"
        for path in ("/logo/none.png", "/logo/", "/colours/7a1f3d.css", "/colours/7a1f3d-fffff}.css", "/colours/x"):
            assert (await caller.get(path)).status == 404
        await dress(gateway, logo=b"", colour="")
        other = Caller(gateway.app)
        assert (await other.get(logo)).status == 200  # pages that are open go on showing it


async def test_buttons_of_other_sites_do_nothing(sqlite_url: str) -> None:
    async with running_gateway(sqlite_url) as gateway:
        caller = Caller(gateway.app)
        path = await caller.page("000000004")
        for button in ("language", "extend", "leave"):
            answer = await caller.form(f"{path}/{button}", {"language": "en"}, {"origin": "https://evil.example"})
            assert (answer.status, answer.state) == (403, "invalid")
            assert (await caller.call("GET", f"{path}/{button}")).status == 404
        page = await caller.get(path)
        assert (page.state, language_of(page)) == ("form", "ru")
        assert "/extend" in page.text


async def test_a_button_sends_the_form_along_and_gets_back_what_is_no_secret(sqlite_url: str) -> None:
    async with running_gateway(sqlite_url) as gateway:
        caller = Caller(gateway.app)
        path = await caller.page("000000005")
        typed = {"cc-number": APPROVED_CARD, "cc-exp": "01/30", "cc-csc": "719", "cc-name": 'Ann "O" <B>'}
        for button in ("language", "extend"):
            page = await caller.press(path, button, **typed, language="en")
            assert (page.status, page.state) == (200, "form")
            assert 'value="01/30"' in page.text
            assert escape('Ann "O" <B>') in page.text
            assert "719" not in page.text.replace(path, "")
            assert APPROVED_CARD not in page.text.partition("<details")[0]
        assert language_of(page) == "en"
        assert "please type them again" in page.text
        page = await caller.press(path, "language", **(typed | {"cc-number": "", "cc-csc": ""}), language="en")
        assert "please type them again" not in page.text.partition("<noscript")[0]
        await caller.pay(path)
        assert (await caller.press(path, "language", **typed, language="kk")).status == 303  # there is no form any more
        assert (await caller.press(path, "language", **{"cc-name": "x" * 10_000})).status == 303


async def test_without_a_script_no_answer_to_a_form_is_a_page(sqlite_url: str) -> None:
    """So Back and reload never meet "confirm form resubmission"."""
    async with running_gateway(sqlite_url) as gateway:
        caller = Caller(gateway.app)
        path = await caller.page("000000012", language="ENG")

        async def see(action: str, fields: dict[str, str]) -> str:
            answer = await post_without_script(caller, path + action, fields)
            location = answer.headers["location"]
            assert (answer.status, answer.body, location.partition("?")[0]) == (303, b"", path)
            assert not any(typed in location for typed in TYPED.values())
            page = await caller.get(location)
            assert (page.status, page.state) == (200, "form")
            assert APPROVED_CARD not in page.text.partition("<details")[0]
            return page.text

        wrong = TYPED | {"cc-number": "4405", "cc-exp": "1/30"}
        page = await see("", wrong)
        assert "The card number is too short</a>" in page
        assert 'value="1/30"' in page
        assert 'value="ARMAN ALI"' in page
        for action, words in (("/language", "Карта нөмірі мен"), ("/extend", "Карта нөмірі мен"), ("/confirm", "")):
            page = await see(action, TYPED | {"language": "kk"})
            assert words in page
            assert 'value="ARMAN ALI"' in page
        assert "оқу мүмкін" in await see("", {"cc-name": "x" * 10_000})
        sealed = (await post_without_script(caller, path, wrong)).headers["location"].partition("?")[2]
        other = await caller.page("000000013")
        for foreign in (f"{other}?{sealed}", f"{path}?again=", f"{path}?again=AQ", f"{path}?again=%ff", f"{path}?x"):
            page = (await caller.get(foreign)).text
            assert "ARMAN ALI" not in page
        assert "ARMAN ALI" in (await caller.get(f"{path}?{sealed}")).text
        await caller.pay(path, LOCKED_CARD)
        assert "ARMAN ALI" not in (await caller.get(f"{path}?{sealed}")).text
        await caller.pay(path)
        assert (await caller.get(f"{path}?{sealed}")).state == "approved"


async def test_another_language_without_a_script_still_says_what_is_wrong(sqlite_url: str) -> None:
    async with running_gateway(sqlite_url) as gateway:
        caller = Caller(gateway.app)
        path = await caller.page("000000012", language="ENG")
        wrong = TYPED | {"cc-number": "4405", "cc-exp": "13/30", "cc-name": "АРМАН"}
        left = (await post_without_script(caller, path, wrong)).headers["location"]

        async def speak(language: str, **fields: str) -> str:
            posted = wrong | {"cc-number": "", "cc-csc": "", "language": language} | fields
            answer = await post_without_script(caller, path + "/language", posted, left)
            return (await caller.get(answer.headers["location"])).text

        page = await speak("ru")
        assert page.count('aria-invalid="true"') == 3  # the security code was good
        assert "Номер карты слишком короткий</a>" in page
        assert "введите его так: 09/28</a>" in page
        assert 'value="13/30"' in page
        page = await speak("kk", **{"cc-exp": "12/30", "cc-number": APPROVED_CARD})
        assert page.count('aria-invalid="true"') == 1  # of what was changed nobody has judged it
        assert page.count("Карта нөмірі мен") == 1
        await caller.pay(path, LOCKED_CARD)
        assert 'aria-invalid="true"' not in await speak("ru")


async def test_pages_are_sent_compressed_to_those_who_ask(sqlite_url: str) -> None:
    async with running_gateway(sqlite_url) as gateway:
        caller = Caller(gateway.app)
        path = await caller.page("000000006")
        plain = await caller.get(path)
        packed = await caller.call("GET", path, headers={"accept-encoding": "gzip, deflate, br"})
        assert "content-encoding" not in plain.headers
        assert packed.headers["content-encoding"] == "gzip"
        assert plain.headers["vary"] == packed.headers["vary"] == "accept-encoding"
        assert int(packed.headers["content-length"]) == len(packed.body) < len(plain.body)
        assert 'data-state="form"' in gzip.decompress(packed.body).decode()


async def test_a_busy_gateway_promises_nothing_of_a_page_that_was_open(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_gateway(sqlite_url) as gateway:
        caller = Caller(gateway.app)
        path = await caller.page("000000007")
        token = await caller.token("000000008")

        async def busy(*_: Any) -> None:
            raise Overloaded("the store is closing")

        monkeypatch.setattr(gateway.store, "find", busy)
        monkeypatch.setattr(gateway.store, "change", busy)
        page = await caller.get(path)
        assert (page.status, page.state, page.headers["retry-after"]) == (503, "invalid", "1")
        assert f'content="5;url={path}"' in page.text
        assert f'href="{path}"' in page.text
        assert "не списаны" not in page.text
        opening = await caller.open(token, "000000008")
        assert opening.status == 503
        assert "Деньги не списаны" in opening.text
        assert "refresh" not in opening.text


async def test_a_page_of_an_overtaken_round_still_leads_to_the_shop(sqlite_url: str) -> None:
    async with running_gateway(sqlite_url) as gateway:
        caller = Caller(gateway.app)
        old = await caller.page("000000009", language="KZ")
        await caller.token("000000009", amount="250")
        page = await caller.get(old)
        assert (page.status, page.state, language_of(page)) == (404, "invalid", "kk")
        state = (await caller.get(f"{old}/state")).json()
        assert state["state"] == "invalid"
        answer = await caller.submit(old)
        assert (answer.status, answer.headers["location"]) == (303, old)
        assert ORIGIN not in page.text


async def test_the_way_back_says_failed_only_of_what_has_failed(sqlite_url: str) -> None:
    paid, failed = f'href="{SHOP}/ok"', f'href="{SHOP}/fail"'
    async with running_gateway(sqlite_url) as gateway:
        caller = Caller(gateway.app)
        path = await caller.page("000000010")
        form = await caller.get(path)
        lost = form.text.partition('<template id="lost">')[2]
        assert (paid in lost, failed in form.text) == (True, False)
        challenge = await Issuer(caller).start(path)
        assert (challenge.state, paid in challenge.text, failed in challenge.text) == ("challenge", True, False)
        elsewhere = await caller.get(await caller.page("000000010"))
        assert (elsewhere.state, paid in elsewhere.text, failed in elsewhere.text) == ("challenge", True, False)
        await caller.press(path, "abandon")
        await caller.press(path, "leave")
        left = await caller.get(path)
        assert (left.state, paid in left.text, failed in left.text) == ("failed", False, True)


async def test_only_the_first_look_at_a_result_leads_away_by_itself(database_url: str) -> None:
    async with running_gateway(database_url) as gateway:
        caller = Caller(gateway.app)
        for invoice, action in (("000000014", ""), ("000000015", "/leave")):
            path = await caller.page(invoice, autoBackLink=True)
            assert "data-away" not in (await caller.get(path)).text
            await post_without_script(caller, path + action, TYPED)
            assert (await caller.call("HEAD", path)).status == 200  # nobody has seen it
            first = await caller.get(path)
            assert "data-away" in first.text
            assert '<noscript><meta http-equiv="refresh" content="0;url=https://shop.example/' in first.text
            spoken = await caller.press(path, "language", language="en")
            for later in (await caller.get(spoken.headers["location"]), await caller.get(path)):
                assert later.state == first.state
                assert "data-away" not in later.text
                assert "refresh" not in later.text
                assert 'id="return"' in later.text


async def test_an_order_that_its_payer_left_says_so_when_it_is_opened_again(sqlite_url: str) -> None:
    async with running_gateway(sqlite_url) as gateway:
        caller = Caller(gateway.app)
        token = await caller.token("000000017")
        path = (await caller.open(token, "000000017")).headers["location"]
        await caller.press(path, "leave")
        again = await caller.open(token, "000000017", language="ENG")
        page = await caller.get(again.headers["location"])
        assert (page.state, "The payment is cancelled" in page.text, "data-away" in page.text) == (
            "failed",
            True,
            False,
        )
        assert "data-away" in (await caller.get(path)).text


async def test_a_second_tab_is_told_whose_challenge_it_sees(sqlite_url: str) -> None:
    words = "Another card is being confirmed: the one you typed was not used."
    async with running_gateway(sqlite_url) as gateway:
        caller = Caller(gateway.app)
        path = await caller.page("000000011", language="ENG")
        first = await Issuer(caller).start(path)
        assert f"•••• {CHALLENGED_CARD[-4:]}" in first.text
        assert words not in first.text
        with capture_logs() as logs:
            assert (await caller.submit(path, APPROVED_CARD)).status == 409  # the script opens the address that follows
        assert [(line["event"], line["state"]) for line in logs] == [("card_not_taken", "challenge")]
        plain = await post_without_script(caller, path, TYPED)
        assert plain.headers["location"] == f"{path}?other"
        page = await caller.get(plain.headers["location"])
        assert words in page.text
        assert f"•••• {CHALLENGED_CARD[-4:]}" in page.text
        assert APPROVED_CARD[-4:] not in page.text.replace(path, "")
        again = await caller.submit(path, CHALLENGED_CARD)  # a double click
        assert again.status == 303
        other_path = await caller.page("000000011", language="ENG")
        assert (await caller.submit(other_path, APPROVED_CARD)).status == 409
        assert words in (await caller.get(f"{other_path}?other")).text
        await caller.press(other_path, "abandon")
        assert words not in (await caller.get(f"{path}?other")).text
