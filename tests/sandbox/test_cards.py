"""The card table, case by case."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tolem.domain.card import Brand, Pan, luhn_digit, passes_luhn
from tolem.domain.merchant import is_secret
from tolem.sandbox.cards import (
    AUTHENTICATIONS,
    DECLINE_CODES,
    DOUBTS,
    LINES,
    LOCKED_CODE,
    PUBLISHED,
    SandboxCard,
    build_number,
    find_card,
    list_cards,
)
from tolem.sandbox.fixtures import CLIENT_SECRET, published_fixtures
from tolem.web.sandbox_cards import PRINTED_DATES
from tolem.wire.reasons import REASONS, UNKNOWN_CODES, reason_text


@pytest.mark.parametrize(
    ("number", "reason_code", "brand"),
    (
        ("4405639704015096", 0, Brand.VISA),
        ("5522042705066736", 0, Brand.MASTERCARD),
        ("377514500004820", 0, Brand.AMEX),
        ("4003032704547597", LOCKED_CODE, Brand.VISA),
        ("5578342710750560", LOCKED_CODE, Brand.MASTERCARD),
    ),
)
def test_published_card(number: str, reason_code: int, brand: Brand) -> None:
    card = find_card(Pan(number))
    assert card is not None
    assert (card.reason_code, card.authentication, card.line) == (reason_code, "0", "0")
    assert passes_luhn(number)
    assert Pan(number).brand is brand


@pytest.mark.parametrize(
    ("digits", "card"),
    (
        ("440043000000000", (0, "0", "0")),
        ("440043000010000", (0, "0", "1")),
        ("440043000200000", (0, "2", "0")),
        ("440043000310000", (0, "3", "1")),
        ("440043484000000", (484, "0", "0")),
        ("440043703210000", (703, "2", "1")),
        ("440043473000000", (473, "0", "0")),
        ("440043454000000", (454, "0", "0")),
        ("440043459200000", (459, "2", "0")),
        ("440043460350000", (460, "3", "5")),
        ("440043000020000", (0, "0", "2")),
        ("440043000030000", (0, "0", "3")),
        ("440043484040000", (484, "0", "4")),
        ("440043000100000", (0, "1", "0")),
        ("440043484120000", (484, "1", "2")),
        ("440043000400000", (0, "4", "0")),
        ("440043000500000", (0, "5", "0")),
        ("440043000600000", (0, "6", "0")),
        ("440043000700000", (0, "7", "0")),
        ("440043000800000", (0, "8", "0")),
    ),
)
def test_number_says_what_happens(digits: str, card: tuple[int, str, str]) -> None:
    number = digits + luhn_digit(digits)
    assert find_card(Pan(number)) == SandboxCard(number, *card)
    assert build_number(*card) == number


@pytest.mark.parametrize(
    ("digits", "why"),
    (
        ("440043474000000", "no such code"),
        ("440043001000000", "no such code"),
        ("440043999000000", "no such code"),
        ("440043000900000", "no such digit"),
        ("440043000060000", "no such line"),
        ("440043000000001", "no zeros"),
        ("440044000000000", "another issuer"),
        ("411111111111111", "a real scheme's test card"),
    ),
)
def test_card_that_is_not_in_the_table(digits: str, why: str) -> None:
    assert find_card(Pan(digits + luhn_digit(digits))) is None, why


def test_check_digit_counts() -> None:
    number = build_number(0)
    assert find_card(Pan(number[:-1] + str((int(number[-1]) + 1) % 10))) is None


def test_every_code_of_three_digits_has_a_card() -> None:
    assert frozenset(DOUBTS) == UNKNOWN_CODES
    assert {code for code in REASONS if 0 < code < 1000} - UNKNOWN_CODES == DECLINE_CODES
    assert reason_text(LOCKED_CODE) == "Your card is restricted"


def test_listed_cards_are_in_the_table() -> None:
    cards = list_cards()
    assert cards[: len(PUBLISHED)] == list(PUBLISHED)
    assert len({card.number for card in cards}) == len(cards)
    assert len(cards) == len(PUBLISHED) + len(AUTHENTICATIONS) + len(LINES) - 1 + len(DOUBTS) + len(DECLINE_CODES)
    for card in cards:
        assert find_card(Pan(card.number)) == card
    assert len({card.description for card in cards}) == len(cards) - len(PUBLISHED)


@pytest.mark.parametrize(
    ("card", "words"),
    (
        (SandboxCard("1", 0), "approved; authenticated without a challenge"),
        (SandboxCard("1", 484, "3"), "declined with 484; not enrolled in 3-D Secure"),
        (SandboxCard("1", 0, "2", "2"), "approved; authentication attempted; the answer is lost"),
        (SandboxCard("1", 459), f"{DOUBTS[459]}; authenticated without a challenge"),
        (SandboxCard("1", 0, "1"), "approved; challenge: the code is 123456"),
        (SandboxCard("1", 0, "4", "2"), "authentication refused by the issuer: declined with 473"),
    ),
)
def test_card_in_words(card: SandboxCard, words: str) -> None:
    assert card.description == words


@given(st.text(alphabet="0123456789", min_size=12, max_size=19))
def test_any_number_has_an_answer(digits: str) -> None:
    card = find_card(Pan(digits))
    assert card is None or card.number == digits


def test_published_client_has_the_published_secret() -> None:
    fixtures = published_fixtures(datetime(2026, 11, 24, tzinfo=UTC), b"\x07" * 16, b"sealed")
    assert is_secret(fixtures.merchant, CLIENT_SECRET)
    assert fixtures.terminal.merchant_id == fixtures.merchant.id
    assert str(fixtures.terminal.id) == "67e34d63-102f-4bd1-898e-370781d0074d"


def test_the_page_knows_the_printed_dates() -> None:
    printed = {str(expiry) for card in PUBLISHED for expiry, _ in card.printed}
    assert tuple(sorted(printed)) == PRINTED_DATES
