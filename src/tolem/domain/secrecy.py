"""What must not be shown, in what others wrote: a shop that answers with what it was sent repeats its secret_hash.

Called by the inspector's flow, so that every way of looking at an order hides the same. Pure.
"""

import base64
import html.entities
import json
import re
from collections.abc import Iterable, Iterator
from functools import lru_cache

import msgspec
from msgspec.structs import replace

from tolem.domain.message import Attempt

MASK = "••••••••"
SHORT_CHARS = 4
"""A secret that is shorter is hidden only where it stands alone: any text holds its letters."""
SHORT_CODE_BYTES = 8
"""Less than this of a coded secret, at the end of a text that was cut off, tells nothing."""

_MASK = MASK.encode()
_HTML_NAMES: dict[str, list[str]] = {}
for _name, _text in html.entities.html5.items():
    if _name.endswith(";"):
        _HTML_NAMES.setdefault(_text, []).append(_name)
_WORD = re.compile(rb"\w")
_CUT_CHARACTER = re.compile(rb"(?:[\\%&]\S{0,11}|[\x80-\xff]{1,3})?\Z")
"""The rest of a text that was cut off within a character, however that is written."""


def hide(text: bytes, secrets: Iterable[str]) -> bytes:
    """The text with MASK for every secret in it, and for the beginning of one with which the text was cut off.

    A secret is known in any case and as JSON (also within JSON), HTML and addresses write it, in hex, in base64 without
    line breaks and in UTF-16; not if it was packed or changed otherwise.
    """
    for secret in sorted(set(filter(None, secrets)), key=len, reverse=True):
        text = _hide_written(text, secret)
        if len(secret) >= SHORT_CHARS:
            text = _hide_coded(text, secret)
    return text


def hide_in_attempt(attempt: Attempt, secrets: Iterable[str]) -> Attempt:
    """A try whose answer does not repeat a secret."""
    return replace(attempt, response=hide(attempt.response, secrets))


def _hide_written(text: bytes, secret: str) -> bytes:
    """Without the secret as text, each of its characters written in any way."""
    units = [_compile_character(char) for char in secret]
    is_short = len(secret) < SHORT_CHARS
    shown, end = bytearray(), 0
    for start in (match.start() for match in units[0].finditer(text)):
        if start < end:
            continue
        at = _end_of_secret(text, start, units)
        if at is None:
            continue
        if is_short and (_WORD.match(text, at) or (start and _WORD.match(text, start - 1))):
            continue
        shown += text[end:start] + _MASK
        end = at
    return bytes(shown + text[end:])


def _end_of_secret(text: bytes, start: int, units: list[re.Pattern[bytes]]) -> int | None:
    """Where the secret that begins at `start` ends; None: it is not there."""
    at = start
    for number, unit in enumerate(units):
        match = unit.match(text, at)
        if match is None:
            return len(text) if number >= SHORT_CHARS and _CUT_CHARACTER.match(text, at) else None
        at = match.end()
    return at


@lru_cache(maxsize=2048)
def _compile_character(char: str) -> re.Pattern[bytes]:
    """A character as text, JSON (also within JSON), HTML and addresses write it, in any case."""
    ways: list[bytes] = []
    for one in {char, char.lower(), char.upper()}:
        raw = one.encode("utf-8", "surrogatepass")
        ways.append(rb"\\*" + re.escape(raw) if one != "\\" else rb"\\+")
        ways.append(b"".join(b"%%(?:25)*%02x" % byte for byte in raw))
        units = one.encode("utf-16-be", "surrogatepass")
        ways.append(b"".join(rb"\\*u%02x%02x" % (units[at], units[at + 1]) for at in range(0, len(units), 2)))
        if len(one) == 1:
            ways += [b"&(?:amp;)*#0*%d;" % ord(one), b"&(?:amp;)*#x0*%x;" % ord(one)]
            ways += [b"&(?:amp;)*" + name.encode() for name in _HTML_NAMES.get(one, ())]
        if one == " ":
            ways.append(rb"\+")
    longest_first = sorted(set(ways), key=lambda way: (-len(way), way))  # `&` begins `&amp;`
    return re.compile(b"|".join(longest_first), re.IGNORECASE)


def _hide_coded(text: bytes, secret: str) -> bytes:
    """Without the secret in hex, base64 and UTF-16."""
    for form in sorted(set(_codes(secret)), key=len, reverse=True):
        text = re.sub(re.escape(form), _MASK, text, flags=re.IGNORECASE)
        for size in range(len(form) - 1, SHORT_CODE_BYTES - 1, -1):
            if text.endswith(form[:size]):
                text = text[:-size] + _MASK
                break
    return text


def _codes(secret: str) -> Iterator[bytes]:
    written = {secret, msgspec.json.encode(secret)[1:-1].decode(), json.dumps(secret)[1:-1]}
    written |= {text.replace("/", "\\/") for text in written}
    for text in written:
        raw = text.encode()
        yield raw.hex().encode()
        yield text.encode("utf-16-le")
        yield text.encode("utf-16-be")
        for before in range(3):  # how its bytes lie in groups of three; what shares a letter with others stays
            bits = (before * 8, (before + len(raw)) * 8)
            letters = base64.b64encode(bytes(before) + raw + bytes(2))[-(-bits[0] // 6) : bits[1] // 6]
            yield letters
            yield letters.translate(bytes.maketrans(b"+/", b"-_"))
