"""Refusals: what a rule of the business turns away.

    Refused          the caller's mistake; says what to change, and changes nothing
    Overloaded       nobody's mistake: nothing was stored, the same may be tried again later
    Uncertain        nobody's mistake: the database was lost while it stored; only reading can tell what it has
    Limited          too many declines lately: nothing was stored or sent, the payer has to wait a little

A decline is not here: it is a value on the payment. Our own faults are ordinary exceptions, logged once at the edge.
"""

import re
from enum import StrEnum

SECRET_CHARS_MIN = 24
"""No client secret is shorter."""
CARD_DIGITS_MIN = 12
"""No card number is shorter."""
_QUOTED = re.compile(r"""(['"])(.*?)\1""", re.DOTALL)


class Refusal(StrEnum):
    """Why a request was turned away; the edge maps each to an answer (HTTP status, page)."""

    INVALID_REQUEST = "invalid_request"  # a field is missing, malformed or contradicts another
    INVALID_CLIENT = "invalid_client"  # unknown client or wrong secret
    INVALID_SCOPE = "invalid_scope"
    UNSUPPORTED_GRANT = "unsupported_grant_type"
    TOO_MANY_TRIES = "too_many_tries"  # wrong secrets from one address
    INVALID_TOKEN = "invalid_token"  # noqa: S105 - a name, not a secret: unknown, expired or revoked access token
    DIFFERS = "differs"  # what the browser brought contradicts what the shop's server said
    LINK_NOT_ALLOWED = "link_not_allowed"  # notification address outside the terminal's list
    FRAME_NOT_ALLOWED = "frame_not_allowed"  # shown in a frame by a page outside the terminal's list
    IN_MAINTENANCE = "in_maintenance"  # an operator has payments wait (tolem maintenance)
    IN_PROGRESS = "in_progress"  # a payment of the order, or another operation of the payment, is open
    KEY_REUSED = "key_reused"  # the idempotency key was used for something else
    FORBIDDEN = "forbidden"  # the token is good, but not for this
    WRONG_STATE = "wrong_state"  # the payment's status does not allow it
    NOT_FOUND = "not_found"
    NOT_AVAILABLE = "not_available"  # a part of the bank's service that this gateway does not speak
    FOREIGN_ORIGIN = "foreign_origin"  # a form posted by a page that is not ours


class Overloaded(Exception):
    """Too much waits, or what it needs is away. Nothing was stored."""


class Uncertain(Exception):
    """The change may or may not be stored; only reading can tell, once the database is back."""


class Limited(Exception):
    """The next card attempt has to wait. Nobody outside is told which limit it was."""


class Refused(Exception):
    """A rule said no. `message` is English, for a developer, and says what to change; `field` names the culprit."""

    def __init__(self, refusal: Refusal, message: str, field: str = "") -> None:
        super().__init__(message)
        self.refusal = refusal
        self.message = message
        self.field = field

    @property
    def record(self) -> str:
        """`message` for logs and books: a quoted value that may be a card's number or a secret, sent in the wrong
        field, is only begun."""
        return _QUOTED.sub(lambda quoted: quoted[1] + abridge(quoted[2]) + quoted[1], self.message)


def abridge(value: str) -> str:
    """The value as sent, or only its beginning if it is as long as a secret or has a card number's digits."""
    is_open = len(value) < SECRET_CHARS_MIN and sum(char.isdigit() for char in value) < CARD_DIGITS_MIN
    return value if is_open else value[:6] + "…"
