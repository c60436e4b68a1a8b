"""Words that do harm where they are shown or stored: HTML, other directions, zero widths, far too many of them."""

import html
import json
from typing import Any

import pytest
from tests.gateway import ORIGIN, Answer, PatientCaller, running_gateway, running_shop

from tolem.sandbox.fixtures import TERMINAL_ID
from tolem.storage import keys
from tolem.web.view import legible
from tolem.wire.pay_object import parse_posted

INVOICE = "000000001"
HTML = '"><script>x()</script>'
HIDDEN = "\u202eлатнид\u202c a\u200bb\u2066c\ufeffd"
"""Text that turns around, and letters of no width."""
TEXTS = ("description", "name", "email", "phone", "accountId", "data", "invoiceIdAlt", "language", "paymentType")
MANY = "x" * 10_000


def assert_plain(answer: Answer) -> None:
    """Nothing of HTML got through: what it would have made is not there."""
    assert "<script>x()" not in answer.text
    assert "x()</script>" not in answer.text


@pytest.mark.parametrize("field", (*TEXTS, "backLink", "failureBackLink", "postLink", "currency", "terminal", "auth"))
async def test_ten_thousand_characters_are_refused_by_name(sqlite_url: str, field: str) -> None:
    async with running_gateway(sqlite_url) as gateway:
        caller = PatientCaller(gateway.app)
        answer = await caller.open(await caller.token(INVOICE), INVOICE, **{field: MANY})
        assert (answer.status, answer.state) == (400, "invalid")
        assert field in answer.text
        assert MANY not in answer.text
        history = await gateway.store.find(keys.order_by_invoice(TERMINAL_ID, INVOICE))
        assert history is not None
        assert history.payments == {}


@pytest.mark.parametrize("field", ("invoiceID", "secret_hash", "amount", "currency", "terminal", "postLink", "scope"))
async def test_ten_thousand_characters_in_a_token_request(sqlite_url: str, field: str) -> None:
    async with running_gateway(sqlite_url) as gateway:
        answer = await PatientCaller(gateway.app).request_token(INVOICE, **{field: MANY})
        assert answer.status == 400
        assert answer.json()["message"]
        assert MANY not in answer.text


@pytest.mark.parametrize("field", ("cc-number", "cc-exp", "cc-csc", "cc-name", "browser", "other"))
async def test_ten_thousand_characters_in_the_card_form_cost_nothing(sqlite_url: str, field: str) -> None:
    async with running_gateway(sqlite_url) as gateway:
        caller = PatientCaller(gateway.app)
        path = await caller.page(INVOICE, language="KZ")
        answer = await caller.submit(path, **{field: MANY})
        assert (answer.status, answer.state) == (413, "form")
        assert "қайта енгізіңіз" in answer.text
        assert MANY not in answer.text
        for action, status in (("language", 413), ("extend", 413), ("device", 303), ("abandon", 303), ("leave", 303)):
            again = await caller.form(f"{path}/{action}", {field: MANY}, {"origin": ORIGIN})
            assert again.status == status, action
        assert (await caller.get(path)).state == "failed"  # it was left
        again = await caller.submit(path, MANY)
        assert (again.status, again.headers["location"]) == (303, path)  # the page says how it ended


@pytest.mark.parametrize(("words", "shown"), ((HTML, HTML), (HIDDEN, "латнид abcd")))
async def test_words_of_the_shop_reach_the_payer_as_words(sqlite_url: str, words: str, shown: str) -> None:
    """What hides in them stays on their way to the payer; the shop gets back what it sent."""
    async with running_shop() as shop, running_gateway(sqlite_url) as gateway:
        caller = PatientCaller(gateway.app, shop.url)
        wish: dict[str, Any] = dict.fromkeys(("description", "name", "accountId", "data"), words)
        path = await caller.page(INVOICE, **wish)
        form = await caller.get(path)
        wrong = await caller.submit(path, "4405")
        approved = await caller.pay(path)
        assert (form.state, wrong.status, approved.state) == ("form", 422, "approved")
        for page in (form, wrong, approved):
            assert_plain(page)
            assert f"<bdi>{html.escape(shown)}</bdi>" in page.text
        (told,) = await shop.wait(1)
        assert told["description"] == words
        assert told["name"] == words


async def test_a_name_on_a_card_that_hides_something_is_told_and_comes_back_as_text(sqlite_url: str) -> None:
    async with running_gateway(sqlite_url) as gateway:
        caller = PatientCaller(gateway.app)
        path = await caller.page(INVOICE)
        for name in (HTML, HIDDEN, "ARMAN\u200bALI", "\u202eILA NAMRA"):
            answer = await caller.submit(path, cc_name=name)
            assert (answer.status, answer.state) == (422, "form")
            assert 'id="cc-name-error"' in answer.text
            assert_plain(answer)
        for field in ("cc_number", "cc_exp", "cc_csc"):
            typed = {field: HTML} if field != "cc_number" else {}
            answer = await caller.submit(path, HTML if field == "cc_number" else "4405639704015096", **typed)
            assert answer.status == 422
            assert_plain(answer)
            assert "&lt;script" not in answer.text  # no number, code or date is ever sent back like this
        assert (await caller.pay(path, "4405\u200b6397\u202a0401\u20605096")).state == "approved"


@pytest.mark.parametrize("field", ("backLink", "failureBackLink", "postLink", "invoiceId", "amount", "auth"))
async def test_html_where_an_address_or_a_number_should_be(sqlite_url: str, field: str) -> None:
    async with running_gateway(sqlite_url) as gateway:
        caller = PatientCaller(gateway.app)
        answer = await caller.open(await caller.token(INVOICE), INVOICE, **{field: HTML})
        assert (answer.status, answer.state) == (400, "invalid")
        assert_plain(answer)
        assert field in answer.text


async def test_html_beside_the_object_and_in_headers(sqlite_url: str) -> None:
    async with running_gateway(sqlite_url) as gateway:
        caller = PatientCaller(gateway.app)
        params = json.dumps({"auth": HTML})
        assert parse_posted(params, {}).access_token == HTML.replace(" ", "")
        frame = {"sec-fetch-dest": "iframe", "referer": f"https://a{HTML}/", "accept-language": HTML}
        for fields in ({"params": params, "origin": HTML}, {"params": params, HTML: HTML}, {HTML: HTML}):
            answer = await caller.form("/payform/", fields, frame)
            assert answer.status == 400
            assert_plain(answer)
            assert HTML not in repr(answer.headers)
        assert_plain(await caller.get(f"/pay/{HTML}"))
        assert_plain(await caller.form(f"/3ds/{HTML}", {"cres": HTML, "threeDSSessionData": HTML}))


@pytest.mark.parametrize(
    ("text", "shown"),
    (
        ("\u202etxt.exe\u202c", "txt.exe"),
        ("Pay\u200dPal\u200c, \u200dВода\u200cрод\u2069", "PayPal, Водарод"),
        ("\u200f\u061c\ufeff\u2060", ""),
        ("\u06a9\u062a\u0627\u0628\u200c\u0647\u0627", "\u06a9\u062a\u0627\u0628\u200c\u0647\u0627"),  # Persian: books
        ("\u0915\u094d\u200d\u0937", "\u0915\u094d\u200d\u0937"),  # Hindi
        ("👩\u200d💻 ❤️\u200d🔥", "👩\u200d💻 ❤️\u200d🔥"),
        ("👩\u200d\u200b\u200d💻", "👩💻"),
        ("שלום, Қазақстан 5\u00a0₸", "שלום, Қазақстан 5\u00a0₸"),
    ),
)
def test_what_a_payer_reads(text: str, shown: str) -> None:
    assert legible(text) == shown


async def test_a_description_that_nobody_can_see_is_none(sqlite_url: str) -> None:
    async with running_gateway(sqlite_url) as gateway:
        caller = PatientCaller(gateway.app)
        path = await caller.page(INVOICE, description="\u200b\u2060\ufeff \u3164", language="ENG")
        assert (await caller.pay(path)).state == "approved"
        assert "Purpose" not in (await caller.get(path)).text
