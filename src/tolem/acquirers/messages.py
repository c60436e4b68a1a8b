"""The language in which a gateway and an acquirer's program exchange messages: JSON over HTTP, both directions.

Called by the connector (http.py) and by the program at the other end. Strict: what lacks a field, has a wrong type or
an unknown code is no message. Card number and code are in the body of a request and nowhere else; no error tells them.
Invariant: parse_request(encode_request(r)) == r, and the same for answers and statements.
"""

from datetime import datetime
from typing import Annotated, NoReturn
from uuid import UUID

import msgspec
from msgspec import Meta

from tolem.acquirers.base import AcquirerAnswer, AcquirerRequest, AnswerGarbled, StatementLine, Verdict
from tolem.domain.authentication import Authentication
from tolem.domain.card import Card, Cvc, Expiry, Pan
from tolem.domain.money import AMOUNT_MAX, EXPONENTS
from tolem.domain.payment import OperationKind

EXCHANGE_PATH = "/v1/exchange"
STATEMENT_PATH = "/v1/statement"
REQUEST_BYTES_MAX = 8 * 1024
ANSWER_BYTES_MAX = 64 * 1024
"""A page of a statement fits, too."""

_Amount = Annotated[int, Meta(ge=0, le=AMOUNT_MAX)]
_Instant = Annotated[datetime, Meta(tz=True)]


class InvalidRequest(ValueError):
    """The body is no request. The message names the field, never what was in it."""


class CardMessage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A card on its way to the acquirer."""

    pan: Annotated[str, Meta(pattern="^[0-9]{12,19}$")]
    expiry_year: Annotated[int, Meta(ge=2000, le=2099)]
    expiry_month: Annotated[int, Meta(ge=1, le=12)]
    cvc: Annotated[str, Meta(pattern="^[0-9]{3,4}$")]
    holder: Annotated[str, Meta(max_length=45)]

    def __repr__(self) -> str:
        return "CardMessage(***)"


class RequestMessage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """AcquirerRequest as it travels; the fields are explained there."""

    key: UUID
    kind: OperationKind
    terminal_id: UUID
    amount: _Amount
    currency: str
    stan: Annotated[str, Meta(pattern="^[0-9]{6}$")]
    rrn: Annotated[str, Meta(pattern="^[0-9]{12}$")]
    at: _Instant
    card: CardMessage | None
    authentication: Authentication | None
    original_key: UUID | None


class AnswerMessage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """AcquirerAnswer as it travels: every field is told."""

    key: UUID
    verdict: Verdict
    amount: _Amount
    currency: Annotated[str, Meta(pattern="^([A-Z]{3})?$")]
    reason_code: Annotated[int, Meta(ge=0, le=9999)]
    approval_code: Annotated[str, Meta(pattern="^([0-9A-Za-z]{6})?$")]
    rrn: Annotated[str, Meta(pattern="^([0-9]{12})?$")]
    issuer_name: Annotated[str, Meta(max_length=100)]


class LineMessage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """StatementLine as it travels."""

    key: UUID
    kind: OperationKind
    original_key: UUID | None
    terminal_id: UUID
    amount: _Amount
    currency: Annotated[str, Meta(pattern="^[A-Z]{3}$")]
    rrn: Annotated[str, Meta(pattern="^[0-9]{12}$")]
    is_approved: bool
    is_undone: bool
    at: _Instant


class StatementMessage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One page of a statement."""

    lines: tuple[LineMessage, ...]
    next: Annotated[str, Meta(max_length=200)]
    """Asked for as `after` in the next request; empty: this was the last page."""


_decode_request = msgspec.json.Decoder(RequestMessage).decode
_decode_answer = msgspec.json.Decoder(AnswerMessage).decode
_decode_statement = msgspec.json.Decoder(StatementMessage).decode
_encode = msgspec.json.Encoder().encode


def encode_request(request: AcquirerRequest) -> bytes:
    """The body of a request. The only place where a connector of this language reveals a card."""
    card = request.card
    return _encode(
        RequestMessage(
            key=request.key,
            kind=request.kind,
            terminal_id=request.terminal_id,
            amount=request.amount,
            currency=request.currency,
            stan=request.stan,
            rrn=request.rrn,
            at=request.at,
            card=None if card is None else _reveal(card),
            authentication=request.authentication,
            original_key=request.original_key,
        )
    )


def parse_request(body: bytes) -> AcquirerRequest:
    """Raises InvalidRequest. An authorize or purchase has a card, everything else names its original."""
    try:
        message = _decode_request(body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        _refuse(error)
    if message.currency not in EXPONENTS:
        raise InvalidRequest("currency is not known")
    if message.kind in (OperationKind.AUTHORIZE, OperationKind.PURCHASE):
        if message.card is None:
            raise InvalidRequest(f"{message.kind} needs a card")
    elif message.original_key is None:
        raise InvalidRequest(f"{message.kind} needs original_key")
    elif message.card is not None:
        raise InvalidRequest(f"{message.kind} takes no card")
    card = message.card
    return AcquirerRequest(
        key=message.key,
        kind=message.kind,
        terminal_id=message.terminal_id,
        amount=message.amount,
        currency=message.currency,
        stan=message.stan,
        rrn=message.rrn,
        at=message.at,
        card=None if card is None else _conceal(card),
        authentication=message.authentication,
        original_key=message.original_key,
    )


def encode_answer(answer: AcquirerAnswer) -> bytes:
    """The body of an answer."""
    return _encode(
        AnswerMessage(
            key=answer.key,
            verdict=answer.verdict,
            amount=answer.amount,
            currency=answer.currency,
            reason_code=answer.reason_code,
            approval_code=answer.approval_code,
            rrn=answer.rrn,
            issuer_name=answer.issuer_name,
        )
    )


def parse_answer(body: bytes, key: UUID) -> AcquirerAnswer:
    """The answer to the exchange `key`. Raises AnswerGarbled, also if it is another's or contradicts itself."""
    try:
        message = _decode_answer(body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise AnswerGarbled(f"the answer cannot be read: {type(error).__name__}") from None
    if message.key != key:
        raise AnswerGarbled("the answer belongs to another exchange")
    if (message.verdict is Verdict.APPROVED) != (message.reason_code == 0):
        raise AnswerGarbled("the answer's verdict and reason code contradict each other")
    return AcquirerAnswer(
        key=message.key,
        verdict=message.verdict,
        amount=message.amount,
        currency=message.currency,
        reason_code=message.reason_code,
        approval_code=message.approval_code,
        rrn=message.rrn,
        issuer_name=message.issuer_name,
    )


def encode_statement(lines: list[StatementLine], after: str) -> bytes:
    """The body of one page; `after`: where the next one starts, empty at the end."""
    told = tuple(
        LineMessage(
            key=line.key,
            kind=line.kind,
            original_key=line.original_key,
            terminal_id=line.terminal_id,
            amount=line.amount,
            currency=line.currency,
            rrn=line.rrn,
            is_approved=line.is_approved,
            is_undone=line.is_undone,
            at=line.at,
        )
        for line in lines
    )
    return _encode(StatementMessage(told, after))


def parse_statement(body: bytes, since: datetime, until: datetime) -> tuple[list[StatementLine], str]:
    """The lines of one page and where the next one starts. Raises AnswerGarbled, also for lines of another time."""
    try:
        message = _decode_statement(body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise AnswerGarbled(f"the statement cannot be read: {type(error).__name__}") from None
    lines = [StatementLine(**msgspec.structs.asdict(line)) for line in message.lines]
    times = [line.at for line in lines]
    if times != sorted(times) or any(not since <= at < until for at in times):
        raise AnswerGarbled("the statement has lines of another time")
    return lines, message.next


def _reveal(card: Card) -> CardMessage:
    expiry = card.expiry
    return CardMessage(card.pan.reveal(), expiry.year, expiry.month, card.cvc.reveal(), card.holder)


def _conceal(card: CardMessage) -> Card:
    return Card(Pan(card.pan), Expiry(card.expiry_year, card.expiry_month), Cvc(card.cvc), card.holder)


def _refuse(error: Exception) -> NoReturn:
    """msgspec ends its messages with the place, `… - at `$.card.pan``; what stands before it may quote the value."""
    _, found, place = str(error).rpartition(" - at ")
    raise InvalidRequest(f"wrong value at {place}" if found else "the body is no request") from None
