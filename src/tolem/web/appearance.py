"""The shop's own look on the page: the addresses of its logo and of its colours, and what they answer.

Called by the pages (addresses) and by the public routes. Nothing inline: two colours are a style sheet of their own,
whose name says all of its content, so that nothing is stored for it and browsers keep it for ever.
"""

import re
from functools import lru_cache

from tolem.web.assets import integrity_of

LOGO_PREFIX = "/logo/"
COLOURS_PREFIX = "/colours/"

_COLOURS = re.compile(r"([0-9a-f]{6})-([0-9a-f]{6})\.css", re.ASCII)


def logo_path(name: str) -> str:
    """Name of a stored logo → its address."""
    return LOGO_PREFIX + name


def colours_path(ground: str, text: str) -> str:
    """Two `#rrggbb` → the address of their style sheet."""
    return f"{COLOURS_PREFIX}{ground[1:]}-{text[1:]}.css"


@lru_cache(maxsize=1000)
def colours_integrity(ground: str, text: str) -> str:
    """Two `#rrggbb` → the `integrity` of their style sheet."""
    return integrity_of(_render(ground[1:], text[1:]))


def render_colours(name: str) -> bytes | None:
    """The style sheet of that name, None for a name that colours_path does not make. tolem.css says what it colours."""
    match = _COLOURS.fullmatch(name)
    if match is None:
        return None
    return _render(match[1], match[2])


def _render(ground: str, text: str) -> bytes:
    return f":root{{--shop:#{ground};--on-shop:#{text};--shop-space:1.25rem}}".encode()
