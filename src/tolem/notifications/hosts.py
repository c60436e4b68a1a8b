"""How many tries may run at one time, in all and to one host: a slow address keeps only its own messages waiting.

A host's pace is learned from its tries. Each pace has a limit for one host and a share of all slots, so that many hosts
that only time out leave room for those that answer, and for those that nobody has heard of yet. A try that has run for
SLOW_SECONDS counts as slow at once, not when it ends: a host that has just died holds the others' room no longer.

Pure but for what the notifier tells it; `now` is the event loop's time, in seconds.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import NamedTuple

SLOW_SECONDS = 2.0
"""A try that takes longer is slow, whatever it brings: it is the time that others would have to wait."""

TIMEOUTS_MAX = 3
"""After so many tries in a row without an answer in time a host gets one at a time."""

HOSTS_MAX = 10_000
"""Hosts whose pace is remembered while nothing runs to them; the longest idle is forgotten first, and is new again."""

WORTH_A_CLAIM = 8
"""While fewer than one in so many of all slots are free, a slot that gets free is not worth a claim of its own."""


class Pace(Enum):
    """How fast a host answers."""

    NEW = "new"  # not known
    QUICK = "quick"
    SLOW = "slow"
    STUCK = "stuck"  # it only times out


LIMITS = {Pace.NEW: 4, Pace.SLOW: 8, Pace.STUCK: 1}
"""Tries to one host; a stuck one gets a trial, to learn when it is back. A quick one: what the notifier allows."""

SHARES = {Pace.NEW: 0.5, Pace.QUICK: 0.75, Pace.SLOW: 0.25}
"""Of all slots, for all hosts of a pace together; those that are stuck use the share of the slow."""


class Slot:
    """The right to one try."""

    __slots__ = ("host", "started")

    def __init__(self, host: str, started: float) -> None:
        self.host = host
        self.started = started


class _Host:
    __slots__ = ("pace", "running", "timeouts")

    def __init__(self) -> None:
        self.pace = Pace.NEW
        self.running = 0
        self.timeouts = 0


class Plan(NamedTuple):
    """What may be claimed."""

    quotas: dict[str, int]
    """Messages of each host."""
    rest: Sequence[str]
    """Hosts that were not looked at: plan again for them once this is claimed."""


class Hosts:
    """The running tries of one process, and the paces of hosts that it remembers."""

    def __init__(self, total: int, per_host: int) -> None:
        self.free = total
        """Tries that may still begin."""
        self._total = total
        self._limits = {pace: min(LIMITS.get(pace, per_host), per_host) for pace in Pace}
        self._shares = {pace: max(1, int(total * share)) for pace, share in SHARES.items()}
        self._hosts: dict[str, _Host] = {}
        """Those that something runs to, and idle ones, in the order in which they became idle."""
        self._used: Counter[Pace] = Counter()
        """Slots by the share that they belong to."""
        self._young: dict[Slot, None] = {}
        """Tries that nobody has called slow, oldest first."""
        self._left: set[str] = set()
        """Hosts of this round that have, or may have, something due beyond their own limit."""
        self._short: set[Pace] = set()
        """Shares of this round that were used up."""

    def take(self, host: str, now: float) -> Slot | None:
        """A slot for a try to the host; None if there is none for it now."""
        self._notice_slow(now)
        known = self._hosts.get(host) or _Host()
        if self._room(known) == 0:
            return None
        self._hosts[host] = known
        known.running += 1
        self._used[_share_of(known.pace)] += 1
        self.free -= 1
        slot = Slot(host, now)
        self._young[slot] = None
        return slot

    def judge(self, slot: Slot, seconds: float, *, is_answered: bool) -> None:
        """The try took that long: what it says of its host's pace."""
        self._young.pop(slot, None)
        host = self._hosts[slot.host]
        if seconds < SLOW_SECONDS:
            host.timeouts = 0
            self._set_pace(host, Pace.QUICK)
        elif is_answered:
            host.timeouts = 0
            self._set_pace(host, Pace.SLOW)
        else:
            host.timeouts += 1
            self._set_pace(host, Pace.STUCK if host.timeouts >= TIMEOUTS_MAX else Pace.SLOW)

    def give_back(self, slot: Slot) -> None:
        """The slot is free again."""
        self._young.pop(slot, None)
        host = self._hosts[slot.host]
        host.running -= 1
        self._used[_share_of(host.pace)] -= 1
        self.free += 1
        if host.running == 0:
            del self._hosts[slot.host]
            if host.pace is not Pace.NEW:
                self._hosts[slot.host] = host  # as the last of the idle
                self._forget_idle()

    def begin_round(self) -> None:
        """All hosts are about to be looked at anew."""
        self._left.clear()
        self._short.clear()

    def plan(self, hosts: Sequence[str], now: float, most: int) -> Plan:
        """What to claim for hosts with something due: at most `most`, and no more than can begin now."""
        self._notice_slow(now)
        quotas: dict[str, int] = {}
        planned: Counter[Pace] = Counter()
        most = min(most, self.free)
        for position, name in enumerate(hosts):
            if most == 0:
                return Plan(quotas, hosts[position:])
            known = self._hosts.get(name)
            host = known or _Host()
            if self._is_busy(host):
                self._left.add(name)
                continue
            share = _share_of(host.pace)
            own = self._limits[host.pace] - host.running
            shared = self._shares[share] - self._used[share] - planned[share]
            if shared < own:
                self._short.add(share)
                if known:  # it may have another pace when a slot of it gets free
                    self._left.add(name)
            quota = min(own, shared, most)
            if quota > 0:
                quotas[name] = quota
                planned[share] += quota
                most -= quota
        return Plan(quotas, ())

    def note_claimed(self, claimed: Mapping[str, int], plan: Plan) -> None:
        """Hosts whose quota was used up may have more."""
        self._left.update(name for name, quota in plan.quotas.items() if claimed.get(name, 0) >= quota)

    def note_left(self, host: str) -> None:
        """Something of the host waits for a slot."""
        self._left.add(host)

    def note_unseen(self) -> None:
        """The round ends with hosts that were not looked at, since no slot is free."""
        self._short.update(SHARES)

    def is_worth_a_claim(self, host: str) -> bool:
        """A slot of the host has become free: something waits for it, or for the share that it was of, and a claim
        would take several at once."""
        if self.free * WORTH_A_CLAIM < self._total:
            return False
        if host in self._left and not self._is_busy(self._hosts.get(host) or _Host()):
            return True
        # The host may have another pace by now than the one whose share it leaves.
        return any(
            (self._shares[share] - self._used[share]) * WORTH_A_CLAIM >= self._shares[share] for share in self._short
        )

    def pace_of(self, host: str) -> Pace:
        """What is known of the host."""
        known = self._hosts.get(host)
        return known.pace if known else Pace.NEW

    def _room(self, host: _Host) -> int:
        """Tries that may begin to a host now."""
        share = _share_of(host.pace)
        return max(0, min(self._limits[host.pace] - host.running, self._shares[share] - self._used[share], self.free))

    def _is_busy(self, host: _Host) -> bool:
        """More than half of what may run to it does."""
        return host.running * 2 > self._limits[host.pace]

    def _set_pace(self, host: _Host, pace: Pace) -> None:
        self._used[_share_of(host.pace)] -= host.running
        host.pace = pace
        self._used[_share_of(pace)] += host.running

    def _notice_slow(self, now: float) -> None:
        while self._young and now - (slot := next(iter(self._young))).started >= SLOW_SECONDS:
            del self._young[slot]
            host = self._hosts[slot.host]
            if host.pace is not Pace.STUCK:
                self._set_pace(host, Pace.SLOW)

    def _forget_idle(self) -> None:
        if len(self._hosts) > HOSTS_MAX:
            idle = next(name for name, host in self._hosts.items() if host.running == 0)
            del self._hosts[idle]


def _share_of(pace: Pace) -> Pace:
    return Pace.SLOW if pace is Pace.STUCK else pace
