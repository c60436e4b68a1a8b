"""Reason codes: why a payment was declined or failed (docs/protocol.md §10).

Called where an outcome is told to a shop. The domain carries the number only; the English text belongs to the wire.
Two texts are known for certain, `success` and `Authentication failed`; the others are the bank's table in few words.
"""

REASONS = {
    0: "success",
    454: "Operation failed, the amount may be held",
    455: "3-D Secure unavailable or wrong card number",
    456: "System error",
    457: "Wrong expiry date",
    458: "Server is not responding",
    459: "Server is not responding",
    460: "Error, the amount may be held",
    461: "System error, try later",
    462: "Call your bank",
    463: "Call your bank",
    464: "Invalid merchant",
    465: "Your card is restricted",
    466: "Declined, call your bank",
    467: "Your card is disabled",
    468: "Additional identification required",
    469: "Invalid transaction",
    470: "Invalid amount",
    471: "No such card",
    472: "No such card",
    473: "Authentication failed",
    475: "Invalid response",
    476: "No action taken",
    477: "Format error",
    478: "Expired card",
    479: "Restricted card",
    480: "Call your bank",
    481: "Lost card",
    482: "Lost card",
    483: "Stolen card",
    484: "Not sufficient funds",
    485: "Expired card",
    486: "Not permitted to client by issuer",
    487: "Not permitted to merchant",
    488: "Exceeds amount limit",
    489: "Restricted card",
    490: "Payments banned on the card",
    491: "Exceeds frequency limit",
    492: "Blocked, wrong PIN",
    493: "Time-out at issuer",
    494: "Issuer unavailable",
    495: "Transaction prohibited, use another card",
    496: "3-D Secure absent",
    497: "Server is not responding",
    498: "Bonus payment unavailable",
    499: "3-D Secure not entered or failed",
    500: "3-D Secure not entered or failed",
    501: "Card service error",
    502: "Card service error",
    503: "3-D Secure not entered or failed",
    505: "More than 3 transactions",
    521: "Declined by bank",
    522: "Record not found",
    523: "Declined by bank",
    524: "Card invalid",
    525: "Card invalid",
    526: "System error",
    527: "Declined by bank",
    528: "Daily limit of transfers",
    529: "Daily limit of the terminal",
    703: "Error",
    1373: "No saved cards",
    1612: "Country not allowed by terminal",
    1636: "Card owner not established",
    1654: "One-time password not verified",
    1759: "Failed, unable to pay with this card",
    2092: "Failed, unable to pay with this card",
    2740: "Attempt limit",
    3339: "Wrong card data",
}
"""Code → text in the notification's `reason`."""

UNKNOWN_CODES = frozenset({454, 459, 460})
"""Codes that are not final: the amount may be held, and the payment's outcome has to be found out."""

OUTAGE_CODES = frozenset({456, 458, 461, 464, 493, 494, 497, 501, 502})
"""A part of the way did not work, or the shop is not set up: no card was judged."""

LEFT_CODE = 476
"""The payer left or the round's deadline passed without an attempt (tolem's choice)."""

UNLISTED = "Declined"
"""Text of a code that is not in the table."""


def reason_text(code: int) -> str:
    """The wire's English text of a reason code; a code that the table does not have gets UNLISTED."""
    return REASONS.get(code, UNLISTED)
