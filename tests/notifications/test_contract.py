"""docs/notifications.md promises what the code does: its numbers are those of the constants."""

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tolem.console import parse_duration
from tolem.domain.merchant import Terminal
from tolem.flows import administration
from tolem.notifications.hosts import LIMITS, SHARES, SLOW_SECONDS, TIMEOUTS_MAX, Pace
from tolem.notifications.notifier import CONCURRENCY, PER_HOST
from tolem.notifications.terms import DEFAULT_TERMS, WHOLE_SECONDS_MAX

PAGE = (Path(__file__).parents[2] / "docs" / "notifications.md").read_text(encoding="utf-8")
TEXT = " ".join(PAGE.split())
DEFAULTS: dict[str, Any] = {field.name: field.default for field in msgspec.structs.fields(Terminal)}
BOUNDS = {
    "--notify-gaps": (0, administration.NOTIFY_GAP_SECONDS_MAX),
    "--notify-jitter-percent": (0, administration.NOTIFY_JITTER_PERCENT_MAX),
    "--notify-connect-seconds": (1, WHOLE_SECONDS_MAX),
    "--notify-whole-seconds": (1, WHOLE_SECONDS_MAX),
    "--notify-retry-after-max": (0, administration.NOTIFY_RETRY_AFTER_SECONDS_MAX),
    "--notify-response-bytes": (0, administration.NOTIFY_RESPONSE_BYTES_MAX),
}


def rows_after(heading: str) -> list[list[str]]:
    """The cells of the first table behind a line that begins like that, without its head."""
    table = re.search(re.escape(heading) + r".*?\n\n((?:\|[^\n]*\n)+)", PAGE, re.DOTALL)
    assert table, heading
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table[1].splitlines()[2:]]


def in_words(gap: timedelta) -> str:
    seconds = round(gap.total_seconds())
    for unit, size in (("h", 3600), ("min", 60), ("s", 1)):
        if seconds and seconds % size == 0:
            return f"{seconds // size} {unit}"
    return "0"


def seconds_of(text: str) -> int:
    return int(parse_duration(text.strip("`")).total_seconds())


def test_the_schedule() -> None:
    ((_, *gaps),) = rows_after("## Schedule")
    assert gaps == [in_words(gap) for gap in DEFAULT_TERMS.gaps]
    least = sum(DEFAULT_TERMS.gaps, timedelta())
    most = least * (1 + DEFAULT_TERMS.jitter_share)
    hours = timedelta(hours=1)
    assert f"That is {least // hours} to {most // hours} hours in all" in TEXT
    assert DEFAULT_TERMS.jitter_share == 0.1
    assert "later by up to a tenth of its gap, never earlier" in TEXT
    assert DEFAULT_TERMS.tries_max == 10
    assert "After the tenth try" in TEXT


def test_what_counts_as_delivered() -> None:
    first, _, asked, _ = rows_after("## Delivered")
    assert first[0] == f"any `2xx` status within {DEFAULT_TERMS.whole_seconds} s"
    assert asked[1].endswith(f"at most {DEFAULT_TERMS.retry_after_max // timedelta(hours=1)} hours")
    for words in (
        f"{DEFAULT_TERMS.connect_seconds} s without a connection, {DEFAULT_TERMS.whole_seconds} s without an answer",
        f"the first {DEFAULT_TERMS.response_bytes // 1024} KB of the body are kept",
    ):
        assert words in TEXT


@pytest.mark.parametrize("setting", BOUNDS)
def test_the_settings_of_a_terminal(setting: str) -> None:
    rows = {cells[0].strip("`"): cells[1:] for cells in rows_after("These are the defaults of settings")}
    assert list(rows) == list(BOUNDS)
    default, least, most, meaning = rows[setting]
    name = setting.strip("-").replace("-", "_")
    stored = DEFAULTS.get(name, DEFAULTS.get(f"{name}_seconds"))
    if setting == "--notify-gaps":
        assert tuple(map(seconds_of, default.strip("`").split(","))) == stored
        assert f"1 to {administration.NOTIFY_TRIES_MAX} tries" in meaning
    else:
        assert seconds_of(default) == stored
    assert (seconds_of(least), seconds_of(most)) == BOUNDS[setting]


def test_the_limits_of_an_address() -> None:
    quick, new, slow, stuck = rows_after("## One address among many")
    percent = {pace: f"{share * 100:.0f} %" for pace, share in SHARES.items()}
    assert quick == [f"has answered within {SLOW_SECONDS:g} s", f"{PER_HOST}", f"{percent[Pace.QUICK]} of all"]
    assert new[1:] == [f"{LIMITS[Pace.NEW]}", percent[Pace.NEW]]
    assert slow == [f"takes longer than {SLOW_SECONDS:g} s", f"{LIMITS[Pace.SLOW]}", percent[Pace.SLOW]]
    assert stuck[:2] == [f"did not answer in time, {TIMEOUTS_MAX} times in a row", f"{LIMITS[Pace.STUCK]}"]
    assert f"at most {CONCURRENCY} tries at one time" in TEXT
