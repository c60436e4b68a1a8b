"""The PostgreSQL of the tests: fresh databases, and no server left behind when its process is killed."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import psycopg

from tests.postgres import PostgresServer

ROOT = Path(__file__).parent.parent
START_AND_WAIT = """
import time
from tests.postgres import start_postgres
with start_postgres() as server:
    print(server.folder, server.data, server.url("postgres"), flush=True)
    time.sleep(60)
"""
GONE_SECONDS_MAX = 10


def test_every_database_is_empty_and_apart(postgres_server: PostgresServer) -> None:
    first, second = postgres_server.create_database(), postgres_server.create_database()
    with psycopg.connect(postgres_server.url(first)) as connection:
        connection.execute("CREATE TABLE payment (id int)")
    copy = postgres_server.create_database(template=first)
    found = {name: _list_tables(postgres_server.url(name)) for name in (first, second, copy)}
    assert found == {first: ["payment"], second: [], copy: ["payment"]}
    for name in found:
        postgres_server.drop_database(name)


def test_killed_tests_leave_no_server() -> None:
    with subprocess.Popen([sys.executable, "-c", START_AND_WAIT], cwd=ROOT, stdout=subprocess.PIPE, text=True) as tests:
        assert tests.stdout is not None
        *folders, url = tests.stdout.readline().split()
        assert _list_tables(url) == []
        tests.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + GONE_SECONDS_MAX
    while left := [folder for folder in folders if Path(folder).exists()]:  # they go after the server has ended
        assert time.monotonic() < deadline, f"{left} were left behind"
        time.sleep(0.02)


def _list_tables(url: str) -> list[str]:
    with psycopg.connect(url) as connection:
        rows = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
    return [name for (name,) in rows]
