"""The demo shop: a small tea and bread shop that sells through the gateway, to see a payment from the shop's side.

`tolem demo` runs it; shop developers read it as an example. It uses tolem.merchant as any shop would and nothing of
the server. Invariant: an order is paid or declined because a verified notification said so, never because a browser
came back.
"""

from tolem.shop.app import create_app
from tolem.shop.config import ShopConfig

__all__ = ["ShopConfig", "create_app"]
