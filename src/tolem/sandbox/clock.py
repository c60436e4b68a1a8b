"""The sandbox's clock: business time may be moved forward, real time never is.

Everything that is due at some time (deadlines of rounds, expiry of tokens, pages and holds, the retry schedule) follows
business time; leases, deadlines of exchanges and webhook timestamps follow real time. The offset between the two is
kept in the database (state.py), so that all processes have the same.
"""

from datetime import datetime, timedelta

from tolem.clock import Clock


class SandboxClock:
    """A clock whose business time is ahead by `offset`."""

    def __init__(self, real: Clock) -> None:
        self._real = real
        self.offset = timedelta()
        """How far business time has been moved. It only grows."""

    def now(self) -> datetime:
        """Business time."""
        return self._real.now() + self.offset

    def real_now(self) -> datetime:
        """Real time."""
        return self._real.real_now()

    def follow(self, offset: timedelta) -> None:
        """Moves to this offset; an older one moves nothing."""
        self.offset = max(self.offset, offset)
