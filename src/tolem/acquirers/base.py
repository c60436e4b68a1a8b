"""What every acquirer and authenticator does, in the trade's words. Connectors are stateless translations of this.

A connector never retries, stores nothing and knows no order. It answers, or raises: every exception, and every answer
that is not certain, is an unknown outcome for the caller, never a decline.
"""

from datetime import date, datetime
from enum import StrEnum
from typing import Protocol
from uuid import UUID

import msgspec

from tolem.domain.authentication import Authentication, Browser, Challenge, ChallengeWindow, DeviceStep
from tolem.domain.card import Card, CardField, CardProblem, TypedCard
from tolem.domain.payment import OperationKind


class AcquirerRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One message to an acquirer."""

    key: UUID
    """Id of this exchange: the same key again is the same exchange, and is answered as the first time."""
    kind: OperationKind
    terminal_id: UUID
    amount: int
    """Minor units."""
    currency: str
    stan: str
    rrn: str
    at: datetime
    card: Card | None = None
    """Only for authorize and purchase."""
    authentication: Authentication | None = None
    original_key: UUID | None = None
    """Key of the operation that a reversal, inquiry, capture, void or refund is about."""


class Verdict(StrEnum):
    """What the acquirer says of an operation."""

    APPROVED = "approved"  # it happened; for a reversal: the original did not and will not happen
    DECLINED = "declined"  # it did not happen, and why
    UNKNOWN = "unknown"  # the acquirer itself does not know
    NOT_FOUND = "not_found"  # answer to an inquiry: no such key so far; ends nothing, the original may still arrive


class AcquirerAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What came back. To an inquiry: the verdict on the operation asked about."""

    key: UUID
    """The request's key, so that an answer to another question is noticed."""
    verdict: Verdict
    amount: int = 0
    """Approved amount, minor units."""
    currency: str = ""
    """Of the amount; empty where the acquirer does not tell it."""
    reason_code: int = 0
    """0 when approved; otherwise a code of docs/protocol.md, reason codes."""
    approval_code: str = ""
    """6 characters, ISO 8583 field 38."""
    rrn: str = ""
    """12 digits, ISO 8583 field 37; empty: the request's counts."""
    issuer_name: str = ""


class StatementLine(msgspec.Struct, frozen=True, kw_only=True):
    """One exchange as the acquirer's own books have it, for reconciliation."""

    key: UUID
    kind: OperationKind
    original_key: UUID | None
    """What a reversal, capture, void or refund was about."""
    terminal_id: UUID
    amount: int
    currency: str
    rrn: str
    is_approved: bool
    is_undone: bool
    """Approved once, and reversed or voided since."""
    at: datetime
    """The gateway's business time, as the request carried it; the acquirer's own time where it tells no other, which
    reconciliation allows to be some minutes off."""


class AnswerGarbled(Exception):
    """Something came back that is no answer: cut short, of another shape, or to another question. The outcome is
    unknown. The message says what was wrong in few words, never what was in it."""


class Acquirer(Protocol):
    """A bank that takes card payments."""

    def check(self, card: TypedCard, today: date) -> dict[CardField, CardProblem]:
        """Why this acquirer can't take the card: its expiry, and in a sandbox its table. Asked before anything is
        stored; judges only what could be read. Empty: it can."""
        ...

    async def send(self, request: AcquirerRequest) -> AcquirerAnswer:
        """One exchange. Whatever it raises means that the outcome is unknown."""
        ...

    async def statement(self, since: datetime, until: datetime) -> list[StatementLine]:
        """All exchanges with since ≤ at < until, oldest first. Raises if the books can't be read whole."""
        ...

    async def close(self) -> None:
        """Ends its connections."""
        ...


class DeviceCheck(StrEnum):
    """threeDSCompInd: whether the issuer has looked at the payer's browser."""

    DONE = "Y"
    FAILED = "N"  # it did not say so in time
    NOT_ASKED = "U"


class AuthenticationRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What an authenticator is told of an attempt: the AReq of EMV 3-D Secure."""

    key: UUID
    """Id of the attempt (threeDSServerTransID): the same key again is the same attempt, answered as the first time."""
    terminal_id: UUID
    shop_name: str
    amount: int
    """Minor units; 0: the card is verified only."""
    currency: str
    card: Card
    browser: Browser
    window: ChallengeWindow
    language: str
    """Of the page: `ru`, `kk`, `en` or empty."""
    return_url: str
    """notificationURL: where the browser posts `cres` after a challenge."""
    device_check: DeviceCheck = DeviceCheck.NOT_ASKED
    at: datetime


class Authenticator(Protocol):
    """3-D Secure: asks the issuer whether the payer is who they say. What the browser brings back from the issuer is
    never an answer: only what this says is, from server to server."""

    def find_device_step(self, card: Card, key: UUID, return_url: str) -> DeviceStep | None:
        """The 3DS Method of the card's range, from what is known here; None: there is none. The browser comes back to
        `return_url`."""
        ...

    async def authenticate(self, request: AuthenticationRequest) -> Authentication | Challenge:
        """The issuer's word, or that it wants to see the payer. Whatever it raises means that it is not available."""
        ...

    async def find_result(self, key: UUID, reference: str) -> Authentication | None:
        """The result of a challenge as the issuer told it (RReq); None: not yet. The same as often as it is asked."""
        ...

    async def close(self) -> None:
        """Ends its connections."""
        ...


def check_expiry(card: TypedCard, today: date) -> dict[CardField, CardProblem]:
    """What any acquirer says of an expired card."""
    is_past = card.expiry is not None and card.expiry.is_past(today)
    return {CardField.EXPIRY: CardProblem.EXPIRY_PAST} if is_past else {}
