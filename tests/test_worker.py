"""The loops that no request starts: when they go on at once, when they pause."""

import asyncio
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.gateway import eventually
from tolem import worker
from tolem.storage.change import Unavailable
from tolem.telemetry import Outages
from tolem.worker import Worker


class Steps:
    """Stands in for the parts of a worker; `holds` gets done what a test says."""

    def __init__(self, *done: int | Exception) -> None:
        self.done = list(done)
        self.count = 0
        self.stopped = asyncio.Event()

    async def step(self) -> int:
        """The next result, then nothing."""
        self.count += 1
        result = self.done.pop(0) if self.done else 0
        if isinstance(result, Exception):
            raise result
        return result

    expire = purge = step

    async def run(self) -> None:
        """As the notifier's."""
        await self.stopped.wait()

    async def stop(self, timeout_seconds: float) -> None:
        """As the notifier's."""
        self.stopped.set()


async def steps_within(seconds: float, holds: Steps) -> int:
    others: Any = Steps()
    looked_after: Any = holds
    loops = Worker(others, others, others, looked_after, others, others, Outages())
    loops.start()
    await asyncio.sleep(seconds)
    count = holds.count
    await loops.stop(1)
    return count


async def test_a_loop_that_gets_nothing_done_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "STEP_SECONDS", 0.2)
    assert 1 <= await steps_within(0.5, Steps()) <= 4


async def test_a_loop_that_fails_pauses_longer_and_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "STEP_SECONDS", 0.05)
    assert 1 <= await steps_within(0.5, Steps(*[OSError("away")] * 100)) <= 4


async def test_an_outage_of_the_database_is_told_once_by_all_loops_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "STEP_SECONDS", 0.01)
    parts = [Steps(*[Unavailable("away")] * 3) for _ in range(6)]
    with capture_logs() as logs:
        everything: Any = (*parts, Outages())
        loops = Worker(*everything)
        loops.start()

        async def have_failed() -> bool:
            return all(part.count > 3 for part in parts[:5])

        await eventually(have_failed)
        await loops.stop(1)
    assert [(entry["event"], entry["of"]) for entry in logs] == [("outage_began", "database")]


async def test_a_backlog_is_worked_off_without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "STEP_SECONDS", 3600)
    holds, others = Steps(*[1] * 20), Steps()
    parts: Any = (others, others, others, holds, others, others, Outages())
    loops = Worker(*parts)
    loops.start()

    async def is_done() -> bool:
        return holds.count == 21

    await eventually(is_done)
    await loops.stop(1)
