"""Commands that play with a sandbox: its clock.

They speak to the running gateway, which does what falls due before it answers. Where none runs they change the database
itself; `--database` says so from the start.
"""

import base64
import json
import re
import urllib.error
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import click
import msgspec

from tolem import console
from tolem.clock import SystemClock
from tolem.config import Config
from tolem.sandbox.state import SandboxState, SharedState
from tolem.sandbox.time_machine import jump
from tolem.storage import keys
from tolem.storage.store import Store

F = TypeVar("F", bound=Callable[..., Any])

UNITS = {"w": 604_800, "d": 86_400, "h": 3_600, "m": 60, "s": 1}
WAIT_SECONDS = 600
"""How long a move may take in real time."""
ANSWER_SECONDS = 30.0
"""How long a gateway may take to answer what makes no work."""

_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))
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
        told = ask_gateway(config, url, "POST", "/sandbox/clock", body, WAIT_SECONDS + ANSWER_SECONDS)
    if told is None:
        need_no_url(url)
        told = with_state(config, lambda state: state.change(lambda current: jump(current, duration)))
        click.echo(
            "no gateway was asked: a running one follows within a second, and then does what has fallen due", err=True
        )
    _show(told, as_json)


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


def with_state(config: Config, work: Callable[[SharedState], Any]) -> SandboxState:
    """Runs `work` on the state that the sandbox's processes share, in the database itself."""

    async def run(store: Store) -> SandboxState:
        mode = await store.find(keys.setting_by_name("mode"))
        if mode is None or mode.value != "sandbox":
            raise click.ClickException("this is for a sandbox only, and the database is none")
        state: SandboxState = await work(SharedState(store))
        return state

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
    click.echo(f"{now.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC, {ahead}")


def _words(duration: timedelta) -> str:
    """`3 d 2 h 5 min 4 s`, without what is nothing."""
    seconds = round(duration.total_seconds())
    parts = ((seconds // 86_400, "d"), (seconds // 3600 % 24, "h"), (seconds // 60 % 60, "min"), (seconds % 60, "s"))
    return " ".join(f"{number} {unit}" for number, unit in parts if number) or "less than a second"
