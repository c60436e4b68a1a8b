"""Names that were probably meant to be a field of a call that moves money.

Called by `wire.operations`, which refuses what it does not know: so a refusal can tell the right spelling.
"""

import re
import unicodedata

AMOUNT = "amount"
EXTERNAL_ID = "externalID"
IDEMPOTENCY_KEY = "Idempotency-Key"

_MEANT = {
    "amount": AMOUNT,
    "externalid": EXTERNAL_ID,
    "currency": "currency",
    "idempotencykey": IDEMPOTENCY_KEY,
}
"""Plain letters → the right spelling."""
_OTHER_WORDS = (
    dict.fromkeys(("amnt", "amt", "partial", "refund", "sum", "summa", "cymma", "total", "value"), AMOUNT)
    | dict.fromkeys(("external", "externalrefundid", "key", "refundid", "requestid"), EXTERNAL_ID)
    | {"idempotency": IDEMPOTENCY_KEY}
)
"""The same for other words; Russian ones in the Latin letters that they look like."""
_LIKE_LATIN = str.maketrans("аеікмнорстух", "aeikmnopctyx")
"""Cyrillic letters that look like Latin ones: they come from a keyboard that was not switched."""
_NO_LETTER = re.compile(r"[\W_]+")


def find_meant(name: str) -> str | None:
    """The field that a name was meant to be: `AMOUNT`, `ammount`, `refund_amount` → `amount`; None: none of ours."""
    plain = _NO_LETTER.sub("", unicodedata.normalize("NFKC", name).casefold().translate(_LIKE_LATIN))
    if plain in _OTHER_WORDS:
        return _OTHER_WORDS[plain]
    for letters, field in _MEANT.items():
        if letters in plain or _is_one_slip(plain, letters):
            return field
    return None


def _is_one_slip(text: str, meant: str) -> bool:
    """One letter is wrong, missing or too much, or two neighbours are exchanged."""
    if abs(len(text) - len(meant)) > 1:
        return False
    start = 0
    while start < min(len(text), len(meant)) and text[start] == meant[start]:
        start += 1
    rest, meant_rest = text[start:], meant[start:]
    if len(rest) > len(meant_rest):
        return rest[1:] == meant_rest
    if len(rest) < len(meant_rest):
        return rest == meant_rest[1:]
    return rest[1:] == meant_rest[1:] or (rest[:2] == meant_rest[1::-1] and rest[2:] == meant_rest[2:])
