"""The demo shop beside a fake gateway, driven over ASGI as a browser and the gateway drive it."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, MutableMapping
from contextlib import asynccontextmanager
from html import unescape
from typing import Any, NamedTuple
from urllib.parse import urlencode

from tests.merchant.gateway import CLIENT_ID, CLIENT_SECRET, TERMINAL, FakeGateway
from tolem.shop import ShopConfig, create_app

SHOP = "http://shop.test"


class Answer(NamedTuple):
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode()

    @property
    def order_status(self) -> str:
        """`data-order-status` of the page."""
        match = re.search(r'<main[^>]* data-order-status="([a-z]+)"', self.text)
        assert match, self.text
        return match[1]

    @property
    def invoice_id(self) -> str:
        """`data-order` of the page."""
        match = re.search(r'<main[^>]* data-order="([0-9]+)"', self.text)
        assert match, self.text
        return match[1]

    @property
    def pay_object(self) -> dict[str, Any]:
        """What the page gives to halyk.pay()."""
        match = re.search(r'<script type="application/json" id="pay-object">(.*?)</script>', self.text, re.DOTALL)
        assert match, self.text
        found: dict[str, Any] = json.loads(match[1])
        return found

    @property
    def verdicts(self) -> list[str]:
        """Of the logged notifications, newest first."""
        return re.findall(r'data-verdict="([a-z]+)"', self.text)

    @property
    def words(self) -> str:
        """The page without tags."""
        return " ".join(unescape(re.sub(r"<[^>]*>", " ", self.text)).split())


class Visitor:
    """Requests to one shop."""

    def __init__(self, app: Any, gateway: FakeGateway) -> None:
        self.app = app
        self.gateway = gateway
        self.sent: list[MutableMapping[str, Any]] = []
        """What the shop sent in the last exchange, also if it raised afterwards."""

    async def call(self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None) -> Answer:
        """One exchange; the body comes in two pieces."""
        path, _, query = path.partition("?")
        raw = {"host": "shop.test"} | (headers or {})
        scope = {
            "type": "http", "http_version": "1.1", "method": method, "path": path, "raw_path": path.encode(),
            "query_string": query.encode(), "headers": [(k.encode(), v.encode("latin-1")) for k, v in raw.items()],
            "client": ("203.0.113.9", 50000), "server": ("shop.test", 80), "scheme": "http", "root_path": "",
        }  # fmt: skip
        middle = len(body) // 2
        pieces = [body[:middle], body[middle:]]
        sent = self.sent = []

        async def receive() -> dict[str, Any]:
            if pieces:
                return {"type": "http.request", "body": pieces.pop(0), "more_body": bool(pieces)}
            await asyncio.Event().wait()
            raise AssertionError

        async def send(message: MutableMapping[str, Any]) -> None:
            sent.append(message)

        await self.app(scope, receive, send)
        head = {k.decode(): v.decode("latin-1") for k, v in sent[0]["headers"]}
        return Answer(sent[0]["status"], head, b"".join(message.get("body", b"") for message in sent[1:]))

    async def get(self, path: str, accept_language: str = "en") -> Answer:
        """A page."""
        return await self.call("GET", path, headers={"accept-language": accept_language})

    async def post(self, path: str, origin: str = SHOP, **fields: str) -> Answer:
        """A form, posted by a page of that origin; `""`: by no page."""
        headers = {"content-type": "application/x-www-form-urlencoded", "accept-language": "en"}
        return await self.call(
            "POST", path, urlencode(fields).encode(), headers | ({"origin": origin} if origin else {})
        )

    async def buy(self, good: str = "tea", **fields: str) -> Answer:
        """The page of a new order."""
        answer = await self.post("/orders", good=good, **fields)
        assert answer.status == 303, answer.text
        return await self.get(answer.headers["location"])

    async def notify(self, *, is_paid: bool = True, **changes: Any) -> Answer:
        """The gateway tells the newest order's outcome."""
        return await self.tell(self.gateway.post_link(is_paid=is_paid, **changes))

    async def tell(self, body: bytes, **headers: str) -> Answer:
        """The gateway, or somebody else, posts a notification."""
        return await self.call("POST", "/notifications/epay", body, {"content-type": "application/json"} | headers)


@asynccontextmanager
async def visiting(
    gateway: FakeGateway, database: str = ":memory:", webhook_secret: str | None = None
) -> AsyncIterator[Visitor]:
    """A shop, open, on that file."""
    app = create_app(
        ShopConfig(
            gateway_url="http://pay.test",
            gateway_internal_url=gateway.url,
            shop_url=SHOP,
            client_id=CLIENT_ID,
            client_secret=CLIENT_SECRET,
            terminal_id=TERMINAL,
            webhook_secret=webhook_secret,
            database=database,
        )
    )
    async with app.router.lifespan_context(app):
        yield Visitor(app, gateway)
