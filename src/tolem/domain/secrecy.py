"""What must not be shown, in what others wrote: a shop that answers with what it was sent repeats its secret_hash.

Called by the inspector's flow, so that every way of looking at an order hides the same. Pure.
"""

import html
import json
import re
from collections.abc import Iterable
from urllib.parse import quote, quote_plus

import msgspec
from msgspec.structs import replace

from tolem.domain.message import Attempt

MASK = "••••••••"
SHORT_CHARS = 4
"""A secret that is shorter is hidden only where it stands alone: any text holds its letters."""


def hide(text: bytes, secrets: Iterable[str]) -> bytes:
    """The text with MASK for every secret in it, also as JSON, HTML and addresses write it, and for the beginning of
    one with which the text was cut off."""
    for form in sorted({form for secret in secrets for form in _forms(secret)}, key=len, reverse=True):
        written = re.escape(form)
        pattern = written if len(form) >= SHORT_CHARS else rb"(?<!\w)" + written + rb"(?!\w)"
        text = re.sub(pattern, MASK.encode(), text)
        for size in range(len(form) - 1, SHORT_CHARS - 1, -1):
            if text.endswith(form[:size]):
                text = text[:-size] + MASK.encode()
                break
    return text


def hide_in_attempt(attempt: Attempt, secrets: Iterable[str]) -> Attempt:
    """A try whose answer does not repeat a secret."""
    return replace(attempt, response=hide(attempt.response, secrets))


def _forms(secret: str) -> Iterable[bytes]:
    if not secret:
        return ()
    json_text = msgspec.json.encode(secret)[1:-1]
    ascii_json = json.dumps(secret)[1:-1].encode()
    texts = (secret, html.escape(secret), quote(secret, safe=""), quote_plus(secret))
    return (json_text, ascii_json, *(text.encode() for text in texts))
