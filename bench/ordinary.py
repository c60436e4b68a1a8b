"""A shopper as programs ordinarily are: aiohttp's client, one session with its keep-alive connection for each caller.

Called by bench/load.py for `--client aiohttp`, the default. Forms are built and answers parsed by aiohttp, for every
payment anew; that is most of what the load costs.
"""

from typing import NamedTuple

import aiohttp

from bench.client import ANSWER_SECONDS_MAX, WrongAnswer
from bench.exchanges import BROWSER_HEADERS, CARD, SHOP, render_pay_object, token_fields


class OrdinaryAnswer(NamedTuple):
    """One answer of aiohttp's, read to its end."""

    status: int
    location: str
    body: bytes


class OrdinaryShopper:
    """One caller."""

    def __init__(self, session: aiohttp.ClientSession, gateway_port: int, post_link: str) -> None:
        self._session = session
        self._origin = f"http://127.0.0.1:{gateway_port}"
        self._post_link = post_link
        self._cross_site = {
            **BROWSER_HEADERS,
            "sec-fetch-site": "cross-site",
            "origin": SHOP,
            "referer": f"{SHOP}/",
        }
        self._same_site = {**BROWSER_HEADERS, "sec-fetch-site": "same-origin"}

    async def token(self, invoice: str) -> OrdinaryAnswer:
        """Exchange 1, as multipart."""
        form = aiohttp.FormData(token_fields(invoice, self._post_link), default_to_multipart=True)
        return await self._exchange("POST", "/epay2/oauth2/token", form, {})

    async def payform(self, invoice: str, token: str) -> OrdinaryAnswer:
        """Exchange 2."""
        fields = {"params": render_pay_object(invoice, token, self._post_link)}
        return await self._exchange("POST", "/payform/", fields, self._cross_site)

    async def page(self, path: str) -> OrdinaryAnswer:
        """Exchanges 3 and 5."""
        return await self._exchange("GET", path, None, {**self._same_site, "referer": self._origin + path})

    async def card(self, path: str) -> OrdinaryAnswer:
        """Exchange 4."""
        return await self._exchange("POST", path, CARD, {**self._same_site, "origin": self._origin})

    async def _exchange(
        self, method: str, path: str, data: aiohttp.FormData | dict[str, str] | None, headers: dict[str, str]
    ) -> OrdinaryAnswer:
        """Raises WrongAnswer for anything but a whole answer in time."""
        try:
            async with self._session.request(
                method, self._origin + path, data=data, headers=headers, allow_redirects=False
            ) as response:
                body = await response.read()
                return OrdinaryAnswer(response.status, response.headers.get("location", ""), body)
        except TimeoutError:
            raise WrongAnswer(f"no answer within {ANSWER_SECONDS_MAX:g} s") from None
        except aiohttp.ClientError as error:
            raise WrongAnswer(f"no whole answer: {error!r}") from error


def open_session() -> aiohttp.ClientSession:
    """For one caller."""
    return aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=ANSWER_SECONDS_MAX))
