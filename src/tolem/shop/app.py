"""The demo shop as an ASGI application: shelves, orders, and the door for the gateway's notifications.

`create_app` is called by `tolem demo` and by tests. The way of an order: POST /orders makes it and asks for a token,
GET /orders/{invoice} offers it for payment, POST /notifications/epay is told the outcome, and
GET /orders/{invoice}/return shows what was told. Invariant: 2xx for a notification is answered after it is stored.
"""

import asyncio
import logging
import re
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from tolem.merchant import (
    Client,
    ExpectedPayment,
    InvalidNotification,
    OperationNotification,
    TemporaryError,
    TokenError,
    read_invoice_id,
    verify_notification,
)
from tolem.merchant.notification import BODY_BYTES_MAX
from tolem.shop.config import ShopConfig
from tolem.shop.edge import SecurityHeaders, read_body, read_own_form
from tolem.shop.goods import CURRENCY, GOODS, find_good
from tolem.shop.orders import Orders, OrderStatus, ShopOrder
from tolem.shop.pages import NOTIFICATION_PATH, Pages, build_order_request, render_pretty
from tolem.shop.texts import LANGUAGES, choose_language

REFRESHES_MAX = 60
"""The waiting page asks this often by itself, then leaves it to the visitor."""

CUSTOMER_COOKIE = "customer"
"""Names the visitor's browser, so that the shop can vouch for whose saved cards they are."""

CUSTOMER_SECONDS = 365 * 24 * 3600

_CUSTOMER = re.compile(r"[0-9a-f]{32}", re.ASCII)

TOKEN_MARGIN = timedelta(seconds=60)
"""A token that ends sooner is not offered: the payer would find it expired."""

LOGGED_CHARACTERS_MAX = 4096
"""Of a rejected notification's body: anybody can post one."""

TROUBLE_PAGES = {404: "trouble_404", 500: "trouble_500"}

log = logging.getLogger(__name__)


def create_app(config: ShopConfig) -> Starlette:
    """The shop. Its file and its connection to the gateway are open while the application's lifespan is."""
    shop = _Shop(config)
    handlers = {HTTPException: shop.on_http_error, 500: shop.on_fault}
    return Starlette(
        routes=[
            Route("/", shop.show_shelves),
            Route("/orders", shop.place_order, methods=["POST"]),
            Route("/orders/{invoice_id}", shop.show_order),
            Route("/orders/{invoice_id}/return", shop.show_return),
            Route("/orders/{invoice_id}/token", shop.renew_token, methods=["POST"]),
            Route(NOTIFICATION_PATH, shop.receive_notification, methods=["POST"]),
            Route("/healthz", shop.show_health),
            Mount("/static", StaticFiles(directory=Path(__file__).parent / "static")),
        ],
        middleware=[Middleware(SecurityHeaders, config=config)],
        exception_handlers=handlers,  # type: ignore[arg-type]  # Starlette's type wants handlers of any Exception
        lifespan=shop.run,
    )


class _Shop:
    def __init__(self, config: ShopConfig) -> None:
        self._config = config
        self._pages = Pages(config)
        self._orders: Orders
        self._client: Client

    @asynccontextmanager
    async def run(self, app: Starlette) -> AsyncIterator[None]:
        config = self._config
        self._orders = await asyncio.to_thread(Orders, config.database)
        try:
            async with Client(
                config.token_base_url, config.client_id, config.client_secret, config.terminal_id
            ) as self._client:
                yield
        finally:
            self._orders.close()

    async def show_shelves(self, request: Request) -> Response:
        return self._pages.render("shelves.html", request, {"goods": GOODS})

    async def place_order(self, request: Request) -> Response:
        form = await read_own_form(request, self._config)
        good = find_good(form.get("good", ""))
        if good is None:
            raise HTTPException(400, "the form names no article of this shop")
        language = choose_language(form.get("lang"), request.headers.get("accept-language", ""))
        account_id = _read_customer(request)
        order = await asyncio.to_thread(self._orders.create, good.key, good.price, CURRENCY, language, account_id)
        answer = await self._request_token(request, order)
        is_secure = self._config.shop_url.startswith("https:")
        answer.set_cookie(
            CUSTOMER_COOKIE, account_id, CUSTOMER_SECONDS, httponly=True, samesite="lax", secure=is_secure
        )
        return answer

    async def renew_token(self, request: Request) -> Response:
        """A new token for an order that was declined, or whose token ended or was never got."""
        await read_own_form(request, self._config)
        return await self._request_token(request, await self._get_order(request))

    async def show_order(self, request: Request) -> Response:
        order = await self._get_order(request)
        notifications = await asyncio.to_thread(self._orders.list_notifications, order.invoice_id)
        operations = await asyncio.to_thread(self._orders.list_operations, order.invoice_id)
        values: dict[str, object] = {"notifications": notifications, "can_pay": _has_usable_token(order)}
        values |= self._pages.order_values(order, operations)
        return self._pages.render("order.html", request, values, language=order.language)

    async def show_return(self, request: Request) -> Response:
        """Where the browser comes back from the gateway. Its coming back proves nothing."""
        order = await self._get_order(request)
        if order.status is not OrderStatus.WAITING:
            return await self.show_order(request)
        text = request.query_params.get("try", "")
        refreshes = int(text) if text.isascii() and text.isdecimal() and len(text) < 4 else 0
        values: dict[str, object] = {
            # Seconds to the next look: one at first, since the notification usually overtakes the browser.
            "refresh_seconds": min(1 + refreshes // 5, 10) if refreshes < REFRESHES_MAX else 0,
            "refreshes": refreshes,
        }
        values |= self._pages.order_values(order)
        return self._pages.render("waiting.html", request, values, language=order.language)

    async def receive_notification(self, request: Request) -> Response:
        """The postLink. Anybody can call it: what is not verified changes nothing and is answered 4xx."""
        body = await read_body(request, BODY_BYTES_MAX)
        try:
            invoice_id = read_invoice_id(body)
        except InvalidNotification as problem:
            log.warning("notification refused: %s", problem.reason)
            return PlainTextResponse(f"refused: {problem.reason}", 400)
        order = await asyncio.to_thread(self._orders.find, invoice_id)
        if order is None:
            log.warning("notification refused: no order %s", invoice_id)
            return PlainTextResponse(f"refused: this shop has no order {invoice_id}", 404)
        try:
            notification = verify_notification(
                body, self._expect(order), request.headers, webhook_secret=self._config.webhook_secret
            )
        except InvalidNotification as problem:
            log.warning("notification of order %s refused: %s", invoice_id, problem.reason)
            shown = body.decode(errors="replace").replace(order.secret_hash, "…")[:LOGGED_CHARACTERS_MAX]
            await asyncio.to_thread(self._orders.record_rejected, invoice_id, problem.reason, shown)
            return PlainTextResponse(f"refused: {problem.reason}", 400)
        pretty = render_pretty(notification.raw)
        if isinstance(notification, OperationNotification):
            verdict = await asyncio.to_thread(self._orders.record_operation, notification, pretty)
        else:
            verdict = await asyncio.to_thread(self._orders.record, notification, pretty)
        log.info("notification of order %s: %s", invoice_id, verdict)
        return PlainTextResponse(f"stored: {verdict}")

    async def show_health(self, request: Request) -> Response:
        """Liveness, for whoever starts the shop: it answers, and its books can be read."""
        await asyncio.to_thread(self._orders.find, "")
        return JSONResponse({"status": "ok"})

    async def on_http_error(self, request: Request, problem: HTTPException) -> Response:
        title = TROUBLE_PAGES.get(problem.status_code, "trouble_request")
        values = {"title_key": title, "detail": problem.detail}
        answer = self._pages.render("trouble.html", request, values, status=problem.status_code)
        answer.headers.update(problem.headers or {})
        return answer

    async def on_fault(self, request: Request, problem: Exception) -> Response:
        """Starlette raises the fault again afterwards, and the server logs it."""
        return self._pages.render("trouble.html", request, {"title_key": "trouble_500", "detail": ""}, status=500)

    async def _request_token(self, request: Request, order: ShopOrder) -> Response:
        here = f"/orders/{order.invoice_id}"
        if order.status is not OrderStatus.PAID:
            try:
                token = await self._client.request_token(build_order_request(order, self._config))
            except (TokenError, TemporaryError) as problem:
                log.warning("no token for order %s: %s", order.invoice_id, problem)
                is_temporary = isinstance(problem, TemporaryError)
                values = {"order": order, "problem": problem, "is_temporary": is_temporary}
                return self._pages.render("no_token.html", request, values, language=order.language, status=502)
            await asyncio.to_thread(self._orders.save_token, order.invoice_id, token)
        asked = request.query_params.get("lang")
        return RedirectResponse(f"{here}?lang={asked}" if asked in LANGUAGES else here, 303)

    async def _get_order(self, request: Request) -> ShopOrder:
        order = await asyncio.to_thread(self._orders.find, request.path_params["invoice_id"])
        if order is None:
            raise HTTPException(404)
        return order

    def _expect(self, order: ShopOrder) -> ExpectedPayment:
        return ExpectedPayment(
            invoice_id=order.invoice_id,
            amount=order.amount,
            currency=order.currency,
            terminal_id=self._config.terminal_id,
            secret_hash=order.secret_hash,
        )


def _read_customer(request: Request) -> str:
    """Whose browser it is: a random name that the shop gave it, or gives it now. A shop with logins has its own."""
    known = request.cookies.get(CUSTOMER_COOKIE, "")
    return known if _CUSTOMER.fullmatch(known) else secrets.token_hex(16)


def _has_usable_token(order: ShopOrder) -> bool:
    ends_at = order.token_expires_at
    return bool(order.access_token) and ends_at is not None and ends_at > datetime.now(UTC) + TOKEN_MARGIN
