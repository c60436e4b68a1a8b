"""The shop's door to the gateway: asks for tokens, server to server (docs/protocol.md §3).

    TokenError       the gateway refused: something in the order or the credentials must change
    TemporaryError   no answer, or the gateway is in trouble: the same call may succeed later

Invariant: every call ends within its deadline, reads a bounded answer, follows no redirect (the form carries the
client's secret), and ends in a Token or in one of the two errors.
"""

import json
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import aiohttp

from tolem.merchant.order import OrderRequest, Token

ANSWER_BYTES_MAX = 64 * 1024
DEADLINE_SECONDS = 10
TOKEN_PATH = "/epay2/oauth2/token"  # noqa: S105 - a path, no secret

_BUSY_STATUS = (408, 425, 429)


class TokenError(Exception):
    """The gateway issued no token. `code`: its number, 0 if it gave none; `message`: its words; `status`: of HTTP."""

    def __init__(self, code: int, message: str, status: int) -> None:
        super().__init__(f"{message} (code {code}, HTTP {status})")
        self.code = code
        self.message = message
        self.status = status


class TemporaryError(Exception):
    """The gateway could not be asked, or could not answer. Nothing is wrong with the order; try again."""


class Client:
    """One terminal of a shop. Use it as an async context manager, one for the life of the shop's process.

    base_url: the gateway, without a path. token_path: `/oauth2/token` on the bank's production host.
    """

    def __init__(
        self,
        base_url: str,
        client_id: str,
        client_secret: str,
        terminal_id: str,
        *,
        token_path: str = TOKEN_PATH,
    ) -> None:
        address = urlsplit(base_url)
        if address.scheme not in ("http", "https") or not address.hostname:
            raise ValueError(f"base_url {base_url!r} is not an http or https address")
        self.terminal_id = terminal_id
        self._token_url = base_url.rstrip("/") + token_path
        self._client_id = client_id
        self._client_secret = client_secret
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=DEADLINE_SECONDS),
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def request_token(self, order: OrderRequest) -> Token:
        """A token for this order, good for the seconds it names. Raises TokenError, TemporaryError (after 10 s)."""
        if self._session is None:
            raise RuntimeError("the client is not open: use it as `async with Client(…) as client`")
        form = aiohttp.FormData(default_to_multipart=True)
        for name, value in self._fields(order).items():
            form.add_field(name, value)
        try:
            async with self._session.post(self._token_url, data=form, allow_redirects=False) as response:
                status, body = response.status, await _read_bounded(response)
        except TimeoutError as problem:
            raise TemporaryError(f"{self._token_url} did not answer within {DEADLINE_SECONDS} s") from problem
        except aiohttp.ClientError as problem:
            raise TemporaryError(f"{self._token_url} can't be reached: {problem}") from problem
        if status >= 500 or status in _BUSY_STATUS:
            raise TemporaryError(f"{self._token_url} answered HTTP {status}")
        return self._parse(status, body)

    def _fields(self, order: OrderRequest) -> dict[str, str]:
        fields = {
            "grant_type": "client_credentials",
            "scope": "payment",
            "client_id": self._client_id,
            "client_secret": self._client_secret,
            "invoiceID": order.invoice_id,
            "secret_hash": order.secret_hash,
            "amount": order.amount_text,
            "currency": order.currency,
            "terminal": self.terminal_id,
            "postLink": order.post_link,
            "failurePostLink": order.failure_post_link,
        }
        return fields | {"accountId": order.account_id} if order.account_id else fields

    def _parse(self, status: int, body: bytes) -> Token:
        try:
            answer = json.loads(body)
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict):
            excerpt = body[:120].decode(errors="replace").strip()
            raise TokenError(0, f"the answer of {self._token_url} is not JSON of a token: {excerpt!r}", status)
        if status != 200 or not isinstance(answer.get("access_token"), str) or not answer["access_token"]:
            message = answer.get("message") or answer.get("error_description") or answer.get("error")
            raise TokenError(_whole(answer.get("code")), str(message or "the answer has no access_token"), status)
        return Token(
            access_token=answer["access_token"],
            terminal_id=self.terminal_id,
            expires_in=_whole(answer.get("expires_in")),
            scope=str(answer.get("scope") or "payment"),
            token_type=str(answer.get("token_type") or "Bearer"),
        )


async def _read_bounded(response: aiohttp.ClientResponse) -> bytes:
    """The answer's first 64 KB: a token is 200 bytes, and more than the bound is no JSON any more."""
    body = bytearray()
    async for chunk in response.content.iter_chunked(8192):
        body += chunk
        if len(body) > ANSWER_BYTES_MAX:
            break
    return bytes(body[:ANSWER_BYTES_MAX])


def _whole(value: object) -> int:
    """A number that some gateways send as text (docs/protocol.md §3); 0 for everything else."""
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 19:
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else 0
