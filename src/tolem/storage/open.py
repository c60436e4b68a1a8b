"""Opens a store by its address. Called by bootstrap, the command line and the simulator's ledger."""

from pathlib import Path

import sqlalchemy as sa

from tolem.storage.engine import Engine
from tolem.storage.mapping import Schema
from tolem.storage.store import Store


async def open_store(
    url: str, *, schema: Schema, instance: int, exclusive: bool = True, pg_schema: str | None = None
) -> Store:
    """The store at `sqlite:///file` or `postgresql://…`, opened on the running loop; `instance` names this process.

    SQLite: `exclusive` takes the file's lock (DatabaseInUse if a server has it); False works beside a server.
    PostgreSQL: `pg_schema` is the namespace of the tables. Raises ValueError for any other address.
    """
    engine: Engine
    if is_sqlite(url):
        from tolem.storage.sqlite import SqliteEngine

        engine = SqliteEngine(sqlite_path(url), exclusive=exclusive)
    else:
        from tolem.storage.postgresql import PostgresEngine

        engine = PostgresEngine(libpq_url(url), instance, name=schema.name, pg_schema=pg_schema)
    store = Store(engine, schema, instance)
    await store.open()
    return store


def is_sqlite(url: str) -> bool:
    """True: a SQLite file; False: PostgreSQL. Raises ValueError for anything else."""
    scheme = url.partition(":")[0].partition("+")[0]
    if scheme not in ("sqlite", "postgresql", "postgres"):
        raise ValueError(f"{scheme!r} is no database of ours: use sqlite:///file or postgresql://…")
    return scheme == "sqlite"


def sqlite_path(url: str) -> Path:
    """The file of a `sqlite:///` address: three slashes and a relative path, four and an absolute one."""
    database = sa.make_url(url).database
    if not database or database == ":memory:":
        raise ValueError("SQLite needs a file, such as sqlite:///tolem.db: payments are not kept in memory")
    return Path(database)


def libpq_url(url: str) -> str:
    """The address without the name of a driver."""
    return "postgresql:" + url.partition(":")[2]
