"""The token endpoint (docs/protocol.md §3): the shop's server gets an access token. Browsers may call it too (CORS)."""

from typing import NamedTuple

from tolem.domain.errors import Refusal, Refused, abridge
from tolem.flows.maintenance import InMaintenance
from tolem.flows.tokens import Tokens
from tolem.telemetry import log, tokens_total
from tolem.web.http import BodyUnread, Request, Response, json_response
from tolem.wire.token import (
    BODY_BYTES_MAX,
    TokenRequest,
    parse_token_request,
    render_oauth_error,
    render_token,
)

CORS = ((b"access-control-allow-origin", b"*"),)
PREFLIGHT = (
    *CORS,
    (b"access-control-allow-methods", b"POST, OPTIONS"),
    (b"access-control-allow-headers", b"authorization, content-type"),
    (b"access-control-max-age", b"86400"),
)


class OAuthError(NamedTuple):
    """How a refusal reads at this endpoint."""

    status: int
    error: str
    """RFC 6749 §5.2."""
    code: int
    """tolem's own number, for clients that read only `code`."""


ERRORS = {
    Refusal.INVALID_REQUEST: OAuthError(400, "invalid_request", 100),
    Refusal.INVALID_CLIENT: OAuthError(401, "invalid_client", 101),
    Refusal.INVALID_SCOPE: OAuthError(400, "invalid_scope", 102),
    Refusal.UNSUPPORTED_GRANT: OAuthError(400, "unsupported_grant_type", 103),
    Refusal.TOO_MANY_TRIES: OAuthError(429, "invalid_client", 104),
    Refusal.IN_PROGRESS: OAuthError(400, "invalid_request", 107),
    Refusal.IN_MAINTENANCE: OAuthError(503, "temporarily_unavailable", 108),
}


class TokenEndpoint:
    """POST of a token request, and what browsers ask before it."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens

    async def __call__(self, request: Request) -> Response:
        """Answers one request. Refusals become bodies of RFC 6749 with `code` and `message` beside them."""
        if request.method == "OPTIONS":
            return Response(204, list(PREFLIGHT))
        if request.method != "POST":
            allow = (b"allow", b"POST, OPTIONS")
            body = render_oauth_error("invalid_request", 100, "use POST: the token is in the answer to a POST")
            return json_response(405, body, allow, *CORS)
        asked: TokenRequest | None = None
        try:
            asked = parse_token_request(
                request.header(b"content-type"),
                await request.body(BODY_BYTES_MAX),
                request.header(b"authorization"),
            )
            return await self._issue(request, asked)
        except Refused as refused:
            error = ERRORS[refused.refusal]
            tokens_total.labels(error.error).inc()
            log.info(
                "token_refused",
                client=abridge(asked.client_id) if asked else None,
                invoice=asked.invoice_id if asked else None,
                error=error.error,
                field=refused.field,
                reason=refused.record,
            )
            return _refuse(request, refused, error)

    async def _issue(self, request: Request, asked: TokenRequest) -> Response:
        issued = await self._tokens.issue(asked, request.address)
        tokens_total.labels("issued").inc()
        log.info(
            "token_issued",
            client=asked.client_id,
            invoice=asked.invoice_id,
            order=str(issued.order_id) if issued.order_id else None,
        )
        body = render_token(issued.access_token, issued.expires_in, issued.scope, issued.expires_in_text)
        return json_response(200, body, (b"pragma", b"no-cache"), *CORS)


def _refuse(request: Request, refused: Refused, error: OAuthError) -> Response:
    status = refused.status if isinstance(refused, BodyUnread) else error.status
    extra = list(CORS)
    if status == 401 and request.header(b"authorization"):
        extra.append((b"www-authenticate", b'Basic realm="tolem"'))
    if status == 429:
        extra.append((b"retry-after", b"60"))
    if isinstance(refused, InMaintenance):
        extra.append((b"retry-after", b"%d" % refused.seconds))
    return json_response(status, render_oauth_error(error.error, error.code, refused.message), *extra)
