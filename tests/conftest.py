"""Databases for the tests: SQLite files and a real PostgreSQL.

A test that takes `database_url` runs once on each engine. The PostgreSQL server starts with the first test
that needs it; every test gets a database of its own. All of them lie in memory where the machine has a place for
that: a killed process leaves there what it leaves on a disk, and waiting for a disk is half of a run's time.
"""

import gc
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.postgres import PostgresServer, start_postgres

MEMORY = Path("/dev/shm")  # noqa: S108 - Linux's; the folders made in it have random names and the tests' own user
MEMORY_BYTES_MIN = 2 << 30
IS_IN_MEMORY = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free >= MEMORY_BYTES_MIN
if IS_IN_MEMORY:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))  # where pytest puts every tmp_path

gc.disable()  # until the tests are collected: they stay, and to look for garbage among them takes a third of that time

# How long an example takes, and how quickly they are made, tells of the machine's other work.
settings.register_profile("busy-machine", deadline=None, suppress_health_check=(HealthCheck.too_slow,))
settings.load_profile("busy-machine")


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """The one server of this run."""
    with start_postgres(place=MEMORY if IS_IN_MEMORY else None) as server:
        yield server


@pytest.fixture(scope="session")
def sandbox_template(postgres_server: PostgresServer) -> str:
    """The name of a sandbox's new database."""
    from tests.gateway import make_tables

    name = postgres_server.create_database()
    make_tables(postgres_server.url(name))
    return name


@pytest.fixture
def postgres_url(postgres_server: PostgresServer, sandbox_template: str) -> Iterator[str]:
    """postgresql://… of a sandbox's new database, which need not be migrated again."""
    name = postgres_server.create_database(template=sandbox_template)
    yield postgres_server.url(name)
    postgres_server.drop_database(name)


@pytest.fixture
def empty_postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """postgresql://… of a database without tables."""
    name = postgres_server.create_database()
    yield postgres_server.url(name)
    postgres_server.drop_database(name)


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """sqlite:///… of a file that does not exist yet."""
    return f"sqlite:///{tmp_path / 'tolem.db'}"


@pytest.fixture(params=("sqlite", "postgresql"))
def database_url(request: pytest.FixtureRequest) -> str:
    """The address of a new database, once on each engine."""
    url: str = request.getfixturevalue("sqlite_url" if request.param == "sqlite" else "postgres_url")
    return url
