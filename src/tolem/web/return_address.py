"""`/3ds/{nonce}`: where the issuer sends the payer's browser back to, after its look at it and after a challenge.

Anybody may post here, with whatever content: it only wakes the payment, whose result is asked from server to server.
Who comes with a page's sealed address, made for this nonce, is led to that page, however late: it shows what became of
the payment. Who comes in a frame of the page knocks at it; who comes in a window beside the frame that shows the page
is sent back to that. Never logged, as the page's address.
"""

from tolem.domain.authentication import AuthenticationStep
from tolem.domain.errors import Refused
from tolem.flows.authorization import PATIENCE_SECONDS
from tolem.flows.checkout import Checkout
from tolem.flows.way_back import WayBack
from tolem.web.challenge_pages import ChallengePages
from tolem.web.checkout import (
    ANY_SITE,
    PAGE_PREFIX,
    html,
    is_beside_frame,
    method_not_allowed,
    preferred_language,
)
from tolem.web.headers import SELF
from tolem.web.http import Request, Response

RETURN_PREFIX = "/3ds/"
BODY_MAX = 64 * 1024


class ReturnEndpoint:
    """Takes `cres` with `threeDSSessionData`, and `threeDSMethodData`."""

    def __init__(self, checkout: Checkout, way_back: WayBack, pages: ChallengePages) -> None:
        self._checkout = checkout
        self._way_back = way_back
        self._pages = pages

    async def __call__(self, request: Request) -> Response:
        """Answers with a page that leads on, or knocks."""
        if request.method not in ("POST", "GET", "HEAD"):
            return method_not_allowed("POST")
        fields: dict[str, str] = {}
        if request.method == "POST":
            try:
                fields = await request.form(BODY_MAX)
            except Refused:  # somebody's own words: it is a knock all the same
                fields = {}
        language = preferred_language(request)
        if "threeDSMethodData" in fields:
            return html(200, self._pages.returned(language, "", AuthenticationStep.DEVICE), ANY_SITE)
        nonce = request.scope["path"][len(RETURN_PREFIX) :]
        page_id = self._way_back.find_page(fields.get("threeDSSessionData", ""), nonce)
        opened = await self._checkout.came_back(page_id, nonce, PATIENCE_SECONDS) if page_id else None
        if opened is None or page_id is None:
            return html(200, self._pages.returned(language, "", AuthenticationStep.CHALLENGE), ANY_SITE)
        body = self._pages.returned(
            opened.page.language or opened.history.order.language or language,
            PAGE_PREFIX + page_id,
            AuthenticationStep.CHALLENGE,
            is_beside=is_beside_frame(opened, request),
        )
        return html(200, body, (SELF, *opened.frame_ancestors))
