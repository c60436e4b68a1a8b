"""The acquirer that a sandbox plays, with a ledger of its own.

Called through `acquirers.base.Acquirer` like any bank. Three promises make it one that payments can be recovered
against: what it answers is in its ledger before it answers; a key that comes again is answered as the first time; a
reversed key is remembered even if nothing had come under it, and a late original is then declined. Nothing is random:
card and amount decide, approval codes are made of the key.
"""

import asyncio
import hashlib
from datetime import date
from uuid import UUID

from msgspec.structs import replace

from tolem.acquirers.base import AcquirerAnswer, AcquirerRequest, Verdict, check_expiry
from tolem.domain.card import Card, CardField, CardProblem
from tolem.domain.payment import OperationKind
from tolem.sandbox.cards import SandboxCard, find_card
from tolem.sandbox.ledger import LedgerEntry
from tolem.storage.store import Decision, Key, Store

ISSUER_NAME = "Tolem Sandbox Bank"

DELAY_SECONDS = 3.0
"""How long an answer takes on line 1; the gateway's deadline is longer."""

INVALID_TRANSACTION = 469
INVALID_AMOUNT = 470
NO_SUCH_CARD = 471
NO_ACTION = 476
"""Told of a reversed key: nothing was done under it and nothing will be."""
NOT_FOUND = 522

_CARD_KINDS = (OperationKind.AUTHORIZE, OperationKind.PURCHASE)


class Simulator:
    """Approves and declines by the card table. Owns `store`, a Store of the ledger's schema."""

    def __init__(self, store: Store, *, delay_seconds: float = DELAY_SECONDS) -> None:
        self._store = store
        self._delay_seconds = delay_seconds

    def check(self, card: Card, today: date) -> tuple[CardField, CardProblem] | None:
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
            entry = await self._store.change((_key(request.key),), lambda known: _decide_card(known, request, card))
            if card is not None and card.line == "1":
                # After the commit: the ledger knows of it while the gateway is still waiting.
                await asyncio.sleep(self._delay_seconds)
        else:
            original_key = _original_key(request)
            decide = _decide_reversal if request.kind is OperationKind.REVERSAL else _decide_follow_up
            entry = await self._store.change(
                (_key(request.key), _key(original_key)),
                lambda known, original: decide(known, original, request),
            )
        return _answer(request.key, entry)

    async def close(self) -> None:
        """Closes the ledger."""
        await self._store.close()

    async def _inquire(self, request: AcquirerRequest) -> AcquirerAnswer:
        """What became of the original. Changes nothing; "not found" holds only for this moment."""
        entry = await self._store.find(_key(_original_key(request)))
        if entry is None:
            return AcquirerAnswer(key=request.key, verdict=Verdict.NOT_FOUND, reason_code=NOT_FOUND)
        return _answer(request.key, entry)


def check_card(card: Card, today: date) -> tuple[CardField, CardProblem] | None:
    """Only cards of the table; not expired, but for the pairs that the bank's documentation prints."""
    known = find_card(card.pan)
    if known is None:
        return CardField.NUMBER, CardProblem.NUMBER_NOT_SANDBOX
    if (card.expiry, card.cvc.reveal()) in known.printed:
        return None
    return check_expiry(card, today)


def approval_code(key: UUID) -> str:
    """ISO 8583 field 38: six digits made of the exchange's key."""
    return f"{int.from_bytes(hashlib.sha256(key.bytes).digest()[:8], 'big') % 1_000_000:06d}"


def _decide_card(
    known: LedgerEntry | None, request: AcquirerRequest, card: SandboxCard | None
) -> Decision[LedgerEntry]:
    """Authorize and purchase: the card's number decides. A key that is known, or reversed already, keeps its answer."""
    if known is not None:
        return Decision(known)
    entry = _entry(request, NO_SUCH_CARD if card is None else card.reason_code)
    if request.kind is OperationKind.PURCHASE and entry.verdict is Verdict.APPROVED:
        entry = replace(entry, captured=request.amount)
    return Decision(entry, (entry,))


def _decide_reversal(
    known: LedgerEntry | None, original: LedgerEntry | None, request: AcquirerRequest
) -> Decision[LedgerEntry]:
    """Undoes an authorize or purchase by its key, or forbids it if it has not come yet."""
    if known is not None:
        return Decision(known)
    if original is None:
        entry = _entry(request, 0)
        stone = replace(
            _entry(request, NO_ACTION), key=_original_key(request), original_key=None, reversed_at=request.at
        )
        return Decision(entry, (stone, entry))
    if not _is_reversible(original):
        entry = _entry(request, INVALID_TRANSACTION)
        return Decision(entry, (entry,))
    entry = _entry(request, 0)
    if original.reversed_at is not None:
        return Decision(entry, (entry,))
    return Decision(entry, (replace(original, reversed_at=request.at), entry))


def _is_reversible(original: LedgerEntry) -> bool:
    """False once money moved by a later exchange: that is a refund's business."""
    if original.verdict is not Verdict.APPROVED:
        return True
    if original.kind is OperationKind.PURCHASE:
        return original.refunded == 0
    return original.kind is OperationKind.AUTHORIZE and original.captured == 0


def _decide_follow_up(
    known: LedgerEntry | None, original: LedgerEntry | None, request: AcquirerRequest
) -> Decision[LedgerEntry]:
    """Capture, void and refund: never above what the original, the authorize or purchase, holds or took."""
    if known is not None:
        return Decision(known)
    problem = _find_problem(original, request)
    entry = _entry(request, problem)
    if problem or original is None:
        return Decision(entry, (entry,))
    if request.kind is OperationKind.CAPTURE:
        changed = replace(original, captured=request.amount)
    elif request.kind is OperationKind.VOID:
        changed = replace(original, voided_at=request.at)
    else:
        changed = replace(original, refunded=original.refunded + request.amount)
    return Decision(entry, (changed, entry))


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
    is_approved = reason_code == 0
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


def _answer(key: UUID, entry: LedgerEntry) -> AcquirerAnswer:
    """What is told of an entry, under the asking exchange's key. What was reversed never reads as approved."""
    if entry.reversed_at is not None:
        return AcquirerAnswer(
            key=key,
            verdict=Verdict.DECLINED,
            reason_code=entry.reason_code or NO_ACTION,
            rrn=entry.rrn,
            issuer_name=ISSUER_NAME,
        )
    is_approved = entry.verdict is Verdict.APPROVED
    return AcquirerAnswer(
        key=key,
        verdict=entry.verdict,
        amount=entry.amount if is_approved else 0,
        reason_code=entry.reason_code,
        approval_code=entry.approval_code,
        rrn=entry.rrn,
        issuer_name=ISSUER_NAME,
    )


def _original_key(request: AcquirerRequest) -> UUID:
    if request.original_key is None:
        raise ValueError(f"{request.kind} {request.key} names no original")
    return request.original_key


def _key(key: UUID) -> Key[LedgerEntry]:
    return Key(LedgerEntry, ("key",), (key,))
