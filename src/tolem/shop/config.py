"""What the demo shop needs to know. Built by whoever starts it (`tolem demo`, tests)."""

from dataclasses import dataclass, field
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True, kw_only=True)
class ShopConfig:
    """Addresses and credentials. ValueError for an address that is not http or https."""

    gateway_url: str
    """The gateway as the payer's browser sees it, without a path."""
    gateway_internal_url: str = ""
    """The gateway as the shop's server sees it; empty: the same."""
    shop_url: str
    """The shop as browsers and the gateway see it, without a path."""
    client_id: str
    client_secret: str = field(repr=False)
    terminal_id: str
    webhook_secret: str | None = field(default=None, repr=False)
    """What the terminal's notifications are signed with; None: they are not signed, as the bank's."""
    database: str
    """Path of the shop's own SQLite file, made if missing; `:memory:` forgets everything at the end."""

    def __post_init__(self) -> None:
        for address in (self.gateway_url, self.gateway_internal_url or self.gateway_url, self.shop_url):
            parts = urlsplit(address)
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise ValueError(f"{address!r} is not an http or https address")

    @property
    def token_base_url(self) -> str:
        """Where the shop's server asks for tokens."""
        return self.gateway_internal_url or self.gateway_url

    @property
    def gateway_origin(self) -> str:
        """scheme://host:port of the gateway, for the Content-Security-Policy."""
        return origin_of(self.gateway_url)

    def link(self, path: str) -> str:
        """An absolute address of the shop."""
        return self.shop_url.rstrip("/") + path


def origin_of(address: str) -> str:
    """scheme://host[:port] of an address."""
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc}"
