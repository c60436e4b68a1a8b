"""Pages as a payer gets them: what they say in each state and language, and what they never say."""

import re
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import pytest
from msgspec.structs import replace

from tolem.domain.card import CardField, CardProblem, parse_card, passes_luhn
from tolem.domain.errors import Refusal
from tolem.flows.opening import Known
from tolem.flows.rounds import PageState
from tolem.i18n.translator import load_translator
from tolem.web.card_choice import REMOVED
from tolem.web.card_form import BUSY, UNREAD, WAIT
from tolem.web.pages import Pages
from tolem.web.sandbox_cards import SANDBOX_CARDS
from tolem.web.view import PageView

TRANSLATOR = load_translator()
SANDBOX = Pages(TRANSLATOR, sandbox=True)
PRODUCTION = Pages(TRANSLATOR, sandbox=False)
AT = datetime(2026, 11, 24, 7, 5, tzinfo=UTC)

VIEW = PageView(
    language="en",
    shop_name="Bookshop",
    amount=123_450,
    currency="KZT",
    invoice_id="000042",
    description="Two books",
    attempts_left=3,
    return_url="https://shop.example/back?a=1&b=2",
    page_path="/pay/Abc-123",
    deadline_at=AT,
)
TRIED = replace(
    VIEW, masked_pan="440564...5096", brand="VISA", rrn="632807123456", approval_code="421907", reason_code=466, at=AT
)
ALL_PROBLEMS = {
    CardField.NUMBER: CardProblem.NUMBER_CHECK,
    CardField.EXPIRY: CardProblem.EXPIRY_PAST,
    CardField.CVC: CardProblem.CVC_LENGTH_3,
    CardField.NAME: CardProblem.NAME_FORMAT,
}
VOID_ELEMENTS = {"input", "link", "meta", "path", "circle", "rect"}


class Document(HTMLParser):
    """A page taken apart; complains of tags that do not match."""

    def __init__(self, body: bytes) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.by_id: dict[str, str] = {}
        """The text of what has an id, up to the next such element."""
        self._open: list[str] = []
        self._last_id = ""
        self.feed(body.decode())
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        self._last_id = dict(attrs).get("id") or self._last_id
        if tag not in VOID_ELEMENTS:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID_ELEMENTS:
            assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
        self.by_id[self._last_id] = self.by_id.get(self._last_id, "") + data

    def find(self, tag: str, **wanted: str) -> dict[str, str]:
        found = [has for name, has in self.tags if name == tag and wanted.items() <= has.items()]
        assert len(found) == 1, (tag, wanted, found)
        return found[0]

    def has(self, tag: str, **wanted: str) -> bool:
        return any(name == tag and wanted.items() <= has.items() for name, has in self.tags)


def build_pages(pages: Pages, language: str) -> dict[str, tuple[PageState, bytes]]:
    """Every kind of page, with the state that it has to tell."""
    view, tried = replace(VIEW, language=language), replace(TRIED, language=language)
    verification = replace(tried, amount=0, is_verification=True)
    return {
        "form": (PageState.FORM, pages.form(view)),
        "form with errors": (PageState.FORM, pages.form(view, ALL_PROBLEMS)),
        "form with notice": (PageState.FORM, pages.form(view, notice=BUSY)),
        "form that waits": (PageState.FORM, pages.form(view, notice=WAIT)),
        "form that was not read": (PageState.FORM, pages.form(view, notice=UNREAD)),
        "verification": (PageState.FORM, pages.form(verification)),
        "declined": (PageState.DECLINED, pages.form(replace(tried, state=PageState.DECLINED))),
        "checking": (PageState.CHECKING, pages.checking(replace(tried, state=PageState.CHECKING))),
        "approved": (PageState.APPROVED, pages.approved(tried)),
        "verified": (PageState.APPROVED, pages.approved(verification)),
        "paid": (PageState.PAID, pages.paid(tried)),
        "failed": (PageState.FAILED, pages.failed(tried)),
        "maintenance": (PageState.MAINTENANCE, pages.maintenance(replace(view, state=PageState.MAINTENANCE))),
        "cancelled": (PageState.FAILED, pages.failed(replace(tried, reason_code=476))),
        "expired": (PageState.EXPIRED, pages.expired(tried)),
        "invalid": (PageState.INVALID, pages.invalid(language, Refusal.DIFFERS, "amount: 1 is not 2")),
        **{
            f"invalid, {state}, {is_verification}": (
                PageState.INVALID,
                pages.invalid(
                    language, Refusal.DIFFERS, "x", Known("https://shop.example/", None, state, is_verification)
                ),
            )
            for state in (PageState.PAID, PageState.CHECKING)
            for is_verification in (False, True)
        },
        "not available": (PageState.INVALID, pages.invalid(language, Refusal.NOT_AVAILABLE, "isAFT")),
        "wrong origin": (PageState.INVALID, pages.invalid(language, Refusal.FOREIGN_ORIGIN)),
        "busy": (PageState.INVALID, pages.busy(language)),
        "fault": (PageState.INVALID, pages.fault(language, "0193-6f2a")),
    }


@pytest.mark.parametrize("language", TRANSLATOR.languages)
@pytest.mark.parametrize("pages", (SANDBOX, PRODUCTION), ids=("sandbox", "production"))
def test_every_page_tells_its_state_and_language_and_has_nothing_inline(pages: Pages, language: str) -> None:
    for name, (state, body) in build_pages(pages, language).items():
        document = Document(body)
        assert document.find("main")["data-state"] == state, name
        assert document.find("html")["lang"] == language, name
        assert sum(tag == "h1" for tag, _ in document.tags) == 1, name
        assert document.text.count("%(") == 0, name
        assert all(text not in body.decode() for text in ("\x02", "\x03", "None")), name
        for tag, has in document.tags:
            assert tag != "style", name
            assert tag != "script" or re.fullmatch(r"/static/page\.[0-9a-f]{12}\.js", has["src"]), name
            assert not any(attribute == "style" or attribute.startswith("on") for attribute in has), name
        ids = [has["id"] for _, has in document.tags if "id" in has]
        assert len(ids) == len(set(ids)), name
        described = {ref for _, has in document.tags for ref in has.get("aria-describedby", "").split()}
        assert described <= set(ids), name


def test_a_language_without_a_catalogue_gets_russian() -> None:
    assert Document(SANDBOX.form(replace(VIEW, language="xx"))).find("html")["lang"] == "ru"
    assert Document(SANDBOX.busy("")).find("html")["lang"] == "ru"


def test_form_keeps_the_contract_of_its_fields() -> None:
    document = Document(PRODUCTION.form(VIEW))
    assert document.find("form", method="post", action="/pay/Abc-123")
    assert document.find("form", method="post", action="/pay/Abc-123/leave")
    for field in CardField:
        assert document.find("input", name=field, id=field, autocomplete=field)
        assert document.find("label", **{"for": field})
    for field in (CardField.NUMBER, CardField.EXPIRY, CardField.CVC):
        assert document.find("input", name=field)["inputmode"] == "numeric"
    assert "Pay 1\u00a0234,50\u00a0₸" in document.text
    assert "12:05, Astana time" in document.text
    assert "Bookshop" in document.text
    assert "Two books" in document.text
    assert "000042" in document.text


@pytest.mark.parametrize("language", TRANSLATOR.languages)
def test_each_error_stands_beside_its_field_and_the_first_gets_the_focus(language: str) -> None:
    body = SANDBOX.form(replace(VIEW, language=language), ALL_PROBLEMS)
    document = Document(body)
    for field in CardField:
        found = document.find("input", name=field)
        assert found["aria-invalid"] == "true"
        assert f"{field}-error" in found["aria-describedby"]
        assert document.find("p", id=f"{field}-error")
        assert document.find("a", href=f"#{field}")
        assert ("autofocus" in found) is (field is CardField.NUMBER)
    document = Document(SANDBOX.form(VIEW, {CardField.CVC: CardProblem.CVC_MISSING}))
    assert "autofocus" in document.find("input", name="cc-csc")
    assert "aria-invalid" not in document.find("input", name="cc-number")
    assert b'<p class="error" id="cc-number-error" aria-live="polite"></p>' in SANDBOX.form(VIEW)
    assert document.text.count("Enter the security code") == 2


def test_only_expiry_and_name_come_back_into_the_form() -> None:
    typed = {
        CardField.NUMBER: "4405639704015097",
        CardField.EXPIRY: "09/28",
        CardField.CVC: "719",
        CardField.NAME: 'ANN "O" <B>',
    }
    body = PRODUCTION.form(VIEW, ALL_PROBLEMS, typed)
    document = Document(body)
    assert document.find("input", name="cc-exp")["value"] == "09/28"
    assert document.find("input", name="cc-name")["value"] == 'ANN "O" <B>'
    assert "value" not in document.find("input", name="cc-number")
    assert "value" not in document.find("input", name="cc-csc")
    assert b"4405639704015097" not in body
    assert b"719" not in body


def test_a_number_typed_into_a_wrong_field_does_not_come_back() -> None:
    typed = {CardField.EXPIRY: "4405639704015096", CardField.NAME: "4405 6397 0401 5096"}
    document = Document(PRODUCTION.form(VIEW, ALL_PROBLEMS, typed))
    assert document.find("input", name="cc-exp")["value"] == ""
    assert document.find("input", name="cc-name")["value"] == ""


EVIL = "<script>alert(1)</script>\"'&%(amount)s\u202egnp\u200b\ud800"


@pytest.mark.parametrize("language", TRANSLATOR.languages)
def test_what_comes_from_outside_is_escaped_and_isolated(language: str) -> None:
    evil = replace(
        TRIED, language=language, shop_name=EVIL, description=EVIL, invoice_id=EVIL, rrn=EVIL, approval_code=EVIL
    )
    bodies = [body for _, body in build_pages(SANDBOX, language).values()]
    bodies += [
        SANDBOX.form(evil, notice=BUSY),
        SANDBOX.checking(evil),
        SANDBOX.approved(evil),
        SANDBOX.expired(evil),
        SANDBOX.invalid(language, Refusal.INVALID_REQUEST, EVIL),
        SANDBOX.fault(language, EVIL),
    ]
    for body in bodies:
        assert [tag for tag, _ in Document(body).tags].count("script") == 1
    shown = SANDBOX.approved(evil).decode()
    escaped = "&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#x27;&amp;%(amount)s\u202egnp\u200b?"
    assert shown.count(f"<bdi>{escaped}</bdi>") == 6
    assert shown.count(escaped) == 7  # and isolated by characters in the title
    assert f"\u2068{escaped}\u2069</title>" in shown.replace("&#x2068;", "\u2068").replace("&#x2069;", "\u2069")


def test_declined_says_why_and_lets_try_another_card() -> None:
    declined = replace(TRIED, state=PageState.DECLINED, reason_code=484, attempts_left=1)
    text = Document(SANDBOX.form(declined)).text
    assert "There is not enough money on the card" in text
    assert "1 attempt left" in text
    assert "Visa •••• 5096" in text
    assert "Осталось 2 попытки" in Document(SANDBOX.form(replace(declined, language="ru", attempts_left=2))).text
    stolen = Document(SANDBOX.form(replace(declined, reason_code=483))).text
    assert "The bank declined the payment" in stolen
    assert "stolen" not in stolen.lower()


@pytest.mark.parametrize(
    ("language", "declined", "unverified", "error", "paid"),
    (
        ("en", "The payment was declined", "The card was not verified", "Error: Payment", "Payment approved"),
        ("ru", "Платёж отклонён", "Карта не прошла проверку", "Ошибка: Оплата", "Оплата прошла"),
        ("kk", "Төлем қабылданбады", "Карта тексеруден өтпеді", "Қате: Төлем", "Төлем өтті"),
    ),
)
def test_the_title_begins_with_the_state(language: str, declined: str, unverified: str, error: str, paid: str) -> None:
    view = replace(TRIED, language=language)
    lost = replace(view, state=PageState.DECLINED)
    card = replace(lost, amount=0, is_verification=True)
    shop, amount = "\u2068Bookshop\u2069", "1\u00a0234,50\u00a0₸"
    for title, body in (
        (f"{declined} · {amount} · {shop}", SANDBOX.form(lost)),
        (f"{unverified} · {shop}", SANDBOX.form(card)),
        (f"{error} · {amount} · {shop}", SANDBOX.form(view, ALL_PROBLEMS)),
        (f"{error} · {amount} · {shop}", SANDBOX.form(lost, ALL_PROBLEMS)),
        (f"{error} · {amount} · {shop}", SANDBOX.form(view, notice=BUSY)),
        (f"{error.partition(' ')[2]} · {amount} · {shop}", SANDBOX.form(view, notice=REMOVED)),
        (f"{unverified} · {shop}", SANDBOX.failed(card)),
        (f"{paid} · {shop}", SANDBOX.approved(view)),
    ):
        assert f"<title>{title}</title>" in body.decode().replace("&#x2068;", "\u2068").replace("&#x2069;", "\u2069")


@pytest.mark.parametrize("reason_code", (0, 454, 458, 464, 466, 468, 476, 484, 499, 2740))
def test_a_verification_speaks_of_no_payment(reason_code: int) -> None:
    view = replace(TRIED, amount=0, is_verification=True, reason_code=reason_code, description="")
    declined = Document(SANDBOX.form(replace(view, state=PageState.DECLINED, now=AT)))
    said = declined.text.partition("The card was not ")[2].partition("Verify the card")
    assert said[1]
    assert "payment" not in said[0].lower()
    assert not any(words in declined.text for words in ("Pay by card", "Pay before", "time to pay"))
    assert "Verify before" in declined.text
    assert "time to verify the card ends" in declined.text
    for body in (SANDBOX.failed(view), SANDBOX.expired(view)):
        text = Document(body).text.replace("Payment page by tolem", "")
        assert "payment" not in text.lower()
        assert "₸" not in text


@pytest.mark.parametrize(
    ("reason_code", "has_left", "title", "verification"),
    (
        (466, False, "The payment did not go through", "The card was not verified"),
        (499, False, "The payment was not confirmed", "The card was not confirmed"),
        (466, True, "The payment is cancelled", "The card verification is cancelled"),
        (499, True, "The payment is cancelled", "The card verification is cancelled"),
        (476, True, "The payment is cancelled", "The card verification is cancelled"),
    ),
)
def test_how_an_order_failed(reason_code: int, has_left: bool, title: str, verification: str) -> None:
    view = replace(TRIED, reason_code=reason_code, has_left=has_left)
    body = SANDBOX.failed(view).decode()
    assert f"<title>{title} · " in body
    assert f"<h1>{title}</h1>" in body
    body = SANDBOX.failed(replace(view, amount=0, is_verification=True)).decode()
    assert f"<title>{verification} · " in body
    assert f"<h1>{verification}</h1>" in body
    assert ('<p class="lead">No money was taken.</p>' in body) is has_left


@pytest.mark.parametrize("state", (PageState.APPROVED, PageState.PAID))
def test_receipt_has_what_a_payer_keeps(state: PageState) -> None:
    text = Document(SANDBOX.page(replace(TRIED, state=state))).text
    for part in (
        "1\u00a0234,50\u00a0₸",
        "Bookshop",
        "000042",
        "•••• 5096",
        "632807123456",
        "421907",
        "24 November 2026",
    ):
        assert part in text


@pytest.mark.parametrize("state", (PageState.APPROVED, PageState.PAID, PageState.FAILED, PageState.EXPIRED))
def test_result_leads_back_to_the_shop(state: PageState) -> None:
    view = replace(TRIED, state=state)
    document = Document(SANDBOX.page(view))
    link = document.find("a", href="https://shop.example/back?a=1&b=2")
    assert link["rel"] == "noopener noreferrer"
    assert not document.has("meta", **{"http-equiv": "refresh"})

    assert "data-away" not in document.find("main")

    body = SANDBOX.page(replace(view, auto_return=True))
    document = Document(body)
    refresh = document.find("meta", **{"http-equiv": "refresh"})
    assert refresh["content"] == "0;url=https://shop.example/back?a=1&b=2"
    assert body.count(b'<noscript><meta http-equiv="refresh"') == 1  # the script does it better: only once
    assert "data-away" in document.find("main")
    assert document.find("a", id="return")["href"] == "https://shop.example/back?a=1&b=2"

    body = SANDBOX.page(replace(view, return_url="https://shop.example/?a='b\"", auto_return=True))
    refresh = Document(body).find("meta", **{"http-equiv": "refresh"})
    assert refresh["content"] == "0;url=https://shop.example/?a=%27b%22"


@pytest.mark.parametrize("url", ("", "javascript:alert(1)", "data:text/html,x", "//evil.example"))
def test_no_link_where_there_is_no_address_to_return_to(url: str) -> None:
    document = Document(SANDBOX.approved(replace(TRIED, return_url=url, auto_return=True)))
    assert not document.has("a")
    assert not document.has("meta", **{"http-equiv": "refresh"})
    assert "return to the shop" in document.text


def test_nobody_is_said_to_be_told_where_nobody_is() -> None:
    assert "We are letting the shop know." in Document(SANDBOX.approved(TRIED)).text
    untold = Document(SANDBOX.approved(replace(TRIED, is_message_on_its_way=False))).text
    assert "letting" not in untold
    assert "You can return to the shop now." in untold
    verified = replace(TRIED, amount=0, is_verification=True)
    assert "letting" not in Document(SANDBOX.approved(verified)).text


@pytest.mark.parametrize("language", TRANSLATOR.languages)
def test_what_is_wrong_is_not_what_the_hint_says_already(language: str) -> None:
    form = Document(SANDBOX.form(replace(VIEW, language=language)))
    for field in CardField:
        has = form.find("input", id=field.value)
        hints = [
            form.by_id.get(f"{field.value}-hint", "\n").strip().partition("\n")[0],
            *(has[name] for name in has if name.startswith("data-hint")),
        ]
        problems = [problem for problem in CardProblem if f"data-{problem}" in has]
        assert problems
        for problem in problems:
            told = list_triples(has[f"data-{problem}"])
            assert not any(told & list_triples(hint) for hint in hints), (problem, hints)


def list_triples(text: str) -> set[tuple[str, ...]]:
    """Every three words that stand side by side."""
    words = re.findall(r"\w+", text.casefold())
    return set(zip(words, words[1:], words[2:], strict=False))


def test_checking_updates_itself_with_and_without_script() -> None:
    body = SANDBOX.checking(replace(TRIED, state=PageState.CHECKING))
    assert Document(body).find("main")["data-page"] == "/pay/Abc-123"
    assert b'<noscript><meta http-equiv="refresh" content="2"></noscript>' in body


@pytest.mark.parametrize("is_slow", (False, True))
def test_checking_a_verification_does_not_speak_of_paying(is_slow: bool) -> None:
    view = replace(TRIED, state=PageState.CHECKING, is_slow=is_slow, amount=0, is_verification=True)
    body = SANDBOX.checking(view).decode()
    assert "Please do not begin again." in body
    assert "No money is taken." in body
    assert not any(words in body for words in (" pay again", "the payment", "charged", "₸"))


def test_a_busy_page_opens_again_with_and_without_script() -> None:
    """A refresh beside a script that asks would take the page from under its reader (WCAG 2.2.1)."""
    body = SANDBOX.busy("en", "/pay/Abc-123")
    main = Document(body).find("main")
    assert (main["data-page"], main["data-version"]) == ("/pay/Abc-123", "busy")
    assert b'<noscript><meta http-equiv="refresh" content="5;url=/pay/Abc-123"></noscript>' in body
    assert "data-page" not in Document(SANDBOX.busy("en")).find("main")


def test_sandbox_is_marked_everywhere_and_production_never() -> None:
    for name, (_, body) in build_pages(SANDBOX, "en").items():
        assert b'class="ribbon"' in body, name
    for name, (_, body) in build_pages(PRODUCTION, "en").items():
        assert b"ribbon" not in body, name
        assert b"andbox" not in body, name
        assert not any(card.number.encode() in body for card in SANDBOX_CARDS), name


def test_the_sandbox_shows_cards_that_can_be_typed() -> None:
    text = Document(SANDBOX.form(VIEW)).text
    for card in SANDBOX_CARDS:
        assert card.number in text
        assert passes_luhn(card.number)
        assert parse_card(card.number, "12/40", card.cvc, "TEST CARD").pan.reveal() == card.number


def test_the_guide_lists_the_same_cards() -> None:
    guide = (Path(__file__).parent.parent.parent / "docs" / "payment-page.md").read_text(encoding="utf-8")
    listed = dict(re.findall(r"^\| (\d{15,16}) \| ([^|:(]+?) *[|:(]", guide, re.MULTILINE))
    assert listed == {card.number: card.outcome.partition(":")[0] for card in SANDBOX_CARDS}


def test_page_chooses_by_state() -> None:
    for state in (PageState.FORM, PageState.DECLINED, PageState.CHECKING, PageState.APPROVED, PageState.FAILED):
        assert Document(SANDBOX.page(replace(TRIED, state=state))).find("main")["data-state"] == state
    with pytest.raises(ValueError, match="invalid"):
        SANDBOX.page(replace(TRIED, state=PageState.INVALID))


def test_a_verification_never_speaks_of_a_charge() -> None:
    view = replace(TRIED, language="en", amount=0, is_verification=True)
    pages = {
        "form": SANDBOX.form(view),
        "declined": SANDBOX.form(replace(view, state=PageState.DECLINED, reason_code=484, attempts_left=2)),
        "checking": SANDBOX.checking(replace(view, state=PageState.CHECKING)),
        "slow": SANDBOX.checking(replace(view, state=PageState.CHECKING, is_slow=True)),
        "approved": SANDBOX.approved(view),
        "paid": SANDBOX.paid(view),
        "failed": SANDBOX.failed(replace(view, reason_code=484)),
        "expired": SANDBOX.expired(view),
        "invalid": SANDBOX.invalid("en", Refusal.DIFFERS, "", Known("", None, PageState.PAID, True)),
    }
    for name, body in pages.items():
        text = re.sub(r"<[^>]+>", " ", body.decode())
        assert re.search(r"no money (was|is) taken|nothing is taken", text, re.IGNORECASE), name
        assert not re.search(r"charged|pay again|the payment", text, re.IGNORECASE), name
