"""Keeps a process's clock on the database's time, so that all processes of one PostgreSQL agree on it.

Started by bootstrap with the gateway; the command line asks once. A SQLite file has one server process and no clock of
its own: there the machine's counts.
"""

import asyncio
from datetime import datetime, timedelta
from typing import NamedTuple

import sqlalchemy as sa

from tolem.clock import SystemClock
from tolem.storage.columns import Instant
from tolem.storage.store import Store
from tolem.telemetry import log

REFRESH_SECONDS = 60.0
"""Crystals drift by a few milliseconds in that time."""
SAMPLES = 5
"""The quickest of so many answers counts: it leaves the least room for error."""
TRIP_MAX = timedelta(seconds=1)
"""An answer that took longer does not set a clock that is set already: it knows better."""
DIFFERENCE_MAX = timedelta(seconds=1)
"""A clock that differs by more is worth a line in the log."""


class Reading(NamedTuple):
    """What the database's clock showed."""

    at: datetime
    moment_ns: int
    """When, by SystemClock.steady_ns: in the middle between question and answer."""
    trip: timedelta
    """From question to answer: `at` is wrong by half of it at most."""


async def set_clock(clock: SystemClock, store: Store) -> timedelta:
    """Sets the clock by the database's, on PostgreSQL. Answers how far ahead it was. Raises what reading raises."""
    if store.dialect == "sqlite":
        return timedelta()
    reading = min([await _read(clock, store) for _ in range(SAMPLES)], key=lambda reading: reading.trip)
    if clock.is_set and reading.trip > TRIP_MAX:
        return timedelta()
    return clock.set(reading.at, reading.moment_ns)


class Timekeeper:
    """Sets the clock of a process again and again, until `close`."""

    def __init__(self, clock: SystemClock, store: Store, *, refresh_seconds: float = REFRESH_SECONDS) -> None:
        self._clock = clock
        self._store = store
        self._refresh_seconds = refresh_seconds
        self._task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Returns once the clock is set. Raises what reading raises."""
        await self._set()
        self._task = asyncio.create_task(self._run(), name="timekeeper")

    async def close(self) -> None:
        """The clock goes on as it was set last."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._refresh_seconds)
            try:
                await self._set()
            except Exception as error:
                log.warning("clock_not_set", cause=type(error).__name__)

    async def _set(self) -> None:
        ahead = await set_clock(self._clock, self._store)
        if abs(ahead) > DIFFERENCE_MAX:
            log.warning("clock_differs", ahead_seconds=round(ahead.total_seconds(), 3))


async def _read(clock: SystemClock, store: Store) -> Reading:
    before_ns = clock.steady_ns()
    ((at,),) = await store.select(_CLOCK)
    after_ns = clock.steady_ns()
    return Reading(at, (before_ns + after_ns) // 2, timedelta(microseconds=(after_ns - before_ns) / 1000))


_CLOCK = sa.select(sa.func.clock_timestamp(type_=Instant).label("at"))
"""PostgreSQL's own time when it runs the statement, not when the transaction began."""
