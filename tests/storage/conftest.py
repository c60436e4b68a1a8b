"""Migrated databases, one for each test: copies of one that was migrated once."""

import asyncio
import shutil
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.gateway import eventually
from tests.postgres import PostgresServer
from tolem.storage.migrate import migrate
from tolem.storage.open import open_store
from tolem.storage.schema import tolem_schema
from tolem.storage.store import Store

Ask = Callable[[str], list[tuple[Any, ...]]]


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "tolem.db"
    migrate(f"sqlite:///{path}", mode="sandbox")
    return path


@pytest.fixture(scope="session")
def postgres_template(postgres_server: PostgresServer) -> str:
    name = postgres_server.create_database()
    migrate(postgres_server.url(name), mode="sandbox")
    return name


@pytest.fixture
def sqlite_file(sqlite_template: Path, tmp_path: Path) -> Path:
    """A migrated SQLite file."""
    return Path(shutil.copy(sqlite_template, tmp_path / "tolem.db"))


@pytest.fixture
def postgres(postgres_server: PostgresServer, postgres_template: str) -> Iterator[str]:
    """The address of a migrated PostgreSQL database."""
    name = postgres_server.create_database(template=postgres_template)
    yield postgres_server.url(name)
    postgres_server.drop_database(name)


@pytest.fixture(params=("sqlite", "postgresql"))
def url(request: pytest.FixtureRequest) -> str:
    """The address of a migrated database, once on each engine."""
    if request.param == "sqlite":
        return f"sqlite:///{request.getfixturevalue('sqlite_file')}"
    address: str = request.getfixturevalue("postgres")
    return address


@pytest.fixture
async def store(url: str) -> AsyncIterator[Store]:
    """An open store on a migrated database."""
    opened = await open_store(url, schema=tolem_schema, instance=7)
    yield opened
    await opened.close()


@pytest.fixture
def ask(url: str) -> Ask:
    """Runs SQL on a connection of its own: what is really stored."""
    return lambda statement: ask_database(url, statement)


def ask_database(url: str, statement: str) -> list[tuple[Any, ...]]:
    if url.startswith("sqlite"):
        connection = sqlite3.connect(url.removeprefix("sqlite:///"))
        try:
            return connection.execute(statement).fetchall()
        finally:
            connection.close()
    with psycopg.connect(url, autocommit=True) as server:
        cursor = server.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


async def until_somebody_waits_for_a_lock(postgres: str) -> None:
    """Returns once a statement of the database waits for a lock."""

    async def is_waiting() -> bool:
        waits = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        return await asyncio.to_thread(ask_database, postgres, waits) != []

    await eventually(is_waiting)
