"""`tolem scripts`: what payment pages load, and whether a running gateway serves that and nothing else.

Exit status for monitoring: 0 as in the inventory, 1 something differs, 2 it could not be looked at.
"""

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn
from urllib.parse import urlsplit

import click
import msgspec

if TYPE_CHECKING:
    import aiohttp

    from tolem.web.inventory import Inventory, Served

SECONDS = 15.0
"""For one answer."""
BYTES_MAX = 1_000_000


@click.command("scripts")
@click.option("--check", "url", metavar="URL", help="Compare what the gateway at this address serves.")
@click.option(
    "--against",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="With this inventory, once made by --json, instead of this version's own.",
)
@click.option("--page", "pages", multiple=True, metavar="URL", help="An opened payment page to compare, too.")
@click.option("--origin", "origins", multiple=True, metavar="URL", help="A bank or shop that such a page may name.")
@click.option("--json", "as_json", is_flag=True, help="JSON instead of text.")
def scripts(
    url: str | None, against: Path | None, pages: tuple[str, ...], origins: tuple[str, ...], as_json: bool
) -> None:
    """List what payment pages load, or compare a running gateway with that list.

    Each script, style, image and frame with its purpose and the hash of its content, and the headers of the pages
    (PCI DSS 6.4.3). With --check it is compared with what a browser gets (11.6.1).
    Exit status 0: the same, 1: something differs, 2: it could not be looked at.
    """
    from tolem.web.inventory import build_inventory

    inventory = _read(against) if against else build_inventory()
    if url is None:
        if pages or origins:
            raise click.UsageError("--page and --origin go with --check")
        click.echo(msgspec.json.format(msgspec.json.encode(inventory)) if as_json else _render(inventory))
        return
    differences = asyncio.run(_compare(inventory, _base(url), pages, origins))
    if as_json:
        click.echo(msgspec.json.encode({"url": url, "is_same": not differences, "differences": differences}))
    else:
        for difference in differences:
            click.echo(difference)
        click.echo("something differs" if differences else "as in the inventory")
    sys.exit(1 if differences else 0)


async def _compare(inventory: "Inventory", base: str, pages: Sequence[str], origins: Sequence[str]) -> list[str]:
    import aiohttp

    from tolem.web.inventory import check_page, check_probe, check_source

    differences: list[str] = []
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=SECONDS)) as session:
        for source in inventory.sources:
            if source.integrity:
                differences += check_source(source, await _fetch(session, base, source.path))
        for probed in inventory.pages:
            served = await _fetch(session, base, probed.path)
            differences += check_probe(inventory, probed, served)
        for address in pages:
            served = await _fetch(session, _base(address), urlsplit(address).path)
            if served.status != 200:
                _fail(f"{base}/pay/…: answered with {served.status}: is the page open still?")
            named = served._replace(path="/pay/…")  # the address is a permission to pay
            differences += check_page(inventory, named, inventory.pages[0].headers, origins)
    return differences


async def _fetch(session: "aiohttp.ClientSession", base: str, path: str) -> "Served":
    import aiohttp

    from tolem.web.inventory import Served

    try:
        async with session.get(base + path, allow_redirects=False) as answer:
            body = await answer.content.read(BYTES_MAX)
            while len(body) < BYTES_MAX and (more := await answer.content.read(BYTES_MAX)):
                body += more
            headers = [(name.lower(), value) for name, value in answer.headers.items()]
            return Served(path, answer.status, headers, body)
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        _fail(f"{base} can't be looked at: {type(error).__name__}: {error}")


def _read(path: Path) -> "Inventory":
    from tolem.web.inventory import Inventory

    try:
        return msgspec.json.decode(path.read_bytes(), type=Inventory)
    except (OSError, msgspec.MsgspecError) as error:
        _fail(f"{path} is no inventory of `tolem scripts --json`: {error}")


def _base(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        _fail(f"{url!r} is no address such as https://pay.example.kz")
    return f"{parts.scheme}://{parts.netloc}"


def _fail(message: str) -> NoReturn:
    click.echo(f"Error: {message}", err=True)
    sys.exit(2)


def _render(inventory: "Inventory") -> str:
    lines = []
    for source in inventory.sources:
        size = f", {source.bytes} bytes, {source.wire_bytes} compressed" if source.bytes else ""
        lines += [f"{source.kind} {source.path}", f"    {source.purpose}", f"    on: {source.pages}{size}"]
        lines += [f"    {source.integrity}"] if source.integrity else []
    lines.append("headers of every page")
    lines += [f"    {name}: {value}" for name, value in inventory.pages[0].headers.items()]
    return "\n".join(lines)
