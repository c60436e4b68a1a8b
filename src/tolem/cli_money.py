"""Commands for people who watch over money: what is open, what they decide, whether the books agree."""

import getpass
import os
import sys
from datetime import UTC, date, datetime, time, timedelta
from uuid import UUID

import click
import msgspec

from tolem import console
from tolem.clock import KAZAKHSTAN
from tolem.config import Config
from tolem.domain.money import render_amount
from tolem.flows.directory import Directory
from tolem.flows.reconciliation import Report, reconcile
from tolem.flows.resolution import Resolution
from tolem.storage.store import Store

DIFFERENCES_STATUS = 1
UNREADABLE_STATUS = 2

_DATABASE = click.option("--database", metavar="URL", help="sqlite:///tolem.db or postgresql://…")
_JSON = click.option("--json", "as_json", is_flag=True, help="JSON instead of text.")


@click.command()
@click.argument("operation_id", type=click.UUID, required=False)
@click.option("--list", "as_list", is_flag=True, help="List what has no known outcome, and change nothing.")
@click.option("--happened/--did-not-happen", "happened", default=None, help="What you know from the acquirer.")
@click.option("--approval-code", default="", help="Of a payment that happened: from the acquirer's statement.")
@click.option("--reference", default="", help="Its RRN, if the acquirer's statement has another one than tolem.")
@click.option("--retry", is_flag=True, help="The acquirer is back: let recovery ask it at once.")
@click.option("--reason", default="", help="Why you know, 10 characters or more: kept, with your name.")
@_DATABASE
@_JSON
def resolve(
    operation_id: UUID | None,
    as_list: bool,
    happened: bool | None,
    approval_code: str,
    reference: str,
    retry: bool,
    reason: str,
    database: str | None,
    as_json: bool,
) -> None:
    """Settle an operation that recovery could not settle.

    Ask the acquirer first: what you say here counts as its answer, and the shop is told. What recovery still
    works on is not yours to settle: --list says what waits for you.
    """
    config = console.load({"database": database})
    if as_list or operation_id is None:
        console.with_store(config, lambda store: _list_open(store, config, as_json))
        return
    if retry == (happened is not None):
        raise click.UsageError("say one of --happened, --did-not-happen and --retry")

    async def work(store: Store) -> None:
        resolution = await _open_resolution(store, config)
        if happened is None:
            await resolution.retry(operation_id, reason=reason, who=_who())
            click.echo("recovery asks the acquirer at once; tolem resolve --list tells what came of it")
            return
        recorded = await resolution.resolve(
            operation_id,
            happened=happened,
            reason=reason,
            who=_who(),
            approval_code=approval_code,
            reference=reference,
        )
        words = "happened" if happened else "did not happen"
        click.echo(f"settled: the operation {words}; the payment is {recorded.status}")

    console.with_store(config, work)


@click.command("reconcile")
@click.option(
    "--acquirer", "acquirer_url", metavar="URL", help="The acquirer's address; left out: this sandbox's own ledger."
)
@click.option("--date", "day", type=click.DateTime(["%Y-%m-%d"]), help="One day in Kazakhstan; left out: everything.")
@_DATABASE
@_JSON
def reconcile_command(acquirer_url: str | None, day: datetime | None, database: str | None, as_json: bool) -> None:
    """Compare the acquirer's books with tolem's, and with what shops were told.

    Gateways may run meanwhile: what is too young to be in all books is counted, and not compared.

    Exit status 0: they agree; 1: they differ; 2: a side could not be read.
    """
    config = console.load({"database": database, "acquirer_url": acquirer_url})
    since, until = _day(day.date() if day else None)
    on_its_way = timedelta(seconds=config.acquirer_timeout_seconds + config.recovery_margin_seconds)

    async def work(store: Store) -> Report:
        from tolem import bootstrap

        books = await bootstrap.open_books(config)
        try:
            clock, _ = await console.open_time(store, config)
            if day and since > clock.now():
                raise click.UsageError(f"--date: {day.date()} has not begun yet in Kazakhstan")
            return await reconcile(store, books, since, until, young_since=clock.now() - on_its_way)
        finally:
            await books.close()

    try:
        report = console.with_store(config, work)
    except click.ClickException as error:
        error.show()
        sys.exit(UNREADABLE_STATUS)
    except Exception as error:
        click.echo(f"Error: the books cannot be compared: {type(error).__name__}: {error}", err=True)
        sys.exit(UNREADABLE_STATUS)
    _show_report(report, as_json)
    sys.exit(DIFFERENCES_STATUS if report.differences else 0)


async def _open_resolution(store: Store, config: Config) -> Resolution:
    return Resolution(store, Directory(store), *await console.open_time(store, config))


async def _list_open(store: Store, config: Config, as_json: bool) -> None:
    resolution = await _open_resolution(store, config)
    found = await resolution.list_open()
    if as_json:
        rows = [
            {
                "operation": str(entry.operation.id),
                "payment": str(entry.operation.payment_id),
                "invoice": entry.invoice_id,
                "kind": entry.operation.kind,
                "status": entry.operation.status,
                "amount": render_amount(entry.operation.amount, entry.currency),
                "currency": entry.currency,
                "tries": entry.operation.tries,
                "age_seconds": entry.age_seconds,
                "needs_people": entry.operation.alerted_at is not None,
            }
            for entry in found
        ]
        click.echo(msgspec.json.format(msgspec.json.encode(rows), indent=2))
        return
    for entry in found:
        waits = "waits for you" if entry.operation.alerted_at else f"recovery, {entry.operation.tries} tries"
        amount = f"{render_amount(entry.operation.amount, entry.currency)} {entry.currency}"
        click.echo(
            f"{entry.operation.id}  order {entry.invoice_id}  {entry.operation.kind} {amount}"
            f"  {entry.operation.status} for {entry.age_seconds} s  ({waits})"
        )
    if not found:
        click.echo("nothing is open")


def _show_report(report: Report, as_json: bool) -> None:
    if as_json:
        rows = [
            {
                **difference._asdict(),
                "key": str(difference.key) if difference.key else None,
                "advice": difference.advice,
            }
            for difference in report.differences
        ]
        told = {
            "differences": rows,
            "operations": report.operations,
            "acquirer_lines": report.lines,
            "orders": report.orders,
            "too_young": report.young,
        }
        click.echo(msgspec.json.format(msgspec.json.encode(told), indent=2))
        return
    for difference in report.differences:
        what = difference.key or "notification"
        click.echo(f"{difference.cause}: {what}  order {difference.invoice_id or '?'}")
        click.echo(f"    here: {difference.here}; there: {difference.there}")
        click.echo(f"    {difference.advice}")
    click.echo(
        f"{len(report.differences)} differences; compared {report.operations} operations,"
        f" {report.lines} lines of the acquirer, {report.orders} orders; {report.young} too young to be compared"
    )


def _day(day: date | None) -> tuple[datetime, datetime]:
    """The instants of a day in Kazakhstan; of all days for None."""
    if day is None:
        return datetime(1970, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC)
    begin = datetime.combine(day, time(), KAZAKHSTAN).astimezone(UTC)
    return begin, begin + timedelta(days=1)


def _who() -> str:
    """Who is at the command line, for the audit: behind sudo, the person's own name."""
    return os.environ.get("SUDO_USER") or getpass.getuser()
