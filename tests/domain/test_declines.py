"""Declines fade, waits grow, and an address is one visitor's."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tolem.domain.declines import DOUBLINGS_MAX, AttemptTerms, Declines, Subject, is_public, network_of

AT = datetime(2026, 11, 24, 9, tzinfo=UTC)
SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)
TERMS = AttemptTerms(5, 30, 300, 60 * MINUTE, 15 * SECOND, 600 * SECOND)
CARD = Subject.CARD


def decline(declines: Declines | None, at: datetime, terms: AttemptTerms = TERMS) -> Declines:
    """One more of a card, as storage/declines.py counts it."""
    begins_at = max(declines.expires_at, at) if declines else at
    ends_at = min(begins_at + terms.fade(CARD), at + terms.memory(CARD))
    return Declines(hash=b"card", last_at=at, expires_at=ends_at)


def after(number: int) -> Declines:
    """So many declines, a second apart; the last one was at AT."""
    declines = None
    for second in range(number - 1, -1, -1):
        declines = decline(declines, AT - second * SECOND)
    assert declines is not None
    return declines


def test_declines_up_to_the_number_pass_and_waits_double_after_it() -> None:
    waits = [TERMS.wait(CARD, after(number), AT, is_strict=False) / SECOND for number in range(1, 13)]
    assert waits == [0, 0, 0, 0, 15, 30, 60, 120, 240, 480, 600, 600]


def test_a_wait_ends() -> None:
    declines = after(6)
    assert TERMS.wait(CARD, declines, AT + 29 * SECOND, is_strict=False) == SECOND
    assert TERMS.wait(CARD, declines, AT + 30 * SECOND, is_strict=False) == timedelta()


def test_declines_fade_as_fast_as_the_number_comes_in_the_window() -> None:
    declines = after(5)
    assert [TERMS.level(CARD, declines, AT + n * 12 * MINUTE) for n in range(7)] == [5, 4, 3, 2, 1, 0, 0]
    slow: Declines | None = None
    for number in range(100):  # one every 12 minutes, for ever
        slow = decline(slow, AT + number * 12 * MINUTE)
        assert not TERMS.wait(CARD, slow, slow.last_at, is_strict=False)


@given(st.lists(st.integers(0, 3600), min_size=1, max_size=60), st.integers(1, 50))
def test_the_longest_memory_is_not_much_longer_than_the_usual_one(gaps: list[int], number: int) -> None:
    terms = TERMS._replace(card_max=number)
    declines, at = None, AT
    for gap in gaps:
        at += gap * SECOND
        declines = decline(declines, at, terms)
        assert 1 <= terms.level(CARD, declines, at) <= number + DOUBLINGS_MAX
        assert timedelta() <= terms.wait(CARD, declines, at, is_strict=False) <= terms.wait_max
    assert declines is not None
    assert terms.level(CARD, declines, at + terms.memory(CARD)) == 0


def test_while_its_terminal_has_too_many_a_visitor_waits_after_each_decline_and_no_longer_than_usual() -> None:
    waits = [TERMS.wait(CARD, after(number), AT, is_strict=True) / SECOND for number in (1, 4, 5, 6)]
    assert waits == [15, 15, 15, 30]
    assert TERMS.wait(CARD, after(1), AT + 13 * MINUTE, is_strict=True) == timedelta()  # faded


def test_what_is_under_way_counts_until_it_is_known() -> None:
    assert TERMS.has_room(CARD, None, AT, 4)
    assert not TERMS.has_room(CARD, None, AT, 5)
    assert TERMS.has_room(CARD, after(3), AT, 1)
    assert not TERMS.has_room(CARD, after(3), AT, 2)
    assert TERMS.has_room(CARD, after(9), AT, 0)  # whoever has waited may try


def test_a_terminal_is_used_up_while_its_declines_are_fresh() -> None:
    terms = TERMS._replace(terminal_max=5)
    assert terms.is_used_up(Subject.TERMINAL, after(5), AT)
    assert not terms.is_used_up(Subject.TERMINAL, after(4), AT)
    assert not terms.is_used_up(Subject.TERMINAL, after(5), AT + 12 * MINUTE)
    assert not terms.is_used_up(Subject.TERMINAL, None, AT)


def test_a_clock_that_went_back_makes_nobody_wait_longer() -> None:
    declines = replace(after(5), last_at=AT)
    assert TERMS.wait(CARD, declines, AT - SECOND, is_strict=False) == 16 * SECOND


@pytest.mark.parametrize(
    ("address", "network"),
    (
        ("203.0.113.9", "203.0.113.9"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
        ("unknown", "unknown"),
        ("", ""),
    ),
)
def test_the_network_of_an_address(address: str, network: str) -> None:
    assert network_of(address) == network


@pytest.mark.parametrize(
    ("address", "answer"),
    (
        ("203.0.113.9", True),
        ("2001:db8::1", True),
        ("172.32.0.1", True),
        ("127.0.0.1", False),
        ("::1", False),
        ("::ffff:10.0.0.7", False),
        ("172.31.255.255", False),
        ("100.64.3.2", False),
        ("fd12::1", False),
        ("fe80::1%eth0", False),
        ("", False),
        ("testclient", False),
    ),
)
def test_whether_an_address_is_one_visitors(address: str, answer: bool) -> None:
    assert is_public(address) is answer
