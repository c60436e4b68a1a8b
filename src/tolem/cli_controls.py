"""Commands that play with a sandbox: its clock, and faults on the way to shops.

They speak to the running gateway, which does what falls due before it answers. Where none runs they change the database
itself; `--database` says so from the start.
"""

import base64
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from urllib.parse import quote

import click
import msgspec

from tolem import console
from tolem.clock import SystemClock
from tolem.config import Config
from tolem.console import parse_duration
from tolem.domain.message import MessageKind
from tolem.sandbox.faults import Corruption, FaultKind, FaultWish
from tolem.sandbox.state import SandboxState, SharedState, add_fault, remove_faults
from tolem.sandbox.time_machine import jump
from tolem.storage import keys
from tolem.storage.store import Store

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")

WAIT_SECONDS = 600
"""How long a move may take in real time."""
PROGRESS_SECONDS = 3.0
"""Between two lines about a move that takes long."""
ANSWER_SECONDS = 30.0
"""How long a gateway may take to answer what makes no work."""

_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def _where(command: F) -> F:
    for option in reversed(
        (
            click.option("--url", metavar="URL", help="The gateway. [default: this machine's, at the configured port]"),
            click.option("--database", metavar="URL", help="Change this database itself, past any gateway."),
            click.option("--json", "as_json", is_flag=True, help="JSON instead of text."),
        )
    ):
        command = option(command)
    return command


@click.group(invoke_without_command=True)
@_where
@click.pass_context
def clock(context: click.Context, url: str | None, database: str | None, as_json: bool) -> None:
    """Tell a sandbox's time, or move it forward."""
    if context.invoked_subcommand is not None:
        if url or database or as_json:
            raise click.UsageError(f"put the options behind {context.invoked_subcommand}")
        return
    config = load_sandbox(database)
    told = None if database else ask_gateway(config, url, "GET", "/sandbox/clock")
    if told is None:
        need_no_url(url)
        told = with_state(config, lambda state: state.read())
    _show(told, as_json)


@clock.command("advance")
@click.argument("duration", type=parse_duration, metavar="DURATION")
@_where
def clock_advance(duration: timedelta, url: str | None, database: str | None, as_json: bool) -> None:
    """Move the clock forward by DURATION: 3d, 2h30m, 90s.

    It stops wherever something falls due (a notification, a deadline, the end of a hold) until that is done, and the
    command ends when all is. `now` moves nothing and waits for what is due.
    """
    config = load_sandbox(database)
    told = None
    if not database:
        body = {"advance_seconds": int(duration.total_seconds()), "wait_seconds": WAIT_SECONDS}
        with _telling_progress(config, url):
            told = ask_gateway(config, url, "POST", "/sandbox/clock", body, WAIT_SECONDS + ANSWER_SECONDS)
    if told is None:
        need_no_url(url)
        told = with_state(config, lambda state: state.change(lambda current: jump(current, duration)))
        click.echo(
            "no gateway was asked: a running one follows within a second, and then does what has fallen due", err=True
        )
    _show(told, as_json)


@contextmanager
def _telling_progress(config: Config, url: str | None) -> Iterator[None]:
    """Meanwhile a line on standard error now and then, of the time that a move has reached and what is left of it."""
    ended = threading.Event()

    def tell() -> None:
        while not ended.wait(PROGRESS_SECONDS):
            try:
                told = ask_gateway(config, url, "GET", "/sandbox/clock")
            except click.ClickException:
                continue  # the move itself tells what is wrong
            if told and told["moving_to"] and not ended.is_set():
                now, end = (datetime.fromisoformat(told[name]) for name in ("now", "moving_to"))
                click.echo(f"… {_show_instant(now)}, still to come: {_words(end - now)}", err=True)

    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    try:
        yield
    finally:
        ended.set()


@click.group(invoke_without_command=True)
@_where
@click.pass_context
def faults(context: click.Context, url: str | None, database: str | None, as_json: bool) -> None:
    """List the faults that a sandbox makes on the way to shops, or change them."""
    if context.invoked_subcommand is not None:
        if url or database or as_json:
            raise click.UsageError(f"put the options behind {context.invoked_subcommand}")
        return
    _show_faults(_ask_or_do(url, database, "GET", "/sandbox/faults", None, _read_faults), as_json)


@faults.command("add")
@click.argument("fault", type=click.Choice([kind.value for kind in FaultKind]))
@click.option("--invoice", help="Only the order of this invoice.")
@click.option("--terminal", type=click.UUID, help="Only messages of this terminal.")
@click.option(
    "--message",
    "messages",
    multiple=True,
    type=click.Choice([kind.value for kind in MessageKind]),
    help="Only these. May be repeated.",
)
@click.option("--percent", type=int, help="So many of a hundred are met. [default: 100]")
@click.option("--seed", type=int, help="Makes the same run again. [default: drawn]")
@click.option("--tries", type=int, help="lose, lose_answer, repeat, corrupt: the first so many tries. [default: 1]")
@click.option("--seconds", type=int, help="delay, reorder: how long a message is held. [default: 60]")
@click.option("--times", type=int, help="repeat: how often the shop gets it. [default: 2]")
@click.option(
    "--how", type=click.Choice([how.value for how in Corruption]), help="corrupt: how bytes change. [default: drawn]"
)
@_where
def faults_add(fault: str, url: str | None, database: str | None, as_json: bool, **options: Any) -> None:
    """Make a fault.

    \b
    lose           the try never reaches the shop
    lose_answer    the shop gets it, and its answer never arrives
    delay          the message sets out later
    repeat         the shop gets the try several times
    reorder        newer messages go first
    corrupt        the shop gets other bytes than were sent
    after_return   the browser is back before the notification
    before_return  the notification is there before the browser
    """
    given = {name: value for name, value in options.items() if value not in (None, ())}
    wish = {"fault": fault} | {name: str(value) if name == "terminal" else value for name, value in given.items()}

    async def add(state: SharedState) -> Any:
        return await add_fault(state, msgspec.convert(wish, FaultWish))

    _show_faults([_ask_or_do(url, database, "POST", "/sandbox/faults", wish, add)], as_json)


@faults.command("remove")
@click.argument("fault_ids", nargs=-1, metavar="ID…")
@click.option("--all", "is_all", is_flag=True, help="All of them.")
@_where
def faults_remove(
    fault_ids: tuple[str, ...], is_all: bool, url: str | None, database: str | None, as_json: bool
) -> None:
    """End faults."""
    if is_all == bool(fault_ids):
        raise click.UsageError("name faults, or say --all")
    left: Any = []
    for fault_id in fault_ids or (None,):
        path = f"/sandbox/faults/{quote(fault_id, safe='')}" if fault_id else "/sandbox/faults"

        async def remove(state: SharedState, fault_id: str | None = fault_id) -> Any:
            return (await remove_faults(state, fault_id)).faults

        left = _ask_or_do(url, database, "DELETE", path, None, remove)
    _show_faults(left, as_json)


async def _read_faults(state: SharedState) -> Any:
    return (await state.read()).faults


def _ask_or_do(
    url: str | None,
    database: str | None,
    method: str,
    path: str,
    body: Any,
    work: Callable[[SharedState], Coroutine[Any, Any, Any]],
) -> Any:
    """What the gateway answers; where none runs, what `work` on the database comes to, as JSON has it."""
    config = load_sandbox(database)
    told = None if database else ask_gateway(config, url, method, path, body)
    if told is None:
        need_no_url(url)
        told = msgspec.to_builtins(with_state(config, work))
    return told


def _show_faults(found: Sequence[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(found), indent=2))
        return
    for fault in found:
        words = [f"{fault['id']:4} {fault['fault']:13}"]
        for name, value in fault.items():
            if name not in ("id", "fault"):
                words.append(f"{name} {', '.join(value) if isinstance(value, list) else value}")
        click.echo("  ".join(words))
    if not found:
        click.echo("no faults")


def load_sandbox(database: str | None) -> Config:
    """The settings in force; production ends the command."""
    config = console.load({"database": database})
    if not config.is_sandbox:
        raise click.ClickException("this is for a sandbox only, and mode is production")
    return config


def ask_gateway(
    config: Config, url: str | None, method: str, path: str, body: Any = None, seconds: float = ANSWER_SECONDS
) -> Any:
    """What the sandbox's gateway at `url`, or at the settings' own address, answers; None: nobody listens there.

    A refusal ends the command with the gateway's words.
    """
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(config.host, config.host)  # noqa: S104 - where it listens
    base = (url or f"http://{f'[{host}]' if ':' in host else host}:{config.port}").rstrip("/")
    headers = {"content-type": "application/json", "accept": "application/json"}
    if config.sandbox_password:
        secret = base64.b64encode(f"sandbox:{config.sandbox_password}".encode()).decode()
        headers["authorization"] = f"Basic {secret}"
    data = None if body is None else json.dumps(body).encode()
    try:
        request = urllib.request.Request(base + path, data, headers, method=method)  # noqa: S310 - the person's own
        with _OPENER.open(request, timeout=seconds) as answer:
            return json.loads(answer.read() or b"null")
    except urllib.error.HTTPError as error:
        with error:
            raise click.ClickException(_told_by(base, error)) from error
    except urllib.error.URLError as error:
        if isinstance(error.reason, ConnectionRefusedError):
            return None
        raise click.ClickException(f"{base}: {error.reason}") from error
    except (OSError, ValueError) as error:
        raise click.ClickException(f"{base}: {type(error).__name__}: {error}") from error


def _told_by(base: str, error: urllib.error.HTTPError) -> str:
    """What a gateway's refusal means for the person at the command line."""
    if error.code == 401:
        return f"{base} asks for a password: set TOLEM_SANDBOX_PASSWORD"
    try:
        message = str(json.loads(error.read())["message"])
    except (ValueError, KeyError, TypeError):
        message = f"answered {error.code}"
    if error.code == 404 and message.startswith("nothing is served"):
        return f"{base} is no sandbox of this version of tolem"
    return message


def need_no_url(url: str | None) -> None:
    """A gateway that was named has to be there."""
    if url:
        raise click.ClickException(f"nobody listens at {url}: start tolem serve, or leave --url out")


def with_state(config: Config, work: Callable[[SharedState], Coroutine[Any, Any, T]]) -> T:
    """Runs `work` on the state that the sandbox's processes share, in the database itself."""

    async def run(store: Store) -> T:
        mode = await store.find(keys.setting_by_name("mode"))
        if mode is None or mode.value != "sandbox":
            raise click.ClickException("this is for a sandbox only, and the database is none")
        return await work(SharedState(store))

    return console.with_store(config, run)


def _show(told: dict[str, Any] | SandboxState, as_json: bool) -> None:
    """The gateway's answer, or the same made of the stored state."""
    if isinstance(told, SandboxState):
        real_now = SystemClock().real_now()
        told = {"now": real_now + told.offset, "real_now": real_now, "offset_seconds": told.offset.total_seconds()}
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(told), indent=2))
        return
    now = told["now"] if isinstance(told["now"], datetime) else datetime.fromisoformat(told["now"])
    offset = timedelta(seconds=told["offset_seconds"])
    ahead = f"{_words(offset)} ahead of real time" if offset else "real time"
    click.echo(f"{_show_instant(now)}, {ahead}")


def _show_instant(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _words(duration: timedelta) -> str:
    """`3 d 2 h 5 min 4 s`, without what is nothing."""
    seconds = round(duration.total_seconds())
    parts = ((seconds // 86_400, "d"), (seconds // 3600 % 24, "h"), (seconds // 60 % 60, "min"), (seconds % 60, "s"))
    return " ".join(f"{number} {unit}" for number, unit in parts if number) or "less than a second"
