"""What is measured: the floor and the gateway on each database, each in a process of its own.

Called by bench/run.py. A contender is started on a free port, and ended by its process id: terminated, killed if
that does not end it. Its files and its log are in the run's own folder; the log's end is shown if it does not start.
"""

import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.request import urlopen

from tests.postgres import start_postgres

ROOT = Path(__file__).parent.parent
START_SECONDS_MAX = 20.0
STOP_SECONDS_MAX = 12.0
POSTGRES_SETTINGS: Mapping[str, str] = {}
"""The server's defaults: fsync, full_page_writes and synchronous_commit are on."""
_SERVES = re.compile(r"serves http://127\.0\.0\.1:(\d+)")


class DidNotStart(Exception):
    """In words, with the end of its log."""


class Running(NamedTuple):
    """A contender that answers."""

    name: str
    log: Path
    port: int
    server_pids: tuple[int, ...]
    database_pids: tuple[int, ...] = ()


@contextmanager
def run_floor(folder: Path, answers: Path) -> Iterator[Running]:
    """The floor, with the answers of that file."""
    port = _find_free_port()
    with _run("floor", [sys.executable, "-m", "bench.floor", str(answers), str(port)], folder) as (process, _):
        _wait_until(lambda: _is_listening(port), process, folder / "floor.log")
        yield Running("floor", folder / "floor.log", port, (process.pid,))


@contextmanager
def run_sqlite(folder: Path, sampler_target: Path | None = None) -> Iterator[Running]:
    """The gateway on a new SQLite file."""
    database = f"sqlite:///{folder / 'gateway.db'}"
    with _run_gateway("sqlite", database, folder, sampler_target) as (pid, port):
        yield Running("sqlite", folder / "sqlite.log", port, (pid,))


@contextmanager
def run_postgresql(folder: Path, sampler_target: Path | None = None) -> Iterator[Running]:
    """The gateway on a new PostgreSQL server of this machine that waits for its disk."""
    with start_postgres(POSTGRES_SETTINGS) as server:
        database = server.url(server.create_database())
        main_pid = int((server.data / "postmaster.pid").read_text().split()[0])
        with _run_gateway("postgresql", database, folder, sampler_target) as (pid, port):
            yield Running("postgresql", folder / "postgresql.log", port, (pid,), (main_pid,))


@contextmanager
def _run_gateway(name: str, database: str, folder: Path, sampler_target: Path | None) -> Iterator[tuple[int, int]]:
    program = ["tolem.cli"] if sampler_target is None else ["bench.sampler", str(sampler_target)]
    command = [sys.executable, "-m", *program, "serve", "--database", database, "--port", "0"]
    with _run(name, command, folder) as (process, log):
        _wait_until(lambda: _SERVES.search(log.read_text()) is not None, process, log)
        found = _SERVES.search(log.read_text())
        assert found is not None
        port = int(found[1])
        with urlopen(f"http://127.0.0.1:{port}/readyz", timeout=START_SECONDS_MAX):
            pass
        yield process.pid, port


@contextmanager
def _run(name: str, command: list[str], folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    log = folder / f"{name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        yield process, log
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until(condition: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS_MAX
    while not condition():
        if process.poll() is not None or time.monotonic() > deadline:
            raise DidNotStart(f"{log.stem} did not start:\n{log.read_text()[-2000:]}")
        time.sleep(0.05)


def _is_listening(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except ConnectionRefusedError:
        return False
    return True


def _find_free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port
