"""Messages as tolem's own calls ask for them and tell them (docs/inspector.md): the bank has nothing of the kind.

Called by the merchant API, the command line and the sandbox's page. Instants are RFC 3339 in UTC. Pure.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import UUID

from tolem.domain.errors import Refusal, Refused
from tolem.domain.message import UNDELIVERED, Attempt, Message, MessageState

LIMIT_DEFAULT = 50
LIMIT_MAX = 200
_HEADER_SEPARATOR = ": "
_UNDELIVERED = "undelivered"


class MessageQuery(NamedTuple):
    """What a list is asked for."""

    states: tuple[MessageState, ...]
    terminal_id: UUID | None
    invoice_id: str
    """Empty: of every order."""
    since: datetime | None
    before: UUID | None
    """The cursor: None for the first page."""
    limit: int


def parse_query(fields: Mapping[str, str]) -> MessageQuery:
    """The fields of a query string: `state` (several with commas), `terminal`, `invoice`, `since`, `cursor`, `limit`.

    Raises Refused for what is malformed and for a field that is not known.
    """
    known = ("state", "terminal", "invoice", "since", "cursor", "limit")
    for name in fields:
        if name not in known:
            raise _refuse(f"{name[:40]!r} is not known here; known are {', '.join(known)}", name)
    return MessageQuery(
        states=_parse_states(fields.get("state", "")),
        terminal_id=parse_id(fields["terminal"], "terminal") if fields.get("terminal") else None,
        invoice_id=fields.get("invoice", ""),
        since=_parse_since(fields.get("since", "")),
        before=parse_id(fields["cursor"], "cursor") if fields.get("cursor") else None,
        limit=_parse_limit(fields.get("limit", "")),
    )


def parse_id(text: str, field: str) -> UUID:
    """A UUID in its usual form. Raises Refused."""
    try:
        parsed = UUID(text)
    except ValueError:
        parsed = None
    if parsed is None or str(parsed) != text.lower():
        raise _refuse(f"{field} must be a UUID, such as 01a20cb1-92c8-7a9f-a0b7-011581fdf5a7", field)
    return parsed


def describe_message(message: Message, invoice_id: str, last: Attempt | None, waits_for: UUID | None) -> dict[str, Any]:
    """A message in a list; `last`: its latest try; `waits_for`: the message that has to be delivered first."""
    is_due = message.state in UNDELIVERED
    return {
        "id": str(message.id),
        "invoice": invoice_id,
        "terminal": str(message.terminal_id),
        "kind": message.kind.value,
        "state": message.state.value,
        "url": message.url,
        "created_at": _instant(message.created_at),
        "tries": message.tries,
        "next_try_at": _instant(message.due_at) if is_due else None,
        "waits_for": str(waits_for) if waits_for else None,
        "last_try": None if last is None else describe_attempt(last),
    }


def describe_attempt(attempt: Attempt) -> dict[str, Any]:
    """A try in short."""
    return {
        "number": attempt.number,
        "at": _instant(attempt.at),
        "address": attempt.address,
        "duration_ms": attempt.duration_ms,
        "status": attempt.status,
        "fault": attempt.fault.value if attempt.fault else None,
        "error": attempt.error,
    }


def describe_delivery(
    message: Message, invoice_id: str, attempts: Sequence[Attempt], waits_for: UUID | None
) -> dict[str, Any]:
    """A message with its body, and every try with what was sent and answered."""
    told = describe_message(message, invoice_id, attempts[-1] if attempts else None, waits_for)
    del told["last_try"]
    return told | {
        "body": read_text(message.body),
        "attempts": [
            describe_attempt(attempt) | {"headers": list_headers(attempt), "response": read_text(attempt.response)}
            for attempt in attempts
        ],
    }


def list_headers(attempt: Attempt) -> list[list[str]]:
    """The header lines that were sent, as pairs of name and value."""
    pairs = [line.partition(_HEADER_SEPARATOR) for line in attempt.headers.splitlines()]
    return [[name, value] for name, _, value in pairs]


def read_text(octets: bytes) -> str:
    """Bytes of a body as text; what is not UTF-8 shows as replacement characters."""
    return octets.decode("utf-8", "replace")


def _instant(at: datetime | None) -> str | None:
    return None if at is None else at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _parse_states(text: str) -> tuple[MessageState, ...]:
    states: list[MessageState] = []
    for name in filter(None, text.split(",")):
        if name == _UNDELIVERED:
            states += UNDELIVERED
        elif name in MessageState.__members__.values():
            states.append(MessageState(name))
        else:
            known = ", ".join((*MessageState, _UNDELIVERED))
            raise _refuse(f"state {name[:40]!r} is not known; known are {known}", "state")
    return tuple(dict.fromkeys(states)) or tuple(MessageState)


def _parse_since(text: str) -> datetime | None:
    if not text:
        return None
    try:
        instant = datetime.fromisoformat(text)
        if instant.tzinfo is not None:
            return instant.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise _refuse("since must be an instant with its offset, such as 2026-11-24T09:30:00Z", "since")


def _parse_limit(text: str) -> int:
    if not text:
        return LIMIT_DEFAULT
    if text.isascii() and text.isdigit() and len(text) < 6 and 1 <= int(text) <= LIMIT_MAX:
        return int(text)
    raise _refuse(f"limit must be 1 to {LIMIT_MAX}", "limit")


def _refuse(message: str, field: str) -> Refused:
    return Refused(Refusal.INVALID_REQUEST, message, field)
