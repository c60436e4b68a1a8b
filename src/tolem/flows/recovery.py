"""Settles exchanges that were cut short: prepared operations whose process died, and unknown outcomes.

Inquiry first: what the acquirer knows for certain counts. What it does not know is, for an authorize or purchase,
reversed by the operation's key until it confirms that the original did not and will not happen; "not found" alone ends
nothing, for the original may still be on its way. A capture, void or refund is never reversed: the same exchange is
sent again under its own key. Once a reversal is prepared nothing is asked any more: the reversal, too, may be on its
way.

An inquiry that is not answered says nothing: for a while it is asked again before a sale is undone.

A row is touched only after its deadline and a margin, and never needs the card. What stays open after many tries is
given up to people: an alert, and `tolem resolve`. It is still tried, slowly, in case the acquirer comes back first.
"""

import asyncio
from datetime import timedelta

from msgspec.structs import replace

from tolem.acquirers.base import AcquirerAnswer, AcquirerRequest, Verdict
from tolem.domain.history import OrderHistory
from tolem.domain.merchant import Terminal
from tolem.domain.payment import CARD_KINDS, Operation, OperationKind
from tolem.flows import outcome
from tolem.flows.acquiring import Acquiring
from tolem.flows.directory import Directory
from tolem.flows.outcome import Recorded
from tolem.storage import keys, sweeps
from tolem.storage.store import Decision
from tolem.telemetry import log, recoveries_total

BATCH = 32
"""Operations taken up at one time."""
INQUIRIES_MIN = 4
"""So many inquiries have to go unanswered before anything else is done, about a minute after the first."""


class Recovery:
    """One step over what is due; `worker` repeats it."""

    def __init__(self, acquiring: Acquiring, directory: Directory) -> None:
        self._acquiring = acquiring
        self._directory = directory
        self._hold = acquiring.limits.recovery_hold
        self._margin = timedelta(seconds=acquiring.limits.margin_seconds)

    async def step(self) -> int:
        """Takes up the operations that are due, side by side: a silent acquirer delays nobody else's. How many."""
        real_now = self._acquiring.clock.real_now()
        claimed = await sweeps.claim_operations(self._acquiring.store, real_now=real_now, hold=self._hold, limit=BATCH)
        results = await asyncio.gather(*(self._recover(operation) for operation in claimed), return_exceptions=True)
        for operation, result in zip(claimed, results, strict=True):
            if isinstance(result, Exception):  # it is due again when its hold ends
                log.error("recovery_failed", operation=str(operation.id), exc_info=result)
        return len(claimed)

    async def _recover(self, operation: Operation) -> None:
        history = await self._acquiring.store.find(keys.order_by_id(operation.order_id))
        if history is None:
            raise LookupError(f"the order of operation {operation.id} is not stored")
        terminal = await self._directory.get_terminal(history.order.terminal_id)
        currency = history.payments[operation.payment_id].currency
        recorded = await self._find_out(history, operation, terminal, currency)
        is_given_up = False if recorded else await self._postpone(operation)
        status = recorded.status if recorded else "given up" if is_given_up else "open"
        recoveries_total.labels(status).inc()
        (log.error if is_given_up else log.info)(
            "recovery",
            order=str(operation.order_id),
            operation=str(operation.id),
            kind=operation.kind,
            tries=operation.tries,
            status=status,
        )

    async def _find_out(
        self, history: OrderHistory, operation: Operation, terminal: Terminal, currency: str
    ) -> Recorded | None:
        """The settled outcome; None: still open."""
        if outcome.find_reversal(history, operation.id) is None:
            answer = await self._inquire(operation, terminal, currency)
            if isinstance(answer, str) and operation.tries < INQUIRIES_MIN:
                return None
            if not isinstance(answer, str) and outcome.is_certain(answer, operation, currency):
                recorded = await self._acquiring.record(operation, currency, terminal, answer, recovered_by="inquiry")
                if not recorded.must_reverse:
                    return recorded
        if operation.kind in CARD_KINDS:
            return await self._reverse(operation, terminal, currency)
        return await self._send_again(operation, terminal, currency)

    async def _inquire(self, operation: Operation, terminal: Terminal, currency: str) -> AcquirerAnswer | str:
        """The acquirer's word on the operation, as if it were the answer to the operation itself."""
        ids = self._acquiring.ids
        answer = await self._acquiring.exchange(
            AcquirerRequest(
                key=ids.new(),
                kind=OperationKind.INQUIRY,
                terminal_id=terminal.id,
                amount=operation.amount,
                currency=currency,
                stan=ids.stan(),
                rrn=operation.rrn,
                at=self._acquiring.clock.now(),
                original_key=operation.id,
            )
        )
        return answer if isinstance(answer, str) else replace(answer, key=operation.id)

    async def _send_again(self, operation: Operation, terminal: Terminal, currency: str) -> Recorded | None:
        """The same capture, void or refund under the same key: the acquirer does it once."""
        answer = await self._acquiring.exchange(money_request(operation, terminal, currency))
        if isinstance(answer, str) or not outcome.is_certain(answer, operation, currency):
            return None
        return await self._acquiring.record(operation, currency, terminal, answer, recovered_by="repeat")

    async def _reverse(self, operation: Operation, terminal: Terminal, currency: str) -> Recorded | None:
        """Reverses by the operation's key. None: not confirmed yet, or settled meanwhile."""
        acquiring = self._acquiring
        stamp = acquiring.stamp()
        reversal_id, stan = acquiring.ids.new(), acquiring.ids.stan()

        def prepare(history: OrderHistory | None) -> Decision[Operation | None]:
            if history is None:
                raise LookupError(f"the order of operation {operation.id} is not stored")
            return outcome.prepare_reversal(history, operation.id, reversal_id, stan, stamp)

        reversal = await acquiring.store.change((keys.order_by_id(operation.order_id),), prepare)
        if reversal is None:
            return None
        answer = await acquiring.exchange(money_request(reversal, terminal, currency))
        if isinstance(answer, str) or answer.verdict is not Verdict.APPROVED or answer.reason_code != 0:
            return None
        confirmed = acquiring.stamp()
        return await acquiring.settle(
            operation.order_id,
            lambda history: outcome.record_reversal(history, operation.id, terminal, confirmed),
        )

    async def _postpone(self, operation: Operation) -> bool:
        """The next try comes later and later; after many people have to look. True: given up just now."""
        acquiring = self._acquiring
        stamp = acquiring.stamp()
        give_up = operation.tries >= acquiring.limits.recovery_tries
        due_at = outcome.recovery_due(stamp.real_at, operation.tries, self._margin, give_up)

        def decide(history: OrderHistory | None) -> Decision[bool]:
            if history is None:
                raise LookupError(f"the order of operation {operation.id} is not stored")
            return outcome.postpone(history, operation.id, due_at, give_up=give_up, stamp=stamp)

        return await acquiring.store.change((keys.order_by_id(operation.order_id),), decide)


def money_request(operation: Operation, terminal: Terminal, currency: str) -> AcquirerRequest:
    """An operation that needs no card, as the acquirer is told of it: the same each time it is sent."""
    return AcquirerRequest(
        key=operation.id,
        kind=operation.kind,
        terminal_id=terminal.id,
        amount=operation.amount,
        currency=currency,
        stan=operation.stan,
        rrn=operation.rrn,
        at=operation.created_at,
        original_key=operation.original_id,
    )
