"""The payment page's own addresses, `/pay/{page_id}` and below. payform.py makes them.

The page's address is the permission to pay: it is never logged. Forms are taken from this origin only, and answered
with a redirect to the page, which shows the order's true state; so Back, reload and double click are harmless. Only the
page's script, which asks for no page but for what to show on its own, gets a form that comes back as the answer.
"""

from collections.abc import Mapping
from datetime import datetime

import msgspec
from msgspec.structs import replace

from tolem.domain.card import CardField, InvalidCard
from tolem.domain.errors import Limited, Overloaded, Refusal, Refused
from tolem.domain.maintenance import Pause
from tolem.domain.message import MessageKind
from tolem.domain.payment import Payment
from tolem.flows import rounds
from tolem.flows.authorization import PATIENCE_SECONDS
from tolem.flows.carried import Carried
from tolem.flows.checkout import Checkout, OpenedPage
from tolem.flows.maintenance import RETRY_SECONDS
from tolem.flows.opening import Known
from tolem.flows.rounds import PageState
from tolem.flows.saved_cards import may_save
from tolem.flows.way_back import WayBack
from tolem.i18n.translator import LANGUAGE_NAMES
from tolem.telemetry import log
from tolem.web.answers import html, message, method_not_allowed, preferred_language, referring_origin, referring_query
from tolem.web.browser import FIELD, read_browser
from tolem.web.card_choice import REMOVE_FIELD, REMOVED, offer_cards, read_card_id, read_choice, read_picked
from tolem.web.card_form import BUSY, PAUSED, RETYPE, UNREAD, WAIT
from tolem.web.challenge_pages import ChallengePages, origins
from tolem.web.headers import SELF
from tolem.web.http import BodyUnread, Request, Response, json_response, redirect
from tolem.web.kept_form import keep_form, open_form, seal_form
from tolem.web.pages import RESULT_STATES, Pages
from tolem.web.view import PageStatus, PageView, legible

CARD_BODY_MAX = 8 * 1024
PAGE_PREFIX = "/pay/"
OTHER_CARD = "other"
"""Query of a page whose payer has just typed another card than the one whose challenge it shows."""

_RETURN_TO_SUCCESS = (PageState.APPROVED, PageState.PAID)
_ENDED_UNPAID = (PageState.FAILED, PageState.EXPIRED, PageState.INVALID)


class PageEndpoint:
    """One opened payment page: its states, the card form, the issuer's challenge, leaving."""

    def __init__(
        self,
        checkout: Checkout,
        pages: Pages,
        challenge_pages: ChallengePages,
        way_back: WayBack,
        carried: Carried,
        public_origin: str,
        return_prefix: str,
    ) -> None:
        """`return_prefix`: path of the addresses to which issuers send browsers back (return_address.py)."""
        self._checkout = checkout
        self._pages = pages
        self._challenge_pages = challenge_pages
        self._way_back = way_back
        self._carried = carried
        self._public_origin = public_origin
        self._return_prefix = return_prefix
        self._posts = {
            "": self._pay,
            "leave": self._leave,
            "language": self._speak,
            "extend": self._extend,
            "device": self._identify,
            "abandon": self._abandon,
            "confirm": self._confirm,
            "remove": self._remove,
        }

    async def __call__(self, request: Request) -> Response:
        """`/pay/{id}`, `/pay/{id}/state`, and what its forms and buttons post to: `leave`, `language`, `extend`,
        `device`, `abandon`, `confirm`, `remove`."""
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
                    return html(403, self._pages.invalid(preferred_language(request), Refusal.FOREIGN_ORIGIN))
                return await handle(request, page_id)
        else:
            return method_not_allowed("GET, POST")
        return self._no_page(request)

    async def _show(self, request: Request, page_id: str) -> Response:
        opened = await self._checkout.look(page_id, PATIENCE_SECONDS)
        if opened is None:
            return self._no_page(request)
        view, pending = page_view(opened, page_id), opened.pending
        if view.state is PageState.INVALID:
            order = opened.history.order
            known = Known(view.return_url, order.id, rounds.settled_elsewhere(opened.history), order.is_verification)
            page = self._pages.invalid(view.language, Refusal.NOT_FOUND, "", known, view.frame_origin)
            return message(request, 404, page)
        kept = open_form(self._carried, page_id, request.scope["query_string"])
        if kept is not None and kept.version == view.version and view.state in rounds.PAYABLE_STATES:
            page = self._pages.form(view, kept.problems, kept.typed, kept.notice, kept.picked)
            return html(200, page, opened.frame_ancestors)
        if opened.pause is not None:
            return _held(opened.pause, opened.now, html(200, self._pages.page(view), opened.frame_ancestors))
        if pending is None and view.state is not PageState.CHALLENGE:
            if view.auto_return and view.return_url and view.state in RESULT_STATES and request.method == "GET":
                leads = not is_beside_frame(opened, request) and await self._checkout.lead_back(page_id)
                view = replace(view, auto_return=leads)
            return html(200, self._pages.page(view), opened.frame_ancestors)
        session_data = self._way_back.seal(page_id, pending.return_nonce) if pending else ""
        issuers = origins(pending) if pending else ()
        is_other = request.scope["query_string"] == OTHER_CARD.encode()
        body = self._challenge_pages.page(view, pending, session_data, is_other=is_other)
        return html(200, body, opened.frame_ancestors, issuers, (SELF, *issuers) if issuers else ())

    async def _tell_state(self, page_id: str) -> Response:
        opened = await self._checkout.look(page_id, 0.0)
        if opened is None:
            return json_response(404, msgspec.json.encode(PageStatus(PageState.INVALID, PageState.INVALID.value)))
        view = page_view(opened, page_id)
        return json_response(200, msgspec.json.encode(PageStatus(view.state, view.version, view.seconds_left)))

    async def _pay(self, request: Request, page_id: str) -> Response:
        fields = await self._read_form(request, page_id)
        if isinstance(fields, Response):
            return fields
        typed = _typed(fields)
        browser = read_browser(request, fields.get(FIELD, ""))
        try:
            choice = read_choice(fields)
            paid = await self._checkout.pay(page_id, typed, browser, self._return_base(request), choice)
        except Overloaded:  # nothing was stored, so nothing was sent
            log.warning("overloaded", route="page")
            return await self._form_again(request, page_id, 503, fields, notice=BUSY)
        except Limited:  # here neither
            return await self._form_again(request, page_id, 429, fields, notice=WAIT)
        except InvalidCard as invalid:
            return await self._form_again(request, page_id, 422, fields, invalid)
        if paid is None and (opened := await self._checkout.view(page_id)):
            log.info("card_not_taken", order=str(opened.history.order.id), state=opened.state)
            if opened.pause is not None:
                return await self._form_again(request, page_id, 503, fields, notice=_retype(typed))
            if opened.challenges_another(typed[CardField.NUMBER], choice):
                return _conflict(request, page_id)
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

    async def _speak(self, request: Request, page_id: str) -> Response:
        fields = await self._read_form(request, page_id)
        if isinstance(fields, Response):
            return fields
        if fields.get("language") in LANGUAGE_NAMES:
            await self._checkout.speak(page_id, fields["language"])
        return await self._show_again(request, page_id, fields)

    async def _extend(self, request: Request, page_id: str) -> Response:
        fields = await self._read_form(request, page_id)
        if isinstance(fields, Response):
            return fields
        await self._checkout.extend(page_id)
        return await self._show_again(request, page_id, fields)

    async def _show_again(self, request: Request, page_id: str, fields: dict[str, str]) -> Response:
        """The page after a button of the card form, which sends what is typed along where there is no script. From
        other pages a redirect, as always; what maintenance keeps of a form stays in the address."""
        if CardField.NUMBER in fields or not _opens_answer(request):
            return await self._form_again(request, page_id, 200, fields, notice=_retype(_typed(fields)))
        kept = open_form(self._carried, page_id, referring_query(request))
        query = f"?{seal_form(self._carried, page_id, kept)}" if kept else ""
        return redirect(PAGE_PREFIX + page_id + query)

    async def _form_again(
        self,
        request: Request,
        page_id: str,
        status: int,
        fields: Mapping[str, str],
        invalid: InvalidCard | None = None,
        *,
        notice: str = "",
        asked: str = "",
    ) -> Response:
        """The card form with what may come back of what was typed and chosen: in the answer for the page's script,
        behind a redirect for a browser that opens what it is answered; the page as it is if a card can't be typed any
        more. `asked`: the saved card that the payer may mean to remove."""
        opened = await self._checkout.view(page_id)
        view = page_view(opened.without_pause(), page_id) if opened else None
        if opened is None or view is None or view.state not in rounds.PAYABLE_STATES:
            return redirect(PAGE_PREFIX + page_id)
        typed = _typed(fields)
        if invalid:
            problems = invalid.problems
            names = sorted(problem.value for problem in problems.values())
            log.info("card_invalid", order=str(opened.history.order.id), problems=names)
        else:
            left = open_form(self._carried, page_id, referring_query(request))
            problems = left.remaining(view.version, typed) if left and CardField.NUMBER in fields else {}
        kept = keep_form(view.version, problems, typed, notice, read_picked(fields, asked))
        if _opens_answer(request):
            return redirect(f"{PAGE_PREFIX}{page_id}?{seal_form(self._carried, page_id, kept)}")
        page = self._pages.form(view, problems, kept.typed, PAUSED if opened.pause else notice, kept.picked)
        answer = html(status, page, opened.frame_ancestors)
        return _held(opened.pause, opened.now, answer) if opened.pause and status == 503 else answer

    async def _confirm(self, request: Request, page_id: str) -> Response:
        """The payer wants to remove a saved card, and is asked whether they mean it."""
        fields = await self._read_form(request, page_id)
        if isinstance(fields, Response):
            return fields
        return await self._form_again(
            request, page_id, 200, fields, notice=_retype(_typed(fields)), asked=fields.get(REMOVE_FIELD, "")
        )

    async def _remove(self, request: Request, page_id: str) -> Response:
        fields = await self._read_form(request, page_id)
        if isinstance(fields, Response):
            return fields
        notice = REMOVED
        try:
            await self._checkout.remove_card(page_id, read_card_id(fields.get(REMOVE_FIELD, "")))
        except Refused as refused:  # it was removed before, or was never theirs: the form shows the cards that are
            log.info("card_not_removed", refusal=refused.refusal)
            notice = ""
        return await self._form_again(request, page_id, 200, fields, notice=notice)

    async def _read_form(self, request: Request, page_id: str) -> dict[str, str] | Response:
        try:
            return await request.form(CARD_BODY_MAX)
        except Refused as refused:
            log.info("form_refused", reason=refused.record)
            status = refused.status if isinstance(refused, BodyUnread) else 400
            return await self._form_again(request, page_id, status, {}, notice=UNREAD)

    def _is_own_origin(self, request: Request) -> bool:
        """A browser names the page that posts; what names none is no browser, and has the address all the same."""
        origin = request.header(b"origin")
        if origin == "":
            if site := request.header(b"sec-fetch-site"):
                return site in ("same-origin", "none")
            own = self._own_origin(request).lower() + "/"
            return request.header(b"referer") == "" or referring_origin(request) == own
        return origin.lower() == self._own_origin(request).lower()

    def _own_origin(self, request: Request) -> str:
        return self._public_origin or f"{request.scope['scheme']}://{request.header(b'host')}"

    def _return_base(self, request: Request) -> str:
        return self._own_origin(request) + self._return_prefix

    def _no_page(self, request: Request) -> Response:
        return message(request, 404, self._pages.invalid(preferred_language(request), Refusal.NOT_FOUND))


def page_view(opened: OpenedPage, page_id: str) -> PageView:
    """What the payer may see of an order."""
    order, terminal = opened.history.order, opened.terminal
    payment = _shown_payment(opened)
    # While the outcome is open (on the form too: a card that was sent may have arrived), going back proves nothing.
    return_url = order.return_url
    if opened.state in _ENDED_UNPAID:
        return_url = order.failure_return_url or order.return_url
    frame_origin = opened.page.frame_origin
    # Whoever opens the order's page again after that means to read it.
    has_just_left = order.has_left and rounds.opened_at(opened.page) <= order.updated_at
    return PageView(
        language=opened.page.language or order.language,
        shop_name=legible(terminal.name),
        logo=terminal.logo,
        colour=terminal.colour,
        text_colour=terminal.text_colour,
        amount=order.amount,
        currency=order.currency,
        invoice_id=legible(order.invoice_id),
        description=legible(order.description),
        state=opened.state,
        attempts_left=rounds.attempts_left(opened.history, terminal),
        masked_pan=payment.masked_pan if payment else "",
        brand=payment.brand if payment else "",
        rrn=payment.rrn if payment else "",
        approval_code=payment.approval_code if payment else "",
        reason_code=payment.reason_code if payment else order.reason_code,
        has_left=order.has_left,
        at=payment.updated_at if payment else None,
        # In a frame it leads nowhere but tells the shop's page; where nobody listens it leads there.
        return_url=return_url or frame_origin,
        frame_origin=frame_origin,
        auto_return=(order.auto_return or has_just_left) and not opened.page.has_led_back,
        is_message_on_its_way=any(m.kind is MessageKind.SUCCESS for m in opened.history.messages.values()),
        is_verification=order.is_verification,
        is_slow=rounds.is_slow(opened.history, opened.now),
        pause=opened.pause,
        page_path=PAGE_PREFIX + page_id,
        now=opened.now,
        deadline_at=order.deadline_at,
        cards=offer_cards(opened.cards),
        offers_saving=may_save(order),
        extension_minutes=terminal.extension_minutes if rounds.can_extend(order, terminal, opened.now) else 0,
    )


def page_path_of(request: Request) -> str:
    """The path of the payment page that a request belongs to, empty if it belongs to none."""
    path: str = request.scope["path"]
    page_id = path[len(PAGE_PREFIX) :].partition("/")[0] if path.startswith(PAGE_PREFIX) else ""
    return PAGE_PREFIX + page_id if page_id else ""


def _opens_answer(request: Request) -> bool:
    """A browser asks for the next page. A script, which asks for whatever comes, shows the answer on its own page."""
    return "text/html" in request.header(b"accept")


def _conflict(request: Request, page_id: str) -> Response:
    """The payer has just typed another card than the one whose challenge is open: the page says so."""
    if _opens_answer(request):
        return redirect(f"{PAGE_PREFIX}{page_id}?{OTHER_CARD}")
    return Response(409, [(b"cache-control", b"no-store")])  # page.js goes to the same address


def _held(pause: Pause, now: datetime, page: Response) -> Response:
    """The page that says so, with the status that tells programs the same."""
    seconds = pause.seconds_left(now) or RETRY_SECONDS
    return page._replace(status=503, headers=[*page.headers, (b"retry-after", b"%d" % seconds)])


def is_beside_frame(opened: OpenedPage, request: Request) -> bool:
    """A page that stands in a frame of the shop's is asked for by a window of its own, as the browser says."""
    return bool(opened.page.frame_origin) and request.header(b"sec-fetch-dest") == "document"


def _typed(fields: Mapping[str, str]) -> dict[CardField, str]:
    return {field: fields.get(field, "") for field in CardField}


def _retype(typed: Mapping[CardField, str]) -> str:
    """What to say of a form that was sent along with another button."""
    return RETYPE if typed[CardField.NUMBER] or typed[CardField.CVC] else ""


def _shown_payment(opened: OpenedPage) -> Payment | None:
    if opened.state in _RETURN_TO_SUCCESS:
        return opened.history.successful_payment()
    return opened.history.last_payment()
