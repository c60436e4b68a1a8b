"""Step 9: a shop asks how an order or a payment stands. Reads only.

A token that was issued for an order tells that order, whatever its scope. Any other token tells its client's orders.
"""

from typing import NamedTuple
from uuid import UUID

from tolem.domain.errors import Refusal, Refused
from tolem.domain.history import OrderHistory
from tolem.domain.order import Order
from tolem.domain.payment import OPEN_STATUSES, SUCCESSFUL_STATUSES, Payment
from tolem.flows.access import Access, Bearer
from tolem.storage import keys, queries
from tolem.storage.store import Store
from tolem.wire.status import ResultCode, WireStatus, order_status, payment_status


class Found(NamedTuple):
    """An order, and the attempt by which it is told."""

    order: Order
    payment: Payment | None
    """None: the round has no attempt yet."""
    status: WireStatus


Answer = Found | ResultCode
"""What was found, or why nothing is told."""

_OTHER_ORDER = (
    "this token was issued for another order and tells only that one; request one without invoiceID and amount"
)


class Statuses:
    """Answers questions about orders and payments."""

    def __init__(self, store: Store, access: Access) -> None:
        self._store = store
        self._access = access

    async def by_invoice(self, bearer: Bearer, invoice_id: str) -> Answer:
        """The order of that number at the token's terminal. Raises Refused(FORBIDDEN)."""
        if bearer.history is not None:
            if bearer.history.order.invoice_id != invoice_id:
                raise Refused(Refusal.FORBIDDEN, _OTHER_ORDER, "invoiceId")
            return _tell_order(bearer.history)
        terminal_id = bearer.token.terminal_id
        if terminal_id is None:
            return ResultCode.NO_TERMINAL
        if await self._access.find_own_terminal(bearer, terminal_id) is None:
            return ResultCode.FOREIGN_TERMINAL
        history = await self._store.find(keys.order_by_invoice(terminal_id, invoice_id))
        return ResultCode.NO_SUCH_INVOICE if history is None else _tell_order(history)

    async def by_payment(self, bearer: Bearer, payment_id: UUID) -> Answer:
        """One attempt. The payment names its terminal, so the token needs none. Raises Refused(FORBIDDEN)."""
        if bearer.history is not None:
            if payment_id not in bearer.history.payments:
                raise Refused(Refusal.FORBIDDEN, _OTHER_ORDER, "id")
            return _tell_payment(bearer.history, payment_id)
        order_id = await queries.find_order_id(self._store, payment_id)
        history = await self._store.find(keys.order_by_id(order_id)) if order_id else None
        if history is None:
            return ResultCode.NO_SUCH_INVOICE
        terminal_id = history.order.terminal_id
        if await self._access.find_own_terminal(bearer, terminal_id) is None:
            return ResultCode.FOREIGN_TERMINAL
        if bearer.token.terminal_id not in (None, terminal_id):
            return ResultCode.WRONG_TERMINAL
        return _tell_payment(history, payment_id)


def counting_payment(history: OrderHistory) -> Payment | None:
    """The attempt that counts: the successful one, else the open one, of the current round first; else its last.

    What failed in an earlier round does not speak for the current one, once that one's page was opened. Until then a
    shop that asks for the same amount with a new token is told how the older one ended.
    """
    round_id = history.order.round_id
    latest_first = sorted(history.payments.values(), key=lambda p: (p.round_id == round_id, p.id), reverse=True)
    for statuses in (SUCCESSFUL_STATUSES, OPEN_STATUSES):
        for payment in latest_first:
            if payment.status in statuses:
                return payment
    order = history.order
    if order.opened_at is None and latest_first and latest_first[0].amount == order.amount:
        return latest_first[0]
    return history.last_payment()


def _tell_order(history: OrderHistory) -> Found:
    payment = counting_payment(history)
    return Found(history.order, payment, order_status(history.order, payment))


def _tell_payment(history: OrderHistory, payment_id: UUID) -> Found:
    payment = history.payments[payment_id]
    return Found(history.order, payment, payment_status(payment))
