"""The page's style, script and icon, what they weigh, and the headers that guard the page."""

import gzip
import hashlib
import re

import pytest

from tolem.domain.card import find_brand_rule
from tolem.i18n.translator import load_translator
from tolem.web.assets import STATIC, load_assets, static_files
from tolem.web.headers import security_headers
from tolem.web.pages import Pages, PageView

WIRE_BYTES_MAX = 20 * 1024
HEADER_BYTES = 4 * 900  # page, style, script, icon: more than any of their headers
CONTRAST_MIN = 4.5

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


def test_everything_a_payer_loads_fits_the_budget_even_if_the_page_is_not_compressed() -> None:
    view = PageView(
        language="ru",
        shop_name="Книжный дом",
        amount=1_234_550,
        currency="KZT",
        invoice_id="000042",
        description="Абай" * 15,
        page_path="/pay/" + "x" * 22,
    )
    page = Pages(load_translator(), sandbox=True).form(view)
    files = {path: asset for path, asset in static_files().items() if "/challenge." not in path}
    named = re.findall(rb'(?:href|src)="(/static/[^"]+)"', page)
    loaded = [files[name.decode()] for name in named]
    assert len({asset.path for asset in loaded}) == 3  # style, script and icon, and nothing of the sandbox's own page
    assert len(page) + sum(len(asset.gzipped) for asset in loaded) + HEADER_BYTES <= WIRE_BYTES_MAX


def test_an_asset_is_named_by_its_content() -> None:
    for name, asset in load_assets().items():
        assert hashlib.sha256(asset.body).hexdigest()[:12] in asset.path
        assert gzip.decompress(asset.gzipped) == asset.body == (STATIC / name).read_bytes()
        plain, packed = dict(asset.headers(gzipped=False)), dict(asset.headers(gzipped=True))
        assert plain[b"content-length"] == b"%d" % len(asset.body)
        assert packed[b"content-length"] == b"%d" % len(asset.gzipped)
        assert packed[b"content-encoding"] == b"gzip"
        assert b"content-encoding" not in plain
        assert plain[b"etag"] != packed[b"etag"]
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
    for front, back in pairs:
        assert contrast(colours[front], colours[back]) >= CONTRAST_MIN, (front, back)
    assert contrast(colours["edge"], colours["sheet"]) >= 3


def contrast(one: str, other: str) -> float:
    """WCAG 2.2 contrast ratio of two #rgb or #rrggbb colours."""
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(colour: str) -> float:
    digits = colour[1:] if len(colour) == 7 else "".join(digit * 2 for digit in colour[1:])
    parts = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_the_script_knows_the_same_brands_as_the_domain() -> None:
    script = (STATIC / "page.js").read_text(encoding="utf-8")
    rules = [(brand, re.compile(rule)) for brand, rule in re.findall(r'\["([A-Z]+)", /(\^.+?)/\]', script)]
    assert len(rules) == 6
    for number in range(10_000):
        digits = f"{number:04d}"
        expected = find_brand_rule(digits)
        found = next((brand for brand, rule in rules if rule.match(digits)), None)
        assert found == (expected.brand if expected else None), digits


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
