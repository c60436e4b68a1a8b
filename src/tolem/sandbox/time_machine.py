"""Moves the sandbox's clock forward, from due instant to due instant, and waits at each until what fell due is done.

So a shop that was down for three days gets its notifications in the order and at the business times in which it would
have got them, in as much real time as its answers take. Called by the routes under /sandbox/clock.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from msgspec.structs import replace

from tolem.domain.errors import Overloaded, Refusal, Refused
from tolem.sandbox.clock import SandboxClock
from tolem.sandbox.state import SandboxState, SharedState
from tolem.storage.agenda import DueWork, count_due, next_instant
from tolem.storage.store import Store

ADVANCE_MAX = timedelta(days=366)
"""The longest move."""
AHEAD_MAX = timedelta(days=3660)
"""How far business time may be ahead in all."""
GATHER = timedelta(seconds=1)
"""A stop takes in what falls due within so much business time: the gateway's loops are no more exact in real time."""
EXACT_STOPS = 50
"""After so many stops of a move each takes in twice as much, and so on: hundreds of messages, each due at its own
instant, must not make a move of days a matter of minutes."""
PAUSE_SECONDS = 0.002
PAUSE_SECONDS_MAX = 0.05
"""Between two looks at what is left to do; they grow."""

Step = Callable[[], Awaitable[int]]
"""Does some of what has fallen due; how much."""


class StillWorking(Exception):
    """The move is stored and not finished; the next one goes on from where it is. Says why in words."""


def _tell_left(left: DueWork) -> str:
    kinds = zip(DueWork._fields, left, strict=True)
    return "still to do: " + ", ".join(f"{number} {kind}" for kind, number in kinds if number)


class Move(NamedTuple):
    """What a move came to."""

    stops: int
    """Instants at which it stopped because something fell due."""


def check_distance(by: timedelta) -> None:
    """Raises Refused for a move that is too far, or back."""
    if not timedelta() <= by <= ADVANCE_MAX:
        raise Refused(
            Refusal.INVALID_REQUEST,
            f"advance_seconds must be 0 to {ADVANCE_MAX.total_seconds():.0f} ({ADVANCE_MAX.days} days):"
            " the clock never goes back",
            "advance_seconds",
        )


def check_ahead(offset: timedelta) -> timedelta:
    """The offset. Raises Refused if business time would be too far ahead with it."""
    if offset > AHEAD_MAX:
        raise Refused(
            Refusal.INVALID_REQUEST,
            f"the clock would be more than {AHEAD_MAX.days} days ahead: begin with a new database",
            "advance_seconds",
        )
    return offset


def jump(state: SandboxState, by: timedelta) -> SandboxState:
    """The clock moved at once, where no gateway runs that could stop on the way. Raises Refused as a move does."""
    check_distance(by)
    offset = check_ahead(state.offset + by)
    return replace(state, offset=offset, target=max(state.target, offset))


class TimeMachine:
    """One for each process; moves of all processes may overlap, and none is lost."""

    def __init__(
        self,
        store: Store,
        clock: SandboxClock,
        state: SharedState,
        *,
        steps: Sequence[Step],
        wake: Callable[[], None],
        purge: Step,
    ) -> None:
        """`steps` do what falls due but the notifications; `wake` starts those; `purge` clears what has expired."""
        self._store = store
        self._clock = clock
        self._state = state
        self._steps = steps
        self._wake = wake
        self._purge = purge
        self._moving = asyncio.Lock()

    async def advance(self, by: timedelta, patience_seconds: float) -> Move:
        """Moves business time forward by `by`; of nothing: waits until what has fallen due is done.

        Raises Refused for a move that is too far, Overloaded if nothing was stored; StillWorking after
        `patience_seconds`, and if another process does not follow: the next move goes on from where it is.
        """
        check_distance(by)
        return await self._move(lambda state: max(state.target, state.offset) + by, patience_seconds)

    async def advance_to(self, instant: datetime, patience_seconds: float) -> Move:
        """Moves business time forward to an instant. Raises as `advance` does, and Refused for one that has passed."""
        now = self._clock.now()
        if not now <= instant <= now + ADVANCE_MAX:
            raise Refused(
                Refusal.INVALID_REQUEST,
                f"to must be {now:%Y-%m-%dT%H:%M:%SZ} or later, and at most {ADVANCE_MAX.days} days later:"
                " the clock never goes back",
                "to",
            )
        ahead = instant - self._clock.real_now()
        return await self._move(lambda state: max(state.target, state.offset, ahead), patience_seconds)

    async def _move(self, find_target: Callable[[SandboxState], timedelta], patience_seconds: float) -> Move:
        def aim(state: SandboxState) -> SandboxState:
            return replace(state, target=check_ahead(find_target(state)))

        deadline = asyncio.get_running_loop().time() + patience_seconds
        # Nobody else needs to know where it ends. From here on it is stored: a refusal would invite the caller to move
        # once more.
        target = (await self._state.change(aim, is_awaited=False)).target
        try:
            async with asyncio.timeout_at(deadline):
                await self._moving.acquire()
        except TimeoutError:
            raise StillWorking("another move is on its way") from None
        try:
            return await self._travel(target, deadline)
        except Overloaded as error:
            raise StillWorking(str(error)) from error
        finally:
            self._moving.release()

    async def _travel(self, target: timedelta, deadline: float) -> Move:
        stops = 0
        while True:
            done_at = await self._work_off(deadline)
            if self._clock.offset >= target:
                break
            following = await next_instant(self._store, after=done_at)
            gather = GATHER * 2 ** (stops // EXACT_STOPS)
            if following is None or (offset := following + gather - self._clock.real_now()) >= target:
                await self._go_to(target)
            else:
                await self._go_to(offset)
                stops += 1
        while await self._purge():
            pass
        return Move(stops)

    async def _go_to(self, offset: timedelta) -> None:
        await self._state.change(lambda state: replace(state, offset=max(state.offset, offset)))

    async def _work_off(self, deadline: float) -> datetime:
        """Returns the instant up to which everything is done."""
        pause = PAUSE_SECONDS
        while True:
            self._wake()
            for step in self._steps:
                await step()
            now = self._clock.now()
            left = await count_due(self._store, now=now)
            if left.is_done:
                return now
            if asyncio.get_running_loop().time() > deadline:
                raise StillWorking(_tell_left(left))
            await asyncio.sleep(pause)
            pause = min(pause * 2, PAUSE_SECONDS_MAX)
