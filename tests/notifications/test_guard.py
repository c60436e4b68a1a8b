"""Where notifications may go, and where not."""

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tolem.notifications.guard import AddressRefused, Resolver, check_link, host_of, is_public, open_guarded_socket

PUBLIC = (
    "8.8.8.8",
    "193.41.88.1",
    "2a00:1450:4001:81b::200e",
    "::ffff:8.8.8.8",
    "64:ff9b::8.8.8.8",
    "192.88.98.1",
    "192.88.100.1",
    "2a00:1450:4001:81b:1:5efe:808:808",  # no ISATAP: the subnet's own numbers
)
NOT_PUBLIC = (
    "0.0.0.0",  # noqa: S104 - an address to refuse, nothing is bound
    "127.0.0.1",
    "127.255.0.9",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "100.64.0.1",  # carrier-grade NAT
    "169.254.169.254",  # metadata of clouds
    "192.0.2.1",
    "198.18.0.1",
    "203.0.113.9",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::7f00:1",  # IPv4-compatible, long gone
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::169.254.169.254",
    "64:ff9b:1::808:808",
    "2001::1",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",  # Teredo: a client behind a NAT
    "2001:0:a9fe:a9fe::5601:101",  # Teredo: private server and client
    "2002:7f00:1::",
    "2002:a9fe:a9fe::1",  # 6to4
    "2002:0808:0808::1",
    "192.88.99.1",  # 6to4's relays
    "192.88.99.255",
    "::ffff:192.88.99.1",
    "64:ff9b::192.88.99.1",
    "2a00:1450:4001:81b:0:5efe:10.0.0.1",  # ISATAP
    "2a00:1450:4001:81b:200:5efe:8.8.8.8",
    "2a00:1450:4001:81b:300:5efe:169.254.169.254",
    "fe80::5efe:10.0.0.1",
    "2001:db8::1",
    "3fff::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
    "127.1",
    "2130706433",
    "shop.kz",
    "",
)


@pytest.mark.parametrize("address", PUBLIC)
def test_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "url",
    (
        "https://shop.kz/notify",
        "https://SHOP.kz:8443/notify?order=1&x=%2F#part",
        "https://8.8.8.8/notify",
        "https://[2a00:1450:4001:81b::200e]/",
        "https://дүкен.қаз/төлем",
        "https://under_score.shop.kz/",
        "https://shop.kz./",
        "https://shop.kz#@evil.kz/",
        "https://shop.kz?@evil.kz",
        "https://shop.kz/" + "a" * 2032,
    ),
)
def test_links_for_everywhere(url: str) -> None:
    assert check_link(url, is_sandbox=False) is None
    assert check_link(url, is_sandbox=True) is None


@pytest.mark.parametrize(
    "url",
    (
        "http://shop.kz/notify",
        "http://localhost:8701/notify",
        "http://127.0.0.1:8701/notify",
        "https://127.0.0.1/",
        "https://[::1]/",
        "https://10.0.0.1/",
        "https://[::ffff:10.0.0.1]/",
        "https://[64:ff9b::7f00:1]/",
        "https://[::ffff:0:7f00:1]/",
        "https://\N{FULLWIDTH DIGIT ONE}\N{FULLWIDTH DIGIT TWO}\N{FULLWIDTH DIGIT SEVEN}.0.0.1/",
        "https://127\N{IDEOGRAPHIC FULL STOP}0\N{IDEOGRAPHIC FULL STOP}0\N{IDEOGRAPHIC FULL STOP}1/",
        "https://\N{FULLWIDTH LATIN SMALL LETTER L}ocalhost/",
        "https://localhost./",
        "https://shop.localhost/",
        "http://web:8000/paid",
    ),
)
def test_links_for_the_sandbox_only(url: str) -> None:
    assert check_link(url, is_sandbox=True) is None
    assert check_link(url, is_sandbox=False)


@pytest.mark.parametrize(
    "url",
    (
        "",
        "shop.kz",
        "//shop.kz/x",
        "/x",
        "https://",
        "https:///x",
        "javascript:alert(1)",
        "file:///etc/passwd",
        "ftp://shop.kz/",
        "unix://shop.kz/",
        "https://user@shop.kz/",
        "https://user:secret@shop.kz/",
        "https://@shop.kz/",
        "https://shop.kz:0/",
        "https://shop.kz:99999/",
        "https://shop.kz:x/",
        "https://shop.kz/a b",
        "https://shop.kz/\r\nx: y",
        "https://shop.kz/\x00",
        "https://shop.kz/\u2028",
        "https://shop.kz\\@evil.kz/",
        "https://shop..kz/",
        "https://-shop.kz/",
        "https://sh*p.kz/",
        "https://" + "a" * 64 + ".kz/",
        "https://" + "a." * 130 + "kz/",
        "https://2130706433/",
        "https://127.1/",
        "https://0x7f.1/",
        "https://0x7f000001/",
        "https://017700000001/",
        "https://0300.0250.0.1/",
        "https://0/",
        "https://shop.kz:443@evil.kz/",
        "https://127.0.0.1%2f@shop.kz/",
        "https://%6c%6fcalhost/",
        "https://xn--/",
        "https://[::1/",
        "https://shop.kz/" + "a" * 2033,
    ),
)
def test_links_for_nowhere(url: str) -> None:
    for sandbox in (False, True):
        words = check_link(url, is_sandbox=sandbox)
        assert words
        assert words.isprintable()


@given(st.text() | st.text().map("https://".__add__))
def test_no_text_breaks_the_check(url: str) -> None:
    assert check_link(url, is_sandbox=True) is None or check_link(url, is_sandbox=False) is not None


@pytest.mark.parametrize(
    ("url", "host"),
    (
        ("https://Shop.KZ/a", "shop.kz:443"),
        ("https://shop.kz./a", "shop.kz:443"),
        ("http://shop.kz", "shop.kz:80"),
        ("http://127.0.0.1:8701/x?y", "127.0.0.1:8701"),
        ("http://[::1]:8701/", "[::1]:8701"),
        ("https://дүкен.қаз/", "xn--d1acon18c.xn--80ao21a:443"),
        ("https://", ""),
        ("nonsense", ""),
        ("http://shop.kz:99999/", ""),
    ),
)
def test_the_host_of_an_address(url: str, host: str) -> None:
    assert host_of(url) == host


def test_the_address_connected_to_is_checked() -> None:
    for address in ("127.0.0.1", "::ffff:10.0.0.1", "127.1"):
        with pytest.raises(AddressRefused, match="not public"):
            open_guarded_socket((socket.AF_INET, socket.SOCK_STREAM, 0, "", (address, 443)))
    open_guarded_socket((socket.AF_INET, socket.SOCK_STREAM, 0, "", ("8.8.8.8", 443))).close()


async def test_a_name_is_refused_if_one_of_its_addresses_is_private(monkeypatch: pytest.MonkeyPatch) -> None:
    def look_up(*_: object) -> list[tuple[int, int, int, str, tuple[str, int]]]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 443)) for address in ("8.8.8.8", "10.0.0.1")]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    assert [found["host"] for found in await Resolver(public_only=False).resolve("shop.kz", 443)] == [
        "8.8.8.8",
        "10.0.0.1",
    ]
    with pytest.raises(AddressRefused, match=r"shop\.kz is 10\.0\.0\.1"):
        await Resolver(public_only=True).resolve("shop.kz", 443)


@pytest.mark.parametrize("name", ("does-not-exist.invalid", "a" * 70 + ".kz", "a..b"))
async def test_a_name_without_addresses_is_an_os_error(name: str) -> None:
    with pytest.raises(socket.gaierror):
        await Resolver(public_only=False).resolve(name, 443)
