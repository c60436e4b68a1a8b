"""What the pay object says must be what its token says: the object came through a browser, the token's request did not.

Pure checks, called by checkout.py in the change that opens a page.
"""

from datetime import datetime

from tolem.domain.errors import Refusal, Refused
from tolem.domain.history import OrderHistory, TokenWithOrder
from tolem.domain.money import InvalidAmount, parse_amount
from tolem.domain.order import Order
from tolem.wire.pay_object import PayObject

VERIFICATION = "cardVerification"
"""paymentType of a card's verification, whose amount is 0."""


def check_token(found: TokenWithOrder | None, now: datetime) -> OrderHistory:
    """What the token was issued for. Raises Refused where it opens nothing (any more)."""
    if found is None or found.record.expires_at <= now:
        raise Refused(
            Refusal.INVALID_TOKEN, "auth: the access token is unknown or has expired: request a new one", "auth"
        )
    if found.history is None:
        raise Refused(
            Refusal.INVALID_TOKEN,
            "auth: this is a service token; request a token with invoiceID, amount, currency and terminal",
            "auth",
        )
    if found.record.round_id != found.history.order.round_id:
        raise Refused(Refusal.INVALID_TOKEN, "auth: a newer token of this order has replaced this one", "auth")
    return found.history


def check_agreement(order: Order, wish: PayObject) -> None:
    """What the object leaves out can't differ. Raises Refused, which names the field."""
    if wish.invoice_id and wish.invoice_id != order.invoice_id:
        raise _differs("invoiceId", wish.invoice_id, order.invoice_id)
    if wish.terminal_id and wish.terminal_id.lower() != str(order.terminal_id):
        raise _differs("terminal", wish.terminal_id, str(order.terminal_id))
    if wish.currency and wish.currency.upper() != order.currency:
        raise _differs("currency", wish.currency, order.currency)
    if order.customer and wish.account_id and wish.account_id != order.account_id:
        raise _differs("accountId", wish.account_id, "another account")
    if wish.amount:
        try:
            amount = parse_amount(wish.amount, order.currency)
        except InvalidAmount as error:
            raise Refused(Refusal.INVALID_REQUEST, str(error), "amount") from error
        if amount != order.amount:
            raise _differs("amount", wish.amount, "another amount")
    if (wish.payment_type == VERIFICATION) != order.is_verification:
        raise Refused(
            Refusal.INVALID_REQUEST,
            "amount 0 goes with paymentType cardVerification, and the other way round",
            "amount",
        )


def _differs(field: str, named: str, expected: str) -> Refused:
    return Refused(
        Refusal.DIFFERS,
        f"{field} is {named[:64]!r} in the object, but the token was issued for {expected}",
        field,
    )
