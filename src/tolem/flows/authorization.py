"""Step 5 of a payment: one card attempt is reserved, sent to the acquirer, recorded (see acquiring)."""

import asyncio
import time
from typing import NamedTuple
from uuid import UUID

from tolem.acquirers.base import AcquirerRequest
from tolem.domain.authentication import Authentication
from tolem.domain.card import Card
from tolem.domain.history import PageWithOrder
from tolem.domain.merchant import Terminal
from tolem.domain.order import Order
from tolem.domain.payment import Operation, OperationKind, OperationStatus, Payment, PaymentStatus, advance
from tolem.flows import rounds
from tolem.flows.acquiring import Acquiring
from tolem.ids import rrn
from tolem.storage import keys
from tolem.storage.store import Decision, Uncertain
from tolem.telemetry import log, payments_total

PATIENCE_SECONDS = 3.0
"""The card form's answer waits this long for the outcome, then shows that it is being checked."""


class Reserved(NamedTuple):
    """A prepared attempt."""

    order: Order
    payment: Payment
    operation: Operation


class Authorizations:
    """Runs card attempts."""

    def __init__(self, acquiring: Acquiring) -> None:
        self._acquiring = acquiring

    async def attempt(
        self, page_hash: bytes, card: Card, authentication: Authentication, terminal: Terminal, ip: str
    ) -> PaymentStatus | None:
        """Reserve, call, record. None: it still runs, or the page was not payable any more when it came to reserving.

        Raises what storing raises, if it fails within the payer's patience.
        """
        reserved: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        work = self._attempt(page_hash, card, authentication, terminal, ip, reserved)
        return await self._acquiring.run(work, reserved, PATIENCE_SECONDS)

    async def _attempt(
        self,
        page_hash: bytes,
        card: Card,
        authentication: Authentication,
        terminal: Terminal,
        ip: str,
        ready: "asyncio.Future[None]",
    ) -> PaymentStatus | None:
        started = time.perf_counter()
        reserved = await self._reserve(page_hash, card, authentication, terminal, ip)
        if reserved is None:
            return None
        ready.set_result(None)
        order, payment, operation = reserved
        answer = await self._acquiring.exchange(
            AcquirerRequest(
                key=operation.id,
                kind=operation.kind,
                terminal_id=order.terminal_id,
                amount=operation.amount,
                currency=order.currency,
                stan=operation.stan,
                rrn=operation.rrn,
                at=operation.created_at,
                card=card,
                authentication=authentication,
            )
        )
        recorded = await self._acquiring.record(operation, order.currency, terminal, answer)
        payments_total.labels(recorded.status).inc()
        log.info(
            "payment",
            order=str(order.id),
            payment=str(payment.id),
            status=recorded.status,
            milliseconds=round((time.perf_counter() - started) * 1000),
        )
        return recorded.status

    async def _reserve(
        self, page_hash: bytes, card: Card, authentication: Authentication, terminal: Terminal, ip: str
    ) -> Reserved | None:
        acquiring, ids = self._acquiring, self._acquiring.ids
        at = acquiring.clock.now()
        due_at = acquiring.clock.real_now() + acquiring.first_recovery
        payment_id, operation_id, card_id, stan = ids.new(), ids.new(), ids.card(), ids.stan()

        def decide(found: PageWithOrder | None) -> Decision[Reserved | None]:
            if found is None or not rounds.is_payable(found, at):
                return Decision(None)
            if rounds.attempts_left(found.history, terminal) < 1:
                return Decision(None)
            order = found.history.order
            new = Payment(
                id=payment_id,
                order_id=order.id,
                round_id=order.round_id,
                status=PaymentStatus.NEW,
                amount=order.amount,
                currency=order.currency,
                masked_pan=card.pan.masked,
                brand=card.pan.brand,
                holder=card.holder,
                stan=stan,
                rrn=rrn(at, stan),
                eci=authentication.eci,
                is_authenticated=authentication.is_authenticated,
                ip=ip,
                card_id=card_id,
                created_at=at,
                updated_at=at,
            )
            payment = advance(new, PaymentStatus.AUTHORIZING, at)
            is_hold = terminal.two_stage or order.is_verification
            operation = Operation(
                id=operation_id,
                order_id=order.id,
                payment_id=payment_id,
                kind=OperationKind.AUTHORIZE if is_hold else OperationKind.PURCHASE,
                status=OperationStatus.PREPARED,
                amount=order.amount,
                stan=stan,
                rrn=payment.rrn,
                due_at=due_at,
                created_at=at,
            )
            return Decision(Reserved(order, payment, operation), (payment, operation))

        try:
            return await acquiring.store.change((keys.page_by_hash(page_hash),), decide)
        except Uncertain:
            return await self._find_reserved(page_hash, payment_id, operation_id)

    async def _find_reserved(self, page_hash: bytes, payment_id: UUID, operation_id: UUID) -> Reserved | None:
        """The commit's result is in doubt: reading the operation's id again settles it. Raises if reading fails, too;
        nothing was sent then, and recovery takes up what may be stored."""
        found = await self._acquiring.store.find(keys.page_by_hash(page_hash))
        history = found.history if found else None
        if history is None or operation_id not in history.operations:
            raise LookupError(f"operation {operation_id} was not stored")
        return Reserved(history.order, history.payments[payment_id], history.operations[operation_id])
