"""`tolem maintenance`, run as people run it."""

import json
import re
from pathlib import Path

from tests.test_cli import run

STRANGER = "00000000-0000-0000-0000-000000000001"
INSTANT = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC"


def test_payments_wait_and_go_on(tmp_path: Path, sqlite_url: str) -> None:
    def maintenance(*arguments: str, status: int = 0) -> str:
        return run("maintenance", *arguments, "--database", sqlite_url, cwd=tmp_path, status=status)

    run("migrate", "--database", sqlite_url, cwd=tmp_path)
    assert maintenance("status") == "all off\n"
    assert re.fullmatch(f"all on since {INSTANT}, until further notice\n", maintenance("on"))
    since = json.loads(maintenance("status", "--json"))["all"].partition(",")[0]
    told = json.loads(maintenance("on", "--until", "2099-11-24 23:30", "--json"))["all"]
    assert told == f"{since}, until 2099-11-24 18:30:00 UTC"  # the time of Kazakhstan; it began when it began
    assert maintenance("on", "--until", "2099-11-24T18:30Z") == f"all {told}\n"
    assert re.search(f"until {INSTANT}", maintenance("on", "--for", "30m"))
    assert maintenance("off") == "all off\n"

    assert "is over already" in maintenance("on", "--until", "2020-01-01 00:00", status=1)
    assert "not both" in maintenance("on", "--for", "1h", "--until", "2099-01-01 00:00", status=2)
    assert f"there is no terminal {STRANGER}" in maintenance("on", "--terminal", STRANGER, status=1)
