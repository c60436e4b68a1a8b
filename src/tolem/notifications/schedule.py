"""When a notification is tried, what counts as delivered, and when it is given up: the contract with shops.

Pure: the notifier asks `next_try` after each try and stores what it says. The numbers are the terminal's Terms;
docs/notifications.md tells shops the same.
"""

import re
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import NamedTuple

from tolem.domain.message import Fault, MessageState
from tolem.notifications.terms import Terms

ASKED_MAX = timedelta(days=366)
"""A Retry-After of more counts as this much, before the terminal's own limit."""

_GONE = 410
_RETRY_AFTER_STATUSES = frozenset((429, 503))


class TryResult(NamedTuple):
    """What one try brought."""

    status: int | None
    """HTTP status; None: no answer."""
    error: str = ""
    """Why there was no answer, in words; beside a status, what was wrong with the try all the same; else empty."""
    response: bytes = b""
    """The answer's body as far as it is kept."""
    duration_ms: int = 0
    """Until the status came, or the try failed."""
    retry_after: timedelta | None = None
    """What the answer's Retry-After asks for, counted from its arrival."""
    fault: Fault | None = None
    """Kind of `error`; beside a status only SANDBOX."""
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


def next_try(terms: Terms, tries: int, result: TryResult, now: datetime, jitter: float) -> Outcome:
    """What follows the try that made `tries` of them (from 1). `now`: business time; `jitter`: 0 ≤ jitter < 1."""
    if result.is_delivered:
        return Outcome(MessageState.DELIVERED, None)
    if result.status == _GONE or tries >= terms.tries_max:
        return Outcome(MessageState.DEAD, None)
    later = 1 + terms.jitter_share * jitter
    wait = terms.gaps[tries] * later
    if result.retry_after is not None and result.status in _RETRY_AFTER_STATUSES:
        wait = max(wait, min(result.retry_after * later, terms.retry_after_max))
    return Outcome(MessageState.WAITING, now + wait)


def parse_retry_after(text: str | None, real_now: datetime) -> timedelta | None:
    """Retry-After (RFC 9110 §10.2.3), seconds or an HTTP date, as time from `real_now`: 0 to ASKED_MAX.
    None if it is absent or malformed."""
    if text is None:
        return None
    text = text.strip()
    if re.fullmatch(r"[0-9]+", text):
        seconds = int(text) if len(text) <= 12 else 10**12  # no need to read a number as long as its sender likes
        return min(timedelta(seconds=seconds), ASKED_MAX)
    try:
        at = parsedate_to_datetime(text)
        at = at.replace(tzinfo=UTC) if at.tzinfo is None else at
        return max(timedelta(0), min(at - real_now, ASKED_MAX))
    except (ValueError, OverflowError):
        return None
