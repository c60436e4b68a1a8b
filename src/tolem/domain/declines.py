"""Limits of card attempts: how declines are remembered, how long the next attempt has to wait, and whose address it is.

Whoever tests stolen cards collects declines; a payer has a few of them. So declines are counted, of a card, of an
address and of a terminal, and each fades with time. flows/limits.py counts and asks; all decisions are here.
"""

import ipaddress
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

import msgspec

_LOCAL = tuple(
    ipaddress.ip_network(text)
    for text in (
        *("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "100.64.0.0/10"),
        *("::1/128", "fc00::/7", "fe80::/10"),
    )
)
DOUBLINGS_MAX = 10
"""Declines beyond the number and so many more leave no trace."""


class Subject(StrEnum):
    """Whose declines are counted."""

    CARD = "card"
    ADDRESS = "address"  # of the payer's browser; IPv6 by its /64, which is one household or one server
    TERMINAL = "terminal"


class Declines(msgspec.Struct, frozen=True, kw_only=True):
    """The recent declines of one card, address or terminal."""

    hash: bytes
    """Keyed fingerprint of whose they are: 32 bytes."""
    last_at: datetime
    """When the last one was."""
    expires_at: datetime
    """When all will have faded; each one moves it on by the time in which one fades. The row is purged after it."""


class AttemptTerms(NamedTuple):
    """How many declines are nothing special, and what comes then."""

    card_max: int
    """So many declines of one card pass without a wait; 0: cards have no limit."""
    address_max: int
    terminal_max: int
    window: timedelta
    """So many declines, spread over this time, fade as fast as they come."""
    wait_first: timedelta
    """After the decline that uses the number up; doubled by each further one."""
    wait_max: timedelta

    def number(self, subject: Subject) -> int:
        """What passes without a wait; 0: no limit."""
        return {Subject.CARD: self.card_max, Subject.ADDRESS: self.address_max, Subject.TERMINAL: self.terminal_max}[
            subject
        ]

    def fade(self, subject: Subject) -> timedelta:
        """The time in which one decline fades. For subjects with a limit."""
        return self.window / self.number(subject)

    def memory(self, subject: Subject) -> timedelta:
        """The time in which all have faded, however many there were."""
        return self.fade(subject) * (self.number(subject) + DOUBLINGS_MAX)

    def level(self, subject: Subject, declines: Declines, at: datetime) -> int:
        """How many declines count at that time."""
        return max(0, -((at - declines.expires_at) // self.fade(subject)))

    def is_used_up(self, subject: Subject, declines: Declines | None, now: datetime) -> bool:
        """There were more than is usual."""
        return declines is not None and self.level(subject, declines, now) >= self.number(subject)

    def wait(self, subject: Subject, declines: Declines, now: datetime, *, is_strict: bool) -> timedelta:
        """How much longer the next attempt has to wait. `is_strict`: the terminal has more declines than usual, so
        every card or address that has any waits after each."""
        if not self.level(subject, declines, now):
            return timedelta()
        over = self.level(subject, declines, declines.last_at) - self.number(subject)
        if over < 0 and not is_strict:
            return timedelta()
        whole: timedelta = self.wait_first * 2 ** max(over, 0)
        return max(timedelta(), declines.last_at + min(whole, self.wait_max) - now)

    def has_room(self, subject: Subject, declines: Declines | None, now: datetime, under_way: int) -> bool:
        """One more attempt may begin beside `under_way` others, even if all of them end in declines."""
        counted = self.level(subject, declines, now) if declines else 0
        return under_way == 0 or counted + under_way < self.number(subject)


def network_of(address: str) -> str:
    """What counts as one visitor's address: an IPv4 address, or the /64 of an IPv6 one. Other texts: as they are."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((int(parsed) >> 64 << 64, 64)))
    return str(parsed)


def is_public(address: str) -> bool:
    """A visitor's own address. What is local, or no address at all, belongs to a proxy that nobody named in
    `trusted_proxies`, or to this machine: many visitors have it."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    return not any(parsed in network for network in _LOCAL)
