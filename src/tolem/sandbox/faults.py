"""Faults of the way between a sandbox and its shops, on demand: which there are, whom they meet, what they do to a try.

Pure. A fault is asked for by people and tests (routes.py, `tolem faults`), kept in the state that all processes share,
and made by carrier.py and returns.py. Whom it meets is drawn from its seed and the order's own facts (invoice, number
of the message within the order, number of the try): a run with the same seed, invoices and faults is the same run.
"""

import hashlib
import re
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple, TypeVar
from uuid import UUID

import msgspec

from tolem.domain.errors import Refusal, Refused
from tolem.domain.message import Message, MessageKind

C = TypeVar("C")

FAULTS_MAX = 100
SECONDS = 60
SECONDS_MAX = 30 * 86_400
TIMES = 2
TIMES_MAX = 10
TRIES_MAX = 100
SEED_MAX = 2**31 - 1

RETURN_SECONDS = 2
"""From the page that leads back to the shop until the browser is surely there."""
RETURN_LIMIT = timedelta(minutes=5)
"""So long a notification waits for a browser that never comes back (business time)."""
SWAP_PAUSE = timedelta(seconds=1)
"""Between two looks whether a newer message of the order is there (business time)."""


class FaultKind(StrEnum):
    """What goes wrong."""

    LOSE = "lose"  # the try never reaches the shop
    LOSE_ANSWER = "lose_answer"  # the shop gets it, and its answer never arrives
    DELAY = "delay"  # the message sets out later
    REPEAT = "repeat"  # the shop gets the try several times
    REORDER = "reorder"  # newer messages go first
    CORRUPT = "corrupt"  # the shop gets other bytes than were sent
    AFTER_RETURN = "after_return"  # the browser is back before the notification
    BEFORE_RETURN = "before_return"  # the notification is there before the browser


class Corruption(StrEnum):
    """How bytes are changed on the way. The signature stays that of what was sent, except for the last one."""

    CUT = "cut"  # the second half is missing
    EMPTY = "empty"  # nothing is left
    DIGIT = "digit"  # one digit is another one: still JSON, but untrue
    GARBLE = "garble"  # one byte is no text any more
    SIGNATURE = "signature"  # the body is whole, the signature is another's


class DeliveryFault(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One fault that is in force."""

    id: str
    """`f1`, `f2`, …"""
    fault: FaultKind
    seed: int
    """Chooses whom a `percent` meets, how bytes change, how long `reorder` holds a message."""
    terminal: UUID | None = None
    """Only messages of this terminal; None: of all."""
    invoice: str | None = None
    """Only the order of this invoice."""
    messages: tuple[MessageKind, ...] = ()
    """Only these; empty: all."""
    percent: int = 100
    """So many of a hundred are met."""
    tries: int = 1
    """`lose`, `lose_answer`, `repeat`, `corrupt`: the first so many tries of a message."""
    seconds: int = SECONDS
    """`delay`, `reorder`: how long a message is held, business time."""
    times: int = TIMES
    """`repeat`: how often the shop gets the try."""
    how: Corruption | None = None
    """`corrupt`: None: one that the seed draws."""


class FaultWish(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A fault as people ask for it; what is left out has the default of DeliveryFault, the seed is drawn."""

    fault: FaultKind
    seed: int | None = None
    terminal: UUID | None = None
    invoice: str | None = None
    messages: tuple[MessageKind, ...] | None = None
    percent: int = 100
    tries: int | None = None
    seconds: int | None = None
    times: int | None = None
    how: Corruption | None = None


_TRY_FAULTS = (FaultKind.LOSE, FaultKind.LOSE_ANSWER, FaultKind.REPEAT, FaultKind.CORRUPT)
_BELONGS_TO = {
    "tries": _TRY_FAULTS,
    "seconds": (FaultKind.DELAY, FaultKind.REORDER),
    "times": (FaultKind.REPEAT,),
    "how": (FaultKind.CORRUPT,),
}
_RANGES = {
    "seed": (0, SEED_MAX),
    "percent": (1, 100),
    "tries": (1, TRIES_MAX),
    "seconds": (1, SECONDS_MAX),
    "times": (2, TIMES_MAX),
}
INVOICE = re.compile(r"[0-9]{6,15}")


def make_fault(wish: FaultWish, fault_id: str, seed: int) -> DeliveryFault:
    """The fault that is asked for; `seed`: if the wish names none. Raises Refused, which says what to change."""
    given = {name: value for name, value in msgspec.structs.asdict(wish).items() if value is not None}
    for name, kinds in _BELONGS_TO.items():
        if name in given and wish.fault not in kinds:
            raise _refuse(f"{name} goes with {', '.join(kinds)}, not with {wish.fault}", name)
    for name, (low, high) in _RANGES.items():
        if not low <= given.get(name, low) <= high:
            raise _refuse(f"{name} is {given[name]}, use {low} to {high}", name)
    if wish.invoice is not None and not INVOICE.fullmatch(wish.invoice):
        raise _refuse(f"invoice {wish.invoice[:20]!r} is of no order: it is 6 to 15 digits, as a string", "invoice")
    if wish.messages == ():
        raise _refuse(f"messages is empty: leave it out for all, or name some of {', '.join(MessageKind)}", "messages")
    return DeliveryFault(id=fault_id, **({"seed": seed} | given))


class Told(NamedTuple):
    """What a fault may know of a message and its order."""

    invoice: str
    number: int
    """Of the message within its order, from 0."""
    has_older: bool
    """An older message of the order is undelivered: this one overtakes it."""
    newer_untried: bool
    """A newer message of the order waits and was never tried."""
    newer_tried: bool
    """A newer message of the order was tried: this one was overtaken."""


def may_meet(fault: DeliveryFault, message: Message) -> bool:
    """False: the fault is not for this message, whatever its order is."""
    if fault.terminal is not None and fault.terminal != message.terminal_id:
        return False
    if fault.messages and message.kind not in fault.messages:
        return False
    return fault.fault not in _TRY_FAULTS or message.tries < fault.tries


def meets(fault: DeliveryFault, message: Message, told: Told) -> bool:
    """The fault is for this try."""
    if fault.invoice is not None and fault.invoice != told.invoice:
        return False
    number = message.tries if fault.fault in _TRY_FAULTS else 0
    return draw(fault, "meets", told, number) * 100 < fault.percent


def draw(fault: DeliveryFault, what: str, told: Told, number: int = 0) -> float:
    """A number 0 ≤ x < 1, the same for the same seed, order, message and `number`."""
    drawn = f"{fault.seed} {fault.fault} {what} {told.invoice} {told.number} {number}"
    return int.from_bytes(hashlib.sha256(drawn.encode()).digest()[:6], "big") / 2**48


def find(faults: Iterable[DeliveryFault], kind: FaultKind) -> DeliveryFault | None:
    """The first fault of a kind."""
    return next((fault for fault in faults if fault.fault is kind), None)


def held_until(faults: Iterable[DeliveryFault], message: Message, told: Told, now: datetime) -> datetime | None:
    """The business instant until which the message does not set out; None: it may go now."""
    if message.tries:
        return None
    until = [instant for fault in faults if (instant := _held_by(fault, message, told, now)) and instant > now]
    return max(until, default=None)


def _held_by(fault: DeliveryFault, message: Message, told: Told, now: datetime) -> datetime | None:
    since = message.created_at
    if fault.fault is FaultKind.DELAY:
        return since + timedelta(seconds=fault.seconds)
    if fault.fault is FaultKind.AFTER_RETURN and message.due_at == since:
        return since + RETURN_LIMIT  # returns.py lets it go sooner, which moves due_at
    if fault.fault is FaultKind.REORDER and not (told.has_older or told.newer_tried or told.newer_untried):
        if (
            fault.invoice is not None
        ):  # the order is known to have a newer message some time: look for it again and again
            return min(since + timedelta(seconds=fault.seconds), now + SWAP_PAUSE)
        return since + timedelta(seconds=fault.seconds) * draw(fault, "held", told)
    return None


def corrupt(fault: DeliveryFault, body: bytes, told: Told, number: int) -> tuple[Corruption, bytes]:
    """How the body changes on the way in try `number`, and what is left of it."""
    how = fault.how or _pick(list(Corruption), draw(fault, "how", told, number))
    place = draw(fault, "place", told, number)
    if how is Corruption.CUT:
        return how, body[: len(body) // 2]
    if how is Corruption.EMPTY:
        return how, b""
    if how is Corruption.GARBLE and body:
        at = int(place * len(body))
        return how, body[:at] + b"\xff" + body[at + 1 :]
    if how is Corruption.DIGIT:
        digits = [at for at, byte in enumerate(body) if chr(byte) in "0123456789"]
        if digits:
            at = _pick(digits, place)
            # Never to a zero, which must not lead a number in JSON.
            return how, body[:at] + str(int(chr(body[at])) % 9 + 1).encode() + body[at + 1 :]
    return how, body


def _pick(choices: Sequence[C], drawn: float) -> C:
    return choices[int(drawn * len(choices))]


def _refuse(message: str, field: str) -> Refused:
    return Refused(Refusal.INVALID_REQUEST, message, field)
