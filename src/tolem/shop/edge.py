"""What the shop's edge adds and refuses: security headers on every answer, forms of other sites, bodies over a bound.

Used by the app. Invariant: a form of another site changes nothing here; no handler reads an unbounded body.
"""

from urllib.parse import parse_qs

from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tolem.shop.config import ShopConfig, origin_of

FORM_BYTES_MAX = 4 * 1024


class SecurityHeaders:
    """Puts the same headers on each answer."""

    def __init__(self, app: ASGIApp, config: ShopConfig) -> None:
        self._app = app
        self._headers = {
            "Content-Security-Policy": "; ".join(
                (
                    "default-src 'none'",
                    "style-src 'self'",
                    "img-src 'self'",
                    # payment-api.js comes from the gateway, so that its page and its library always fit.
                    f"script-src 'self' {config.gateway_origin}",
                    # halyk.pay() submits a form to the gateway's page. Where this is missing the library falls back
                    # to an address with ?params=, and the token ends up in histories and logs.
                    f"form-action 'self' {config.gateway_origin}",
                    # halyk.showPaymentWidget() shows the gateway's page in a frame.
                    f"frame-src {config.gateway_origin}",
                    "connect-src 'self'",
                    "base-uri 'none'",
                    "frame-ancestors 'none'",
                )
            ),
            "X-Content-Type-Options": "nosniff",
            # Not same-origin: the gateway may know which shop a payer came from, not which order's page.
            "Referrer-Policy": "strict-origin-when-cross-origin",
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(self._headers)
            await send(message)

        await self._app(scope, receive, send_with_headers)


async def read_body(request: Request, bytes_max: int) -> bytes:
    """The whole body. HTTPException 413 as soon as it is longer than the bound, 400 if it breaks off."""
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > bytes_max:
                raise HTTPException(413, f"the body is longer than {bytes_max} bytes")
    except ClientDisconnect as problem:
        raise HTTPException(400, "the body broke off") from problem
    return bytes(body)


async def read_own_form(request: Request, config: ShopConfig) -> dict[str, str]:
    """The fields of a form that a page of this shop posted. HTTPException 403 for another site's, 400 for no form.

    Browsers name the posting page in Origin; what sends none is no browser and acts in nobody's name.
    """
    origin = request.headers.get("origin")
    own = {origin_of(config.shop_url), f"{request.url.scheme}://{request.headers.get('host', '')}"}
    if origin is not None and origin not in own:
        raise HTTPException(403, "the form was posted by a page of another site")
    body = await read_body(request, FORM_BYTES_MAX)
    try:
        fields = parse_qs(body.decode(), keep_blank_values=True, max_num_fields=20, errors="strict")
    except ValueError as problem:
        raise HTTPException(400, "the body is not a form") from problem
    return {name: values[-1] for name, values in fields.items()}
