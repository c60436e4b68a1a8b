"""Everything of the edge that is no hot path: merchant API, JS library, static files, health, readiness, metrics."""

import gzip
import hashlib
import hmac
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Awaitable, Callable, Sequence
from ipaddress import ip_address
from typing import TypeAlias
from urllib.parse import urlsplit

import msgspec
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from tolem.flows.directory import Directory
from tolem.telemetry import faults_total, log, render_metrics
from tolem.web.answers import first_language
from tolem.web.app import new_incident, render_fault
from tolem.web.appearance import COLOURS_PREFIX, LOGO_PREFIX, render_colours
from tolem.web.assets import STATIC, read_lean, static_files
from tolem.web.headers import security_headers

LIBRARY = "payment-api.js"
LIBRARY_PATHS = ("/payform/payment-api.js", "/redesign-payform/payment-api.js")
GUARDED_USER = "sandbox"


Detail: TypeAlias = str | int | dict[str, int] | dict[str, str]


class Readiness(msgspec.Struct, frozen=True):
    """Whether this process can take payments, and why not."""

    is_ready: bool
    details: dict[str, Detail]


def build_public(
    readiness: Callable[[], Awaitable[Readiness]],
    home: Callable[[str], bytes],
    directory: Directory,
    password: str,
    routes: Sequence[Route] = (),
    guarded: Sequence[Route] = (),
    public_url: str = "",
) -> Starlette:
    """The Starlette application behind the hot paths. `home`: the browser's language → the page at `/`; `routes`: the
    merchant API's; `guarded`: the sandbox's own, empty in production. They and /metrics ask for `password`; a sandbox
    without one answers them only under this machine's own names and that of `public_url`."""
    library = _Library(read_lean(LIBRARY))
    statics = static_files()
    icon = (STATIC / "favicon.ico").read_bytes()

    async def serve_home(request: Request) -> Response:
        if "text/html" not in request.headers.get("accept", ""):
            return _not_found(request)
        response = Response(home(first_language(request.headers.get("accept-language", ""))))
        response.raw_headers = [(b"content-type", b"text/html; charset=utf-8"), *security_headers()]
        return response

    async def serve_icon(request: Request) -> Response:
        headers = {"cache-control": "public, max-age=86400", "x-content-type-options": "nosniff"}
        return Response(icon, headers=headers, media_type="image/x-icon")

    async def serve_library(request: Request) -> Response:
        return library.answer(request)

    async def serve_static(request: Request) -> Response:
        asset = statics.get(request.url.path)
        if asset is None:
            return _not_found(request)
        gzipped = "gzip" in request.headers.get("accept-encoding", "")
        response = Response(asset.gzipped if gzipped else asset.body)
        response.raw_headers = asset.headers(gzipped=gzipped)
        return response

    async def serve_logo(request: Request) -> Response:
        logo = await directory.find_logo(request.path_params["name"])
        return _keep_for_ever(logo.body, logo.content_type) if logo else _not_found(request)

    async def serve_colours(request: Request) -> Response:
        body = render_colours(request.path_params["name"])
        return _keep_for_ever(body, "text/css; charset=utf-8") if body else _not_found(request)

    async def health(request: Request) -> Response:
        return Response(b'{"status":"ok"}', media_type="application/json")

    async def ready(request: Request) -> Response:
        state = await readiness()
        body = {"status": "ready" if state.is_ready else "not ready"} | state.details
        return Response(
            msgspec.json.encode(body), status_code=200 if state.is_ready else 503, media_type="application/json"
        )

    async def metrics(request: Request) -> Response:
        await readiness()
        return Response(render_metrics(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def not_found(request: Request, error: Exception) -> Response:
        return _not_found(request)

    async def gone(request: Request, error: Exception) -> Response:
        return Response(status_code=400)  # for nobody: the client hung up in the middle of its body

    async def fault(request: Request, error: Exception) -> Response:
        incident = new_incident()
        faults_total.inc()
        log.error("fault", incident=incident, route="public", exc_info=error)
        return Response(render_fault(incident), status_code=500, media_type="application/json")

    return Starlette(
        routes=[
            *routes,
            Route("/", serve_home),
            Route("/favicon.ico", serve_icon),
            *(Route(path, serve_library) for path in LIBRARY_PATHS),
            Route("/static/{name}", serve_static),
            Route(LOGO_PREFIX + "{name}", serve_logo),
            Route(COLOURS_PREFIX + "{name}", serve_colours),
            Route("/healthz", health),
            Route("/readyz", ready),
            *_guard((Route("/metrics", metrics), *guarded), password, public_url, is_sandbox=bool(guarded)),
        ],
        exception_handlers={404: not_found, ClientDisconnect: gone, Exception: fault},
    )


class _Library:
    """payment-api.js: shops' pages of any origin load it; short caching, so that a fix reaches them."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._gzipped = gzip.compress(body, 9, mtime=0)
        self._etag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'

    def answer(self, request: Request) -> Response:
        gzipped = "gzip" in request.headers.get("accept-encoding", "")
        headers = {
            "cache-control": "public, max-age=300",
            "etag": self._etag,
            "vary": "accept-encoding",
            "access-control-allow-origin": "*",
            "cross-origin-resource-policy": "cross-origin",
            "x-content-type-options": "nosniff",
        }
        if self._etag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        if gzipped:
            headers["content-encoding"] = "gzip"
        return Response(
            self._gzipped if gzipped else self._body, headers=headers, media_type="text/javascript; charset=utf-8"
        )


def _keep_for_ever(body: bytes, media_type: str) -> Response:
    """What is named by its content. Opened alone, by its address, it may do nothing."""
    headers = {
        "cache-control": "public, max-age=31536000, immutable",
        "x-content-type-options": "nosniff",
        "content-security-policy": "default-src 'none'; sandbox",
    }
    return Response(body, headers=headers, media_type=media_type)


def _not_found(request: Request) -> Response:
    body = {"code": 100, "message": f"nothing is served at this path with {request.method}"}
    return Response(msgspec.json.encode(body), status_code=404, media_type="application/json")


def _guard(routes: Sequence[Route], password: str, public_url: str, *, is_sandbox: bool) -> Sequence[Route]:
    """The routes behind the password, or, in a sandbox without one, at home."""
    if password:
        return [_ask_password(route, password) for route in routes]
    return [_keep_home(route, public_url) for route in routes] if is_sandbox else routes


def _ask_password(route: Route, password: str) -> Route:
    inner = route.app

    async def ask(scope: Scope, receive: Receive, send: Send) -> None:
        app = inner if _is_allowed(Request(scope), password) else _NEEDS_PASSWORD
        await app(scope, receive, send)

    route.app = ask
    return route


def _keep_home(route: Route, public_url: str) -> Route:
    """The route under names that nobody else can give to this machine: a page somewhere on the internet could bring
    its own name to point here, and would then be of the same origin (DNS rebinding)."""
    inner = route.app
    public_name = urlsplit(public_url).hostname

    async def ask(scope: Scope, receive: Receive, send: Send) -> None:
        is_ours = _is_ours(Request(scope).headers.get("host", ""), public_name)
        await (inner if is_ours else _FOREIGN_NAME)(scope, receive, send)

    route.app = ask
    return route


def _is_ours(host: str, public_name: str | None) -> bool:
    """`host`: the Host header's `name:port`."""
    try:
        name = urlsplit(f"//{host}").hostname
        if name is None:
            return False
        if name in ("localhost", public_name) or name.endswith(".localhost"):
            return True
        ip_address(name)
    except ValueError:
        return False
    return True


_FOREIGN_NAME = Response(
    msgspec.json.encode(
        {
            "code": 403,
            "message": "this sandbox is not known by that name: open it by its address, such as http://127.0.0.1:8700,"
            " or name public_url",
        }
    ),
    403,
    media_type="application/json",
)
_NEEDS_PASSWORD = Response(
    b"a password is needed\n", 401, {"www-authenticate": 'Basic realm="tolem"'}, media_type="text/plain"
)


def _is_allowed(request: Request, password: str) -> bool:
    scheme, _, encoded = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return False
    try:
        given = b64decode(encoded, validate=True)
    except (Base64Error, ValueError):
        return False
    return hmac.compare_digest(given, f"{GUARDED_USER}:{password}".encode())
