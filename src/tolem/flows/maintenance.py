"""The switch that has payments wait (`tolem maintenance`), and what every flow that begins one asks.

One row of the database holds it. Each process reads it through the directory's memory of a second, so it costs a
payment nothing and every process follows within that time, without a restart. Whoever opens a page or types a card
meanwhile is told; a payment at the bank, the shops' calls and notifications go on.
"""

from datetime import datetime
from functools import lru_cache
from uuid import UUID

import msgspec
from msgspec.structs import replace

from tolem.clock import Clock
from tolem.domain.errors import Refusal, Refused
from tolem.domain.maintenance import Maintenance, Pause
from tolem.domain.merchant import Terminal
from tolem.flows.directory import Directory
from tolem.storage import keys
from tolem.storage.store import Decision, Store
from tolem.storage.tables import Setting
from tolem.telemetry import log

SETTING = "maintenance"
RETRY_SECONDS = 60
"""When to ask again while nobody knows when it ends."""


class InMaintenance(Refused):
    """Nothing new begins now; `seconds`: when to ask again."""

    def __init__(self, pause: Pause, now: datetime) -> None:
        left = pause.seconds_left(now)
        when = f"until {pause.until:%Y-%m-%d %H:%M:%S} UTC" if pause.until else "for a while"
        super().__init__(
            Refusal.IN_MAINTENANCE,
            f"no payments can be started {when}, because of maintenance: nothing was stored, ask again after the"
            " seconds of Retry-After. Tokens without an amount are given all the same, for status and refunds",
        )
        self.seconds = RETRY_SECONDS if left is None else left


class MaintenanceWatch:
    """What a gateway's process knows of the switch."""

    def __init__(self, directory: Directory, clock: Clock) -> None:
        self._directory = directory
        self._clock = clock
        self._seen = _NOTHING

    async def read(self) -> Maintenance:
        """All that waits now, at most a second old. A change is told in the log."""
        setting = await self._directory.find_setting(SETTING)
        if setting is None:
            return _NOTHING
        now = self._clock.now()
        current = _parse(setting.value).forget_ended(now)
        if current != self._seen:
            self._seen = current
            log.warning("maintenance", waits=describe(current))
        return current

    async def find(self, terminal_id: UUID) -> Pause | None:
        """Why the terminal's payments wait now; None: they do not."""
        current = await self.read()
        return current.find(terminal_id, self._clock.now())

    async def check(self, terminal_id: UUID) -> None:
        """Raises InMaintenance while the terminal's payments wait."""
        if pause := await self.find(terminal_id):
            raise InMaintenance(pause, self._clock.now())


class MaintenanceSwitch:
    """The same for an operator, who changes it beside running gateways."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def read(self) -> Maintenance:
        """What waits now."""
        setting = await self._store.find(_KEY)
        return _parse(setting.value).forget_ended(self._clock.now()) if setting else _NOTHING

    async def begin(self, terminal_id: UUID | None, until: datetime | None) -> Maintenance:
        """Payments wait, of one terminal or of all; where they did already, the end is the new one. Raises Refused."""
        now = self._clock.now()
        if until is not None and until <= now:
            raise Refused(Refusal.INVALID_REQUEST, f"until: {until:%Y-%m-%d %H:%M:%S} UTC is over already", "until")

        def decide(setting: Setting | None, *terminals: Terminal | None) -> Decision[Maintenance]:
            if terminals == (None,):
                raise Refused(Refusal.NOT_FOUND, f"there is no terminal {terminal_id}", "terminal")
            known = _parse(setting.value).forget_ended(now) if setting else _NOTHING
            before = known.whole if terminal_id is None else known.terminals.get(terminal_id)
            pause = Pause(since=before.since if before else now, until=until)
            return _write(_with(known, terminal_id, pause))

        named = (keys.terminal_by_id(terminal_id),) if terminal_id else ()
        return await self._store.change((_KEY, *named), decide)

    async def end(self, terminal_id: UUID | None) -> Maintenance:
        """Payments of one terminal, or of all and each, wait no more."""
        now = self._clock.now()

        def decide(setting: Setting | None) -> Decision[Maintenance]:
            if setting is None:
                return Decision(_NOTHING)
            known = _parse(setting.value).forget_ended(now)
            return _write(_with(known, terminal_id, None) if terminal_id else _NOTHING)

        return await self._store.change((_KEY,), decide)


def describe(maintenance: Maintenance) -> dict[str, str]:
    """For people and programs: `all`, and each terminal by its id; `off`, or when it began and when it ends."""
    return {"all": _words(maintenance.whole)} | {
        str(terminal_id): _words(pause) for terminal_id, pause in maintenance.terminals.items()
    }


def _words(pause: Pause | None) -> str:
    if pause is None:
        return "off"
    until = f"until {pause.until:%Y-%m-%d %H:%M:%S} UTC" if pause.until else "until further notice"
    return f"on since {pause.since:%Y-%m-%d %H:%M:%S} UTC, {until}"


def _with(known: Maintenance, terminal_id: UUID | None, pause: Pause | None) -> Maintenance:
    if terminal_id is None:
        return replace(known, whole=pause)
    others = {other: kept for other, kept in known.terminals.items() if other != terminal_id}
    return replace(known, terminals=others | {terminal_id: pause} if pause else others)


def _write(maintenance: Maintenance) -> Decision[Maintenance]:
    return Decision(maintenance, (Setting(name=SETTING, value=msgspec.json.encode(maintenance).decode()),))


@lru_cache(maxsize=4)
def _parse(value: str) -> Maintenance:
    return msgspec.json.decode(value, type=Maintenance)


_KEY = keys.setting_by_name(SETTING)
_NOTHING = Maintenance()
