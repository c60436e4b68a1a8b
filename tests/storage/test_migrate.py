"""Migrations make exactly the tables of schema.py, once, and the server does not need alembic."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from tests.storage.conftest import ask_database
from tolem.storage.migrate import (
    EXPECTED_VERSION,
    MIGRATIONS,
    Stamp,
    _engine,
    create_tables,
    is_current,
    migrate,
    read_stamp,
)
from tolem.storage.open import open_store
from tolem.storage.schema import tolem_schema
from tolem.storage.tables import metadata


def test_a_migrated_database_has_the_tables_of_the_schema(url: str) -> None:
    with _engine(url) as engine, engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []


def describe(url: str) -> dict[str, Any]:
    """Columns, keys, checks, indexes with their conditions: as the database itself tells them."""
    if url.startswith("sqlite"):
        rows = ask_database(url, "SELECT type, name, tbl_name, sql FROM sqlite_master WHERE name NOT LIKE '%alembic%'")
        return {f"{kind} {name} on {table}": _words(text) for kind, name, table, text in rows}
    columns = ask_database(
        url,
        "SELECT table_name, column_name, data_type, is_nullable FROM information_schema.columns"
        " WHERE table_schema = 'public' AND table_name <> 'alembic_version'",
    )
    constraints = ask_database(
        url,
        "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint"
        " WHERE connamespace = 'public'::regnamespace AND conname NOT LIKE 'alembic%'",
    )
    indexes = ask_database(
        url,
        "SELECT tablename, indexname, indexdef FROM pg_indexes"
        " WHERE schemaname = 'public' AND tablename <> 'alembic_version'",
    )
    return {f"{table} {name}": rest for table, name, *rest in columns + constraints + indexes}


def _words(text: str | None) -> set[str]:
    """The statement's parts in any order: the tables are equal, however they were written down."""
    return {part.strip().rstrip(",") for part in (text or "").replace(" \n", "\n").splitlines()}


@pytest.fixture
def plain_url(url: str, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """An empty database on the engine of `url`."""
    if url.startswith("sqlite"):
        return f"sqlite:///{tmp_path / 'plain.db'}"
    address: str = request.getfixturevalue("empty_postgres_url")
    return address


@pytest.fixture(params=("sqlite", "postgresql"))
def empty_url(request: pytest.FixtureRequest) -> str:
    """The address of an empty database, once on each engine."""
    address: str = request.getfixturevalue("sqlite_url" if request.param == "sqlite" else "empty_postgres_url")
    return address


async def stamp(url: str) -> Stamp:
    """What the database at that address says of itself."""
    store = await open_store(url, schema=tolem_schema, instance=7)
    try:
        return await read_stamp(store)
    finally:
        await store.close()


def test_nothing_differs_from_tables_made_of_the_schema_itself(url: str, plain_url: str) -> None:
    create_tables(plain_url, tolem_schema)
    migrated, plain = describe(url), describe(plain_url)
    assert migrated == plain
    assert any("payments_open" in name for name in plain)


async def test_migrating_twice_changes_nothing_and_keeps_the_mode(empty_url: str) -> None:
    assert await stamp(empty_url) == (None, None)
    assert migrate(empty_url, mode="sandbox") == (EXPECTED_VERSION, "sandbox")
    assert migrate(empty_url, mode="production") == (EXPECTED_VERSION, "sandbox")
    assert await stamp(empty_url) == (EXPECTED_VERSION, "sandbox")


def test_several_processes_may_migrate_at_once(empty_url: str) -> None:
    with ThreadPoolExecutor(4) as threads:
        stamps = list(threads.map(lambda _: migrate(empty_url, mode="sandbox"), range(4)))
    assert stamps == [(EXPECTED_VERSION, "sandbox")] * 4


async def test_a_migration_that_fails_leaves_nothing(empty_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("in the middle")

    with monkeypatch.context() as patched:
        patched.setattr("tolem.storage.migrate.Stamp", fail)
        with pytest.raises(RuntimeError, match="middle"):
            migrate(empty_url, mode="sandbox")
    assert await stamp(empty_url) == (None, None)
    with _engine(empty_url) as engine:
        assert sa.inspect(engine).get_table_names() == []


async def test_readiness_compares_the_version(empty_url: str) -> None:
    store = await open_store(empty_url, schema=tolem_schema, instance=7)
    assert not await is_current(store)
    migrate(empty_url, mode="sandbox")
    assert await is_current(store)
    await store.close()


async def test_another_version_is_not_current(url: str) -> None:
    with _engine(url) as engine, engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    store = await open_store(url, schema=tolem_schema, instance=7)
    assert not await is_current(store)
    await store.close()


def test_the_expected_version_is_the_last_revision() -> None:
    assert ScriptDirectory(str(MIGRATIONS)).get_current_head() == EXPECTED_VERSION


def test_serving_does_not_import_alembic(sqlite_file: Path) -> None:
    program = (
        "import sys\n"
        "from tolem.storage import keys, migrate, open, queries, store, sweeps\n"
        f"migrate.migrate('sqlite:///{sqlite_file}', mode='sandbox')\n"
        "sys.exit('alembic' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=Path(__file__).parent.parent.parent / "src", check=False)
    assert done.returncode == 0
