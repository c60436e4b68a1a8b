"""The inventory of scripts: complete, true, and every change of what a browser gets is noticed."""

import re
from typing import Any

import pytest
from msgspec.structs import replace

from tolem.web.assets import CONTENT_TYPES, integrity_of, load_assets
from tolem.web.headers import security_headers
from tolem.web.inventory import Served, Source, build_inventory, check_page, check_probe, check_source

INVENTORY = build_inventory()
PROBED = INVENTORY.pages[0]
PAGE_JS = next(source for source in INVENTORY.sources if source.name == "page.js")
MARKUP = (
    "<!doctype html><html><head>"
    + "".join(
        f'<link rel="icon" href="{path}">'
        if path.endswith("svg")
        else f'<link rel="stylesheet" {asset.source}>'
        if path.endswith("css")
        else f"<script {asset.source} defer></script>"
        for path in PROBED.loads
        for asset in load_assets().values()
        if asset.path == path
    )
    + '</head><body><main><form method="post" action="/pay/x"><button>Pay</button></form></main></body></html>'
)


def page(markup: str = MARKUP, *more: tuple[str, str], status: int = 400, **headers: str | None) -> Served:
    """What a browser gets; `headers` with _ for -, None: it is gone."""
    sent = dict(PROBED.headers)
    for name, value in headers.items():
        sent.pop(name.replace("_", "-"))
        if value is not None:
            sent[name.replace("_", "-")] = value
    return Served(
        "/payform/", status, [*sent.items(), *more, ("date", "now"), ("vary", "accept-encoding")], markup.encode()
    )


def faults(served: Served, *origins: str) -> list[str]:
    return list(check_page(INVENTORY, served, PROBED.headers, origins))


def policy(**changes: str) -> str:
    """The page's policy with other directives."""
    parts = [part.split(" ", 1) for part in PROBED.headers["content-security-policy"].split("; ")]
    directives = {name: value for name, value in parts} | {k.replace("_", "-"): v for k, v in changes.items()}
    return "; ".join(f"{name} {value}" for name, value in directives.items())


def test_every_file_of_a_payment_page_is_in_it_with_its_purpose() -> None:
    named = {source.name for source in INVENTORY.sources}
    assert named >= {name for name in CONTENT_TYPES if not name.startswith("sandbox.")}  # no payer's page
    assets = load_assets()
    for source in INVENTORY.sources:
        assert source.purpose
        assert source.pages
        if source.name in assets:
            asset = assets[source.name]
            assert (source.path, source.bytes) == (asset.path, len(asset.body))
            assert source.integrity == integrity_of(asset.body)


def test_what_is_served_as_it_should_be_is_the_same() -> None:
    assert faults(page()) == []
    assert list(check_probe(INVENTORY, PROBED, page())) == []
    body = load_assets()["page.js"].body
    headers = [("content-type", "text/javascript; charset=utf-8"), ("x-content-type-options", "nosniff")]
    assert list(check_source(PAGE_JS, Served(PAGE_JS.path, 200, headers, body))) == []


@pytest.mark.parametrize(
    ("old", "new", "words"),
    (
        ("</head>", "<script>steal()</script></head>", "a script stands in the page itself"),
        ("</head>", '<script src="https://cdn.example/x.js"></script></head>', "https://cdn.example/x.js is not in"),
        ("</head>", '<script src="/static/skim.js"></script></head>', "script /static/skim.js is not in"),
        ("</head>", '<script src=""></script></head>', "script without an address"),
        ("</head>", "<style>a{}</style></head>", "a style stands in the page itself"),
        ("</head>", '<link rel="preload" href="/x"></head>', "a link of the kind 'preload'"),
        ("</head>", '<base href="https://evil.example/"></head>', "it has a <base>"),
        ("<button>", "<button onclick='x()'>", "<button> has onclick"),
        ("<main>", "<main style='x'>", "<main> has style"),
        ("<main>", "<main><iframe src='https://evil.example/'></iframe>", "frame https://evil.example/ is not in"),
        ("<main>", "<main><img src='https://evil.example/p.gif'>", "image https://evil.example/p.gif is not in"),
        ("<main>", "<main><a href=' JavaScript:x()'>", "<a> has a script in href"),
        ('action="/pay/x"', 'action="https://evil.example/pay"', "a form posts to https://evil.example"),
        ('action="/pay/x"', 'action="//evil.example/pay"', "a form posts to ://evil.example"),
        ("<button>", '<button formaction="https://evil.example/">', "a form posts to https://evil.example"),
        (PAGE_JS.integrity, "sha256-AAAA", "has the integrity 'sha256-AAAA', not"),
        (f' integrity="{PAGE_JS.integrity}"', "", "has the integrity '', not"),
        ("</head>", '<link rel="stylesheet" href="/colours/000000-ffffff.css"></head>', "is not what its name says"),
    ),
)
def test_other_markup_is_noticed(old: str, new: str, words: str) -> None:
    assert old in MARKUP
    found = faults(page(MARKUP.replace(old, new)))
    assert len(found) == 1, found
    assert words in found[0]


@pytest.mark.parametrize(
    ("changes", "words"),
    (
        ({"content_security_policy": None}, "content-security-policy is missing"),
        ({"content_security_policy": policy(script_src="'self' 'unsafe-inline'")}, "script-src is 'self' 'unsafe-"),
        ({"content_security_policy": policy(connect_src="*")}, "connect-src is *, not 'self'"),
        ({"content_security_policy": policy(form_action="'self' https://evil.example")}, "form-action is 'self' https"),
        ({"content_security_policy": policy(frame_ancestors="*")}, "frame-ancestors is *"),
        ({"content_security_policy": policy(frame_src="https://evil.example")}, "frame-src is https://evil.example"),
        ({"content_security_policy": policy(worker_src="*")}, "worker-src is *, not there"),
        ({"referrer_policy": "unsafe-url"}, "referrer-policy is 'unsafe-url', not 'same-origin'"),
        ({"cache_control": "public"}, "cache-control is 'public'"),
        ({"cross_origin_opener_policy": None}, "cross-origin-opener-policy is missing"),
        ({"x_frame_options": None}, "x-frame-options is missing"),
    ),
)
def test_other_headers_are_noticed(changes: dict[str, Any], words: str) -> None:
    found = faults(page(**changes))
    assert len(found) == 1, found
    assert words in found[0]


def test_added_headers_are_noticed() -> None:
    for name in ("set-cookie", "link", "service-worker-allowed", "access-control-allow-origin"):
        assert faults(page(MARKUP, (name, "x"))) == [f"/payform/: header {name} was added: 'x'"]
    second = ("content-security-policy", "default-src *")
    assert "header content-security-policy is" in faults(page(MARKUP, second))[0]


def test_the_shop_and_the_bank_may_be_named_if_they_are_known() -> None:
    bank, shop = "https://acs.bank.example", "https://shop.example"
    words = policy(form_action=f"'self' {bank}", frame_src=f"'self' {bank}", frame_ancestors=shop)
    served = page(
        MARKUP.replace('action="/pay/x"', f'action="{bank}/creq?a=1"'),
        content_security_policy=words,
        x_frame_options=None,
    )
    assert faults(served, bank, shop) == []
    assert len(faults(served)) == 4


def test_a_page_without_its_script_or_of_another_kind_is_noticed() -> None:
    bare = re.sub(r"<script[^>]*></script>", "", MARKUP)
    assert list(check_probe(INVENTORY, PROBED, page(bare))) == [f"/payform/: {PAGE_JS.path} is not loaded"]
    assert list(check_probe(INVENTORY, PROBED, page(status=302))) == ["/payform/: answered with 302, not 400"]


@pytest.mark.parametrize(
    ("source", "status", "content_type", "body", "words"),
    (
        (PAGE_JS, 404, "text/javascript", b"", "answered with 404"),
        (PAGE_JS, 200, "text/javascript", b"steal()", "its content is sha256-"),
        (PAGE_JS, 200, "text/html", load_assets()["page.js"].body, "content-type is 'text/html'"),
        (
            replace(PAGE_JS, integrity="sha256-AAAA"),
            200,
            "text/javascript",
            load_assets()["page.js"].body,
            "sha256-AAAA",
        ),
    ),
)
def test_other_content_is_noticed(source: Source, status: int, content_type: str, body: bytes, words: str) -> None:
    headers = [("content-type", content_type), ("x-content-type-options", "nosniff")]
    (found,) = check_source(source, Served(source.path, status, headers, body))
    assert words in found


def test_the_headers_of_the_inventory_are_those_that_are_sent() -> None:
    assert PROBED.headers == {name.decode(): value.decode() for name, value in security_headers()}
