"""`tolem terminal secret` and `tolem keys`, run as people run them, beside a server and without one."""

import json
import re
import stat
from pathlib import Path

import pytest

from tests.test_cli import run, run_process, serving
from tolem.domain.key import SANDBOX_SERVER_KEY, parse_server_keys, parse_webhook_secret
from tolem.sandbox.fixtures import TERMINAL_ID, WEBHOOK_SECRET

TERMINAL = str(TERMINAL_ID)
UNKNOWN = "00000000-0000-4000-8000-000000000000"
MINE = "whsec_" + "bXkgb3duIHdlYmhvb2sgc2VjcmV0LCBrbm93biBiZWZvcmU="


def add_terminal(cwd: Path, *where: str, key: str = "") -> str:
    run("migrate", *where, cwd=cwd, TOLEM_SERVER_KEY=key)
    run("merchant", "add", "my-shop", "--name", "My shop", *where, cwd=cwd, TOLEM_SERVER_KEY=key)
    added = json.loads(
        run("terminal", "add", "my-shop", "--name", "Till", "--json", *where, cwd=cwd, TOLEM_SERVER_KEY=key)
    )
    terminal_id: str = added["id"]
    return terminal_id


def test_a_terminals_secrets(tmp_path: Path, database_url: str) -> None:
    where = ("--database", database_url)
    terminal = add_terminal(tmp_path, *where)

    def secret(*arguments: str, status: int = 0) -> str:
        return run("terminal", "secret", *arguments, *where, cwd=tmp_path, status=status)

    assert json.loads(secret("show", terminal, "--json"))["secret"] == ""
    made = json.loads(secret("new", terminal, "--json"))
    assert len(parse_webhook_secret(made["secret"])) == 32
    assert made["previous_secret"] == ""
    given = json.loads(secret("new", terminal, "--secret", MINE, "--keep-hours", "2", "--json"))
    assert (given["secret"], given["previous_secret"]) == (MINE, made["secret"])
    assert given["previous_until"].endswith("Z")
    assert MINE in secret("show", terminal)
    told = secret("new", terminal, status=1)
    assert f"{made['secret'][:12]}… still signs" in told
    assert "--force" in told
    assert given == json.loads(secret("show", terminal, "--json"))
    assert re.search(r"previous-until +\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC\+5\n", secret("show", terminal))
    forced = json.loads(secret("new", terminal, "--force", "--json"))
    assert forced["previous_secret"] == MINE
    secret("end-previous", terminal)
    assert json.loads(secret("show", terminal, "--json"))["previous_secret"] == ""
    assert "previous" not in secret("show", terminal)
    assert "not signed" in secret("remove", terminal)
    assert MINE not in secret("show", terminal)
    assert "24 to 64 bytes" in secret("new", terminal, "--secret", "password", status=1)
    assert "there is no terminal" in secret("new", UNKNOWN, status=1)
    assert "use 0 to 2160" in secret("new", terminal, "--keep-hours", "-1", status=1)


def test_server_keys(tmp_path: Path, database_url: str) -> None:
    where = ("--database", database_url)
    first, second = (run("keys", "new", cwd=tmp_path).strip() for _ in range(2))
    terminal = add_terminal(tmp_path, *where, key=first)
    (first_key,), (second_key,) = parse_server_keys(first), parse_server_keys(second)

    def list_keys(server_key: str) -> dict[str, tuple[str, int]]:
        rows = json.loads(run("keys", "list", "--json", *where, cwd=tmp_path, TOLEM_SERVER_KEY=server_key))
        return {row["key"]: (row["role"], row["secrets"]) for row in rows if row["key"] != SANDBOX_SERVER_KEY.id}

    run("terminal", "secret", "new", terminal, *where, cwd=tmp_path, TOLEM_SERVER_KEY=first)
    shown = run("terminal", "secret", "show", terminal, *where, cwd=tmp_path, TOLEM_SERVER_KEY=first)
    assert list_keys(first) == {first_key.id: ("seals", 2)}  # of the published terminal, too
    both = f"{second},{first}"
    assert list_keys(both) == {second_key.id: ("seals", 0), first_key.id: ("opens", 2)}
    assert "2 secrets" in run("keys", "reseal", *where, cwd=tmp_path, TOLEM_SERVER_KEY=both)
    assert list_keys(second) == {second_key.id: ("seals", 2)}
    assert list_keys(first) == {first_key.id: ("seals", 0), second_key.id: ("missing", 2)}
    assert run("terminal", "secret", "show", terminal, *where, cwd=tmp_path, TOLEM_SERVER_KEY=second) == shown
    lost = run("terminal", "secret", "show", terminal, *where, cwd=tmp_path, status=1, TOLEM_SERVER_KEY=first)
    assert f"server key {second_key.id}, which is not among the configured" in lost
    assert "server key 1 is not 32 bytes" in run(
        "keys", "list", *where, cwd=tmp_path, status=1, TOLEM_SERVER_KEY="password"
    )


def test_a_sandbox_keeps_a_key_beside_its_file(tmp_path: Path) -> None:
    assert "there is no database" in run("keys", "list", cwd=tmp_path, status=1)
    assert list(tmp_path.iterdir()) == []
    with serving(tmp_path, TOLEM_WEBHOOK_SECRET=MINE):
        assert MINE in run("terminal", "secret", "show", TERMINAL, cwd=tmp_path)
        kept = run("terminal", "secret", "new", TERMINAL, cwd=tmp_path)
    path = tmp_path / "tolem-server.key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    (key,) = parse_server_keys(path.read_text())
    assert key.id in run("keys", "list", cwd=tmp_path)
    assert MINE in kept  # the one before, for a day
    path.unlink()
    with pytest.raises(AssertionError, match="not configured"), serving(tmp_path):
        pass
    # The way out of a lost key: a new secret. Then everything starts again.
    run("terminal", "secret", "new", TERMINAL, "--secret", WEBHOOK_SECRET, cwd=tmp_path)
    with serving(tmp_path):
        assert WEBHOOK_SECRET in run("terminal", "secret", "show", TERMINAL, cwd=tmp_path)


def test_wrong_keys_stop_the_start_with_one_line(tmp_path: Path) -> None:
    for name, value in (("TOLEM_SERVER_KEY", "short"), ("TOLEM_WEBHOOK_SECRET", "whsec_short")):
        told = run_process("serve", cwd=tmp_path, status=1, **{name: value})
        assert told.count("\n") == 1
        assert "bytes in base64" in told
