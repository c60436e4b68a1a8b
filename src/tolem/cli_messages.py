"""Commands for people who ask where a notification is: why an order is unpaid, what was sent, sending it again."""

import asyncio
import getpass
import os
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

import click
import msgspec

from tolem import console
from tolem.clock import KAZAKHSTAN, Clock
from tolem.console import parse_duration
from tolem.domain.message import UNDELIVERED, Message, MessageState
from tolem.domain.order import Order
from tolem.domain.story import Fact, Story
from tolem.flows.directory import Directory
from tolem.flows.inspection import InspectedMessage, Inspection, ListedMessage
from tolem.flows.redelivery import Redelivery, Resent
from tolem.i18n import story as words
from tolem.i18n.story import ToldLine, format_moment
from tolem.i18n.translator import Translator, load_translator
from tolem.ids import Ids
from tolem.storage.store import Store
from tolem.wire import messages as wire

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

LANGUAGES = ("en", "ru", "kk")
FOLLOW_SECONDS = 0.5
FOLLOWED_MAX = 500
"""Messages that `--follow` watches: the newest, and the newest undelivered ones."""
RESENDABLE = (MessageState.WAITING, MessageState.DELIVERED, MessageState.DEAD)
SIGNS = {"done": ("✓", "green"), "open": ("…", "yellow"), "bad": ("✗", "red")}
STATE_COLOURS = {
    MessageState.DELIVERED: "green",
    MessageState.DEAD: "red",
    MessageState.WAITING: "yellow",
    MessageState.SENDING: "yellow",
    MessageState.WITHDRAWN: None,
}


class Desk(NamedTuple):
    """What the commands work with."""

    store: Store
    clock: Clock
    ids: Ids
    inspection: Inspection


def _instant(
    context: click.Context, option: click.Parameter, text: str | None
) -> Callable[[datetime], datetime] | None:
    """`2h` ago, or a date with or without a time, of Kazakhstan unless it says otherwise."""
    if text is None:
        return None
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        try:
            ago = parse_duration(text)
        except click.BadParameter:
            raise click.BadParameter(f"{text!r} is no time: use 2h, 3d, 2026-11-24 or 2026-11-24T09:30") from None
        return lambda now: now - ago
    aware = instant.replace(tzinfo=KAZAKHSTAN) if instant.tzinfo is None else instant
    return lambda now: aware.astimezone(UTC)


_DATABASE = click.option("--database", metavar="URL", help="sqlite:///tolem.db or postgresql://…")
_JSON = click.option("--json", "as_json", is_flag=True, help="JSON instead of text.")
_LANGUAGE = click.option("--language", type=click.Choice(LANGUAGES), default="en", show_default=True)
_TERMINAL = click.option("--terminal", "terminal_id", type=click.UUID, metavar="ID", help="Of this terminal only.")
_SINCE = click.option(
    "--since", callback=_instant, metavar="TIME", help="Composed since: 2h, 3d, or 2026-11-24T09:30 in Kazakhstan."
)


@click.command()
@click.argument("invoice")
@_TERMINAL
@_LANGUAGE
@_DATABASE
@_JSON
def why(invoice: str, terminal_id: UUID | None, language: str, database: str | None, as_json: bool) -> None:
    """Tell why an order stands as it stands, and what to do next.

    The whole chain: token, page, card, authentication, authorization, notification, each try and the shop's answer.
    """

    async def work(desk: Desk) -> tuple[Order, Story]:
        order = await desk.inspection.get_order(invoice, _only(terminal_id))
        return order, await desk.inspection.tell(order)

    order, story = _at_desk(database, work)
    translator = load_translator(words.CATALOGUE)
    if as_json:
        _show_json(
            {"invoice": order.invoice_id, "terminal": str(order.terminal_id), "status": order.status}
            | words.describe_story(translator, language, story)
        )
        return
    headline, lines = words.tell_lines(translator, language, story)
    click.echo(_coloured(headline.text, headline.mark))
    click.echo()
    for line in lines:
        _show_line(line)
    _show_advice(translator, language, headline)


@click.group(invoke_without_command=True)
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice([*(state.value for state in MessageState), "undelivered"]),
    help="May be repeated; undelivered: waiting or being sent.",
)
@_TERMINAL
@click.option("--order", "invoice", metavar="INVOICE", help="Of this order only.")
@_SINCE
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True)
@click.option("--follow", is_flag=True, help="Go on with what happens, until Ctrl-C.")
@_DATABASE
@_JSON
@click.pass_context
def messages(
    context: click.Context,
    states: tuple[str, ...],
    terminal_id: UUID | None,
    invoice: str | None,
    since: Callable[[datetime], datetime] | None,
    limit: int,
    follow: bool,
    database: str | None,
    as_json: bool,
) -> None:
    """List notifications, newest first; with --follow, as they happen."""
    if context.invoked_subcommand is not None:
        return
    wanted = frozenset(_parse_states(states))

    async def work(desk: Desk) -> None:
        since_at = since(desk.clock.now()) if since else None
        find = _finder(desk, wanted, terminal_id, invoice, since_at)
        if follow:
            await _follow(desk, find, wanted, limit, as_json)
            return
        listed = await desk.inspection.describe(await find(limit))
        if as_json:
            _show_json([_row(one) for one in listed])
            return
        for one in listed:
            _show_row(one)
        if not listed:
            click.echo("none")

    _at_desk(database, work)


@messages.command("show")
@click.argument("message_id", type=click.UUID)
@_LANGUAGE
@_DATABASE
@_JSON
def messages_show(message_id: UUID, language: str, database: str | None, as_json: bool) -> None:
    """Show one notification: its body, and each try with what was sent and answered."""
    found = _at_desk(database, lambda desk: desk.inspection.get_message(message_id))
    translator = load_translator(words.CATALOGUE)
    end = words.tell_line(translator, language, found.end)
    told = wire.describe_delivery(
        found.delivery.message, found.order.invoice_id, found.delivery.attempts, found.waits_for
    )
    if as_json:
        _show_json(told | {"summary": end.text, "advice": end.advice})
        return
    _show_delivery(told, found, end)
    _show_interrupted(translator, language, found)
    _show_advice(translator, language, end)


@click.command()
@click.argument("message_ids", nargs=-1, type=click.UUID, metavar="[ID]...")
@click.option("--dead", is_flag=True, help="All that were given up.")
@_SINCE
@_TERMINAL
@_DATABASE
def redeliver(
    message_ids: tuple[UUID, ...],
    dead: bool,
    since: Callable[[datetime], datetime] | None,
    terminal_id: UUID | None,
    database: str | None,
) -> None:
    """Send notifications again: the same bytes, the same webhook-id, a new schedule.

    Name them, or say --dead (given up), --since TIME (all since then, also what was delivered), or both. Who asked for
    it is kept.
    """
    is_bulk = dead or since is not None
    if bool(message_ids) == is_bulk:
        raise click.UsageError("name messages by their ids, or say --dead or --since")

    async def work(desk: Desk) -> Resent:
        redelivery = Redelivery(desk.store, desk.clock, desk.ids)
        who = f"by {os.environ.get('SUDO_USER') or getpass.getuser()} at the command line"
        if not is_bulk:
            for message_id in message_ids:
                again = await redelivery.redeliver(message_id, who, terminals=_only(terminal_id))
                if again.waits_for:
                    click.echo(
                        f"{message_id} waits until its order's earlier message {again.waits_for} is delivered or ends"
                    )
            return Resent(len(message_ids), 0)
        return await redelivery.redeliver_all(
            desk.inspection,
            who,
            states=(MessageState.DEAD,) if dead else RESENDABLE,
            terminals=_only(terminal_id),
            since=since(desk.clock.now()) if since else None,
            on_progress=lambda so_far: click.echo(f"\r{so_far.sent} …", nl=False, err=True),
        )

    resent = _at_desk(database, work)
    if is_bulk:
        click.echo("\r", nl=False, err=True)
    click.echo(f"to be sent again: {resent.sent}")
    if resent.waiting:
        click.echo(f"of these, behind an earlier message of their order that is not delivered: {resent.waiting}")
    if resent.left:
        click.echo(f"left as they are, on their way just now or overtaken by a newer token: {resent.left}")


Find = Callable[[int], Coroutine[Any, Any, list[Message]]]
"""So many of the newest messages of a list."""


def _finder(
    desk: Desk,
    states: frozenset[MessageState],
    terminal_id: UUID | None,
    invoice: str | None,
    since: datetime | None,
) -> Find:
    async def of_order(limit: int) -> list[Message]:
        order = await desk.inspection.get_order(invoice or "", _only(terminal_id))
        return (await desk.inspection.page_of_order(order, states=states, since=since, limit=limit)).messages

    async def of_all(limit: int) -> list[Message]:
        found: list[Message] = []
        page = await desk.inspection.list_messages(_only(terminal_id), states=states, since=since, limit=limit)
        while True:
            found += page.messages
            if page.next is None or len(found) >= limit:
                return found[:limit]
            page = await desk.inspection.list_messages(
                _only(terminal_id), states=states, since=since, before=page.next, limit=limit
            )

    return of_order if invoice else of_all


async def _follow(desk: Desk, find: Find, wanted: frozenset[MessageState], limit: int, as_json: bool) -> None:
    """Each message whenever it has changed: the newest ones and those that are waited for are looked at again and
    again."""
    watch = _finder(desk, frozenset(UNDELIVERED), None, None, None)
    seen: dict[UUID, tuple[MessageState, int]] = {}
    for message in (await find(limit))[::-1]:
        await _show_followed(desk, message, as_json)
    baseline = True
    while True:
        newest = {message.id: message for message in (*await watch(FOLLOWED_MAX), *await find(FOLLOWED_MAX))}
        gone = [message_id for message_id in seen if message_id not in newest]
        for message_id in gone:  # delivered meanwhile, or too old to be looked at
            message = (await desk.inspection.get_message(message_id)).delivery.message
            newest[message_id] = message
        for message in sorted(newest.values(), key=lambda one: one.id):
            state = (message.state, message.tries)
            if not baseline and seen.get(message.id) != state and message.state in wanted:
                await _show_followed(desk, message, as_json)
            seen[message.id] = state
        for message_id in gone:
            del seen[message_id]
        baseline = False
        await asyncio.sleep(FOLLOW_SECONDS)


async def _show_followed(desk: Desk, message: Message, as_json: bool) -> None:
    (listed,) = await desk.inspection.describe((message,))
    if as_json:
        click.echo(msgspec.json.encode(_row(listed)).decode())
    else:
        _show_row(listed)


def _at_desk(database: str | None, work: Callable[[Desk], Coroutine[Any, Any, T]]) -> T:
    config = console.load({"database": database})

    async def run(store: Store) -> T:
        clock, ids = await console.open_time(store, config)
        return await work(Desk(store, clock, ids, Inspection(store, Directory(store), clock)))

    return console.with_store(config, run)


def _only(terminal_id: UUID | None) -> tuple[UUID, ...] | None:
    return None if terminal_id is None else (terminal_id,)


def _parse_states(names: tuple[str, ...]) -> tuple[MessageState, ...]:
    if not names:
        return tuple(MessageState)
    return tuple(state for name in names for state in (UNDELIVERED if name == "undelivered" else (MessageState(name),)))


def _row(listed: ListedMessage) -> dict[str, Any]:
    return wire.describe_message(*listed)


def _show_json(told: Any) -> None:
    click.echo(msgspec.json.format(msgspec.json.encode(told), indent=2))


def _show_row(listed: ListedMessage) -> None:
    """One line of a list."""
    message, invoice_id, last, waits_for = listed
    state = click.style(f"{message.state:9}", fg=STATE_COLOURS[message.state])
    tried = "not tried yet"
    if last is not None:
        tried = f"try {last.number}: {last.answer}, {last.duration_ms} ms"
    if waits_for is not None:
        tried += f"; waits for {waits_for}"
    elif message.state is MessageState.WAITING and message.due_at is not None:
        tried += f"; next {format_moment(message.due_at)}"
    click.echo(
        f"{format_moment(message.created_at)}  {state}  {invoice_id:15}  {message.kind:7}  {message.id}"
        f"  {message.host}  {tried}"
    )


def _show_line(line: ToldLine) -> None:
    sign, colour = SIGNS[line.mark]
    at = format_moment(line.at) if line.at else " " * 19
    click.echo(f"{click.style(sign, fg=colour)} {at}  {line.step:11} {line.text}")
    margin = " " * 35
    if line.quote:
        click.echo(f"{margin}“{line.quote}”")
    if line.advice and line.mark == "bad":
        click.echo(f"{margin}→ {line.advice}")


def _show_advice(translator: Translator, language: str, end: ToldLine) -> None:
    if end.advice:
        click.echo()
        click.echo(f"{click.style(translator.text(language, words.NEXT), bold=True)}: {end.advice}")
    click.echo()
    click.echo(translator.text(language, words.TIMES))


def _show_delivery(told: dict[str, Any], found: InspectedMessage, end: ToldLine) -> None:
    message = found.delivery.message
    click.echo(_coloured(f"{message.kind} of order {found.order.invoice_id}: {end.text}", end.mark))
    click.echo()
    click.echo(f"{'id':12} {message.id}")
    click.echo(f"{'to':12} {message.url}")
    click.echo(f"{'composed':12} {format_moment(message.created_at)}")
    click.echo(f"{'body':12} {len(message.body)} bytes")
    click.echo(_indent(told["body"]))
    for attempt, described in zip(found.delivery.attempts, told["attempts"], strict=True):
        click.echo()
        where = f" from {attempt.address}" if attempt.address else ""
        title = f"try {attempt.number}: {attempt.answer}{where} after {attempt.duration_ms} ms"
        click.echo(f"{click.style(title, bold=True)}  {format_moment(attempt.at)}")
        if described["headers"]:
            click.echo("  sent")
            click.echo(_indent("\n".join(f"{name}: {value}" for name, value in described["headers"])))
        if described["response"]:
            click.echo("  answered")
            click.echo(_indent(described["response"]))


def _show_interrupted(translator: Translator, language: str, found: InspectedMessage) -> None:
    for line in found.lines:
        if line.fact is Fact.TRY_INTERRUPTED:
            click.echo()
            _show_line(words.tell_line(translator, language, line))


def _indent(text: str) -> str:
    """Text from outside: what a terminal would obey is not printed."""
    lines = (
        "".join(c if c.isprintable() or c == "\t" else "\N{REPLACEMENT CHARACTER}" for c in line)
        for line in text.splitlines()
    )
    return "\n".join(f"    {line}" for line in lines)


def _coloured(text: str, mark: str) -> str:
    return click.style(text, fg=SIGNS[mark][1], bold=True)
