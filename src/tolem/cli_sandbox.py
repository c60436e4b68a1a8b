"""Commands of the sandbox's acquirer: the simulator as a program of its own, and its ledger for people and programs."""

import asyncio
import csv
import sys
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

import click
import msgspec

from tolem import __version__, console
from tolem.config import Config
from tolem.domain.money import render_amount, to_decimal

if TYPE_CHECKING:
    from tolem.sandbox.ledger import LedgerEntry, Page
    from tolem.storage.store import Store

F = TypeVar("F", bound=Callable[..., Any])

ALWAYS = (datetime(1970, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC))


def _instant(text: str | datetime) -> datetime:
    """A date (its first moment, UTC) or a date with a time (UTC unless it has an offset)."""
    if isinstance(text, datetime):  # the default
        return text
    try:
        instant = datetime.fromisoformat(text)
        return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)
    except (ValueError, OverflowError):
        raise click.BadParameter(f"{text!r} is no time: use 2026-11-24 or 2026-11-24T09:30:00Z") from None


_LEDGER = click.option(
    "--ledger", "simulator_ledger", metavar="URL", help="[default: beside the database, tolem-simulator.db]"
)
_DATABASE = click.option("--database", metavar="URL", help="The gateway's: its ledger is beside it.")


@click.command("acquirer-simulator")
@click.option("--host", "simulator_host", help="Address to listen on. [default: 127.0.0.1]")
@click.option("--port", "simulator_port", type=int, help="Port to listen on. [default: 8702]")
@_LEDGER
@_DATABASE
@click.option("--delay-seconds", "simulator_delay_seconds", type=float, help="A slow answer. [default: 3]")
@click.option("--late-seconds", "simulator_late_seconds", type=float, help="A late request. [default: 20]")
@click.option("--log-format", type=click.Choice(["json", "text"]), help="[default: json]")
def acquirer_simulator(**flags: Any) -> None:
    """Run the sandbox's acquirer as a program of its own.

    Gateways reach it with --acquirer-url. On an address beyond this machine it needs TOLEM_ACQUIRER_SECRET, which the
    gateways then have, too. It takes up the ledger that is there: what it approved before is known after a restart.
    """
    config = console.load(flags)
    console.run(config, _simulate(config))


@click.command()
@click.option("--all", "shows_all", is_flag=True, help="Also a card for each reason code.")
@click.option("--json", "as_json", is_flag=True, help="JSON instead of text.")
def cards(shows_all: bool, as_json: bool) -> None:
    """List the sandbox's test cards, and what each does.

    Any future expiry date and any security code of the right length will do.
    """
    from tolem.sandbox.cards import AUTHENTICATIONS, DECLINE_CODES, LINES, list_cards
    from tolem.wire.reasons import reason_text

    common = (484, 465, 481, 500)
    found = [card for card in list_cards() if shows_all or card.reason_code not in DECLINE_CODES.difference(common)]
    if as_json:
        rows = [
            {
                "number": card.number,
                "does": card.description,
                "reasonCode": card.reason_code,
                "authentication": card.authentication,
                "line": card.line,
            }
            for card in found
        ]
        click.echo(msgspec.json.encode(rows).decode())
        return
    for card in found:
        why = f" ({reason_text(card.reason_code)})" if card.reason_code in DECLINE_CODES else ""
        click.echo(f"{card.number:16}  {card.description}{why}")
    click.echo("\nOthers: 440043 RRR A N 0000 C. RRR: 000 approved, or a reason code to decline with; C: Luhn digit.")
    for name, digits in (("A, 3-D Secure", AUTHENTICATIONS), ("N, the acquirer's line", LINES)):
        click.echo(f"{name}:")
        for digit, what in digits.items():
            click.echo(f"  {digit} {what}")


@click.group()
def ledger() -> None:
    """The book of the sandbox's acquirer: what it was asked and what it did."""


def _period(command: F) -> F:
    for option in reversed(
        (
            _LEDGER,
            _DATABASE,
            click.option("--since", type=_instant, metavar="TIME", default=ALWAYS[0], help="From this time on."),
            click.option("--until", type=_instant, metavar="TIME", default=ALWAYS[1], help="Before this time."),
        )
    ):
        command = option(command)
    return command


_FORMAT = click.Choice(["text", "json", "csv"])


@ledger.command("list")
@_period
@click.option("--format", "form", type=_FORMAT, default="text", show_default=True)
def ledger_list(since: datetime, until: datetime, form: str, **flags: Any) -> None:
    """List the exchanges, oldest first. A running simulator goes on meanwhile."""
    _tell(console.load(flags), since, until, form)


@ledger.command("export")
@_period
@click.option("--format", "form", type=_FORMAT, default="csv", show_default=True)
def ledger_export(since: datetime, until: datetime, form: str, **flags: Any) -> None:
    """Write the exchanges to standard output: CSV with a header, or a line of JSON each. Amounts are decimal text."""
    _tell(console.load(flags), since, until, form)


async def _simulate(config: Config) -> None:
    from tolem import server
    from tolem.ids import Ids
    from tolem.sandbox.ledger import open_ledger
    from tolem.sandbox.line import Line
    from tolem.sandbox.program import build_program
    from tolem.sandbox.simulator import Simulator

    stopping = asyncio.Event()
    server.stop_on_signals(stopping)
    listener = console.bind(config.simulator_host, config.simulator_port)
    line = Line(
        Simulator(await open_ledger(config.ledger_url, instance=Ids().instance())),
        delay_seconds=config.simulator_delay_seconds,
        late_seconds=config.simulator_late_seconds,
    )

    async def announce() -> None:
        host, port = listener.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        click.echo(f"tolem {__version__} acquirer-simulator serves http://{shown}:{port}", err=True)

    try:
        app = build_program(line, config.acquirer_secret, stopping)
        await server.serve_apps([(app, listener)], stopping, on_started=announce)
    finally:
        await line.close()


def _tell(config: Config, since: datetime, until: datetime, form: str) -> None:
    """Nothing is written, no header either, before the first entries have been read."""
    from tolem.ids import Ids
    from tolem.sandbox.ledger import LedgerMissing, open_ledger_beside, read_page

    write = {"text": _write_text, "json": _write_json, "csv": _write_csv}[form]

    async def tell() -> None:
        book = await open_ledger_beside(config.ledger_url, instance=Ids().instance())
        try:
            first = await read_page(book, since, until)
            await write(_follow(book, since, until, first))
        finally:
            await book.close()

    with console.one_line_errors():
        try:
            asyncio.run(tell())
        except LedgerMissing as error:
            raise click.ClickException(str(error)) from error


async def _follow(book: "Store", since: datetime, until: datetime, page: "Page") -> AsyncIterator["LedgerEntry"]:
    """The entries of a page and of those behind it."""
    from tolem.sandbox.ledger import read_page

    while True:
        for entry in page.entries:
            yield entry
        if page.next is None:
            return
        page = await read_page(book, since, until, page.next)


async def _write_text(entries: AsyncIterator["LedgerEntry"]) -> None:
    """A table for people; every column but the last has its width."""
    click.echo(_row("time (UTC)", "exchange", "amount", "result", "card", "key", "of"))
    async for entry in entries:
        click.echo(
            _row(
                f"{entry.at:%Y-%m-%d %H:%M:%S}",
                entry.kind,
                f"{render_amount(entry.amount, entry.currency)} {entry.currency}",
                _result(entry),
                entry.masked_pan,
                str(entry.key),
                str(entry.original_key or ""),
            )
        )


def _row(at: str, kind: str, amount: str, result: str, card: str, key: str, of: str) -> str:
    return f"{at:19}  {kind:9}  {amount:>16}  {result:32}  {card:13}  {key:36}  {of}".rstrip()


def _result(entry: "LedgerEntry") -> str:
    """What became of it, in words."""
    if entry.verdict == "declined":
        return f"declined {entry.reason_code}"
    words = ["approved"]
    if entry.reason_code:
        words.append(f"told {entry.reason_code}")
    if entry.reversed_at:
        words.append("reversed")
    elif entry.voided_at:
        words.append("voided")
    elif entry.captured and entry.kind == "authorize":
        words.append(f"captured {render_amount(entry.captured, entry.currency)}")
    if entry.refunded:
        words.append(f"refunded {render_amount(entry.refunded, entry.currency)}")
    return ", ".join(words)


async def _write_json(entries: AsyncIterator["LedgerEntry"]) -> None:
    async for entry in entries:
        click.echo(msgspec.json.encode(_record(entry)).decode())


async def _write_csv(entries: AsyncIterator["LedgerEntry"]) -> None:
    from tolem.sandbox.ledger import LedgerEntry

    writer = csv.DictWriter(sys.stdout, LedgerEntry.__struct_fields__, lineterminator="\n")
    writer.writeheader()
    async for entry in entries:
        writer.writerow(_record(entry))


def _record(entry: "LedgerEntry") -> dict[str, Any]:
    """The entry's fields; amounts as decimal text with all decimals of the currency, instants in ISO 8601."""
    record: dict[str, Any] = msgspec.to_builtins(entry)
    for name in ("amount", "captured", "refunded"):
        record[name] = str(to_decimal(record[name], entry.currency))
    return record
