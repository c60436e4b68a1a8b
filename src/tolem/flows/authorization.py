"""Step 5: reserve → call → record. One exchange with the acquirer for one card attempt, or for its recovery.

The operation is committed as `prepared` before the call and its outcome after it; no transaction is open around the
call. The three run in a task of their own: a browser that goes away cannot stop it, and closing waits for it.
"""

import asyncio
import time
from collections.abc import Callable
from datetime import timedelta
from typing import NamedTuple
from uuid import UUID

from tolem.acquirers.base import Acquirer, AcquirerAnswer, AcquirerRequest
from tolem.clock import Clock
from tolem.domain.authentication import Authentication
from tolem.domain.card import Card
from tolem.domain.history import OrderHistory, PageWithOrder
from tolem.domain.merchant import Terminal
from tolem.domain.order import Order
from tolem.domain.payment import Operation, OperationKind, OperationStatus, Payment, PaymentStatus, advance
from tolem.flows import outcome, rounds
from tolem.flows.outcome import Recorded
from tolem.flows.rounds import Stamp
from tolem.ids import Ids, rrn
from tolem.notifications.notifier import Notifier
from tolem.storage import keys
from tolem.storage.store import Decision, Store, Uncertain
from tolem.telemetry import log, payments_total

PATIENCE_SECONDS = 3.0
"""The card form's answer waits this long for the outcome, then shows that it is being checked."""


class Limits(NamedTuple):
    """Real time around an exchange."""

    exchange_seconds: float = 10.0
    """An acquirer that has not answered by then leaves the outcome unknown."""
    margin_seconds: float = 5.0
    """Recovery waits this much longer, so that it never meets an exchange that is still running."""


class Reserved(NamedTuple):
    """A prepared attempt."""

    order: Order
    payment: Payment
    operation: Operation


class Attempted(NamedTuple):
    """What became of an attempt within the payer's patience."""

    status: PaymentStatus | None
    """None: still running."""


class Authorizations:
    """Runs card attempts."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        ids: Ids,
        acquirer: Acquirer,
        notifier: Notifier,
        limits: Limits,
    ) -> None:
        self._store = store
        self._clock = clock
        self._ids = ids
        self._acquirer = acquirer
        self._notifier = notifier
        self._limits = limits
        self._running: set[asyncio.Task[Attempted | None]] = set()

    def stamp(self) -> Stamp:
        """Time and ids for one decision."""
        return Stamp(self._clock.now(), self._ids.new(), self._ids.new(), self._notifier.lease())

    async def attempt(
        self, page_hash: bytes, card: Card, authentication: Authentication, terminal: Terminal, ip: str
    ) -> Attempted | None:
        """Reserve, call, record. None: the page was not payable any more when it came to reserving.

        Raises what storing raises, if it fails within the payer's patience.
        """
        task = asyncio.ensure_future(self._attempt(page_hash, card, authentication, terminal, ip))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        done, _ = await asyncio.wait((task,), timeout=PATIENCE_SECONDS)
        if done:
            return task.result()
        task.add_done_callback(_log_failure)
        return Attempted(None)

    async def close(self, timeout_seconds: float) -> None:
        """Waits for running attempts; what is not done by then is recovered after the next start."""
        if self._running:
            await asyncio.wait(self._running, timeout=timeout_seconds)

    async def exchange(self, request: AcquirerRequest) -> AcquirerAnswer | str:
        """The acquirer's answer, or in words why there is no certain one. Never raises what the acquirer raises."""
        try:
            async with asyncio.timeout(self._limits.exchange_seconds):
                return await self._acquirer.send(request)
        except TimeoutError:
            return f"no answer within {self._limits.exchange_seconds:g} s"
        except Exception as error:
            log.warning("acquirer_failed", operation=str(request.key), kind=request.kind, exc_info=error)
            return f"the exchange failed: {type(error).__name__}"

    async def record(
        self, operation: Operation, terminal: Terminal, answer: AcquirerAnswer | str, of: str = "answer"
    ) -> Recorded:
        """What came back becomes the payment's status, and the message about it leaves."""
        stamp = self.stamp()
        real_now = self._clock.real_now()
        is_certain = not isinstance(answer, str) and outcome.is_certain(answer, operation)
        cause = answer if isinstance(answer, str) else f"{of}: {answer.verdict} {answer.reason_code}"
        due_at = outcome.recovery_due(real_now, operation.tries, timedelta(seconds=self._limits.margin_seconds))

        def decide(history: OrderHistory | None) -> Decision[Recorded]:
            history = _stored(history)
            if is_certain and not isinstance(answer, str):
                decision = outcome.record_answer(history, operation.id, answer, terminal, stamp)
                if not decision.answer.must_reverse:
                    return decision
                unknown = outcome.record_unknown(
                    history, operation.id, real_now, "approved after the round ended: to be reversed", stamp
                )
                return Decision(decision.answer, unknown.writes)
            return outcome.record_unknown(history, operation.id, due_at, cause, stamp)

        return await self.settle(operation.order_id, decide)

    async def settle(self, order_id: UUID, decide: Callable[[OrderHistory | None], Decision[Recorded]]) -> Recorded:
        """Commits an outcome; once it is stored, its message is sent."""
        recorded = await self._store.change((keys.order_by_id(order_id),), decide)
        if recorded.message is not None:
            self._notifier.send(recorded.message)
        return recorded

    async def _attempt(
        self, page_hash: bytes, card: Card, authentication: Authentication, terminal: Terminal, ip: str
    ) -> Attempted | None:
        started = time.perf_counter()
        reserved = await self._reserve(page_hash, card, authentication, terminal, ip)
        if reserved is None:
            return None
        order, payment, operation = reserved
        answer = await self.exchange(
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
        recorded = await self.record(operation, terminal, answer)
        payments_total.labels(recorded.status).inc()
        log.info(
            "payment",
            order=str(order.id),
            payment=str(payment.id),
            status=recorded.status,
            milliseconds=round((time.perf_counter() - started) * 1000),
        )
        return Attempted(recorded.status)

    async def _reserve(
        self, page_hash: bytes, card: Card, authentication: Authentication, terminal: Terminal, ip: str
    ) -> Reserved | None:
        at = self._clock.now()
        wait = timedelta(seconds=self._limits.exchange_seconds + self._limits.margin_seconds)
        due_at = self._clock.real_now() + wait
        payment_id, operation_id, card_id = self._ids.new(), self._ids.new(), self._ids.card()
        stan = self._ids.stan()

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
            return await self._store.change((keys.page_by_hash(page_hash),), decide)
        except Uncertain:
            return await self._find_reserved(page_hash, payment_id, operation_id)

    async def _find_reserved(self, page_hash: bytes, payment_id: UUID, operation_id: UUID) -> Reserved | None:
        """The commit's result is in doubt: reading the operation's id again settles it. Raises if reading fails, too;
        nothing was sent then, and recovery takes up what may be stored."""
        found = await self._store.find(keys.page_by_hash(page_hash))
        history = found.history if found else None
        if history is None or operation_id not in history.operations:
            raise LookupError(f"operation {operation_id} was not stored")
        return Reserved(history.order, history.payments[payment_id], history.operations[operation_id])


def _log_failure(task: "asyncio.Task[Attempted | None]") -> None:
    """An attempt that outlived the payer's patience has nobody else to tell of its fault."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("payment_failed", exc_info=error)


def _stored(history: OrderHistory | None) -> OrderHistory:
    if history is None:
        raise LookupError("the order of an operation is not stored")
    return history
