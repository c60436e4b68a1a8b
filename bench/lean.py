"""A shopper that costs the machine as little as possible: requests as bytes, rendered once, on a bare connection.

Called by bench/load.py for `--client lean`, and to capture the answers that the floor replays. A payment fills its
invoice, token and page into the fixed parts.
"""

from urllib.parse import quote, urlencode

from bench.client import Answer, Connection
from bench.exchanges import (
    BROWSER_HEADERS,
    CARD,
    INVOICE_DIGITS,
    SHOP,
    render_pay_object,
    token_fields,
)

_BOUNDARY = "------------------------8d1f0ab1c2f3e4d5"
_INVOICE = "%INVOICE%"
_TOKEN = "%TOKEN%"  # noqa: S105 - a place to fill
_BROWSER = "".join(f"{name}: {value}\r\n" for name, value in BROWSER_HEADERS.items())


class Requests:
    """The requests of payments at one gateway, notified at one shop; shared by all callers."""

    def __init__(self, gateway_port: int, post_link: str) -> None:
        self._host = f"127.0.0.1:{gateway_port}"
        self._token_request = self._prepare_token(post_link)
        self._payform_head, self._payform_body = self._prepare_payform(post_link)
        self._page_middle, self._page_tail = self._prepare_page()
        self._card_tail = self._prepare_card()

    def token(self, invoice: str) -> bytes:
        """Exchange 1."""
        return self._token_request.replace(_INVOICE.encode(), invoice.encode())

    def payform(self, invoice: str, token: str) -> bytes:
        """Exchange 2."""
        body = self._payform_body.replace(quote(_INVOICE).encode(), invoice.encode())
        body = body.replace(quote(_TOKEN).encode(), quote(token).encode())
        return b"%scontent-length: %d\r\n\r\n%s" % (self._payform_head, len(body), body)

    def page(self, path: str) -> bytes:
        """Exchanges 3 and 5."""
        return b"GET %s%s%s%s\r\n\r\n" % (path.encode(), self._page_middle, self._page_tail, path.encode())

    def card(self, path: str) -> bytes:
        """Exchange 4."""
        return b"POST %s HTTP/1.1\r\n%s" % (path.encode(), self._card_tail)

    def _prepare_token(self, post_link: str) -> bytes:
        parts = "".join(
            f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
            for name, value in token_fields(_INVOICE, post_link).items()
        )
        body = f"{parts}--{_BOUNDARY}--\r\n"
        length = len(body) - len(_INVOICE) + INVOICE_DIGITS
        return (
            f"POST /epay2/oauth2/token HTTP/1.1\r\nhost: {self._host}\r\nuser-agent: curl/8.5.0\r\naccept: */*\r\n"
            f"content-type: multipart/form-data; boundary={_BOUNDARY}\r\ncontent-length: {length}\r\n\r\n{body}"
        ).encode()

    def _prepare_payform(self, post_link: str) -> tuple[bytes, bytes]:
        head = (
            f"POST /payform/ HTTP/1.1\r\nhost: {self._host}\r\n{_BROWSER}sec-fetch-site: cross-site\r\n"
            f"origin: {SHOP}\r\nreferer: {SHOP}/\r\ncontent-type: application/x-www-form-urlencoded\r\n"
        )
        return head.encode(), urlencode({"params": render_pay_object(_INVOICE, _TOKEN, post_link)}).encode()

    def _prepare_page(self) -> tuple[bytes, bytes]:
        middle = f" HTTP/1.1\r\nhost: {self._host}\r\n{_BROWSER}"
        return middle.encode(), f"sec-fetch-site: same-origin\r\nreferer: http://{self._host}".encode()

    def _prepare_card(self) -> bytes:
        body = urlencode(CARD)
        return (
            f"host: {self._host}\r\n{_BROWSER}sec-fetch-site: same-origin\r\norigin: http://{self._host}\r\n"
            "content-type: application/x-www-form-urlencoded\r\n"
            f"content-length: {len(body)}\r\n\r\n{body}"
        ).encode()


class LeanShopper:
    """One caller on one connection."""

    def __init__(self, requests: Requests, connection: Connection) -> None:
        self._requests = requests
        self._connection = connection

    async def token(self, invoice: str) -> Answer:
        """Exchange 1."""
        return await self._connection.exchange(self._requests.token(invoice))

    async def payform(self, invoice: str, token: str) -> Answer:
        """Exchange 2."""
        return await self._connection.exchange(self._requests.payform(invoice, token))

    async def page(self, path: str) -> Answer:
        """Exchanges 3 and 5."""
        return await self._connection.exchange(self._requests.page(path))

    async def card(self, path: str) -> Answer:
        """Exchange 4."""
        return await self._connection.exchange(self._requests.card(path))
