"""The terms on which a terminal's shop is notified, as the schedule and the sender use them.

A terminal has them as named settings (domain/merchant.py), which the command line bounds (flows/administration.py);
docs/notifications.md tells shops the defaults.
"""

from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from tolem.domain.merchant import Terminal

WHOLE_SECONDS_MAX = 30
"""Bounds `notify_whole_seconds`."""

LEASE = timedelta(seconds=3 * WHOLE_SECONDS_MAX)
"""How long a message belongs to the process that sends it, real time. At least twice any try: one may have to wait for
an older one of its order, and its result has to be stored after it."""


class Terms(NamedTuple):
    """What a try may take, and when the next one follows."""

    gaps: tuple[timedelta, ...]
    """Business time before each try; as many tries as gaps."""
    jitter_share: float
    """A try may be later by up to this share of its gap."""
    connect_seconds: float
    whole_seconds: float
    retry_after_max: timedelta
    response_bytes: int

    @property
    def tries_max(self) -> int:
        """How many tries a message has."""
        return len(self.gaps)


def terms_of(terminal: Terminal) -> Terms:
    """A terminal's terms."""
    return Terms(
        tuple(timedelta(seconds=gap) for gap in terminal.notify_gaps),
        terminal.notify_jitter_percent / 100,
        terminal.notify_connect_seconds,
        terminal.notify_whole_seconds,
        timedelta(seconds=terminal.notify_retry_after_max_seconds),
        terminal.notify_response_bytes,
    )


DEFAULT_TERMS = terms_of(
    Terminal(id=UUID(int=0), merchant_id=UUID(int=0), name="", created_at=datetime(1970, 1, 1, tzinfo=UTC))
)
"""Those of a terminal that says nothing of it."""
