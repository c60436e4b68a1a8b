"""All that makes a sandbox a sandbox beside the simulator: the clock that can be moved. Bootstrap opens it before
anything asks for the time, and joins it to the rest once that is made.
"""

from collections.abc import Callable, Sequence

from starlette.routing import Route

from tolem.clock import Clock
from tolem.sandbox.clock import SandboxClock
from tolem.sandbox.routes import clock_routes
from tolem.sandbox.state import SandboxState, SharedState
from tolem.sandbox.time_machine import Step, TimeMachine
from tolem.storage.store import Store


class Controls:
    """One process's part of them."""

    def __init__(self, store: Store, real_clock: Clock) -> None:
        self.clock = SandboxClock(real_clock)
        self._store = store
        self._state = SharedState(store)
        self._wake: Callable[[], None] = lambda: None
        self._state.listeners.append(self._follow)

    async def open(self) -> None:
        """Follows what is stored, and what other processes change, until `close`."""
        await self._state.open()

    async def close(self) -> None:
        """Follows no more."""
        await self._state.close()

    def join(self, *, steps: Sequence[Step], wake: Callable[[], None], purge: Step) -> list[Route]:
        """The routes under /sandbox. `steps`, `wake` and `purge`: what a moved clock sets to work, as TimeMachine has
        it."""
        self._wake = wake
        machine = TimeMachine(self._store, self.clock, self._state, steps=steps, wake=wake, purge=purge)
        return clock_routes(self.clock, self._state, machine)

    def _follow(self, state: SandboxState) -> None:
        if state.offset > self.clock.offset:
            self.clock.follow(state.offset)
            self._wake()
