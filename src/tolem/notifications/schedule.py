"""When a notification is tried, what counts as delivered, and when it is given up: the contract with shops as numbers.

Pure: the notifier asks `next_try` after each try and stores what it says. docs/notifications.md tells shops the same.
"""

import re
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import NamedTuple

from tolem.domain.message import Fault, MessageState

GAPS = (
    timedelta(0),
    timedelta(seconds=5),
    timedelta(minutes=5),
    timedelta(minutes=30),
    timedelta(hours=2),
    timedelta(hours=5),
    timedelta(hours=10),
    timedelta(hours=14),
    timedelta(hours=20),
    timedelta(hours=24),
)
"""Business time that passes before each try; a message has as many tries as there are gaps."""

TRIES_MAX = len(GAPS)

JITTER_SHARE = 0.1
"""A try may be later by up to this share of its gap, never earlier: messages that failed together part ways."""

CONNECT_SECONDS = 5.0
"""Name, connection and TLS together."""

WHOLE_SECONDS = 15.0
"""One try from its first to its last byte."""

RESPONSE_BYTES = 2048
"""What is read and kept of an answer."""

LEASE = timedelta(seconds=3 * WHOLE_SECONDS)
"""How long a message belongs to the process that sends it, real time. At least twice WHOLE_SECONDS: a try may have to
wait for an older one of its order, and its result has to be stored after it."""

RETRY_AFTER_MAX = timedelta(hours=24)

_GONE = 410
_RETRY_AFTER_STATUSES = frozenset((429, 503))


class TryResult(NamedTuple):
    """What one try brought."""

    status: int | None
    """HTTP status; None: no answer."""
    error: str = ""
    """Why there was no answer, in words; empty if there was one."""
    response: bytes = b""
    """First RESPONSE_BYTES of the answer's body."""
    duration_ms: int = 0
    retry_after: timedelta | None = None
    """What the answer's Retry-After asks for, counted from its arrival."""
    fault: Fault | None = None
    """Kind of `error`; None if there was an answer."""
    address: str = ""
    """`ip:port` that was connected to, or could not be; empty if it never came to that."""
    headers: str = ""
    """Header lines as they were sent; empty if it never came to that."""

    @property
    def is_delivered(self) -> bool:
        """True: the shop has taken the message."""
        return self.status is not None and 200 <= self.status <= 299


class Outcome(NamedTuple):
    """What becomes of a message after a try."""

    state: MessageState
    """DELIVERED, WAITING or DEAD."""
    due_at: datetime | None
    """The next try, business time; None if there is none."""


def next_try(tries: int, result: TryResult, now: datetime, jitter: float) -> Outcome:
    """What follows the try that made `tries` of them (from 1). `now`: business time; `jitter`: 0 ≤ jitter < 1."""
    if result.is_delivered:
        return Outcome(MessageState.DELIVERED, None)
    if result.status == _GONE or tries >= TRIES_MAX:
        return Outcome(MessageState.DEAD, None)
    gap = GAPS[tries]
    if result.retry_after is not None and result.status in _RETRY_AFTER_STATUSES:
        gap = max(gap, min(result.retry_after, RETRY_AFTER_MAX))
    return Outcome(MessageState.WAITING, now + gap * (1 + JITTER_SHARE * jitter))


def parse_retry_after(text: str | None, real_now: datetime) -> timedelta | None:
    """Retry-After (RFC 9110 §10.2.3), seconds or an HTTP date, as time from `real_now`: 0 to RETRY_AFTER_MAX.
    None if it is absent or malformed."""
    if text is None:
        return None
    text = text.strip()
    if re.fullmatch(r"[0-9]+", text):
        # Anything of six digits is more than a day: no need to read a number as long as the sender likes.
        seconds = int(text) if len(text) < 6 else RETRY_AFTER_MAX.total_seconds()
        return min(timedelta(seconds=seconds), RETRY_AFTER_MAX)
    try:
        at = parsedate_to_datetime(text)
        at = at.replace(tzinfo=UTC) if at.tzinfo is None else at
        return max(timedelta(0), min(at - real_now, RETRY_AFTER_MAX))
    except (ValueError, OverflowError):
        return None
