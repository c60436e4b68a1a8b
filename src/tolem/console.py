"""What the commands of the command line share: settings, errors in one line, sockets, the loop.

Called by the modules of the command line only. What has to do with a database is imported where it is used, so that
`tolem --help` does not wait for it.
"""

import asyncio
import re
import sqlite3
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import click
import msgspec

from tolem.clock import Clock, SystemClock
from tolem.config import Config, InvalidConfig, load_config
from tolem.domain.errors import Refused
from tolem.domain.key import InvalidKey
from tolem.ids import Ids

if TYPE_CHECKING:
    from tolem.storage.store import Store

T = TypeVar("T")

UNITS = {"w": 604_800, "d": 86_400, "h": 3_600, "m": 60, "s": 1}
_DURATION = re.compile(r"(?:(\d{1,9})w)?(?:(\d{1,9})d)?(?:(\d{1,9})h)?(?:(\d{1,9})m)?(?:(\d{1,9})s?)?")


def parse_duration(text: str) -> timedelta:
    """`3d`, `2h30m`, `90s` or `90`; `now` is nothing. Raises click.BadParameter."""
    if text == "now":
        return timedelta()
    match = _DURATION.fullmatch(text.strip().lower())
    if match is None or not any(match.groups()):
        raise click.BadParameter(f"{text!r} is no duration: use 3d, 2h30m or 90s (w, d, h, m, s)")
    numbers = (int(number or 0) for number in match.groups())
    return timedelta(seconds=sum(number * unit for number, unit in zip(numbers, UNITS.values(), strict=True)))


def load(flags: dict[str, Any]) -> Config:
    """The settings in force; None: the flag was not given. A wrong one ends the command with one line."""
    try:
        return load_config(flags)
    except InvalidConfig as error:
        raise click.ClickException(str(error)) from error


def run(config: Config, work: Coroutine[Any, Any, None]) -> None:
    """Runs a program's loop to its end."""
    import uvloop

    from tolem.telemetry import configure_logging

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


def with_store(config: Config, work: Callable[["Store"], Coroutine[Any, Any, T]]) -> T:
    """Runs `work` on a store of its own, beside a server if one runs. Never makes a database by mistake."""
    from tolem.storage import migrate
    from tolem.storage.open import is_sqlite, open_store, sqlite_path
    from tolem.storage.schema import tolem_schema

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
        width = max(map(len, row), default=0)
        for name, value in row.items():
            shown = ", ".join(map(str, value)) if isinstance(value, tuple) else value
            click.echo(f"{name.replace('_', '-'):{width}} {shown}")
    if not rows:
        click.echo("none")


async def open_time(store: "Store", config: Config) -> tuple[Clock, Ids]:
    """The time as the gateways of this database have it, and ids that go by it: on PostgreSQL the server's; a sandbox's
    clock may have been moved."""
    from tolem.sandbox.clock import SandboxClock
    from tolem.sandbox.state import SharedState
    from tolem.storage.timekeeping import set_clock

    system = SystemClock()
    await set_clock(system, store)
    ids = Ids(system.real_ns)
    if not config.is_sandbox:
        return system, ids
    clock = SandboxClock(system)
    clock.follow((await SharedState(store).read()).offset)
    return clock, ids


@contextmanager
def one_line_errors() -> Iterator[None]:
    """What a person can mend is told in one line; everything else keeps its trace."""
    import psycopg
    import sqlalchemy

    from tolem.storage.sealing import CannotOpen
    from tolem.storage.sqlite import DatabaseInUse

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
