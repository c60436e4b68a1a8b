"""Amounts as a shop writes them: exact decimals in the currency's main unit, for example tenge.

Used by the order, the pay object and the notification. Invariant: nothing here accepts or makes a float, since
0.1 + 0.2 is not 0.3 and a payment that differs by a rounding is refused.
"""

import re
from decimal import Decimal
from typing import TypeAlias

Amount: TypeAlias = Decimal | int | str
"""An exact amount in the main unit: `Decimal("1850.50")`, `1850`, `"1850.50"`."""

DIGITS_MAX = 13
"""Digits before the point: more than any currency needs."""

_PLAIN = re.compile(rf"[0-9]{{1,{DIGITS_MAX}}}(?:\.[0-9]{{1,6}})?", re.ASCII)


def exact(amount: Amount) -> Decimal:
    """The amount as a Decimal, not rounded. TypeError for a float, ValueError for what is no plain amount ≥ 0."""
    if isinstance(amount, float):
        raise TypeError(
            f"amount {amount!r} is a float, and floats are not exact: "
            f'pass Decimal("{amount:.2f}"), "{amount:.2f}" or an int'
        )
    if isinstance(amount, bool) or not isinstance(amount, Decimal | int | str):
        raise TypeError(f"amount is a {type(amount).__name__}: pass a Decimal, an int or decimal text")
    if isinstance(amount, Decimal):
        # Before it is written out: Decimal("1E+1000000000") is small as a number and enormous as text.
        if not amount.is_finite() or amount.adjusted() >= DIGITS_MAX:
            raise ValueError(f"amount {amount} is not an amount of money")
        text = f"{amount:f}"
    else:
        text = str(amount)
    if _PLAIN.fullmatch(text) is None:
        raise ValueError(f"amount {text[:32]!r} is not a plain decimal number such as 1850 or 1850.50")
    return Decimal(text)


def render_amount(amount: Amount) -> str:
    """Plain decimal text; a whole amount without its fraction: 1850.00 → `1850`, 1850.50 → `1850.50`."""
    whole, _, fraction = f"{exact(amount):f}".partition(".")
    return f"{whole}.{fraction}" if fraction.strip("0") else whole
