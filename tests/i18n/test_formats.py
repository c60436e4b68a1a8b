"""Amounts and instants as payers read them."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tolem.domain.money import AMOUNT_MAX, EXPONENTS
from tolem.i18n.formats import format_amount, format_instant, format_time


@pytest.mark.parametrize(
    ("amount", "currency", "shown"),
    (
        (123_450, "KZT", "1 234,50 ₸"),
        (80_000, "KZT", "800 ₸"),
        (5, "KZT", "0,05 ₸"),
        (0, "KZT", "0 ₸"),
        (AMOUNT_MAX, "KZT", "9 999 999 999,99 ₸"),
        (1999, "USD", "19,99 $"),
        (1500, "JPY", "1 500 JPY"),
        (1_234_567, "KWD", "1 234,567 KWD"),
    ),
)
def test_amount(amount: int, currency: str, shown: str) -> None:
    assert format_amount(amount, currency) == shown.replace(" ", "\u00a0")


@given(st.integers(0, AMOUNT_MAX), st.sampled_from(sorted(EXPONENTS)))
def test_amount_loses_nothing(amount: int, currency: str) -> None:
    number = format_amount(amount, currency).rpartition("\u00a0")[0].replace("\u00a0", "")
    whole, _, fraction = number.partition(",")
    assert int(whole + fraction.ljust(EXPONENTS[currency], "0")) == amount


def test_instants_are_in_the_time_of_almaty() -> None:
    at = datetime(2026, 11, 23, 19, 5, 59, tzinfo=UTC)
    assert format_instant(at, "ru") == "24 ноября 2026 г., 00:05"
    assert format_instant(at, "kk") == "2026 ж. 24 қараша, 00:05"
    assert format_instant(at, "en") == "24 November 2026, 00:05"
    assert format_time(at, "en") == "00:05"
