"""`/3ds/{nonce}`: where the issuer sends the payer's browser back to, after its look at it and after a challenge.

Anybody may post here, with whatever content: it only wakes the payment, whose result is asked from server to server.
Who comes with a page's sealed address, made for this nonce and not long ago, is led to that page; who comes in a frame
of the page knocks at it. Never logged, as the page's address.
"""

from tolem.domain.authentication import AuthenticationStep
from tolem.domain.errors import Refused
from tolem.flows.authorization import PATIENCE_SECONDS
from tolem.flows.checkout import Checkout
from tolem.flows.way_back import WayBack
from tolem.web.challenge_pages import ChallengePages
from tolem.web.checkout import PAGE_PREFIX, html, method_not_allowed, preferred_language
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
        nonce = request.scope["path"][len(RETURN_PREFIX) :]
        is_device = "threeDSMethodData" in fields
        path = "" if is_device else await self._lead_on(fields.get("threeDSSessionData", ""), nonce)
        step = AuthenticationStep.DEVICE if is_device else AuthenticationStep.CHALLENGE
        body = self._pages.returned(preferred_language(request), path, step)
        return html(200, body, frame_ancestors=(SELF,))

    async def _lead_on(self, session_data: str, nonce: str) -> str:
        page_id = self._way_back.find_page(session_data, nonce) if session_data else None
        if page_id is None or not await self._checkout.came_back(page_id, nonce, PATIENCE_SECONDS):
            return ""
        return PAGE_PREFIX + page_id
