"""A shop's logo and colours: what can be shown to every payer is taken, the rest is refused in words that help."""

import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.pictures import build_png

from tolem.domain.appearance import (
    CONTRAST_MIN,
    LOGO_BYTES_MAX,
    Colours,
    InvalidAppearance,
    contrast,
    parse_colours,
    parse_logo,
)


def build_jpeg(width: int = 300, height: int = 200) -> bytes:
    application = b"\xff\xe0\x00\x10JFIF\x00" + bytes(9)
    tables = b"\xff\xc4\x00\x05abc"
    return (
        b"\xff\xd8"
        + application
        + tables
        + b"\xff\xc2\x00\x0b\x08"
        + struct.pack(">HH", height, width)
        + bytes(4)
        + b"\xff\xda\x00\x02scan\xff\xd9"
    )


def build_webp(kind: bytes, payload: bytes) -> bytes:
    data = payload + bytes(12)
    chunks = b"WEBP" + kind + struct.pack("<I", len(data)) + data + bytes(len(data) % 2)
    if kind == b"VP8X":
        chunks += b"VP8 " + bytes(4)
    return b"RIFF" + struct.pack("<I", len(chunks)) + chunks


WEBPS = (
    build_webp(b"VP8X", bytes(4) + (299).to_bytes(3, "little") + (199).to_bytes(3, "little")),
    build_webp(b"VP8L", b"\x2f" + (299 | 199 << 14).to_bytes(4, "little")),
    build_webp(b"VP8 ", bytes(3) + b"\x9d\x01\x2a" + struct.pack("<HH", 300, 200)),
)


def test_logo_is_named_by_its_content() -> None:
    logo, other = parse_logo(build_png()), parse_logo(build_png(2))
    assert logo == parse_logo(build_png())
    assert logo.name != other.name
    assert (len(logo.name), logo.name[-4:], logo.content_type) == (20, ".png", "image/png")
    assert (logo.body, other.body) == (build_png(), build_png(2))


@pytest.mark.parametrize("body", (build_png(300, 200), build_jpeg(), *WEBPS))
def test_kinds_and_sizes_of_logos(body: bytes) -> None:
    assert parse_logo(body).content_type in ("image/png", "image/jpeg", "image/webp")


@pytest.mark.parametrize("body", (build_png(1025), build_png(1, 1025), build_jpeg(3000), build_jpeg(1, 3000)))
def test_a_huge_picture_is_refused_however_small_its_file(body: bytes) -> None:
    with pytest.raises(InvalidAppearance, match="1024 a side"):
        parse_logo(body)


@pytest.mark.parametrize(
    ("body", "words"),
    (
        (b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>', "SVG is not taken"),
        (b"GIF89a" + bytes(40), "neither PNG"),
        (b"", "neither PNG"),
        (b"\x89PNG\r\n\x1a\n", "is the file whole"),
        (build_png()[:40], "is the file whole"),
        (build_png()[:-1], "is the file whole"),
        (build_png(9, 9).replace(b"IDATx", b"IDATy"), "is the file whole"),
        (build_png(9, 9, b"no rows"), "is the file whole"),
        (build_png(9, 9, zlib.compress(bytes(9 * 27))), "is the file whole"),
        (build_jpeg()[:-1], "is the file whole"),
        (WEBPS[1][:-1], "is the file whole"),
        (WEBPS[0][:-8], "is the file whole"),
        (build_png(0), "is the file whole"),
        (build_jpeg()[:20], "is the file whole"),
        (b"\xff\xd8\xff\xe0\x00\x00" * 8, "is the file whole"),
        (WEBPS[0][:20], "is the file whole"),
        (b"\x89PNG\r\n\x1a\n" + bytes(LOGO_BYTES_MAX), "at most 32768"),
    ),
)
def test_what_is_no_logo_is_refused(body: bytes, words: str) -> None:
    with pytest.raises(InvalidAppearance, match=words):
        parse_logo(body)


@given(st.binary(max_size=60), st.sampled_from((b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFFsizeWEBPVP8 ")))
def test_no_bytes_break_the_parser(body: bytes, begin: bytes) -> None:
    try:
        parse_logo(begin + body)
    except InvalidAppearance:
        return


def test_contrast() -> None:
    assert contrast("#000000", "#ffffff") == contrast("#ffffff", "#000000") == 21
    assert round(contrast("#777777", "#ffffff"), 2) == 4.48  # the example of WCAG's understanding document


def test_colours() -> None:
    assert parse_colours("#0B6459", "#FFF") == Colours("#0b6459", "#ffffff")
    assert parse_colours("#ffd700").text == "#000000"
    assert parse_colours("#123").text == "#ffffff"
    with pytest.raises(InvalidAppearance, match=r"4\.48, people need 4\.5"):
        parse_colours("#777777", "#ffffff")
    for text in ("0b6459", "#0b645", "teal", "#0b6459;}", "#٠٠٠", ""):
        with pytest.raises(InvalidAppearance, match="no colour"):
            parse_colours(text)


@given(st.integers(0, 0xFFFFFF))
def test_a_text_colour_is_found_for_any_colour(value: int) -> None:
    colours = parse_colours(f"#{value:06x}")
    assert contrast(*colours) >= CONTRAST_MIN
