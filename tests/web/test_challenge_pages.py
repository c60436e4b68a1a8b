"""What a payer sees while the issuer makes sure of them: escaped, nothing inline, and of use without a script."""

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest
from msgspec.structs import replace
from tests.issuer import SCRIPT

from tolem.domain.authentication import AuthenticationStep, Browser, ChallengeWindow, PendingAuthentication
from tolem.flows.rounds import PageState
from tolem.i18n.translator import load_translator
from tolem.web.assets import STATIC, static_files
from tolem.web.browser import read_browser
from tolem.web.challenge_pages import ChallengePages, origins
from tolem.web.headers import SELF, security_headers
from tolem.web.http import Request
from tolem.web.pages import Pages
from tolem.web.view import PageView

AT = datetime(2026, 11, 24, 9, 30, tzinfo=UTC)
TRANSLATOR = load_translator()
PAGES = ChallengePages(TRANSLATOR, Pages(TRANSLATOR, sandbox=True), sandbox=True)
VIEW = PageView(
    language="en",
    shop_name='<b>"Book & house"</b>',
    amount=1_234_550,
    currency="KZT",
    invoice_id="000042",
    state=PageState.CHALLENGE,
    page_path="/pay/page",
)
PENDING = PendingAuthentication(
    payment_id=UUID(int=1),
    order_id=UUID(int=2),
    page_hash=b"",
    step=AuthenticationStep.CHALLENGE,
    url='https://acs.bank.example:8443/creq?a=1&b="2"',
    data="eyJ9",
    window=ChallengeWindow.W390X400,
    return_nonce="nonce",
    deadline_at=AT,
    created_at=AT,
)
DEVICE = replace(PENDING, step=AuthenticationStep.DEVICE)
DECOUPLED = replace(PENDING, step=AuthenticationStep.DECOUPLED, url="")
ALL = {
    "challenge": PAGES.page(VIEW, PENDING, "s3ss"),
    "device": PAGES.page(replace(VIEW, state=PageState.DEVICE), DEVICE, "s3ss"),
    "framed": PAGES.page(replace(VIEW, frame_origin="https://shop.example"), PENDING, "s3ss"),
    "decoupled": PAGES.page(VIEW, DECOUPLED, "s3ss"),
    "elsewhere": PAGES.page(VIEW, None, ""),
    "returned": PAGES.returned("en", "/pay/page", AuthenticationStep.CHALLENGE),
    "beside": PAGES.returned("en", "/pay/page", AuthenticationStep.CHALLENGE, is_beside=True),
    "nowhere": PAGES.returned("en", "", AuthenticationStep.DEVICE),
}


@pytest.mark.parametrize("name", ALL)
def test_nothing_is_inline_and_nothing_from_outside_is_markup(name: str) -> None:
    text = ALL[name].decode()
    assert re.search(r"<[^>]+ (style|on[a-z]+)=|<script>|<style", text) is None
    assert '<b>"Book' not in text
    assert '="2"' not in text
    assert '<script src="/static/challenge.' in text
    assert "/static/page." not in text


@pytest.mark.parametrize(
    ("name", "state", "step"),
    (
        ("challenge", "challenge", "challenge"),
        ("framed", "challenge", "challenge"),
        ("device", "device", "device"),
        ("decoupled", "challenge", "decoupled"),
        ("elsewhere", "challenge", "elsewhere"),
    ),
)
def test_state_and_step(name: str, state: str, step: str) -> None:
    text = ALL[name].decode()
    assert f'data-state="{state}" data-version="{state}-0" data-path="/pay/page" data-step="{step}"' in text
    assert "1\u00a0234\u00a0550" not in text
    assert "12\u00a0345,50\u00a0₸" in text


def test_what_goes_to_the_issuer() -> None:
    challenge = ALL["challenge"].decode()
    assert 'action="https://acs.bank.example:8443/creq?a=1&amp;b=&quot;2&quot;"' in challenge
    assert '<input type="hidden" name="creq" value="eyJ9">' in challenge
    assert '<input type="hidden" name="threeDSSessionData" value="s3ss">' in challenge
    assert 'data-window="02"' in challenge
    device = ALL["device"].decode()
    assert '<input type="hidden" name="threeDSMethodData" value="eyJ9">' in device
    assert "threeDSSessionData" not in device  # a look at the browser needs to know no page
    for name in ("decoupled", "elsewhere", "returned", "nowhere"):
        assert "creq" not in ALL[name].decode()


def test_the_shop_is_never_far() -> None:
    for pending in (PENDING, DEVICE, DECOUPLED, None):
        for url, count in (("https://shop.example/?a=1&b=2", 1), ("javascript:alert(1)", 0), ("", 0)):
            text = PAGES.page(replace(VIEW, return_url=url), pending, "").decode()
            assert text.count('id="return"') == count
            assert "javascript:" not in text
    assert (
        'href="https://shop.example/?a=1&amp;b=2"'
        in PAGES.page(replace(VIEW, return_url="https://shop.example/?a=1&b=2"), PENDING, "").decode()
    )


def test_a_verification_says_that_nothing_is_taken() -> None:
    view = replace(VIEW, amount=0, is_verification=True)
    for pending, title in (
        (PENDING, "Card verification by your bank"),
        (DEVICE, "The card is being verified"),
        (DECOUPLED, "Confirm in your bank’s app"),
        (None, "A confirmation at your bank has begun"),
    ):
        page = PAGES.page(view, pending, "s3ss").decode()
        assert f"<title>{title} · " in page
        assert "No money is taken." in page
        assert "₸" not in page
        assert "the payment" not in page


def test_every_page_leads_on_without_a_script() -> None:
    assert 'action="/pay/page/device"' in ALL["device"].decode()
    for name in ("challenge", "decoupled", "elsewhere"):
        text = ALL[name].decode()
        assert 'action="/pay/page/abandon"' in text
        assert '<noscript><meta http-equiv="refresh"' in text
    assert '<noscript><meta http-equiv="refresh" content="0;url=/pay/page"></noscript>' in ALL["returned"].decode()
    assert '<a href="/pay/page">' in ALL["returned"].decode()
    assert "/pay/" not in ALL["nowhere"].decode()


@pytest.mark.parametrize("language", ("kk", "ru", "en", ""))
def test_three_languages(language: str) -> None:
    text = PAGES.page(replace(VIEW, language=language), PENDING, "").decode()
    shown = {"kk": "Банкіңіз растауды сұрайды", "en": "Your bank asks you to confirm"}
    assert shown.get(language, "Ваш банк просит подтверждения") in text
    assert f'<html lang="{language or "ru"}">' in text


def test_the_access_control_server_is_named_in_the_policy_only_there() -> None:
    assert origins(PENDING) == ("https://acs.bank.example:8443",)
    assert origins(DECOUPLED) == ()
    policy = dict(security_headers(origins(PENDING), (), (SELF, *origins(PENDING))))[b"content-security-policy"]
    assert (
        b"frame-src 'self' https://acs.bank.example:8443; form-action 'self' https://acs.bank.example:8443;" in policy
    )
    assert b"connect-src 'self' https://acs.bank.example:8443;" in policy  # asked whether it can be reached
    assert b"frame-ancestors 'none'" in policy
    plain = dict(security_headers())[b"content-security-policy"]
    assert b"frame-src" not in plain
    assert b"connect-src 'self';" in plain
    with pytest.raises(ValueError, match="is not an origin"):
        security_headers(frame_src=("https://a.example; script-src *",))


def test_the_script_is_small_and_says_the_same_of_a_browser_as_the_forms() -> None:
    (asset,) = (asset for path, asset in static_files().items() if "/challenge." in path and path.endswith(".js"))
    assert len(asset.gzipped) < 2_600
    told = re.compile(r"const \{ colorDepth: d.*?JSON\.stringify\((\{.*?\})\);", re.DOTALL)
    found = [told.search((STATIC / name).read_text()) for name in ("page.js", "challenge.js")]
    assert all(found)
    assert len({match[1] for match in found if match}) == 1


def request_of(**headers: str) -> Request:
    raw = [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items()]
    return Request({"type": "http", "headers": raw, "client": ("203.0.113.9", 1)}, None)  # type: ignore[arg-type]


def test_browser_with_a_script() -> None:
    request = request_of(accept="text/html", user_agent="Firefox", accept_language="en")
    assert read_browser(request, SCRIPT) == Browser(
        accept="text/html",
        user_agent="Firefox",
        ip="203.0.113.9",
        language="ru-KZ",
        has_script=True,
        colour_depth=24,
        screen_width=1920,
        screen_height=1080,
        utc_offset_minutes=-300,
        window_width=1280,
        window_height=900,
    )


@pytest.mark.parametrize(
    "posted",
    (
        "",
        "{}",
        "null",
        "[]",
        "x" * 5000,
        SCRIPT.replace("1920", "-1"),
        SCRIPT.replace("ru-KZ", "r" * 36),
        SCRIPT.replace("24", "24.5"),
        SCRIPT.replace("-300", "9999"),
    ),
)
def test_browser_without_one_or_with_somebody_elses(posted: str) -> None:
    browser = read_browser(request_of(accept_language="kk-KZ;q=0.9, ru"), posted)
    assert browser == Browser(accept="*/*", ip="203.0.113.9", language="kk-KZ")


@pytest.mark.parametrize(("depth", "told"), ((30, 24), (24, 24), (48, 48), (3, 1), (99, 48)))
def test_colour_depths_that_the_specification_knows(depth: int, told: int) -> None:
    browser = read_browser(request_of(), json.dumps(json.loads(SCRIPT) | {"d": depth}))
    assert browser.colour_depth == told


def test_headers_are_bounded() -> None:
    browser = read_browser(request_of(accept="a" * 9000, user_agent="u" * 9000, accept_language="l" * 99), "")
    assert [len(text) for text in (browser.accept, browser.user_agent, browser.language)] == [2048, 2048, 35]


def test_the_documents_table_is_the_codes() -> None:
    """docs/threeds.md shows RULES to people."""
    from tolem.domain.authentication import NOT_ENROLLED, RULES

    text = (Path(__file__).parent.parent.parent / "docs" / "threeds.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("| `")]
    table = {row[0].strip("`"): row for row in rows if len(row) == 6}
    rules = {status.value: rule for status, rule in RULES.items() if status.value not in ("C", "D")}
    rules["U 08/13"] = NOT_ENROLLED
    assert set(table) == set(rules)
    for status, rule in rules.items():
        _, _, goes_on, eci, details, reason = table[status]
        words = {"always": "yes", "never": "no"}.get(rule.allows, f"`{rule.allows}`")
        assert goes_on.startswith(words), status
        assert eci == (f"{rule.eci} / {rule.eci_mastercard}" if rule.eci else "–"), status
        assert details == (f"`{rule.secure_details}`" if rule.secure_details else "empty"), status
        assert reason == (str(rule.reason_code) if rule.reason_code else "–"), status


def test_a_late_answer_is_told_that_nothing_is_being_checked() -> None:
    for language in ("kk", "ru", "en"):
        title = TRANSLATOR.text(language, "The time for this confirmation is over")
        text = PAGES.returned(language, "", AuthenticationStep.CHALLENGE).decode()
        assert f"<title>{title}</title>" in text
        assert f"<h1>{title}</h1>" in text
        assert "checking with the bank" not in text
