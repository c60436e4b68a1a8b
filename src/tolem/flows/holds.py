"""Releases holds that have expired: by a void that the acquirer confirms, never by the clock alone."""

import asyncio

from tolem.clock import Clock
from tolem.domain.errors import Refused
from tolem.flows.operations import MoneyResult, Operations
from tolem.flows.steps import tell_failures
from tolem.storage import sweeps
from tolem.storage.store import Store
from tolem.storage.sweeps import DueHold
from tolem.telemetry import log

BATCH = 32


class Holds:
    """One step over what is due; `worker` repeats it.

    Steps go through all that is due before they begin anew, so a hold that can't be released keeps no other waiting.
    """

    def __init__(self, store: Store, clock: Clock, operations: Operations) -> None:
        self._store = store
        self._clock = clock
        self._operations = operations
        self._last: DueHold | None = None
        """Where the next step goes on; None: at the longest overdue."""

    async def step(self) -> int:
        """Voids the next holds that have expired. How many of these voids have an outcome: 0 also if all were refused,
        failed, or wait for recovery."""
        due = await sweeps.due_holds(self._store, now=self._clock.now(), limit=BATCH, after=self._last)
        self._last = due[-1] if len(due) == BATCH else None
        results = await asyncio.gather(
            *(self._operations.release_hold(hold.order_id, hold.payment_id) for hold in due), return_exceptions=True
        )
        for hold, result in zip(due, results, strict=True):
            if isinstance(result, Refused):  # captured or voided by the shop meanwhile
                log.info("hold_kept", payment=str(hold.payment_id), reason=result.message)
        failed = (
            (hold.payment_id, result)
            for hold, result in zip(due, results, strict=True)
            if not isinstance(result, Refused)
        )
        tell_failures("hold_release_failed", "payment", failed)
        return sum(isinstance(result, MoneyResult) and result.is_settled for result in results)
