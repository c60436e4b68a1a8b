"""`tolem maintenance`: payments wait while somebody works on what they need."""

from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

import click

from tolem import console
from tolem.clock import KAZAKHSTAN, Clock
from tolem.domain.maintenance import Maintenance
from tolem.flows.maintenance import MaintenanceSwitch, describe
from tolem.storage.store import Store

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

_INSTANTS = ("%Y-%m-%dT%H:%M:%S%z", "%Y-%m-%dT%H:%M%z", "%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M")
_DATABASE = click.option("--database", metavar="URL", help="sqlite:///tolem.db or postgresql://…")
_JSON = click.option("--json", "as_json", is_flag=True, help="JSON instead of text.")
_TERMINAL = click.option("--terminal", "terminal_id", type=click.UUID, help="Only this terminal. [default: all]")


@click.group()
def maintenance() -> None:
    """Let payments wait, without a restart: pages say so, and open again by themselves.

    What is at the bank already goes on to its end. Running gateways follow within a second.
    """


@maintenance.command("on")
@_TERMINAL
@click.option("--for", "duration", type=console.parse_duration, metavar="DURATION", help="Ends after it: 30m, 2h.")
@click.option(
    "--until",
    type=click.DateTime(_INSTANTS),
    metavar="TIME",
    help="Ends then: '2026-11-24 23:30' (time of Kazakhstan), or 2026-11-24T18:30Z.",
)
@_DATABASE
@_JSON
def maintenance_on(
    terminal_id: UUID | None, duration: timedelta | None, until: datetime | None, database: str | None, as_json: bool
) -> None:
    """Begin; payers are told the end, if one is given. Again: with another end."""
    if duration is not None and until is not None:
        raise click.UsageError("say --for or --until, not both")
    if until is not None:
        until = (until if until.tzinfo else until.replace(tzinfo=KAZAKHSTAN)).astimezone(UTC)

    async def begin(switch: MaintenanceSwitch, clock: Clock) -> Maintenance:
        end = clock.now() + duration if duration is not None else until
        return await switch.begin(terminal_id, end)

    console.show(describe(_switch(database, begin)), as_json)


@maintenance.command("off")
@_TERMINAL
@_DATABASE
@_JSON
def maintenance_off(terminal_id: UUID | None, database: str | None, as_json: bool) -> None:
    """End it: of one terminal, or all of it."""
    console.show(describe(_switch(database, lambda switch, _: switch.end(terminal_id))), as_json)


@maintenance.command("status")
@_DATABASE
@_JSON
def maintenance_status(database: str | None, as_json: bool) -> None:
    """Tell what waits, since when and until when."""
    console.show(describe(_switch(database, lambda switch, _: switch.read())), as_json)


def _switch(
    database: str | None, work: Callable[[MaintenanceSwitch, Clock], Coroutine[Any, Any, Maintenance]]
) -> Maintenance:
    config = console.load({"database": database})

    async def run(store: Store) -> Maintenance:
        clock, _ = await console.open_time(store, config)
        return await work(MaintenanceSwitch(store, clock), clock)

    return console.with_store(config, run)
