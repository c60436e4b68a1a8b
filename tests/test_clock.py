"""The system's clock: the machine's, until another one has set it."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from tolem.clock import SystemClock
from tolem.ids import Ids

AT = datetime(2026, 11, 24, 9, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


class Machine(SystemClock):
    """A machine on which a test lets time pass, and sets the clock."""

    def __init__(self, shows: datetime = AT) -> None:
        super().__init__(lambda: round(self.shows.timestamp() * 1_000_000_000))
        self.shows = shows
        self.passed = timedelta(hours=5)

    def steady_ns(self) -> int:
        return self.passed // timedelta(microseconds=1) * 1000

    def wait(self, time: timedelta) -> None:
        self.shows += time
        self.passed += time


def test_it_is_the_machines_until_it_is_set() -> None:
    clock = Machine()
    assert (clock.now(), clock.real_now()) == (AT, AT)
    clock.shows -= MINUTE
    assert clock.real_now() == AT - MINUTE
    assert not clock.is_set


def test_it_follows_the_other_one_whatever_the_machine_says() -> None:
    clock = Machine(AT + 7 * MINUTE)
    moment = clock.steady_ns()
    clock.wait(timedelta(seconds=2))  # the answer was on its way
    assert clock.set(AT, moment) == 7 * MINUTE
    assert (clock.now(), clock.real_now()) == (AT + timedelta(seconds=2),) * 2
    clock.shows += timedelta(hours=1)
    assert clock.real_now() == AT + timedelta(seconds=2)
    clock.wait(MINUTE)
    assert clock.real_now() == AT + MINUTE + timedelta(seconds=2)
    assert Ids(clock.real_ns).new().int >> 80 == round((AT + MINUTE + timedelta(seconds=2)).timestamp() * 1000)


def test_it_stands_still_until_the_other_one_has_caught_up() -> None:
    clock = Machine()
    clock.set(AT, clock.steady_ns())
    assert clock.set(AT - MINUTE, clock.steady_ns()) == MINUTE
    assert clock.real_now() == AT
    clock.wait(MINUTE)
    assert clock.real_now() == AT
    clock.wait(MINUTE)
    assert clock.real_now() == AT + MINUTE


def test_it_moves_forward_at_once() -> None:
    clock = Machine()
    clock.set(AT, clock.steady_ns())
    assert clock.set(AT + MINUTE, clock.steady_ns()) == -MINUTE
    assert clock.real_now() == AT + MINUTE


@given(st.lists(st.tuples(st.integers(0, 10**9), st.integers(-(10**10), 10**10)), max_size=20))
def test_it_never_goes_back_once_it_is_set(steps: list[tuple[int, int]]) -> None:
    clock = Machine()
    clock.set(AT, clock.steady_ns())
    last = clock.real_now()
    for passed, wrong in steps:
        clock.wait(timedelta(microseconds=passed))
        clock.set(clock.shows + timedelta(microseconds=wrong), clock.steady_ns())
        assert clock.real_now() >= last
        last = clock.real_now()
