"""Time that a test moves. Business and real time go together, as they do while a machine is off."""

from datetime import UTC, datetime, timedelta


class MovableClock:
    """The machine's clock and an offset that only grows."""

    def __init__(self, offset: timedelta = timedelta()) -> None:
        self.offset = offset

    def now(self) -> datetime:
        """Business time."""
        return datetime.now(UTC) + self.offset

    def real_now(self) -> datetime:
        """Real time."""
        return datetime.now(UTC) + self.offset

    def advance_to(self, instant: datetime) -> None:
        """Moves forward; a past instant moves nothing."""
        self.offset += max(timedelta(), instant - self.now())
