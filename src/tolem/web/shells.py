"""Page shells: a template rendered once per language, when the process starts, into text with gaps for what differs.

Called by pages.py. A request only fills the gaps, which takes a tenth of a template's rendering, and compresses
nothing: the text between the gaps was packed at the start, also that of a shell inside of another's gap. Invariant: a
gap takes Html, and only `escape`, `Shell.fill` and `join` make Html of anything that came from outside.
"""

import html
import re
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

    parts: Callable[[], list[bytes]]


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
        filled.parts = lambda: self._parts(values)
        return Html(filled)

    def fill_page(self, values: Mapping[str, Html]) -> PageBytes:
        """The same as a whole page."""
        page = PageBytes(_encode(self._text % values))
        page.pack = lambda plain: _gzip(plain, self._parts(values))
        return page

    def _parts(self, values: Mapping[str, Html]) -> list[bytes]:
        parts = [self._head]
        for gap, piece in self._after:
            parts += _parts_of(values[gap])
            parts.append(piece)
        return parts


def join(pieces: Iterable[Html]) -> Html:
    """One after the other, for one gap."""
    pieces = tuple(pieces)
    joined = _Filled("".join(pieces))
    joined.parts = lambda: [part for piece in pieces for part in _parts_of(piece)]
    return Html(joined)


def _parts_of(value: str) -> list[bytes]:
    return value.parts() if isinstance(value, _Filled) else [_encode(value)]


def _encode(markup: str) -> bytes:
    # A lone surrogate in a shop's text is no character: it must cost a question mark, not the page.
    return markup.encode("utf-8", "replace")


def _gzip(plain: bytes, parts: list[bytes]) -> bytes:
    """What is packed stays as it is; everything between goes into stored blocks."""
    blocks, stored = [_GZIP_HEADER, _STORED], b""
    for part in parts:
        if isinstance(part, _Packed):
            blocks += (_store(stored), part)
            stored = b""
        else:
            stored += part
    blocks += (_store(stored), _LAST_BLOCK)
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
    blocks = (stored[at : at + _BLOCK_MAX] for at in range(0, len(stored) or 1, _BLOCK_MAX))
    sizes = ((len(block), block) for block in blocks)
    return _STORED.join(
        size.to_bytes(2, "little") + (size ^ _BLOCK_MAX).to_bytes(2, "little") + block for size, block in sizes
    )


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
