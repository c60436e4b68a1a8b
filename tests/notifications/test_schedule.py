"""The schedule as shops are promised it (docs/notifications.md)."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tolem.domain.message import MessageState
from tolem.notifications.schedule import ASKED_MAX, Outcome, TryResult, next_try, parse_retry_after
from tolem.notifications.terms import DEFAULT_TERMS, LEASE, WHOLE_SECONDS_MAX, Terms

NOW = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)
TERMS = DEFAULT_TERMS
GAPS, TRIES_MAX = TERMS.gaps, TERMS.tries_max
REFUSED = TryResult(None, "connection refused")


def test_the_whole_schedule_takes_75_hours_35_minutes_and_5_seconds() -> None:
    assert TRIES_MAX == 10
    assert sum(GAPS, timedelta()) == timedelta(hours=75, minutes=35, seconds=5)
    assert list(GAPS) == sorted(GAPS)


def test_a_lease_outlives_two_tries_on_any_terms() -> None:
    assert timedelta(seconds=2 * WHOLE_SECONDS_MAX) <= LEASE


@pytest.mark.parametrize("status", (200, 201, 202, 204, 226, 299))
@pytest.mark.parametrize("tries", (1, TRIES_MAX))
def test_any_2xx_is_delivered(status: int, tries: int) -> None:
    assert next_try(TERMS, tries, TryResult(status), NOW, 0.5) == Outcome(MessageState.DELIVERED, None)


@pytest.mark.parametrize("status", (100, 199, 300, 301, 302, 304, 307, 400, 401, 404, 408, 429, 500, 503, 599, None))
def test_everything_else_waits_for_the_gap_of_the_next_try(status: int | None) -> None:
    for tries in range(1, TRIES_MAX):
        assert next_try(TERMS, tries, TryResult(status), NOW, 0.0) == Outcome(MessageState.WAITING, NOW + GAPS[tries])


def test_the_last_try_ends_in_a_dead_letter() -> None:
    assert next_try(TERMS, TRIES_MAX, REFUSED, NOW, 0.0) == Outcome(MessageState.DEAD, None)
    assert (
        next_try(TERMS, TRIES_MAX, TryResult(503, retry_after=timedelta(hours=1)), NOW, 0.0).state is MessageState.DEAD
    )


def test_410_ends_the_message_at_once() -> None:
    assert next_try(TERMS, 1, TryResult(410), NOW, 0.0) == Outcome(MessageState.DEAD, None)


@given(st.integers(1, TRIES_MAX - 1), st.floats(0, 1, exclude_max=True))
def test_jitter_is_only_ever_later_and_by_a_tenth_at_most(tries: int, jitter: float) -> None:
    due_at = next_try(TERMS, tries, REFUSED, NOW, jitter).due_at
    assert due_at is not None
    assert GAPS[tries] <= due_at - NOW <= GAPS[tries] * 1.1


@pytest.mark.parametrize(
    ("status", "tries", "asked", "waits"),
    (
        (503, 1, timedelta(minutes=1), timedelta(minutes=1)),
        (429, 1, timedelta(minutes=1), timedelta(minutes=1)),
        (503, 1, timedelta(0), GAPS[1]),  # never sooner than the schedule
        (503, 3, timedelta(minutes=1), GAPS[3]),
        (503, 1, timedelta(days=365), timedelta(hours=24)),
        (500, 1, timedelta(minutes=1), GAPS[1]),  # only these two statuses may ask
        (302, 1, timedelta(minutes=1), GAPS[1]),
    ),
)
def test_retry_after_is_honoured_within_bounds(status: int, tries: int, asked: timedelta, waits: timedelta) -> None:
    assert next_try(TERMS, tries, TryResult(status, retry_after=asked), NOW, 0.0).due_at == NOW + waits


def test_what_a_shop_asks_for_is_never_more_than_the_limit() -> None:
    result = TryResult(503, retry_after=timedelta(hours=24))
    assert next_try(TERMS, 1, result, NOW, 0.99).due_at == NOW + timedelta(hours=24)
    half = TryResult(503, retry_after=timedelta(hours=12))
    assert next_try(TERMS, 1, half, NOW, 0.5).due_at == NOW + timedelta(hours=12) * 1.05


TERMS_OF_ANY_TERMINAL = st.builds(
    Terms,
    st.lists(st.timedeltas(timedelta(0), timedelta(days=7)), min_size=1, max_size=20).map(tuple),
    st.floats(0, 0.5),
    st.just(5),
    st.just(15),
    st.timedeltas(timedelta(0), timedelta(days=7)),
    st.just(2048),
)
ANY_RESULT = st.builds(
    TryResult,
    st.none() | st.integers(100, 599),
    retry_after=st.none() | st.timedeltas(timedelta(0), ASKED_MAX),
)


@given(TERMS_OF_ANY_TERMINAL, st.lists(ANY_RESULT, min_size=20, max_size=20), st.floats(0, 1, exclude_max=True))
def test_on_any_terms_every_message_comes_to_an_end(terms: Terms, results: list[TryResult], jitter: float) -> None:
    for tries, result in enumerate(results, 1):
        state, due_at = next_try(terms, tries, result, NOW, jitter)
        if state is not MessageState.WAITING:
            break
        assert due_at is not None
        gap = terms.gaps[tries]
        assert NOW + gap <= due_at <= NOW + max(gap * (1 + terms.jitter_share), terms.retry_after_max)
    assert (state is MessageState.DELIVERED) == result.is_delivered
    assert due_at is None
    assert tries <= terms.tries_max
    assert result.is_delivered or result.status == 410 or tries == terms.tries_max


@pytest.mark.parametrize(
    ("text", "wait"),
    (
        (None, None),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        ("٣", None),  # a digit, but not of HTTP
        ("0", timedelta(0)),
        (" 120 ", timedelta(seconds=120)),
        ("86400", timedelta(hours=24)),
        ("31536000", timedelta(days=365)),
        ("9" * 8000, ASKED_MAX),
        ("0" * 20 + "5", ASKED_MAX),  # nobody writes it like that
        ("Tue, 24 Nov 2026 09:02:00 GMT", timedelta(minutes=2)),
        ("Tue, 24 Nov 2026 09:02:00 -0000", timedelta(minutes=2)),
        ("Tue, 24 Nov 2026 08:00:00 GMT", timedelta(0)),
        ("Wed, 24 Nov 2027 09:00:00 GMT", timedelta(days=365)),
        ("Fri, 31 Dec 9999 23:59:59 GMT", ASKED_MAX),
        ("Tue, 99 Nov 2026 09:00:00 GMT", None),
    ),
)
def test_retry_after_is_seconds_or_a_date(text: str | None, wait: timedelta | None) -> None:
    assert parse_retry_after(text, NOW) == wait


@given(st.text())
def test_no_retry_after_breaks_the_parser(text: str) -> None:
    wait = parse_retry_after(text, NOW)
    assert wait is None or timedelta(0) <= wait <= ASKED_MAX
