"""All that makes a sandbox a sandbox beside the simulator: the clock that can be moved, and faults on the way to shops.

Bootstrap opens it before anything asks for the time, puts its carrier in front of the sender and its watch in front of
the edge, and joins it to the rest once that is made.
"""

from collections.abc import Sequence

from starlette.routing import Route
from starlette.types import ASGIApp

from tolem.clock import Clock
from tolem.notifications.notifier import Notifier
from tolem.sandbox.carrier import FaultyCarrier
from tolem.sandbox.clock import SandboxClock
from tolem.sandbox.returns import ReturnWatch
from tolem.sandbox.routes import clock_routes, fault_routes
from tolem.sandbox.state import SandboxState, SharedState
from tolem.sandbox.time_machine import Step, TimeMachine
from tolem.storage.store import Store
from tolem.telemetry import Outages


class Controls:
    """One process's part of them."""

    def __init__(self, store: Store, real_clock: Clock, outages: Outages) -> None:
        self.clock = SandboxClock(real_clock)
        self._store = store
        self._state = SharedState(store, outages)
        self.carrier = FaultyCarrier(store, self.clock, self._state)
        self._notifier: Notifier | None = None
        self._state.listeners.append(self._follow)

    async def open(self) -> None:
        """Follows what is stored, and what other processes change, until `close`."""
        await self._state.open()

    async def close(self) -> None:
        """Follows no more."""
        await self._state.close()

    def join(self, notifier: Notifier, *, steps: Sequence[Step], purge: Step) -> list[Route]:
        """The routes under /sandbox. `steps` and `purge`: what a moved clock sets to work beside the notifier, as
        TimeMachine has it."""
        self._notifier = notifier
        self.carrier.join(notifier)
        machine = TimeMachine(self._store, self.clock, self._state, steps=steps, wake=notifier.wake, purge=purge)
        return [*clock_routes(self.clock, self._state, machine), *fault_routes(self._state)]

    def watch(self, app: ASGIApp) -> ASGIApp:
        """`app` behind what decides who comes back to the shop first."""
        return ReturnWatch(app, self._store, self.clock, self._state, self.carrier)

    def _follow(self, state: SandboxState) -> None:
        if state.offset > self.clock.offset:
            self.clock.follow(state.offset)
            if self._notifier is not None:
                self._notifier.wake()
