"""A shop's server as a client of the merchant API, for tests: service tokens, calls, what every error looks like."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from tests.flows.test_operations import INVOICE, Till, paid_till
from tests.gateway import Answer, Caller
from tolem.bootstrap import Gateway
from tolem.clock import SystemClock
from tolem.flows.administration import Administration
from tolem.ids import Ids
from tolem.sandbox.fixtures import CLIENT_ID, CLIENT_SECRET

SERVICE_SCOPE = " webapi usermanagement email_send verification statement statistics payment"
"""As the documentation prints it."""
JSON = {"content-type": "application/json"}


class ShopServer:
    """A shop's client of the merchant API."""

    def __init__(self, caller: Caller, token: str, scheme: str = "Bearer") -> None:
        self.caller = caller
        self.headers = {"authorization": f"{scheme} {token}"} if token else {}

    async def status(self, invoice: str = INVOICE) -> dict[str, Any]:
        """Asks by invoice."""
        answer = await self.get(f"/check-status/payment/transaction/{invoice}")
        assert answer.status == 200, answer.text
        told: dict[str, Any] = answer.json()
        return told

    async def get(self, path: str) -> Answer:
        return await self.caller.call("GET", path, headers=self.headers)

    async def post(self, path: str, body: Any = None, **headers: str) -> Answer:
        """A POST; anything but bytes is sent as JSON."""
        more = {name.replace("_", "-"): value for name, value in headers.items()}
        if body is not None and not isinstance(body, bytes):
            return await self.caller.call("POST", path, json.dumps(body).encode(), self.headers | JSON | more)
        return await self.caller.call("POST", path, body or b"", self.headers | more)

    async def operate(self, payment_id: UUID | str, word: str, body: Any = None, **query: str) -> Answer:
        query_text = f"?{urlencode(query)}" if query else ""
        return await self.post(f"/operation/{payment_id}/{word}{query_text}", body)


async def service(app: Any, **fields: str) -> ShopServer:
    """A shop with a service token: neither invoice nor amount."""
    caller = Caller(app)
    wanted = {
        "grant_type": "client_credentials", "scope": SERVICE_SCOPE, "client_id": CLIENT_ID,
        "client_secret": CLIENT_SECRET,
    } | fields  # fmt: skip
    answer = await caller.form("/oauth2/token", wanted)
    assert answer.status == 200, answer.text
    return ShopServer(caller, answer.json()["access_token"])


@asynccontextmanager
async def paid_shop(database_url: str, **settings: Any) -> AsyncIterator[tuple[Till, ShopServer]]:
    """A paid order of 100 KZT, and its shop with a service token of the right terminal."""
    async with paid_till(database_url, **settings) as till:
        yield till, await service(till.gateway.app, terminal=str(till.terminal.id))


async def stranger(gateway: Gateway) -> ShopServer:
    """Another merchant with a service token of its own terminal."""
    admin = Administration(gateway.store, SystemClock(), Ids())
    made = await admin.add_merchant("stranger", "Stranger")
    terminal = await admin.add_terminal("stranger", "Elsewhere")
    return await service(gateway.app, client_id="stranger", client_secret=made.secret, terminal=str(terminal.id))


def assert_error(answer: Answer, status: int, words: str = "", code: int = 100) -> None:
    body = answer.json()
    assert (answer.status, body["code"]) == (status, code), answer.text
    assert words in body["message"]
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    assert "access-control-allow-origin" not in answer.headers


async def snapshot(till: Till) -> Any:
    history = await till.history()
    return history.order, history.payments, history.operations
