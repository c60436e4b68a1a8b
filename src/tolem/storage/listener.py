"""PostgreSQL's LISTEN over a connection of its own: a process hears at once of what another one has committed.

Used by the engine. A connection that breaks is made anew, for as long as it takes; since something may have been missed
meanwhile, those who listen are called after that, too.
"""

import asyncio
from collections.abc import Callable

import psycopg

from tolem.telemetry import log

RECONNECT_SECONDS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
"""Pauses before connecting again; the last one repeats."""


class Listener:
    """Listens on one channel from the first `add` on."""

    def __init__(self, conninfo: str, channel: str) -> None:
        self._conninfo = conninfo
        self._channel = channel
        self.is_listening = False
        """False: what is said is heard later, when connected again."""
        self._callbacks: list[Callable[[], None]] = []
        self._task: asyncio.Task[None] | None = None

    def add(self, callback: Callable[[], None]) -> None:
        """Calls it whenever something was heard or may have been missed."""
        self._callbacks.append(callback)
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name=f"listener {self._channel}")

    async def close(self) -> None:
        """Listens no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        failures = 0
        while True:
            try:
                async with await psycopg.AsyncConnection.connect(self._conninfo, autocommit=True) as connection:
                    await connection.execute(f"LISTEN {self._channel}")
                    failures, self.is_listening = 0, True
                    self._tell()
                    async for _ in connection.notifies():
                        self._tell()
            except (psycopg.Error, OSError) as error:
                if failures == 0:  # once: the database may be away for long
                    log.info("listener_reconnects", cause=type(error).__name__)
            self.is_listening = False
            await asyncio.sleep(RECONNECT_SECONDS[min(failures, len(RECONNECT_SECONDS) - 1)])
            failures += 1

    def _tell(self) -> None:
        for callback in self._callbacks:
            callback()
