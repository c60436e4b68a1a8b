"""Notifications as data: the message (fixed bytes, one per told outcome) and its attempts (one per try)."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

import msgspec


class MessageKind(StrEnum):
    """What is told."""

    SUCCESS = "success"
    FAILURE = "failure"
    CAPTURE = "capture"  # the next three only if the terminal asks for them
    VOID = "void"
    REFUND = "refund"


class MessageState(StrEnum):
    """Where a message stands."""

    WAITING = "waiting"  # for its due time, or for an earlier message of its order
    SENDING = "sending"  # leased by a sender
    DELIVERED = "delivered"  # the shop answered 2xx
    DEAD = "dead"  # the schedule is used up, or the shop answered 410
    WITHDRAWN = "withdrawn"  # an undelivered failure, overtaken by a new round


UNDELIVERED = (MessageState.WAITING, MessageState.SENDING)

ENDED = tuple(state for state in MessageState if state not in UNDELIVERED)


class Fault(StrEnum):
    """Why a try brought no answer."""

    ADDRESS = "address"  # malformed, or not one that may be notified from here
    NAME = "name"  # the name can't be resolved
    REFUSED = "refused"  # nobody listens at the port
    UNREACHABLE = "unreachable"  # no way to the host, or no connection in time
    CERTIFICATE = "certificate"  # not trusted, expired, or of another name
    TLS = "tls"  # the two sides agree on no encryption
    CUT = "cut"  # connected, then closed without an answer
    TIMED_OUT = "timed_out"  # connected, and no answer in time
    GARBLED = "garbled"  # what came is not HTTP
    SANDBOX = "sandbox"  # a fault that somebody asked the sandbox for lost the try or its answer
    OTHER = "other"


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """One outcome to be told to one address."""

    id: UUID
    """Also the webhook-id: the same on every try. Time-ordered, so messages of an order sort by it."""
    order_id: UUID
    round_id: UUID
    terminal_id: UUID
    payment_id: UUID | None
    operation_id: UUID | None = None
    """The operation whose outcome it tells; None: a round that ended without one."""
    kind: MessageKind
    url: str
    host: str
    """`host:port` of the address: what has a queue of its own."""
    body: bytes
    """Every try sends these bytes."""
    state: MessageState
    tries: int
    """All that were made."""
    tries_before: int = 0
    """Those of earlier schedules: it was sent again by hand after that many, and its schedule counts from there."""
    due_at: datetime | None
    """Next try (business time); None once it needs none."""
    lease_owner: int | None
    """Instance that sends it now."""
    leased_until: datetime | None
    """Real time after which anybody may take it."""
    created_at: datetime


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One try to deliver a message."""

    message_id: UUID
    number: int
    """From 1."""
    at: datetime
    duration_ms: int
    """Until the status came, or the try failed."""
    status: int | None
    """HTTP status; None: no answer."""
    error: str
    """Why there was no answer, in words; beside a status, what was wrong with the try all the same; else empty."""
    fault: Fault | None = None
    """The same for programs; beside a status only SANDBOX: a fault changed what the shop got."""
    address: str = ""
    """`ip:port` that was connected to, or could not be; empty if it never came to that."""
    headers: str = ""
    """Header lines as they were sent; empty if it never came to that."""
    response: bytes
    """First 2 KB of the answer."""

    @property
    def answer(self) -> str:
        """What came of it, as one text: `200`, `400 (changed on the way …)`, `connection refused`."""
        if self.status is None:
            return self.error
        return f"{self.status} ({self.error})" if self.error else str(self.status)
