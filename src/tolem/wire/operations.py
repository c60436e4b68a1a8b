"""Capture, cancel and refund as shops spell them: `POST /operation/{id}/charge` and the like (docs/protocol.md §7).

Called by the merchant API. Parameters come in the query, in a JSON body, or in both, and then they must agree. Amounts
stay the text they came as, a JSON number too: no float. Nothing but `Refused` leaves the parsers.
"""

import json
import re
from collections.abc import Iterable
from decimal import Decimal
from typing import NamedTuple, NoReturn
from urllib.parse import parse_qsl
from uuid import UUID

import msgspec

from tolem.domain.errors import Refusal, Refused
from tolem.domain.payment import OperationKind
from tolem.wire.misspellings import AMOUNT, EXTERNAL_ID, IDEMPOTENCY_KEY, find_meant
from tolem.wire.reasons import reason_text

BODY_BYTES_MAX = 16 * 1024
FIELDS_MAX = 64
EXTERNAL_ID_CHARS_MAX = 64
IDEMPOTENCY_KEY_CHARS_MAX = 255

OPERATIONS = {
    "charge": OperationKind.CAPTURE,
    "cancel": OperationKind.VOID,
    "refund": OperationKind.REFUND,
}
"""Last word of the path → what it asks for."""

ERROR_CODE = 100
"""`code` of every refusal."""
UNKNOWN_CODE = 454
"""`code` of an outcome that is not known: the amount may be held, ask the status."""

_PAYMENT_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_AMOUNT = re.compile(r"[0-9]{1,13}(?:\.[0-9]{1,6})?", re.ASCII)
_AMOUNT_CHARS_MAX = 32
_KEY = re.compile(r"[!-~](?:[ -~]*[!-~])?", re.ASCII)
_CURRENCY = re.compile(r"[A-Za-z]{3}", re.ASCII)

_FIELDS = {"amount": AMOUNT, "externalID": EXTERNAL_ID, "externalId": EXTERNAL_ID, "currency": "currency"}
"""Spelling → field."""
_HARMLESS = frozenset(
    ("invoiceID", "invoiceId", "terminal", "terminalID", "terminalId", "accountID", "accountId", "language",
     "description", "reason", "comment")
)  # fmt: skip
"""What a shop may say of an order or of its wish, as a text or a number: it is passed over. Everything else that is no
field is refused: passed over, an amount of another spelling would move everything, and a key would move it twice."""
_OF_A_STATUS = frozenset(("orgAmount", "payoutAmount", "amountBonus"))
"""Amounts in the answer to a question for the status, which a shop may send back; passed over beside an amount."""

_JSON = json.JSONDecoder(object_pairs_hook=tuple, parse_int=str, parse_float=str, parse_constant=str)
"""Objects as tuples of pairs, which no array becomes, and in which a name that comes twice is seen."""


class WrongContentType(Refused):
    """A body that is no JSON; answered with 415."""

    def __init__(self) -> None:
        super().__init__(
            Refusal.INVALID_REQUEST, "a body must be JSON with content type application/json", "Content-Type"
        )


class OperationRequest(NamedTuple):
    """What a call asks for, beside its payment."""

    amount: str | None
    """Decimal text, not yet checked to be an amount; None: all that there is."""
    external_id: str = ""
    """The shop's own key of a refund; empty: none."""
    currency: str = ""
    """If the shop names it: it must be the payment's."""

    def content(self, kind: OperationKind, payment_id: UUID) -> bytes:
        """The same bytes for what asks for the same, however it is spelled: `100.00` and `100`, query and body."""
        amount = "" if self.amount is None else _canonical_amount(self.amount)
        return "\n".join((kind, str(payment_id), amount, self.external_id)).encode()


def parse_payment_id(text: str) -> UUID:
    """The payment's id in its usual form of 36 characters. Raises Refused."""
    if not _PAYMENT_ID.fullmatch(text):
        _refuse("the payment's id must be a UUID, as it stands in `id` of the notification and of the status", "id")
    return UUID(text)


def parse_operation(kind: OperationKind, query: bytes, content_type: str, body: bytes) -> OperationRequest:
    """Query string and body of a call → what it asks for. Raises Refused.

    An empty body needs no content type; `null` in JSON is absent. An empty amount is refused: it is more likely a
    mistake of the shop's than the wish to move everything.
    """
    if len(body) > BODY_BYTES_MAX:
        _refuse(f"the body has {len(body)} bytes, at most {BODY_BYTES_MAX} are read")
    pairs = _parse_query(query)
    if body.strip():
        media_type = content_type.partition(";")[0].strip().lower()
        if media_type not in ("", "application/json"):
            raise WrongContentType
        pairs += _parse_json(body)
    fields = _collect(pairs)
    amount = fields.get(AMOUNT)
    harmless = _HARMLESS if amount is None else _HARMLESS | _OF_A_STATUS
    for name, value in pairs:
        if name not in _FIELDS and not (name in harmless and isinstance(value, str | bool)):
            _refuse_unknown(name, value)
    if amount is not None and kind is OperationKind.VOID:
        _refuse("cancel releases the whole hold: leave out amount, or charge a part, which releases the rest", "amount")
    if amount == "":
        _refuse("amount is empty; leave it out to move all that there is", "amount")
    currency = fields.get("currency", "")
    if currency and not _CURRENCY.fullmatch(currency):
        _refuse("currency must be three letters such as KZT", "currency")
    external_id = fields.get(EXTERNAL_ID, "")
    if external_id and kind is not OperationKind.REFUND:
        _refuse(
            f"externalID is a key of refunds: send the key of this call as the header {IDEMPOTENCY_KEY}", EXTERNAL_ID
        )
    return OperationRequest(amount, external_id, currency.upper())


def parse_idempotency_key(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """Of all headers of a request, names in lower case, the key; empty: there is none. Raises Refused, also for another
    name that was meant as this one: a repeat without its key would move money again."""
    keys = set()
    for name, value in headers:
        text = name.decode("latin-1")
        if name == b"idempotency-key":
            keys.add(value.decode("latin-1"))
        elif "idempot" in text or find_meant(text) == IDEMPOTENCY_KEY:
            _refuse(f"the header {text[:40]!r} is not known: write {IDEMPOTENCY_KEY}", IDEMPOTENCY_KEY)
    if not keys:
        return ""
    (key, *others) = keys
    if others:
        _refuse("Idempotency-Key comes twice with different values", "Idempotency-Key")
    key = key.strip(" \t")
    if len(key) > IDEMPOTENCY_KEY_CHARS_MAX or not _KEY.fullmatch(key):
        _refuse(
            f"Idempotency-Key must have 1 to {IDEMPOTENCY_KEY_CHARS_MAX} printable ASCII characters", "Idempotency-Key"
        )
    return key


def render_done(external_id: str) -> bytes:
    """Money has moved."""
    done: dict[str, object] = {"code": 0, "message": ""}
    if external_id:
        done["externalID"] = external_id
    return msgspec.json.encode(done)


def render_declined(reason_code: int) -> bytes:
    """The acquirer said no; nothing has moved."""
    return render_error(reason_text(reason_code), reason_code)


def render_unknown() -> bytes:
    """Nobody knows yet whether money has moved."""
    return render_error("in progress, ask the status", UNKNOWN_CODE)


def render_error(message: str, code: int = ERROR_CODE) -> bytes:
    """Nothing has moved, and why."""
    return msgspec.json.encode({"code": code, "message": message})


def _parse_query(query: bytes) -> list[tuple[str, object]]:
    try:
        return list(
            parse_qsl(query.decode("ascii"), keep_blank_values=True, max_num_fields=FIELDS_MAX, errors="strict")
        )
    except UnicodeDecodeError:
        _refuse("the query is not URL-encoded UTF-8")
    except ValueError:
        _refuse(f"the query has more than {FIELDS_MAX} fields")


def _parse_json(body: bytes) -> list[tuple[str, object]]:
    """An object → its members; numbers stay the text they came as, null is absent."""
    try:
        value = _JSON.decode(body.decode())
    except UnicodeDecodeError:
        _refuse("the body is not UTF-8")
    except RecursionError:
        _refuse("the JSON is nested too deep; it must be one object of texts and numbers")
    except ValueError as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else "a value can't be read"
        _refuse(f"the body is not valid JSON ({reason})")
    if value is None:
        return []
    if not isinstance(value, tuple):
        _refuse("the body must be a JSON object")
    if len(value) > FIELDS_MAX:
        _refuse(f"the body has more than {FIELDS_MAX} fields")
    return [(name, member) for name, member in value if member is not None]


def _collect(pairs: list[tuple[str, object]]) -> dict[str, str]:
    """The members that are fields; what comes twice must say the same."""
    fields: dict[str, str] = {}
    for name, value in pairs:
        field = _FIELDS.get(name)
        if field is None:
            continue
        if not isinstance(value, str):
            _refuse(f"{name} must be a text or a number", name)
        limit = EXTERNAL_ID_CHARS_MAX if field == EXTERNAL_ID else _AMOUNT_CHARS_MAX
        if len(value) > limit or not value.isprintable():
            _refuse(f"{name} has more than {limit} characters, or one that is not printable", name)
        if value != value.strip():
            _refuse(f"{name} begins or ends with a space", name)
        known = fields.setdefault(field, value)
        if known != value and not (field == AMOUNT and _canonical_amount(known) == _canonical_amount(value)):
            _refuse(f"{name} comes twice with different values, in the query or in the body", name)
    return fields


def _refuse_unknown(name: str, value: object) -> NoReturn:
    """Says what it was probably meant to be, looking inside of it, too."""
    shown, meant = repr(name[:40]), find_meant(name)
    if meant == IDEMPOTENCY_KEY:
        _refuse(f"{shown} is no parameter: send the key as the header {meant}", meant)
    if meant is not None:
        _refuse(f"{shown} is no parameter here: write {meant}", meant)
    if found := next((inner for inner in _names_inside(value) if find_meant(inner)), ""):
        _refuse(f"{found[:40]!r} stands inside of {shown}: write it beside the others", found[:40])
    if name in _HARMLESS:
        _refuse(f"{name} must be a text or a number", name)
    _refuse(f"{shown} is no parameter here: only amount, currency and, of a refund, externalID are", name[:40])


def _names_inside(value: object) -> Iterable[str]:
    """Of all objects in a JSON value, however deep."""
    waiting = [value]
    while waiting:
        for member in value if isinstance(value := waiting.pop(), tuple | list) else ():
            if isinstance(value, tuple):
                yield member[0]
            waiting.append(member[1] if isinstance(value, tuple) else member)


def _canonical_amount(text: str) -> str:
    """Amounts compare as decimals; what is no amount stays as it is, and is refused where the currency is known."""
    if not _AMOUNT.fullmatch(text):
        return text
    whole = Decimal(text).normalize()
    return f"{whole:f}"


def _refuse(message: str, field: str = "") -> NoReturn:
    raise Refused(Refusal.INVALID_REQUEST, message, field) from None
