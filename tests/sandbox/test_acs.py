"""The access control server's pages, over ASGI: they speak three languages, and take nothing amiss."""

import re
from collections.abc import AsyncIterator
from typing import NamedTuple

import pytest

from tests.gateway import Answer, Caller, running_gateway
from tests.issuer import Form, follow, read_form
from tests.sandbox.test_authenticator import IDS, request_with
from tests.simulation.clock import MovableClock
from tolem.domain.authentication import ChallengeWindow
from tolem.i18n.translator import load_translator
from tolem.sandbox.acs import AcsServer
from tolem.sandbox.acs_book import AcsBook, AcsEntry
from tolem.sandbox.authenticator import CReq, MethodData, encode_message
from tolem.sandbox.cards import build_number

HOST = {"host": "acs.localhost:8700"}


class Bank(NamedTuple):
    """The server, and how it is called."""

    caller: Caller
    book: AcsBook

    async def begin(self, **changes: object) -> AcsEntry:
        return await self.book.begin(request_with(build_number(0, "1"), **changes), is_decoupled=False)

    async def post(self, path: str = "/challenge", **fields: str) -> Answer:
        return await follow(self.caller, await self.caller.form(path, fields, HOST), HOST)

    async def arrive(self, entry: AcsEntry, **fields: str) -> Form:
        """The form of the challenge's page."""
        return read_form(await self.post(creq=creq_of(entry), **fields), "code")

    async def answer(self, form: Form, **fields: str) -> Answer:
        """What a browser is shown after it posted the form."""
        return await self.post(form.action, **fields)


@pytest.fixture
async def bank(sqlite_url: str) -> AsyncIterator[Bank]:
    book = AcsBook(sqlite_url, 7, IDS)

    async def gateway(scope: object, receive: object, send: object) -> None:
        raise AssertionError("it is not asked")

    yield Bank(Caller(AcsServer(gateway, book, MovableClock(), load_translator())), book)
    await book.close()


def creq_of(entry: AcsEntry) -> str:
    return encode_message(
        CReq(threeDSServerTransID=entry.key, acsTransID=entry.id, challengeWindowSize=ChallengeWindow.FULL)
    )


def state(page: Answer) -> str:
    """`data-acs` of a page."""
    match = re.search(r'<main [^>]*data-acs="([a-z]+)"', page.text)
    assert match, page.text
    return match[1]


@pytest.mark.parametrize(
    ("language", "words"),
    (("ru", "Подтвердите, что это вы"), ("kk", "Бұл сіз екеніңізді растаңыз"), ("en", "Confirm that it is you")),
)
async def test_it_speaks_the_pages_language(bank: Bank, language: str, words: str) -> None:
    entry = await bank.begin(language=language)
    page = await bank.post(creq=creq_of(entry))
    assert (page.status, state(page)) == (200, "challenge")
    assert f'lang="{language}"' in page.text
    assert words in page.text
    assert "800 ₸".replace(" ", "\u00a0") in page.text
    assert "•••• " in page.text
    assert entry.masked_pan[:6] not in page.text


@pytest.mark.parametrize("window", tuple(ChallengeWindow))
async def test_it_knows_the_window(bank: Bank, window: ChallengeWindow) -> None:
    entry = await bank.begin(window=window)
    assert f'data-window="{window}"' in (await bank.post(creq=creq_of(entry))).text


async def test_a_shops_name_is_no_markup(bank: Bank) -> None:
    page = await bank.post(creq=creq_of(await bank.begin(shop_name='<script>alert("1")</script>')))
    assert "<script>alert" not in page.text


async def test_what_is_no_challenge_is_refused(bank: Bank) -> None:
    entry, other = await bank.begin(), await bank.begin()
    decoupled = await bank.book.begin(request_with(build_number(0, "7")), is_decoupled=True)
    mixed = CReq(threeDSServerTransID=entry.key, acsTransID=other.id, challengeWindowSize=ChallengeWindow.FULL)
    unknown = CReq(threeDSServerTransID=other.id, acsTransID=other.id, challengeWindowSize=ChallengeWindow.FULL)
    for creq in ("", "x", "e30", "*" * 99, encode_message(mixed), encode_message(unknown), creq_of(decoupled)):
        page = await bank.post(creq=creq, code="123456")
        assert (page.status, state(page)) == (400, "refused")
    assert (await bank.post()).status == 400
    assert (await bank.post(creq=creq_of(entry), more="x" * 20_000)).status == 400
    assert (await bank.caller.call("GET", "/challenge", headers=HOST)).status == 404
    assert (await bank.caller.call("GET", "/pay/x", headers=HOST)).status == 404
    found = await bank.book.find(entry.key)
    assert found == entry


@pytest.mark.parametrize("code", (" 123 456 ", "１２３４５６", "123\u00a0456", "1 2\t3４5６"))
async def test_how_a_code_is_typed_does_not_matter(bank: Bank, code: str) -> None:
    form = await bank.arrive(await bank.begin())
    assert state(await bank.answer(form, code=code)) == "return"


async def test_it_gives_back_what_the_page_gave_it(bank: Bank) -> None:
    entry = await bank.begin()
    form = await bank.arrive(entry, threeDSSessionData="s3ss")
    again = read_form(await bank.answer(form, code="000000"), "code")
    done = read_form(await bank.answer(again, code="123456"), "cres")
    assert done.action == entry.return_url
    assert done.fields["threeDSSessionData"] == "s3ss"
    without = read_form(await bank.post(creq=creq_of(entry)), "cres")
    assert set(without.fields) == {"cres"}


async def test_every_post_is_answered_with_a_redirect(bank: Bank) -> None:
    """And no address says what was typed."""
    entry = await bank.begin()
    path = "/challenge"
    for fields in (
        {"creq": creq_of(entry), "threeDSSessionData": "s3ss"},
        {"code": "000000"},
        {"code": "4321", "language": "kk"},
        {"code": "123456"},
    ):
        answer = await bank.caller.form(path, fields, HOST)
        assert answer.status == 303
        path = answer.headers["location"]
        assert not any(code in path for code in ("000000", "4321", "123456"))
        assert (await bank.caller.call("GET", path, headers=HOST)).status == 200


async def test_going_back_to_what_is_over_changes_nothing_and_leads_on(bank: Bank) -> None:
    entry = await bank.begin()
    form = await bank.arrive(entry, threeDSSessionData="s3ss")
    early = await bank.caller.call("GET", form.action.replace("?", "/back?"), headers=HOST)
    assert early.headers["location"] == form.action
    assert state(await bank.answer(form, code="123456")) == "return"
    ended = await bank.book.find(entry.key)
    for _ in range(2):
        page = await bank.caller.call("GET", form.action, headers=HOST)
        assert (page.status, state(page)) == (200, "ended")
        assert "data-send" not in page.text  # nobody who goes back is sent away again
    for fields in ({"code": "000000"}, {"cancel": "yes"}):
        back = read_form(await bank.answer(form, **fields), "cres")
        assert back.fields["threeDSSessionData"] == "s3ss"
    assert await bank.book.find(entry.key) == ended


async def test_another_language_keeps_what_is_typed(bank: Bank) -> None:
    entry = await bank.begin(language="en")
    form = await bank.arrive(entry)
    page = await bank.answer(form, code="12３", language="kk")
    assert 'lang="kk"' in page.text
    assert "Бұл сіз екеніңізді растаңыз" in page.text
    assert read_form(page, "code").fields["code"] == "123"
    assert (await bank.answer(form, code="1" * 99, language="xx")).text.count(
        'role="alert"'
    ) == 1  # no language: a code
    assert read_form(await bank.answer(form, code="", language="ru"), "code").fields["code"] == ""
    anew = await bank.post(creq=creq_of(entry))
    assert 'lang="ru"' in anew.text  # a frame that is loaded again goes on in the language chosen at the bank
    assert "Осталось 2 попытки" in anew.text
    assert state(await bank.answer(form, code="123456")) == "return"
    found = await bank.book.find(entry.key)
    assert found is not None
    assert (found.typed, found.language) == ("", "ru")


@pytest.mark.parametrize("url", ("", "javascript:alert(1)", "ftp://x/", "http://a b/", "http://x/;script-src *", "//x"))
async def test_a_look_goes_back_to_the_web_only(bank: Bank, url: str) -> None:
    entry = await bank.begin()
    data = encode_message(MethodData(threeDSServerTransID=entry.key, threeDSMethodNotificationURL=url))
    assert (await bank.post("/device", threeDSMethodData=data)).status == 400


async def test_headers(bank: Bank) -> None:
    page = await bank.post(creq=creq_of(await bank.begin()))
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "form-action 'self' http://localhost:8700;" in policy
    assert "frame-ancestors" not in policy  # anybody may frame a bank's page
    assert "unsafe" not in policy
    for path, kind in (("/acs.css", "text/css"), ("/acs.js", "text/javascript")):
        asset = await bank.caller.call("GET", path, headers=HOST)
        assert (asset.status, asset.headers["content-type"].partition(";")[0]) == (200, kind)
    assert re.search(r"<[^>]+ (style|on[a-z]+)=|<script>|<style", page.text) is None


async def test_it_says_that_it_is_there(bank: Bank) -> None:
    answer = await bank.caller.call("HEAD", "/challenge", headers=HOST)
    assert (answer.status, answer.text) == (204, "")


async def test_the_gateways_own_hosts_are_the_gateways(sqlite_url: str) -> None:
    async with running_gateway(sqlite_url, acs_url="http://bank.test:9000") as gateway:
        caller = Caller(gateway.app)
        assert (await caller.call("GET", "/healthz", headers={"host": "localhost:8700"})).status == 200
        for host in ("acs.localhost:8700", "ACS.localhost", "bank.test:9000"):
            assert (await caller.call("GET", "/healthz", headers={"host": host})).status == 404
            assert (await caller.call("GET", "/acs.css", headers={"host": host})).status == 200
