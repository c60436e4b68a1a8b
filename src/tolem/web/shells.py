"""Page shells: a template rendered once per language, when the process starts, into text with gaps for what differs.

Called by pages.py. A request only fills the gaps, which takes a tenth of a template's rendering, and compresses
nothing: the text between the gaps was packed at the start, also that of a shell inside of another's gap. Invariant: a
gap takes Html, and only `escape`, `Shell.fill` and `join` make Html of anything that came from outside.
"""

import html
import re
import struct
import zlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NewType

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from tolem.i18n.translator import Translator

TEMPLATES = Path(__file__).parent / "templates"

Html = NewType("Html", str)
"""Text that is safe where it stands: markup of ours with escaped values."""

NOTHING = Html("")

_GZIP_HEADER = bytes((0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 0, 255))  # deflate; no time, no system
_STORED = b"\0"
"""Head of a block of deflate that holds bytes as they are; their number follows, twice, then they."""
_EMPTY = bytes((0, 0, 255, 255))
"""The rest of such a block without bytes."""
_LAST_BLOCK = b"\1" + _EMPTY
_BLOCK_MAX = 0xFFFF
_SIZES = struct.Struct("<HH")

# Control characters, which no template holds.
_GAP = re.compile("\x02([a-z_]+)\x03")


def escape(text: str) -> Html:
    """Text from outside → Html, for an element's content or a quoted attribute."""
    return Html(html.escape(text))


class PageBytes(bytes):
    """A whole page in UTF-8, which can also be had compressed at next to no cost: its shell was packed at the start.

    What came from outside stands in the packed form as it is. So nobody can guess a secret of the page by how well it
    compresses beside a text of his own (the attack called BREACH).
    """

    pack: Callable[[bytes], bytes]

    def gzipped(self) -> bytes:
        """The page as a gzip member (RFC 1952)."""
        return self.pack(self)


class _Packed(bytes):
    """Static text, compressed. Its last block is the head of a stored one, whose bytes are those that come next."""


class _Filled(str):
    """A filled shell that may stand in another's gap: it still knows which of its text is static."""

    add_parts: Callable[[list[bytes]], None]


class Shell:
    """One template in one language, with gaps."""

    __slots__ = ("_after", "_head", "_text")

    def __init__(self, rendered: str) -> None:
        lines = re.sub(r"\s*\n\s*", "\n", rendered.strip())  # indentation is for people
        self._text = _GAP.sub(r"%(\1)s", lines.replace("%", "%%"))
        pieces = _GAP.split(lines)
        self._head, *others = (_pack(piece.encode()) for piece in pieces[::2])
        self._after = tuple(zip(pieces[1::2], others, strict=True))

    def fill(self, values: Mapping[str, Html]) -> Html:
        """The markup with its gaps filled. Raises KeyError for a gap without a value; others are left out."""
        filled = _Filled(self._text % values)
        filled.add_parts = lambda parts: self._add_parts(parts, values)
        return Html(filled)

    def fill_page(self, values: Mapping[str, Html]) -> PageBytes:
        """The same as a whole page."""
        page = PageBytes(_encode(self._text % values))

        def pack(plain: bytes) -> bytes:
            parts: list[bytes] = []
            self._add_parts(parts, values)
            return _gzip(plain, parts)

        page.pack = pack
        return page

    def _add_parts(self, parts: list[bytes], values: Mapping[str, Html]) -> None:
        parts.append(self._head)
        for gap, piece in self._after:
            if value := values[gap]:
                _add_parts(parts, value)
            parts.append(piece)


def join(pieces: Iterable[Html]) -> Html:
    """One after the other, for one gap."""
    pieces = tuple(pieces)
    joined = _Filled("".join(pieces))

    def add_parts(parts: list[bytes]) -> None:
        for piece in pieces:
            _add_parts(parts, piece)

    joined.add_parts = add_parts
    return Html(joined)


def pack_filled(markup: Html) -> Html:
    """Filled markup, compressed now together with its values, for what repeats itself. No value in it may be one that
    an outsider chose: it would tell what else is in there (BREACH)."""
    packed, piece = _Filled(markup), _pack(_encode(markup))
    packed.add_parts = lambda parts: parts.append(piece)
    return Html(packed)


def _add_parts(parts: list[bytes], value: str) -> None:
    if isinstance(value, _Filled):
        value.add_parts(parts)
    else:
        parts.append(_encode(value))


def _encode(markup: str) -> bytes:
    # A lone surrogate in a shop's text is no character: it must cost a question mark, not the page.
    return markup.encode("utf-8", "replace")


def _gzip(plain: bytes, parts: list[bytes]) -> bytes:
    """What is packed stays as it is; everything between goes into stored blocks."""
    blocks, start = [_GZIP_HEADER, _STORED], 0
    for at, part in enumerate(parts):
        if type(part) is _Packed:
            blocks += (_store(b"".join(parts[start:at])), part)
            start = at + 1
    blocks += (_store(b"".join(parts[start:])), _LAST_BLOCK)
    blocks += (zlib.crc32(plain).to_bytes(4, "little"), len(plain).to_bytes(4, "little"))
    return b"".join(blocks)


def _pack(piece: bytes) -> bytes:
    """Static text → blocks of deflate (RFC 1951) that refer to nothing before them, or itself where that is shorter."""
    best = piece
    size = len(piece) - len(_STORED + _EMPTY)  # what packing it adds: it parts two texts that would share a block
    for strategy in (zlib.Z_DEFAULT_STRATEGY, zlib.Z_FIXED):
        packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS, 9, strategy)
        packed = packer.compress(piece) + packer.flush(zlib.Z_SYNC_FLUSH).removesuffix(_EMPTY)
        if len(packed) < size:
            best, size = _Packed(packed), len(packed)
    return best


def _store(stored: bytes) -> bytes:
    """Bytes → the stored block whose head is written already, and more of them where one is too small."""
    size = len(stored)
    if size > _BLOCK_MAX:
        return _store(stored[:_BLOCK_MAX]) + _STORED + _store(stored[_BLOCK_MAX:])
    return _SIZES.pack(size, size ^ _BLOCK_MAX) + stored


class _Gaps:
    """What a template writes as `{{ gap.amount }}`."""

    def __getattr__(self, name: str) -> Markup:
        return Markup(f"\x02{name}\x03")  # noqa: S704 - the name of an attribute in our own template

    __getitem__ = __getattr__


class Press:
    """Renders templates into shells."""

    def __init__(self, translator: Translator, **everywhere: object) -> None:
        """`everywhere`: values that every template may use, the same for the life of the process."""
        self._language = ""
        self._environment = Environment(
            loader=FileSystemLoader(TEMPLATES),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=["jinja2.ext.i18n"],
        )
        gettext: Callable[[str], str] = lambda msgid: translator.text(self._language, msgid)  # noqa: E731
        ngettext: Callable[[str, str, int], str] = lambda one, many, n: translator.ntext(  # noqa: E731
            self._language, one, many, n
        )
        self._environment.install_gettext_callables(gettext, ngettext, newstyle=True)  # type: ignore[attr-defined]
        self._environment.globals.update(everywhere, gap=_Gaps())

    def shell(self, template: str, language: str, **fixed: object) -> Shell:
        """The template in a language that has a catalogue; `fixed` are its values that no request changes."""
        self._language = language
        return Shell(self._environment.get_template(template).render(language=language, **fixed))
