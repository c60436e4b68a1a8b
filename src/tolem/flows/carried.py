"""What a payer's browser carries from a form that it posted to the page that shows the form again, instead of a store.

Without a script every answer to a form is a redirect, so that Back and reload never meet a posted form. What is to be
said on the page after it goes along in that page's address, sealed: nobody can read it there, or make one up. Called by
the web edge, which never puts a card number or a security code into it.
"""

import base64
import binascii

from tolem.storage.sealing import CannotOpen, Sealer

_OWNER = b"tolem carried form\0"


class Carried:
    """Seals and opens what browsers carry."""

    def __init__(self, sealer: Sealer) -> None:
        self._sealer = sealer

    def seal(self, page_id: str, words: bytes) -> str:
        """base64url, for the query of this page's address."""
        sealed = self._sealer.seal(words, _OWNER + page_id.encode())
        return base64.urlsafe_b64encode(sealed).rstrip(b"=").decode()

    def open(self, page_id: str, sealed: str) -> bytes | None:
        """None: it was not sealed for this page, or not here."""
        try:
            carried = base64.urlsafe_b64decode(sealed + "=" * (-len(sealed) % 4))
            return self._sealer.open(carried, _OWNER + page_id.encode())
        except (CannotOpen, ValueError, binascii.Error):
            return None
