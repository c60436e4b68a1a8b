"""What the commands of the command line share: settings, errors in one line, sockets, the loop.

Called by the modules of the command line only.
"""

import asyncio
import sqlite3
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import click
import msgspec
import psycopg
import sqlalchemy

from tolem.clock import Clock, SystemClock
from tolem.config import Config, InvalidConfig, load_config
from tolem.domain.errors import Refused
from tolem.domain.key import InvalidKey
from tolem.ids import Ids
from tolem.sandbox.clock import SandboxClock
from tolem.sandbox.state import SharedState
from tolem.storage.open import is_sqlite, open_store, sqlite_path
from tolem.storage.schema import tolem_schema
from tolem.storage.sealing import CannotOpen
from tolem.storage.sqlite import DatabaseInUse
from tolem.storage.store import Store
from tolem.telemetry import configure_logging

T = TypeVar("T")


def load(flags: dict[str, Any]) -> Config:
    """The settings in force; None: the flag was not given. A wrong one ends the command with one line."""
    try:
        return load_config(flags)
    except InvalidConfig as error:
        raise click.ClickException(str(error)) from error


def run(config: Config, work: Coroutine[Any, Any, None]) -> None:
    """Runs a program's loop to its end."""
    import uvloop

    configure_logging(config.log_format)
    with one_line_errors():
        uvloop.run(work)


def bind(host: str, port: int, flag: str = "--port") -> Any:
    """A listening socket; a taken address ends the command with one line that names the `flag` for another."""
    from tolem import server

    try:
        return server.bind(host, port)
    except OSError as error:
        raise click.ClickException(f"{host}:{port}: {error.strerror}; use another {flag}") from error


def with_store(config: Config, work: Callable[[Store], Coroutine[Any, Any, T]]) -> T:
    """Runs `work` on a store of its own, beside a server if one runs. Never makes a database by mistake."""
    from tolem.storage import migrate

    async def run() -> T:
        store = await open_store(config.database, schema=tolem_schema, instance=Ids().instance(), exclusive=False)
        try:
            return await work(store)
        finally:
            await store.close()

    with one_line_errors():
        if is_sqlite(config.database) and not sqlite_path(config.database).exists():
            raise click.ClickException(
                f"there is no database {sqlite_path(config.database)} here: name the server's with --database,"
                " or make one with tolem migrate"
            )
        if config.is_sandbox:
            migrate.migrate(config.database, mode=config.mode)
        return asyncio.run(run())


def show(result: dict[str, Any] | list[dict[str, Any]], as_json: bool) -> None:
    """Prints one record, or several, for people or as JSON."""
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(result), indent=2))
        return
    rows = result if isinstance(result, list) else [result]
    for index, row in enumerate(rows):
        if index:
            click.echo()
        for name, value in row.items():
            shown = ", ".join(map(str, value)) if isinstance(value, tuple) else value
            click.echo(f"{name.replace('_', '-'):18} {shown}")
    if not rows:
        click.echo("none")


async def read_clock(store: Store, config: Config) -> Clock:
    """The time as the gateways of this database have it: a sandbox's clock may have been moved."""
    if not config.is_sandbox:
        return SystemClock()
    clock = SandboxClock(SystemClock())
    clock.follow((await SharedState(store).read()).offset)
    return clock


@contextmanager
def one_line_errors() -> Iterator[None]:
    """What a person can mend is told in one line; everything else keeps its trace."""
    try:
        yield
    except (InvalidConfig, InvalidKey, CannotOpen, DatabaseInUse) as error:
        raise click.ClickException(str(error)) from error
    except Refused as refused:
        raise click.ClickException(refused.message) from refused
    except (sqlalchemy.exc.OperationalError, psycopg.OperationalError, sqlite3.OperationalError) as error:
        cause = error.orig if isinstance(error, sqlalchemy.exc.OperationalError) else error
        words = " ".join(str(cause).split())
        raise click.ClickException(f"the database cannot be opened: {words[:300]}") from error
