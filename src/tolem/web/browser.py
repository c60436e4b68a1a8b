"""What the payer's browser says of itself, for 3-D Secure: its headers, and what the page's script found out.

Called with the card form and after the issuer's look at the browser. Whatever comes is taken within bounds: it is said
to the issuer and decides nothing here.
"""

from typing import Annotated

import msgspec
from msgspec import Meta

from tolem.domain.authentication import Browser
from tolem.web.http import Request

FIELD = "browser"
"""Of the forms: JSON, written by the script; empty without one."""

_ACCEPT_MAX, _AGENT_MAX, _LANGUAGE_MAX = 2048, 2048, 35
_COLOUR_DEPTHS = (1, 4, 8, 15, 16, 24, 32, 48)
_Pixels = Annotated[int, Meta(ge=0, le=999_999)]


class _Found(msgspec.Struct, frozen=True):
    """What the script writes; the names are short, since every payer sends them."""

    d: Annotated[int, Meta(ge=1, le=99)]
    """Colour depth."""
    w: _Pixels
    """Of the screen."""
    h: _Pixels
    z: Annotated[int, Meta(ge=-900, le=900)]
    """Minutes that UTC is ahead of local time."""
    l: Annotated[str, Meta(max_length=_LANGUAGE_MAX)]  # noqa: E741 - see above
    j: bool
    """Java."""
    x: _Pixels
    """Of the page."""
    y: _Pixels


_decode = msgspec.json.Decoder(_Found).decode


def read_browser(request: Request, posted: str) -> Browser:
    """The browser that sent `request`; `posted`: the form's field FIELD."""
    accept, agent, languages = request.headers(b"accept", b"user-agent", b"accept-language")
    try:
        found = _decode(posted) if posted else None
    except msgspec.MsgspecError:  # somebody else's script: as if there were none
        found = None
    if found is None:
        language = languages.partition(",")[0].partition(";")[0].strip()[:_LANGUAGE_MAX]
        return Browser(
            accept=accept[:_ACCEPT_MAX] or "*/*", user_agent=agent[:_AGENT_MAX], ip=request.address, language=language
        )
    # The specification knows these depths only; the next lower one is told for another.
    depth = max((depth for depth in _COLOUR_DEPTHS if depth <= found.d), default=1)
    return Browser(
        accept=accept[:_ACCEPT_MAX] or "*/*",
        user_agent=agent[:_AGENT_MAX],
        ip=request.address,
        language=found.l,
        has_script=True,
        has_java=found.j,
        colour_depth=depth,
        screen_width=found.w,
        screen_height=found.h,
        utc_offset_minutes=found.z,
        window_width=found.x,
        window_height=found.y,
    )
