"""The page in a frame of the shop's page, over HTTP: who may frame it, what it says to whom, when it stands alone."""

import re
from urllib.parse import urlsplit

import pytest
from tests.gateway import APPROVED_CARD, ORIGIN, Answer, Caller, running_gateway
from tests.issuer import Issuer, follow, read_form

from tolem.bootstrap import Gateway
from tolem.clock import SystemClock
from tolem.domain.errors import Refusal
from tolem.flows.administration import Administration
from tolem.flows.opening import Known
from tolem.i18n.translator import load_translator
from tolem.ids import Ids
from tolem.sandbox.fixtures import TERMINAL_ID
from tolem.web.pages import Pages

SHOP = "https://shop.example"
FRAME = {"sec-fetch-dest": "iframe"}
WINDOW = {"sec-fetch-dest": "document"}
ALONE = "frame-ancestors 'none'"


async def open_framed(
    caller: Caller, invoice: str, headers: dict[str, str], *, origin: str = SHOP, **fields: str
) -> Answer:
    """Opens a page as a browser with those headers does, and follows the redirect; `origin` is the library's field."""
    token = await caller.token(invoice)
    sent = {"params": caller.params(token, invoice)} | fields | ({"origin": origin} if origin else {})
    opened = await caller.form("/payform/", sent, headers)
    return await caller.call("GET", opened.headers["location"], headers=headers) if opened.status == 303 else opened


async def allow(gateway: Gateway, *hosts: str) -> None:
    await Administration(gateway.store, SystemClock(), Ids()).change_terminal(TERMINAL_ID, frame_hosts=hosts)


def ancestors_of(answer: Answer) -> str:
    match = re.search(r"frame-ancestors [^;]+", answer.headers["content-security-policy"])
    assert match
    assert ("x-frame-options" in answer.headers) == (match[0] == ALONE)
    return match[0]


def told(answer: Answer) -> str:
    """The origin that the page's script speaks with, empty if it has none."""
    match = re.search(r'<script src="/static/frame\.[0-9a-f]+\.js" integrity="[^"]+" data-shop="([^"]*)"', answer.text)
    assert ('id="stop"' in answer.text) == bool(match)
    return match[1] if match else ""


async def test_a_framed_page_names_its_shop_and_the_terminals_hosts(database_url: str) -> None:
    async with running_gateway(database_url) as gateway:
        await allow(gateway, "shop.example", "mall.example:8443")
        page = await open_framed(Caller(gateway.app), "000000001", FRAME)
        assert (page.status, page.state, told(page)) == (200, "form", SHOP)
        hosts = ("shop.example", "mall.example:8443")
        expected = " ".join(f"{scheme}://{host}" for host in hosts for scheme in ("https", "http"))
        assert ancestors_of(page) == f"frame-ancestors {expected}"


async def test_a_sandbox_without_a_list_lets_any_web_page(sqlite_url: str) -> None:
    async with running_gateway(sqlite_url) as gateway:
        page = await open_framed(Caller(gateway.app), "000000001", FRAME, origin="http://localhost:3000")
        assert (told(page), ancestors_of(page)) == ("http://localhost:3000", "frame-ancestors http: https:")


async def test_what_the_frame_posts_is_answered_into_the_frame(sqlite_url: str) -> None:
    async with running_gateway(sqlite_url) as gateway:
        caller = Caller(gateway.app)
        token = await caller.token("000000001")
        fields = {"params": caller.params(token, "000000001"), "origin": SHOP}
        path = (await caller.form("/payform/", fields, FRAME)).headers["location"]
        own = FRAME | {"origin": ORIGIN}
        typed = {"cc-name": "AIGERIM SEIT", "language": "kk"}
        for action, status in (("", 422), ("/language", 200), ("/extend", 200)):
            answer = await caller.form(path + action, typed, own)
            assert (answer.status, told(answer)) == (status, SHOP)
            assert ancestors_of(answer) == "frame-ancestors http: https:"
        card = {"cc-number": APPROVED_CARD, "cc-exp": "12/30", "cc-csc": "123", "cc-name": "AIGERIM SEIT"}
        assert (await caller.form(path, card, own)).status == 303
        result = await caller.call("GET", path, headers=FRAME)
        assert (result.state, told(result)) == ("approved", SHOP)
        assert "data-over" not in result.text


async def test_a_frame_tells_instead_of_going_back_by_itself(sqlite_url: str) -> None:
    async with running_gateway(sqlite_url) as gateway:
        caller = Caller(gateway.app)
        for headers, is_framed in ((FRAME, True), (WINDOW, False)):
            page = await open_framed(caller, f"00000000{is_framed:d}", headers)
            match = re.search(r'action="(/pay/[^"]+)/leave"', page.text)
            assert match
            await caller.form(match[1] + "/leave", {}, {"origin": ORIGIN})
            for own in (
                (WINDOW, headers) if is_framed else (headers,)
            ):  # a window beside the frame takes nothing from it
                left = await caller.call("GET", match[1], headers=own)
                assert left.state == "failed"
                assert (" data-over " in left.text) == (own is FRAME)
                assert ('http-equiv="refresh"' in left.text) != is_framed


async def test_a_bank_that_took_a_window_beside_the_frame_leads_back_to_the_frame(sqlite_url: str) -> None:
    async with running_gateway(sqlite_url) as gateway:
        caller = Caller(gateway.app)
        page = await open_framed(caller, "000000001", FRAME)
        match = re.search(r'data-page="(/pay/[^"]+)"', page.text)
        assert match
        issuer = Issuer(caller)
        asks = await issuer.start(match[1])
        assert '" target="_blank" rel="noopener">\n<input type="hidden" name="creq"' in asks.text
        passed = read_form(await issuer.answer(await issuer.arrive(asks)), "cres")
        for headers, is_beside in ((WINDOW, True), (FRAME, False)):
            led = await caller.form(urlsplit(passed.action).path, passed.fields, headers)
            returned = await follow(caller, led, headers)
            assert ("Если вы её закрыли, продолжите здесь" in returned.text) == is_beside
            assert f'data-path="{"" if is_beside else match[1]}"' in returned.text  # what the script goes on to
            assert f'href="{match[1]}"' in returned.text


@pytest.mark.parametrize(
    ("headers", "fields", "is_framed"),
    (
        ({"sec-fetch-dest": "iframe"}, {}, True),
        ({"sec-fetch-dest": "frame"}, {}, True),
        ({"sec-fetch-dest": "iframe"}, {"isShortForm": "true"}, True),
        ({"sec-fetch-dest": "document"}, {"isShortForm": "true"}, False),
        ({}, {"isShortForm": "true"}, True),
        ({}, {"isShortForm": "false"}, False),
        ({}, {}, False),
    ),
)
async def test_the_browser_says_whether_it_is_a_frame_and_the_flag_where_it_does_not(
    sqlite_url: str, headers: dict[str, str], fields: dict[str, str], is_framed: bool
) -> None:
    async with running_gateway(sqlite_url) as gateway:
        page = await open_framed(Caller(gateway.app), "000000001", headers, **fields)
        assert (page.state, told(page)) == ("form", SHOP if is_framed else "")
        assert (ancestors_of(page) == ALONE) != is_framed


async def test_an_old_copy_is_known_by_its_referer(sqlite_url: str) -> None:
    async with running_gateway(sqlite_url) as gateway:
        caller = Caller(gateway.app)
        page = await open_framed(caller, "000000001", FRAME | {"referer": f"{SHOP}/basket?id=7"}, origin="")
        assert told(page) == SHOP
        refused = await open_framed(caller, "000000001", FRAME, origin="")
        assert (refused.status, refused.state, told(refused)) == (400, "invalid", "")
        assert "nothing says which page shows this one" in refused.text


@pytest.mark.parametrize("origin", ("https://evil.example", "https://shop.example.evil.example", "null", "x", '"><b>'))
async def test_others_are_refused_in_a_frame_that_says_why(sqlite_url: str, origin: str) -> None:
    async with running_gateway(sqlite_url) as gateway:
        await allow(gateway, "shop.example")
        caller = Caller(gateway.app)
        page = await open_framed(caller, "000000001", FRAME, origin=origin)
        assert (page.status, page.state) == (400, "invalid")
        assert "may not show this one in a frame" in page.text
        assert f"tolem terminal set {TERMINAL_ID} --frame-host" in page.text
        assert "<b>" not in page.text
        assert (await open_framed(caller, "000000001", FRAME)).state == "form"


async def test_a_page_without_an_order_is_seen_in_a_frame_and_only_there(sqlite_url: str) -> None:
    async with running_gateway(sqlite_url) as gateway:
        caller = Caller(gateway.app)
        for path in ("/pay/nothing", "/payform/"):
            for headers in (FRAME, {}):
                page = await caller.call("GET", path, headers=headers)
                assert page.state == "invalid"
                assert ancestors_of(page) == ("frame-ancestors http: https:" if headers else ALONE)


def test_an_address_of_an_origin_is_escaped_wherever_it_stands() -> None:
    page = Pages(load_translator(), sandbox=True).invalid("en", Refusal.FRAME_NOT_ALLOWED, "x", Known(), '"><script>')
    assert b'data-shop="&quot;&gt;&lt;script&gt;"' in page
    assert b'id="return"' not in page
