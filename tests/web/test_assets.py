"""The page's style, script and icon, what they weigh, and the headers that guard the page."""

import gzip
import hashlib
import re
from datetime import UTC, datetime
from functools import cache

import pytest

from tolem.domain.appearance import CONTRAST_MIN, contrast, parse_colours
from tolem.i18n.translator import load_translator
from tolem.web.appearance import COLOURS_PREFIX, colours_path, render_colours
from tolem.web.assets import STATIC, load_assets, read_lean, static_files
from tolem.web.headers import security_headers
from tolem.web.pages import Pages
from tolem.web.shells import PageBytes
from tolem.web.view import CardOffer, PageView

WIRE_BYTES_MAX = 20 * 1024
OTHER_HEADER_BYTES = 200  # status line, date, server, type, length and encoding
CARDS = (
    CardOffer("0198f3a1-5c2e-7d40-9b6f-2a8e4c7d1b35", "Mastercard ••••\u00a00128", "12/30", 3),
    CardOffer("0198f3a1-5c2e-7d40-8e13-f5b09a6c4d27", "American Express ••••\u00a04820", "09/28", 4),
    CardOffer("0198f3a1-5c2e-7d40-a7c6-31d84e0b92f5", "Diners Club ••••\u00a05904", "11/29", 3),
)
"""Three, with the longest names."""

# text on its ground, and the edge of a field (WCAG 1.4.11 asks 3 for it)
TEXT_PAIRS = (
    ("ink", "ground"),
    ("ink", "sheet"),
    ("ink", "tint"),
    ("ink", "bad-tint"),
    ("quiet", "ground"),
    ("quiet", "sheet"),
    ("quiet", "bad-tint"),
    ("bad", "sheet"),
    ("bad", "bad-tint"),
    ("on-go", "go"),
    ("on-go", "go-deep"),
    ("go", "sheet"),
    ("go", "ground"),
    ("go", "tint"),
    ("on-sand", "sand"),
)
SANDBOX_PAIRS = (
    *((front, back) for front in ("ink", "quiet", "go", "wait", "bad") for back in ("ground", "sheet")),
    *((front, "ground") for front in ("key", "string", "number")),
    *(("ink", tint) for tint in ("tint", "wait-tint", "bad-tint")),
    *(("quiet", tint) for tint in ("tint", "wait-tint", "bad-tint")),
    ("go", "tint"),
    ("wait", "wait-tint"),
    ("bad", "bad-tint"),
)


@pytest.mark.parametrize("colours", (("", ""), ("#0a4d8c", "#ffffff")), ids=("ours", "shops"))
@pytest.mark.parametrize("shop", ("", "https://shop.example"), ids=("page", "frame"))
@pytest.mark.parametrize("language", ("kk", "ru", "en"))
@pytest.mark.parametrize("sandbox", (True, False), ids=("sandbox", "acquirer"))
@pytest.mark.parametrize("amount", (1_234_550, 0), ids=("payment", "verification"))
@pytest.mark.parametrize(("saves", "cards"), ((False, ()), (True, ()), (True, CARDS)), ids=("plain", "saves", "cards"))
def test_everything_a_payer_loads_fits_the_budget(
    saves: bool,
    cards: tuple[CardOffer, ...],
    amount: int,
    sandbox: bool,
    language: str,
    shop: str,
    colours: tuple[str, str],
) -> None:
    """Form, styles, scripts and icon, compressed as browsers ask for them, each with its headers. In a frame of the
    shop's page there is one more style and script and no icon; a shop's colours are one more style."""
    view = PageView(
        language=language,
        shop_name="Книжный дом",
        amount=amount,
        is_verification=not amount,
        currency="KZT",
        invoice_id="000042",
        description="Абай" * 15,
        page_path="/pay/" + "x" * 22,
        now=datetime(2026, 11, 24, 7, 5, tzinfo=UTC),
        deadline_at=datetime(2026, 11, 24, 7, 25, tzinfo=UTC),
        extension_minutes=10,
        frame_origin=shop,
        colour=colours[0],
        text_colour=colours[1],
        cards=cards,
        offers_saving=saves,
    )
    page = build_pages(sandbox).form(view)
    assert isinstance(page, PageBytes)
    others = ("/challenge.", "/sandbox.", "/icon." if shop else "/frame.")
    files = {path: asset for path, asset in static_files().items() if not any(name in path for name in others)}
    answers = [(page.gzipped(), security_headers())]
    answers += [(asset.gzipped, asset.headers(gzipped=True)) for asset in files.values()]
    paths = list(files)
    if colours[0]:
        paths.append(path := colours_path(*colours))
        style = render_colours(path.removeprefix(COLOURS_PREFIX))
        assert style is not None
        answers.append((style, load_assets()["tolem.css"].headers(gzipped=True)))
    named = re.findall(rb'(?:href|src)="(/[^"]+)"', page)
    assert sorted(name.decode() for name in named) == sorted(paths)
    weight = sum(len(body) + headers_weight(headers) for body, headers in answers)
    assert weight <= WIRE_BYTES_MAX


@cache
def build_pages(sandbox: bool) -> Pages:
    return Pages(load_translator(), sandbox=sandbox)


def headers_weight(headers: list[tuple[bytes, bytes]]) -> int:
    return OTHER_HEADER_BYTES + sum(len(name) + len(value) + len(": \r\n") for name, value in headers)


def test_an_asset_is_named_by_its_content() -> None:
    for name, asset in load_assets().items():
        assert hashlib.sha256(asset.body).hexdigest()[:12] in asset.path
        assert gzip.decompress(asset.gzipped) == asset.body == read_lean(name)
        plain, packed = dict(asset.headers(gzipped=False)), dict(asset.headers(gzipped=True))
        assert plain[b"content-length"] == b"%d" % len(asset.body)
        assert packed[b"content-length"] == b"%d" % len(asset.gzipped)
        assert packed[b"content-encoding"] == b"gzip"
        assert b"content-encoding" not in plain
        assert b"immutable" in plain[b"cache-control"]


def test_nothing_is_loaded_from_elsewhere() -> None:
    for name, asset in load_assets().items():
        text = asset.body.decode().replace('xmlns="http://www.w3.org/2000/svg"', "")
        assert not re.search(r"https?:|url\(|@import|@font-face|innerHTML|eval\(", text), name


@pytest.mark.parametrize(("name", "pairs"), (("tolem.css", TEXT_PAIRS), ("sandbox.css", SANDBOX_PAIRS)))
@pytest.mark.parametrize("scheme", ("light", "dark"))
def test_contrast(scheme: str, name: str, pairs: tuple[tuple[str, str], ...]) -> None:
    style = (STATIC / name).read_text(encoding="utf-8")
    palette = style.split("* {")[0].split("@media")[scheme == "dark"]
    colours = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{3,6});", palette))
    colours = {name: parse_colours(colour).ground for name, colour in colours.items()}
    for front, back in pairs:
        assert contrast(colours[front], colours[back]) >= CONTRAST_MIN, (front, back)
    assert contrast(colours["edge"], colours["sheet"]) >= 3


def test_policy_lets_nothing_in_but_the_own_origin() -> None:
    headers = dict(security_headers())
    policy = headers[b"content-security-policy"].decode()
    assert "unsafe" not in policy
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
    assert "form-action 'self'; frame-ancestors 'none'; base-uri 'none'" in policy
    assert headers[b"x-frame-options"] == b"DENY"
    assert headers[b"referrer-policy"] == b"same-origin"
    assert headers[b"cache-control"] == b"no-store"


def test_policy_names_who_may_be_posted_to_and_who_may_frame() -> None:
    headers = dict(security_headers(["http://acs.localhost:8700"], ["https://shop.example", "https://m.shop.example"]))
    policy = headers[b"content-security-policy"].decode()
    assert "form-action 'self' http://acs.localhost:8700;" in policy
    assert "frame-ancestors https://shop.example https://m.shop.example;" in policy
    assert b"x-frame-options" not in headers


@pytest.mark.parametrize(
    "origin", ("https://a.example; script-src *", "https://a b", "'none'", "https://ä", "https://a\r\nx: y")
)
def test_policy_refuses_an_origin_that_would_break_it(origin: str) -> None:
    with pytest.raises(ValueError, match="not an origin"):
        security_headers(frame_ancestors=[origin])


def test_what_is_for_people_is_not_sent() -> None:
    """Nothing else is missing: a script without its comment lines, a style without its comments."""
    for name in (path.name for path in STATIC.iterdir() if path.suffix != ".ico"):
        source, served = (STATIC / name).read_text(encoding="utf-8"), read_lean(name).decode()
        lines = [line.strip() for line in source.splitlines()]
        if name.endswith(".js"):
            assert all(line.count("`") % 2 == 0 for line in lines), "a text over lines would lose its indentation"
            assert served.splitlines() == [line for line in lines if not line.startswith("//")]
        elif name.endswith(".css"):
            assert "/*" not in served
            kept = [line for line in served.splitlines() if line]
            assert kept == [line for line in lines if line and not line.startswith("/*")]
        else:
            assert served == source
