"""The five exchanges of one payment: what shop and browser send, and what must come back.

Called by bench/load.py for every payment and for the answers that the floor replays. Who sends them is a Shopper:
bench/ordinary.py is aiohttp's client, bench/lean.py bytes on a socket. Both send the same fields and headers.
"""

import json
import zlib
from collections.abc import AsyncIterator
from typing import Generic, NamedTuple, Protocol, TypeVar

from bench.client import WrongAnswer
from tolem.sandbox.fixtures import CLIENT_ID, CLIENT_SECRET, TERMINAL_ID

CARD = {"cc-number": "4405639704015096", "cc-exp": "12/39", "cc-csc": "321", "cc-name": "ARMAN ALI"}
AMOUNT = "800"
PAGE_PREFIX = "/pay/"
SHOP = "https://shop.example"
# What Chromium sends with every request; parsing it is part of serving a browser.
BROWSER_HEADERS = {
    "sec-ch-ua": '"Chromium";v="142", "Not?A_Brand";v="99"',
    "sec-ch-ua-mobile": "?0",
    "sec-ch-ua-platform": '"Linux"',
    "upgrade-insecure-requests": "1",
    "user-agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0"
    " Safari/537.36",
    "accept": "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
    "accept-encoding": "gzip, deflate, br",
    "accept-language": "ru-RU,ru;q=0.9,en;q=0.8",
    "sec-fetch-dest": "document",
    "sec-fetch-mode": "navigate",
}
INVOICE_DIGITS = 15
"""All invoices have as many, so that the lengths of requests are fixed."""


class Reply(Protocol):
    """One answer, by whatever client."""

    @property
    def status(self) -> int:
        """The status code."""
        ...

    @property
    def location(self) -> str:
        """Where it leads; empty: nowhere."""
        ...

    @property
    def body(self) -> bytes:
        """All of it."""
        ...


R_co = TypeVar("R_co", bound=Reply, covariant=True)


class Shopper(Protocol[R_co]):
    """One caller: the shop's server and its payer's browser, with a keep-alive connection. Follows no redirect."""

    async def token(self, invoice: str) -> R_co:
        """The shop's server asks for a token, as multipart."""
        ...

    async def payform(self, invoice: str, token: str) -> R_co:
        """The browser posts the object of `halyk.pay()`."""
        ...

    async def page(self, path: str) -> R_co:
        """The browser opens the page, or follows the redirect to it."""
        ...

    async def card(self, path: str) -> R_co:
        """The payer sends the card form."""
        ...


class Exchange(NamedTuple, Generic[R_co]):
    """One exchange that went as it must."""

    name: str
    """One of token, payform, form, card, result."""
    answer: R_co


async def pay(shopper: Shopper[R_co], invoice: str) -> AsyncIterator[Exchange[R_co]]:
    """One payment, up to its result page. Raises WrongAnswer at the first answer that is not the right one."""
    token = await shopper.token(invoice)
    yield Exchange("token", token)
    access_token = take_token(token)
    payform = await shopper.payform(invoice, access_token)
    yield Exchange("payform", payform)
    path = take_location(payform, "payform")
    form = await shopper.page(path)
    check_page(form, b"form")
    yield Exchange("form", form)
    card = await shopper.card(path)
    yield Exchange("card", card)
    result = await shopper.page(take_location(card, "card"))
    check_page(result, b"approved")
    yield Exchange("result", result)


def token_fields(invoice: str, post_link: str) -> dict[str, str]:
    """The token request (docs/protocol.md §1)."""
    return {
        "grant_type": "client_credentials",
        "scope": "payment",
        "client_id": CLIENT_ID,
        "client_secret": CLIENT_SECRET,
        "invoiceID": invoice,
        "secret_hash": "JDKCNDDGGDTPSKJD",
        "amount": AMOUNT,
        "currency": "KZT",
        "terminal": str(TERMINAL_ID),
        "postLink": post_link,
        "failurePostLink": "",
    }


def render_pay_object(invoice: str, token: str, post_link: str) -> str:
    """What the library posts as `params`: JSON."""
    answer = {
        "access_token": token,
        "expires_in": 7200,
        "refresh_token": "",
        "scope": "payment",
        "token_type": "Bearer",
    }
    pay_object = {
        "invoiceId": invoice,
        "backLink": f"{SHOP}/order/paid",
        "failureBackLink": f"{SHOP}/order/failed",
        "postLink": post_link,
        "failurePostLink": "",
        "language": "RUS",
        "description": "Оплата в интернет магазине",
        "accountId": "testuser1",
        "terminal": str(TERMINAL_ID),
        "amount": int(AMOUNT),
        "currency": "KZT",
        "phone": "77777777777",
        "name": "Arman Ali",
        "email": "example@example.com",
        "auth": answer,
    }
    return json.dumps(pay_object, ensure_ascii=False, separators=(",", ":"))


def format_invoice(number: int) -> str:
    """The invoice of that number."""
    return f"{number:0{INVOICE_DIGITS}d}"


def take_token(answer: Reply) -> str:
    """The access token of a token answer."""
    _check_status(answer, 200, "token")
    name = b'"access_token":"'
    start = answer.body.find(name)
    if start < 0:
        raise WrongAnswer(f"token: no access_token in {answer.body[:200]!r}")
    start += len(name)
    return answer.body[start : answer.body.index(b'"', start)].decode("ascii")


def take_location(answer: Reply, name: str) -> str:
    """The page's path in a redirect."""
    _check_status(answer, 303, name)
    location = answer.location
    if not location.startswith(PAGE_PREFIX):
        raise WrongAnswer(f"{name}: the redirect does not lead to a page but to {location!r}")
    return location


GZIP_MAGIC = b"\x1f\x8b"
GZIP = 16 + zlib.MAX_WBITS


def check_page(answer: Reply, state: bytes) -> None:
    """Raises WrongAnswer unless it is a whole page in that state."""
    _check_status(answer, 200, state.decode())
    body = zlib.decompress(answer.body, GZIP) if answer.body.startswith(GZIP_MAGIC) else answer.body
    if b'data-state="%s"' % state not in body or b"</html>" not in body:
        start = max(body.find(b"<main"), 0)
        raise WrongAnswer(f"a page that is not in the state {state.decode()}: {body[start : start + 300]!r}")


def _check_status(answer: Reply, status: int, name: str) -> None:
    if answer.status != status:
        raise WrongAnswer(f"{name}: status {answer.status} instead of {status}: {answer.body[:300]!r}")
