"""What a shop installs to be paid through tolem, or through the bank whose protocol it speaks.

A shop asks for a token on its server (`Client.request_token`), gives the object of `build_pay_object` to
`halyk.pay()` on its page (`script_url` is the library's address), and believes nothing but a notification that
`verify_post_link` has accepted. docs/merchants.md walks through the three steps with an example.

Invariant: this package imports nothing of the server, only the standard library and aiohttp; no amount ever passes
through a float.
"""

from tolem.merchant.amount import Amount
from tolem.merchant.client import Client, TemporaryError, TokenError
from tolem.merchant.notification import (
    ExpectedPayment,
    Notification,
    Operation,
    OperationNotification,
    read_invoice_id,
    verify_notification,
    verify_post_link,
)
from tolem.merchant.order import OrderRequest, Token, new_secret_hash
from tolem.merchant.payobject import build_pay_object, script_url
from tolem.merchant.signature import InvalidNotification, verify_signature

__all__ = [
    "Amount",
    "Client",
    "ExpectedPayment",
    "InvalidNotification",
    "Notification",
    "Operation",
    "OperationNotification",
    "OrderRequest",
    "TemporaryError",
    "Token",
    "TokenError",
    "build_pay_object",
    "new_secret_hash",
    "read_invoice_id",
    "script_url",
    "verify_notification",
    "verify_post_link",
    "verify_signature",
]
