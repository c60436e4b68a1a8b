"""What people decide about an operation that recovery could not settle. Audited: who, why, when.

Called from the command line. It goes the same way as an acquirer's answer, so every rule holds here, too.
"""

from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from tolem.acquirers.base import AcquirerAnswer, Verdict
from tolem.clock import Clock
from tolem.domain.errors import Refusal, Refused
from tolem.domain.history import Event, OrderHistory
from tolem.domain.payment import CARD_KINDS, OPEN_OPERATIONS, Operation
from tolem.flows import outcome
from tolem.flows.directory import Directory
from tolem.flows.outcome import Recorded
from tolem.flows.rounds import Stamp
from tolem.ids import Ids
from tolem.storage import keys, queries
from tolem.storage.store import Decision, Store

REASON_RESOLVED = 456
"""Reason of a capture, void or refund that did not happen, by a person's word."""


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

    async def resolve(self, operation_id: UUID, *, happened: bool, reason: str, who: str) -> Recorded:
        """Records that an operation happened, or did not and will not. Raises Refused.

        The shop is told as if the acquirer had said so. `reason`: at least a few words, kept for ever.
        """
        if len(reason.strip()) < 10:
            raise Refused(Refusal.INVALID_REQUEST, "give a reason of 10 characters or more: it is kept", "reason")
        order_id = await queries.find_order_of_operation(self._store, operation_id)
        if order_id is None:
            raise Refused(Refusal.NOT_FOUND, f"there is no operation {operation_id}")
        history = await self._store.find(keys.order_by_id(order_id))
        if history is None:
            raise LookupError(f"order {order_id} is not stored")
        terminal = await self._directory.get_terminal(history.order.terminal_id)
        stamp = Stamp(self._clock.now(), self._clock.real_now(), self._ids.new(), self._ids.new(), None)
        audit_id = self._ids.new()

        def decide(history: OrderHistory | None) -> Decision[Recorded]:
            operation = history.operations.get(operation_id) if history else None
            if history is None or operation is None or operation.status not in OPEN_OPERATIONS:
                raise Refused(Refusal.WRONG_STATE, f"operation {operation_id} is settled already")
            if operation.kind in CARD_KINDS and not happened:
                decision = outcome.record_reversal(history, operation_id, terminal, stamp, cause="resolved by hand")
            else:
                answer = _answer(operation, happened=happened)
                decision = outcome.record_answer(history, operation_id, answer, terminal, stamp, was_recovered=True)
            if decision.answer.must_reverse:
                raise Refused(
                    Refusal.WRONG_STATE,
                    "the shop was told that it failed: reverse it at the acquirer, then resolve it as not happened",
                )
            words = "happened" if happened else "did not happen"
            audit = Event(
                id=audit_id,
                order_id=operation.order_id,
                payment_id=operation.payment_id,
                kind="resolved_by_hand",
                detail=f"{operation.kind} {words}; by {who}: {reason.strip()}"[:1000],
                at=stamp.at,
            )
            return Decision(decision.answer, (*decision.writes, audit))

        return await self._store.change((keys.order_by_id(order_id),), decide)


def _answer(operation: Operation, *, happened: bool) -> AcquirerAnswer:
    return AcquirerAnswer(
        key=operation.id,
        verdict=Verdict.APPROVED if happened else Verdict.DECLINED,
        amount=operation.amount if happened else 0,
        reason_code=0 if happened else REASON_RESOLVED,
    )


def _age(created_at: datetime, now: datetime) -> int:
    return max(0, int((now - created_at).total_seconds()))
