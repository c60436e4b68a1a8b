"""What a payer is told of a reason code and of a mistake in the card form, as msgids. Called by the pages.

Honest, and says what to do next. Two things are never told: which detail of a card was wrong (457, 471, 3339 …), and
what helps whoever holds somebody else's card (lost, stolen, restricted, limits, wrong PIN): both read as a general
answer. The shop gets the code itself.
"""

from typing import NamedTuple

from tolem.domain.card import CardProblem
from tolem.i18n.translator import mark


class Reason(NamedTuple):
    """What happened, and what to do next."""

    cause: str
    advice: str = ""
    """While another attempt may be made."""
    last_advice: str = ""
    """After the last one; the page itself says how to begin anew."""
    tells_of_money: bool = False
    """The cause says already what became of it."""

    def texts(self, *, is_last: bool) -> tuple[str, ...]:
        """The sentences to be told, msgids. Who reads that it is over wants to know that nothing was taken."""
        money = _NOTHING_TAKEN if is_last and not self.tells_of_money else ""
        advice = self.last_advice if is_last else self.advice
        return tuple(text for text in (self.cause, money, advice) if text)


_NOTHING_TAKEN = mark("No money was taken.")
_USE_ANOTHER = mark("Use another card.")
_CALL_BANK = mark("Use another card or call your bank.")
_AGAIN = mark("Try again or use another card.")
_LATER = mark("Try again in a few minutes.")
_TELL_SHOP = mark("Tell the shop the order number.")
_ANOTHER_OR_TELL_SHOP = mark("Use another card; if that does not work either, tell the shop the order number.")

REFUSED = Reason(mark("The bank declined the payment."), _CALL_BANK)
CHECK_DETAILS = Reason(
    mark("The bank did not accept the card details."), mark("Check them and try again, or use another card.")
)
EXPIRED_CARD = Reason(mark("This card has expired."), _USE_ANOTHER)
FUNDS = Reason(mark("There is not enough money on the card."), mark("Top it up or use another card."))
NOT_CONFIRMED = Reason(mark("Your bank did not confirm that the card is yours."), _AGAIN)
NOT_FINISHED = Reason(
    mark("The confirmation at your bank was cancelled or not finished. No money was taken."),
    _AGAIN,
    tells_of_money=True,
)
CONFIRMATION_UNAVAILABLE = Reason(
    mark("The bank's confirmation service is not available, or the card number is wrong."),
    mark("Check the number and try again, or use another card."),
)
OTHER_CARD = Reason(mark("This card cannot be used for this payment."), _USE_ANOTHER)
SHOP_CANNOT = Reason(mark("The shop cannot take this payment with this card."), _ANOTHER_OR_TELL_SHOP, _TELL_SHOP)
BANK_SILENT = Reason(mark("The bank could not process the payment. No money was taken."), _LATER, tells_of_money=True)
MAY_BE_HELD = Reason(
    mark("The payment was not completed. If your bank shows the amount as held, the hold will be released."),
    tells_of_money=True,
)
NOTHING_DONE = Reason(
    mark("The payment was cancelled or was not made in time. No money was taken."), tells_of_money=True
)
ATTEMPTS = Reason(mark("The bank takes no more attempts with this card for now."), _USE_ANOTHER)

_CARD_REFUSED = Reason(mark("The bank did not accept this card."), _CALL_BANK)
_OF_VERIFICATIONS = {
    REFUSED: _CARD_REFUSED,
    FUNDS: _CARD_REFUSED,  # nothing was to be taken, so there is nothing to top up
    OTHER_CARD: Reason(mark("This card cannot be used here."), _USE_ANOTHER),
    SHOP_CANNOT: Reason(mark("The shop cannot verify this card."), _ANOTHER_OR_TELL_SHOP, _TELL_SHOP),
    BANK_SILENT: Reason(mark("The bank could not verify the card. No money was taken."), _LATER, tells_of_money=True),
    MAY_BE_HELD: Reason(mark("The verification was not completed. No money was taken."), tells_of_money=True),
    NOTHING_DONE: Reason(
        mark("The verification was cancelled or was not made in time. No money was taken."), tells_of_money=True
    ),
}
"""What those read like where no payment was meant."""

CANCELLED_CODE = 476
"""The payer left, or the deadline passed."""

_CODES = {
    CHECK_DETAILS: (457, 471, 472, 524, 525, 3339),
    EXPIRED_CARD: (478, 485),
    FUNDS: (484,),
    NOT_CONFIRMED: (473, 496, 500, 503, 1654),
    NOT_FINISHED: (499,),
    CONFIRMATION_UNAVAILABLE: (455,),
    OTHER_CARD: (468, 486, 495, 498, 1612, 1636, 1759, 2092),
    SHOP_CANNOT: (464, 469, 470, 487),
    BANK_SILENT: (456, 461, 475, 477, 493, 494, 497, 501, 502, 522, 526, 703),
    MAY_BE_HELD: (454, 458, 459, 460),
    NOTHING_DONE: (CANCELLED_CODE,),
    ATTEMPTS: (2740,),
}
_REASONS = {code: reason for reason, codes in _CODES.items() for code in codes}

PROBLEM_TEXTS = {
    CardProblem.NUMBER_MISSING: mark("Enter the card number"),
    CardProblem.NUMBER_LETTERS: mark("A card number has digits only"),
    CardProblem.NUMBER_SHORT: mark("The card number is too short"),
    CardProblem.NUMBER_LONG: mark("The card number is too long"),
    CardProblem.NUMBER_CHECK: mark("There is a typing mistake in the card number"),
    CardProblem.NUMBER_BRAND: mark("Cards of this kind are not accepted here"),
    CardProblem.NUMBER_GONE: mark("This saved card cannot be used any more: choose another one, or type a card"),
    CardProblem.NUMBER_NOT_SANDBOX: mark("This is a sandbox: only its test cards work, never a real one"),
    CardProblem.EXPIRY_MISSING: mark("Enter the expiry date"),
    CardProblem.EXPIRY_FORMAT: mark("This is no expiry date: type it like 09/28"),
    CardProblem.EXPIRY_PAST: mark("This card has expired"),
    CardProblem.CVC_MISSING: mark("Enter the security code"),
    CardProblem.CVC_FORMAT: mark("A security code has 3 or 4 digits"),
    CardProblem.CVC_LENGTH_3: mark("The security code of this card has 3 digits"),
    CardProblem.CVC_LENGTH_4: mark("The security code of this card has 4 digits"),
    CardProblem.NAME_MISSING: mark("Enter the name on the card"),
    CardProblem.NAME_FORMAT: mark("Use only the letters A to Z, spaces and hyphens in the name"),
}


def find_reason(code: int, *, is_verification: bool = False) -> Reason:
    """What to tell of a reason code (docs/protocol.md, reason codes); a code without a text of its own is a refusal.
    `is_verification`: a card was to be verified, without a payment."""
    reason = _REASONS.get(code, REFUSED)
    return _OF_VERIFICATIONS.get(reason, reason) if is_verification else reason
