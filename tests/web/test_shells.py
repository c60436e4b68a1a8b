"""Packed pages: compressed without compressing, and never together with what came from outside."""

import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tolem.web.shells import Html, PageBytes, Shell, escape, join, pack_filled

STATIC = "<p>the same words in every page, " * 40
SHELL = Shell(f"\x02head\x03{STATIC}\x02name\x03, 100 % \x02name\x03</p>\x02tail\x03")


def build_page(name: str) -> PageBytes:
    return SHELL.fill_page({"head": Html(""), "name": escape(name), "tail": Html("")})


@given(st.text())
def test_the_packed_page_is_the_page(name: str) -> None:
    page = build_page(name)
    assert gzip.decompress(page.gzipped()) == page
    assert page == SHELL.fill({"head": Html(""), "name": escape(name), "tail": Html("")}).encode("utf-8", "replace")


@pytest.mark.parametrize("size", (0, 1, 65_534, 65_535, 65_536, 200_000))
def test_a_text_of_any_length_is_packed(size: int) -> None:
    page = build_page("x" * size)
    assert gzip.decompress(page.gzipped()) == page


def test_static_text_is_compressed_and_what_comes_from_outside_is_not() -> None:
    short, long = (len(build_page(name).gzipped()) for name in ("x", "x" + STATIC[:30]))
    assert len(build_page("").gzipped()) < len(STATIC) / 5
    assert long - short == 2 * len(escape(STATIC[:30]))  # a guess that is right costs as much as any other


@given(st.lists(st.text(), max_size=3))
def test_a_shell_in_a_gap_is_packed_as_it_would_be_alone(names: list[str]) -> None:
    within = join(SHELL.fill({"head": Html(""), "name": escape(name), "tail": Html("")}) for name in names)
    page = Shell("<ul>\x02rows\x03</ul>").fill_page({"rows": within})
    assert page == b"<ul>" + b"".join(build_page(name) for name in names) + b"</ul>"
    assert gzip.decompress(page.gzipped()) == page
    outside = sum(2 * len(escape(name).encode("utf-8", "replace")) for name in names)
    assert len(page.gzipped()) - outside < 100 + len(names) * len(STATIC) / 5


@given(st.text(), st.integers(0, 3))
def test_what_repeats_itself_is_packed_as_one(name: str, times: int) -> None:
    filled = SHELL.fill({"head": Html(""), "name": escape(name), "tail": Html("")})
    rows, page = join([filled] * times), Shell("<ul>\x02rows\x03</ul>")
    packed = page.fill_page({"rows": pack_filled(rows)})
    assert gzip.decompress(packed.gzipped()) == packed == page.fill_page({"rows": rows})
    assert len(packed.gzipped()) < 150 + len(build_page(name).gzipped())
