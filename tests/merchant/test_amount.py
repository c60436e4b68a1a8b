"""Amounts: exact both ways, and no float gets in."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tolem.merchant.amount import exact, render_amount

AMOUNTS = st.decimals(min_value=0, max_value=Decimal("9999999999999"), places=2)


@pytest.mark.parametrize(
    ("amount", "text"),
    (
        (1850, "1850"),
        ("1850", "1850"),
        ("1850.00", "1850"),
        ("1850.50", "1850.50"),
        ("0.1", "0.1"),
        (0, "0"),
        (Decimal("1850.50"), "1850.50"),
        (Decimal("1850.00"), "1850"),
        (Decimal("1.85E+3"), "1850"),
        (Decimal("10000000000000.01") - 1, "9999999999999.01"),
    ),
)
def test_amount_as_the_gateway_reads_it(amount: Decimal | int | str, text: str) -> None:
    assert render_amount(amount) == text


@pytest.mark.parametrize("amount", (18.5, 0.0, float("nan"), 1e300))
def test_float_is_refused_with_advice(amount: Any) -> None:
    with pytest.raises(TypeError, match=r'pass Decimal\("'):
        exact(amount)


@pytest.mark.parametrize("amount", (True, None, b"100", [100]))
def test_other_types_are_refused(amount: Any) -> None:
    with pytest.raises(TypeError, match="pass a Decimal, an int or decimal text"):
        exact(amount)


@pytest.mark.parametrize(
    "amount",
    (
        *("", " 100", "100 ", "1e3", "-1", "+1", "1,5", "1.", ".5", "NaN", "1_000", "١٠٠", "1" * 14, "0.1234567"),
        *(-1, 10**13, 10**4000),
        *(Decimal("-1"), Decimal("NaN"), Decimal("Infinity"), Decimal("1E+13"), Decimal("1E+999999")),
    ),
)
def test_what_is_no_amount_is_refused(amount: Decimal | int | str) -> None:
    with pytest.raises(ValueError, match="amount"):
        exact(amount)


@given(AMOUNTS)
def test_value_survives(amount: Decimal) -> None:
    text = render_amount(amount)
    assert Decimal(text) == amount == exact(text) == exact(amount)
    assert render_amount(text) == text


@given(AMOUNTS)
def test_whole_amounts_have_no_fraction(amount: Decimal) -> None:
    assert ("." in render_amount(amount)) == (amount != int(amount))


@given(st.floats())
def test_no_float_gets_in(amount: Any) -> None:
    with pytest.raises(TypeError):
        exact(amount)


@given(st.text(max_size=20))
def test_any_text_is_an_amount_or_refused(text: str) -> None:
    try:
        amount = exact(text)
    except ValueError:
        return
    assert amount == Decimal(text)
    assert amount >= 0
