"""What happens, sent to browsers as it happens: server-sent events (HTML standard, "Server-sent events").

One look at the books serves all who watch in this process, and nobody looks while nobody watches. A browser that joins
gets everything there is to show, then what changes; one that cannot keep up is cut off, and joins again by itself.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

import msgspec

from tolem.domain.errors import Overloaded, Uncertain
from tolem.telemetry import log

LOOK_SECONDS = 0.4
"""From one look at the books to the next."""
LOOK_SECONDS_MAX = 5.0
"""The same while the books cannot be read."""
HEARTBEAT_SECONDS = 15.0
"""Something is sent at least so often, so that nobody on the way takes the connection for dead."""
READERS_MAX = 32
EVENTS_MAX = 100
"""Events that wait for a slow reader."""
REJOIN = b"retry: 1000\n\n"

Shown = Mapping[str, bytes]
"""What there is to show: name → JSON."""


class Feed:
    """One for each process."""

    def __init__(self, look: Callable[[], Awaitable[Shown]]) -> None:
        """`look`: reads what there is to show now, in the order in which it is shown."""
        self._look = look
        self._latest: Shown | None = None
        """None: nobody has looked yet."""
        self._readers: set[asyncio.Queue[bytes | None]] = set()
        self._task: asyncio.Task[None] | None = None
        self._is_closing = False

    @property
    def is_full(self) -> bool:
        """Nobody else can join now."""
        return self._is_closing or len(self._readers) >= READERS_MAX

    async def read(self) -> AsyncIterator[bytes]:
        """The events of one reader, until it goes or the feed closes."""
        events: asyncio.Queue[bytes | None] = asyncio.Queue(EVENTS_MAX)
        self._readers.add(events)
        if self._latest is not None:
            events.put_nowait(_render("all", self._latest))
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="feed")
        try:
            yield REJOIN
            while not self._is_closing:
                try:
                    event = await asyncio.wait_for(events.get(), HEARTBEAT_SECONDS)
                except TimeoutError:
                    yield b": still there\n\n"
                    continue
                if event is None:
                    return
                yield event
        finally:
            self._readers.discard(events)

    def close(self) -> None:
        """Ends every stream: their connections would hold up the end of the process."""
        self._is_closing = True
        for events in tuple(self._readers):
            self._cut_off(events)
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        """Looks while anybody watches."""
        pause = LOOK_SECONDS
        try:
            while self._readers and not self._is_closing:
                try:
                    self._tell(await self._look())
                    pause = LOOK_SECONDS
                except Exception as error:
                    if pause == LOOK_SECONDS:  # once: the books may be away for long
                        log.warning("feed_failed", cause=type(error).__name__, exc_info=_trace_of(error))
                    pause = min(pause * 2, LOOK_SECONDS_MAX)
                await asyncio.sleep(pause)
        finally:
            self._task, self._latest = None, None

    def _tell(self, shown: Shown) -> None:
        """Everything to those who have had nothing yet, and what has changed to the others."""
        if self._latest is None:
            self._send(_render("all", shown))
        else:
            changed = {name: told for name, told in shown.items() if self._latest.get(name) != told}
            if changed:
                self._send(_render("changed", changed))
        self._latest = dict(shown)

    def _send(self, event: bytes) -> None:
        for events in tuple(self._readers):
            try:
                events.put_nowait(event)
            except asyncio.QueueFull:
                self._cut_off(events)

    def _cut_off(self, events: "asyncio.Queue[bytes | None]") -> None:
        self._readers.discard(events)
        while not events.empty():
            events.get_nowait()
        events.put_nowait(None)


def _trace_of(error: Exception) -> Exception | None:
    """A database that is away is told by the loops that run all the time."""
    return None if isinstance(error, Overloaded | Uncertain) else error


def _render(event: str, shown: Shown) -> bytes:
    """One event; its data is a JSON array on one line."""
    told = msgspec.json.encode([msgspec.Raw(one) for one in shown.values()])
    return b"event: %s\ndata: %s\n\n" % (event.encode(), told)
