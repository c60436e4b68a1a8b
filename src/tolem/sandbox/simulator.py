"""The acquirer that a sandbox plays, with a ledger of its own.

Called through `acquirers.base.Acquirer` like any bank. Three promises make it one that payments can be recovered
against: what it answers is in its ledger before it answers; a key that comes again is answered as the first time; a
reversed key is remembered even if nothing had come under it, and a late original is then declined. Nothing is random:
card and amount decide, approval codes are made of the key. It answers at once and always: what happens to messages on
their way is line.py's business.
"""

import hashlib
from datetime import date, datetime
from uuid import UUID

from msgspec.structs import replace

from tolem.acquirers.base import AcquirerAnswer, AcquirerRequest, StatementLine, Verdict, check_expiry
from tolem.domain.card import CardField, CardProblem, TypedCard
from tolem.domain.money import EXPONENTS
from tolem.domain.payment import OperationKind
from tolem.sandbox.cards import DOUBTS, PUBLISHED, SandboxCard, find_card
from tolem.sandbox.ledger import Cursor, LedgerEntry, read_page
from tolem.storage.store import Decision, Key, Store

ISSUER_NAME = "Tolem Sandbox Bank"

INVALID_TRANSACTION = 469
INVALID_AMOUNT = 470
NO_SUCH_CARD = 471
NO_ACTION = 476
"""Told of a reversed key: nothing was done under it and nothing will be."""
NOT_FOUND = 522
DECLINED_BY_ISSUER = 466

MAY_BE_HELD = 454
"""Answered to what is done and in the ledger; an inquiry tells the truth."""
NEVER_HEARD_OF = 459
"""Answered to what is not done and not in the ledger; "unknown" to the caller, "not found" to an inquiry."""
HELD_FOR_EVER = 460
"""As MAY_BE_HELD, but an inquiry does not tell the truth either."""

FRACTION_UNKNOWN = 54
FRACTION_LOST = 58
FRACTION_DECLINED = 66
"""Hundredths of an amount that choose what becomes of a capture, void or refund."""

_CARD_KINDS = (OperationKind.AUTHORIZE, OperationKind.PURCHASE)


class Simulator:
    """Approves and declines by the card table. Owns `store`, a Store of the ledger's schema."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def check(self, card: TypedCard, today: date) -> dict[CardField, CardProblem]:
        """See check_card."""
        return check_card(card, today)

    async def send(self, request: AcquirerRequest) -> AcquirerAnswer:
        """One exchange. Raises what the store raises: the outcome is then unknown, the same key may be sent again."""
        if request.kind is OperationKind.INQUIRY:
            return await self._inquire(request)
        if request.kind in _CARD_KINDS:
            if request.card is None:
                raise ValueError(f"{request.kind} {request.key} has no card")
            card = find_card(request.card.pan)
            known = await self._store.change((_key(request.key),), lambda known: _decide_card(known, request, card))
            return _unheard(request.key) if known is None else _answer(request.key, known, known.reason_code)
        original_key = _original_key(request)
        decide = _decide_reversal if request.kind is OperationKind.REVERSAL else _decide_follow_up
        entry, doubt = await self._store.change(
            (_key(request.key), _key(original_key)),
            lambda known, original: decide(known, original, request),
        )
        return _answer(request.key, entry, doubt)

    async def find_amount(self, key: UUID) -> int | None:
        """Minor units of the exchange under a key; None: there is none."""
        entry = await self._store.find(_key(key))
        return entry.amount if entry else None

    async def statement(self, since: datetime, until: datetime) -> list[StatementLine]:
        """The whole book of that time."""
        lines, after = await self.statement_page(since, until)
        while after is not None:
            more, after = await self.statement_page(since, until, after)
            lines += more
        return lines

    async def statement_page(
        self, since: datetime, until: datetime, after: Cursor | None = None
    ) -> tuple[list[StatementLine], Cursor | None]:
        """Some lines of it, and where to go on; None: that was all."""
        page = await read_page(self._store, since, until, after)
        return [_line(entry) for entry in page.entries], page.next

    async def close(self) -> None:
        """Closes the ledger."""
        await self._store.close()

    async def _inquire(self, request: AcquirerRequest) -> AcquirerAnswer:
        """What became of the original. Changes nothing; "not found" holds only for this moment."""
        entry = await self._store.find(_key(_original_key(request)))
        if entry is None:
            return AcquirerAnswer(key=request.key, verdict=Verdict.NOT_FOUND, reason_code=NOT_FOUND)
        return _answer(request.key, entry, HELD_FOR_EVER if entry.reason_code == HELD_FOR_EVER else 0)


def check_card(card: TypedCard, today: date) -> dict[CardField, CardProblem]:
    """Only cards of the table; not expired, but for the pairs that the bank's documentation prints."""
    known = find_card(card.pan) if card.pan else None
    strange = {CardField.NUMBER: CardProblem.NUMBER_NOT_SANDBOX} if card.pan and not known else {}
    # Of what can't be read yet it is assumed that it will be what is printed.
    cards = PUBLISHED if card.pan is None else (known,) if known else ()
    code = card.cvc.reveal() if card.cvc else None
    pairs = (pair for each in cards for pair in each.printed)
    if any(card.expiry == expiry and code in (None, printed) for expiry, printed in pairs):
        return strange
    return strange | check_expiry(card, today)


def approval_code(key: UUID) -> str:
    """ISO 8583 field 38: six digits made of the exchange's key."""
    return f"{int.from_bytes(hashlib.sha256(key.bytes).digest()[:8], 'big') % 1_000_000:06d}"


def fraction(amount: int, currency: str) -> int:
    """Hundredths of the currency's unit in an amount of minor units; 0 where it has no such fraction."""
    unit: int = 10 ** EXPONENTS[currency]
    hundredths, rest = divmod(amount % unit * 100, unit)
    return 0 if rest else hundredths


def _decide_card(
    known: LedgerEntry | None, request: AcquirerRequest, card: SandboxCard | None
) -> Decision[LedgerEntry | None]:
    """Authorize and purchase: the card's number decides. A key that is known, or reversed already, keeps its answer."""
    if known is not None:
        return Decision(known)
    if card is not None and card.reason_code == NEVER_HEARD_OF:
        return Decision(None)
    entry = _entry(request, NO_SUCH_CARD if card is None else card.reason_code)
    if request.kind is OperationKind.PURCHASE and entry.verdict is Verdict.APPROVED:
        entry = replace(entry, captured=request.amount)
    return Decision(entry, (entry,))


def _decide_reversal(
    known: LedgerEntry | None, original: LedgerEntry | None, request: AcquirerRequest
) -> Decision[tuple[LedgerEntry, int]]:
    """Undoes an authorize or purchase by its key, or forbids it if it has not come yet. Never in doubt."""
    if known is not None:
        return Decision((known, 0))
    if original is None:
        entry = _entry(request, 0)
        stone = replace(
            _entry(request, NO_ACTION), key=_original_key(request), original_key=None, reversed_at=request.at
        )
        return Decision((entry, 0), (stone, entry))
    if not _is_reversible(original):
        entry = _entry(request, INVALID_TRANSACTION)
        return Decision((entry, 0), (entry,))
    entry = _entry(request, 0)
    if original.reversed_at is not None:
        return Decision((entry, 0), (entry,))
    return Decision((entry, 0), (replace(original, reversed_at=request.at), entry))


def _is_reversible(original: LedgerEntry) -> bool:
    """False once money moved by a later exchange: that is a refund's business."""
    if original.verdict is not Verdict.APPROVED:
        return True
    if original.kind is OperationKind.PURCHASE:
        return original.refunded == 0
    return original.kind is OperationKind.AUTHORIZE and original.captured == 0


def _decide_follow_up(
    known: LedgerEntry | None, original: LedgerEntry | None, request: AcquirerRequest
) -> Decision[tuple[LedgerEntry, int]]:
    """Capture, void and refund: never above what the original, the authorize or purchase, holds or took.

    Answers the entry, and the code of the doubt with which it is told.
    """
    subject = original.amount if request.kind is OperationKind.VOID and original else request.amount
    chosen = fraction(subject, request.currency)
    doubt = MAY_BE_HELD if chosen == FRACTION_UNKNOWN else 0
    if known is not None:
        return Decision((known, doubt))
    problem = _find_problem(original, request)
    if problem == 0 and chosen == FRACTION_DECLINED:
        problem = DECLINED_BY_ISSUER
    entry = _entry(request, problem)
    if problem or original is None:
        return Decision((entry, doubt), (entry,))
    if request.kind is OperationKind.CAPTURE:
        changed = replace(original, captured=request.amount)
    elif request.kind is OperationKind.VOID:
        changed = replace(original, voided_at=request.at)
    else:
        changed = replace(original, refunded=original.refunded + request.amount)
    return Decision((entry, doubt), (changed, entry))


def _find_problem(original: LedgerEntry | None, request: AcquirerRequest) -> int:
    """Why the original can't be captured, voided or refunded: a reason code, 0 if it can."""
    if original is None or original.terminal_id != request.terminal_id:
        return NOT_FOUND
    if original.kind not in _CARD_KINDS or not original.is_live or original.currency != request.currency:
        return INVALID_TRANSACTION
    if request.kind is OperationKind.REFUND:
        return 0 if 0 < request.amount <= original.taken else INVALID_AMOUNT
    if original.kind is not OperationKind.AUTHORIZE or original.captured:
        return INVALID_TRANSACTION
    if request.kind is OperationKind.CAPTURE and not 0 < request.amount <= original.amount:
        return INVALID_AMOUNT
    return 0


def _entry(request: AcquirerRequest, reason_code: int) -> LedgerEntry:
    is_approved = reason_code == 0 or reason_code in DOUBTS
    return LedgerEntry(
        key=request.key,
        kind=request.kind,
        original_key=request.original_key,
        terminal_id=request.terminal_id,
        amount=request.amount,
        currency=request.currency,
        stan=request.stan,
        rrn=request.rrn,
        approval_code=approval_code(request.key) if is_approved else "",
        verdict=Verdict.APPROVED if is_approved else Verdict.DECLINED,
        reason_code=reason_code,
        masked_pan=request.card.pan.masked if request.card else "",
        at=request.at,
    )


def _answer(key: UUID, entry: LedgerEntry, doubt: int) -> AcquirerAnswer:
    """What is told of an entry, under the asking exchange's key. What was undone never reads as approved; `doubt`: an
    approval is told as unknown, with this code."""
    is_approved = entry.verdict is Verdict.APPROVED
    is_undone = entry.reversed_at is not None or entry.voided_at is not None
    if is_approved and doubt and not is_undone:
        return AcquirerAnswer(key=key, verdict=Verdict.UNKNOWN, reason_code=doubt, rrn=entry.rrn)
    if is_approved and not is_undone:
        return AcquirerAnswer(
            key=key,
            verdict=Verdict.APPROVED,
            amount=entry.amount,
            currency=entry.currency,
            approval_code=entry.approval_code,
            rrn=entry.rrn,
            issuer_name=ISSUER_NAME,
        )
    return AcquirerAnswer(
        key=key,
        verdict=Verdict.DECLINED,
        reason_code=NO_ACTION if is_approved else entry.reason_code,
        rrn=entry.rrn,
        issuer_name=ISSUER_NAME,
    )


def _unheard(key: UUID) -> AcquirerAnswer:
    """The answer to what is not done and not in the ledger."""
    return AcquirerAnswer(key=key, verdict=Verdict.UNKNOWN, reason_code=NEVER_HEARD_OF)


def _line(entry: LedgerEntry) -> StatementLine:
    is_approved = entry.verdict is Verdict.APPROVED
    return StatementLine(
        key=entry.key,
        kind=entry.kind,
        original_key=entry.original_key,
        terminal_id=entry.terminal_id,
        amount=entry.amount,
        currency=entry.currency,
        rrn=entry.rrn,
        is_approved=is_approved,
        is_undone=is_approved and (entry.reversed_at is not None or entry.voided_at is not None),
        at=entry.at,
    )


def _original_key(request: AcquirerRequest) -> UUID:
    if request.original_key is None:
        raise ValueError(f"{request.kind} {request.key} names no original")
    return request.original_key


def _key(key: UUID) -> Key[LedgerEntry]:
    return Key(LedgerEntry, ("key",), (key,))
