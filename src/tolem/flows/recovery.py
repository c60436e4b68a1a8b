"""Settles exchanges that were cut short: prepared operations whose process died, and unknown outcomes.

Inquiry first: what the acquirer knows counts. What it does not know for certain is reversed by the operation's key
until it confirms that the original did not and will not happen; "not found" alone ends nothing, for the original may
still be on its way. Once a reversal is prepared it is not asked again: the reversal, too, may be on its way. A row is
touched only after its deadline and a margin, and never needs the card.
"""

import asyncio
from datetime import timedelta
from uuid import UUID

from tolem.acquirers.base import AcquirerAnswer, AcquirerRequest, Verdict
from tolem.clock import Clock
from tolem.domain.history import OrderHistory
from tolem.domain.merchant import Terminal
from tolem.domain.payment import Operation, OperationKind
from tolem.flows import outcome
from tolem.flows.authorization import Authorizations, Limits
from tolem.flows.directory import Directory
from tolem.flows.outcome import Recorded
from tolem.ids import Ids
from tolem.storage import keys, sweeps
from tolem.storage.store import Decision, Store
from tolem.telemetry import log, recoveries_total

BATCH = 32
"""Operations taken up at one time."""
TRIES_ALERT = 10
"""From this many tries on, each is an error in the log: somebody has to look."""


class Recovery:
    """One step over what is due; `worker` repeats it."""

    def __init__(
        self,
        store: Store,
        directory: Directory,
        clock: Clock,
        ids: Ids,
        authorizations: Authorizations,
        limits: Limits,
    ) -> None:
        self._store = store
        self._directory = directory
        self._clock = clock
        self._ids = ids
        self._authorizations = authorizations
        # An inquiry and a reversal, each as long as an exchange may take: until then the row is ours.
        self._hold = timedelta(seconds=2 * limits.exchange_seconds + limits.margin_seconds)

    async def step(self) -> int:
        """Takes up the operations that are due, side by side: a silent acquirer delays nobody else's. How many."""
        real_now = self._clock.real_now()
        claimed = await sweeps.claim_operations(self._store, real_now=real_now, hold=self._hold, limit=BATCH)
        results = await asyncio.gather(*(self._recover(operation) for operation in claimed), return_exceptions=True)
        for operation, result in zip(claimed, results, strict=True):
            if isinstance(result, Exception):  # it is due again when its hold ends
                log.error("recovery_failed", operation=str(operation.id), exc_info=result)
        return len(claimed)

    async def _recover(self, operation: Operation) -> None:
        found = await self._store.find(keys.order_by_id(operation.order_id))
        if found is None:
            raise LookupError(f"the order of operation {operation.id} is not stored")
        terminal = await self._directory.get_terminal(found.order.terminal_id)
        recorded: Recorded | None = None
        if outcome.find_reversal(found, operation.id) is None:
            answer = await self._inquire(operation, terminal, found.order.currency)
            if not isinstance(answer, str) and outcome.is_certain(answer, operation):
                recorded = await self._authorizations.record(operation, terminal, answer, of="inquiry")
        if recorded is None or recorded.must_reverse:
            recorded = await self._reverse(operation, terminal, found.order.currency)
        status = recorded.status if recorded else None
        recoveries_total.labels(status or "open").inc()
        is_late = status is None and operation.tries >= TRIES_ALERT
        (log.error if is_late else log.info)(
            "recovery",
            order=str(operation.order_id),
            operation=str(operation.id),
            tries=operation.tries,
            status=status or "still open",
        )

    async def _inquire(self, operation: Operation, terminal: Terminal, currency: str) -> AcquirerAnswer | str:
        """The acquirer's word on the operation, as if it were the answer to the operation itself."""
        key = self._ids.new()
        answer = await self._authorizations.exchange(
            self._request(operation, terminal, currency, OperationKind.INQUIRY, key, self._ids.stan())
        )
        if isinstance(answer, str):
            return answer
        if answer.key != key:
            return "the answer belongs to another inquiry"
        return AcquirerAnswer(
            key=operation.id,
            verdict=answer.verdict,
            amount=answer.amount,
            reason_code=answer.reason_code,
            approval_code=answer.approval_code,
            rrn=answer.rrn,
            issuer_name=answer.issuer_name,
        )

    async def _reverse(self, operation: Operation, terminal: Terminal, currency: str) -> Recorded | None:
        """Reverses by the operation's key. None: not confirmed yet, or settled meanwhile."""
        stamp = self._authorizations.stamp()
        reversal_id, stan = self._ids.new(), self._ids.stan()

        def prepare(history: OrderHistory | None) -> Decision[Operation | None]:
            if history is None:
                raise LookupError(f"the order of operation {operation.id} is not stored")
            return outcome.prepare_reversal(history, operation.id, reversal_id, stan, stamp)

        reversal = await self._store.change((keys.order_by_id(operation.order_id),), prepare)
        if reversal is None:
            return None
        answer = await self._authorizations.exchange(
            self._request(operation, terminal, currency, OperationKind.REVERSAL, reversal.id, reversal.stan)
        )
        if isinstance(answer, str) or answer.key != reversal.id:
            return None
        if answer.verdict is not Verdict.APPROVED or answer.reason_code != 0:
            return None
        confirmed = self._authorizations.stamp()

        def record(history: OrderHistory | None) -> Decision[Recorded]:
            if history is None:
                raise LookupError(f"the order of operation {operation.id} is not stored")
            return outcome.record_reversal(history, reversal.id, terminal, confirmed)

        return await self._authorizations.settle(operation.order_id, record)

    def _request(
        self, operation: Operation, terminal: Terminal, currency: str, kind: OperationKind, key: UUID, stan: str
    ) -> AcquirerRequest:
        return AcquirerRequest(
            key=key,
            kind=kind,
            terminal_id=terminal.id,
            amount=operation.amount,
            currency=currency,
            stan=stan,
            rrn=operation.rrn,
            at=self._clock.now(),
            original_key=operation.id,
        )
