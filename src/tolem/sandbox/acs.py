"""The sandbox's access control server: where payers confirm, as at their bank, on an origin of its own.

Stands in front of the gateway and takes what is asked of its host. A browser comes with `creq` and goes back with
`cres` to the address that the authenticator named; what counts was written into the book before. Every POST is answered
with a redirect to a page, whose address carries what the browser brought and never what the payer typed: Back and
reload meet no posted form, and change nothing. The pages may be framed by anybody, as banks' are, work without a
script, and speak the three languages.
"""

import base64
import binascii
import unicodedata
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from urllib.parse import parse_qsl, quote, urlencode, urlsplit
from uuid import UUID

import msgspec
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from tolem.clock import Clock
from tolem.i18n.formats import format_amount
from tolem.i18n.translator import LANGUAGE_NAMES, Translator, mark
from tolem.sandbox.acs_book import CODE, CODE_LENGTH_MAX, AcsBook, AcsEntry
from tolem.sandbox.authenticator import (
    ACS_HOST,
    CHALLENGE_PATH,
    DEVICE_PATH,
    MESSAGE_VERSION,
    CReq,
    MethodData,
    encode_message,
)

HERE = Path(__file__).parent
BODY_BYTES_MAX = 16 * 1024
STATIC = {
    "/acs.css": "text/css; charset=utf-8",
    "/acs.js": "text/javascript; charset=utf-8",
    "/acs.svg": "image/svg+xml",
}
CANCEL = "cancel"

_NO_REQUEST = mark("There is no such confirmation. Go back to the shop's payment page.")

M = TypeVar("M", CReq, MethodData)


class CRes(msgspec.Struct, frozen=True, kw_only=True):
    """The challenge response that the browser carries back. Nobody has to believe it."""

    threeDSServerTransID: UUID
    acsTransID: UUID
    transStatus: str
    challengeCompletionInd: str = "Y"
    messageType: str = "CRes"
    messageVersion: str = MESSAGE_VERSION


class AcsServer:
    """ASGI: the access control server's host, and everything else as `app` answers it."""

    def __init__(self, app: ASGIApp, book: AcsBook, clock: Clock, translator: Translator, acs_url: str = "") -> None:
        self._app = app
        self._hosts = {ACS_HOST.encode(), (urlsplit(acs_url).hostname or ACS_HOST).encode()}
        self._pages = _build_pages(book, clock, translator)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers by the Host header."""
        is_ours = scope["type"] == "http" and _host_of(scope) in self._hosts
        await (self._pages if is_ours else self._app)(scope, receive, send)


def _build_pages(book: AcsBook, clock: Clock, translator: Translator) -> Starlette:
    pages = AcsPages(translator)
    static = {path: (HERE / "static" / path[1:]).read_bytes() for path in STATIC}

    async def look(request: Request) -> Response:
        """The 3DS Method: a hidden frame; there is nothing to look at in a sandbox."""
        data = _parse((await _form(request)).get("threeDSMethodData", ""), MethodData)
        if data is None or not _is_web(data.threeDSMethodNotificationURL):
            return pages.refuse("")
        back = encode_message(MethodData(threeDSServerTransID=data.threeDSServerTransID))
        return pages.send_back("", data.threeDSMethodNotificationURL, {"threeDSMethodData": back})

    async def arrive(request: Request) -> Response:
        """A browser comes with `creq`: it is sent to the challenge as it stands. HEAD: may it come?"""
        if request.method == "HEAD":
            return Response(None, 204, {"cache-control": "no-store"})
        form = await _form(request)
        visit = _Visit(form.get("creq", ""), form.get("threeDSSessionData", ""))
        entry = await visit.find(book)
        return visit.lead_on(entry, clock.now()) if entry else pages.refuse("")

    async def ask(request: Request) -> Response:
        """The challenge; one that has ended says so, and does not lead away again whoever went back to it."""
        visit = _Visit.of(request)
        entry = await visit.find(book)
        if entry is None:
            return pages.refuse("")
        if entry.find_result(clock.now()) is not None:
            return pages.show_end(entry, visit.back)
        return pages.ask(entry, visit.page)

    async def answer(request: Request) -> Response:
        """A code, `cancel`, or another language, which keeps the code that is being typed."""
        visit, form = _Visit.of(request), await _form(request)
        entry = await visit.find(book)
        if entry is None:
            return pages.refuse("")
        code = "".join(unicodedata.normalize("NFKC", form.get("code", "")).split())
        if (language := form.get("language")) in LANGUAGE_NAMES:
            entry = await book.speak(entry.key, language, code[:CODE_LENGTH_MAX])
        elif CANCEL in form:
            entry = await book.answer(entry.key, None, clock.now())
        elif "code" in form:
            entry = await book.answer(entry.key, code, clock.now())
        return visit.lead_on(entry, clock.now()) if entry else pages.refuse("")

    async def send_back(request: Request) -> Response:
        """What has ended goes back to the page that asked."""
        visit = _Visit.of(request)
        entry = await visit.find(book)
        if entry is None:
            return pages.refuse("")
        result = entry.find_result(clock.now())
        if result is None:
            return visit.lead_on(entry, clock.now())
        cres = CRes(threeDSServerTransID=entry.key, acsTransID=entry.id, transStatus=result.trans_status)
        fields = {"cres": encode_message(cres)}
        if visit.session:
            fields["threeDSSessionData"] = visit.session
        return pages.send_back(entry.language, entry.return_url, fields)

    async def serve_static(request: Request) -> Response:
        path = request.url.path
        return Response(static[path], media_type=STATIC[path], headers={"cache-control": "no-cache"})

    async def refuse(request: Request, error: Exception) -> Response:
        return pages.refuse("", 404)

    return Starlette(
        routes=[
            Route(DEVICE_PATH, look, methods=["POST"]),
            Route(CHALLENGE_PATH, arrive, methods=["HEAD", "POST"]),
            Route(CHALLENGE_PATH + "/{creq}", ask, methods=["GET"]),
            Route(CHALLENGE_PATH + "/{creq}", answer, methods=["POST"]),
            Route(CHALLENGE_PATH + "/{creq}/back", send_back, methods=["GET"]),
            *(Route(path, serve_static) for path in STATIC),
        ],
        exception_handlers={404: refuse, 405: refuse, ClientDisconnect: refuse},
    )


class _Visit(NamedTuple):
    """A browser at a challenge: what it brought, which its pages' addresses carry."""

    creq: str
    session: str
    """threeDSSessionData: goes back as it came. It leads to the payment page, so it is never logged."""

    @classmethod
    def of(cls, request: Request) -> "_Visit":
        return cls(request.path_params["creq"], request.query_params.get("session", ""))

    async def find(self, book: AcsBook) -> AcsEntry | None:
        """The challenge that the browser asks for. None: there is no such one, or nothing to show of it."""
        creq = _parse(self.creq, CReq)
        entry = await book.find(creq.threeDSServerTransID) if creq else None
        is_it = creq is not None and entry is not None and creq.acsTransID == entry.id and not entry.is_decoupled
        return entry if is_it else None

    @property
    def page(self) -> str:
        """Address of the challenge."""
        return self._address("")

    @property
    def back(self) -> str:
        """Address of the page that goes back by itself."""
        return self._address("/back")

    def lead_on(self, entry: AcsEntry, now: datetime) -> Response:
        """To the page for how the challenge stands."""
        address = self.page if entry.find_result(now) is None else self.back
        return Response(None, 303, {"location": address, "cache-control": "no-store", "referrer-policy": "no-referrer"})

    def _address(self, action: str) -> str:
        session = "?" + urlencode({"session": self.session}) if self.session else ""
        return f"{CHALLENGE_PATH}/{quote(self.creq, safe='')}{action}{session}"


class AcsPages:
    """HTML of the server."""

    def __init__(self, translator: Translator) -> None:
        self._translator = translator
        self._environment = Environment(
            loader=FileSystemLoader(HERE / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=["jinja2.ext.i18n"],
        )
        self._language = ""
        """Of the page that is being rendered."""
        self._environment.install_gettext_callables(  # type: ignore[attr-defined]
            lambda msgid: translator.text(self._language, msgid),
            lambda one, many, count: translator.ntext(self._language, one, many, count),
            newstyle=True,
        )

    def ask(self, entry: AcsEntry, page: str) -> Response:
        """The challenge. `page`: its own address, to which its forms post."""
        text, ntext, language = self._translator.text, self._translator.ntext, entry.language
        left = ntext(language, "%(count)s attempt left", "%(count)s attempts left", entry.tries_left)
        return self._render(
            "challenge.html",
            entry.language,
            entry.return_url,
            shop=entry.shop_name,
            amount=format_amount(entry.amount, entry.currency) if entry.amount else "",
            card=f"•••• {entry.masked_pan[-4:]}",
            window=entry.window.value,
            wrong=text(language, "The code is wrong. %(left)s.", left=left) if entry.tries else "",
            page=page,
            code=CODE,
            typed=entry.typed,
            languages=LANGUAGE_NAMES,
        )

    def show_end(self, entry: AcsEntry, back: str) -> Response:
        """A challenge that was answered, or whose time is over; `back` leads on."""
        return self._render("end.html", entry.language, entry.return_url, back=back)

    def send_back(self, language: str, url: str, fields: Mapping[str, str]) -> Response:
        """A form that posts itself, or is posted by a button where there is no script."""
        return self._render("send_back.html", language, url, url=url, fields=fields)

    def refuse(self, language: str, status: int = 400) -> Response:
        """What was asked for is not here."""
        return self._render("refusal.html", language, "", status, text=_NO_REQUEST)

    def _render(self, template: str, asked: str, leads_to: str, status: int = 200, **values: Any) -> Response:
        """`leads_to`: an address to which a form of the page may lead beside this server, or nothing."""
        self._language = self._translator.choose(asked)
        body = self._environment.get_template(template).render(language=self._language, **values)
        parts = urlsplit(leads_to)
        posts_to = f"'self' {parts.scheme}://{parts.netloc}" if leads_to else "'self'"
        policy = (
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
            f"form-action {posts_to}; base-uri 'none'"
        )
        headers = {
            "content-security-policy": policy,
            "cache-control": "no-store",
            "referrer-policy": "no-referrer",
            "x-content-type-options": "nosniff",
            "x-robots-tag": "noindex",
        }
        return Response(body, status, headers, "text/html; charset=utf-8")


def _host_of(scope: Scope) -> bytes:
    for name, value in scope["headers"]:
        if name == b"host":
            return bytes(value).partition(b":")[0].lower()
    return b""


async def _form(request: Request) -> dict[str, str]:
    """The fields of a form; none if it is too large or no form."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY_BYTES_MAX:
            return {}
    try:
        return dict(parse_qsl(body.decode("ascii"), keep_blank_values=True, max_num_fields=16, errors="strict"))
    except ValueError:
        return {}


def _parse(text: str, kind: type[M]) -> M | None:
    """A message out of a form; None: it is none."""
    try:
        octets = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        return msgspec.json.decode(octets, type=kind)
    except (ValueError, binascii.Error):  # msgspec's are ValueErrors
        return None


def _is_web(url: str) -> bool:
    parts = urlsplit(url)
    is_plain = url.isascii() and url.isprintable() and not any(char in " ;,'\"<>" for char in url)
    return is_plain and parts.scheme in ("http", "https") and bool(parts.hostname)
