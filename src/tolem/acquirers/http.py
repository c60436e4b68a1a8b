"""The connector to an acquirer that is a program of its own, over HTTP: the pattern for every bank that follows.

Called through `acquirers.base.Acquirer`. A stateless translation: it stores nothing, never sends twice, and sets no
deadline; the caller's deadline ends it. An answer counts only if it is whole, small, well formed and to this exchange;
everything else raises, which is an unknown outcome. A connection that is gone is replaced by the next exchange.
"""

import ipaddress
import ssl
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from urllib.parse import urlsplit

import aiohttp

from tolem import __version__
from tolem.acquirers.base import AcquirerAnswer, AcquirerRequest, AnswerGarbled, StatementLine
from tolem.acquirers.messages import (
    ANSWER_BYTES_MAX,
    EXCHANGE_PATH,
    STATEMENT_PATH,
    encode_request,
    parse_answer,
    parse_statement,
)
from tolem.domain.card import CardField, CardProblem, TypedCard

KEEPALIVE_SECONDS = 4.0
"""Idle connections are closed before the other side does it (common servers: 5 s): an exchange on a connection that is
being closed would be one more unknown outcome."""
CONNECTIONS_MAX = 256
"""Exchanges at one time; more wait, within their deadlines."""
PAGES_MAX = 100_000
"""Pages of one statement; an acquirer that goes on and on is broken."""

CardCheck = Callable[[TypedCard, date], dict[CardField, CardProblem]]


class HttpAcquirer:
    """An acquirer at `url`. Made on the loop that uses it; `close` ends its connections."""

    def __init__(self, url: str, secret: str = "", *, check: CardCheck, tls: ssl.SSLContext | None = None) -> None:
        """`url`: https, or http on this machine; raises ValueError for anything else. `secret`: shared with the
        acquirer, empty: none. `check`: which cards it takes. `tls`: trusted certificates, the system's by default."""
        check_url(url)
        self._url = url.rstrip("/")
        self._check = check
        headers = {"user-agent": f"tolem/{__version__}", "accept-encoding": "identity"}
        if secret:
            headers["authorization"] = f"Bearer {secret}"
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=CONNECTIONS_MAX, keepalive_timeout=KEEPALIVE_SECONDS, ssl=tls or True),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            auto_decompress=False,
            read_bufsize=ANSWER_BYTES_MAX,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
            headers=headers,
        )

    def check(self, card: TypedCard, today: date) -> dict[CardField, CardProblem]:
        """Why this acquirer does not take the card; asks nobody."""
        return self._check(card, today)

    async def send(self, request: AcquirerRequest) -> AcquirerAnswer:
        """One exchange, sent once. Raises AnswerGarbled; aiohttp.ClientError or OSError where the connection fails."""
        body = await self._fetch("POST", EXCHANGE_PATH, body=encode_request(request))
        return parse_answer(body, request.key)

    async def statement(self, since: datetime, until: datetime) -> list[StatementLine]:
        """The acquirer's book, page by page. Raises as `send` does, also if it does not come to an end."""
        period = {"since": _render_instant(since), "until": _render_instant(until)}
        lines: list[StatementLine] = []
        after = ""
        for _ in range(PAGES_MAX):
            query = period | ({"after": after} if after else {})
            page, following = parse_statement(await self._fetch("GET", STATEMENT_PATH, query=query), since, until)
            if lines and page and page[0].at < lines[-1].at:
                raise AnswerGarbled("the statement goes back in time")
            lines += page
            if not following:
                return lines
            if following == after or not page:
                break
            after = following
        raise AnswerGarbled("the statement does not come to an end")

    async def close(self) -> None:
        """Ends all connections."""
        await self._session.close()

    async def _fetch(
        self, method: str, path: str, *, body: bytes | None = None, query: Mapping[str, str] | None = None
    ) -> bytes:
        """The body of a 200. Never more than ANSWER_BYTES_MAX of it is read; the connection then ends with it."""
        response = await self._session.request(
            method,
            self._url + path,
            data=body,
            params=query,
            headers={"content-type": "application/json"} if body is not None else None,
            allow_redirects=False,
        )
        try:
            if response.status != 200:
                raise AnswerGarbled(f"the acquirer answers with HTTP status {response.status}")
            answer = bytearray()
            while chunk := await response.content.readany():
                answer += chunk
                if len(answer) > ANSWER_BYTES_MAX:
                    raise AnswerGarbled(f"the answer is larger than {ANSWER_BYTES_MAX} bytes")
            return bytes(answer)
        finally:
            response.close()  # does nothing after a whole body: then the connection is back in the pool


def check_url(url: str) -> None:
    """Raises ValueError, in words, unless card numbers may go to `url`: https, or http that stays on this machine."""
    parts = urlsplit(url)
    is_origin = parts.scheme in ("http", "https") and parts.hostname and parts.path in ("", "/")
    if not is_origin or parts.query or parts.fragment or parts.username is not None:
        raise ValueError("must be an origin such as https://acquirer.example or http://127.0.0.1:8702")
    if parts.scheme == "http" and not _is_loopback(parts.hostname or ""):
        raise ValueError("must be https: card numbers travel to it (http is for this machine only)")


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _render_instant(at: datetime) -> str:
    return at.astimezone(UTC).isoformat()
