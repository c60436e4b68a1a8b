"""The command line: servers, and administration beside them. `tolem --help` tells it all.

A command is imported when it is called, and what serves or administers inside the commands that do: nobody waits for
what others need.
"""

import asyncio
import sys
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

import click

from tolem import __version__, console
from tolem.cli_commands import COMMANDS, TERMINAL_COMMANDS, LaterGroup
from tolem.config import Config
from tolem.domain.appearance import LOGO_BYTES_MAX

if TYPE_CHECKING:
    from tolem.flows.administration import Administration
    from tolem.storage.store import Store

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

_DATABASE = click.option("--database", metavar="URL", help="sqlite:///tolem.db or postgresql://…")
_JSON = click.option("--json", "as_json", is_flag=True, help="JSON instead of text.")


def _serve_options(command: F) -> F:
    for option in reversed(
        (
            click.option("--host", help="Address to listen on. [default: 127.0.0.1]"),
            click.option("--port", type=int, help="Port to listen on. [default: 8700]"),
            _DATABASE,
            click.option("--public-url", metavar="URL", help="Address at which browsers reach the gateway."),
            click.option("--trusted-proxies", metavar="LIST", help="Proxies whose X-Forwarded-* count."),
            click.option("--log-format", type=click.Choice(["json", "text"]), help="[default: json]"),
        )
    ):
        command = option(command)
    return command


def _limit_options(command: F) -> F:
    for option in reversed(
        (
            click.option(
                "--attempt-limits",
                type=click.Choice(["on", "off"]),
                help="Let declined cards and addresses wait. [default: on in production, off in the sandbox]",
            ),
            click.option("--card-declines-max", type=int, help="Declines of a card before it waits. [default: 5]"),
            click.option("--address-declines-max", type=int, help="The same of a payer's address. [default: 30]"),
            click.option("--terminal-declines-max", type=int, help="Declines of a terminal, likewise. [default: 300]"),
            click.option("--declines-minutes", type=int, help="In which so many fade. [default: 60]"),
            click.option("--attempt-wait-seconds", type=float, help="The first wait; it doubles. [default: 15]"),
            click.option("--attempt-wait-seconds-max", type=float, help="The longest wait. [default: 600]"),
        )
    ):
        command = option(command)
    return command


@click.group(
    cls=LaterGroup, later=COMMANDS, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(__version__, prog_name="tolem")
def main() -> None:
    """Tolem: a payment page and gateway that speaks the protocol of Halyk ePay.

    Every option is also an environment variable TOLEM_<NAME> and a key of tolem.toml; the option wins.
    """


@main.command()
@_serve_options
@click.option("--workers", type=int, help="Processes; more than one needs PostgreSQL. [default: 1]")
@click.option("--acquirer-url", metavar="URL", help="Acquirer that runs as a program of its own.")
@_limit_options
def serve(**flags: Any) -> None:
    """Run the gateway: pages, tokens, notifications, recovery."""
    from tolem.server import is_worker

    config = console.load(flags)
    if config.workers > 1 and not is_worker():
        _supervise(config)
    console.run(config, _serve(config))


@main.command()
@_serve_options
@click.option("--shop-port", type=int, help="Port of the demo shop. [default: 8701]")
def demo(**flags: Any) -> None:
    """Run the gateway and a demo shop that buys through it."""
    if flags["log_format"] is None:
        flags["log_format"] = "text"
    config = console.load(flags)
    console.run(config, _demo(config))


@main.command()
@_DATABASE
@click.option("--acquirer-url", metavar="URL", help="Acquirer that runs as a program of its own.")
@click.option("--log-format", type=click.Choice(["json", "text"]), help="[default: json]")
def worker(**flags: Any) -> None:
    """Run notifications and recovery alone, beside gateways on one PostgreSQL."""
    config = console.load(flags)
    console.run(config, _work(config))


@main.command()
@_DATABASE
def migrate(**flags: Any) -> None:
    """Create or upgrade the tables of the database."""
    from tolem import bootstrap
    from tolem.storage import migrate as migrations

    config = console.load(flags)
    with console.one_line_errors():
        stamp = migrations.migrate(config.database, mode=config.mode)
    if config.is_sandbox and stamp.mode == config.mode:
        console.with_store(config, lambda store: bootstrap.publish(config, store))
    click.echo(f"the database is at version {stamp.version}, for {stamp.mode}")


@main.group()
def merchant() -> None:
    """Merchants: the shops' OAuth clients."""


@merchant.command("add")
@click.argument("client_id")
@click.option("--name", required=True, help="Shown to payers.")
@click.option("--secret", help="Client secret, 24 characters or more; made if it is left out.")
@click.option("--expires-in-text", is_flag=True, help="Give expires_in as text, as the bank's mobile SDK wants.")
@_DATABASE
@_JSON
def merchant_add(
    client_id: str, name: str, secret: str | None, expires_in_text: bool, as_json: bool, database: str | None
) -> None:
    """Add a merchant; its secret is shown once."""

    async def add(admin: "Administration") -> dict[str, Any]:
        added = await admin.add_merchant(client_id, name, secret, expires_in_text=expires_in_text)
        return {**_describe(added.merchant), "client_secret": added.secret}

    console.show(_administer(database, add), as_json)


@merchant.command("rotate-secret")
@click.argument("client_id")
@click.option("--secret", help="The new secret; made if it is left out.")
@_DATABASE
@_JSON
def merchant_rotate(client_id: str, secret: str | None, as_json: bool, database: str | None) -> None:
    """Give a merchant a new secret; the old one ends."""

    async def rotate(admin: "Administration") -> dict[str, Any]:
        rotated = await admin.rotate_secret(client_id, secret)
        return {"client_id": rotated.merchant.client_id, "client_secret": rotated.secret}

    console.show(_administer(database, rotate), as_json)


@merchant.command("set")
@click.argument("client_id")
@click.option("--name")
@click.option("--expires-in-text/--expires-in-number", default=None)
@click.option(
    "--order-token-powers/--no-order-token-powers",
    default=None,
    help="Let an order's token move its order's money, as some old integrations expect.",
)
@_DATABASE
@_JSON
def merchant_set(client_id: str, as_json: bool, database: str | None, **changes: Any) -> None:
    """Change a merchant."""

    async def change(admin: "Administration") -> dict[str, Any]:
        return _describe(await admin.change_merchant(client_id, **changes))

    console.show(_administer(database, change), as_json)


@merchant.command("list")
@_DATABASE
@_JSON
def merchant_list(as_json: bool, database: str | None) -> None:
    """List the merchants."""

    async def rows(admin: "Administration") -> list[dict[str, Any]]:
        return [_describe(record) for record in await admin.list_merchants()]

    console.show(_administer(database, rows), as_json)


@main.group(cls=LaterGroup, later=TERMINAL_COMMANDS)
def terminal() -> None:
    """Terminals: points of sale, and the settings of their payments."""


def _parse_seconds(text: str) -> int:
    return int(console.parse_duration(text).total_seconds())


def _parse_gaps(text: str) -> tuple[int, ...]:
    return tuple(_parse_seconds(part) for part in text.split(","))


def _terminal_options(command: F) -> F:
    for option in reversed(
        (
            click.option("--currency", "currencies", multiple=True, help="May be given several times. [default: KZT]"),
            click.option(
                "--two-stage/--one-stage", default=None, help="Hold first, or take at once. [default: at once]"
            ),
            click.option(
                "--accept-attempted/--decline-attempted",
                default=None,
                help="Go on if 3-D Secure was attempted, and the issuer took no part. [default: accept]",
            ),
            click.option(
                "--accept-not-enrolled/--decline-not-enrolled",
                default=None,
                help="Go on with cards that take no part in 3-D Secure. [default: accept]",
            ),
            click.option(
                "--accept-unavailable/--decline-unavailable",
                default=None,
                help="Go on if the issuer can't be asked, at the shop's own risk. [default: decline]",
            ),
            click.option("--attempts-max", type=int, help="Card attempts in a round. [default: 3]"),
            click.option("--round-minutes", type=int, help="Time to pay from the first opening. [default: 20]"),
            click.option(
                "--extension-minutes", type=int, help="More time that a payer may take, once; 0: none. [default: 10]"
            ),
            click.option("--link-host", "link_hosts", multiple=True, help="Host that a pay object may notify."),
            click.option("--no-link-hosts", is_flag=True, help="Empty that list again: any host, in the sandbox."),
            click.option(
                "--frame-host", "frame_hosts", multiple=True, help="Host[:port] that may show the page in a frame."
            ),
            click.option("--no-frame-hosts", is_flag=True, help="Empty that list again: any host, in the sandbox."),
            click.option("--hold-days", type=int, help="Days after which a hold is released. [default: 7]"),
            click.option("--tell", "tells", multiple=True, help="Notify of: capture, void, refund. May be repeated."),
            click.option("--tell-nothing", is_flag=True, help="Empty that list again: the payment's outcome only."),
            click.option(
                "--seed-bodies/--full-bodies", default=None, help="Notifications with the sample's fields only."
            ),
            click.option(
                "--notify-gaps",
                type=_parse_gaps,
                metavar="LIST",
                help="Time before each try to notify. [default: 0,5s,5m,30m,2h,5h,10h,14h,20h,24h]",
            ),
            click.option("--notify-jitter-percent", type=int, help="A try may be later by this much. [default: 10]"),
            click.option("--notify-connect-seconds", type=int, help="Of a try, to connect in. [default: 5]"),
            click.option("--notify-whole-seconds", type=int, help="Of a try, in all. [default: 15]"),
            click.option(
                "--notify-retry-after-max",
                "notify_retry_after_max_seconds",
                type=_parse_seconds,
                metavar="DURATION",
                help="Longest wait that an answer may ask for. [default: 24h]",
            ),
            click.option("--notify-response-bytes", type=int, help="What is kept of an answer. [default: 2048]"),
            click.option(
                "--logo", type=click.File("rb"), metavar="FILE", help="PNG, JPEG or WebP, at most 32 KB, for the page."
            ),
            click.option("--no-logo", is_flag=True, help="Show the shop's first letter instead."),
            click.option("--colour", metavar="#RRGGBB", help="The shop's colour, for the order and the button."),
            click.option("--text-colour", metavar="#RRGGBB", help="Text on that colour. [default: white or black]"),
            click.option("--no-colours", is_flag=True, help="Show tolem's own colours again."),
            _DATABASE,
            _JSON,
        )
    ):
        command = option(command)
    return command


def _settings(given: dict[str, Any]) -> dict[str, Any]:
    """Options that were not given are None, lists that were not given are empty."""
    emptied: dict[str, Any] = {"link_hosts": (), "frame_hosts": (), "tells": (), "logo": b"", "colour": ""}
    flags = {
        "no_link_hosts": "link_hosts",
        "tell_nothing": "tells",
        "no_frame_hosts": "frame_hosts",
        "no_logo": "logo",
        "no_colours": "colour",
    }
    emptied = {name: emptied[name] for flag, name in flags.items() if given.pop(flag)}
    settings = {name: value if value != () else None for name, value in given.items()}
    if settings["logo"]:
        settings["logo"] = settings["logo"].read(LOGO_BYTES_MAX + 1)
        if not settings["logo"]:
            raise click.BadParameter("the file is empty; --no-logo takes a logo away", param_hint="--logo")
    return settings | emptied


@terminal.command("add")
@click.argument("client_id")
@click.option("--name", required=True, help="The shop's name as payers see it.")
@click.option("--id", "terminal_id", type=click.UUID, help="Its id; made if it is left out.")
@_terminal_options
def terminal_add(
    client_id: str, name: str, terminal_id: UUID | None, as_json: bool, database: str | None, **settings: Any
) -> None:
    """Add a terminal to a merchant."""

    async def add(admin: "Administration") -> dict[str, Any]:
        return _describe(await admin.add_terminal(client_id, name, terminal_id, **_settings(settings)))

    console.show(_administer(database, add), as_json)


@terminal.command("set")
@click.argument("terminal_id", type=click.UUID)
@click.option("--name")
@_terminal_options
def terminal_set(terminal_id: UUID, as_json: bool, database: str | None, **settings: Any) -> None:
    """Change a terminal's settings; a running server follows within a second."""

    async def change(admin: "Administration") -> dict[str, Any]:
        return _describe(await admin.change_terminal(terminal_id, **_settings(settings)))

    console.show(_administer(database, change), as_json)


@terminal.command("list")
@_DATABASE
@_JSON
def terminal_list(as_json: bool, database: str | None) -> None:
    """List the terminals."""

    async def rows(admin: "Administration") -> list[dict[str, Any]]:
        return [_describe(record) for record in await admin.list_terminals()]

    console.show(_administer(database, rows), as_json)


async def _serve(config: Config) -> None:
    from tolem import bootstrap, server

    stopping = asyncio.Event()
    server.stop_on_signals(stopping)
    bootstrap.check_start(config)
    inherited = server.inherited()
    listener = inherited[0] if inherited else console.bind(config.host, config.port)
    if inherited:
        server.stop_without_supervisor(inherited[1], stopping)
    gateway = await bootstrap.open_gateway(config)
    server.settle_memory()

    async def announce() -> None:
        if not inherited:
            host, port = listener.getsockname()[:2]
            click.echo(f"tolem {__version__} ({config.mode}) serves http://{host}:{port}", err=True)

    try:
        await server.serve_apps(
            [(gateway.app, listener)],
            stopping,
            trusted_proxies=config.trusted_proxies,
            on_started=announce,
            on_stopping=gateway.end_streams,
        )
    finally:
        await gateway.close()


async def _demo(config: Config) -> None:
    from tolem import bootstrap, server

    stopping = asyncio.Event()
    server.stop_on_signals(stopping)
    listener, shop_listener = (
        console.bind(config.host, config.port),
        console.bind(config.host, config.shop_port, "--shop-port"),
    )
    gateway_url = config.public_url or f"http://{config.host}:{listener.getsockname()[1]}"
    shop_url = f"http://{config.host}:{shop_listener.getsockname()[1]}"
    gateway = await bootstrap.open_gateway(config)
    shop = bootstrap.build_demo_shop(
        gateway_url=gateway_url,
        gateway_internal_url=f"http://{config.host}:{listener.getsockname()[1]}",
        shop_url=shop_url,
        database=config.shop_database,
        webhook_secret=await bootstrap.read_demo_secret(gateway),
    )

    async def announce() -> None:
        click.echo(
            f"\n  The demo shop is open:   {shop_url}\n"
            f"  The gateway answers at:  {gateway_url}\n"
            f"  What happens, live:      {gateway_url}/sandbox\n\n"
            "  Pay with card 4405639704015096, any future expiry, any three digits: approved.\n"
            "  With card 4003032704547597 the payment is declined.\n\n"
            "  Ctrl-C ends both.\n"
        )

    try:
        await server.serve_apps(
            [(gateway.app, listener), (shop, shop_listener)],
            stopping,
            on_started=announce,
            on_stopping=gateway.end_streams,
        )
    finally:
        await gateway.close()


async def _work(config: Config) -> None:
    from tolem import bootstrap, server

    stopping = asyncio.Event()
    server.stop_on_signals(stopping)
    gateway = await bootstrap.open_gateway(config)
    click.echo(f"tolem {__version__} ({config.mode}) sends notifications and recovers payments", err=True)
    try:
        await stopping.wait()
    finally:
        await gateway.close()


def _supervise(config: Config) -> None:
    import os
    import tempfile

    from tolem import bootstrap, server
    from tolem.telemetry import configure_logging

    configure_logging(config.log_format)
    listener = console.bind(config.host, config.port)
    with console.one_line_errors():
        bootstrap.check_start(config)
        bootstrap.prepare_sandbox_database(config)
    host, port = listener.getsockname()[:2]
    click.echo(f"tolem {__version__} ({config.mode}) serves http://{host}:{port}, {config.workers} processes", err=True)
    with tempfile.TemporaryDirectory(prefix="tolem-metrics-") as folder:
        environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": folder}
        sys.exit(server.supervise(listener, server.worker_command(sys.argv[1:]), config.workers, environment))


def _describe(record: Any) -> dict[str, Any]:
    from tolem.flows.administration import describe

    return describe(record)


def _administer(database: str | None, work: Callable[["Administration"], Coroutine[Any, Any, T]]) -> T:
    """Runs one piece of administration, beside a server if one runs."""
    from tolem.flows.administration import Administration

    config = console.load({"database": database})

    async def administer(store: "Store") -> T:
        return await work(Administration(store, *await console.open_time(store, config)))

    return console.with_store(config, administer)


if __name__ == "__main__":
    main()
