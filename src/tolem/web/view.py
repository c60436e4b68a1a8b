"""What the payer may see of an order: the one thing that pages are rendered from.

Made by checkout.py of an opened page. Invariant: no secret, no full card number, and no address but where the
payer may go.
"""

import math
import re
from datetime import datetime
from unicodedata import category

import msgspec

from tolem.domain.maintenance import Pause
from tolem.flows.rounds import PageState

_BLANK = "\u115f\u1160\u2800\u3164\uffa0"
"""Letters and signs that show nothing."""
_HIDDEN = re.compile(r"[\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff]")
"""What turns the direction of the text around it, or has no width: a reader can't see that it is there."""
_JOINED = r"[\u0590-\u1fff\u2010-\U0010ffff]"
_LONE_JOINER = re.compile(rf"(?<!{_JOINED})[\u200c\u200d]|[\u200c\u200d](?!{_JOINED})")
"""Joiners belong between letters of Persian, Hindi and others, and between emoji; elsewhere they only hide."""


def legible(text: str) -> str:
    """A shop's words as its payer reads them: all that can be seen, and nothing else. Empty if there is nothing to see.
    The shop gets back what it sent, unchanged."""
    text = _LONE_JOINER.sub("", _HIDDEN.sub("", text))
    return text if any(category(char)[0] not in "CZ" and char not in _BLANK for char in text) else ""


class CardOffer(msgspec.Struct, frozen=True):
    """A saved card as its owner may see it."""

    id: str
    name: str
    """`Visa •••• 0128`, the digits bound to their dots."""
    expiry: str
    """`12/30`."""
    cvc_length: int


class PageView(msgspec.Struct, frozen=True, kw_only=True):
    """An order as its payer may see it."""

    language: str
    """`ru`, `kk`, `en` or empty."""
    shop_name: str
    logo: str = ""
    """Name of the shop's logo, empty: none."""
    colour: str = ""
    """`#rrggbb`, the shop's; empty: tolem's own."""
    text_colour: str = ""
    """`#rrggbb`, of text on `colour`."""
    amount: int
    """Minor units; 0 for a verification."""
    currency: str
    invoice_id: str
    description: str = ""
    state: PageState = PageState.FORM
    attempts_left: int = 0
    masked_pan: str = ""
    """`440043...0128`, of the last attempt."""
    brand: str = ""
    rrn: str = ""
    """Shown as the reference."""
    approval_code: str = ""
    reason_code: int = 0
    """docs/protocol.md, reason codes; 0: none."""
    has_left: bool = False
    """The payer cancelled, without an attempt or after one that was declined."""
    at: datetime | None = None
    """When the outcome was known."""
    return_url: str = ""
    """Where "Return to the shop" leads for this state; empty: nowhere."""
    auto_return: bool = False
    """A result leads back by itself: at its first look only, so that nobody who comes back to it is sent away again."""
    is_message_on_its_way: bool = True
    """The shop's server is being told of the approved payment, and has not confirmed it yet."""
    is_verification: bool = False
    is_slow: bool = False
    """True: the bank takes longer over the payment than people expect."""
    pause: Pause | None = None
    """Maintenance, for which no card may be typed now."""
    frame_origin: str = ""
    """Origin of the shop's page that shows this one in a frame and is told how it ended; empty: none does."""
    page_path: str
    """`/pay/<id>`."""
    now: datetime | None = None
    """Business time of this look."""
    deadline_at: datetime | None = None
    cards: tuple[CardOffer, ...] = ()
    """Saved cards that the payer may choose."""
    offers_saving: bool = False
    """True: the payer may ask for the card to be saved."""
    extension_minutes: int = 0
    """By how much the payer may extend the deadline now; 0: not (any more)."""

    @property
    def version(self) -> str:
        """Differs whenever the page would look different; the page's script compares it."""
        return f"{self.state}-{self.attempts_left}{'-slow' if self.is_slow else ''}"

    @property
    def seconds_left(self) -> int | None:
        """Until the deadline, rounded up; None: there is none."""
        if self.deadline_at is None or self.now is None:
            return None
        return max(0, math.ceil((self.deadline_at - self.now).total_seconds()))


class PageStatus(msgspec.Struct, frozen=True):
    """What `/pay/<id>/state` tells the page's script."""

    state: PageState
    version: str
    """PageView.version, as the page has it in `data-version`."""
    seconds_left: int | None = None
    """Until the deadline of the card form."""
