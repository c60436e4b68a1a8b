"""How a process's clock follows the database's."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.gateway import eventually
from tolem.clock import SystemClock
from tolem.storage.store import Store
from tolem.storage.timekeeping import SAMPLES, Timekeeper, set_clock

HOUR = timedelta(hours=1)
NS_PER_HOUR = 3_600_000_000_000


class Database:
    """PostgreSQL's clock as a test wants it: how far from the machine's, and how long each answer takes."""

    dialect = "postgresql"

    def __init__(self, off: timedelta = timedelta(), trips: Iterator[float] | None = None) -> None:
        self.off = off
        self.trips = trips
        self.asked = 0
        self.is_away = False

    async def select(self, statement: Any) -> list[tuple[datetime]]:
        self.asked += 1
        if self.is_away:
            raise OSError("nobody there")
        at = datetime.now(UTC) + self.off
        if self.trips is not None:
            time.sleep(next(self.trips))  # noqa: ASYNC251 - the answer is late, and the loop does nothing else
        return [(at,)]


def difference(clock: SystemClock) -> timedelta:
    return clock.real_now() - datetime.now(UTC)


async def test_a_wrong_machine_follows_postgresql_and_keeps_to_itself_on_sqlite(store: Store) -> None:
    clock = SystemClock(lambda: time.time_ns() + NS_PER_HOUR)
    ahead = await set_clock(clock, store)
    if store.dialect == "sqlite":
        assert (ahead, clock.is_set) == (timedelta(), False)
        assert abs(difference(clock) - HOUR) < timedelta(seconds=5)
    else:
        assert abs(ahead - HOUR) < timedelta(seconds=5)
        assert abs(difference(clock)) < timedelta(seconds=5)


async def test_the_quickest_answer_counts() -> None:
    database: Any = Database(-HOUR, iter([0.2, 0.1, 0.0, 0.3, 0.2]))
    clock = SystemClock()
    await set_clock(clock, database)
    assert database.asked == SAMPLES
    # half of any other trip would be seen
    assert abs(difference(clock) + HOUR) < timedelta(seconds=0.04)


async def test_slow_answers_set_a_clock_once_and_spoil_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tolem.storage.timekeeping.TRIP_MAX", timedelta(seconds=0.05))
    database: Any = Database(HOUR, iter([0.1] * 2 * SAMPLES))
    clock = SystemClock()
    await set_clock(clock, database)
    assert abs(difference(clock) - HOUR) < timedelta(seconds=1)
    database.off = 2 * HOUR
    assert await set_clock(clock, database) == timedelta()
    assert abs(difference(clock) - HOUR) < timedelta(seconds=1)


async def test_it_is_set_again_and_again_and_survives_a_database_that_is_away() -> None:
    database: Any = Database()
    clock = SystemClock()
    keeper = Timekeeper(clock, database, refresh_seconds=0.01)
    await keeper.open()
    assert clock.is_set
    database.is_away = True
    asked = database.asked

    async def has_failed() -> bool:
        return bool(database.asked > asked + 2)

    async def has_moved() -> bool:
        return abs(difference(clock) - HOUR) < timedelta(seconds=5)

    await eventually(has_failed)
    database.off, database.is_away = HOUR, False
    await eventually(has_moved)
    await keeper.close()
    database.off = 2 * HOUR
    asked = database.asked
    await keeper.close()
    assert (database.asked, await has_moved()) == (asked, True)
