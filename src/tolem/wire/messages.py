"""Messages as tolem's own calls tell them (docs/inspector.md): the bank has nothing of the kind.

Called by the merchant API, the command line and the sandbox's page. Instants are RFC 3339 in UTC. Pure.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from tolem.domain.message import UNDELIVERED, Attempt, Message

HEADER_SEPARATOR = ": "


def describe_message(message: Message, invoice_id: str, last: Attempt | None) -> dict[str, Any]:
    """A message in a list; `last`: its latest try."""
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


def describe_delivery(message: Message, invoice_id: str, attempts: Sequence[Attempt]) -> dict[str, Any]:
    """A message with its body, and every try with what was sent and answered."""
    told = describe_message(message, invoice_id, attempts[-1] if attempts else None)
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
    pairs = [line.partition(HEADER_SEPARATOR) for line in attempt.headers.splitlines()]
    return [[name, value] for name, _, value in pairs]


def read_text(octets: bytes) -> str:
    """Bytes of a body as text; what is not UTF-8 shows as replacement characters."""
    return octets.decode("utf-8", "replace")


def _instant(at: datetime | None) -> str | None:
    return None if at is None else at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
