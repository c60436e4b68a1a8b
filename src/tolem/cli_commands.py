"""The commands that stand in modules of their own, imported when they are called: `tolem --help` tells them at once.

Called by cli. Invariant: a summary is what its command says itself; a test compares them.
"""

from importlib import import_module
from typing import Any, NamedTuple

import click

SUMMARY_LENGTH_MAX = 120


class Later(NamedTuple):
    """A command that is imported when it is called."""

    module: str
    attribute: str
    summary: str
    """Its line in the list of commands: what the command itself would say there."""


class LaterGroup(click.Group):
    """A group some of whose commands are imported when they are called: nobody waits for what others need."""

    def __init__(self, *arguments: Any, later: dict[str, Later], **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.later = later

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names."""
        return sorted((*self.commands, *self.later))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name, imported now if it has to be."""
        if cmd_name not in self.later:
            return super().get_command(ctx, cmd_name)
        command: click.Command = getattr(import_module(self.later[cmd_name].module), self.later[cmd_name].attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands, without importing any."""
        rows = [
            (
                name,
                self.later[name].summary
                if name in self.later
                else self.commands[name].get_short_help_str(SUMMARY_LENGTH_MAX),
            )
            for name in self.list_commands(ctx)
        ]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


COMMANDS = {
    "acquirer-simulator": Later(
        "tolem.cli_sandbox", "acquirer_simulator", "Run the sandbox's acquirer as a program of its own."
    ),
    "cards": Later("tolem.cli_sandbox", "cards", "List the sandbox's test cards, and what each does."),
    "clock": Later("tolem.cli_controls", "clock", "Tell a sandbox's time, or move it forward."),
    "faults": Later(
        "tolem.cli_controls", "faults", "List the faults that a sandbox makes on the way to shops, or change them."
    ),
    "keys": Later(
        "tolem.cli_keys",
        "keys",
        "The server's keys (server_key): under the first one secrets are sealed, with all they are opened.",
    ),
    "ledger": Later(
        "tolem.cli_sandbox", "ledger", "The book of the sandbox's acquirer: what it was asked and what it did."
    ),
    "maintenance": Later(
        "tolem.cli_maintenance",
        "maintenance",
        "Let payments wait, without a restart: pages say so, and open again by themselves.",
    ),
    "messages": Later(
        "tolem.cli_messages", "messages", "List notifications, newest first; with --follow, as they happen."
    ),
    "reconcile": Later(
        "tolem.cli_money",
        "reconcile_command",
        "Compare the acquirer's books with tolem's, and with what shops were told.",
    ),
    "redeliver": Later(
        "tolem.cli_messages",
        "redeliver",
        "Send notifications again: the same bytes, the same webhook-id, a new schedule.",
    ),
    "resolve": Later("tolem.cli_money", "resolve", "Settle an operation that recovery could not settle."),
    "scripts": Later(
        "tolem.cli_scripts", "scripts", "List what payment pages load, or compare a running gateway with that list."
    ),
    "why": Later("tolem.cli_messages", "why", "Tell why an order stands as it stands, and what to do next."),
}
TERMINAL_COMMANDS = {
    "secret": Later("tolem.cli_keys", "secret", "Webhook secrets: what a terminal's notifications are signed with."),
}
