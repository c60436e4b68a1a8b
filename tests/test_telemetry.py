"""What operators read of loops that fail: little, and what they need."""

from collections.abc import MutableMapping
from typing import Any

from structlog.testing import capture_logs

from tolem.domain.errors import Overloaded
from tolem.telemetry import OVER_SECONDS, STILL_SECONDS, STILL_SECONDS_MAX, Outages


class Loops:
    """Loops that fail or not, under a clock of their own."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.outages = Outages(lambda: self.seconds)

    def fail(self, error: Exception, *loops: str, seconds: float, every: float = 5.0) -> list[MutableMapping[str, Any]]:
        """For so long; what is logged meanwhile."""
        with capture_logs() as logs:
            until = self.seconds + seconds
            while self.seconds < until:
                for loop in loops:
                    self.outages.failed(loop, error)
                self.seconds += every
        return logs

    def succeed(self, *loops: str) -> list[MutableMapping[str, Any]]:
        """Once each; what is logged meanwhile."""
        with capture_logs() as logs:
            for loop in loops:
                self.outages.succeeded(loop)
        return logs


def test_a_day_without_the_database_is_some_thirty_lines() -> None:
    loops, away = Loops(), Overloaded("away")
    began, *lines = loops.fail(away, "recovery", "notifications", seconds=86_400)
    assert (began["event"], began["of"], began["exc_info"]) == ("outage_began", "database", away)
    assert {line["event"] for line in lines} == {"outage_lasts"}
    assert not any("exc_info" in line for line in lines)
    assert 24 <= len(lines) <= 30
    assert lines[0]["seconds"] == STILL_SECONDS
    assert lines[-1]["seconds"] - lines[-2]["seconds"] == STILL_SECONDS_MAX
    assert lines[-1]["loops"] == ["notifications", "recovery"]
    loops.seconds += OVER_SECONDS
    assert loops.succeed("recovery", "expiry") == []  # the other has not said so yet
    (over,) = loops.succeed("notifications")
    assert (over["event"], over["of"], over["failures"]) == ("outage_over", "database", 2 * 86_400 / 5)
    assert loops.succeed("recovery", "notifications") == []


def test_what_comes_and_goes_is_one_outage() -> None:
    loops = Loops()
    assert len(loops.fail(Overloaded("away"), "recovery", seconds=1)) == 1
    assert loops.succeed("recovery") == []
    assert loops.fail(Overloaded("away"), "recovery", seconds=1) == []
    loops.seconds += OVER_SECONDS
    assert [line["event"] for line in loops.succeed("recovery")] == ["outage_over"]
    assert [line["event"] for line in loops.fail(Overloaded("away"), "recovery", seconds=1)] == ["outage_began"]


def test_another_fault_has_its_own_trace() -> None:
    loops = Loops()
    loops.fail(Overloaded("away"), "recovery", "holds", seconds=1)
    fault = KeyError("terminal")
    for loop in ("recovery", "holds"):
        (line,) = loops.fail(fault, loop, seconds=20)
        assert (line["event"], line["of"], line["exc_info"]) == ("outage_began", loop, fault)
