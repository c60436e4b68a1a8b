"""The sandbox's card table: what a card number makes happen (docs/protocol.md §2).

Called by the simulator and its authenticator, and to list the cards for people. Pure: nothing is random, the number
decides. A card that is not in the table is turned away before anything of it is stored.
"""

import re
from typing import NamedTuple

from tolem.domain.card import Expiry, Pan, luhn_digit, passes_luhn

LOCKED_CODE = 465
"""With what the published locked cards decline. The bank says "lock" and no code; of its table, 465 is the one whose
Russian text is "the card is blocked" (467, "disabled", reads as a card that its holder switched off)."""

APPROVED = 0
DECLINE_CODES = frozenset({*range(455, 459), *range(461, 474), *range(475, 504), 505, *range(521, 530), 703})
"""Reason codes of three digits that a card number may name and that settle a payment."""

DOUBTS = {
    454: "answered with 454: unknown, though approved; an inquiry says so",
    459: "answered with 459: unknown, and never heard of; an inquiry finds nothing",
    460: "answered with 460: unknown, though approved; an inquiry says 460 again, only a reversal ends it",
}
"""Reason codes that leave a payment open (docs/protocol.md §10), and what the acquirer really did."""

AUTHENTICATIONS = {
    "0": "authenticated without a challenge",
    "1": "challenge: the code is 123456",
    "2": "authentication attempted",
    "3": "not enrolled in 3-D Secure",
    "4": "authentication refused by the issuer: declined with 473",
    "5": "access control server unavailable: declined with 455",
    "6": "authenticated without a challenge after a look at the browser",
    "7": "confirmed in the bank's app, after 5 s",
    "8": "the issuer took note and decided nothing",
}
CHALLENGED = ("1", "7")
"""The payer has to do something."""
IN_APP = ("7",)
"""Not on the access control server's page."""
LOOKED_AT = ("1", "6")
"""The access control server looks at the browser first (3DS Method)."""
STOPPED = ("4", "5")
"""The acquirer is never asked, unless the terminal lets the payment go on."""
LINES = {
    "0": "prompt",
    "1": "answers after 3 s",
    "2": "the answer is lost",
    "3": "the request never arrives",
    "4": "the answer is garbled",
    "5": "the request arrives late, after the gateway's deadline",
}
"""How the line to the acquirer treats an authorize or purchase; line.py plays it. A card with another digit, here or
above, is turned away."""


class SandboxCard(NamedTuple):
    """A test card. Its number is public, so it is no Pan."""

    number: str
    reason_code: int
    """0: approved; one of DOUBTS: unknown; otherwise declined with this (docs/protocol.md §10)."""
    authentication: str = "0"
    """A key of AUTHENTICATIONS."""
    line: str = "0"
    """A key of LINES: how the acquirer answers an authorize or purchase."""
    printed: tuple[tuple[Expiry, str], ...] = ()
    """Expiry and CVC as the bank's documentation prints them: valid together though the expiry is past."""

    @property
    def description(self) -> str:
        """What happens with it, in words."""
        outcome = DOUBTS.get(self.reason_code) or (
            "approved" if self.reason_code == APPROVED else f"declined with {self.reason_code}"
        )
        if self.authentication in STOPPED:
            return AUTHENTICATIONS[self.authentication]
        words = [outcome, AUTHENTICATIONS[self.authentication]]
        if self.line != "0":
            words.append(LINES[self.line])
        return "; ".join(words)


PUBLISHED = (
    SandboxCard("4405639704015096", APPROVED, printed=((Expiry(2025, 1), "815"), (Expiry(2027, 1), "321"))),
    SandboxCard("5522042705066736", APPROVED, printed=((Expiry(2025, 1), "525"), (Expiry(2027, 1), "775"))),
    SandboxCard("377514500004820", APPROVED, printed=((Expiry(2025, 1), "4169"), (Expiry(2028, 1), "0198"))),
    SandboxCard("4003032704547597", LOCKED_CODE, printed=((Expiry(2020, 9), "170"),)),
    SandboxCard("5578342710750560", LOCKED_CODE, printed=((Expiry(2020, 9), "254"),)),
)
"""The bank's own test cards."""

_PUBLISHED = {card.number: card for card in PUBLISHED}
_NUMBER = re.compile(r"440043(?P<reason>[0-9]{3})(?P<authentication>[0-9])(?P<line>[0-9])0000[0-9]", re.ASCII)


def find_card(pan: Pan) -> SandboxCard | None:
    """What the table says of a card; None: it is not in it."""
    digits = pan.reveal()
    if published := _PUBLISHED.get(digits):
        return published
    match = _NUMBER.fullmatch(digits)
    if match is None or not passes_luhn(digits):
        return None
    reason = int(match["reason"])
    if reason != APPROVED and reason not in DECLINE_CODES and reason not in DOUBTS:
        return None
    if match["authentication"] not in AUTHENTICATIONS or match["line"] not in LINES:
        return None
    return SandboxCard(digits, reason, match["authentication"], match["line"])


def build_number(reason_code: int, authentication: str = "0", line: str = "0") -> str:
    """The number of the card that plays this: `440043 RRR A N 0000 C`."""
    digits = f"440043{reason_code:03d}{authentication}{line}0000"
    return digits + luhn_digit(digits)


def list_cards() -> list[SandboxCard]:
    """The cards worth showing to people: the bank's, each authentication, each line, each doubt and each decline
    once."""
    authenticated = [SandboxCard(build_number(APPROVED, digit), APPROVED, digit) for digit in AUTHENTICATIONS]
    lines = [SandboxCard(build_number(APPROVED, line=digit), APPROVED, line=digit) for digit in LINES if digit != "0"]
    others = [SandboxCard(build_number(code), code) for code in (*DOUBTS, *sorted(DECLINE_CODES))]
    return [*PUBLISHED, *authenticated, *lines, *others]
