"""Whose pages may show the payment page in a frame: the hosts of a terminal, and the origins that they stand for.

Called by flows.checkout when a page is opened, and by flows.administration when the hosts are set. The browser enforces
it (`frame-ancestors`); what a page says of itself only chooses the page that is told the outcome.
"""

import re
from collections.abc import Sequence

_HOST = re.compile(r"(?=.{1,253}(?::|$))[a-z0-9-]+(?:\.[a-z0-9-]+)*(?::[1-9][0-9]{0,4})?", re.ASCII)
_ORIGIN = re.compile(r"(https?)://([^/]+)", re.ASCII)
PORT_MAX = 65_535
_ANY_SHOP = ("http:", "https:")


class InvalidFrameHost(ValueError):
    """Says what to change, in English, for an operator."""


def parse_frame_host(text: str) -> str:
    """`shop.example` or `shop.example:8443` as an operator writes it → as it is stored. Raises InvalidFrameHost."""
    host = text.strip().lower().removesuffix(":443")
    if not _HOST.fullmatch(host):
        raise InvalidFrameHost(
            f"frame host {text!r}: a host name, with its port if it has one of its own, without scheme or path"
            + _ascii_form(host)
        )
    port = host.partition(":")[2]
    if port and int(port) > PORT_MAX:
        raise InvalidFrameHost(f"frame host {text!r}: there is no port {port}, use 1 to {PORT_MAX}")
    return host


def frame_ancestors(hosts: Sequence[str], *, is_sandbox: bool) -> tuple[str, ...]:
    """Sources of Content-Security-Policy. A sandbox without a list lets any web page frame; http counts there only."""
    if not hosts:
        return _ANY_SHOP if is_sandbox else ()
    schemes = ("https", "http") if is_sandbox else ("https",)
    return tuple(f"{scheme}://{host}" for host in hosts for scheme in schemes)


def may_frame(origin: str, hosts: Sequence[str], *, is_sandbox: bool) -> bool:
    """True if a page of `origin` (as browsers write it) may show the payment page."""
    match = _ORIGIN.fullmatch(origin)
    if match is None or not _HOST.fullmatch(match[2]):
        return False
    allowed = frame_ancestors(hosts, is_sandbox=is_sandbox)
    return origin in allowed or f"{match[1]}:" in allowed


def _ascii_form(host: str) -> str:
    """What to write for a name of other letters: its form in the domain name system. Empty where that is no way out."""
    name, colon, port = host.partition(":")
    try:
        written = name.encode("idna").decode() + colon + port
    except UnicodeError:
        return "" if host.isascii() else ", in the ASCII form that the domain name system has (xn--…)"
    return f"; write {written}" if written != host and _HOST.fullmatch(written) else ""
