"""Maintenance: an operator has payments wait, of the whole gateway or of one terminal, until a time or until further
notice.

Called by flows/maintenance.py, which keeps it in the database. Invariant: it holds back what has not begun; a payment
that is under way goes on to its end.
"""

from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

import msgspec


class Pause(msgspec.Struct, frozen=True, kw_only=True):
    """Payments wait."""

    since: datetime
    until: datetime | None = None
    """When it ends by itself; None: it is ended by an operator."""

    def is_on(self, now: datetime) -> bool:
        """It has not ended by itself yet."""
        return self.until is None or now < self.until

    def seconds_left(self, now: datetime) -> int | None:
        """Until its end, rounded up; None: nobody knows."""
        return None if self.until is None else max(1, -int((now - self.until).total_seconds() // 1))


class Maintenance(msgspec.Struct, frozen=True, kw_only=True):
    """All that waits."""

    whole: Pause | None = None
    """Of every terminal."""
    terminals: Mapping[UUID, Pause] = {}

    def find(self, terminal_id: UUID, now: datetime) -> Pause | None:
        """Why a terminal's payments wait now: of several reasons the one that ends last. None: they do not."""
        pauses = [pause for pause in (self.whole, self.terminals.get(terminal_id)) if pause and pause.is_on(now)]
        return max(pauses, key=lambda pause: (pause.until is None, pause.until or now), default=None)

    def forget_ended(self, now: datetime) -> "Maintenance":
        """The same without what has ended by itself."""
        whole = self.whole if self.whole and self.whole.is_on(now) else None
        return Maintenance(whole=whole, terminals={id: p for id, p in self.terminals.items() if p.is_on(now)})
