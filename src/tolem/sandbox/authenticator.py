"""3-D Secure as the sandbox plays it: the card's number says what the issuer answers (docs/protocol.md §2).

Called through `acquirers.base.Authenticator` like any 3DS server. Nothing is random: the same card and amount give the
same answer. What needs the payer goes to the sandbox's access control server (acs.py), on an origin of its own; its
book tells what came of it.
"""

import base64
from urllib.parse import urlsplit
from uuid import UUID

import msgspec
from msgspec.structs import replace

from tolem.acquirers.base import AuthenticationRequest
from tolem.clock import Clock
from tolem.domain.authentication import Authentication, Challenge, ChallengeWindow, DeviceStep, TransStatus
from tolem.domain.card import Card
from tolem.sandbox.acs_book import AcsBook, AcsEntry, make_cavv
from tolem.sandbox.cards import CHALLENGED, IN_APP, LOOKED_AT, find_card

ACS_HOST = "acs.localhost"
CHALLENGE_PATH = "/challenge"
DEVICE_PATH = "/device"
MESSAGE_VERSION = "2.2.0"
NO_CARD_RECORD = "08"

_RESULTS = {
    "0": Authentication(TransStatus.AUTHENTICATED),
    "2": Authentication(TransStatus.ATTEMPTED),
    "3": Authentication(TransStatus.UNAVAILABLE, trans_status_reason="13"),  # cardholder not enrolled
    "4": Authentication(TransStatus.REJECTED, trans_status_reason="11"),  # suspected fraud
    "5": Authentication(TransStatus.UNAVAILABLE, trans_status_reason="22"),  # technical issue
    "6": Authentication(TransStatus.AUTHENTICATED),
    "8": Authentication(TransStatus.INFORMATION),
}
_UNKNOWN = Authentication(TransStatus.UNAVAILABLE, trans_status_reason=NO_CARD_RECORD)
_WITH_CAVV = (TransStatus.AUTHENTICATED, TransStatus.ATTEMPTED)


class CReq(msgspec.Struct, frozen=True, kw_only=True):
    """The challenge request that a browser carries to the access control server."""

    threeDSServerTransID: UUID
    acsTransID: UUID
    challengeWindowSize: ChallengeWindow
    messageType: str = "CReq"
    messageVersion: str = MESSAGE_VERSION


class MethodData(msgspec.Struct, frozen=True, kw_only=True):
    """What a browser carries to the 3DS Method, and, without the address, back."""

    threeDSServerTransID: UUID
    threeDSMethodNotificationURL: str = ""


class SandboxAuthenticator:
    """The issuer of every card of the table; of others it knows nothing, so they take no part. It names no ECI: the
    table of domain/authentication.py has them."""

    def __init__(self, book: AcsBook, clock: Clock, acs_url: str = "") -> None:
        """`acs_url`: where browsers reach the access control server; empty: on acs.localhost, with the page's port."""
        self._book = book
        self._clock = clock
        self._acs_url = acs_url.rstrip("/")

    def find_device_step(self, card: Card, key: UUID, return_url: str) -> DeviceStep | None:
        """Some cards of the table have one."""
        known = find_card(card.pan)
        if known is None or known.authentication not in LOOKED_AT:
            return None
        data = MethodData(threeDSServerTransID=key, threeDSMethodNotificationURL=return_url)
        return DeviceStep(self._origin(return_url) + DEVICE_PATH, encode_message(data))

    async def authenticate(self, request: AuthenticationRequest) -> Authentication | Challenge:
        """The issuer's word, by the card."""
        card = find_card(request.card.pan)
        if card is not None and card.authentication in CHALLENGED:
            is_decoupled = card.authentication in IN_APP
            entry = await self._book.begin(request, is_decoupled=is_decoupled)
            url = "" if is_decoupled else self._origin(entry.return_url) + CHALLENGE_PATH
            return Challenge(url, encode_message(_creq(entry)), str(entry.id))
        result = _RESULTS[card.authentication] if card else _UNKNOWN
        return replace(result, cavv=_cavv(request)) if result.trans_status in _WITH_CAVV else result

    async def find_result(self, key: UUID, reference: str) -> Authentication | None:
        """What the access control server's book says."""
        entry = await self._book.find(key)
        return entry.find_result(self._clock.now()) if entry and str(entry.id) == reference else None

    async def close(self) -> None:
        """Closes the book."""
        await self._book.close()

    def _origin(self, return_url: str) -> str:
        if self._acs_url:
            return self._acs_url
        parts = urlsplit(return_url)
        port = f":{parts.port}" if parts.port else ""
        return f"{parts.scheme}://{ACS_HOST}{port}"


def encode_message(message: msgspec.Struct) -> str:
    """A message as browsers carry it: JSON in base64url without padding. What has its default and is empty is left
    out."""
    fields = {name: value for name, value in msgspec.to_builtins(message).items() if value != ""}
    return base64.urlsafe_b64encode(msgspec.json.encode(fields)).rstrip(b"=").decode()


def _creq(entry: AcsEntry) -> CReq:
    return CReq(threeDSServerTransID=entry.key, acsTransID=entry.id, challengeWindowSize=entry.window)


def _cavv(request: AuthenticationRequest) -> str:
    told = f"{request.card.pan.reveal()} {request.terminal_id} {request.amount} {request.currency}"
    return make_cavv(told.encode())
