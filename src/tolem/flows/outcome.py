"""What an acquirer's answer means for a payment. Pure decisions, from the expected state only.

An answer that comes twice, or after the operation was settled otherwise, changes nothing. What is not certain is
unknown, never a guess: an authorize or purchase is then inquired and reversed, a capture, void or refund inquired and
sent again.
"""

import re
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from msgspec.structs import replace

from tolem.acquirers.base import AcquirerAnswer, Verdict
from tolem.domain.authentication import Ruling
from tolem.domain.history import Event, OrderHistory
from tolem.domain.merchant import Terminal
from tolem.domain.message import Message
from tolem.domain.order import Order, OrderStatus
from tolem.domain.payment import (
    CARD_KINDS,
    OPEN_OPERATIONS,
    OPEN_STATUSES,
    Operation,
    OperationKind,
    OperationStatus,
    Payment,
    PaymentStatus,
    advance,
    change_totals,
)
from tolem.flows import rounds
from tolem.flows.rounds import Stamp
from tolem.storage.store import Decision
from tolem.wire.reasons import UNKNOWN_CODES

APPROVAL_CODE = re.compile(r"[0-9A-Za-z]{6}")
"""ISO 8583 field 38."""
REASON_NO_ANSWER = 458
"""The acquirer did not answer and confirmed later that nothing is taken."""
HOLD_EXPIRED = "hold expired"
"""`Operation.cause` of a void that nobody asked for."""
NOT_HAPPENED_CONFIRMED = "not_happened_confirmed"
"""Event: the acquirer says what a person said before."""
NOTHING_HELD = {"hold_expires_at": None, "release_at": None}
RELEASE_GAP = timedelta(days=1)
GAP_MAX = timedelta(minutes=1)
GIVEN_UP_GAP = timedelta(minutes=15)
RECHECK_GAP_MAX = timedelta(days=1)


class Recorded(NamedTuple):
    """What a recorded outcome leads to."""

    status: PaymentStatus
    message: Message | None = None
    must_reverse: bool = False
    """The acquirer approved what may no longer count: it has to be undone."""
    is_contradicted: bool = False
    """The acquirer approved what was settled as not happened: somebody has to look."""


def is_certain(answer: AcquirerAnswer, operation: Operation, currency: str) -> bool:
    """An answer settles an operation only if it is about it, about its whole amount, and not open itself; an approved
    card attempt has an approval code, which its shop and payer are told."""
    if answer.key != operation.id or answer.reason_code in UNKNOWN_CODES or answer.currency not in ("", currency):
        return False
    if answer.verdict is Verdict.APPROVED:
        is_coded = operation.kind not in CARD_KINDS or APPROVAL_CODE.fullmatch(answer.approval_code) is not None
        return is_coded and answer.amount == operation.amount and answer.reason_code == 0
    return answer.verdict is Verdict.DECLINED and answer.reason_code != 0


def record_answer(
    history: OrderHistory,
    operation_id: UUID,
    answer: AcquirerAnswer,
    terminal: Terminal,
    stamp: Stamp,
    *,
    was_recovered: bool = False,
    by_hand: bool = False,
) -> Decision[Recorded]:
    """A certain answer → the operation's end and what follows from it for payment and round.

    `was_recovered`: whoever asked for it was not told this result, so a repeat has to find it. `by_hand`: a person gave
    it. A capture, void or refund that did not happen is still inquired about then, unless the acquirer has contradicted
    that before: its desk may have undone what its machine goes on calling approved. A person may also correct one that
    was settled as not happened.
    """
    operation = history.operations[operation_id]
    if was_recovered and operation.doubted_at is None:
        operation = replace(operation, doubted_at=stamp.at)
    payment = history.payments[operation.payment_id]
    if operation.status not in OPEN_OPERATIONS and not by_hand:
        return _hear_late(operation, payment, answer, stamp)
    if operation.kind in CARD_KINDS:
        return _record_attempt(history, operation, payment, answer, terminal, stamp)
    if answer.verdict is Verdict.DECLINED:
        settled = _settle(operation, OperationStatus.DECLINED, stamp.at, answer.reason_code)
        if by_hand and operation.finished_at is None:
            settled = _keep_asking(settled, stamp)
        event = _event(payment, f"{operation.kind}_declined", f"with {answer.reason_code}", stamp)
        kept = _release_again(payment, operation, stamp)
        return Decision(Recorded(payment.status), (settled, event, *kept))
    if not _has_room(payment, operation):
        return Decision(Recorded(payment.status, must_reverse=True))
    settled = _settle(operation, OperationStatus.APPROVED, stamp.at, 0)
    moved = _move_totals(payment, operation, stamp)
    message = rounds.tell_operation(history, moved, operation, terminal, stamp)
    event = _event(moved, f"{operation.kind}_approved", operation.cause, stamp)
    return Decision(Recorded(moved.status, message), (moved, settled, event, *([message] if message else ())))


def record_unknown(
    history: OrderHistory, asked: Operation, due_at: datetime, cause: str, stamp: Stamp
) -> Decision[Recorded]:
    """No certain answer came: the operation is unknown, and recovery takes it up at `due_at` (real time), unless it has
    already. `asked`: the operation as it was when the acquirer was asked."""
    operation = history.operations[asked.id]
    payment = history.payments[operation.payment_id]
    if operation.status is not OperationStatus.PREPARED:
        return Decision(Recorded(payment.status))
    waiting = replace(operation, status=OperationStatus.UNKNOWN, doubted_at=stamp.at)
    if _is_held_by(operation, asked):
        waiting = replace(waiting, due_at=due_at, asked_until=None)
    event = _event(payment, "outcome_unknown", f"{operation.kind}: {cause}", stamp)
    if operation.kind not in CARD_KINDS:
        return Decision(Recorded(payment.status), (waiting, event))
    unknown = advance(payment, PaymentStatus.UNKNOWN, stamp.at)
    return Decision(Recorded(unknown.status), (unknown, waiting, event))


def ask_again(history: OrderHistory, asked: Operation, until: datetime) -> Decision[Operation | None]:
    """Before another exchange about an operation: the operation, taken up until then. None: it has been settled
    meanwhile, or taken up by somebody else. `asked`: as it was when it was taken up."""
    operation = history.operations[asked.id]
    if operation.due_at is None or not _is_held_by(operation, asked):
        return Decision(None)
    held = replace(operation, due_at=until, asked_until=until)
    return Decision(held, (held,))


def postpone(
    history: OrderHistory, asked: Operation, due_at: datetime, stamp: Stamp, *, given_up: str
) -> Decision[bool]:
    """A recovery step led nowhere: the next one is at `due_at`. `given_up`: why somebody has to look, too; empty: not
    yet. `asked`: as it was when the step took it up; what others have taken up or opened again meanwhile is theirs.

    True: given up just now.
    """
    operation = history.operations[asked.id]
    if operation.due_at is None or not _is_held_by(operation, asked):
        return Decision(False)
    waiting = replace(operation, due_at=due_at, asked_until=None)
    if not given_up or operation.alerted_at is not None:
        return Decision(False, (waiting,))
    payment = history.payments[operation.payment_id]
    event = _event(payment, "recovery_gave_up", f"{operation.kind} {given_up}", stamp)
    return Decision(True, (replace(waiting, alerted_at=stamp.at), event))


def find_reversal(history: OrderHistory, operation_id: UUID) -> Operation | None:
    """The reversal of an operation, sent or about to be; None: nobody has decided to reverse it."""
    for operation in history.operations.values():
        if operation.kind is OperationKind.REVERSAL and operation.original_id == operation_id:
            return operation
    return None


def prepare_reversal(
    history: OrderHistory, asked: Operation, until: datetime, reversal_id: UUID, stan: str, stamp: Stamp
) -> Decision[tuple[Operation, Operation] | None]:
    """An authorize or purchase, taken up until then, and its reversal, committed before it is sent: the one that
    exists, or a new one. None as in `ask_again`: it must not be reversed."""
    operation, taken_up = ask_again(history, asked, until)[:2]
    if operation is None:
        return Decision(None)
    prepared = find_reversal(history, operation.id)
    if prepared is not None:
        return Decision((operation, prepared), taken_up)
    reversal = Operation(
        id=reversal_id,
        order_id=operation.order_id,
        payment_id=operation.payment_id,
        kind=OperationKind.REVERSAL,
        status=OperationStatus.PREPARED,
        amount=operation.amount,
        stan=stan,
        rrn=operation.rrn,
        original_id=operation.id,
        due_at=None,  # driven by its original, which stays open until it is confirmed
        created_at=stamp.at,
    )
    return Decision((operation, reversal), (*taken_up, reversal))


def record_reversal(
    history: OrderHistory, operation_id: UUID, terminal: Terminal, stamp: Stamp, *, by_hand: bool = False
) -> Decision[Recorded]:
    """It is confirmed that an authorize or purchase did not and will not happen, so the payment has failed. `by_hand`:
    a person says so; the reversal is sent until the acquirer confirms it, too."""
    original = history.operations[operation_id]
    payment = history.payments[original.payment_id]
    if original.due_at is None:
        return Decision(Recorded(payment.status))
    undone = _settle(original, OperationStatus.REVERSED, stamp.at, REASON_NO_ANSWER)
    reversal = find_reversal(history, operation_id)
    confirmed: tuple[Operation, ...] = ()
    if by_hand:
        undone = _keep_asking(undone, stamp)
    elif reversal:
        confirmed = (_settle(reversal, OperationStatus.APPROVED, stamp.at, 0),)
    if original.status not in OPEN_OPERATIONS:
        event = _event(payment, NOT_HAPPENED_CONFIRMED, f"{original.kind}: reversed", stamp)
        return Decision(Recorded(payment.status), (undone, *confirmed, event))
    cause = "resolved by hand" if by_hand else "reversed"
    if payment.status not in OPEN_STATUSES:  # it has failed before; a late approval had opened the operation again
        return Decision(Recorded(payment.status), (undone, *confirmed, _event(payment, "late_reversed", cause, stamp)))
    failed = advance(payment, PaymentStatus.FAILED, stamp.at, reason_code=REASON_NO_ANSWER)
    decision = _after_failure(history, undone, failed, terminal, stamp, cause)
    return Decision(decision.answer, (*decision.writes, *confirmed))


def recovery_due(real_now: datetime, tries: int, step: timedelta, given_up: bool) -> datetime:
    """When recovery looks again: the gap doubles from `step` to a minute. What is given up to people is still asked
    about, slowly: the acquirer may come back before they do."""
    if given_up:
        return real_now + GIVEN_UP_GAP
    gap: timedelta = step * 2 ** min(tries, 10)
    return real_now + min(gap, max(step, GAP_MAX))


def recheck_due(real_now: datetime, tries: int) -> datetime:
    """When the acquirer is asked again about what a person settled as not happened: ever later, up to once a day."""
    gap: timedelta = GIVEN_UP_GAP * 2 ** min(tries - 1, 10)
    return real_now + min(gap, RECHECK_GAP_MAX)


def record_unauthenticated(
    history: OrderHistory, payment: Payment, ruling: Ruling, terminal: Terminal, stamp: Stamp
) -> Decision[Recorded]:
    """3-D Secure ends an attempt, new or under way, before the acquirer was asked: nothing is taken."""
    status = PaymentStatus.FAILED if ruling.is_abandoned else PaymentStatus.DECLINED
    ended = advance(payment, status, stamp.at, reason_code=ruling.reason_code)
    return _after_failure(history, None, ended, terminal, stamp, f"not authenticated: {ruling.reason_code}")


def _hear_late(operation: Operation, payment: Payment, answer: AcquirerAnswer, stamp: Stamp) -> Decision[Recorded]:
    """An answer about a settled operation changes nothing, unless the acquirer approved what was settled as not
    happened, say by a person's word. It is opened again then, and recovery finds out: an authorize or purchase is
    reversed, since its shop was told, or its payer saw, that nothing is taken. A capture, void or refund counts if the
    acquirer says it again and the payment has room for it; otherwise it is for people. A decline confirms a person's
    word about one of these: it is asked about no more."""
    if answer.verdict is not Verdict.APPROVED:
        if operation.due_at is None or operation.kind in CARD_KINDS:
            return Decision(Recorded(payment.status))
        event = _event(payment, NOT_HAPPENED_CONFIRMED, f"{operation.kind}: declined {answer.reason_code}", stamp)
        return Decision(Recorded(payment.status), (replace(operation, due_at=None, asked_until=None), event))
    if operation.status is OperationStatus.APPROVED:
        return Decision(Recorded(payment.status))
    event = _event(payment, "late_approval", f"{operation.kind} was settled as {operation.status}", stamp)
    opened = replace(
        operation,
        status=OperationStatus.UNKNOWN,
        tries=0,
        due_at=stamp.real_at,
        asked_until=None,
        doubted_at=stamp.at,
        alerted_at=None,
    )
    must_reverse = operation.kind in CARD_KINDS
    return Decision(Recorded(payment.status, must_reverse=must_reverse, is_contradicted=True), (opened, event))


def _is_held_by(operation: Operation, asked: Operation) -> bool:
    """Nobody else has taken it up since, nor opened it again."""
    return operation.asked_until == asked.asked_until


def _has_room(payment: Payment, operation: Operation) -> bool:
    """A capture, void or refund can be booked. Not if it was opened again, and others have moved the money since."""
    if operation.kind is OperationKind.REFUND:
        is_captured = payment.status is PaymentStatus.CAPTURED
        return is_captured and payment.refunded + operation.amount <= payment.captured
    return payment.status is PaymentStatus.AUTHORIZED


def _record_attempt(
    history: OrderHistory,
    operation: Operation,
    payment: Payment,
    answer: AcquirerAnswer,
    terminal: Terminal,
    stamp: Stamp,
) -> Decision[Recorded]:
    """The end of an authorize or purchase, and of the round if it is one.

    Once its reversal is prepared only the reversal's confirmation settles it: the reversal may be on its way still, and
    undo what an inquiry finds approved now.
    """
    if find_reversal(history, operation.id) is not None:
        return Decision(Recorded(payment.status, must_reverse=True))
    if answer.verdict is Verdict.DECLINED:
        settled = _settle(operation, OperationStatus.DECLINED, stamp.at, answer.reason_code)
        if payment.status not in OPEN_STATUSES:  # opened again by a late approval, which did not stand
            return Decision(Recorded(payment.status), (settled,))
        declined = advance(payment, PaymentStatus.DECLINED, stamp.at, reason_code=answer.reason_code)
        return _after_failure(history, settled, declined, terminal, stamp, f"declined with {answer.reason_code}")
    if payment.status not in OPEN_STATUSES or not _may_succeed(history.order, payment):
        return Decision(Recorded(payment.status, must_reverse=True))
    settled = _settle(operation, OperationStatus.APPROVED, stamp.at, 0)
    is_purchase = operation.kind is OperationKind.PURCHASE
    is_held = not is_purchase and answer.amount > 0
    expires_at = stamp.at + timedelta(days=terminal.hold_days) if is_held else None
    approved = advance(
        payment,
        PaymentStatus.CAPTURED if is_purchase else PaymentStatus.AUTHORIZED,
        stamp.at,
        authorized=answer.amount,
        captured=answer.amount if is_purchase else 0,
        approval_code=answer.approval_code,
        rrn=answer.rrn or payment.rrn,
        issuer_name=answer.issuer_name,
        hold_expires_at=expires_at,
        release_at=expires_at,
    )
    end = rounds.succeed(history, approved, operation, terminal, stamp)
    return Decision(Recorded(approved.status, end.message), (end.order, approved, settled, *end.records))


def _move_totals(payment: Payment, operation: Operation, stamp: Stamp) -> Payment:
    """The payment after an approved capture, void or refund."""
    match operation.kind:
        case OperationKind.CAPTURE:  # once; the acquirer releases the rest of the hold
            return advance(payment, PaymentStatus.CAPTURED, stamp.at, captured=operation.amount, **NOTHING_HELD)
        case OperationKind.VOID:
            is_by_age = operation.cause == HOLD_EXPIRED
            return advance(payment, PaymentStatus.VOIDED, stamp.at, is_hold_expired=is_by_age, **NOTHING_HELD)
        case OperationKind.REFUND:
            refunded = payment.refunded + operation.amount
            if refunded == payment.captured:
                return advance(payment, PaymentStatus.REFUNDED, stamp.at, refunded=refunded)
            return change_totals(payment, stamp.at, refunded=refunded)
        case _:
            raise ValueError(f"{operation.kind} moves no totals")


def _release_again(payment: Payment, operation: Operation, stamp: Stamp) -> tuple[Payment, ...]:
    """The acquirer declined to release an expired hold: it is asked again in a day, never forgotten."""
    if operation.cause != HOLD_EXPIRED:
        return ()
    return (replace(payment, release_at=stamp.at + RELEASE_GAP),)


def _may_succeed(order: Order, payment: Payment) -> bool:
    """What turns out approved after the round was told failed, or was overtaken, does not count."""
    return order.status is OrderStatus.OPEN and order.round_id == payment.round_id


def _settle(operation: Operation, status: OperationStatus, at: datetime, reason_code: int) -> Operation:
    return replace(operation, status=status, reason_code=reason_code, due_at=None, asked_until=None, finished_at=at)


def _keep_asking(settled: Operation, stamp: Stamp) -> Operation:
    """A person's word settles it; the acquirer is asked until it has answered, too, in case the person was wrong."""
    return replace(settled, due_at=stamp.real_at, tries=0)


def _event(payment: Payment, kind: str, detail: str, stamp: Stamp) -> Event:
    return Event(
        id=stamp.event_id, order_id=payment.order_id, payment_id=payment.id, kind=kind, detail=detail, at=stamp.at
    )


def _after_failure(
    history: OrderHistory, operation: Operation | None, payment: Payment, terminal: Terminal, stamp: Stamp, detail: str
) -> Decision[Recorded]:
    """One attempt is over without money: the round goes on, unless it was the last attempt or the deadline passed."""
    order = history.order
    left = rounds.attempts_left(history, terminal) - (payment.id not in history.payments)
    ended = (payment,) if operation is None else (payment, operation)
    if (left > 0 and not rounds.is_overdue(order, stamp.at)) or not _may_succeed(order, payment):
        return Decision(Recorded(payment.status), (*ended, _event(payment, "attempt_failed", detail, stamp)))
    end = rounds.fail(history, payment, terminal, stamp, cause=f"last attempt {detail}", operation=operation)
    return Decision(Recorded(payment.status, end.message), (end.order, *ended, *end.records))
