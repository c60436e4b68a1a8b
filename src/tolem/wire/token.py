"""The token endpoint's spellings: what a shop's server posts to get an access token, and what it is answered
(docs/protocol.md §3).

Called by the OAuth edge. Everything is bounded and stays text: numbers are taken by their digits, never through a
float. Nothing but `Refused` leaves the parsers, whatever the bytes are; its message names no secret.
"""

import base64
import binascii
import json
import re
from typing import Any, NamedTuple, NoReturn
from urllib.parse import parse_qsl, unquote_plus
from uuid import UUID

import msgspec
from multipart import MultipartError, PushMultipartParser, parse_options_header

from tolem.domain.errors import Refusal, Refused
from tolem.wire.link import LINK_CHARS_MAX, POST_LINK_EXAMPLE, find_link_problem

BODY_BYTES_MAX = 16 * 1024
FIELDS_MAX = 64

INVOICE_ID = re.compile(r"[0-9]{6,15}")
"""Digits kept as text, leading zeros too."""

TERMINAL_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)

_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_SCOPE = re.compile(r"[!#-\[\]-~]+(?: [!#-\[\]-~]+)*")
"""RFC 6749 §3.3."""

_NOT_IN_DESCRIPTION = re.compile(r"[^ !#-\[\]-~]")
"""RFC 6749 §5.2: what `error_description` may not hold."""


class TokenRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for, every field as the text it came as. Empty: absent."""

    grant_type: str = ""
    scope: str = ""
    """Scope tokens with one space between."""
    client_id: str = ""
    client_secret: str = ""
    invoice_id: str = ""
    """6–15 digits."""
    secret_hash: str = ""
    amount: str = ""
    """Not yet checked to be an amount."""
    currency: str = ""
    """Not yet checked to be a currency."""
    terminal_id: str = ""
    """Not yet checked, see parse_terminal_id."""
    post_link: str = ""
    """http or https with a host, like the next."""
    failure_post_link: str = ""
    account_id: str = ""
    username: str = ""
    password: str = ""

    @property
    def is_for_order(self) -> bool:
        """True: a token for an order; it then has invoice, currency and terminal. False: a service token."""
        return self.amount != ""

    def __repr__(self) -> str:
        """Without secrets: a repr ends in logs."""
        return (
            f"TokenRequest(client_id={self.client_id!r}, terminal_id={self.terminal_id!r},"
            f" invoice_id={self.invoice_id!r})"
        )


class _Field(NamedTuple):
    wire: str
    inside: str
    chars_max: int


_FIELDS = {
    field.wire: field
    for field in (
        _Field("grant_type", "grant_type", 64),
        _Field("scope", "scope", 512),
        _Field("client_id", "client_id", 255),
        _Field("client_secret", "client_secret", 255),
        _Field("invoiceID", "invoice_id", 15),
        _Field("secret_hash", "secret_hash", 255),
        _Field("amount", "amount", 32),
        _Field("currency", "currency", 8),
        _Field("curency", "currency", 8),  # so one page of the bank's documentation
        _Field("terminal", "terminal_id", 64),
        _Field("postLink", "post_link", LINK_CHARS_MAX),
        _Field("failurePostLink", "failure_post_link", LINK_CHARS_MAX),
        _Field("accountId", "account_id", 255),
        _Field("username", "username", 255),
        _Field("password", "password", 255),
    )
}


def parse_token_request(content_type: str, body: bytes, authorization: str = "") -> TokenRequest:
    """Body and headers of the token request → its fields. Raises Refused.

    `authorization` is that header's value: HTTP Basic names the client as the body would (RFC 6749 §2.3.1); any other
    scheme is passed over.
    """
    if len(body) > BODY_BYTES_MAX:
        _refuse(f"the body has {len(body)} bytes, at most {BODY_BYTES_MAX} are read")
    media_type, options = _parse_content_type(content_type)
    if media_type == "multipart/form-data":
        pairs = _parse_multipart(options.get("boundary", ""), body)
    elif media_type == "application/x-www-form-urlencoded":
        pairs = _parse_urlencoded(body)
    elif media_type == "application/json":
        pairs = _parse_json(body)
    else:
        _refuse(
            "content type must be multipart/form-data, application/x-www-form-urlencoded or application/json",
            "Content-Type",
        )
    fields = _collect(pairs)
    if authorization[:6].lower() == "basic ":
        _add_client(fields, *parse_basic(authorization))
    return _check(TokenRequest(**fields))


def parse_basic(header: str) -> tuple[str, str]:
    """The Authorization header of HTTP Basic → client id and secret, form-decoded (RFC 6749 §2.3.1). Raises Refused."""
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic":
        _refuse_client("the Authorization header is not of the scheme Basic")
    try:
        text = base64.b64decode(encoded.strip(), validate=True).decode()
        client_id, colon, secret = text.partition(":")
        client_id = unquote_plus(client_id, errors="strict")
        secret = unquote_plus(secret, errors="strict")
    except (binascii.Error, ValueError):  # ValueError: letters that are not ASCII, bytes that are not UTF-8
        _refuse_client("the Authorization header is not the base64 of client_id:client_secret, each URL-encoded UTF-8")
    if not colon or not client_id:
        _refuse_client("the Authorization header lacks the client_id or the colon after it")
    for name, value in (("client_id", client_id), ("client_secret", secret)):
        if len(value) > _FIELDS[name].chars_max or _UNPRINTABLE.search(value):
            _refuse_client(f"{name} in the Authorization header is too long or has a control character")
    return client_id, secret


def parse_terminal_id(text: str) -> UUID:
    """A terminal's id in its usual form of 36 characters. Raises Refused for braces, a prefix, missing dashes."""
    if not TERMINAL_ID.fullmatch(text):
        _refuse("terminal must be a UUID such as 67e34d63-102f-4bd1-898e-370781d0074d", "terminal")
    return UUID(text)


def render_token(access_token: str, expires_in: int, scope: str, as_text: bool = False) -> bytes:
    """The answer to a granted request, keys in the order of the bank's sample.

    `expires_in` in seconds; `as_text` gives it as text, which the bank's mobile SDK wants (Merchant.expires_in_text).
    """
    return msgspec.json.encode(
        {
            "access_token": access_token,
            "expires_in": str(expires_in) if as_text else expires_in,
            "refresh_token": "",
            "scope": scope,
            "token_type": "Bearer",
        }
    )


def render_oauth_error(error: str, code: int, message: str, description: str = "") -> bytes:
    """An error body of RFC 6749 §5.2 with the `code` and `message` that the bank's clients read.

    `error` is a code of the RFC; `description`, by default the message, loses the characters that the RFC forbids.
    """
    text = (description or message).replace('"', "'").replace("\\", "/")
    return msgspec.json.encode(
        {
            "error": error,
            "error_description": _NOT_IN_DESCRIPTION.sub("?", text),
            "code": code,
            "message": message,
        }
    )


def _parse_content_type(content_type: str) -> tuple[str, dict[str, str]]:
    if len(content_type) > 256 or not content_type.isascii() or not content_type.isprintable():
        _refuse("the content type is too long or has characters that no content type has", "Content-Type")
    media_type, options = parse_options_header(content_type)  # type: ignore[no-untyped-call]  # the library's gap
    return media_type, options


def _parse_multipart(boundary: str, body: bytes) -> list[tuple[str, object]]:
    """multipart/form-data (RFC 7578) → name and text of each part; a file name changes nothing."""
    pairs: list[tuple[str, object]] = []
    name, chunks = "", list[bytes]()
    try:
        with PushMultipartParser(
            boundary,
            max_header_size=1024,
            max_header_count=8,
            max_segment_size=BODY_BYTES_MAX,
            max_segment_count=FIELDS_MAX,
            strict=True,
        ) as parser:
            for event in parser.parse(body):
                if event is None:
                    pairs.append((name, _decode(b"".join(chunks))))
                elif isinstance(event, (bytes, bytearray)):
                    chunks.append(bytes(event))
                else:
                    name, chunks = event.name or "", []
    except MultipartError as error:
        _refuse(f"the body is not valid multipart/form-data: {error}")
    except UnicodeDecodeError:
        _refuse("a part's header is not UTF-8")
    return pairs


def _parse_urlencoded(body: bytes) -> list[tuple[str, object]]:
    text = _decode(body)
    try:
        return list(parse_qsl(text, keep_blank_values=True, max_num_fields=FIELDS_MAX, errors="strict"))
    except UnicodeDecodeError:
        _refuse("the body is not UTF-8")
    except ValueError:
        _refuse(f"the body has more than {FIELDS_MAX} fields")


def _parse_json(body: bytes) -> list[tuple[str, object]]:
    """An object → its members; numbers stay the text they came as, null is absent."""
    text = _decode(body)
    try:
        value = _JSON.decode(text)
    except RecursionError:
        _refuse("the JSON is nested too deep; it must be one object of texts and numbers")
    except ValueError as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else "a value can't be read"
        _refuse(f"the body is not valid JSON ({reason})")
    if not isinstance(value, tuple):
        _refuse("the body must be a JSON object")
    if len(value) > FIELDS_MAX:
        _refuse(f"the body has more than {FIELDS_MAX} fields")
    return [(name, "" if member is None else member) for name, member in value]


_JSON = json.JSONDecoder(object_pairs_hook=tuple, parse_int=str, parse_float=str, parse_constant=str)
"""Objects as tuples of pairs, which no array becomes, and in which a name that comes twice is seen."""


def _decode(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        _refuse("the body is not UTF-8")


def _collect(pairs: list[tuple[str, object]]) -> dict[str, Any]:
    """Members that are fields, by their inside name; each bounded, printable and of one value."""
    fields: dict[str, Any] = {}
    for name, value in pairs:
        field = _FIELDS.get(name)
        if field is None or value == "":
            continue
        if not isinstance(value, str):
            _refuse(f"{name} must be a text or a number", name)
        if _UNPRINTABLE.search(value):
            _refuse(f"{name} has a control character (line break, tab, NUL …) or half a surrogate pair", name)
        if name == "scope":
            value = " ".join(value.split())
        elif name == "invoiceID" and not INVOICE_ID.fullmatch(value):
            _refuse(f"invoiceID must be 6 to 15 digits, not {value[:20]!r}", name)
        if len(value) > field.chars_max:
            _refuse(f"{name} has {len(value)} characters, at most {field.chars_max} are allowed", name)
        if fields.setdefault(field.inside, value) != value:
            _refuse(f"{name} comes twice with different values", name)
    return fields


def _add_client(fields: dict[str, Any], client_id: str, secret: str) -> None:
    """RFC 6749 §2.3: one way of authenticating in a request."""
    if "client_secret" in fields or fields.get("client_id", client_id) != client_id:
        _refuse("the client is named in the Authorization header and in the body; use one of them", "client_id")
    fields["client_id"] = client_id
    fields["client_secret"] = secret


def _check(request: TokenRequest) -> TokenRequest:
    """What one field says of another, and links."""
    if request.scope and not _SCOPE.fullmatch(request.scope):
        raise Refused(Refusal.INVALID_SCOPE, "scope has characters that no scope has (RFC 6749, 3.3)", "scope")
    for name, link in (("postLink", request.post_link), ("failurePostLink", request.failure_post_link)):
        if link and (problem := find_link_problem(link, POST_LINK_EXAMPLE)):
            _refuse(f"{name} {problem}", name)
    if request.is_for_order:
        for name, value in (
            ("invoiceID", request.invoice_id),
            ("currency", request.currency),
            ("terminal", request.terminal_id),
        ):
            if not value:
                _refuse(f"{name} is missing: a token with an amount is for one order", name)
    return request


def _refuse(message: str, field: str = "") -> NoReturn:
    raise Refused(Refusal.INVALID_REQUEST, message, field) from None


def _refuse_client(message: str) -> NoReturn:
    raise Refused(Refusal.INVALID_CLIENT, message, "Authorization")
