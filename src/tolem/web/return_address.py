"""`/3ds/{nonce}`: where the issuer sends the payer's browser back to, after its look at it and after a challenge.

Anybody may post here, with whatever content: it only wakes the payment, whose result is asked from server to server.
Who comes with a page's sealed address, made for this nonce, is led to that page, however late: it shows what became of
the payment. Who comes without one is told where to look, with 404, whether there is such a nonce or not. Who comes in a
frame of the page knocks at it; who comes in a window beside the frame that shows the page is sent back to that. Never
logged, as the page's address.

A POST only wakes the payment and is answered with a redirect to the page that leads on, which wakes nothing: so Back
and reload meet no posted form.
"""

from urllib.parse import quote

from tolem.domain.authentication import AuthenticationStep
from tolem.domain.errors import Refused
from tolem.flows.authorization import PATIENCE_SECONDS
from tolem.flows.checkout import Checkout, OpenedPage
from tolem.flows.way_back import WayBack
from tolem.web.answers import ANY_SITE, html, method_not_allowed, preferred_language
from tolem.web.challenge_pages import ChallengePages
from tolem.web.checkout import PAGE_PREFIX, is_beside_frame
from tolem.web.headers import SELF
from tolem.web.http import Request, Response, redirect

RETURN_PREFIX = "/3ds/"
BODY_MAX = 64 * 1024


SESSION = "back"
"""Query of the page that leads on: the threeDSSessionData that the browser brought."""
LOOK = "look"
"""Query of the page that knocks after a look at the browser."""


class ReturnEndpoint:
    """Takes `cres` with `threeDSSessionData`, and `threeDSMethodData`."""

    def __init__(self, checkout: Checkout, way_back: WayBack, pages: ChallengePages) -> None:
        self._checkout = checkout
        self._way_back = way_back
        self._pages = pages

    async def __call__(self, request: Request) -> Response:
        """POST wakes and redirects, GET answers with a page that leads on, or knocks."""
        nonce = request.scope["path"][len(RETURN_PREFIX) :]
        if request.method == "POST":
            return await self._wake(request, nonce)
        if request.method in ("GET", "HEAD"):
            return await self._lead_on(request, nonce)
        return method_not_allowed("POST")

    async def _wake(self, request: Request, nonce: str) -> Response:
        try:
            fields = await request.form(BODY_MAX)
        except Refused:  # somebody's own words: it is a knock all the same
            fields = {}
        address = RETURN_PREFIX + quote(nonce, safe="")
        if "threeDSMethodData" in fields:
            return redirect(f"{address}?{LOOK}")
        session = fields.get("threeDSSessionData", "")
        found = await self._find(session, nonce)
        if found is None:
            return redirect(address)
        await self._checkout.look(found[0], PATIENCE_SECONDS)
        return redirect(f"{address}?{SESSION}={quote(session, safe='')}")

    async def _lead_on(self, request: Request, nonce: str) -> Response:
        language = preferred_language(request)
        try:
            query = request.query()
        except Refused:
            query = {}
        if LOOK in query:
            return html(200, self._pages.returned(language, "", AuthenticationStep.DEVICE), ANY_SITE)
        found = await self._find(query.get(SESSION, ""), nonce)
        if found is None:
            return html(404, self._pages.returned(language, "", AuthenticationStep.CHALLENGE), ANY_SITE)
        page_id, opened = found
        body = self._pages.returned(
            opened.page.language or opened.history.order.language or language,
            PAGE_PREFIX + page_id,
            AuthenticationStep.CHALLENGE,
            is_beside=is_beside_frame(opened, request),
        )
        return html(200, body, (SELF, *opened.frame_ancestors))

    async def _find(self, session: str, nonce: str) -> tuple[str, OpenedPage] | None:
        """The page to which a browser that brought `session` to this nonce belongs."""
        page_id = self._way_back.find_page(session, nonce)
        opened = await self._checkout.find_returned(page_id, nonce) if page_id else None
        return (page_id, opened) if page_id and opened else None
