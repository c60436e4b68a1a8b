"""Money: integers of minor units beside an ISO 4217 currency. Decimal text exists only at the edge; no float."""

import re
from decimal import Decimal

EXPONENTS = {
    "KZT": 2,
    "USD": 2,
    "EUR": 2,
    "RUB": 2,
    "GBP": 2,
    "CNY": 2,
    "KGS": 2,
    "UZS": 2,
    "TRY": 2,
    "AED": 2,
    "JPY": 0,
    "KWD": 3,
}
"""Digits after the decimal point, ISO 4217."""

AMOUNT_MAX = 999_999_999_999
"""Largest amount in minor units: ISO 8583 field 4 has 12 digits."""

_AMOUNT = re.compile(r"(?P<whole>[0-9]{1,32})(?:\.(?P<fraction>[0-9]{1,6}))?", re.ASCII)


class InvalidAmount(ValueError):
    """The text is no amount of that currency; the message says what to change."""


def parse_currency(code: str) -> str:
    """An ISO 4217 code in any case → the code. Raises InvalidAmount for one that is not in EXPONENTS."""
    currency = code.upper()
    if currency not in EXPONENTS:
        raise InvalidAmount(f"currency {code[:8]!r} is not known here; use one of {', '.join(EXPONENTS)}")
    return currency


def parse_amount(text: str, currency: str) -> int:
    """Decimal text (`100`, `100.50`, never `1e3`) → minor units, 0 … AMOUNT_MAX. Raises InvalidAmount."""
    match = _AMOUNT.fullmatch(text)
    if match is None:
        raise InvalidAmount(f"amount {text[:32]!r} is not a plain decimal number such as 100 or 100.50")
    exponent = EXPONENTS[currency]
    fraction = (match["fraction"] or "").rstrip("0")
    if len(fraction) > exponent:
        raise InvalidAmount(f"amount {text[:32]!r} has more than {exponent} decimals, {currency} has {exponent}")
    amount = int(match["whole"] + fraction.ljust(exponent, "0"))
    if amount > AMOUNT_MAX:
        raise InvalidAmount(f"amount {text[:32]!r} is above {render_amount(AMOUNT_MAX, currency)} {currency}")
    return amount


def render_amount(amount: int, currency: str) -> str:
    """Minor units → plain decimal text; whole amounts without a fraction: 80000 KZT → `800`, 80050 → `800.50`."""
    exponent = EXPONENTS[currency]
    whole, fraction = divmod(amount, 10**exponent)
    return f"{whole}.{fraction:0{exponent}d}" if fraction else str(whole)


def to_decimal(amount: int, currency: str) -> Decimal:
    """Minor units → Decimal with the currency's exponent, for formatting at the edge."""
    return Decimal(amount).scaleb(-EXPONENTS[currency])
