"""3-D Secure as the payment sees it: what the authenticator said of the payer, and whether that is enough to go on.

Words and values are those of EMV 3-D Secure 2. RULES is the one table of what a transStatus leads to; docs/threeds.md
shows it to people, and a test compares. Called by the flows; no I/O.
"""

from datetime import datetime
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID

import msgspec

from tolem.domain.card import Brand
from tolem.domain.merchant import Terminal

REFUSED = 473
"""Reason codes of docs/protocol.md §10: the issuer says that it is not the card's holder, or refuses to say."""
UNAVAILABLE = 455
"""The issuer's access control server could not be asked, or did not know."""
ABSENT = 496
"""The payer was not authenticated, and the terminal insists on it."""
ABANDONED = 499
"""The payer cancelled the challenge, left it, or ran out of time."""
LOST = 456
"""The payer may have passed, but the card can't be sent on any more: nothing was charged."""


class TransStatus(StrEnum):
    """transStatus of EMV 3-D Secure."""

    AUTHENTICATED = "Y"
    ATTEMPTED = "A"  # the issuer takes no part just now; the scheme vouches that it was asked
    NOT_AUTHENTICATED = "N"  # the payer failed, or the issuer denied the transaction
    UNAVAILABLE = "U"  # no authentication could be made
    REJECTED = "R"  # the issuer asks not to go on, whatever happens
    CHALLENGE = "C"  # the payer has to show something
    DECOUPLED = "D"  # the payer has to, in the bank's app and without this page
    INFORMATION = "I"  # the issuer took note and decided nothing


NOT_ENROLLED_REASONS = ("08", "13")
"""transStatusReason of U where nothing failed: no card record, cardholder not enrolled."""
ABANDONED_CANCELS = ("01", "02", "03", "04", "05", "08")
"""challengeCancel: the payer or the page cancelled, left, or ran out of time. 06 and 07 are errors of the server."""


class Authentication(msgspec.Struct, frozen=True):
    """Result of authenticating one attempt."""

    trans_status: TransStatus
    eci: str = ""
    """Electronic commerce indicator: 05/02 full, 06/01 attempted, 07/00 none (Visa and others / Mastercard)."""
    cavv: str = ""
    """Cardholder authentication verification value, base64; goes to the acquirer, is not kept."""
    trans_status_reason: str = ""
    """Why, where it is not Y: two digits of EMV 3-D Secure, may be empty."""
    challenge_cancel: str = ""
    """Why a challenge ended without an answer: two digits of EMV 3-D Secure, may be empty."""

    @property
    def is_authenticated(self) -> bool:
        """True: the issuer vouches for the payer."""
        return self.trans_status is TransStatus.AUTHENTICATED

    @property
    def is_not_enrolled(self) -> bool:
        """True: the card takes no part in 3-D Secure, which is no failure."""
        is_unavailable = self.trans_status is TransStatus.UNAVAILABLE
        return is_unavailable and self.trans_status_reason in NOT_ENROLLED_REASONS


class Allows(StrEnum):
    """Who decides whether a payment goes on: the table, or a setting of the terminal (its name)."""

    ALWAYS = "always"
    NEVER = "never"
    ATTEMPTED = "accept_attempted"
    NOT_ENROLLED = "accept_not_enrolled"
    UNAVAILABLE = "accept_unavailable"


class Rule(NamedTuple):
    """What one transStatus leads to."""

    allows: Allows
    eci: str
    """What the acquirer is told if it goes on and the authenticator named none: Visa and others."""
    eci_mastercard: str
    """The same for Mastercard and Maestro."""
    reason_code: int
    """If it does not go on."""
    secure_details: str = ""
    """What the shop is told beside `secure`."""


RULES = {
    TransStatus.AUTHENTICATED: Rule(Allows.ALWAYS, "05", "02", 0, "F"),
    TransStatus.ATTEMPTED: Rule(Allows.ATTEMPTED, "06", "01", ABSENT, "A"),
    TransStatus.NOT_AUTHENTICATED: Rule(Allows.NEVER, "", "", REFUSED),
    TransStatus.UNAVAILABLE: Rule(Allows.UNAVAILABLE, "07", "00", UNAVAILABLE),
    TransStatus.REJECTED: Rule(Allows.NEVER, "", "", REFUSED),
    TransStatus.CHALLENGE: Rule(Allows.NEVER, "", "", UNAVAILABLE),  # as a final word it is none
    TransStatus.DECOUPLED: Rule(Allows.NEVER, "", "", UNAVAILABLE),
    TransStatus.INFORMATION: Rule(Allows.NOT_ENROLLED, "07", "00", ABSENT),
}
NOT_ENROLLED = Rule(Allows.NOT_ENROLLED, "07", "00", ABSENT)
"""In place of U's, where the card takes no part."""

_MASTERCARD = (Brand.MASTERCARD, Brand.MAESTRO)


class Ruling(NamedTuple):
    """What follows from an authentication at a terminal."""

    goes_on: bool
    reason_code: int
    """Why not; 0 if it goes on."""
    is_abandoned: bool
    """True: nobody said no, the challenge just did not come to an end."""


def judge(authentication: Authentication, terminal: Terminal) -> Ruling:
    """Whether the payment goes on to the acquirer."""
    rule = rule_of(authentication)
    match rule.allows:
        case Allows.ALWAYS:
            goes_on = True
        case Allows.NEVER:
            goes_on = False
        case _:
            goes_on = bool(getattr(terminal, rule.allows))
    if goes_on:
        return Ruling(True, 0, False)
    if authentication.challenge_cancel in ABANDONED_CANCELS:
        return Ruling(False, ABANDONED, True)
    return Ruling(False, rule.reason_code, False)


def rule_of(authentication: Authentication) -> Rule:
    """The line of the table."""
    return NOT_ENROLLED if authentication.is_not_enrolled else RULES[authentication.trans_status]


def eci_of(authentication: Authentication, brand: Brand) -> str:
    """The ECI that the acquirer is told: the authenticator's, or the table's for the brand."""
    rule = rule_of(authentication)
    return authentication.eci or (rule.eci_mastercard if brand in _MASTERCARD else rule.eci)


class Browser(msgspec.Struct, frozen=True, kw_only=True):
    """What EMV 3-D Secure wants to know of the payer's browser. The defaults are what is told of one without script."""

    accept: str = "*/*"
    """Its Accept header."""
    user_agent: str = ""
    ip: str = ""
    language: str = ""
    """IETF tag, such as kk-KZ."""
    has_script: bool = False
    has_java: bool = False
    colour_depth: int = 24
    screen_width: int = 0
    screen_height: int = 0
    utc_offset_minutes: int = 0
    """Minutes that UTC is ahead of local time: −300 in Kazakhstan (JavaScript's getTimezoneOffset)."""
    window_width: int = 0
    """Of the page in CSS pixels: what a challenge has room in; 0: not known."""
    window_height: int = 0


class ChallengeWindow(StrEnum):
    """challengeWindowSize: width × height in CSS pixels."""

    W250X400 = "01"
    W390X400 = "02"
    W500X600 = "03"
    W600X400 = "04"
    FULL = "05"  # all there is


def choose_window(browser: Browser) -> ChallengeWindow:
    """The largest of the five sizes that fits into the page and its margins (challenge.css); phones and unknown
    browsers give all there is."""
    width, height = browser.window_width, browser.window_height
    if not browser.has_script or width <= 0:
        return ChallengeWindow.FULL
    if width >= 720 and height < 700:
        return ChallengeWindow.W600X400
    if width >= 620:
        return ChallengeWindow.W500X600
    if width >= 450:
        return ChallengeWindow.W390X400
    return ChallengeWindow.FULL if width >= 300 else ChallengeWindow.W250X400


class DeviceStep(msgspec.Struct, frozen=True):
    """The 3DS Method: the issuer looks at the payer's browser in a hidden frame before it is asked."""

    url: str
    """Of the access control server."""
    data: str
    """Posted to it as `threeDSMethodData`."""


class Challenge(msgspec.Struct, frozen=True):
    """The issuer wants to see the payer."""

    url: str
    """acsURL, to which the browser posts; empty: the payer confirms elsewhere (transStatus D)."""
    creq: str
    """Posted to it as `creq`."""
    reference: str
    """The authenticator's own name of the transaction; may be empty."""


class AuthenticationStep(StrEnum):
    """What an authentication that is under way waits for."""

    DEVICE = "device"  # the 3DS Method
    CHALLENGE = "challenge"
    DECOUPLED = "decoupled"  # a challenge without this page
    ENDED = "ended"


class PendingAuthentication(msgspec.Struct, frozen=True, kw_only=True):
    """An authentication that needs the payer: what the payment page has to show, and how it is found again."""

    payment_id: UUID
    """Also the key by which the authenticator knows it (threeDSServerTransID)."""
    order_id: UUID
    page_hash: bytes
    """The opening of the payment page at which the card was typed: only there it can go on."""
    step: AuthenticationStep
    url: str
    """Where the browser posts."""
    data: str
    """What it posts: threeDSMethodData or creq."""
    reference: str = ""
    window: ChallengeWindow
    return_nonce: str
    """Of the address to which the issuer sends the browser back; the page's own address it never learns."""
    deadline_at: datetime | None
    """Business time at which the payment fails; None once it has ended."""
    created_at: datetime
