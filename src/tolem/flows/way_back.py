"""The way back from the issuer: which page a browser belongs to, told by what the browser carries along.

The issuer sends the browser to an address with a nonce, and never learns the page's own, which is the permission to
pay. A browser that left the page for the issuer's carries the page's address sealed (threeDSSessionData, which goes to
the issuer with the challenge and comes back beside its answer). Called by the web edge.
"""

import base64
import binascii

from tolem.storage.sealing import CannotOpen, Sealer

_OWNER = b"tolem way back\0"


class WayBack:
    """Seals and opens what browsers carry."""

    def __init__(self, sealer: Sealer) -> None:
        self._sealer = sealer

    def seal(self, page_id: str, nonce: str) -> str:
        """threeDSSessionData for a challenge whose browser comes back to `nonce`; base64url, well below the 1,024
        characters of the specification."""
        sealed = self._sealer.seal(page_id.encode(), _OWNER + nonce.encode())
        return base64.urlsafe_b64encode(sealed).rstrip(b"=").decode()

    def find_page(self, session_data: str, nonce: str) -> str | None:
        """The page's id. None: it was not made for this nonce, or not here."""
        try:
            sealed = base64.urlsafe_b64decode(session_data + "=" * (-len(session_data) % 4))
            return self._sealer.open(sealed, _OWNER + nonce.encode()).decode()
        except (CannotOpen, ValueError, binascii.Error):
            return None
