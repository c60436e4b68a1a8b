"""The work that no request starts: recovery, expiry, holds, notifications, purge.

Runs in `serve` beside the pages, or alone (`tolem worker`). A step that fails is told of and tried again; the loops
end only when they are told to.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from tolem.flows.authentication import Authentications
from tolem.flows.expiry import Expiry
from tolem.flows.holds import Holds
from tolem.flows.recovery import Recovery
from tolem.flows.saved_cards import SavedCards
from tolem.notifications.notifier import Notifier
from tolem.telemetry import Outages

STEP_SECONDS = 1.0
PURGE_SECONDS = 60.0
FAILURE_SECONDS_MAX = 30.0


class Worker:
    """Runs the loops of one process."""

    def __init__(
        self,
        recovery: Recovery,
        authentications: Authentications,
        expiry: Expiry,
        holds: Holds,
        cards: SavedCards,
        notifier: Notifier,
        outages: Outages,
    ) -> None:
        self._recovery = recovery
        self._authentications = authentications
        self._expiry = expiry
        self._holds = holds
        self._cards = cards
        self._notifier = notifier
        self._outages = outages
        self._stopping = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begins all loops."""
        self._tasks = [
            asyncio.create_task(self._repeat("recovery", STEP_SECONDS, self._recovery.step)),
            asyncio.create_task(self._repeat("authentications", STEP_SECONDS, self._authentications.expire)),
            asyncio.create_task(self._repeat("expiry", STEP_SECONDS, self._expiry.step)),
            asyncio.create_task(self._repeat("holds", STEP_SECONDS, self._holds.step)),
            asyncio.create_task(self._repeat("saved_cards", STEP_SECONDS, self._cards.step)),
            asyncio.create_task(self._repeat("saved_cards_purge", PURGE_SECONDS, self._cards.purge)),
            asyncio.create_task(self._repeat("purge", PURGE_SECONDS, self._expiry.purge)),
            asyncio.create_task(self._notifier.run()),
        ]

    async def stop(self, timeout_seconds: float) -> None:
        """Takes up nothing new and waits for what runs."""
        self._stopping.set()
        await self._notifier.stop(timeout_seconds)
        _, running = await asyncio.wait(self._tasks, timeout=timeout_seconds)
        for task in running:
            task.cancel()

    async def _repeat(self, name: str, seconds: float, step: Callable[[], Awaitable[int]]) -> None:
        """Steps until stopped. `step` returns how much it got done: while that is something there may be a backlog, and
        the next step follows at once; otherwise after `seconds`, and more slowly while steps fail."""
        pause = seconds
        while not self._stopping.is_set():
            try:
                done = await step()
                pause = 0.0 if done else seconds
                self._outages.succeeded(name)
            except Exception as error:
                self._outages.failed(name, error)
                pause = min(max(pause, seconds) * 2, FAILURE_SECONDS_MAX)
            with suppress(TimeoutError):
                async with asyncio.timeout(pause or 0.01):
                    await self._stopping.wait()
