"""Settles exchanges that were cut short: prepared operations whose process died, and unknown outcomes.

Inquiry first: what the acquirer knows for certain counts. What it does not know is, for an authorize or purchase,
reversed by the operation's key until it confirms that the original did not and will not happen; "not found" alone ends
nothing, for the original may still be on its way. A capture, void or refund is never reversed: the same exchange is
sent again under its own key. Once a reversal is prepared nothing is asked any more: the reversal, too, may be on its
way.

An inquiry that is not answered says nothing: for a while it is asked again before a sale is undone.

What a person settled as not happened is asked about, too, until the acquirer has said so: a card attempt is reversed,
a capture, void or refund inquired. If the acquirer approved it, it is opened again.

A row is touched only after its deadline and a margin, and never needs the card. What stays open after many tries is
given up to people: an alert, and `tolem resolve`. It is still tried, slowly, in case the acquirer comes back first.
"""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar

from msgspec.structs import replace

from tolem.acquirers.base import AcquirerAnswer, AcquirerRequest, Verdict
from tolem.domain.history import OrderHistory
from tolem.domain.merchant import Terminal
from tolem.domain.payment import CARD_KINDS, OPEN_OPERATIONS, Operation, OperationKind
from tolem.flows import outcome
from tolem.flows.acquiring import Acquiring
from tolem.flows.directory import Directory
from tolem.flows.outcome import Recorded
from tolem.flows.steps import tell_failures
from tolem.storage import keys, sweeps
from tolem.storage.store import Decision
from tolem.telemetry import log, recoveries_total

T = TypeVar("T")

BATCH = 32
"""Operations taken up at one time."""
INQUIRIES_MIN = 4
"""So many inquiries have to go unanswered before anything else is done, about a minute after the first."""


class Recovery:
    """One step over what is due; `worker` repeats it."""

    def __init__(self, acquiring: Acquiring, directory: Directory) -> None:
        self._acquiring = acquiring
        self._directory = directory
        self._margin = timedelta(seconds=acquiring.limits.margin_seconds)

    async def step(self) -> int:
        """Takes up the operations that are due, side by side: a silent acquirer delays nobody else's. How many."""
        acquiring = self._acquiring
        claimed = await sweeps.claim_operations(
            acquiring.store, real_now=acquiring.clock.real_now(), until=acquiring.claim_until(), limit=BATCH
        )
        results = await asyncio.gather(*(self._recover(operation) for operation in claimed), return_exceptions=True)
        # What failed is due again when its claim ends.
        ids = (operation.id for operation in claimed)
        tell_failures("recovery_failed", "operation", zip(ids, results, strict=True))
        return len(claimed)

    async def _recover(self, operation: Operation) -> None:
        history = await self._acquiring.store.find(keys.order_by_id(operation.order_id))
        if history is None:
            raise LookupError(f"the order of operation {operation.id} is not stored")
        terminal = await self._directory.get_terminal(history.order.terminal_id)
        step = _Step(operation, terminal, history.payments[operation.payment_id].currency)
        recorded = await self._find_out(history, step)
        is_given_up = False if recorded else await self._postpone(step)
        is_open = "unconfirmed" if step.is_settled else "open"
        status = recorded.status if recorded else "given up" if is_given_up else is_open
        recoveries_total.labels(status).inc()
        (log.error if is_given_up else log.info)(
            "recovery",
            order=str(operation.order_id),
            operation=str(operation.id),
            kind=operation.kind,
            tries=operation.tries,
            status=status,
        )

    async def _find_out(self, history: OrderHistory, step: "_Step") -> Recorded | None:
        """The settled outcome; None: nothing certain was learned."""
        operation = step.operation
        if step.is_settled:
            return await (self._reverse(step) if operation.kind in CARD_KINDS else self._recheck(step))
        if outcome.find_reversal(history, operation.id) is None:
            answer = await self._inquire(step)
            if isinstance(answer, str) and operation.tries < INQUIRIES_MIN:
                return None
            if not isinstance(answer, str) and outcome.is_certain(answer, operation, step.currency):
                recorded = await self._record(step, answer, "inquiry")
                if recorded is not None or step.is_without_room:
                    return recorded
        return await (self._reverse(step) if operation.kind in CARD_KINDS else self._send_again(step))

    async def _recheck(self, step: "_Step") -> Recorded | None:
        """The acquirer's word on what a person settled. None: it had no certain one."""
        answer = await self._inquire(step)
        if isinstance(answer, str) or not outcome.is_certain(answer, step.operation, step.currency):
            return None
        return await self._record(step, answer, "inquiry")

    async def _record(self, step: "_Step", answer: AcquirerAnswer, recovered_by: str) -> Recorded | None:
        """What a certain answer settled; None: it was approved, and may not count."""
        operation = step.operation
        recorded = await self._acquiring.record(
            operation, step.currency, step.terminal, answer, recovered_by=recovered_by
        )
        if not recorded.must_reverse:
            return recorded
        step.is_without_room = operation.kind not in CARD_KINDS
        return None

    async def _inquire(self, step: "_Step") -> AcquirerAnswer | str:
        """The acquirer's word on the operation, as if it were the answer to the operation itself."""
        ids, operation = self._acquiring.ids, step.operation
        answer = await self._acquiring.exchange(
            AcquirerRequest(
                key=ids.new(),
                kind=OperationKind.INQUIRY,
                terminal_id=step.terminal.id,
                amount=operation.amount,
                currency=step.currency,
                stan=ids.stan(),
                rrn=operation.rrn,
                at=self._acquiring.clock.now(),
                original_key=operation.id,
            ),
            operation.asked_until,
        )
        return answer if isinstance(answer, str) else replace(answer, key=operation.id)

    async def _send_again(self, step: "_Step") -> Recorded | None:
        """The same capture, void or refund under the same key: the acquirer does it once. Not if somebody has settled
        it since the inquiry."""
        until = self._acquiring.claim_until()
        operation = await self._change(step, lambda history: outcome.ask_again(history, step.operation, until))
        if operation is None:
            return None
        step.operation = operation
        request = money_request(operation, step.terminal, step.currency)
        answer = await self._acquiring.exchange(request, operation.asked_until)
        if isinstance(answer, str) or not outcome.is_certain(answer, operation, step.currency):
            return None
        return await self._record(step, answer, "repeat")

    async def _reverse(self, step: "_Step") -> Recorded | None:
        """Reverses by the operation's key. None: not confirmed yet, or settled meanwhile."""
        acquiring = self._acquiring
        stamp, until = acquiring.stamp(), acquiring.claim_until()
        reversal_id, stan = acquiring.ids.new(), acquiring.ids.stan()

        def prepare(history: OrderHistory) -> Decision[tuple[Operation, Operation] | None]:
            return outcome.prepare_reversal(history, step.operation, until, reversal_id, stan, stamp)

        prepared = await self._change(step, prepare)
        if prepared is None:
            return None
        step.operation, reversal = prepared
        answer = await acquiring.exchange(
            money_request(reversal, step.terminal, step.currency), step.operation.asked_until
        )
        if isinstance(answer, str) or answer.verdict is not Verdict.APPROVED or answer.reason_code != 0:
            return None
        confirmed = acquiring.stamp()
        return await acquiring.settle(
            step.operation.order_id,
            lambda history: outcome.record_reversal(history, step.operation.id, step.terminal, confirmed),
        )

    async def _postpone(self, step: "_Step") -> bool:
        """The next try comes later and later; after many people have to look. True: given up just now."""
        stamp, tries = self._acquiring.stamp(), step.operation.tries
        given_up = f"after {tries} tries" if tries >= self._acquiring.limits.recovery_tries else ""
        if step.is_without_room:
            given_up = "approved late, and the payment has no room for it"
        if step.is_settled:
            given_up, due_at = "", outcome.recheck_due(stamp.real_at, tries)
        else:
            due_at = outcome.recovery_due(stamp.real_at, tries, self._margin, bool(given_up))
        return await self._change(
            step, lambda history: outcome.postpone(history, step.operation, due_at, stamp, given_up=given_up)
        )

    async def _change(self, step: "_Step", decide: Callable[[OrderHistory], Decision[T]]) -> T:
        def decide_stored(history: OrderHistory | None) -> Decision[T]:
            if history is None:
                raise LookupError(f"the order of operation {step.operation.id} is not stored")
            return decide(history)

        return await self._acquiring.store.change((keys.order_by_id(step.operation.order_id),), decide_stored)


class _Step:
    """One try of one operation."""

    def __init__(self, operation: Operation, terminal: Terminal, currency: str) -> None:
        self.operation = operation
        """As this step took it up last."""
        self.terminal = terminal
        self.currency = currency
        self.is_settled = operation.status not in OPEN_OPERATIONS
        """By a person, whose word is to be confirmed."""
        self.is_without_room = False
        """The acquirer approved it, and it can't be booked."""


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
