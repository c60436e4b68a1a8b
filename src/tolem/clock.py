"""The one source of time. Business time may be moved in a sandbox; real time is for leases and deadlines of I/O."""

from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Aware UTC instants."""

    def now(self) -> datetime:
        """Business time: expiry, deadlines of rounds, the retry schedule."""
        ...

    def real_now(self) -> datetime:
        """Real time: leases, deadlines of exchanges."""
        ...


class SystemClock:
    """Both times are the machine's."""

    def now(self) -> datetime:
        """Business time."""
        return datetime.now(UTC)

    def real_now(self) -> datetime:
        """Real time."""
        return datetime.now(UTC)
