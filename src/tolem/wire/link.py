"""Addresses that a shop names: where notifications go and where the browser returns.

Called wherever the wire carries a link. Invariant: what passes is an absolute http or https address with a host that
every reader of it, browser or sender, understands alike.
"""

import re
from urllib.parse import urlsplit

LINK_CHARS_MAX = 2048
LINK_EXAMPLE = "https://shop.example/thanks"
POST_LINK_EXAMPLE = "https://shop.example/notify"

# A backslash is a slash to a browser and a letter to everyone else: with it the two disagree about the host.
_NEVER_IN_LINK = re.compile(r"[\s\x00-\x20\x7f-\x9f\\]")
# Letters of any script: a shop's host may be Cyrillic. Not urlsplit's hostname: it drops what surrounds brackets.
_HOST_AND_PORT = re.compile(r"(?:\w[\w-]*(?:\.\w[\w-]*)*\.?|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")


def find_link_problem(link: str, example: str = LINK_EXAMPLE) -> str | None:
    """What is wrong with an address, in words that go on after the field's name; None: it may be used. `example`: one
    that would do.

    `javascript:` and every other scheme than http and https is wrong, and so is a user name or password inside.
    """
    if len(link) > LINK_CHARS_MAX:
        return f"has {len(link)} characters, at most {LINK_CHARS_MAX} are allowed"
    if _NEVER_IN_LINK.search(link):
        return "has a space or a backslash; percent-encode it"
    try:
        parts = urlsplit(link)
        is_port_valid = parts.port != 0  # raises past 65535
    except ValueError:
        return f"is no address; pass one such as {example}"
    if parts.scheme not in ("http", "https"):
        return "must begin with https:// or http://"
    if "@" in parts.netloc:
        return "must not carry a user name or password"
    if not _HOST_AND_PORT.fullmatch(parts.netloc) or not is_port_valid:
        return f"has no valid host; pass an address such as {example}"
    return None
