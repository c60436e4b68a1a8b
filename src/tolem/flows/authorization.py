"""Step 5 of a payment: one card attempt is reserved, sent to the acquirer, recorded (see acquiring).

An attempt that needed no step of its payer is reserved together with its payment, in one change. One whose payer was
with the issuer is reserved by the change that takes its card away: whatever wakes it, and however often, it is sent
once.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from msgspec.structs import replace

from tolem.acquirers.base import AcquirerRequest
from tolem.domain.authentication import Authentication, AuthenticationStep, PendingAuthentication, eci_of
from tolem.domain.card import Card
from tolem.domain.history import PageWithOrder, PendingWithOrder, SealedCardWithOrder
from tolem.domain.merchant import Terminal
from tolem.domain.order import Order, OrderStatus
from tolem.domain.payment import (
    OPEN_STATUSES,
    SUCCESSFUL_STATUSES,
    Operation,
    OperationKind,
    OperationStatus,
    Payment,
    PaymentStatus,
    advance,
)
from tolem.domain.saved_card import SavedCard
from tolem.domain.sealed_card import SealedCard
from tolem.flows import rounds
from tolem.flows.acquiring import Acquiring
from tolem.flows.limits import Attempt, AttemptLimits
from tolem.flows.saved_cards import SavedCards, Saving, agree, keys_of
from tolem.ids import rrn
from tolem.storage import keys
from tolem.storage.store import Decision, Key, Uncertain
from tolem.telemetry import log, payments_total

PATIENCE_SECONDS = 3.0
"""The card form's answer waits this long for the outcome, then shows that it is being checked."""


class Entry(NamedTuple):
    """A card as it was typed, with the ids of the payment that may come of it: chosen before anything is decided."""

    page_hash: bytes
    card: Card
    ip: str
    payment_id: UUID
    card_id: UUID
    stan: str
    saving: Saving | None = None
    """What saving the card needs, if its payer wishes it."""


class Reserved(NamedTuple):
    """A prepared attempt."""

    order: Order
    payment: Payment
    operation: Operation


def build_payment(entry: Entry, order: Order, at: datetime) -> Payment:
    """The new payment of a card."""
    pan = entry.card.pan
    return Payment(
        id=entry.payment_id,
        order_id=order.id,
        round_id=order.round_id,
        status=PaymentStatus.NEW,
        amount=order.amount,
        currency=order.currency,
        masked_pan=pan.masked,
        brand=pan.brand,
        holder=entry.card.holder,
        stan=entry.stan,
        rrn=rrn(at, entry.stan),
        ip=entry.ip,
        card_id=entry.card_id,
        created_at=at,
        updated_at=at,
    )


def note_result(payment: Payment, authentication: Authentication) -> Payment:
    """The payment with what 3-D Secure came to."""
    return replace(
        payment,
        eci=eci_of(authentication, payment.brand),
        trans_status=authentication.trans_status,
        trans_status_reason=authentication.trans_status_reason,
    )


def end_step(
    pending: PendingAuthentication, sealed: SealedCardWithOrder | None, at: datetime
) -> tuple[PendingAuthentication | SealedCard, ...]:
    """What the end of an authentication writes, whatever the end: it is due no more, and its card is gone."""
    ended = replace(pending, step=AuthenticationStep.ENDED, deadline_at=None)
    return (ended, replace(sealed.record, sealed=None, expires_at=at)) if sealed else (ended,)


class Authorizations:
    """Runs card attempts."""

    def __init__(self, acquiring: Acquiring, limits: AttemptLimits, cards: SavedCards) -> None:
        self._acquiring = acquiring
        self._limits = limits
        self._cards = cards

    async def attempt(self, entry: Entry, authentication: Authentication, terminal: Terminal) -> PaymentStatus | None:
        """Reserve a new payment, call, record. None: it still runs, or the page was not payable any more when it came
        to reserving.

        Raises what storing raises, if it fails within the payer's patience.
        """
        prepare = self._preparing(terminal)
        at = self._acquiring.clock.now()

        def decide(found: PageWithOrder | None, known: SavedCard | None = None) -> Decision[Reserved | None]:
            if found is None or not rounds.may_attempt(found, terminal, at):
                return Decision(None)
            order = found.history.order
            payment, saving = agree(entry.saving, entry.card, build_payment(entry, order, at), order, known, at)
            reserved = prepare(order, note_result(payment, authentication), at)
            return Decision(reserved, (reserved.payment, reserved.operation, *saving))

        loaded = (keys.page_by_hash(entry.page_hash), *keys_of(entry.saving))
        return await self._run(loaded, decide, entry.card, authentication, terminal, PATIENCE_SECONDS)

    async def go_on(
        self,
        payment_id: UUID,
        card: Card,
        authentication: Authentication,
        terminal: Terminal,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> PaymentStatus | None:
        """The same for a payment whose payer has passed. None, too, if somebody else has taken it further."""
        prepare = self._preparing(terminal)
        at = self._acquiring.clock.now()

        def decide(found: PendingWithOrder | None, sealed: SealedCardWithOrder | None) -> Decision[Reserved | None]:
            if found is None or found.record.deadline_at is None or at >= found.record.deadline_at:
                return Decision(None)
            order, payment = found.history.order, found.history.payments[payment_id]
            is_current = order.status is OrderStatus.OPEN and order.round_id == payment.round_id
            if payment.status is not PaymentStatus.AUTHENTICATING or not is_current:
                return Decision(None)
            reserved = prepare(order, note_result(payment, authentication), at)
            writes = (reserved.payment, reserved.operation, *end_step(found.record, sealed, at))
            return Decision(reserved, writes)

        loaded = (keys.authentication_of(payment_id), keys.sealed_card_of(payment_id))
        return await self._run(loaded, decide, card, authentication, terminal, patience_seconds)

    async def _run(
        self,
        loaded: Sequence[Key[Any]],
        decide: Callable[..., Decision[Reserved | None]],
        card: Card,
        authentication: Authentication,
        terminal: Terminal,
        patience_seconds: float,
    ) -> PaymentStatus | None:
        ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        work = self._attempt(loaded, decide, card, authentication, terminal, ready)
        return await self._acquiring.run(work, ready, patience_seconds)

    async def _attempt(
        self,
        loaded: Sequence[Key[Any]],
        decide: Callable[..., Decision[Reserved | None]],
        card: Card,
        authentication: Authentication,
        terminal: Terminal,
        ready: "asyncio.Future[None]",
    ) -> PaymentStatus | None:
        started = time.perf_counter()
        reserved = await self._reserve(loaded, decide)
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
                authentication=replace(authentication, eci=payment.eci),
            ),
            operation.asked_until,
        )
        recorded = await self._acquiring.record(operation, order.currency, terminal, answer)
        if payment.saves_card and recorded.status not in OPEN_STATUSES:
            await self._cards.settle_soon(payment.id, payment.rrn, is_approved=recorded.status in SUCCESSFUL_STATUSES)
        payments_total.labels(recorded.status).inc()
        log.info(
            "payment",
            order=str(order.id),
            payment=str(payment.id),
            status=recorded.status,
            milliseconds=round((time.perf_counter() - started) * 1000),
        )
        if recorded.status is PaymentStatus.DECLINED and not isinstance(answer, str):
            attempted = Attempt(self._limits.fingerprint(card.pan), payment.ip, order.terminal_id)
            await self._limits.count(attempted, answer.reason_code)
        return recorded.status

    def _preparing(self, terminal: Terminal) -> Callable[[Order, Payment, datetime], Reserved]:
        """How an operation is prepared, its id and its due time chosen now."""
        acquiring = self._acquiring
        operation_id = acquiring.ids.new()
        until = acquiring.claim_until()

        def prepare(order: Order, payment: Payment, at: datetime) -> Reserved:
            is_hold = terminal.two_stage or order.is_verification
            operation = Operation(
                id=operation_id,
                order_id=order.id,
                payment_id=payment.id,
                kind=OperationKind.AUTHORIZE if is_hold else OperationKind.PURCHASE,
                status=OperationStatus.PREPARED,
                amount=order.amount,
                stan=payment.stan,
                rrn=payment.rrn,
                due_at=until,
                asked_until=until,
                created_at=at,
            )
            return Reserved(order, advance(payment, PaymentStatus.AUTHORIZING, at), operation)

        return prepare

    async def _reserve(
        self, loaded: Sequence[Key[Any]], decide: Callable[..., Decision[Reserved | None]]
    ) -> Reserved | None:
        decided: list[Reserved] = []

        def remember(*found: Any) -> Decision[Reserved | None]:
            decision = decide(*found)
            if decision.answer is not None:
                decided[:] = [decision.answer]
            return decision

        try:
            return await self._acquiring.store.change(loaded, remember)
        except Uncertain:
            if not decided:
                raise
            return await self._find_reserved(loaded[0], decided[0])

    async def _find_reserved(self, key: Key[Any], decided: Reserved) -> Reserved | None:
        """The commit's result is in doubt: reading the operation's id again settles it. Raises if reading fails, too;
        nothing was sent then, and recovery takes up what may be stored."""
        found = await self._acquiring.store.find(key)
        operation_id = decided.operation.id
        if found is None or operation_id not in found.history.operations:
            raise LookupError(f"operation {operation_id} was not stored")
        history = found.history
        return Reserved(history.order, history.payments[decided.payment.id], decided.operation)
