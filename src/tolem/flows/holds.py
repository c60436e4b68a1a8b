"""Releases holds that have expired: by a void that the acquirer confirms, never by the clock alone."""

import asyncio

from tolem.clock import Clock
from tolem.domain.errors import Refused
from tolem.flows.operations import Operations
from tolem.storage import sweeps
from tolem.storage.store import Store
from tolem.telemetry import log

BATCH = 32


class Holds:
    """One step over what is due; `worker` repeats it."""

    def __init__(self, store: Store, clock: Clock, operations: Operations) -> None:
        self._store = store
        self._clock = clock
        self._operations = operations

    async def step(self) -> int:
        """Voids the holds that have expired. How many were taken up."""
        due = await sweeps.due_holds(self._store, now=self._clock.now(), limit=BATCH)
        results = await asyncio.gather(
            *(self._operations.release_hold(order_id, payment_id) for order_id, payment_id in due),
            return_exceptions=True,
        )
        for (_, payment_id), result in zip(due, results, strict=True):
            if isinstance(result, Refused):  # captured or voided by the shop meanwhile
                log.info("hold_kept", payment=str(payment_id), reason=result.message)
            elif isinstance(result, Exception):
                log.error("hold_release_failed", payment=str(payment_id), exc_info=result)
        return len(due)
