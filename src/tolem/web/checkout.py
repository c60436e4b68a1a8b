"""The payment page's addresses: `/payform/` takes the pay object, `/pay/{page_id}` is the page itself.

The page's address is the permission to pay: it is never logged. Forms are taken from this origin only, and answered
with a redirect to the page, which shows the order's true state; so Back, reload and double click are harmless.
"""

from collections.abc import Sequence
from urllib.parse import urlsplit

import msgspec

from tolem.domain.card import CardField, InvalidCard
from tolem.domain.errors import Limited, Overloaded, Refusal, Refused
from tolem.domain.payment import Payment
from tolem.flows import rounds
from tolem.flows.authorization import PATIENCE_SECONDS
from tolem.flows.checkout import Checkout, OpenedPage
from tolem.flows.rounds import PageState
from tolem.flows.way_back import WayBack
from tolem.telemetry import log
from tolem.web.browser import FIELD, read_browser
from tolem.web.challenge_pages import ChallengePages, origins
from tolem.web.headers import SELF, security_headers
from tolem.web.http import BodyTooLarge, Request, Response, json_response, redirect
from tolem.web.pages import BUSY, WAIT, Pages, PageView
from tolem.wire.pay_object import FLAGS, PayObjectError, parse_address, parse_posted

PAYFORM_BODY_MAX = 64 * 1024
"""`params` has at most 16 KB; URL-encoding makes three of one, and the flags need a little."""
CARD_BODY_MAX = 8 * 1024
PAGE_PREFIX = "/pay/"

_RETURN_TO_SUCCESS = (PageState.APPROVED, PageState.PAID)
_HTML = [(b"content-type", b"text/html; charset=utf-8"), *security_headers()]


class PayformEndpoint:
    """Where `halyk.pay()` leads: the pay object becomes a page."""

    def __init__(self, checkout: Checkout, pages: Pages) -> None:
        self._checkout = checkout
        self._pages = pages

    async def __call__(self, request: Request) -> Response:
        """POST of tolem's own library, GET of the bank's and its old copies. A refusal is a page that says why."""
        language = ""
        try:
            if request.method == "POST":
                fields = await request.form(PAYFORM_BODY_MAX)
                wish = parse_posted(fields.get("params", ""), _flags(fields))
            elif request.method in ("GET", "HEAD"):
                fields = request.query()
                wish = parse_address(fields.get("params", ""), _flags(fields))
            else:
                return method_not_allowed("GET, POST")
            language = wish.language
            page_id = await self._checkout.open_page(wish)
        except PayObjectError as error:
            refused = Refused(Refusal.INVALID_REQUEST, str(error), error.field)
            return self._refuse(request, refused, language)
        except Refused as refused:
            return self._refuse(request, refused, language)
        return redirect(PAGE_PREFIX + page_id)

    def _refuse(self, request: Request, refused: Refused, language: str) -> Response:
        log.info("page_refused", refusal=refused.refusal, field=refused.field, reason=refused.message)
        language = language or preferred_language(request)
        if refused.refusal is Refusal.NOT_AVAILABLE:
            return html(501, self._pages.not_available(language, refused.message))
        status = 413 if isinstance(refused, BodyTooLarge) else 400
        return html(status, self._pages.invalid(language, refused.refusal, refused.message))


class PageEndpoint:
    """One opened payment page: its states, the card form, the issuer's challenge, leaving."""

    def __init__(
        self,
        checkout: Checkout,
        pages: Pages,
        challenge_pages: ChallengePages,
        way_back: WayBack,
        public_origin: str,
        return_prefix: str,
    ) -> None:
        """`return_prefix`: path of the addresses to which issuers send browsers back (return_address.py)."""
        self._checkout = checkout
        self._pages = pages
        self._challenge_pages = challenge_pages
        self._way_back = way_back
        self._public_origin = public_origin
        self._return_prefix = return_prefix
        self._posts = {"": self._pay, "leave": self._leave, "device": self._identify, "abandon": self._abandon}

    async def __call__(self, request: Request) -> Response:
        """`/pay/{id}`, `/pay/{id}/state`, and what its forms post to: `leave`, `device`, `abandon`."""
        page_id, _, action = request.scope["path"][len(PAGE_PREFIX) :].partition("/")
        if request.method in ("GET", "HEAD"):
            if action == "":
                return await self._show(request, page_id)
            if action == "state":
                return await self._tell_state(page_id)
        elif request.method == "POST":
            handle = self._posts.get(action)
            if handle is not None:
                if not self._is_own_origin(request):
                    log.info("foreign_form", origin=request.header(b"origin")[:200])
                    return html(403, self._pages.wrong_origin(preferred_language(request)))
                return await handle(request, page_id)
        else:
            return method_not_allowed("GET, POST")
        return self._no_page(request)

    async def _show(self, request: Request, page_id: str) -> Response:
        opened = await self._checkout.look(page_id, PATIENCE_SECONDS)
        if opened is None or opened.state is PageState.INVALID:
            return self._no_page(request)
        view, pending = page_view(opened, page_id), opened.pending
        if pending is None and opened.state is not PageState.CHALLENGE:
            return html(200, self._pages.page(view))
        session_data = self._way_back.seal(page_id, pending.return_nonce) if pending else ""
        issuers = origins(pending) if pending else ()
        body = self._challenge_pages.page(view, pending, session_data)
        return html(200, body, form_action_extra=issuers, frame_src=(SELF, *issuers) if issuers else ())

    async def _tell_state(self, page_id: str) -> Response:
        opened = await self._checkout.look(page_id, 0.0)
        state = opened.state if opened else PageState.INVALID
        return json_response(200 if opened else 404, msgspec.json.encode({"state": state}))

    async def _pay(self, request: Request, page_id: str) -> Response:
        try:
            fields = await request.form(CARD_BODY_MAX)
        except Refused as refused:
            log.info("form_refused", reason=refused.message)
            status = 413 if isinstance(refused, BodyTooLarge) else 400
            language = preferred_language(request)
            return html(status, self._pages.invalid(language, refused.refusal, refused.message))
        typed = {field: fields.get(field, "") for field in CardField}
        try:
            await self._checkout.pay(
                page_id, typed, read_browser(request, fields.get(FIELD, "")), self._return_base(request)
            )
        except Overloaded:  # nothing was stored, so nothing was sent
            opened = await self._checkout.view(page_id)
            if opened is None or opened.state not in rounds.PAYABLE_STATES:
                return redirect(PAGE_PREFIX + page_id)
            log.warning("overloaded", route="page")
            return html(503, self._pages.form(page_view(opened, page_id), typed=typed, notice=BUSY))
        except Limited:  # nothing was stored or sent, here neither
            opened = await self._checkout.view(page_id)
            if opened is None or opened.state not in rounds.PAYABLE_STATES:
                return redirect(PAGE_PREFIX + page_id)
            return html(429, self._pages.form(page_view(opened, page_id), typed=typed, notice=WAIT))
        except InvalidCard as invalid:
            opened = await self._checkout.view(page_id)
            if opened is None or opened.state not in rounds.PAYABLE_STATES:
                return redirect(PAGE_PREFIX + page_id)
            problems = sorted(problem.value for problem in invalid.problems.values())
            log.info("card_invalid", order=str(opened.history.order.id), problems=problems)
            return html(422, self._pages.form(page_view(opened, page_id), invalid.problems, typed))
        return redirect(PAGE_PREFIX + page_id)

    async def _leave(self, request: Request, page_id: str) -> Response:
        await self._checkout.leave(page_id)
        return redirect(PAGE_PREFIX + page_id)

    async def _identify(self, request: Request, page_id: str) -> Response:
        """The issuer has looked at the browser, or the browser waited long enough for it."""
        try:
            fields = await request.form(CARD_BODY_MAX)
        except Refused:  # somebody's own words: as if the time were over
            fields = {}
        browser = read_browser(request, fields.get(FIELD, ""))
        is_done = fields.get("done") == "Y"
        await self._checkout.identify(page_id, browser, self._return_base(request), is_done=is_done)
        return redirect(PAGE_PREFIX + page_id)

    async def _abandon(self, request: Request, page_id: str) -> Response:
        """The payer gives up the challenge and may type another card."""
        await self._checkout.abandon(page_id)
        return redirect(PAGE_PREFIX + page_id)

    def _is_own_origin(self, request: Request) -> bool:
        """A browser names the page that posts; what names none is no browser, and has the address all the same."""
        origin = request.header(b"origin")
        if origin == "":
            return request.header(b"sec-fetch-site") in ("", "same-origin", "none")
        return origin.lower() == self._own_origin(request).lower()

    def _own_origin(self, request: Request) -> str:
        return self._public_origin or f"{request.scope['scheme']}://{request.header(b'host')}"

    def _return_base(self, request: Request) -> str:
        return self._own_origin(request) + self._return_prefix

    def _no_page(self, request: Request) -> Response:
        return html(404, self._pages.invalid(preferred_language(request), Refusal.NOT_FOUND))


def page_view(opened: OpenedPage, page_id: str) -> PageView:
    """What the payer may see of an order."""
    order = opened.history.order
    payment = _shown_payment(opened)
    is_success = opened.state in _RETURN_TO_SUCCESS
    return_url = order.return_url if is_success else order.failure_return_url or order.return_url
    return PageView(
        language=opened.page.language or order.language,
        shop_name=opened.terminal.name,
        amount=order.amount,
        currency=order.currency,
        invoice_id=order.invoice_id,
        description=order.description,
        state=opened.state,
        attempts_left=rounds.attempts_left(opened.history, opened.terminal),
        masked_pan=payment.masked_pan if payment else "",
        brand=payment.brand if payment else "",
        rrn=payment.rrn if payment else "",
        approval_code=payment.approval_code if payment else "",
        reason_code=payment.reason_code if payment else order.reason_code,
        at=payment.updated_at if payment else None,
        return_url=return_url,
        auto_return=order.auto_return or order.has_left,
        is_verification=order.is_verification,
        page_path=PAGE_PREFIX + page_id,
        deadline_at=order.deadline_at,
    )


def html(
    status: int,
    body: bytes,
    *,
    form_action_extra: Sequence[str] = (),
    frame_ancestors: Sequence[str] = (),
    frame_src: Sequence[str] = (),
) -> Response:
    """A page with its security headers; origins as in security_headers."""
    if not (form_action_extra or frame_ancestors or frame_src):
        return Response(status, _HTML, body)
    headers = security_headers(form_action_extra, frame_ancestors, frame_src)
    return Response(status, [_HTML[0], *headers], body)


def method_not_allowed(allowed: str) -> Response:
    """405 in plain words."""
    return Response(
        405,
        [(b"allow", allowed.encode()), (b"content-type", b"text/plain; charset=utf-8")],
        f"use {allowed}\n".encode(),
    )


def preferred_language(request: Request) -> str:
    """The browser's first language that the page may speak; for pages that belong to no order."""
    for part in request.header(b"accept-language").lower().split(",")[:8]:
        tag = part.partition(";")[0].strip()[:2]
        if tag in ("ru", "kk", "en"):
            return tag
    return ""


def origin_of(url: str) -> str:
    """`https://host[:port]` of the public address, as browsers write an origin; empty for empty."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}".lower() if url else ""


def _flags(fields: dict[str, str]) -> dict[str, str]:
    return {name: fields[name] for name in FLAGS if name in fields}


def _shown_payment(opened: OpenedPage) -> Payment | None:
    if opened.state in _RETURN_TO_SUCCESS:
        return opened.history.successful_payment()
    return opened.history.last_payment()
