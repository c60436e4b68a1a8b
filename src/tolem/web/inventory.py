"""The inventory of what payment pages load, and whether a gateway serves that and nothing else.

PCI DSS 6.4.3 asks for a list of the scripts of a payment page, each with its purpose and a way to assure its integrity;
11.6.1 for noticing that scripts or headers were changed on their way to the payer. Called by the command line
(`tolem scripts`); does no I/O. Invariant: the inventory is made of the files and headers that are served, never written
down beside them.
"""

import gzip
from collections.abc import Iterator, Mapping, Sequence
from html.parser import HTMLParser
from typing import NamedTuple
from urllib.parse import urlsplit

import msgspec

from tolem.web.answers import ANY_SITE
from tolem.web.appearance import COLOURS_PREFIX, LOGO_PREFIX, render_colours
from tolem.web.assets import integrity_of, load_assets, read_lean
from tolem.web.checkout import PAGE_PREFIX
from tolem.web.headers import security_headers
from tolem.web.public import LIBRARY, LIBRARY_PATHS
from tolem.web.return_address import RETURN_PREFIX


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """Something that a page loads."""

    name: str
    kind: str
    """`script`, `style`, `image`, `frame`."""
    path: str
    """On the gateway; `{…}` stands for what differs from shop to shop. Of a frame: where it comes from, in words."""
    pages: str
    """On which pages it stands, in words."""
    purpose: str
    integrity: str = ""
    """As the page's attribute has it; empty where the name decides the content."""
    bytes: int = 0
    wire_bytes: int = 0
    """Compressed."""


class ProbedPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page that anybody may ask for, so that its markup and headers can be compared."""

    path: str
    status: int
    headers: dict[str, str]
    """Lower-case names."""
    loads: tuple[str, ...]
    """Paths of its sources."""


class Inventory(msgspec.Struct, frozen=True, kw_only=True):
    """All that payment pages load, and the headers that they come with."""

    sources: tuple[Source, ...]
    pages: tuple[ProbedPage, ...]


class Served(NamedTuple):
    """What a gateway answered."""

    path: str
    status: int
    headers: Sequence[tuple[str, str]]
    """Lower-case names, each as often as it came."""
    body: bytes


_ORDER_PAGES = "every page of an order, and pages that say why none opens"
_CHALLENGE_PAGES = "pages around the bank's confirmation"
_FRAMED_PAGES = "pages in a frame of the shop's page (widget)"
_PURPOSES = {
    "tolem.css": ("style", _ORDER_PAGES, "looks of the page"),
    "page.js": (
        "script",
        _ORDER_PAGES,
        "card form: grouping, mistakes told while typing, countdown, language, waiting for the outcome",
    ),
    "challenge.css": ("style", _CHALLENGE_PAGES, "size of the bank's frame"),
    "challenge.js": ("script", _CHALLENGE_PAGES, "3-D Secure: shows the bank's page in a frame, waits for the outcome"),
    "frame.css": ("style", _FRAMED_PAGES, "looks of the page in a frame"),
    "frame.js": ("script", _FRAMED_PAGES, "tells the shop's page how the payment ended; asks before it is closed"),
    "icon.svg": ("image", _ORDER_PAGES + ", except in a frame", "icon of the window"),
}
"""Of each static file of a payment page."""

_FREE = ("form-action", "frame-ancestors", "frame-src")
"""Directives of the policy that name the shop's and the bank's origins while they are needed."""
_ADDED = frozenset(
    {"access-control-allow-origin", "clear-site-data", "content-security-policy-report-only", "link", "nel"}
    | {"refresh", "report-to", "reporting-endpoints", "service-worker-allowed", "set-cookie", "sourcemap"}
    | {"speculation-rules"}
)
"""Headers that no payment page has, and that load, loosen or tell something."""


def build_inventory() -> Inventory:
    """What this version serves."""
    assets = load_assets()
    sources = [
        Source(
            name=name,
            kind=kind,
            path=assets[name].path,
            pages=pages,
            purpose=purpose,
            integrity=assets[name].integrity,
            bytes=len(assets[name].body),
            wire_bytes=len(assets[name].gzipped),
        )
        for name, (kind, pages, purpose) in _PURPOSES.items()
    ]
    library = read_lean(LIBRARY)
    sources += [
        Source(
            name="colours",
            kind="style",
            path=COLOURS_PREFIX + "{colour}-{text}.css",
            pages="pages of shops with colours of their own",
            purpose="the shop's two colours; the name says the whole content",
        ),
        Source(
            name="logo",
            kind="image",
            path=LOGO_PREFIX + "{name}",
            pages="pages of shops with a logo",
            purpose="the shop's logo, as it was set for the terminal",
        ),
        Source(
            name="bank",
            kind="frame",
            path="the access control server of the payer's bank, named in the policy of that page only",
            pages=_CHALLENGE_PAGES,
            purpose="3-D Secure: look at the browser, confirmation by the payer",
        ),
        Source(
            name=LIBRARY,
            kind="script",
            path=LIBRARY_PATHS[0],
            pages="the shop's own page; no payment page",
            purpose="opens the payment page, in full or in a frame",
            integrity=integrity_of(library),
            bytes=len(library),
            wire_bytes=len(gzip.compress(library, 9, mtime=0)),
        ),
    ]
    alone = {name.decode(): value.decode() for name, value in security_headers()}
    framed = {name.decode(): value.decode() for name, value in security_headers(frame_ancestors=ANY_SITE)}
    message = tuple(assets[name].path for name in ("icon.svg", "tolem.css", "page.js"))
    returned = tuple(assets[name].path for name in ("icon.svg", "tolem.css", "challenge.js"))
    pages = (
        ProbedPage(path="/payform/", status=400, headers=alone, loads=message),
        ProbedPage(path=PAGE_PREFIX + "inventory", status=404, headers=alone, loads=message),
        ProbedPage(path=RETURN_PREFIX + "inventory", status=404, headers=framed, loads=returned),
    )
    return Inventory(sources=tuple(sources), pages=pages)


def check_source(source: Source, served: Served) -> Iterator[str]:
    """How a served file differs from the inventory, in words."""
    where = served.path
    if served.status != 200:
        yield f"{where}: answered with {served.status}"
        return
    found = integrity_of(served.body)
    if found != source.integrity:
        yield f"{where}: its content is {found}, not {source.integrity}"
    headers = dict(served.headers)
    expected = {"script": "text/javascript", "style": "text/css", "image": "image/"}[source.kind]
    if not headers.get("content-type", "").startswith(expected):
        yield f"{where}: content-type is {headers.get('content-type', '')!r}"
    if headers.get("x-content-type-options") != "nosniff":
        yield f"{where}: x-content-type-options: nosniff is missing"


def check_probe(inventory: Inventory, probed: ProbedPage, served: Served) -> Iterator[str]:
    """How a page that anybody may ask for differs."""
    if served.status != probed.status:
        yield f"{served.path}: answered with {served.status}, not {probed.status}"
        return
    yield from check_page(inventory, served, probed.headers)
    for path in sorted(set(probed.loads) - {address for _, address, _ in _read(served).loaded}):
        yield f"{served.path}: {path} is not loaded"


def check_page(
    inventory: Inventory, served: Served, headers: Mapping[str, str], origins: Sequence[str] = ()
) -> Iterator[str]:
    """How a served page differs: its headers from `headers`, what it loads from the inventory. `origins`: those that
    the page may name besides, of banks that it leads to and shops that frame it."""
    yield from _check_headers(served, headers, origins)
    page = _read(served)
    for fault in page.faults:
        yield f"{served.path}: {fault}"
    known = {source.path: source for source in inventory.sources if source.integrity}
    for kind, address, integrity in page.loaded:
        if fault := _check_loaded(known, kind, address, integrity):
            yield f"{served.path}: {fault}"
    for address in page.posts_to:
        parts = urlsplit(address)
        if (parts.scheme or parts.netloc) and f"{parts.scheme}://{parts.netloc}" not in origins:
            yield f"{served.path}: a form posts to {parts.scheme}://{parts.netloc}"


def _read(served: Served) -> "_Reader":
    reader = _Reader()
    reader.feed(served.body.decode("utf-8", "replace"))
    reader.close()
    return reader


def _check_loaded(known: Mapping[str, Source], kind: str, address: str, integrity: str) -> str:
    source = known.get(address)
    if source is not None and source.kind == kind:
        if kind != "image" and integrity != source.integrity:
            return f"{kind} {address} has the integrity {integrity!r}, not {source.integrity!r}"
        return ""
    if kind == "style" and address.startswith(COLOURS_PREFIX):
        body = render_colours(address[len(COLOURS_PREFIX) :])
        return "" if body and integrity == integrity_of(body) else f"style {address} is not what its name says"
    if kind == "image" and address.startswith(LOGO_PREFIX):
        return ""
    return f"{kind} {address or 'without an address'} is not in the inventory"


def _check_headers(served: Served, expected: Mapping[str, str], origins: Sequence[str]) -> Iterator[str]:
    found: dict[str, list[str]] = {}
    for name, value in served.headers:
        found.setdefault(name, []).append(value)
    policies = found.get("content-security-policy", [])
    policy = _parse_policy(policies[0]) if policies else {}
    is_framed = policy.get("frame-ancestors") not in (None, ["'none'"])
    for name, value in expected.items():
        values = found.get(name, [])
        if name == "content-security-policy" and len(values) == 1:
            yield from _check_policy(served.path, policy, _parse_policy(value), origins)
        elif values != [value] and not (name == "x-frame-options" and is_framed and not values):
            yield f"{served.path}: header {name} is {', '.join(map(repr, values)) or 'missing'}, not {value!r}"
    for name in sorted(_ADDED & found.keys()):
        yield f"{served.path}: header {name} was added: {', '.join(map(repr, found[name]))}"


def _check_policy(
    where: str, found: Mapping[str, list[str]], expected: Mapping[str, list[str]], origins: Sequence[str]
) -> Iterator[str]:
    for name in sorted(found.keys() | expected.keys()):
        values, wanted = found.get(name, []), expected.get(name, [])
        allowed = {*wanted, *origins, "'self'"} if name in _FREE else set()
        if name == "connect-src":  # the bank is asked whether it can be reached, where it may stand in a frame
            allowed = {*wanted, *found.get("frame-src", [])}
        if values != wanted and not (values and allowed.issuperset(values)):
            yield f"{where}: policy: {name} is {' '.join(values) or 'missing'}, not {' '.join(wanted) or 'there'}"


def _parse_policy(text: str) -> dict[str, list[str]]:
    directives = [part.split() for part in text.split(";")]
    return {words[0].lower(): words[1:] for words in directives if words}


class _Reader(HTMLParser):
    """What a page loads, as a browser reads its markup."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[tuple[str, str, str]] = []
        """Kind, address, integrity."""
        self.posts_to: list[str] = []
        self.faults: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        match tag:
            case "script" if "src" in values:
                self._load("script", values["src"], values)
            case "script":
                self.faults.append("a script stands in the page itself")
            case "style":
                self.faults.append("a style stands in the page itself")
            case "link":
                self._read_link(values)
            case "img" | "image" | "source" | "input" if "src" in values or "href" in values:
                self._load("image", values.get("src", values.get("href", "")), values)
            case "iframe" | "frame" | "embed" | "object" | "portal" | "fencedframe":
                self._load("frame", values.get("src", values.get("data", "")), values)
            case "base" | "applet" | "audio" | "video" | "track":
                self.faults.append(f"it has a <{tag}>")
            case "form":
                self.posts_to.append(values.get("action", ""))
        for name, value in values.items():
            if name.startswith("on") or name in ("style", "srcdoc", "srcset"):
                self.faults.append(f"<{tag}> has {name}")
            elif name == "formaction":
                self.posts_to.append(value)
            elif value.strip().lower().startswith("javascript:"):
                self.faults.append(f"<{tag}> has a script in {name}")

    def _read_link(self, values: dict[str, str]) -> None:
        kinds = {"stylesheet": "style", "icon": "image"}
        rel = values.get("rel", "").lower()
        if rel in kinds:
            self._load(kinds[rel], values.get("href", ""), values)
        else:
            self.faults.append(f"it has a link of the kind {rel!r}")

    def _load(self, kind: str, address: str, values: dict[str, str]) -> None:
        self.loaded.append((kind, address, values.get("integrity", "")))
