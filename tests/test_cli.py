"""The command line, run as people run it: administration beside a server, starts that are refused, stops."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from importlib import import_module
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.forks import TolemProcess
from tests.pictures import build_png
from tolem.cli import main
from tolem.cli_commands import COMMANDS, SUMMARY_LENGTH_MAX, TERMINAL_COMMANDS, Later
from tolem.sandbox.fixtures import CLIENT_ID, CLIENT_SECRET, TERMINAL_ID

COMMAND = [sys.executable, "-m", "tolem.cli"]


def environment(**extra: str) -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if not k.startswith("TOLEM_")} | extra


def run(*arguments: str, cwd: Path, status: int = 0, **extra: str) -> str:
    """A command in this process, which spares its start; standard output, or standard error if it is to fail."""
    done = invoke(*arguments, cwd=cwd, **extra)
    assert done.exit_code == status, done.output
    return done.stdout if status == 0 else done.stderr


def invoke(*arguments: str, cwd: Path, **extra: str) -> Result:
    """The same, whatever its exit status is. What it raises is raised."""
    blank: dict[str, str | None] = {name: None for name in os.environ if name.startswith("TOLEM_")}
    with chdir(cwd):
        return CliRunner(env=blank | extra).invoke(main, arguments, prog_name="tolem", catch_exceptions=False)


def run_process(*arguments: str, cwd: Path, status: int = 0, **extra: str) -> str:
    """A command as a process of its own: servers, and what only a real program shows."""
    done = subprocess.run([*COMMAND, *arguments], cwd=cwd, env=environment(**extra), capture_output=True, text=True)
    assert done.returncode == status, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout if status == 0 else done.stderr


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def get(port: int, path: str, **headers: str) -> tuple[int, bytes]:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310 - loopback
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def is_ready(port: int) -> bool:
    try:
        return get(port, "/readyz")[0] == 200
    except OSError:
        return False


@contextmanager
def serving(cwd: Path, *arguments: str, **extra: str) -> Iterator[tuple[TolemProcess, int]]:
    """`tolem serve`, ready; it is ended by its id."""
    port = free_port()
    command = ("serve", "--port", str(port), *arguments)
    process = TolemProcess(*command, cwd=cwd, env=environment(**extra), log=cwd / "server.log")
    with _ended(process):
        _wait_until_ready(process, port, cwd / "server.log")
        yield process, port


@contextmanager
def serving_anew(cwd: Path, *arguments: str, **extra: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """The same in an interpreter of its own, as people start it."""
    port = free_port()
    with (cwd / "server.log").open("ab") as log:
        command = [*COMMAND, "serve", "--port", str(port), *arguments]
        process = subprocess.Popen(command, cwd=cwd, env=environment(**extra), stdout=log, stderr=log)
    with _ended(process):
        _wait_until_ready(process, port, cwd / "server.log")
        yield process, port


@contextmanager
def _ended(process: "TolemProcess | subprocess.Popen[bytes]") -> Iterator[None]:
    try:
        yield
    finally:
        process.kill()
        process.wait()


def _wait_until_ready(process: "TolemProcess | subprocess.Popen[bytes]", port: int, log: Path) -> None:
    deadline = time.monotonic() + 60
    while not is_ready(port):
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_help_tells_every_command(tmp_path: Path) -> None:
    text = run_process("--help", cwd=tmp_path)
    for command in ("serve", "demo", "worker", "migrate", "merchant", "terminal", "keys"):
        assert command in text
    assert "--two-stage" in run("terminal", "add", "--help", cwd=tmp_path)
    assert re.search(r"\d+\.\d+", run_process("--version", cwd=tmp_path))


@pytest.mark.parametrize("later", (*COMMANDS.values(), *TERMINAL_COMMANDS.values()), ids=lambda later: later.attribute)
def test_summaries_are_the_commands_own(later: Later) -> None:
    command = getattr(import_module(later.module), later.attribute)
    assert command.get_short_help_str(SUMMARY_LENGTH_MAX) == later.summary


def test_help_waits_for_nothing_that_serves() -> None:
    code = "import sys, tolem.cli; tolem.cli.main(['--help'], standalone_mode=False); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.splitlines()[-1].split())
    assert "tolem.console" in loaded
    assert not loaded & {"aiohttp", "alembic", "babel", "jinja2", "psycopg", "sqlalchemy", "starlette", "structlog"}


def test_merchants_and_terminals(tmp_path: Path, database_url: str) -> None:
    where = ("--database", database_url)
    run("migrate", *where, cwd=tmp_path)
    added = json.loads(run("merchant", "add", "my-shop", "--name", "My shop", "--json", *where, cwd=tmp_path))
    assert len(added["client_secret"]) >= 24
    assert "secret_hash" not in added
    assert "exists already" in run("merchant", "add", "my-shop", "--name", "X", *where, cwd=tmp_path, status=1)
    assert "24 or more" in run(
        "merchant", "add", "b-shop", "--name", "X", "--secret", "short", *where, cwd=tmp_path, status=1
    )
    rotated = json.loads(run("merchant", "rotate-secret", "my-shop", "--json", *where, cwd=tmp_path))
    assert rotated["client_secret"] != added["client_secret"]
    assert "no client" in run("merchant", "rotate-secret", "nobody", *where, cwd=tmp_path, status=1)
    terminal = json.loads(
        run(
            "terminal", "add", "my-shop", "--name", "Till", "--two-stage", "--currency", "kzt", "--currency", "USD",
            "--link-host", "shop.example", "--json", *where, cwd=tmp_path,
        )
    )  # fmt: skip
    assert (terminal["two_stage"], terminal["currencies"]) == (True, ["KZT", "USD"])
    run("terminal", "set", terminal["id"], "--attempts-max", "5", "--one-stage", *where, cwd=tmp_path)
    published, listed = json.loads(run("terminal", "list", "--json", *where, cwd=tmp_path))
    assert published["id"] == str(TERMINAL_ID)  # of a sandbox, before anything was served
    assert (listed["attempts_max"], listed["two_stage"], listed["name"]) == (5, False, "Till")
    assert "use 1 to 10" in run(
        "terminal", "set", terminal["id"], "--attempts-max", "99", *where, cwd=tmp_path, status=1
    )
    set_terminal = ("terminal", "set", terminal["id"], "--json", *where)
    framed = json.loads(
        run(*set_terminal, "--frame-host", "Shop.example", "--frame-host", "m.shop.example:8443", cwd=tmp_path)
    )
    assert framed["frame_hosts"] == ["shop.example", "m.shop.example:8443"]
    assert "without scheme" in run(*set_terminal, "--frame-host", "https://shop.example", cwd=tmp_path, status=1)
    assert json.loads(run(*set_terminal, "--no-frame-hosts", cwd=tmp_path))["frame_hosts"] == []
    (tmp_path / "logo.png").write_bytes(build_png())
    shown = json.loads(run(*set_terminal, "--logo", "logo.png", "--colour", "#FFD700", cwd=tmp_path))
    assert (shown["logo"][-4:], shown["colour"], shown["text_colour"]) == (".png", "#ffd700", "#000000")
    run(*set_terminal, "--logo", "logo.png", cwd=tmp_path)  # the same picture once more
    assert "contrast of 1.40" in run(*set_terminal, "--text-colour", "#fff", cwd=tmp_path, status=1)
    (tmp_path / "logo.svg").write_text("<svg/>")
    assert "SVG is not taken" in run(*set_terminal, "--logo", "logo.svg", cwd=tmp_path, status=1)
    assert "--no-logo takes a logo away" in run(*set_terminal, "--logo", "/dev/null", cwd=tmp_path, status=2)
    bare = json.loads(run(*set_terminal, "--no-logo", "--no-colours", "--extension-minutes", "0", cwd=tmp_path))
    assert [bare[name] for name in ("logo", "colour", "text_colour", "extension_minutes")] == ["", "", "", 0]
    assert "goes with a colour" in run(*set_terminal, "--text-colour", "#fff", cwd=tmp_path, status=1)
    assert "not known" in run(
        "terminal", "add", "my-shop", "--name", "T", "--currency", "ZZZ", *where, cwd=tmp_path, status=1
    )
    run("terminal", "set", terminal["id"], "--notify-gaps", "0,30s,1h30m", "--notify-retry-after-max", "2d",
        "--notify-whole-seconds", "20", *where, cwd=tmp_path)  # fmt: skip
    _, listed = json.loads(run("terminal", "list", "--json", *where, cwd=tmp_path))
    assert [listed[f"notify_{name}"] for name in ("gaps", "retry_after_max_seconds", "whole_seconds")] == [
        [0, 30, 5400],
        172_800,
        20,
    ]
    assert re.search(r"^notify-gaps +0, 30, 5400$", run("terminal", "list", *where, cwd=tmp_path), re.MULTILINE)
    assert "no duration" in run(
        "terminal", "set", terminal["id"], "--notify-gaps", "0,soon", *where, cwd=tmp_path, status=2
    )
    assert "use 1 to 30" in run(
        "terminal", "set", terminal["id"], "--notify-whole-seconds", "99", *where, cwd=tmp_path, status=1
    )
    assert "my-shop" in run("merchant", "list", *where, cwd=tmp_path)
    assert added["client_secret"] not in run("merchant", "list", *where, cwd=tmp_path)


def test_what_a_terminal_tells_can_be_taken_back(tmp_path: Path) -> None:
    with serving(tmp_path):
        terminal = str(TERMINAL_ID)
        run("terminal", "set", terminal, "--tell", "refund", "--tell", "void", cwd=tmp_path)
        (listed,) = json.loads(run("terminal", "list", "--json", cwd=tmp_path))
        assert listed["tells"] == ["refund", "void"]
        run("terminal", "set", terminal, "--hold-days", "3", cwd=tmp_path)
        run("terminal", "set", terminal, "--tell-nothing", cwd=tmp_path)
        (listed,) = json.loads(run("terminal", "list", "--json", cwd=tmp_path))
        assert (listed["tells"], listed["hold_days"]) == ([], 3)
        assert "none of" in run("terminal", "set", terminal, "--tell", "refunds", cwd=tmp_path, status=1)


def test_administration_beside_a_running_server(tmp_path: Path) -> None:
    with serving(tmp_path) as (_, port):
        added = json.loads(run_process("merchant", "add", "my-shop", "--name", "My shop", "--json", cwd=tmp_path))
        form = f"grant_type=client_credentials&client_id=my-shop&client_secret={added['client_secret']}".encode()
        time.sleep(1.1)
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/oauth2/token", form, {"Content-Type": "application/x-www-form-urlencoded"}
        )
        with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310 - loopback
            assert json.loads(answer.read())["token_type"] == "Bearer"
        text = run_process("serve", "--port", str(free_port()), cwd=tmp_path, status=1)
        assert "one server process per SQLite file" in text
        assert "use another --port" in run_process("serve", "--port", str(port), cwd=tmp_path, status=1)


def test_the_server_starts_quickly_and_ends_with_0(tmp_path: Path) -> None:
    with serving(tmp_path):
        pass  # the first start makes the tables, and warms the disk
    with serving_anew(tmp_path) as (process, port):
        used = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        cpu_seconds = (int(used[11]) + int(used[12])) / os.sysconf("SC_CLK_TCK")
        status, body = get(port, "/healthz")
        assert (status, json.loads(body)) == (200, {"status": "ok"})
        assert b"tolem_operations_open 0.0" in get(port, "/metrics")[1]
        resident_kib = int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{process.pid}/status").read_text())[1])  # type: ignore[index]
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) == 0
    assert cpu_seconds < 2  # ready in less than 1 s on an idle machine; wall time would depend on the neighbours
    assert resident_kib < 110 * 1024
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0


def test_alembic_is_not_loaded_by_serving() -> None:
    code = "import sys, tolem.cli, tolem.bootstrap, tolem.server; print('alembic' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_wrong_setting_stops_the_start_with_one_line(tmp_path: Path) -> None:
    assert run_process("serve", cwd=tmp_path, status=1, TOLEM_PORT="x").count("\n") == 1
    production = {"TOLEM_MODE": "production", "TOLEM_PUBLIC_URL": "https://pay.example.kz"}
    assert "the only connector" in run_process("serve", cwd=tmp_path, status=1, **production)
    assert (
        "connection"
        in run_process("serve", "--database", "postgresql://127.0.0.1:1/none", cwd=tmp_path, status=1).lower()
    )


def test_metrics_of_an_open_sandbox_need_the_password(tmp_path: Path) -> None:
    with serving(tmp_path, TOLEM_SANDBOX_PASSWORD="a long password") as (_, port):
        assert get(port, "/metrics")[0] == 401
        assert get(port, "/metrics", Authorization="Basic c2FuZGJveDphIGxvbmcgcGFzc3dvcmQ=")[0] == 200
        assert get(port, "/healthz")[0] == 200


def test_workers_share_a_port_and_none_outlives_its_supervisor(tmp_path: Path, empty_postgres_url: str) -> None:
    with serving_anew(tmp_path, "--workers", "2", "--database", empty_postgres_url) as (process, port):
        workers = children_of(process.pid)
        assert len(workers) == 2
        os.kill(workers[0], signal.SIGKILL)
        deadline = time.monotonic() + 40
        while len(set(children_of(process.pid)) - {workers[0]}) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        workers = [pid for pid in children_of(process.pid) if pid != workers[0]]
        assert len(workers) == 2
        assert is_ready(port)
        assert b"tolem_operations_open" in get(port, "/metrics")[1]
        process.kill()
        process.wait()
        deadline = time.monotonic() + 40
        while any(Path(f"/proc/{pid}").exists() for pid in workers):
            assert time.monotonic() < deadline, "a worker outlives its supervisor"
            time.sleep(0.05)
        assert not is_ready(port)


def test_a_supervisor_ends_its_workers_and_exits_with_0(tmp_path: Path, postgres_url: str) -> None:
    with serving_anew(tmp_path, "--workers", "2", "--database", postgres_url) as (process, _):
        workers = children_of(process.pid)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=12) == 0
        assert not any(Path(f"/proc/{pid}").exists() for pid in workers)


def test_a_worker_runs_alone(tmp_path: Path, postgres_url: str) -> None:
    log = tmp_path / "worker.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [*COMMAND, "worker", "--database", postgres_url], cwd=tmp_path, env=environment(), stderr=stream
        )
    try:
        deadline = time.monotonic() + 40
        while b"sends notifications" not in log.read_bytes():
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) == 0
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def children_of(pid: int) -> list[int]:
    path = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in path.read_text().split()] if path.exists() else []


@pytest.mark.parametrize("name", (CLIENT_ID, str(TERMINAL_ID)))
def test_a_sandbox_starts_with_the_published_client(tmp_path: Path, name: str) -> None:
    with serving(tmp_path) as (process, _):
        listed = run("merchant", "list", cwd=tmp_path) + run("terminal", "list", cwd=tmp_path)
        assert name in listed
        assert CLIENT_SECRET not in listed
        assert process.poll() is None
