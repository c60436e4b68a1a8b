"""The LZString decoder against a compressor of its own, written here from the format's description, and against texts
that the JavaScript original (lz-string 1.5.0) compressed."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tolem.wire.lzstring import decompress

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+-"
OUTPUT_MAX = 65536

ORIGINALS = (
    ("", "Q"),
    ("a", "IZA"),
    ("aaaaaaaaaaaaaaaaaaaa", "IY1-kA"),
    ("key=value&other=", "NYUwngvAbghgNgVxAMgPYBcAWIBOEg"),
    ("Оплата", "nggn4QTcIIDCCEIgFA"),
    ("😀", "rwbgA9o"),
    ("\x00\xff\u0100\uffff", "AAf8AICP--Q"),
)


class BitWriter:
    """Codes, low bit first, into six bits a character, high bit first."""

    def __init__(self) -> None:
        self.bits: list[int] = []

    def put(self, value: int, width: int) -> None:
        self.bits += [value >> place & 1 for place in range(width)]

    def text(self) -> str:
        bits = [*self.bits, *[0] * (6 - len(self.bits) % 6)]  # at least one bit of padding
        return "".join(ALPHABET[int("".join(map(str, bits[at : at + 6])), 2)] for at in range(0, len(bits), 6))


class CodeWriter(BitWriter):
    """Keeps the width of codes: it grows by one bit whenever the codes of that width are used up."""

    def __init__(self) -> None:
        super().__init__()
        self.phrases = 3
        self.width = 2
        self.limit = 4

    def code(self, value: int) -> None:
        self.put(value, self.width)

    def defined(self) -> None:
        self.phrases += 1
        if self.phrases == self.limit:
            self.width += 1
            self.limit *= 2


def compress(units: Sequence[str]) -> str:
    """LZString's compressToEncodedURIComponent of UTF-16 code units. The width of the codes follows from what the
    decoder knows when it reads one: each code defines a phrase, except for the first, and each new unit one more."""
    phrases: dict[str, int] = {}
    unsent: set[str] = set()
    writer = CodeWriter()

    def send(phrase: str) -> None:
        is_first = not writer.bits
        if phrase in unsent:
            unsent.remove(phrase)
            is_wide = ord(phrase) > 255
            writer.code(int(is_wide))
            writer.put(ord(phrase), 16 if is_wide else 8)
            writer.defined()
        else:
            writer.code(phrases[phrase])
        if not is_first:
            writer.defined()

    pending = ""
    for unit in units:
        if unit not in phrases:
            phrases[unit] = len(phrases) + 3
            unsent.add(unit)
        if pending and pending + unit not in phrases:
            send(pending)
            phrases[pending + unit] = len(phrases) + 3
            pending = ""
        pending += unit
    if pending:
        send(pending)
    writer.code(2)
    return writer.text()


def utf16_units(text: str) -> list[str]:
    data = text.encode("utf-16-le", "surrogatepass")
    return [chr(int.from_bytes(data[at : at + 2], "little")) for at in range(0, len(data), 2)]


def bomb(codes: int) -> str:
    """Each code names the phrase that it defines itself, one unit longer than the last."""
    writer = CodeWriter()
    writer.code(0)
    writer.put(ord("a"), 8)
    writer.defined()
    for _ in range(codes):
        writer.code(writer.phrases)
        writer.defined()
    writer.code(2)
    return writer.text()


@pytest.mark.parametrize(("text", "compressed"), ORIGINALS)
def test_reads_what_the_original_wrote(text: str, compressed: str) -> None:
    assert decompress(compressed, OUTPUT_MAX) == text
    assert compress(utf16_units(text)) == compressed, "the test's own compressor"


@given(st.text())
def test_round_trip(text: str) -> None:
    assert decompress(compress(utf16_units(text)), OUTPUT_MAX) == text


@given(st.text(alphabet="ab& ж😀", max_size=3000))
def test_round_trip_of_repetitive_text(text: str) -> None:
    """Few letters make long phrases and a phrase that names itself."""
    assert decompress(compress(utf16_units(text)).replace("+", " "), OUTPUT_MAX) == text


def test_round_trip_of_a_long_text() -> None:
    text = "".join(f"{number}=ж{number * 7919 % 10007}&" for number in range(3000))
    assert decompress(compress(utf16_units(text)), OUTPUT_MAX) == text


def test_a_query_string_turned_plus_into_a_space() -> None:
    text = "".join(str(number) for number in range(300))
    compressed = compress([*text])
    assert "+" in compressed
    assert decompress(compressed.replace("+", " "), OUTPUT_MAX) == text


@given(st.text(alphabet="abж😀", min_size=1, max_size=60))
def test_a_truncated_text_is_refused(text: str) -> None:
    compressed = compress(utf16_units(text))
    whole = decompress(compressed, OUTPUT_MAX)
    for end in range(len(compressed)):
        only_padding_is_missing = end == len(compressed) - 1 and compressed.endswith("A")
        if only_padding_is_missing and decompress(compressed, OUTPUT_MAX) == whole:
            continue
        with pytest.raises(ValueError, match="truncated"):
            decompress(compressed[:end], OUTPUT_MAX)


@pytest.mark.parametrize(
    ("compressed", "reason"),
    (
        ("", "truncated"),
        ("wAAAA", "not defined"),  # begins with a phrase
        ("IZ-----", "not defined"),  # a phrase far ahead
        ("IZ/", "alphabet"),
        ("IZA=", "alphabet"),
        ("I\nZA", "alphabet"),
        ("IZA\x00", "alphabet"),
        ("IЖA", "alphabet"),
        ("I\ud800A", "alphabet"),
        (compress(["a", "\ud800"]), "surrogate"),
        (compress(["\udc00", "\ud800"]), "surrogate"),
    ),
)
def test_refuses(compressed: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        decompress(compressed, OUTPUT_MAX)


def test_the_bound_counts_utf16_units() -> None:
    compressed = compress(utf16_units("ab😀"))
    assert decompress(compressed, 4) == "ab😀"
    with pytest.raises(ValueError, match="longer than 3"):
        decompress(compressed, 3)


def test_a_bomb_is_stopped_at_the_bound() -> None:
    compressed = bomb(8000)
    assert len(compressed) < 16 * 1024
    assert decompress(bomb(200), OUTPUT_MAX) == "a" * (201 * 202 // 2)
    with pytest.raises(ValueError, match="longer than 65536"):
        decompress(compressed, OUTPUT_MAX)


@given(st.one_of(st.text(), st.text(alphabet=ALPHABET, max_size=400)))
def test_garbage_gives_a_text_or_a_plain_value_error(garbage: str) -> None:
    try:
        text = decompress(garbage, 500)
    except ValueError as error:
        assert type(error) is ValueError  # noqa: PT017 - any other outcome is fine too
    else:
        assert len(utf16_units(text)) <= 500
