"""The object a shop's page hands to `halyk.pay()` (docs/protocol.md, section 4), as it reaches the payment
page.

It comes in two forms: posted as JSON by tolem's payment-api.js, or in the address, as the bank's library
and its old copies write it. Both are brought to the same texts, so that nothing depends on which library
the shop loaded. Called by the page. Everything here passed through the payer's browser: it says what the
shop's page wishes, not what is owed. Amounts stay the text they came as; no number is ever made of them
here.
"""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple
from urllib.parse import quote, unquote

import msgspec

from tolem.wire.link import LINK_CHARS_MAX, LINK_EXAMPLE, POST_LINK_EXAMPLE, find_link_problem
from tolem.wire.lzstring import decompress

INPUT_BYTES_MAX = 16 * 1024
OUTPUT_UNITS_MAX = 64 * 1024
NESTING_MAX = 4
"""Objects within objects; the pay object itself is the first."""
KEYS_MAX = 100
"""Per object."""
TOKEN_CHARS_MAX = 4096

SHORT_FORM = "isShortForm"
"""The page stands in a frame of the shop's page."""
FLAGS = frozenset({"isTransfer", "isAFT", "isOCT", SHORT_FORM})
"""Fields beside `params` with which the library says what kind of page it wants."""

_LANGUAGES = {
    "ru": "ru", "rus": "ru",
    "kk": "kk", "kz": "kk", "kaz": "kk",
    "en": "en", "eng": "en",
}  # fmt: skip
_TRUE = frozenset({"true", "1", "yes", "on"})
_FALSE = frozenset({"", "false", "0", "no", "off", "null", "undefined"})


class _Text(NamedTuple):
    wire: str
    inside: str
    chars_max: int


_TEXTS = (
    _Text("terminal", "terminal_id", 64),
    _Text("amount", "amount", 64),
    _Text("currency", "currency", 16),
    _Text("accountId", "account_id", 255),
    _Text("phone", "phone", 20),
    _Text("email", "email", 254),
    _Text("name", "name", 100),
    _Text("paymentType", "payment_type", 64),
)
_LINKS = (
    _Text("backLink", "return_url", LINK_CHARS_MAX),
    _Text("failureBackLink", "failure_return_url", LINK_CHARS_MAX),
    _Text("postLink", "post_link", LINK_CHARS_MAX),
    _Text("failurePostLink", "failure_post_link", LINK_CHARS_MAX),
)
_DESCRIPTION_BYTES_MAX = 125
_DATA_BYTES_MAX = 4096

_INVOICE_ID = re.compile(r"[0-9]{1,20}")
_INVOICE_ID_ALT = re.compile(r"[0-9]{6,15}")
_ACCESS_TOKEN = re.compile(r"[!-~]*")
_LANGUAGE_IN_TEXT = re.compile(r"""\blanguage["']?\s*[:=]\s*["']?([A-Za-z]{2,20}(?:[-_][A-Za-z]{2,20})?)""")
_TOKENS_IN_TEXT = tuple(
    re.compile(rf'{name}\\?"?\s*[:=]\s*\\?"?([A-Za-z0-9._~+/=-]{{1,{TOKEN_CHARS_MAX}}})')
    for name in ("access_token", "auth")
)
"""Where a token stands in an object that can't be read, however its `auth` is spelled."""
_LONE_SURROGATE = re.compile(r"[\ud800-\udfff]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_CONTROL_BUT_LINES = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")

_UNESCAPED = "!~*'()"  # what encodeURIComponent leaves alone beside letters, digits and -_.


class PayObjectError(ValueError):
    """The object can't be read. The message is English, for a developer, and says what to change; it
    repeats no value of the object. `field` is the wire name of the culprit, `params` for the object as a
    whole."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field
        self.access_token = ""
        """The token in it, if that much could be read: whose object it is."""
        self.language = ""
        """The language in it, likewise."""


class PayObject(msgspec.Struct, frozen=True, kw_only=True):
    """What the shop's page asks for. An empty text means that the object does not say it."""

    access_token: str
    invoice_id: str = ""
    """Digits as they came, leading zeros too."""
    invoice_id_alt: str = ""
    terminal_id: str = ""
    """As given; not checked to be a UUID."""
    amount: str = ""
    """As given; `1e3` and `NaN` are still here, the flow refuses them."""
    currency: str = ""
    """As given."""
    return_url: str = ""
    """http or https with a host, like the three below."""
    failure_return_url: str = ""
    auto_return: bool = False
    """Return to the shop without a click."""
    post_link: str = ""
    failure_post_link: str = ""
    language: str = ""
    """`ru`, `kk`, `en`, or empty where the object names none of them."""
    description: str = ""
    account_id: str = ""
    """A label: only the token request vouches for the payer's account."""
    phone: str = ""
    email: str = ""
    name: str = ""
    data: str = ""
    """The shop's own text, returned to it; an object in the flat form of the bank's library."""
    card_save: bool = False
    """Offer the payer to save the card."""
    payment_type: str = ""
    """As given."""
    flags: frozenset[str] = frozenset()
    """Those of FLAGS that are set."""

    def __repr__(self) -> str:
        """Without the token and the payer's particulars: a repr ends in logs."""
        return f"PayObject(invoice_id={self.invoice_id!r}, terminal_id={self.terminal_id!r})"


def parse_posted(params: str, flags: Mapping[str, str]) -> PayObject:
    """The form of payment-api.js: `params` is the field of that name, `flags` all its fields. Raises
    PayObjectError."""
    with _naming_token(params):
        _check_input(params)
        return _parse(_parse_json("params", params), flags)


def parse_address(params: str, flags: Mapping[str, str]) -> PayObject:
    """The address of the bank's library: `params` is that parameter, percent-decoded (a space for `+` is
    fine), `flags` all its parameters. Raises PayObjectError."""
    _check_input(params)
    try:
        text = decompress(params, OUTPUT_UNITS_MAX)
    except ValueError as error:
        raise PayObjectError(
            "params",
            f"params can't be decompressed: {error}; use LZString.compressToEncodedURIComponent "
            "and put the result into the address as it is",
        ) from None
    with _naming_token(unquote(text)):
        return _parse(_parse_pairs("params", text), flags)


@contextmanager
def _naming_token(text: str) -> Iterator[None]:
    """An error that leaves here tells whose object it is and in which language, as far as its text shows that."""
    try:
        yield
    except PayObjectError as error:
        found = next(filter(None, (pattern.search(text) for pattern in _TOKENS_IN_TEXT)), None)
        error.access_token = found[1] if found else ""
        language = _LANGUAGE_IN_TEXT.search(text)
        error.language = _find_language(language[1]) if language else ""
        raise


def _parse(values: dict[str, Any], flags: Mapping[str, str]) -> PayObject:
    fields: dict[str, Any] = {
        "access_token": _parse_auth(values.get("auth")),
        "invoice_id": _digits(values, "invoiceId", _INVOICE_ID, "1 to 20 digits"),
        "invoice_id_alt": _digits(values, "invoiceIdAlt", _INVOICE_ID_ALT, "6 to 15 digits"),
        "auto_return": _boolean(values, "autoBackLink"),
        "card_save": _boolean(values, "cardSave"),
        "language": _find_language(_line(values, "language", 64)),
        "description": _description(values),
        "data": _data(values),
        "flags": frozenset(flag for flag in FLAGS if flags.get(flag, "").strip().lower() in _TRUE),
    }
    for text in _TEXTS:
        fields[text.inside] = _line(values, text.wire, text.chars_max)
    for link in _LINKS:
        fields[link.inside] = _link(values, link.wire, link.chars_max)
    return PayObject(**fields)


def _find_language(text: str) -> str:
    """`ru`, `kk`, `en`, or empty for another one."""
    return _LANGUAGES.get(re.split("[-_]", text.strip().lower())[0], "")


def _parse_auth(auth: object) -> str:
    """The token answer, a part of it or the bare token, also as text (JSON or `key=value&…`) → the access
    token."""
    if isinstance(auth, str):
        text = auth.strip()
        if text.startswith("{"):
            auth = _parse_json("auth", text)
        elif re.search(r"(?:^|&)access_token=", text):
            auth = _parse_pairs("auth", text)
        else:
            auth = {"access_token": text}
    if not isinstance(auth, dict):
        auth = {}
    token = auth.get("access_token")
    if not isinstance(token, str) or not token:
        raise PayObjectError("auth", "auth has no access_token; set it to the answer of the token endpoint")
    if len(token) > TOKEN_CHARS_MAX or not _ACCESS_TOKEN.fullmatch(token):
        raise PayObjectError("auth", "auth.access_token is no access token; set auth to the token endpoint's answer")
    return token


def _check_input(params: str) -> None:
    try:
        size = len(params) if params.isascii() else len(params.encode())
    except UnicodeEncodeError:
        raise _half_pair("params") from None
    if size > INPUT_BYTES_MAX:
        raise PayObjectError(
            "params",
            f"params has {size} bytes, at most {INPUT_BYTES_MAX} are read; shorten data or the links",
        )
    if not size:
        raise PayObjectError("params", "params is empty; open this page with halyk.pay() of payment-api.js")


def _parse_json(field: str, text: str) -> dict[str, Any]:
    """An object whose numbers are still their source text. Bounded in nesting and keys."""
    try:
        value = _JSON.decode(text)
    except _ObjectRefused as error:
        raise PayObjectError(field, f"{field} has {error}") from None
    except RecursionError:
        raise _too_deep(field) from None
    except ValueError as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else "a value can't be read"
        raise PayObjectError(field, f"{field} is not valid JSON ({reason}); use JSON.stringify") from None
    if not isinstance(value, dict):
        raise PayObjectError(field, f"{field} must be a JSON object")
    _check_nesting(field, value, 1 if field == "params" else 2)
    return value


def _parse_pairs(field: str, text: str) -> dict[str, Any]:
    """`key=value&…` as the bank's library writes it: the value URI-encoded, the key as it is."""
    pieces = [piece for piece in text.split("&") if piece]
    if len(pieces) > KEYS_MAX:
        raise PayObjectError(field, f"{field} has more than {KEYS_MAX} keys")
    values: dict[str, Any] = {}
    for piece in pieces:
        key, _, encoded = piece.partition("=")
        if key in values:
            raise PayObjectError(field, f"{field} has a key twice; each key may come once")
        try:
            values[key] = unquote(encoded, errors="strict") if "%" in encoded else encoded
        except UnicodeDecodeError:
            raise PayObjectError(field, f"{field} is not UTF-8; encode values with encodeURIComponent") from None
    return values


class _ObjectRefused(ValueError):
    """Raised inside the JSON decoder, which does not know which field it reads."""


def _collect(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(pairs) > KEYS_MAX:
        raise _ObjectRefused(f"more than {KEYS_MAX} keys in one object")
    values = dict(pairs)
    if len(values) != len(pairs):
        raise _ObjectRefused("a key twice; each key may come once")
    return values


_JSON = json.JSONDecoder(object_pairs_hook=_collect, parse_int=str, parse_float=str, parse_constant=str)


def _check_nesting(field: str, value: object, level: int) -> None:
    if isinstance(value, dict):
        children = list(value.values())
    elif isinstance(value, list):
        children = value
    else:
        return
    if level > NESTING_MAX:
        raise _too_deep(field)
    if len(children) > KEYS_MAX:
        raise PayObjectError(field, f"{field} has a list of more than {KEYS_MAX} items")
    for child in children:
        _check_nesting(field, child, level + 1)


def _too_deep(field: str) -> PayObjectError:
    return PayObjectError(field, f"{field} is nested more than {NESTING_MAX} deep; pass data as one text")


def _flatten(value: object) -> str:
    """A value as the bank's library writes it: null is empty, an object or list is `key=value&…`, encoded
    inside."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        value = {str(index): item for index, item in enumerate(value)}
    if isinstance(value, dict):
        encoded = ((key, quote(_flatten(item), safe=_UNESCAPED)) for key, item in value.items())
        return "&".join(f"{key}={text}" for key, text in encoded if key)  # the library skips an empty key
    return str(value)


def _text(values: dict[str, Any], field: str, control: re.Pattern[str]) -> str:
    value = values.get(field)
    if isinstance(value, dict | list):
        raise PayObjectError(field, f"{field} must be a text, not an object or a list")
    return _checked(field, _flatten(value), control)


def _checked(field: str, text: str, control: re.Pattern[str]) -> str:
    if text.isascii() and text.isprintable():
        return text
    if _LONE_SURROGATE.search(text):
        raise _half_pair(field)
    if control.search(text):
        raise PayObjectError(field, f"{field} has a control character (line break, tab, NUL …); remove it")
    return text


def _half_pair(field: str) -> PayObjectError:
    return PayObjectError(field, f"{field} holds half a surrogate pair; don't cut texts inside a character")


def _line(values: dict[str, Any], field: str, chars_max: int) -> str:
    text = _text(values, field, _CONTROL)
    if len(text) > chars_max:
        raise PayObjectError(field, f"{field} has {len(text)} characters, at most {chars_max} are allowed")
    return text


def _digits(values: dict[str, Any], field: str, pattern: re.Pattern[str], rule: str) -> str:
    text = _text(values, field, _CONTROL)
    if text and not pattern.fullmatch(text):
        raise PayObjectError(field, f"{field} must be {rule}; pass it as text, which keeps leading zeros")
    return text


def _boolean(values: dict[str, Any], field: str) -> bool:
    text = _text(values, field, _CONTROL).strip().lower()
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise PayObjectError(field, f"{field} must be true or false")


def _description(values: dict[str, Any]) -> str:
    text = _text(values, "description", _CONTROL)
    size = len(text.encode())
    if size > _DESCRIPTION_BYTES_MAX:
        raise PayObjectError(
            "description",
            f"description has {size} bytes in UTF-8, at most {_DESCRIPTION_BYTES_MAX} are allowed "
            "(a Cyrillic letter takes two)",
        )
    return text


def _data(values: dict[str, Any]) -> str:
    value = values.get("data")
    try:
        text = _checked("data", _flatten(value), _CONTROL_BUT_LINES)
    except UnicodeEncodeError:  # quote() met it inside an object
        raise _half_pair("data") from None
    size = len(text.encode())
    if size > _DATA_BYTES_MAX:
        raise PayObjectError("data", f"data has {size} bytes as text, at most {_DATA_BYTES_MAX} are allowed")
    return text


def _link(values: dict[str, Any], field: str, chars_max: int) -> str:
    link = _line(values, field, chars_max)
    if not link:
        return ""
    example = POST_LINK_EXAMPLE if field.lower().endswith("postlink") else LINK_EXAMPLE
    if problem := find_link_problem(link, example):
        raise PayObjectError(field, f"{field} {problem}")
    return link
