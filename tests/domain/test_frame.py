"""Who may show the payment page in a frame: exactly the origins of a terminal's hosts."""

import pytest

from tolem.domain.frame import InvalidFrameHost, frame_ancestors, may_frame, parse_frame_host


@pytest.mark.parametrize(
    ("text", "host"),
    (
        ("shop.example", "shop.example"),
        (" Shop.Example ", "shop.example"),
        ("shop.example:443", "shop.example"),
        ("localhost:3000", "localhost:3000"),
        ("127.0.0.1:8701", "127.0.0.1:8701"),
        ("xn--80aswg.xn--p1ai", "xn--80aswg.xn--p1ai"),
    ),
)
def test_a_host_as_it_is_stored(text: str, host: str) -> None:
    assert parse_frame_host(text) == host


@pytest.mark.parametrize(
    "text",
    (
        "",
        "https://shop.example",
        "shop.example/",
        "shop.example/pay",
        "*.shop.example",
        "*",
        "shop example",
        "shop.example; script-src *",
        "'self'",
        "сайт.kz",
        ".shop.example",
        "shop..example",
        "shop.example:0",
        "shop.example:123456",
        "a" * 254,
    ),
)
def test_what_is_no_host_is_refused_in_words_that_help(text: str) -> None:
    with pytest.raises(InvalidFrameHost, match="without scheme or path"):
        parse_frame_host(text)


@pytest.mark.parametrize(
    ("text", "words"),
    (
        ("дүкен.қаз", "; write xn--d1acon18c.xn--80ao21a"),
        ("дүкен.қаз:8443", "; write xn--d1acon18c.xn--80ao21a:8443"),
        ("Дүкен.kz:8443", "; write xn--d1acon18c.kz:8443"),
        ("https://дүкен.қаз", "without scheme or path"),
        ("қ" * 64 + ".kz", r"\(xn--…\)"),
    ),
)
def test_a_name_of_other_letters_is_told_what_to_write(text: str, words: str) -> None:
    with pytest.raises(InvalidFrameHost, match=words + "$"):
        parse_frame_host(text)


def test_a_port_that_does_not_exist_is_refused() -> None:
    assert parse_frame_host("shop.example:65535") == "shop.example:65535"
    with pytest.raises(InvalidFrameHost, match="there is no port 65536, use 1 to 65535"):
        parse_frame_host("shop.example:65536")


def test_production_names_https_only_and_nobody_without_a_list() -> None:
    assert frame_ancestors((), is_sandbox=False) == ()
    assert frame_ancestors(("shop.example", "m.shop.example:8443"), is_sandbox=False) == (
        "https://shop.example",
        "https://m.shop.example:8443",
    )


def test_a_sandbox_lets_any_web_page_until_it_has_a_list() -> None:
    assert frame_ancestors((), is_sandbox=True) == ("http:", "https:")
    assert frame_ancestors(("localhost:3000",), is_sandbox=True) == ("https://localhost:3000", "http://localhost:3000")


@pytest.mark.parametrize(
    ("origin", "hosts", "is_sandbox", "allowed"),
    (
        ("https://shop.example", ("shop.example",), False, True),
        ("https://shop.example:8443", ("shop.example:8443",), False, True),
        ("https://shop.example:8443", ("shop.example",), False, False),
        ("http://shop.example", ("shop.example",), False, False),
        ("http://shop.example", ("shop.example",), True, True),
        ("https://a.shop.example", ("shop.example",), False, False),
        ("https://shop.example.evil.example", ("shop.example",), False, False),
        ("https://shop.example", (), False, False),
        ("http://localhost:3000", (), True, True),
        ("https://evil.example", ("shop.example",), True, False),
        ("null", (), True, False),
        ("", (), True, False),
        ("file://", (), True, False),
        ("https://user@shop.example", (), True, False),
        ("https://shop.example/", (), True, False),
        ('https://shop.example"><b>', (), True, False),
        ("https:", (), True, False),
    ),
)
def test_only_the_very_origin_may(origin: str, hosts: tuple[str, ...], is_sandbox: bool, allowed: bool) -> None:
    assert may_frame(origin, hosts, is_sandbox=is_sandbox) is allowed
