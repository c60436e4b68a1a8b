"""What people decide about an operation that recovery could not settle. Audited: who, why, when.

Called from the command line. It goes the same way as an acquirer's answer, so every rule holds here, too. Nothing is
settled while an exchange about it may be running: its answer would come too late to count.

What people call not happened is still asked about (recovery); until the acquirer has confirmed it they may correct it.
"""

import re
from collections.abc import Callable
from datetime import datetime
from typing import NamedTuple, TypeAlias
from uuid import UUID

from msgspec.structs import replace

from tolem.acquirers.base import AcquirerAnswer, Verdict
from tolem.clock import Clock
from tolem.domain.errors import Refusal, Refused
from tolem.domain.history import Event, OrderHistory
from tolem.domain.merchant import Terminal
from tolem.domain.payment import CARD_KINDS, OPEN_OPERATIONS, Operation, OperationKind
from tolem.flows import outcome
from tolem.flows.directory import Directory
from tolem.flows.outcome import Recorded
from tolem.flows.rounds import Stamp
from tolem.ids import Ids
from tolem.storage import keys, queries
from tolem.storage.store import Decision, Store

REASON_RESOLVED = 476
"""Reason of a capture, void or refund that did not happen, by a person's word: no action taken."""

_REFERENCE = re.compile(r"[0-9A-Za-z]{12}")
_Decide: TypeAlias = Callable[[OrderHistory, Operation, Terminal, Stamp], Decision[Recorded]]


class OpenOperation(NamedTuple):
    """An operation without a known outcome, for people."""

    operation: Operation
    invoice_id: str
    currency: str
    age_seconds: int


class Resolution:
    """Settles by a person's word."""

    def __init__(self, store: Store, directory: Directory, clock: Clock, ids: Ids) -> None:
        self._store = store
        self._directory = directory
        self._clock = clock
        self._ids = ids

    async def list_open(self) -> list[OpenOperation]:
        """Everything without a known outcome, oldest first."""
        now = self._clock.now()
        found = await queries.list_open_operations(self._store)
        return [OpenOperation(o, invoice, currency, _age(o.created_at, now)) for o, invoice, currency in found]

    async def resolve(
        self, operation_id: UUID, *, happened: bool, reason: str, who: str, approval_code: str = "", reference: str = ""
    ) -> Recorded:
        """Records that an operation happened, or did not and will not. Raises Refused.

        The shop is told as if the acquirer had said so. `reason`: at least a few words, kept for ever. `approval_code`
        and `reference` (the RRN, empty: ours): from the acquirer's statement; an authorize or purchase that happened
        needs the first. What was resolved as not happened may be resolved as happened, a capture, void or refund, until
        the acquirer has confirmed it.
        """
        words = "happened" if happened else "did not happen"

        def decide(history: OrderHistory, operation: Operation, terminal: Terminal, stamp: Stamp) -> Decision[Recorded]:
            is_attempt = operation.kind in CARD_KINDS
            if operation.status not in OPEN_OPERATIONS:
                if not happened:
                    raise Refused(Refusal.WRONG_STATE, "it is settled so already; the acquirer is still asked about it")
                if is_attempt:
                    raise Refused(Refusal.WRONG_STATE, "it was settled as not happened, and is being reversed")
            if is_attempt and not happened:
                return outcome.record_reversal(history, operation_id, terminal, stamp, by_hand=True)
            if is_attempt and not outcome.APPROVAL_CODE.fullmatch(approval_code):
                raise Refused(
                    Refusal.INVALID_REQUEST,
                    "give the approval code of the acquirer's statement, 6 letters or digits: the shop is told it",
                    "approval_code",
                )
            if reference and not _REFERENCE.fullmatch(reference):
                raise Refused(Refusal.INVALID_REQUEST, "the reference (RRN) has 12 letters or digits", "reference")
            answer = _answer(operation, happened, approval_code, reference)
            decision = outcome.record_answer(
                history, operation_id, answer, terminal, stamp, was_recovered=True, by_hand=True
            )
            if decision.answer.must_reverse:
                raise Refused(Refusal.WRONG_STATE, _why_too_late(history, operation))
            return decision

        return await self._decide(operation_id, "resolved_by_hand", words, reason, who, decide)

    async def retry(self, operation_id: UUID, *, reason: str, who: str) -> Recorded:
        """Lets recovery look at once instead of when it is due again: the acquirer is back. Raises Refused."""

        def decide(history: OrderHistory, operation: Operation, terminal: Terminal, stamp: Stamp) -> Decision[Recorded]:
            status = history.payments[operation.payment_id].status
            return Decision(Recorded(status), (replace(operation, due_at=stamp.real_at),))

        return await self._decide(operation_id, "retried_by_hand", "is tried again", reason, who, decide)

    async def _decide(
        self, operation_id: UUID, event_kind: str, words: str, reason: str, who: str, decide: _Decide
    ) -> Recorded:
        """Runs a decision on an operation that waits for people, and adds who made it and why."""
        order_id = await queries.find_order_of_operation(self._store, operation_id)
        if order_id is None:
            raise Refused(Refusal.NOT_FOUND, f"there is no operation {operation_id}")
        history = await self._store.find(keys.order_by_id(order_id))
        if history is None:
            raise LookupError(f"order {order_id} is not stored")
        terminal = await self._directory.get_terminal(history.order.terminal_id)
        stamp = Stamp(self._clock.now(), self._clock.real_now(), self._ids.new(), self._ids.new(), None)
        audit_id = self._ids.new()

        def decide_waiting(history: OrderHistory | None) -> Decision[Recorded]:
            operation = history.operations.get(operation_id) if history else None
            if history is None or operation is None or (operation.due_at is None and not _is_reversal(operation)):
                raise Refused(Refusal.WRONG_STATE, f"operation {operation_id} is settled already")
            _check_waits(operation, self._clock.real_now())  # now: a step may have taken it up a moment ago
            decision = decide(history, operation, terminal, stamp)
            if len(reason.strip()) < 10:
                raise Refused(Refusal.INVALID_REQUEST, "give a reason of 10 characters or more: it is kept", "reason")
            audit = Event(
                id=audit_id,
                order_id=operation.order_id,
                payment_id=operation.payment_id,
                kind=event_kind,
                detail=f"{operation.kind} {words}; by {who}: {reason.strip()}"[:1000],
                at=stamp.at,
            )
            return Decision(decision.answer, (*decision.writes, audit))

        return await self._store.change((keys.order_by_id(order_id),), decide_waiting)


def _is_reversal(operation: Operation) -> bool:
    return operation.kind is OperationKind.REVERSAL


def _check_waits(operation: Operation, real_now: datetime) -> None:
    """Raises Refused while the operation is not given up, or an exchange about it may be running, in any process."""
    if _is_reversal(operation):
        raise Refused(Refusal.WRONG_STATE, f"settle the operation that it reverses: {operation.original_id}")
    if operation.alerted_at is None:
        raise Refused(
            Refusal.WRONG_STATE,
            f"operation {operation.id} is still being asked about (try {operation.tries}): it is yours to settle"
            " when tolem resolve --list says that it waits for you",
        )
    if operation.asked_until is not None and real_now < operation.asked_until:
        seconds = int((operation.asked_until - real_now).total_seconds()) + 1
        raise Refused(Refusal.WRONG_STATE, f"the acquirer is being asked about it just now: try again in {seconds} s")


def _answer(operation: Operation, happened: bool, approval_code: str, reference: str) -> AcquirerAnswer:
    return AcquirerAnswer(
        key=operation.id,
        verdict=Verdict.APPROVED if happened else Verdict.DECLINED,
        amount=operation.amount if happened else 0,
        reason_code=0 if happened else REASON_RESOLVED,
        approval_code=approval_code,
        rrn=reference,
    )


def _why_too_late(history: OrderHistory, operation: Operation) -> str:
    """What happened may no longer count: why, and what to do."""
    if operation.kind not in CARD_KINDS:
        return (
            "the payment has no room for it, since its money was moved otherwise meanwhile: have it undone at the"
            " acquirer, then resolve it as not happened"
        )
    if outcome.find_reversal(history, operation.id) is not None:
        return (
            "its reversal is under way, so it may not count any more: see that it is reversed at the acquirer,"
            " then resolve it as not happened"
        )
    return "the shop was told that it failed: reverse it at the acquirer, then resolve it as not happened"


def _age(created_at: datetime, now: datetime) -> int:
    return max(0, int((now - created_at).total_seconds()))
