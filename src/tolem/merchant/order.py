"""The order that a shop wants paid, and the token it gets for it (docs/protocol.md §3).

Made by the shop, sent by `Client`, read by `build_pay_object`. Invariant: an `OrderRequest` that exists can be sent:
whatever the gateway would certainly refuse is refused here, with words that say what to change.
"""

import re
import secrets
from dataclasses import dataclass, field
from decimal import Decimal

from tolem.merchant.amount import Amount, exact, render_amount

_INVOICE = re.compile(r"[0-9]{6,15}", re.ASCII)
_CURRENCY = re.compile(r"[A-Z]{3}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderRequest:
    """One order of the shop. TypeError for an amount in float, ValueError for what the gateway would refuse."""

    invoice_id: str
    """The shop's order number, 6–15 digits, unique for every new order (the bank wants its last 6 unique too)."""
    amount: Amount
    """In the main unit, exact: `Decimal("1850.50")`, `1850`, `"1850.50"`."""
    currency: str = "KZT"
    """ISO 4217, upper case."""
    secret_hash: str = field(repr=False)
    """Made by `new_secret_hash`, kept on the server, given back in each notification of this order."""
    post_link: str = ""
    """Where the gateway posts the outcome, reachable from the gateway."""
    failure_post_link: str = ""
    """Where failures go; empty: to post_link too."""
    account_id: str = ""
    """The shop's id of its customer; needed for saved cards only."""

    def __post_init__(self) -> None:
        exact(self.amount)
        if _INVOICE.fullmatch(self.invoice_id) is None:
            raise ValueError(f"invoice_id {self.invoice_id[:32]!r} is not 6–15 digits")
        if _CURRENCY.fullmatch(self.currency) is None:
            raise ValueError(f"currency {self.currency[:8]!r} is not an ISO 4217 code such as KZT")
        if not self.secret_hash:
            raise ValueError("secret_hash is empty: without it no notification of this order can be verified")

    @property
    def exact_amount(self) -> Decimal:
        """The amount as a Decimal."""
        return exact(self.amount)

    @property
    def amount_text(self) -> str:
        """The amount as the gateway reads it, `1850` or `1850.50`."""
        return render_amount(self.amount)


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """The permission to open the payment page for one order."""

    access_token: str = field(repr=False)
    terminal_id: str
    """The terminal that it was issued for."""
    expires_in: int
    """Seconds from its issue."""
    scope: str = "payment"
    token_type: str = "Bearer"  # noqa: S105 - the scheme's name, no secret

    def as_auth(self) -> dict[str, object]:
        """The `auth` of the pay object: the fields of the gateway's answer."""
        return {
            "access_token": self.access_token,
            "expires_in": self.expires_in,
            "refresh_token": "",
            "scope": self.scope,
            "token_type": self.token_type,
        }


def new_secret_hash() -> str:
    """A new secret for one order: 192 random bits as 32 characters of A–Z a–z 0–9 - _."""
    return secrets.token_urlsafe(24)
