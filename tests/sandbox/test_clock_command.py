"""`tolem clock`, run as people run it: beside a server, on the database alone, on several processes, and wrongly."""

import json
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from tests.test_cli import free_port, get, run, serving
from tolem import cli_controls
from tolem.console import parse_duration
from tolem.storage.migrate import migrate

DAY = 86_400
PASSWORD = "open sesame 12"


def offset(told: str) -> float:
    seconds: float = json.loads(told)["offset_seconds"]
    return seconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    (("3d", 3 * DAY), ("2h30m", 9000), ("90s", 90), ("90", 90), ("1w1d", 8 * DAY), ("now", 0), ("1D", DAY), ("0", 0)),
)
def test_durations(text: str, seconds: int) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ("", "3 days", "-1d", "1m2h", "d", "1.5h", "9" * 12 + "s"))
def test_no_durations(text: str) -> None:
    with pytest.raises(click.BadParameter, match="2h30m"):
        parse_duration(text)


def test_the_clock_of_a_running_gateway(tmp_path: Path) -> None:
    with serving(tmp_path) as (_, port):
        url = ("--url", f"http://127.0.0.1:{port}")
        assert run("clock", *url, cwd=tmp_path).rstrip().endswith("UTC, real time")
        assert run("clock", "advance", "3d", *url, cwd=tmp_path).rstrip().endswith("UTC, 3 d ahead of real time")
        told = json.loads(run("clock", "advance", "2h30m", *url, "--json", cwd=tmp_path))
        assert (told["offset_seconds"], told["stops"]) == (3 * DAY + 9000, 0)
        # without an address it is this machine's gateway, at the port of the settings
        assert offset(run("clock", "--json", cwd=tmp_path, TOLEM_PORT=str(port))) == 3 * DAY + 9000
        # straight to the database: the gateway follows
        direct = run("clock", "advance", "1d", "--database", "sqlite:///tolem.db", "--json", cwd=tmp_path)
        assert offset(direct) == 4 * DAY + 9000
        shown = run("clock", "advance", "now", *url, cwd=tmp_path)
        assert shown.rstrip().endswith("4 d 2 h 30 min ahead of real time")
        added = json.loads(run("merchant", "add", "my-shop", "--name", "My shop", "--json", cwd=tmp_path))
        age = datetime.now(UTC) - datetime.fromisoformat(added["created_at"])
        assert age < timedelta(days=-4)  # the command line has the moved time, too
        refused = run("clock", "advance", "400d", *url, cwd=tmp_path, status=1)
        assert refused.splitlines()[-1].startswith("Error: advance_seconds must be 0 to 31622400")
    assert offset(run("clock", "--json", "--database", "sqlite:///tolem.db", cwd=tmp_path)) == 4 * DAY + 9000


def test_a_move_that_takes_long_tells_how_far_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A gateway whose clock is an hour further at each look, and whose move ends after the second one.
    looks: list[str] = []
    seen = threading.Event()

    def ask(_config: object, _url: object, method: str, *_: object) -> dict[str, Any]:
        begin = datetime(2026, 11, 24, 9, tzinfo=UTC)
        if method == "POST":
            assert seen.wait(30)
        else:
            looks.append(method)
        now = begin + timedelta(hours=len(looks))
        if len(looks) > 2:
            seen.set()
        return {"now": now.isoformat(), "moving_to": (begin + timedelta(days=3)).isoformat(), "offset_seconds": 0.0}

    monkeypatch.setattr(cli_controls, "ask_gateway", ask)
    monkeypatch.setattr(cli_controls, "PROGRESS_SECONDS", 0.05)
    monkeypatch.chdir(tmp_path)
    told = CliRunner().invoke(cli_controls.clock, ["advance", "3d"])
    assert told.exit_code == 0, told.output
    assert told.stderr.splitlines()[:2] == [
        "… 2026-11-24 10:00:00 UTC, still to come: 2 d 23 h",
        "… 2026-11-24 11:00:00 UTC, still to come: 2 d 22 h",
    ]
    assert told.stdout.endswith("UTC, real time\n")


def test_no_gateway_runs(tmp_path: Path) -> None:
    nobody = str(free_port())
    missing = run("clock", cwd=tmp_path, status=1, TOLEM_PORT=nobody)
    assert "there is no database tolem.db here" in missing
    run("migrate", cwd=tmp_path)
    assert offset(run("clock", "advance", "1h", "--json", cwd=tmp_path, TOLEM_PORT=nobody)) == 3600
    assert offset(run("clock", "--json", cwd=tmp_path, TOLEM_PORT=nobody)) == 3600
    far = run("clock", "advance", "400d", cwd=tmp_path, status=1, TOLEM_PORT=nobody)
    assert "never goes back" in far
    named = run("clock", "--url", f"http://127.0.0.1:{nobody}", cwd=tmp_path, status=1)
    assert named.startswith("Error: nobody listens at http://127.0.0.1:")


def test_the_password_of_a_gateway(tmp_path: Path) -> None:
    with serving(tmp_path, "--host", "127.0.0.1", TOLEM_SANDBOX_PASSWORD=PASSWORD) as (_, port):
        assert "set TOLEM_SANDBOX_PASSWORD" in run("clock", cwd=tmp_path, status=1, TOLEM_PORT=str(port))
        assert offset(run("clock", "--json", cwd=tmp_path, TOLEM_SANDBOX_PASSWORD=PASSWORD, TOLEM_PORT=str(port))) == 0


def test_production_has_no_clock_to_move(tmp_path: Path) -> None:
    refused = run("clock", cwd=tmp_path, status=1, TOLEM_MODE="production", TOLEM_PUBLIC_URL="https://pay.example.kz")
    assert "for a sandbox only" in refused
    migrate(f"sqlite:///{tmp_path}/tolem.db", mode="production")
    stamped = run("clock", "advance", "1d", "--database", "sqlite:///tolem.db", cwd=tmp_path, status=1)
    assert "for a sandbox only" in stamped


def test_all_workers_have_the_new_time(tmp_path: Path, postgres_url: str) -> None:
    with serving(tmp_path, "--workers", "3", "--database", postgres_url) as (_, port):
        for hours in range(1, 4):
            run("clock", "advance", "1h", "--url", f"http://127.0.0.1:{port}", cwd=tmp_path)
            # each on a connection of its own, so that all workers get some
            told = [json.loads(get(port, "/sandbox/clock")[1])["offset_seconds"] for _ in range(20)]
            assert told == [hours * 3600] * 20
