"""How a shop looks on the payment page: its logo and its two colours, checked when an operator sets them.

Called by flows.administration. Invariant: what is stored can be shown to every payer: the text on the shop's colour has
the contrast that WCAG 2.2 asks for, and a logo is a picture of a kind that browsers only draw, never run.
"""

import hashlib
import re
import zlib
from typing import NamedTuple

import msgspec

CONTRAST_MIN = 4.5
"""WCAG 2.2, success criterion 1.4.3."""
LOGO_BYTES_MAX = 32 * 1024
LOGO_PIXELS_MAX = 1024
"""Width and height; a small file may unfold into a huge picture."""

_COLOUR = re.compile(r"#(?:[0-9a-f]{3}|[0-9a-f]{6})", re.ASCII | re.IGNORECASE)
_PNG_BITS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
"""Colour type of a PNG → its bits per sample; any other pair is none."""
_PNG_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Samples per pixel."""
_TYPES = {"png": "image/png", "jpg": "image/jpeg", "webp": "image/webp"}


class InvalidAppearance(ValueError):
    """Says what to change, in English, for an operator."""


class Logo(msgspec.Struct, frozen=True, kw_only=True):
    """A shop's logo. Never changed: another picture is another logo."""

    name: str
    """Begin of its SHA-256 and its kind: `3fa9c1….png`. The last part of its address."""
    body: bytes

    @property
    def content_type(self) -> str:
        """Media type."""
        return _TYPES[self.name.rpartition(".")[2]]


class Colours(NamedTuple):
    """A shop's colour and that of the text on it, `#rrggbb` in lower case."""

    ground: str
    text: str


def parse_colours(ground: str, text: str = "") -> Colours:
    """`#rgb` or `#rrggbb` each; without `text` it is white or black: one of them is readable on any colour. Raises
    InvalidAppearance for what is no colour and for too little contrast."""
    parsed = _parse_colour(ground)
    if not text:
        return Colours(parsed, max(("#ffffff", "#000000"), key=lambda one: contrast(one, parsed)))
    colours = Colours(parsed, _parse_colour(text))
    ratio = contrast(*colours)
    if ratio < CONTRAST_MIN:
        raise InvalidAppearance(
            f"text {colours.text} on {colours.ground} has a contrast of {ratio:.2f}, people need {CONTRAST_MIN} to read"
            " it; take a darker or lighter one of the two, or leave the text's colour out"
        )
    return colours


def contrast(one: str, other: str) -> float:
    """WCAG 2.2 contrast ratio of two `#rrggbb` colours, 1 to 21."""
    light, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def parse_logo(body: bytes) -> Logo:
    """The bytes of a PNG, JPEG or WebP file → a Logo. Raises InvalidAppearance for another kind (SVG may carry
    scripts), for a file that is not whole, and for more than 32 KB or 1,024 pixels a side."""
    if len(body) > LOGO_BYTES_MAX:
        raise InvalidAppearance(f"the logo has {len(body)} bytes, at most {LOGO_BYTES_MAX} are taken")
    kind = _find_kind(body)
    if kind is None:
        raise InvalidAppearance("the logo is neither PNG, JPEG nor WebP; SVG is not taken, since it may carry scripts")
    size = {"png": _png_size, "jpg": _jpeg_size, "webp": _webp_size}[kind](body)
    if size is None or min(size) < 1:
        raise InvalidAppearance(f"the logo begins like {kind.upper()}, but its size can't be read: is the file whole?")
    if max(size) > LOGO_PIXELS_MAX:
        raise InvalidAppearance(f"the logo is {size[0]} × {size[1]} pixels, at most {LOGO_PIXELS_MAX} a side are taken")
    if not {"png": _is_whole_png, "jpg": _is_whole_jpeg, "webp": _is_whole_webp}[kind](body):
        raise InvalidAppearance(
            f"the logo begins like {kind.upper()}, but can't be drawn to its end: is the file whole?"
        )
    return Logo(name=f"{hashlib.sha256(body).hexdigest()[:16]}.{kind}", body=body)


def _parse_colour(text: str) -> str:
    if not _COLOUR.fullmatch(text):
        raise InvalidAppearance(f"{text!r} is no colour; write it as #0b6459 or #fff")
    digits = text[1:].lower()
    return "#" + (digits if len(digits) == 6 else "".join(digit * 2 for digit in digits))


def _luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _find_kind(body: bytes) -> str | None:
    if body.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if body.startswith(b"\xff\xd8\xff"):
        return "jpg"
    return "webp" if body[:4] == b"RIFF" and body[8:12] == b"WEBP" else None


def _png_size(body: bytes) -> tuple[int, int] | None:
    """IHDR is the first chunk."""
    if len(body) < 24 or body[12:16] != b"IHDR":
        return None
    return int.from_bytes(body[16:20], "big"), int.from_bytes(body[20:24], "big")


def _jpeg_size(body: bytes) -> tuple[int, int] | None:
    """The frame header (SOF0 … SOF15, without DHT, JPG and DAC) names height, then width."""
    at = 2
    while at + 9 <= len(body) and body[at] == 0xFF:
        marker, length = body[at + 1], int.from_bytes(body[at + 2 : at + 4], "big")
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return int.from_bytes(body[at + 7 : at + 9], "big"), int.from_bytes(body[at + 5 : at + 7], "big")
        at += 2 + max(length, 2)
    return None


def _webp_size(body: bytes) -> tuple[int, int] | None:
    """The first chunk: VP8X (extended), VP8L (lossless) or VP8 (a key frame)."""
    if len(body) < 30:
        return None
    if body[12:16] == b"VP8X":
        return int.from_bytes(body[24:27], "little") + 1, int.from_bytes(body[27:30], "little") + 1
    if body[12:16] == b"VP8L" and body[20] == 0x2F:
        bits = int.from_bytes(body[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if body[12:16] == b"VP8 " and body[23:26] == b"\x9d\x01\x2a":
        return int.from_bytes(body[26:28], "little") & 0x3FFF, int.from_bytes(body[28:30], "little") & 0x3FFF
    return None


def _is_whole_png(body: bytes) -> bool:
    """Chunks with their CRC up to IEND, and in IDAT as many rows as IHDR names. Inflates what those need, no more."""
    at, kinds, packed = 8, set(), b""
    while b"IEND" not in kinds:
        end = at + 8 + int.from_bytes(body[at : at + 4], "big")
        if end + 4 > len(body) or zlib.crc32(body[at + 4 : end]) != int.from_bytes(body[end : end + 4], "big"):
            return False
        kind = body[at + 4 : at + 8]
        kinds.add(kind)
        packed += body[at + 8 : end] if kind == b"IDAT" else b""
        at = end + 4
    (width, height), (depth, colour, interlaced) = _png_size(body) or (0, 0), (body[24], body[25], body[28])
    if body[8:12] != b"\0\0\0\x0d" or depth not in _PNG_BITS.get(colour, ()) or (colour == 3 and b"PLTE" not in kinds):
        return False
    # A byte before each row names its filter; how many rows interlacing makes of these is not counted.
    needed = height * ((width * depth * _PNG_SAMPLES[colour] + 7) // 8 + (not interlaced))
    try:
        inflated = zlib.decompressobj().decompress(packed, 2 * needed + 1024)
    except zlib.error:
        return False
    return len(inflated) >= needed


def _is_whole_jpeg(body: bytes) -> bool:
    """After the headers a scan (SOS), and after it the end of the picture (EOI)."""
    at = 2
    while at + 4 <= len(body) and body[at] == 0xFF:
        length = int.from_bytes(body[at + 2 : at + 4], "big")
        if body[at + 1] == 0xDA:
            return body.find(b"\xff\xd9", at + 2 + length) >= 0
        at += 2 + max(length, 2)
    return False


def _is_whole_webp(body: bytes) -> bool:
    """The chunks fill the length that RIFF names, and one of them is a picture."""
    at, end, kinds = 12, 8 + int.from_bytes(body[4:8], "little"), set()
    while at + 8 <= end <= len(body):
        length = int.from_bytes(body[at + 4 : at + 8], "little")
        kinds.add(body[at : at + 4])
        at += 8 + length + length % 2
    return at == end and not kinds.isdisjoint((b"VP8 ", b"VP8L", b"ANMF"))
