"""What all processes of a sandbox share: how far its clock was moved, and which faults it makes.

One row of the database holds it. Each process looks at the row several times a second. On PostgreSQL it is woken by a
change at once, writes down which version it has seen, and wakes whoever made the change, who is answered when every
living process has followed: the request after that answer meets the new state, whichever process it reaches. On SQLite
there is one process; the command line may write beside it.
"""

import asyncio
import secrets
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta

import msgspec
import sqlalchemy as sa
from msgspec.structs import replace

from tolem.domain.errors import Overloaded, Refusal, Refused
from tolem.sandbox.faults import FAULTS_MAX, SEED_MAX, DeliveryFault, FaultWish, make_fault
from tolem.storage import keys
from tolem.storage.liveness import IsOrphaned
from tolem.storage.store import Decision, Store
from tolem.storage.tables import Setting, settings
from tolem.telemetry import Outages

STATE_NAME = "sandbox"
FOLLOWER_PREFIX = "sandbox_follower_"

LOOK_SECONDS = 0.2
"""Between two looks at the row while nothing is heard."""
FOLLOWERS_LOOK_SECONDS = 0.05
"""Between two looks at the others while nothing is heard of them."""
PAUSE_SECONDS = 0.002
"""Between two looks in any case: what is heard need not be about the row."""
PATIENCE_SECONDS = 10.0
"""How long the others may take to follow a change."""


class SandboxState(msgspec.Struct, frozen=True, kw_only=True):
    """All of it, as it rests in the row."""

    version: int = 0
    """Grows with every change."""
    offset: timedelta = timedelta()
    """How far business time is ahead of real time."""
    target: timedelta = timedelta()
    """The offset at which a move ends that is under way; otherwise the same as `offset`."""
    faults: tuple[DeliveryFault, ...] = ()
    """In force, in the order in which they were made."""
    faults_made: int = 0
    """Numbers the next one."""


class NotFollowed(Overloaded):
    """The change is stored, but another process has not followed yet."""


class SharedState:
    """One process's view of the row. `read` and `change` may be used alone; `open` also follows what others change."""

    def __init__(self, store: Store, outages: Outages | None = None) -> None:
        """`outages`: told of what following fails at."""
        self.current = SandboxState()
        """As last seen."""
        self.listeners: list[Callable[[SandboxState], None]] = []
        """Called with every new state, before `change` returns."""
        self._store = store
        self._outages = outages or Outages()
        self._has_others = store.dialect == "postgresql"
        self._follower_key = keys.setting_by_name(f"{FOLLOWER_PREFIX}{store.instance}")
        self._told = -1
        """The version that others know this process to have seen."""
        self._heard = asyncio.Event()
        """Set, and replaced by a new one, when a process has committed something of interest."""
        self._stopping = False
        self._following: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Reads the row and follows it until `close`."""
        is_alone = True
        if self._has_others:
            self._store.listen(self._hear)
            await self._store.sweep(_FORGET_GONE)
            await self._tell_version()
            is_alone = len(await self._list_followers()) == 1
        await self.read()
        if is_alone and self.current.target != self.current.offset:
            # Whoever moved the clock died on the way, and nobody was answered.
            await self.change(lambda state: replace(state, target=state.offset))
        self._following = asyncio.create_task(self._follow(), name="sandbox state")

    async def close(self) -> None:
        """Follows no more."""
        self._stopping = True
        self._hear()
        if self._following is not None:
            await self._following

    async def read(self) -> SandboxState:
        """The state as it is stored now."""
        self._adopt(_parse(await self._store.find(_STATE_KEY)))
        return self.current

    async def change(self, edit: Callable[[SandboxState], SandboxState], *, is_awaited: bool = True) -> SandboxState:
        """Stores what `edit` makes of the state, and waits until all living processes have it, if that `is_awaited`.

        `edit` may run more than once and may raise to refuse. Raises NotFollowed after PATIENCE_SECONDS.
        """

        def decide(stored: Setting | None) -> Decision[SandboxState]:
            before = _parse(stored)
            after = edit(before)
            if after == before:
                return Decision(before)
            after = replace(after, version=before.version + 1)
            setting = Setting(name=STATE_NAME, value=msgspec.json.encode(after).decode())
            return Decision(after, (setting,), wakes=self._has_others)

        state = await self._store.change((_STATE_KEY,), decide)
        self._adopt(state)
        if self._has_others and is_awaited:
            await self._await_followers(state.version)
        return state

    def _hear(self) -> None:
        self._heard.set()
        self._heard = asyncio.Event()

    def _adopt(self, state: SandboxState) -> None:
        if state.version > self.current.version:
            self.current = state
            for listener in self.listeners:
                listener(state)

    async def _follow(self) -> None:
        while not self._stopping:
            heard = self._heard
            try:
                await self.read()
                if self._has_others and self._told < self.current.version:
                    await self._tell_version()
                self._outages.succeeded("sandbox_state")
            except Exception as error:
                self._outages.failed("sandbox_state", error)
            await asyncio.sleep(PAUSE_SECONDS)
            await _wait(heard, LOOK_SECONDS)

    async def _tell_version(self) -> None:
        """Writes down what this process has seen, as a process that lives and follows."""
        version = self.current.version
        (name,) = self._follower_key.value
        setting = Setting(name=name, value=str(version))
        await self._store.change((self._follower_key,), lambda _: Decision(None, (setting,), wakes=True))
        self._told = version

    async def _await_followers(self, version: int) -> None:
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                heard = self._heard
                while await self._is_one_behind(version):
                    await _wait(heard, FOLLOWERS_LOOK_SECONDS)
                    heard = self._heard
        except TimeoutError:
            raise NotFollowed(
                f"the change is stored, but another process has not followed within {PATIENCE_SECONDS:g} s:"
                " it need not be asked for again"
            ) from None

    async def _is_one_behind(self, version: int) -> bool:
        (own_name,) = self._follower_key.value
        return any(other.name != own_name and int(other.value) < version for other in await self._list_followers())

    async def _list_followers(self) -> list[Setting]:
        return await self._store.select(_FOLLOWERS)


async def add_fault(state: SharedState, wish: FaultWish) -> DeliveryFault:
    """Makes a fault, in force in all processes on return. Raises Refused, NotFollowed."""
    seed = secrets.randbelow(SEED_MAX) + 1

    def add(current: SandboxState) -> SandboxState:
        if len(current.faults) >= FAULTS_MAX:
            raise Refused(Refusal.INVALID_REQUEST, f"there are {FAULTS_MAX} faults already: remove some first")
        number = current.faults_made + 1
        fault = make_fault(wish, f"f{number}", seed)
        return replace(current, faults=(*current.faults, fault), faults_made=number)

    return (await state.change(add)).faults[-1]


async def remove_faults(state: SharedState, fault_id: str | None) -> SandboxState:
    """Ends one fault, or all for None. Raises Refused for one that is not in force, NotFollowed."""

    def remove(current: SandboxState) -> SandboxState:
        left = tuple(fault for fault in current.faults if fault_id is not None and fault.id != fault_id)
        if fault_id is not None and len(left) == len(current.faults):
            raise Refused(Refusal.NOT_FOUND, f"there is no fault {fault_id}")
        return replace(current, faults=left)

    return await state.change(remove)


async def _wait(event: asyncio.Event, seconds: float) -> None:
    """Returns when it is set, or after so long."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


def _parse(stored: Setting | None) -> SandboxState:
    return msgspec.json.decode(stored.value, type=SandboxState) if stored else SandboxState()


_STATE_KEY = keys.setting_by_name(STATE_NAME)
_LENGTH: sa.ColumnElement[int] = sa.literal_column(str(len(FOLLOWER_PREFIX)))
_IS_FOLLOWER = sa.func.substr(settings.c.name, sa.literal_column("1"), _LENGTH) == FOLLOWER_PREFIX
# CASE, since the name of no other setting may be read as a number.
_INSTANCE = sa.case(
    (_IS_FOLLOWER, sa.cast(sa.func.substr(settings.c.name, _LENGTH + sa.literal_column("1")), sa.Integer)),
    else_=sa.literal_column("0"),
)
_FOLLOWERS = sa.select(*settings.columns).where(_IS_FOLLOWER, sa.not_(IsOrphaned(_INSTANCE)))
_FORGET_GONE = settings.delete().where(_IS_FOLLOWER, IsOrphaned(_INSTANCE)).returning(settings.c.name)
