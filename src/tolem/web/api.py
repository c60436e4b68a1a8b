"""The merchant API: a shop's server captures, cancels, refunds and asks for the status (docs/api.md).

Server to server, with a bearer token and without CORS: a browser has no business here. Every error has `code` and
`message`; a question for the status also gets `resultCode`. Whatever leaves the outcome of a call open is answered with
503 and code 454, never as a failure. 503 and code 461 says that the call has not begun: the flow raises Overloaded only
as long as nothing is reserved.
"""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Mapping

from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from tolem.domain.errors import Overloaded, Refusal, Refused
from tolem.domain.payment import OperationKind
from tolem.flows.access import Access, Bearer
from tolem.flows.operations import MoneyRequest, MoneyResult, Operations
from tolem.flows.status import Answer, Found, Statuses
from tolem.telemetry import faults_total, log, requests_seconds
from tolem.web.app import new_incident, render_fault
from tolem.web.http import BodyUnread, Disconnected, Request, Response, json_response
from tolem.wire import operations as wire
from tolem.wire.status import ResultCode, render_result, render_status
from tolem.wire.token import INVOICE_ID

Handler = Callable[[Request, dict[str, str]], Awaitable[Response]]
"""Answers a request with the parameters of its path. Raises Refused, Overloaded."""
RenderError = Callable[[str, int], bytes]
"""Message and code → body."""

HTTP_STATUSES = {
    Refusal.INVALID_TOKEN: 401,
    Refusal.FORBIDDEN: 403,
    Refusal.NOT_FOUND: 404,
    Refusal.IN_PROGRESS: 409,
    Refusal.KEY_REUSED: 409,
    Refusal.NOT_AVAILABLE: 501,
}
"""Every other refusal is 400."""

OVERLOADED_CODE = 461
ASK_AGAIN_SECONDS = 5
"""Retry-After of an outcome that is being found out."""

LATER = {
    "/payments/cards/auth": "payment with a saved card by API",
    "/payments/cards/confirmPayment": "confirmation of a payment by API",
    "/payment/cryptopay": "payment by cryptogram",
    "/invoice": "payment links",
    "/invoice/{id}": "payment links",
}
"""Paths of parts that are still to be built."""

NOT_SPOKEN = {
    "/check-status/p2p/{rest:path}": "transfers between cards (P2P)",
    "/p2p/{rest:path}": "transfers between cards (P2P)",
    "/aft/{rest:path}": "transfers from cards (AFT)",
    "/oct/{rest:path}": "transfers to cards (OCT)",
    "/homebank/{rest:path}": "HalykID",
    "/halykid/{rest:path}": "HalykID",
    "/bonus/{rest:path}": "bonuses",
    "/applepay/{rest:path}": "Apple Pay",
    "/googlepay/{rest:path}": "Google Pay",
    "/installment/{rest:path}": "instalments",
    "/qr/{rest:path}": "QR by API",
}
"""Parts of the bank's service that tolem does not have (docs/protocol.md §11)."""


def api_routes(access: Access, statuses: Statuses, operations: Operations) -> list[Route]:
    """Every path of the merchant API, bare and under /api."""
    api = _Api(access, statuses, operations)
    paths: dict[str, Endpoint] = {
        f"/operation/{{id}}/{word}": Endpoint("operation", ("POST",), api.mover(kind), wire.render_error)
        for word, kind in wire.OPERATIONS.items()
    }
    for path, tell in (
        ("/check-status/payment/transaction/{invoiceId}", api.tell_invoice),
        ("/check-status/payment/transactionId/{id}", api.tell_payment),
    ):
        paths[path] = Endpoint("status", ("GET", "HEAD"), tell, _render_status_error)
    for named, words in ((LATER, "not available yet"), (NOT_SPOKEN, "not available here")):
        for path, part in named.items():
            paths[path] = Endpoint("not_spoken", (), _refuser(f"{part}: {words}"), wire.render_error)
    return on_both_hosts(paths)


def on_both_hosts(paths: Mapping[str, "Endpoint"]) -> list[Route]:
    """Each path bare and under /api, as on the bank's two hosts, with or without a slash at its end: a redirect is more
    than many clients follow with a POST."""
    routes = [Route(prefix + path, endpoint) for path, endpoint in paths.items() for prefix in ("", "/api")]
    for route in routes:
        route.path_regex = re.compile(route.path_regex.pattern.removesuffix("$") + "/?$")
    return routes


async def authenticate(access: Access, request: Request) -> Bearer:
    """The bearer of the Authorization header (RFC 6750 §2.1; the scheme in any case). Raises Refused, also for two that
    differ: which one is meant?"""
    if len({value for name, value in request.scope["headers"] if name == b"authorization"}) > 1:
        raise Refused(Refusal.INVALID_REQUEST, "Authorization comes twice with different values", "Authorization")
    scheme, _, token = request.header(b"authorization").partition(" ")
    return await access.authenticate(token.strip() if scheme.lower() == "bearer" else "")


class _Api:
    """The calls."""

    def __init__(self, access: Access, statuses: Statuses, operations: Operations) -> None:
        self._access = access
        self._statuses = statuses
        self._operations = operations

    async def tell_invoice(self, request: Request, path: dict[str, str]) -> Response:
        """GET /check-status/payment/transaction/{invoiceId}."""
        bearer = await authenticate(self._access, request)
        invoice_id = path["invoiceId"]
        if not INVOICE_ID.fullmatch(invoice_id):
            raise Refused(Refusal.INVALID_REQUEST, "invoiceId must be 6 to 15 digits", "invoiceId")
        return _tell(bearer, await self._statuses.by_invoice(bearer, invoice_id))

    async def tell_payment(self, request: Request, path: dict[str, str]) -> Response:
        """GET /check-status/payment/transactionId/{id}."""
        bearer = await authenticate(self._access, request)
        return _tell(bearer, await self._statuses.by_payment(bearer, wire.parse_payment_id(path["id"])))

    def mover(self, kind: OperationKind) -> Handler:
        """POST /operation/{id}/charge, cancel or refund."""

        async def move(request: Request, path: dict[str, str]) -> Response:
            return await self._move(kind, request, path["id"])

        return move

    async def _move(self, kind: OperationKind, request: Request, payment_text: str) -> Response:
        bearer = await authenticate(self._access, request)
        payment_id = wire.parse_payment_id(payment_text)
        asked = wire.parse_operation(
            kind,
            bytes(request.scope["query_string"]),
            request.header(b"content-type"),
            await request.body(wire.BODY_BYTES_MAX),
        )
        key = wire.parse_idempotency_key(request.scope["headers"])
        if asked.currency:
            answer = await self._statuses.by_payment(bearer, payment_id)
            if isinstance(answer, Found) and answer.payment and answer.payment.currency != asked.currency:
                currency = answer.payment.currency
                raise Refused(
                    Refusal.INVALID_REQUEST, f"the payment is in {currency}, not {asked.currency}", "currency"
                )
        content = asked.content(kind, payment_id)
        money = MoneyRequest(kind, payment_id, asked.amount, asked.external_id, key, content)
        gone = asyncio.ensure_future(request.until_gone())
        try:
            result = await self._operations.move(bearer, money)
        except BaseException:
            gone.cancel()
            raise

        async def note() -> None:
            # The server takes an answer to a caller that has gone, too. Looked at before anything is awaited: later
            # everybody counts as gone.
            is_gone = gone.done()
            gone.cancel()
            if not is_gone:
                await self._operations.note_told(result)

        return _answer_move(result)._replace(on_sent=note)


def _render_status_error(message: str, code: int) -> bytes:
    return render_result(ResultCode.ERROR, message, code)


class Endpoint:
    """Plain ASGI around one call: method, errors, metrics. No `methods`: any."""

    def __init__(self, name: str, methods: tuple[str, ...], handle: Handler, render_error: RenderError) -> None:
        self._name = name
        self._methods = methods
        self._handle = handle
        self._render_error = render_error

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        started = time.perf_counter()
        try:
            response = await self._answer(request, scope["path_params"])
        except Disconnected:
            return
        await response.send(request, send)
        requests_seconds.labels(self._name).observe(time.perf_counter() - started)

    async def _answer(self, request: Request, path: dict[str, str]) -> Response:
        if self._methods and request.method not in self._methods:
            allow = ", ".join(self._methods)
            return json_response(405, self._render_error(f"use {allow}", wire.ERROR_CODE), (b"allow", allow.encode()))
        try:
            return await self._handle(request, path)
        except Disconnected:
            raise
        except Refused as refused:
            log.info(f"{self._name}_refused", refusal=refused.refusal, field=refused.field, reason=refused.record)
            return self._answer_refusal(request, refused)
        except Overloaded:
            log.warning("overloaded", route=self._name)
            body = self._render_error(
                "the call cannot begin now, nothing was asked of the acquirer; try again", OVERLOADED_CODE
            )
            return json_response(503, body, (b"retry-after", b"1"))
        except Exception as error:
            incident = new_incident()
            faults_total.inc()
            log.error("fault", incident=incident, route=self._name, exc_info=error)
            return json_response(500, render_fault(incident))

    def _answer_refusal(self, request: Request, refused: Refused) -> Response:
        status = HTTP_STATUSES.get(refused.refusal, 400)
        if isinstance(refused, BodyUnread):
            status = refused.status
        elif isinstance(refused, wire.WrongContentType):
            status = 415
        extra: tuple[tuple[bytes, bytes], ...] = ()
        if status == 401:
            has_tried = b', error="invalid_token"' if request.header(b"authorization") else b""
            extra = ((b"www-authenticate", b'Bearer realm="tolem"' + has_tried),)
        return json_response(status, self._render_error(refused.message, wire.ERROR_CODE), *extra)


def _refuser(message: str) -> Handler:
    async def refuse(request: Request, path: dict[str, str]) -> Response:
        raise Refused(Refusal.NOT_AVAILABLE, message)

    return refuse


def _tell(bearer: Bearer, answer: Answer) -> Response:
    """Whatever was found or not: 200, and the answer is `resultCode`."""
    if isinstance(answer, Found):
        order, payment, status = answer
        log.info(
            "status_told",
            client=bearer.merchant.client_id,
            order=str(order.id),
            payment=str(payment.id) if payment else None,
            status=status.name,
            result=status.result,
        )
        return json_response(200, render_status(order, payment, status))
    log.info("status_told", client=bearer.merchant.client_id, result=answer)
    return json_response(200, render_result(answer))


def _answer_move(result: MoneyResult) -> Response:
    if not result.is_settled:
        return json_response(503, wire.render_unknown(), (b"retry-after", b"%d" % ASK_AGAIN_SECONDS))
    if result.is_approved:
        return json_response(200, wire.render_done(result.external_id))
    return json_response(400, wire.render_declined(result.reason_code))
