"""Pictures of every state of the payment page: `make screenshots`, into test-output/screenshots.

Renders sample orders with Pages directly, without a database or an acquirer, in each language, light and dark, on a
phone and on a desktop. Invariant: the pages come over HTTP with the headers that payers get; what the browser complains
of (a breach of the policy, a failed load, a script's error, a page wider than the window) fails the run.
tests/browser/test_accessibility.py judges the same samples, so a new state needs only a line here.
"""

import argparse
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Literal
from urllib.parse import urlsplit
from uuid import UUID

from msgspec.structs import replace
from playwright.sync_api import Browser, sync_playwright
from scripts.browser import find_browser
from starlette.responses import Response

from tolem.domain.appearance import parse_logo
from tolem.domain.authentication import AuthenticationStep, ChallengeWindow, PendingAuthentication
from tolem.domain.card import CardField, CardProblem
from tolem.domain.errors import Refusal
from tolem.domain.maintenance import Pause
from tolem.flows.opening import Known
from tolem.flows.rounds import PageState
from tolem.i18n.translator import LANGUAGE_NAMES, load_translator
from tolem.sandbox.acs import HERE, STATIC, AcsPages
from tolem.sandbox.acs_book import AcsEntry
from tolem.web.appearance import COLOURS_PREFIX, logo_path, render_colours
from tolem.web.assets import STATIC as STATIC_FOLDER
from tolem.web.assets import static_files
from tolem.web.card_choice import Picked
from tolem.web.card_form import BUSY, RETYPE
from tolem.web.challenge_pages import ChallengePages
from tolem.web.headers import SELF, security_headers
from tolem.web.home import production_home, sandbox_home
from tolem.web.pages import Pages
from tolem.web.view import CardOffer, PageView

ACS = HERE / "static"
OUTPUT = Path(__file__).resolve().parent.parent / "test-output" / "screenshots"
AMOUNT_MAX = 999_999_999_999
"""The largest that a token may ask for."""
WIDTHS = {"phone": 360, "desktop": 1280}
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
NOON = datetime(2026, 11, 24, 7, 5, tzinfo=UTC)

VIEW = PageView(
    language="ru",
    shop_name="Книжный дом «Парасат»",
    amount=1_234_550,
    currency="KZT",
    invoice_id="000001482",
    description="Абай Құнанбайұлы. Қара сөздер, 2 экз.",
    attempts_left=3,
    return_url="https://shop.example/return",
    page_path="/pay/sample",
    now=NOON - timedelta(minutes=12),
    deadline_at=NOON,
    extension_minutes=10,
)
LOGO = parse_logo((Path(__file__).resolve().parent.parent / "docs" / "images" / "logo-sample.png").read_bytes())
BRANDED = {"logo": LOGO.name, "colour": "#7a1f3d", "text_colour": "#ffffff"}
TRIED = replace(VIEW, masked_pan="440564...5096", brand="VISA", rrn="632807123456", at=NOON)
CARDS = (
    CardOffer(str(UUID(int=3)), "Visa ••••\u00a05096", "12/30", 3),
    CardOffer(str(UUID(int=4)), "American Express ••••\u00a04820", "01/28", 4),
    CardOffer(str(UUID(int=5)), "Mastercard ••••\u00a06736", "07/29", 3),
)
PENDING = PendingAuthentication(
    payment_id=UUID(int=1),
    order_id=UUID(int=2),
    page_hash=b"",
    step=AuthenticationStep.CHALLENGE,
    url="/bank",
    data="creq",
    window=ChallengeWindow.FULL,
    return_nonce="nonce",
    deadline_at=NOON,
    created_at=NOON,
)
CHALLENGE = AcsEntry(
    key=UUID(int=1),
    id=UUID(int=2),
    is_decoupled=False,
    shop_name=VIEW.shop_name,
    amount=VIEW.amount,
    currency=VIEW.currency,
    masked_pan=TRIED.masked_pan,
    language=VIEW.language,
    return_url="http://127.0.0.1/",
    window=ChallengeWindow.FULL,
    at=NOON,
)
FRAMER = "http://127.0.0.1"
"""Whose frame shows a page."""
PROBLEMS = {
    CardField.NUMBER: CardProblem.NUMBER_CHECK,
    CardField.EXPIRY: CardProblem.EXPIRY_PAST,
    CardField.CVC: CardProblem.CVC_LENGTH_3,
    CardField.NAME: CardProblem.NAME_FORMAT,
}


def build_samples(pages: Pages, challenges: ChallengePages, language: str) -> Iterator[tuple[str, bytes]]:
    """Name and HTML of one sample of every state."""
    view, tried = replace(VIEW, language=language), replace(TRIED, language=language)
    typed = {CardField.EXPIRY: "01/20", CardField.NAME: "АЙГЕРІМ"}
    declined = replace(tried, state=PageState.DECLINED, reason_code=484, attempts_left=2)
    challenged = replace(tried, state=PageState.CHALLENGE, at=None)
    looked_at = replace(challenged, state=PageState.DEVICE)
    yield "form", pages.form(view)
    yield "form-errors", pages.form(view, PROBLEMS, typed)
    yield "form-busy", pages.form(view, notice=BUSY)
    yield "form-retype", pages.form(view, typed={CardField.EXPIRY: "01/28", CardField.NAME: "AIGERIM"}, notice=RETYPE)
    yield "form-hurry", pages.form(replace(view, now=NOON - timedelta(seconds=100)))
    yield "form-lost", pages.form(view)
    yield "form-long", pages.form(replace(view, amount=AMOUNT_MAX, description="Қ" * 126))
    yield "form-branded", pages.form(replace(view, **BRANDED))
    yield "form-verification", pages.form(replace(view, amount=0, is_verification=True))
    yield "form-save", pages.form(replace(view, offers_saving=True))
    saved = replace(view, offers_saving=True, cards=CARDS)
    yield "form-saved", pages.form(saved)
    yield "form-saved-other", pages.form(saved, picked=Picked("new", saves=True))
    yield "form-saved-remove", pages.form(saved, picked=Picked(asked=CARDS[1].id))
    yield "declined", pages.form(declined)
    yield "checking", pages.checking(replace(tried, state=PageState.CHECKING, at=None))
    yield "checking-slow", pages.checking(replace(tried, state=PageState.CHECKING, at=None, is_slow=True))
    yield "challenge", challenges.page(challenged, PENDING, "session")
    yield "challenge-framed", challenges.page(replace(challenged, frame_origin=FRAMER), PENDING, "session")
    yield "challenge-beside", challenges.returned(language, "/pay/sample", AuthenticationStep.CHALLENGE, is_beside=True)
    yield "challenge-device", challenges.page(looked_at, replace(PENDING, step=AuthenticationStep.DEVICE), "")
    yield "challenge-app", challenges.page(challenged, replace(PENDING, step=AuthenticationStep.DECOUPLED, url=""), "")
    yield "challenge-elsewhere", challenges.page(challenged, None, "")
    yield "approved", pages.approved(replace(tried, approval_code="421907"))
    yield "approved-branded", pages.approved(replace(tried, approval_code="421907", **BRANDED))
    yield "verified", pages.approved(replace(tried, amount=0, is_verification=True, approval_code="421907"))
    yield "approved-long", pages.approved(replace(tried, amount=AMOUNT_MAX, is_message_on_its_way=False))
    yield "paid", pages.paid(replace(tried, approval_code="421907"))
    yield "failed", pages.failed(replace(tried, reason_code=466))
    yield "cancelled", pages.failed(replace(view, reason_code=476, at=NOON))
    yield "expired", pages.expired(replace(view, return_url=""))
    yield "invalid", pages.invalid(language, Refusal.DIFFERS, "amount: the token says 100 KZT, the object 1 KZT")
    for name, known in (("paid", PageState.PAID), ("paying", PageState.CHECKING)):
        yield (
            f"invalid-{name}",
            pages.invalid(language, Refusal.DIFFERS, "amount: …", Known("https://shop.example/", None, known)),
        )
    yield "wrong-origin", pages.invalid(language, Refusal.FOREIGN_ORIGIN)
    yield "busy", pages.busy(language, "/pay/sample")
    yield "busy-opening", pages.busy(language)
    paused = replace(view, state=PageState.MAINTENANCE, pause=Pause(since=NOON))
    yield "maintenance", pages.maintenance(paused)
    ends = Pause(since=NOON, until=NOON + timedelta(hours=2))
    yield "maintenance-declined", pages.maintenance(replace(declined, state=PageState.MAINTENANCE, pause=ends))
    yield "fault", pages.fault(language, "01936f2a-5c1d", "/pay/sample")
    yield OPENING, b""
    yield WIDGET, pages.form(replace(view, frame_origin=FRAMER))
    yield "home", sandbox_home(load_translator())("") if language == "en" else production_home(pages)(language)


# A shop's page, which has the sample in its frame; an empty one stays on its way.
OPENING, WIDGET = "opening", "widget"
FRAMED = tuple(
    f"{name}-{language}"
    for name in ("challenge", "challenge-framed", "challenge-device", WIDGET)
    for language in LANGUAGE_NAMES
)
"""What stands in their frames arrives on its own."""
HTML = [(b"content-type", b"text/html; charset=utf-8")]
PAYMENT_API = STATIC_FOLDER / "payment-api.js"
SHOP_PAGE = """<!doctype html>
<html lang="{language}"><head><meta charset="utf-8"><title>Shop</title><link rel="icon" href="data:,">
<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">
</head><body><main aria-label="Shop"><h1>Shop</h1></main>
<script src="{name}/payment-api.js"></script>
<script>halyk.showPaymentWidget({{auth: "sample", language: "{language}"}})</script></body></html>"""

# As page.js does when the connection breaks while the form is sent.
LOSE = """() => {
    document.querySelector("main").className = "status";
    document.querySelector("main").replaceChildren(document.getElementById("lost").content.cloneNode(true));
    document.querySelector(".languages").hidden = true;
}"""


class _Handler(BaseHTTPRequestHandler):
    samples: dict[str, bytes]
    banks: dict[str, Response]
    files = static_files()

    def do_POST(self) -> None:
        """What stands in a frame: the page of the bank, its look at the browser, which does not end here, or ours."""
        name = self.path.strip("/")
        if not self._is_widget(name):
            self._answer(HTML, bytes(self.banks[self._referer()[-2:]].body))
        elif body := self.samples[f"/{name}"]:
            self._answer([*HTML, *security_headers(frame_ancestors=(SELF,))], body)
        else:
            self.send_response(204)
            self.end_headers()

    def do_HEAD(self) -> None:
        """Whether the bank can be reached."""
        self.send_response(204)
        self.end_headers()

    def do_GET(self) -> None:
        name = self.path.removeprefix("/")
        if asset := self.files.get(self.path):
            self._answer(asset.headers(gzipped=True), asset.gzipped)
        elif self._is_widget(name):
            self._answer(HTML, SHOP_PAGE.format(name=name, language=name[-2:]).encode())
        elif self.path.endswith("/payment-api.js"):
            self._answer([(b"content-type", b"text/javascript; charset=utf-8")], PAYMENT_API.read_bytes())
        elif body := self.samples.get(self.path):
            self._answer([*HTML, *security_headers(frame_src=(SELF,))], body)
        elif self.path in STATIC:
            self._answer([(b"content-type", STATIC[self.path].encode())], (ACS / self.path[1:]).read_bytes())
        elif self.path.endswith("/state"):
            # Nothing new: every page stays as it is.
            sample = self.samples[self._referer()]
            (version,) = re.findall(rb'data-version="([^"]+)"', sample)
            self._answer([(b"content-type", b"application/json")], b'{"version":"%s"}' % version)
        elif self.path == logo_path(LOGO.name):
            self._answer([(b"content-type", LOGO.content_type.encode())], LOGO.body)
        elif style := render_colours(self.path.removeprefix(COLOURS_PREFIX)):
            self._answer([(b"content-type", b"text/css")], style)
        else:
            self.send_error(404)

    def _referer(self) -> str:
        return urlsplit(self.headers["referer"]).path

    def _is_widget(self, name: str) -> bool:
        return name.startswith((OPENING, WIDGET)) and f"/{name}" in self.samples

    def _answer(self, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        self.send_response(200)
        for name, value in headers:
            self.send_header(name.decode(), value.decode())
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet: what goes wrong shows in the browser."""


@contextmanager
def serve_samples(begin: str = "", languages: tuple[str, ...] = ()) -> Iterator[tuple[str, list[str]]]:
    """Serves the samples whose name begins like this, in these languages (none named: all): address and names."""
    translator = load_translator()
    pages = Pages(translator, sandbox=True)
    challenges = ChallengePages(translator, pages, sandbox=True)
    built = {
        f"/{name}-{language}": body
        for language in languages or translator.languages
        for name, body in build_samples(pages, challenges, language)
        if name.startswith(begin)
    }
    bank = AcsPages(translator)
    asked = {language: bank.ask(replace(CHALLENGE, language=language), page="") for language in translator.languages}

    class Handler(_Handler):
        banks = asked
        samples = built

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", [path.removeprefix("/") for path in built]
    finally:
        server.shutdown()
        server.server_close()


def take_pictures(browser: Browser, address: str, names: list[str]) -> list[str]:
    """Saves the pictures; gives what the browser complained of."""
    complaints: list[str] = []
    for scheme in SCHEMES:
        for device, width in WIDTHS.items():
            context = browser.new_context(
                viewport={"width": width, "height": 800}, color_scheme=scheme, reduced_motion="reduce"
            )
            page = context.new_page()
            page.on("console", lambda message: complaints.append(f"{message.location['url']}: {message.text}"))
            page.on("pageerror", lambda error: complaints.append(str(error)))
            for name in names:
                page.goto(f"{address}/{name}", wait_until="load")
                if name.startswith("form-lost"):
                    page.evaluate(LOSE)
                if name.startswith(FRAMED):
                    page.frame_locator("iframe").locator("main").wait_for(state="attached")
                if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
                    complaints.append(f"{page.url}: wider than the window at {width} px")
                page.screenshot(path=OUTPUT / f"{name}-{scheme}-{device}.png", full_page=True)
            context.close()
    return complaints


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="states whose name begins like this")
    only = parser.parse_args().only
    executable = find_browser()
    if executable is None:
        raise SystemExit("no browser: run `python scripts/browser.py` first")
    OUTPUT.mkdir(parents=True, exist_ok=True)
    with serve_samples(only) as (address, names), sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=executable, args=["--no-sandbox", "--disable-background-networking"]
        )
        complaints = take_pictures(browser, address, names)
        browser.close()
    print("\n".join((*complaints, f"{len(names) * len(SCHEMES) * len(WIDTHS)} pictures in {OUTPUT}")))
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
