"""What a payer is told of a reason code and of a mistake in the card form, as msgids. Called by the pages.

Honest, and says what to do next. Two things are never told: which detail of a card was wrong (457, 471, 3339 …), and
what helps whoever holds somebody else's card (lost, stolen, restricted, limits, wrong PIN): both read as a general
answer. The shop gets the code itself.
"""

from tolem.domain.card import CardProblem
from tolem.i18n.translator import mark

REFUSED = mark("The bank declined the payment. Use another card or call your bank.")
CHECK_DETAILS = mark("The bank did not accept the card details. Check them and try again, or use another card.")
EXPIRED_CARD = mark("This card has expired. Use another card.")
FUNDS = mark("There is not enough money on the card. Top it up or use another card.")
NOT_CONFIRMED = mark("Your bank did not confirm that the card is yours. Try again or use another card.")
NOT_FINISHED = mark(
    "The confirmation at your bank was cancelled or not finished. No money was taken. Try again or use another card."
)
CONFIRMATION_UNAVAILABLE = mark(
    "The bank's confirmation service is not available, or the card number is wrong. "
    "Check the number and try again, or use another card."
)
OTHER_CARD = mark("This card cannot be used for this payment. Use another card.")
SHOP_CANNOT = mark("The shop cannot take this payment. Tell the shop the order number.")
BANK_SILENT = mark("The bank could not process the payment. No money was taken. Try again in a few minutes.")
MAY_BE_HELD = mark("The payment was not completed. If your bank shows the amount as held, the hold will be released.")
NOTHING_DONE = mark("The payment was cancelled or was not made in time. No money was taken.")
ATTEMPTS = mark("All attempts are used up. Return to the shop and start the payment again.")

_OF_VERIFICATIONS = {
    REFUSED: mark("The bank did not accept this card. Use another card or call your bank."),
    OTHER_CARD: mark("This card cannot be used here. Use another card."),
    SHOP_CANNOT: mark("The shop cannot verify this card. Tell the shop the order number."),
    BANK_SILENT: mark("The bank could not verify the card. No money was taken. Try again in a few minutes."),
    MAY_BE_HELD: mark("The verification was not completed. No money was taken."),
    NOTHING_DONE: mark("The verification was cancelled or was not made in time. No money was taken."),
    ATTEMPTS: mark("All attempts are used up. Return to the shop and start the verification again."),
}
"""What those texts read like where no payment was meant."""

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
_TEXTS = {code: text for text, codes in _CODES.items() for code in codes}

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
    CardProblem.CVC_FORMAT: mark("This does not look like a security code"),
    CardProblem.CVC_LENGTH_3: mark("The security code is one digit too long"),
    CardProblem.CVC_LENGTH_4: mark("The security code is one digit too short"),
    CardProblem.NAME_MISSING: mark("Enter the name on the card"),
    CardProblem.NAME_FORMAT: mark("Use only the letters A to Z, spaces and hyphens in the name"),
}


def find_reason_text(code: int, *, is_verification: bool = False) -> str:
    """The msgid for a reason code (docs/protocol.md, reason codes); a code without a text of its own is a refusal.
    `is_verification`: a card was to be verified, without a payment."""
    text = _TEXTS.get(code, REFUSED)
    return _OF_VERIFICATIONS.get(text, text) if is_verification else text
