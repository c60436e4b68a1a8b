"""Money: text to minor units and back, without a float on the way."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tolem.domain.money import (
    AMOUNT_MAX,
    EXPONENTS,
    InvalidAmount,
    parse_amount,
    parse_currency,
    render_amount,
    to_decimal,
)


@pytest.mark.parametrize(
    ("text", "currency", "amount"),
    (
        ("100", "KZT", 10_000),
        ("100.00", "KZT", 10_000),
        ("100.5", "KZT", 10_050),
        ("0.01", "KZT", 1),
        ("0", "KZT", 0),
        ("100.500", "KZT", 10_050),  # trailing zeros are no third decimal
        ("007", "KZT", 700),
        ("1234", "JPY", 1234),
        ("1.234", "KWD", 1234),
        ("9999999999.99", "KZT", AMOUNT_MAX),
    ),
)
def test_reads_plain_decimals(text: str, currency: str, amount: int) -> None:
    assert parse_amount(text, currency) == amount


@pytest.mark.parametrize(
    "text",
    ("", " 1", "-1", "+1", "1e3", "NaN", "Infinity", "1.234", "1,5", "1 000", ".5", "5.", "10000000000", "1" + "0" * 15,
     "١٢", "0x10", "1_000", "1.0000000"),
)  # fmt: skip
def test_refuses_what_is_no_amount_of_tenge(text: str) -> None:
    with pytest.raises(InvalidAmount, match="amount"):
        parse_amount(text, "KZT")


def test_currency_is_known_in_any_case() -> None:
    assert parse_currency("kzt") == "KZT"
    with pytest.raises(InvalidAmount, match="use one of KZT"):
        parse_currency("ZZZ")


@given(st.integers(0, AMOUNT_MAX), st.sampled_from(sorted(EXPONENTS)))
def test_what_is_rendered_reads_as_the_same_amount(amount: int, currency: str) -> None:
    text = render_amount(amount, currency)
    assert parse_amount(text, currency) == amount
    assert Decimal(text) == to_decimal(amount, currency)


@given(st.text(max_size=20))
def test_no_text_does_anything_but_parse_or_be_refused(text: str) -> None:
    try:
        amount = parse_amount(text, "KZT")
    except InvalidAmount:
        return
    assert 0 <= amount <= AMOUNT_MAX
    assert to_decimal(amount, "KZT") == Decimal(text)


def test_whole_amounts_have_no_fraction() -> None:
    assert render_amount(80_000, "KZT") == "800"
    assert render_amount(80_050, "KZT") == "800.50"
