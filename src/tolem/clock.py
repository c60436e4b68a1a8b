"""The one source of time. Business time may be moved in a sandbox; real time is for leases and deadlines of I/O.

Processes that share a database must agree on what time it is: one that is ahead would take up, and reverse, exchanges
that still run in another one. So on PostgreSQL all of them follow the server's clock (storage/timekeeping.py), whatever
the clocks of their machines say.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Protocol

KAZAKHSTAN = timezone(timedelta(hours=5), "UTC+5")
"""The time of the whole country since 1 March 2024: what people are shown."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_STEADY = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # on Linux it goes on while the machine sleeps


class Clock(Protocol):
    """Aware UTC instants."""

    def now(self) -> datetime:
        """Business time: expiry, deadlines of rounds, the retry schedule."""
        ...

    def real_now(self) -> datetime:
        """Real time: leases, deadlines of exchanges."""
        ...


class SystemClock:
    """Both times are the machine's; once it was set by another clock, they are that one's."""

    def __init__(self, machine_ns: Callable[[], int] = time.time_ns) -> None:
        """`machine_ns`: what the machine takes for the time, nanoseconds since 1970; it may be wrong."""
        self._machine_ns = machine_ns
        self._zero_ns: int | None = None
        """The time at the zero of `steady_ns`; None: not set by another clock."""
        self._floor_ns = 0

    @property
    def is_set(self) -> bool:
        """It follows another clock."""
        return self._zero_ns is not None

    def set(self, at: datetime, moment_ns: int) -> timedelta:
        """Another clock showed `at` at the moment `moment_ns` of `steady_ns`: from now on this one follows it, whatever
        becomes of the machine's. Answers how far ahead of it this one was.

        Once set it never goes back: it stands still until the other one has caught up.
        """
        before_ns = self.real_ns()
        if self.is_set:
            self._floor_ns = before_ns
        self._zero_ns = (at - _EPOCH) // _MICROSECOND * 1000 - moment_ns
        return timedelta(microseconds=(before_ns - self._zero_ns - self.steady_ns()) / 1000)

    def now(self) -> datetime:
        """Business time."""
        return self.real_now()

    def real_now(self) -> datetime:
        """Real time."""
        return datetime.fromtimestamp(self.real_ns() / 1_000_000_000, UTC)

    def real_ns(self) -> int:
        """Real time in nanoseconds since 1970."""
        if self._zero_ns is None:
            return self._machine_ns()
        return max(self._zero_ns + self.steady_ns(), self._floor_ns)

    def steady_ns(self) -> int:
        """Nanoseconds since some moment: nobody can set what counts them."""
        return time.clock_gettime_ns(_STEADY)
