"""Ends rounds whose deadline passed, and purges tokens and page addresses that nobody can use any more.

A round with an open payment is left alone: the payment ends by its own limits, and decides.
"""

import asyncio
from uuid import UUID

from tolem.clock import Clock
from tolem.domain.history import OrderHistory
from tolem.domain.order import OrderStatus
from tolem.flows import rounds
from tolem.flows.acquiring import Acquiring
from tolem.flows.directory import Directory
from tolem.flows.rounds import RoundEnd
from tolem.flows.steps import tell_failures
from tolem.notifications.notifier import Notifier
from tolem.storage import keys, sweeps
from tolem.storage.store import Decision, Store
from tolem.telemetry import log

BATCH = 100


class Expiry:
    """One step over what is due; `worker` repeats it."""

    def __init__(
        self,
        store: Store,
        directory: Directory,
        clock: Clock,
        acquiring: Acquiring,
        notifier: Notifier,
    ) -> None:
        self._store = store
        self._directory = directory
        self._clock = clock
        self._acquiring = acquiring
        self._notifier = notifier

    async def step(self) -> int:
        """Fails the rounds that are overdue. Returns how many ended."""
        order_ids = await sweeps.due_rounds(self._store, now=self._clock.now(), limit=BATCH)
        results = await asyncio.gather(*(self._expire(order_id) for order_id in order_ids), return_exceptions=True)
        tell_failures("expiry_failed", "order", zip(order_ids, results, strict=True))
        return sum(result for result in results if isinstance(result, int))

    async def purge(self) -> int:
        """Deletes what is past its time: access tokens, pages, cards of challenges. Returns how many rows went."""
        now, real_now = self._clock.now(), self._clock.real_now()
        return await sweeps.purge_expired(self._store, before=now, real_before=real_now, limit=BATCH * 10)

    async def _expire(self, order_id: UUID) -> int:
        found = await self._store.find(keys.order_by_id(order_id))
        if found is None:
            raise LookupError(f"order {order_id} is not stored")
        terminal = await self._directory.get_terminal(found.order.terminal_id)
        stamp = self._acquiring.stamp()

        def decide(history: OrderHistory | None) -> Decision[RoundEnd | None]:
            if history is None or history.order.status is not OrderStatus.OPEN:
                return Decision(None)
            if history.open_payment() is not None or not rounds.is_overdue(history.order, stamp.at):
                return Decision(None)
            end = rounds.fail(history, history.last_payment(), terminal, stamp, cause="the deadline passed")
            return Decision(end, (end.order, *end.records))

        end = await self._store.change((keys.order_by_id(order_id),), decide)
        if end is None:
            return 0
        if end.message is not None:
            self._notifier.send(end.message)
        log.info("round_expired", order=str(order_id))
        return 1
