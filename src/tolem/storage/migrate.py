"""Creates and upgrades the tables, and stamps the database with its mode.

Called by the command line and at the start of a sandbox whose tables are missing; readiness compares the one version
row. Invariant: a database is at one version or at another, never between two. Alembic is imported only when there is
something to do.
"""

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import sqlalchemy as sa

from tolem.storage.mapping import Schema
from tolem.storage.open import is_sqlite, libpq_url, open_store, sqlite_path
from tolem.storage.sqlite import make_file
from tolem.storage.store import Store
from tolem.storage.tables import settings

EXPECTED_VERSION = "0001"
"""The last revision in migrations/versions."""
MIGRATIONS = Path(__file__).with_name("migrations")
MIGRATION_LOCK = 0x746F6C656D
"""PostgreSQL's advisory lock under which tables are made."""

_versions = sa.Table("alembic_version", sa.MetaData(), sa.Column("version_num", sa.Text, primary_key=True))
_SELECT_VERSION = sa.select(_versions.c.version_num)
_SELECT_MODE = sa.select(settings.c.value).where(settings.c.name == sa.literal_column("'mode'"))


class Stamp(NamedTuple):
    """What a database says of itself; None, None: it was never migrated."""

    version: str | None
    mode: str | None


def migrate(url: str, *, mode: str) -> Stamp:
    """Brings the tables to EXPECTED_VERSION, all or nothing. A database without a mode is stamped with `mode`; one that
    has a mode keeps it."""
    with _engine(url) as engine, _writing(engine) as connection:
        _lock(connection)
        if _read_one(connection, _SELECT_VERSION) != EXPECTED_VERSION:
            _upgrade(connection)
        if _read_one(connection, _SELECT_MODE) is None:
            connection.execute(settings.insert().values(name="mode", value=mode))
        return Stamp(_read_one(connection, _SELECT_VERSION), _read_one(connection, _SELECT_MODE))


async def read_stamp(store: Store) -> Stamp:
    """The version of the tables and the mode they were made for."""
    versions = await _select_if_there(store, _SELECT_VERSION)
    modes = await _select_if_there(store, _SELECT_MODE)
    return Stamp(versions[0][0] if versions else None, modes[0][0] if modes else None)


async def is_current(store: Store) -> bool:
    """True: the tables are at EXPECTED_VERSION."""
    return await _select_if_there(store, _SELECT_VERSION) == [(EXPECTED_VERSION,)]


async def open_with_tables(url: str, *, schema: Schema, instance: int, pg_schema: str | None = None) -> Store:
    """Opens the store of a schema without migrations (the simulator's ledger), and creates the tables that are missing.

    PostgreSQL: in `pg_schema`. Raises DatabaseInUse as open_store does.
    """
    store = await open_store(url, schema=schema, instance=instance, pg_schema=pg_schema)
    try:
        for table in schema.metadata.sorted_tables:
            if await _select_if_there(store, sa.select(sa.literal_column("1")).select_from(table).limit(1)) is None:
                await asyncio.to_thread(create_tables, url, schema, pg_schema=pg_schema)
                break
    except BaseException:
        await store.close()
        raise
    return store


def create_tables(url: str, schema: Schema, *, pg_schema: str | None = None) -> None:
    """Creates what is missing of a schema without migrations (the simulator's ledger). PostgreSQL: in `pg_schema`."""
    with _engine(url, pg_schema) as engine, _writing(engine) as connection:
        _lock(connection)
        if pg_schema and connection.dialect.name == "postgresql":
            connection.execute(sa.schema.CreateSchema(pg_schema, if_not_exists=True))
        schema.metadata.create_all(connection)


def has_tables(url: str, schema: Schema, *, pg_schema: str | None = None) -> bool:
    """True: all tables of a schema are there. Makes nothing, no file either."""
    if is_sqlite(url) and not sqlite_path(url).exists():
        return False
    with _engine(url, pg_schema) as engine, engine.connect() as connection:
        return set(schema.metadata.tables) <= set(sa.inspect(connection).get_table_names())


@contextmanager
def _engine(url: str, pg_schema: str | None = None) -> Iterator[sa.Engine]:
    if is_sqlite(url):
        make_file(sqlite_path(url))
        engine = sa.create_engine(url, poolclass=sa.NullPool)
        sa.event.listen(engine, "connect", _take_over_transactions)
        sa.event.listen(engine, "begin", _begin)
    else:
        arguments = {"options": f"-c search_path={pg_schema}"} if pg_schema else {}
        driver_url = "postgresql+psycopg:" + libpq_url(url).partition(":")[2]
        engine = sa.create_engine(driver_url, poolclass=sa.NullPool, connect_args=arguments)
    try:
        yield engine
    finally:
        engine.dispose()


def _take_over_transactions(connection: Any, _record: Any) -> None:
    """Python's sqlite3 would commit before DDL; this way a migration is one transaction."""
    connection.isolation_level = None


def _begin(connection: sa.Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get("is_writing") else "BEGIN")


@contextmanager
def _writing(engine: sa.Engine) -> Iterator[sa.Connection]:
    with engine.execution_options(is_writing=True).begin() as connection:
        yield connection


def _lock(connection: sa.Connection) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(MIGRATION_LOCK)))


def _upgrade(connection: sa.Connection) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    command.upgrade(config, "head")


async def _select_if_there(store: Store, statement: sa.Select[Any]) -> list[Any] | None:
    """The rows; None if the table is not there."""
    try:
        return await store.select(statement)
    except psycopg.errors.UndefinedTable:
        return None
    except sqlite3.OperationalError as error:
        if "no such table" in str(error):
            return None
        raise


def _read_one(connection: sa.Connection, statement: sa.Select[Any]) -> str | None:
    """The one value, None if there is no row or no table."""
    (table,) = statement.get_final_froms()
    if not sa.inspect(connection).has_table(table.name):  # type: ignore[attr-defined]
        return None
    value: str | None = connection.execute(statement).scalar()
    return value
