"""3-D Secure as the payment sees it: what the authenticator said of the payer."""

from enum import StrEnum

import msgspec


class TransStatus(StrEnum):
    """transStatus of EMV 3-D Secure, as far as it can end here without a challenge."""

    AUTHENTICATED = "Y"
    ATTEMPTED = "A"
    NOT_ENROLLED = "U"  # no authentication could be made; the card takes no part


class Authentication(msgspec.Struct, frozen=True):
    """Result of authenticating one attempt."""

    trans_status: TransStatus
    eci: str = ""
    """Electronic commerce indicator: 05/02 full, 06/01 attempted, 07/00 none (Visa / Mastercard)."""
    cavv: str = ""
    """Cardholder authentication verification value, base64; goes to the acquirer, is not kept."""

    @property
    def is_authenticated(self) -> bool:
        """True: the issuer vouches for the payer."""
        return self.trans_status is TransStatus.AUTHENTICATED
