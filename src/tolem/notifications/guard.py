"""Where notifications may go. Outside the sandbox: only https, and only to public addresses.

`check_link` is for the flows, when a token or pay object names an address. It can't know what a name will resolve to
later, so the sender's connector checks every address of the name, and once more the very one it connects to: a name
that changes its mind between check and use gains nothing.
"""

import re
import socket
import threading
from asyncio import Future, Semaphore, get_running_loop
from collections.abc import Sequence
from contextlib import suppress
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from urllib.parse import urlsplit

from aiohttp import AddrInfoType
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

LINK_LENGTH_MAX = 2048

LOOKUPS_MAX = 512
"""Names being resolved at one time; aiohttp asks for each name only once. Many, since a name whose servers are dead is
looked up for half a minute, and may not keep the names of others waiting meanwhile."""

_GLOBAL_UNICAST = IPv6Network("2000::/3")
_NAT64 = IPv6Network("64:ff9b::/96")
_NEVER = (
    IPv6Network("2001::/32"),  # Teredo: an IPv4 address in disguise
    IPv6Network("2002::/16"),  # 6to4: the same
    IPv6Network("3fff::/20"),  # documentation, RFC 9637
)

_RELAYS = IPv4Network("192.88.99.0/24")
"""6to4 relays (RFC 7526): what is sent there is sent on to whatever the packet names."""
_ISATAP = 0x0000_5EFE
"""The middle of an ISATAP address (RFC 5214 §6.1), whose last 32 bits are an IPv4 address; the two bits for universal
and group addresses may be set."""
_ISATAP_BITS = 0xFCFF_FFFF

_Found = Sequence[tuple[int, int, int, str, tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]]]


class AddressRefused(OSError):
    """The guard does not let us connect there; says where in words."""


def is_public(address: str) -> bool:
    """True for an IP address that any host on the internet may reach; a wrapped IPv4 address counts as that one."""
    try:
        ip = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(ip, IPv6Address):
        if ip.ipv4_mapped is not None:
            ip = ip.ipv4_mapped
        elif ip in _NAT64:
            ip = IPv4Address(int(ip) & 0xFFFF_FFFF)
        elif ip not in _GLOBAL_UNICAST or any(ip in network for network in _NEVER) or _is_isatap(ip):
            return False
    if isinstance(ip, IPv4Address) and ip in _RELAYS:
        return False
    return ip.is_global and not (ip.is_multicast or ip.is_reserved)


def _is_isatap(ip: IPv6Address) -> bool:
    return (int(ip) >> 32) & _ISATAP_BITS == _ISATAP


def check_link(url: str, *, is_sandbox: bool) -> str | None:
    """Why `url` can't be a notification address, in words for the shop's developer; None if it can."""
    if len(url) > LINK_LENGTH_MAX:
        return f"the address is longer than {LINK_LENGTH_MAX} characters"
    if re.search(r"[\x00-\x20\x7f-\xa0\u2028\u2029\ud800-\udfff\\]", url):
        return "the address holds a space, a backslash or a control character"
    try:
        parsed = URL(url)
        host, port = parsed.raw_host, parsed.port
    except ValueError:
        return "the address is malformed"
    if parsed.scheme not in (("http", "https") if is_sandbox else ("https",)):
        return "the address must begin with " + ("http:// or https://" if is_sandbox else "https://")
    if not host or not port:
        return "the address names no host" if not host else "the port must be 1 to 65535"
    if "@" in urlsplit(url).netloc:
        return "the address must not hold a user name or password"
    return _check_host(host, is_sandbox)


def host_of(url: str) -> str:
    """`host:port` of an address in lower case, the port always named; empty if it has none.

    Links are checked when a shop names them. One that slipped through must not cost the outcome that is being
    committed: it becomes a message whose tries say what is wrong with its address.
    """
    try:
        parsed = URL(url)
        host, port = parsed.raw_host, parsed.port
    except ValueError:
        return ""
    if not host or port is None:
        return ""
    return f"[{host}]:{port}" if ":" in host else f"{host.rstrip('.')}:{port}"


def _check_host(host: str, is_sandbox: bool) -> str | None:
    """The same for its host, as yarl gives it: lower case, IDNA, without brackets."""
    last = host.rstrip(".").rpartition(".")[2]
    if ":" in host or re.fullmatch(r"[0-9]+|0x[0-9a-f]*", last):
        # A host that ends in a number is an IPv4 address (WHATWG URL); only its usual form is taken.
        try:
            ip_address(host.partition("%")[0])
        except ValueError:
            return "the host is neither a name nor an IP address in its usual form"
        return None if is_sandbox or is_public(host) else "the address is not public"
    labels = host.rstrip(".").split(".")
    if len(host) > 253 or not all(re.fullmatch(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?", label) for label in labels):
        return "the host is not a valid name"
    return "the address is not public" if not is_sandbox and labels[-1] == "localhost" else None


def open_guarded_socket(info: AddrInfoType) -> socket.socket:
    """A socket for the address about to be connected to, which need not have passed the resolver (IP addresses do not).
    Raises AddressRefused if it is not public."""
    family, kind, protocol, _, address = info
    if not is_public(str(address[0])):
        raise AddressRefused(f"the address {address[0]} is not public")
    return socket.socket(family, kind, protocol)


class Resolver(AbstractResolver):
    """Resolves names on threads of its own, one for each lookup.

    A name whose servers are dead holds its thread for half a minute: the loop's few threads, which also store data,
    must not wait for that, and neither must the end of the process (the threads are daemons).
    """

    def __init__(self, *, public_only: bool) -> None:
        self._public_only = public_only
        self._free = Semaphore(LOOKUPS_MAX)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """All addresses of the name. Raises OSError if it has none, AddressRefused if one isn't public and must be."""
        found = []
        for found_family, _, protocol, _, address in await self._look_up(host, port, family):
            text = str(address[0])
            if self._public_only and not is_public(text):
                raise AddressRefused(f"{host} is {text}, which is not public")
            if len(address) == 4 and address[3]:
                text = f"{text.partition('%')[0]}%{address[3]}"  # a link-local address names its interface
            found.append(
                ResolveResult(
                    hostname=host,
                    host=text,
                    port=port,
                    family=found_family,
                    proto=protocol,
                    flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
                )
            )
        return found

    async def close(self) -> None:
        """Nothing to end: a lookup under way finds nobody waiting."""

    async def _look_up(self, host: str, port: int, family: int) -> _Found:
        await self._free.acquire()
        loop = get_running_loop()
        answer: Future[_Found] = loop.create_future()

        def finish(found: _Found, error: OSError | None) -> None:
            self._free.release()
            if answer.done():
                return  # its caller was cancelled
            if error:
                answer.set_exception(error)
            else:
                answer.set_result(found)

        def look_up() -> None:
            found: _Found = ()
            error = None
            try:
                found = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)
            except OSError as exc:
                error = exc
            except UnicodeError:  # a label that no name can have
                error = socket.gaierror(socket.EAI_NONAME, "not a valid name")
            with suppress(RuntimeError):  # the loop is closed, nobody waits
                loop.call_soon_threadsafe(finish, found, error)

        try:
            threading.Thread(target=look_up, name="resolver", daemon=True).start()
        except RuntimeError:
            self._free.release()
            raise
        return await answer
