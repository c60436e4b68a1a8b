"""How the pages' endpoints answer: HTML with its security headers, and what a browser says of where it comes from."""

import re
from collections.abc import Sequence
from functools import lru_cache
from urllib.parse import urlsplit

from tolem.i18n.translator import LANGUAGE_NAMES
from tolem.web.headers import security_headers
from tolem.web.http import Request, Response

ANY_SITE = ("http:", "https:")
"""May show a page in a frame that holds nothing of an order and nothing to press."""

_ORIGIN = re.compile(r"https?://[^/?#\\@\s]+(?=[/?#]|$)", re.IGNORECASE)


def html(
    status: int,
    body: bytes,
    framers: Sequence[str] = (),
    form_action_extra: Sequence[str] = (),
    frame_src: Sequence[str] = (),
) -> Response:
    """A page with its security headers; `framers` may show it in a frame, the others are those of security_headers."""
    return Response(status, _html_headers(tuple(framers), tuple(form_action_extra), tuple(frame_src)), body)


def message(request: Request, status: int, body: bytes) -> Response:
    """A page that belongs to no order. There is nothing on it that another site could make a payer press, so a frame
    may show it: the shop's developer sees why, instead of the browser's own blank."""
    return html(status, body, ANY_SITE if is_in_frame(request) else ())


@lru_cache(maxsize=1000)
def _html_headers(
    framers: tuple[str, ...], form_action_extra: tuple[str, ...], frame_src: tuple[str, ...]
) -> list[tuple[bytes, bytes]]:
    policy = security_headers(form_action_extra, framers, frame_src)
    return [(b"content-type", b"text/html; charset=utf-8"), (b"vary", b"accept-encoding"), *policy]


def method_not_allowed(allowed: str) -> Response:
    """405 in plain words."""
    return Response(
        405,
        [(b"allow", allowed.encode()), (b"content-type", b"text/plain; charset=utf-8")],
        f"use {allowed}\n".encode(),
    )


def preferred_language(request: Request) -> str:
    """The browser's first language that the page may speak; for pages that belong to no order."""
    return first_language(request.header(b"accept-language"))


def first_language(accepted: str) -> str:
    """Of an Accept-Language header."""
    for part in accepted.lower().split(",")[:8]:
        tag = part.partition(";")[0].strip()[:2]
        if tag in LANGUAGE_NAMES:
            return tag
    return ""


def origin_of(url: str) -> str:
    """`https://host[:port]` of the public address, as browsers write an origin; empty for empty."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}".lower() if url else ""


def referring_origin(request: Request) -> str:
    """Where the payer came from, as the browser says: the shop, for a page that belongs to no order."""
    found = _ORIGIN.match(request.header(b"referer"))
    return found[0].lower() + "/" if found else ""


def referring_query(request: Request) -> bytes:
    """The query of our page whose button was pressed; the browser tells it to this origin only (Referrer-Policy)."""
    return request.header(b"referer").partition("?")[2].encode("latin-1")


def is_in_frame(request: Request) -> bool:
    """As the browser says (Fetch Metadata); it says nothing to an address of plain http in a network."""
    return request.header(b"sec-fetch-dest") not in ("", "document", "empty")
