"""Commands for secrets: what notifications are signed with, and the server's keys that seal what is stored."""

import os
import sys
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar
from uuid import UUID

import click

from tolem import console
from tolem.clock import KAZAKHSTAN, SystemClock
from tolem.domain.key import SERVER_KEY_BYTES, ServerKey, render_server_key, render_webhook_secret
from tolem.flows.card_keys import CardKeeper
from tolem.flows.signing import KEEP_HOURS, LiveSecrets, WebhookSecretKeeper
from tolem.storage.sealing import Sealer, load_sealer
from tolem.storage.store import Store

T = TypeVar("T")

_DATABASE = click.option("--database", metavar="URL", help="sqlite:///tolem.db or postgresql://…")
_JSON = click.option("--json", "as_json", is_flag=True, help="JSON instead of text.")
_TERMINAL = click.argument("terminal_id", type=click.UUID)


@click.group()
def secret() -> None:
    """Webhook secrets: what a terminal's notifications are signed with.

    Two sign at one time while a shop changes over. A running server follows within a second.
    """


@secret.command("new")
@_TERMINAL
@click.option("--secret", "text", metavar="whsec_…", help="The new secret, - reads it from standard input; else made.")
@click.option(
    "--keep-hours", type=float, default=KEEP_HOURS, show_default=True, help="The one before signs too for so long."
)
@click.option("--force", is_flag=True, help="Also if one from before still signs, which ends then.")
@_DATABASE
@_JSON
def secret_new(
    terminal_id: UUID, text: str | None, keep_hours: float, force: bool, database: str | None, as_json: bool
) -> None:
    """Give a terminal a new secret, and show it."""
    given = sys.stdin.read().strip() if text == "-" else text
    live = _keep(database, lambda keeper: keeper.change(terminal_id, given, keep_hours, ends_previous=force))
    _show(terminal_id, live, as_json)


@secret.command("show")
@_TERMINAL
@_DATABASE
@_JSON
def secret_show(terminal_id: UUID, database: str | None, as_json: bool) -> None:
    """Show a terminal's live secrets."""
    _show(terminal_id, _keep(database, lambda keeper: keeper.read(terminal_id)), as_json)


@secret.command("end-previous")
@_TERMINAL
@_DATABASE
def secret_end_previous(terminal_id: UUID, database: str | None) -> None:
    """End the older secret now."""
    _keep(database, lambda keeper: keeper.end_previous(terminal_id))
    click.echo("only the current secret signs")


@secret.command("remove")
@_TERMINAL
@_DATABASE
def secret_remove(terminal_id: UUID, database: str | None) -> None:
    """Sign a terminal's notifications no more."""
    _keep(database, lambda keeper: keeper.remove(terminal_id))
    click.echo("the terminal's notifications are not signed")


@click.group()
def keys() -> None:
    """The server's keys (server_key): under the first one secrets are sealed, with all they are opened."""


@keys.command("new")
def keys_new() -> None:
    """Make a key and print it; nothing is stored."""
    click.echo(render_server_key(ServerKey(os.urandom(SERVER_KEY_BYTES))))


@keys.command("list")
@_DATABASE
@_JSON
def keys_list(database: str | None, as_json: bool) -> None:
    """List the keys by their ids, with how many stored secrets and cards each seals. One that seals none may go."""

    async def rows(store: Store, sealer: Sealer) -> list[dict[str, Any]]:
        counted = Counter(await WebhookSecretKeeper(store, SystemClock(), sealer).count_by_server_key())
        counted.update(await CardKeeper(store, sealer).count_by_server_key())
        known = sealer.key_ids
        return [
            {
                "key": key_id,
                "role": "seals" if key_id == known[0] else "opens" if key_id in known else "missing",
                "secrets": count,
            }
            for key_id, count in counted.items()
        ]

    console.show(_open(database, rows), as_json)


@keys.command("reseal")
@_DATABASE
def keys_reseal(database: str | None) -> None:
    """Seal every stored secret and saved card under the first key."""

    async def reseal(store: Store, sealer: Sealer) -> int:
        secrets = await WebhookSecretKeeper(store, SystemClock(), sealer).reseal()
        return secrets + await CardKeeper(store, sealer).reseal()

    count = _open(database, reseal)
    click.echo(f"{count} secrets were sealed under another key, and are sealed under the first one now")


def _keep(database: str | None, work: Callable[[WebhookSecretKeeper], Coroutine[Any, Any, T]]) -> T:
    """Runs one piece of work on the stored webhook secrets."""
    return _open(database, lambda store, sealer: work(WebhookSecretKeeper(store, SystemClock(), sealer)))


def _open(database: str | None, work: Callable[[Store, Sealer], Coroutine[Any, Any, T]]) -> T:
    """Runs one piece of work on what is sealed, beside a server if one runs."""
    config = console.load({"database": database})

    def begin(store: Store) -> Coroutine[Any, Any, T]:
        return work(store, load_sealer(config.server_key, config.database, is_sandbox=config.is_sandbox))

    return console.with_store(config, begin)


def _show(terminal_id: UUID, live: LiveSecrets, as_json: bool) -> None:
    """For people only what there is, in Kazakhstan's time."""
    shown: dict[str, Any] = {
        "terminal": terminal_id,
        "secret": render_webhook_secret(live.current) if live.current else "",
        "previous_secret": render_webhook_secret(live.previous) if live.previous else "",
        "previous_until": live.previous_until,
    }
    if not as_json:
        shown["secret"] = shown["secret"] or "none: notifications are not signed"
        if live.previous_until is not None:
            shown["previous_until"] = f"{live.previous_until.astimezone(KAZAKHSTAN):%Y-%m-%d %H:%M:%S} {KAZAKHSTAN}"
        shown = {name: value for name, value in shown.items() if value}
    console.show(shown, as_json)
