"""3-D Secure as the sandbox plays it: the card's number says what the issuer answers (docs/protocol.md §2).

Called by the checkout as every authenticator is. Pure and prompt: the same card and amount give the same answer. The
values are those of EMV 3-D Secure; the Mastercard family counts its electronic commerce indicator from 00.
"""

import base64
import hashlib

from tolem.acquirers.base import AuthenticationRequest
from tolem.domain.authentication import Authentication, TransStatus
from tolem.domain.card import Brand
from tolem.sandbox.cards import find_card

_STATUS = {
    "0": TransStatus.AUTHENTICATED,
    "2": TransStatus.ATTEMPTED,
    "3": TransStatus.NOT_ENROLLED,
}
_ECI = {TransStatus.AUTHENTICATED: "05", TransStatus.ATTEMPTED: "06", TransStatus.NOT_ENROLLED: "07"}
_ECI_MASTERCARD = {TransStatus.AUTHENTICATED: "02", TransStatus.ATTEMPTED: "01", TransStatus.NOT_ENROLLED: "00"}
_MASTERCARD = (Brand.MASTERCARD, Brand.MAESTRO)


class SandboxAuthenticator:
    """The issuer of every card of the table; of others it knows nothing, so they take no part."""

    async def authenticate(self, request: AuthenticationRequest) -> Authentication:
        """The issuer's word. It never asks for a challenge."""
        card = find_card(request.card.pan)
        status = _STATUS[card.authentication] if card else TransStatus.NOT_ENROLLED
        eci = (_ECI_MASTERCARD if request.card.pan.brand in _MASTERCARD else _ECI)[status]
        cavv = "" if status is TransStatus.NOT_ENROLLED else _cavv(request)
        return Authentication(trans_status=status, eci=eci, cavv=cavv)


def _cavv(request: AuthenticationRequest) -> str:
    """20 bytes in base64, as issuers make them; here a hash of card, terminal and amount."""
    told = f"{request.card.pan.reveal()} {request.terminal_id} {request.amount} {request.currency}"
    return base64.b64encode(hashlib.sha256(told.encode()).digest()[:20]).decode()
