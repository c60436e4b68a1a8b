"""`tolem faults`, run as people run it: beside a server, on the database alone, and wrongly."""

import json
from pathlib import Path
from typing import Any

from tests.test_cli import free_port, run, serving
from tolem.sandbox.fixtures import TERMINAL_ID


def listed(told: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(told)
    return found


def test_faults_of_a_running_gateway(tmp_path: Path) -> None:
    with serving(tmp_path) as (_, port):
        url = ("--url", f"http://127.0.0.1:{port}")
        assert run("faults", *url, cwd=tmp_path) == "no faults\n"
        options = (
            "--invoice",
            "000000001",
            "--message",
            "success",
            "--message",
            "refund",
            "--tries",
            "3",
            "--seed",
            "7",
        )
        (made,) = listed(run("faults", "add", "lose", *options, *url, "--json", cwd=tmp_path))
        assert made == {
            "id": "f1",
            "fault": "lose",
            "seed": 7,
            "invoice": "000000001",
            "messages": ["success", "refund"],
            "tries": 3,
        }
        shown = run("faults", "add", "delay", "--seconds", "600", "--terminal", str(TERMINAL_ID), *url, cwd=tmp_path)
        assert shown.startswith("f2   delay          seed ")
        assert f"terminal {TERMINAL_ID}" in shown
        run("faults", "add", "corrupt", "--how", "digit", *url, cwd=tmp_path)
        assert [fault["id"] for fault in listed(run("faults", *url, "--json", cwd=tmp_path))] == ["f1", "f2", "f3"]
        assert run("faults", "remove", "f1", "f3", *url, cwd=tmp_path).startswith("f2   delay")
        assert "there is no fault f1" in run("faults", "remove", "f1", *url, cwd=tmp_path, status=1)
        assert "seconds goes with delay" in run("faults", "add", "lose", "--seconds", "5", *url, cwd=tmp_path, status=1)
        assert "name faults, or say --all" in run("faults", "remove", *url, cwd=tmp_path, status=2)
        assert run("faults", "remove", "--all", *url, cwd=tmp_path) == "no faults\n"


def test_no_gateway_runs(tmp_path: Path) -> None:
    nobody = str(free_port())
    run("migrate", cwd=tmp_path)
    (made,) = listed(run("faults", "add", "repeat", "--times", "4", "--json", cwd=tmp_path, TOLEM_PORT=nobody))
    assert (made["fault"], made["times"]) == ("repeat", 4)
    assert "use 2 to 10" in run("faults", "add", "repeat", "--times", "1", cwd=tmp_path, status=1, TOLEM_PORT=nobody)
    # a gateway that starts later makes them
    with serving(tmp_path) as (_, port):
        assert listed(run("faults", "--json", "--url", f"http://127.0.0.1:{port}", cwd=tmp_path)) == [made]
    assert run("faults", "remove", "--all", "--database", "sqlite:///tolem.db", cwd=tmp_path) == "no faults\n"
