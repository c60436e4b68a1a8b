"""A whole gateway for tests, driven as shops and browsers drive it: requests in, answers out, over ASGI."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple
from urllib.parse import urlencode

from aiohttp import web

from tests.shared_pages import share_pages
from tolem import worker
from tolem.bootstrap import Gateway, open_gateway, prepare_sandbox_database
from tolem.clock import Clock
from tolem.config import Config
from tolem.sandbox.fixtures import CLIENT_ID, CLIENT_SECRET, TERMINAL_ID
from tolem.sandbox.ledger import PG_SCHEMA, ledger_schema
from tolem.storage.migrate import create_tables
from tolem.storage.open import is_sqlite, sqlite_path

APPROVED_CARD = "4405639704015096"
LOCKED_CARD = "4003032704547597"
ORIGIN = "http://gateway.test"

PRODUCT_STEP_SECONDS = worker.STEP_SECONDS
worker.STEP_SECONDS = 0.1  # tests need not wait for the loops as long as payers may
share_pages(setattr)


class Answer(NamedTuple):
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode()

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def state(self) -> str:
        """`data-state` of a page."""
        match = re.search(r'<main[^>]*data-state="([a-z]+)"', self.text)
        assert match, self.text[:500]
        return match[1]


class Caller:
    """Shop's server and payer's browser at once."""

    def __init__(self, app: Any, post_link: str = "") -> None:
        self.app = app
        self.post_link = post_link
        self.address = "203.0.113.9"
        self.gone = asyncio.Event()
        """Set when it hangs up, whether it was answered or not."""
        self.stalls = False
        """The last piece of what it sends never comes."""

    async def call(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: dict[str, str] | None = None,
        *,
        chunks: int = 1,
    ) -> Answer:
        """One exchange. `chunks`: into how many pieces the body is cut."""
        path, _, query = path.partition("?")
        raw = {"host": "gateway.test"} | (headers or {})
        scope = {
            "type": "http", "http_version": "1.1", "method": method, "path": path, "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": [(k.lower().encode(), v.encode("latin-1")) for k, v in raw.items()],
            "client": (self.address, 50000), "server": ("gateway.test", 80), "scheme": "http", "root_path": "",
        }  # fmt: skip
        size = -(-len(body) // chunks) or 1
        pieces = [body[start : start + size] for start in range(0, len(body), size)] or [b""]
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            if pieces:
                return {"type": "http.request", "body": pieces.pop(0), "more_body": bool(pieces) or self.stalls}
            await self.gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        await self.app(scope, receive, send)
        head = {k.decode(): v.decode("latin-1") for k, v in sent[0]["headers"]}
        return Answer(sent[0]["status"], head, b"".join(message.get("body", b"") for message in sent[1:]))

    async def form(self, path: str, fields: dict[str, str], headers: dict[str, str] | None = None) -> Answer:
        """A POST of an urlencoded form."""
        content_type = {"content-type": "application/x-www-form-urlencoded"}
        return await self.call("POST", path, urlencode(fields).encode(), content_type | (headers or {}))

    async def get(self, path: str) -> Answer:
        """A GET."""
        return await self.call("GET", path)

    def token_fields(self, invoice: str, **changes: str) -> dict[str, str]:
        """A token request for an order, as the documentation has it."""
        fields = {
            "grant_type": "client_credentials", "scope": "payment", "client_id": CLIENT_ID,
            "client_secret": CLIENT_SECRET, "invoiceID": invoice, "secret_hash": "JDKCNDDGGDTPSKJD", "amount": "100",
            "currency": "KZT", "terminal": str(TERMINAL_ID), "postLink": self.post_link, "failurePostLink": "",
        }  # fmt: skip
        return fields | changes

    async def request_token(self, invoice: str, **changes: str) -> Answer:
        """Asks for a token."""
        return await self.form("/epay2/oauth2/token", self.token_fields(invoice, **changes))

    async def token(self, invoice: str, **changes: str) -> dict[str, Any]:
        """A token that was issued."""
        answer = await self.request_token(invoice, **changes)
        assert answer.status == 200, answer.text
        token: dict[str, Any] = answer.json()
        return token

    def params(self, token: Any, invoice: str, **changes: Any) -> str:
        """A pay object as payment-api.js posts it."""
        wish = {
            "invoiceId": invoice, "backLink": "https://shop.example/ok", "failureBackLink": "https://shop.example/fail",
            "description": "Оплата в интернет магазине", "accountId": "testuser1", "language": "RU",
            "terminal": str(TERMINAL_ID), "amount": 100, "currency": "KZT", "auth": token,
        } | changes  # fmt: skip
        return json.dumps(wish)

    async def open(self, token: Any, invoice: str, **changes: Any) -> Answer:
        """Posts a pay object."""
        fields = {"params": self.params(token, invoice, **changes)}
        return await self.form("/payform/", fields, {"origin": "https://shop.example"})

    async def page(self, invoice: str, **changes: Any) -> str:
        """The path of a page for a new order."""
        token_changes = {k: str(v) for k, v in changes.items() if k in ("amount", "currency", "terminal")}
        answer = await self.open(await self.token(invoice, **token_changes), invoice, **changes)
        assert answer.status == 303, answer.text
        return answer.headers["location"]

    async def press(self, path: str, button: str, **fields: str) -> Answer:
        """Presses a button of a page, `leave`, `language` or `extend`, with what its form sends along."""
        return await self.form(f"{path}/{button}", fields, {"origin": ORIGIN})

    async def pay(self, path: str, number: str = APPROVED_CARD, **changes: str) -> Answer:
        """Types a card and follows the redirect."""
        answer = await self.submit(path, number, **changes)
        return await self.get(answer.headers["location"]) if answer.status == 303 else answer

    async def submit(self, path: str, number: str = APPROVED_CARD, **changes: str) -> Answer:
        """Types a card."""
        fields = {"cc-number": number, "cc-exp": "12/30", "cc-csc": "123", "cc-name": "ARMAN ALI"}
        return await self.form(path, fields | {k.replace("_", "-"): v for k, v in changes.items()}, {"origin": ORIGIN})


class PatientCaller(Caller):
    """A payer who waits while the bank is asked, as people do: a busy machine may need it."""

    async def pay(self, path: str, number: str = APPROVED_CARD, **changes: str) -> Answer:
        """Types a card; the page that it ends on."""
        page = await super().pay(path, number, **changes)
        async with asyncio.timeout(20):
            while page.status == 200 and page.state == "checking":
                await asyncio.sleep(0.05)
                page = await self.get(path)
        return page


class ShopServer:
    """What a shop's server receives, and how it answers."""

    def __init__(self) -> None:
        self.received: list[dict[str, Any]] = []
        self.bodies: list[bytes] = []
        self.headers: list[dict[str, str]] = []
        self.status = 200
        self.seconds = 0.0
        """How long it takes to answer."""
        self.is_echoing = False
        """It answers with what it was sent."""
        self.url = ""
        self._arrived = asyncio.Event()

    async def wait(self, count: int, seconds: float = 30) -> list[dict[str, Any]]:
        """All that was received, once it is at least `count`."""
        async with asyncio.timeout(seconds):
            while len(self.received) < count:
                self._arrived.clear()
                await self._arrived.wait()
        return self.received

    async def handle(self, request: web.Request) -> web.Response:
        """Takes one notification."""
        body = await request.read()
        self.bodies.append(body)
        self.headers.append(dict(request.headers))
        with suppress(ValueError):  # a fault of the way may have left something else
            self.received.append(json.loads(body))
        self._arrived.set()
        status = self.status
        await asyncio.sleep(self.seconds)
        return web.Response(status=status, body=body if self.is_echoing else b"")


async def eventually(condition: Callable[[], Awaitable[bool]], seconds: float = 30) -> None:
    """Returns once `condition` holds; fails after `seconds`. The longer it takes, the less often it is asked."""
    pause = 0.02
    async with asyncio.timeout(seconds):
        while not await condition():  # what it waits for happens in a database
            await asyncio.sleep(pause)
            pause = min(pause * 1.2, 0.2)


@asynccontextmanager
async def running_shop() -> AsyncIterator[ShopServer]:
    """A shop's server on a free port of this machine."""
    shop = ShopServer()
    app = web.Application()
    app.router.add_post("/{path:.*}", shop.handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    shop.url = f"http://127.0.0.1:{port}/notify"
    try:
        yield shop
    finally:
        await runner.cleanup()


def build_config(database_url: str, **changes: Any) -> Config:
    """A sandbox on that database, with short limits."""
    values: dict[str, Any] = {"database": database_url, "public_url": ORIGIN, "acquirer_timeout_seconds": 1.0,
              "recovery_margin_seconds": 0.2, "log_format": "json"} | changes  # fmt: skip
    return Config(**values)


def make_tables(database_url: str) -> None:
    """Makes a sandbox's database: tolem's tables and the simulator's ledger."""
    config = build_config(database_url)
    prepare_sandbox_database(config)
    create_tables(config.ledger_url, ledger_schema, pg_schema=PG_SCHEMA)


@cache
def _template() -> dict[str, bytes]:
    """The files of a sandbox's new database, by the ends of their names: nobody waits for the same migration again."""
    with TemporaryDirectory() as folder:
        make_tables(f"sqlite:///{folder}/tolem.db")
        return {path.name.removeprefix("tolem"): path.read_bytes() for path in Path(folder).iterdir()}


def _copy_template(database: Path, *, with_ledger: bool) -> None:
    if not database.exists():
        for ending, content in _template().items():
            if with_ledger or "simulator" not in ending:
                database.with_name(database.stem + ending).write_bytes(content)


@asynccontextmanager
async def running_gateway(
    database_url: str,
    *,
    clock: Clock | None = None,
    wrap_acquirer: Any = None,
    wrap_authenticator: Any = None,
    **changes: Any,
) -> AsyncIterator[Gateway]:
    """A gateway with all its loops."""
    wraps = {"wrap_acquirer": wrap_acquirer, "wrap_authenticator": wrap_authenticator}
    wrap = {name: value for name, value in wraps.items() if value}
    config = build_config(database_url, **changes)
    if is_sqlite(database_url):
        _copy_template(sqlite_path(database_url), with_ledger=not config.acquirer_url)
    gateway = await open_gateway(config, clock=clock, **wrap)
    try:
        yield gateway
    finally:
        await gateway.close()
