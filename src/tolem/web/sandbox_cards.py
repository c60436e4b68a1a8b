"""The test cards that a sandbox's form shows to developers: one of each kind; `tolem cards` lists them all.

Used by pages.py and home.py. What a number makes happen is decided by the sandbox (docs/protocol.md §2), not here.
"""

from typing import NamedTuple

from tolem.domain.card import luhn_digit
from tolem.i18n.translator import mark


class SandboxCard(NamedTuple):
    """A test card and what it does. The script types the code 123 where no other is named."""

    number: str
    cvc: str
    outcome: str
    """Its msgid."""


def _build(reason: str, authentication: str = "0", line: str = "0") -> str:
    digits = f"440043{reason}{authentication}{line}0000"
    return digits + luhn_digit(digits)


APPROVED_CARD = SandboxCard("4405639704015096", "123", mark("approved"))
DECLINED_CARD = SandboxCard("4003032704547597", "123", mark("declined: card locked"))
SANDBOX_CARDS = (
    APPROVED_CARD,
    SandboxCard("377514500004820", "0198", mark("approved")),
    SandboxCard(_build("000", authentication="1"), "123", mark("approved after the bank's question: code 123456")),
    SandboxCard(_build("000", line="1"), "123", mark("approved after 3 seconds")),
    DECLINED_CARD,
    SandboxCard(_build("484"), "123", mark("declined: no money")),
    SandboxCard(_build("000", authentication="4"), "123", mark("declined: the bank did not confirm it")),
)
PRINTED_DATES = ("01/25", "01/27", "01/28", "09/20")
"""Of the bank's own test cards. The sandbox takes them even when they are past, each with its card and code, so the
script leaves them to it."""
