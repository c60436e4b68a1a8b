"""The HTTP edge: which path belongs to whom, and the one place that turns faults into answers.

The hot paths of a payment are plain ASGI (tolem.web.http); the rest is a Starlette application. Duplicate slashes in a
path are collapsed (docs/protocol.md §1). A fault is told by an incident number, logged once with its trace.
"""

import re
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import msgspec
from prometheus_client import Histogram
from starlette.types import ASGIApp, Receive, Scope, Send

from tolem.domain.errors import Overloaded
from tolem.telemetry import faults_total, log, requests_seconds
from tolem.web.answers import message, preferred_language
from tolem.web.checkout import PAGE_PREFIX, PageEndpoint, page_path_of
from tolem.web.http import Disconnected, Request, Response, json_response
from tolem.web.oauth import CORS, TokenEndpoint
from tolem.web.pages import Pages
from tolem.web.payform import PayformEndpoint
from tolem.web.return_address import RETURN_PREFIX, ReturnEndpoint
from tolem.web.shells import PageBytes
from tolem.wire.token import render_oauth_error

TOKEN_PATHS = ("/epay2/oauth2/token", "/epay2/oauth2/token/", "/oauth2/token", "/oauth2/token/")
PAYFORM_PATHS = ("/payform", "/payform/", "/redesign-payform", "/redesign-payform/")

UNAVAILABLE = "no request can be stored now, nothing was changed: try again in a moment"
"""The database is away, or written by another process, or more waits for it than may."""

_SLASHES = re.compile("/{2,}")


class Route(NamedTuple):
    """One endpoint of the hot paths."""

    name: str
    """In metrics and logs; never the path itself."""
    endpoint: Callable[[Request], Awaitable[Response]]
    is_for_payers: bool
    """A fault is answered with a page; otherwise with JSON."""
    seconds: Histogram
    """Of its name."""


class Edge:
    """The application that uvicorn serves."""

    def __init__(
        self,
        tokens: TokenEndpoint,
        payform: PayformEndpoint,
        page: PageEndpoint,
        returns: ReturnEndpoint,
        pages: Pages,
        rest: ASGIApp,
    ) -> None:
        self._exact = dict.fromkeys(TOKEN_PATHS, _route("token", tokens, is_for_payers=False))
        self._exact |= dict.fromkeys(PAYFORM_PATHS, _route("payform", payform, is_for_payers=True))
        self._page = _route("page", page, is_for_payers=True)
        self._return = _route("3ds", returns, is_for_payers=True)
        self._pages = pages
        self._rest = rest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self._rest(scope, receive, send)
            return
        if "//" in scope["path"]:
            path = _SLASHES.sub("/", scope["path"])
            scope = {**scope, "path": path, "raw_path": path.encode()}
        route = self._exact.get(scope["path"])
        if route is None:
            if scope["path"].startswith(PAGE_PREFIX):
                route = self._page
            elif scope["path"].startswith(RETURN_PREFIX):
                route = self._return
            else:
                await self._rest(scope, receive, send)
                return
        started = time.perf_counter()
        request = Request(scope, receive)
        try:
            response = await route.endpoint(request)
        except Disconnected:
            return
        except Overloaded:
            response = self._answer_overload(request, route)
        except Exception as error:
            response = self._answer_fault(request, route, error)
        if isinstance(response.body, PageBytes) and "gzip" in request.header(b"accept-encoding"):
            response = _gzipped(response, response.body)
        await response.send(request, send)
        route.seconds.observe(time.perf_counter() - started)

    def _answer_overload(self, request: Request, route: Route) -> Response:
        log.warning("overloaded", route=route.name)
        retry = (b"retry-after", b"1")
        if route.is_for_payers:
            busy = message(request, 503, self._pages.busy(preferred_language(request), page_path_of(request)))
            return busy._replace(headers=[*busy.headers, retry])
        return json_response(503, render_oauth_error("temporarily_unavailable", 461, UNAVAILABLE), retry, *CORS)

    def _answer_fault(self, request: Request, route: Route, error: Exception) -> Response:
        incident = new_incident()
        faults_total.inc()
        log.error("fault", incident=incident, route=route.name, exc_info=error)
        if route.is_for_payers:
            page = self._pages.fault(preferred_language(request), incident, page_path_of(request))
            return message(request, 500, page)
        return json_response(500, render_fault(incident), *CORS)


def _route(name: str, endpoint: Callable[[Request], Awaitable[Response]], *, is_for_payers: bool) -> Route:
    return Route(name, endpoint, is_for_payers, requests_seconds.labels(name))


def _gzipped(response: Response, page: PageBytes) -> Response:
    return response._replace(headers=[*response.headers, (b"content-encoding", b"gzip")], body=page.gzipped())


def new_incident() -> str:
    """A number that a payer can read to somebody: 8 hexadecimal digits."""
    return secrets.token_hex(4).upper()


def render_fault(incident: str) -> bytes:
    """What a program is told of a fault of ours."""
    message = f"an unexpected fault on our side, incident {incident}"
    return msgspec.json.encode(
        {
            "error": "server_error",
            "error_description": message,
            "code": 456,
            "message": message,
            "incident": incident,
        }
    )
