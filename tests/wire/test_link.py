"""Addresses a shop may name."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tolem.domain.errors import Refused
from tolem.wire.link import LINK_CHARS_MAX, find_link_problem
from tolem.wire.token import parse_token_request


@pytest.mark.parametrize(
    "link",
    (
        "https://shop.example/thanks?order=1#top",
        "http://127.0.0.1:8701/post",
        "http://[::1]:8701/",
        "HTTPS://Shop.Example",
        "https://дүкен.қаз/төлем",
        "http://localhost",
    ),
)
def test_address_that_may_be_used(link: str) -> None:
    assert find_link_problem(link) is None


@pytest.mark.parametrize(
    ("link", "word"),
    (
        ("javascript:alert(1)", "must begin"),
        ("data:text/html,x", "must begin"),
        ("//shop.example/", "must begin"),
        ("shop.example", "must begin"),
        ("https://", "no valid host"),
        ("https:///path", "no valid host"),
        ("https://shop.example:99999/", "no address"),
        ("https://shop.example:0/", "no valid host"),
        ("https://bank.example\\@shop.example/", "backslash"),
        ("https://user:secret@shop.example/", "user name"),
        ("https://shop example/", "space"),
        ("https://[::1/", "no address"),
        (f"https://shop.example/{'a' * LINK_CHARS_MAX}", "characters"),
    ),
)
def test_address_that_may_not(link: str, word: str) -> None:
    assert word in (find_link_problem(link) or "")


@given(st.text() | st.text().map("https://".__add__))
def test_nothing_escapes(link: str) -> None:
    problem = find_link_problem(link)
    assert problem is None or problem


def test_a_refusal_shows_an_address_of_the_same_use() -> None:
    assert find_link_problem("https://[") == "is no address; pass one such as https://shop.example/thanks"
    body = b"grant_type=client_credentials&client_id=a&client_secret=b&postLink=https://"
    with pytest.raises(Refused, match=r"postLink has no valid host; pass an address such as .*/notify"):
        parse_token_request("application/x-www-form-urlencoded", body)
