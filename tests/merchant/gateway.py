"""A gateway that only issues tokens and tells outcomes, in canned answers: what tests of shops need of one."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from aiohttp import web
from standardwebhooks.webhooks import Webhook

_VECTORS = Path(__file__).parent.parent / "wire" / "vectors"
CLIENT_ID = "test"
CLIENT_SECRET = "yF587AV9Ms94qN2QShFzVR3vFnWkhjbAK3sG"
TERMINAL = "67e34d63-102f-4bd1-898e-370781d0074d"
WEBHOOK_SECRET = "whsec_dG9sZW0gc2FuZGJveDogZXZlcnlib2R5IGtub3dzIGl0"
TOKEN = {
    "access_token": "DCEB8O_ZM5U7SO_T_U5EJQ",
    "expires_in": 7200,
    "refresh_token": "",
    "scope": "payment",
    "token_type": "Bearer",
}


def sign(body: bytes, secret: str = WEBHOOK_SECRET, *, age_seconds: float = 0) -> dict[str, str]:
    """The headers of a notification, made by the specification's own library."""
    message_id, at = str(uuid4()), datetime.fromtimestamp(time.time() - age_seconds, UTC)
    signature = Webhook(secret).sign(message_id, at, body.decode())
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": signature,
    }


def read_sample(name: str) -> str:
    """The body of `post_link_success`, `post_link_failure` or `post_link_refund`, or the object of `pay_object`: the
    documents' samples."""
    vector = json.loads((_VECTORS / f"{name}.json").read_text(encoding="utf-8"))
    text: str = vector["vectors"][0]["posted"] if name == "pay_object" else vector["body"]
    return text


@dataclass
class FakeGateway:
    """What it received, and what it will answer."""

    url: str = ""
    requests: list[dict[str, str]] = field(default_factory=list)
    """Fields of the token requests, in order."""
    content_types: list[str] = field(default_factory=list)
    status: int = 200
    answer: bytes = json.dumps(TOKEN).encode()
    location: str = ""
    delay_seconds: float = 0

    async def issue_token(self, request: web.Request) -> web.Response:
        """The token endpoint."""
        self.content_types.append(request.content_type)
        form = await request.post()
        self.requests.append({name: str(value) for name, value in form.items()})
        await asyncio.sleep(self.delay_seconds)
        headers = {"Location": self.location} if self.location else None
        return web.Response(status=self.status, body=self.answer, headers=headers, content_type="application/json")

    def post_link(self, *, is_paid: bool = True, **changes: Any) -> bytes:
        """The body that tells the newest order's outcome: the documentation's sample with this order's values."""
        return self._post_link("post_link_success" if is_paid else "post_link_failure", changes)

    def operation(self, code: str, amount: int | str, refunded: int | str = 0) -> bytes:
        """The body that tells what became of the newest order's money."""
        return self._post_link(
            "post_link_refund", {"code": code, "reason": code, "amount": amount, "payoutAmount": refunded}
        )

    def _post_link(self, sample: str, changes: dict[str, Any]) -> bytes:
        order = self.requests[-1]
        body = json.loads(read_sample(sample))
        amount = order["amount"]
        body |= {
            "invoiceId": order["invoiceID"],
            "amount": int(amount) if amount.isdecimal() else amount,
            "currency": order["currency"],
            "terminal": order["terminal"],
            "secret_hash": order["secret_hash"],
        }
        return json.dumps(body | changes, ensure_ascii=False).encode()


@asynccontextmanager
async def running_fake_gateway() -> AsyncIterator[FakeGateway]:
    """A fake gateway on a free port of this machine."""
    gateway = FakeGateway()
    app = web.Application()
    app.router.add_post("/epay2/oauth2/token", gateway.issue_token)
    app.router.add_post("/oauth2/token", gateway.issue_token)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    gateway.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield gateway
    finally:
        await runner.cleanup()
