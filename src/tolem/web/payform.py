"""`/payform/`, where `halyk.pay()` leads: the pay object becomes a page, or a page that says why it does not open."""

from tolem.domain.errors import Refusal, Refused
from tolem.flows.opening import Openings
from tolem.telemetry import log
from tolem.web.answers import is_in_frame, message, method_not_allowed, preferred_language, referring_origin
from tolem.web.checkout import PAGE_PREFIX
from tolem.web.http import BodyUnread, Request, Response, redirect
from tolem.web.pages import Pages
from tolem.wire.pay_object import FLAGS, SHORT_FORM, PayObject, PayObjectError, parse_address, parse_posted

PAYFORM_BODY_MAX = 64 * 1024
"""`params` has at most 16 KB; URL-encoding makes three of one, and the flags need a little."""


class PayformEndpoint:
    """Where `halyk.pay()` leads: the pay object becomes a page."""

    def __init__(self, openings: Openings, pages: Pages) -> None:
        self._openings = openings
        self._pages = pages

    async def __call__(self, request: Request) -> Response:
        """POST of tolem's own library, GET of the bank's and its old copies. A refusal is a page that says why."""
        language, frame_origin, access_token = "", None, ""
        try:
            if request.method == "POST":
                fields = await request.form(PAYFORM_BODY_MAX)
                wish = parse_posted(fields.get("params", ""), _flags(fields))
            elif request.method in ("GET", "HEAD"):
                fields = request.query()
                wish = parse_address(fields.get("params", ""), _flags(fields))
            else:
                return method_not_allowed("GET, POST")
            language, access_token = wish.language, wish.access_token
            frame_origin = _frame_origin(request, fields, wish)
            page_id = await self._openings.open_page(wish, preferred_language(request), frame_origin=frame_origin)
        except PayObjectError as error:
            refused = Refused(Refusal.INVALID_REQUEST, str(error), error.field)
            if error.access_token:
                await self._openings.note_unreadable(error.access_token, refused.record)
            return await self._refuse(request, refused, error.language, frame_origin, error.access_token)
        except Refused as refused:
            return await self._refuse(request, refused, language, frame_origin, access_token)
        return redirect(PAGE_PREFIX + page_id)

    async def _refuse(
        self, request: Request, refused: Refused, language: str, frame_origin: str | None, access_token: str
    ) -> Response:
        language = language or preferred_language(request)
        known = await self._openings.find_known(access_token, referring_origin(request))
        order = str(known.order_id) if known.order_id else None
        log.info("page_refused", order=order, refusal=refused.refusal, field=refused.field, reason=refused.record)
        page = self._pages.invalid(language, refused.refusal, refused.message, known, frame_origin or "")
        status = 501 if refused.refusal is Refusal.NOT_AVAILABLE else 400
        if isinstance(refused, BodyUnread):
            status = refused.status
        return message(request, status, page)


def _frame_origin(request: Request, fields: dict[str, str], wish: PayObject) -> str | None:
    """Origin of the page that shows this one in a frame, empty where nothing says it; None for a page of its own. Our
    library names its page, and the browser shows ours to no other (frame-ancestors); for old copies of the bank's it is
    the Referer."""
    says_nothing = request.header(b"sec-fetch-dest") == ""
    if not (is_in_frame(request) or (says_nothing and SHORT_FORM in wish.flags)):
        return None
    return fields.get("origin") or referring_origin(request).rstrip("/")


def _flags(fields: dict[str, str]) -> dict[str, str]:
    return {name: fields[name] for name in FLAGS if name in fields}
