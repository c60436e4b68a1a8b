"""Money moved by the shop after a payment: capture, void (cancel), refund. Reserve → call → record, as ever.

At most one such operation of a payment is open. A caller that repeats itself joins what is there instead of moving
money again: by its Idempotency-Key, by the refund's own key, by the open operation that it repeats, or, for a day, by
an approved one whose result it was not told. Until its caller has been told, every operation without a key counts as
untold.
"""

import asyncio
import hashlib
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple, TypeAlias
from uuid import UUID

from msgspec.structs import replace

from tolem.domain.errors import Refusal, Refused
from tolem.domain.history import OrderHistory, RequestKeyWithOrder
from tolem.domain.merchant import Terminal
from tolem.domain.order import RequestKey
from tolem.domain.payment import OPEN_OPERATIONS, Operation, OperationKind, OperationStatus
from tolem.flows import movements
from tolem.flows.access import Access, Bearer
from tolem.flows.acquiring import Acquiring
from tolem.flows.directory import Directory
from tolem.flows.movements import Draft, MoneyRequest
from tolem.flows.outcome import HOLD_EXPIRED
from tolem.flows.recovery import money_request
from tolem.storage import keys, queries
from tolem.storage.store import Decision, Key, Uncertain
from tolem.telemetry import log, operations_total

__all__ = ["MoneyRequest", "MoneyResult", "Operations"]

SHOP = "shop"
"""`Operation.cause` of what a shop asked for."""
JOIN_SECONDS = 0.1
"""Gap between two looks at an operation that another caller, or another process, is running."""
TELLING = timedelta(seconds=1)
"""So long after an operation's end a repeat waits for its first caller to be told: what comes then is no repeat."""
TELLING_GAP_SECONDS = 0.02


class MoneyResult(NamedTuple):
    """What became of it."""

    is_settled: bool
    """False: the outcome is not known yet; the status tells it later."""
    is_approved: bool = False
    reason_code: int = 0
    external_id: str = ""
    untold: Operation | None = None
    """To be noted by `Operations.note_told` once the caller has this; None: nothing is to be noted."""


class _BeingTold(Exception):
    """The operation that a call would repeat has ended just now: its own caller may be told at this moment."""


class _Taken(NamedTuple):
    """What a request came to when it was reserved."""

    operation: Operation
    currency: str
    is_new: bool
    """False: it is another call's, whose result counts for this one, too."""


_Decide: TypeAlias = Callable[..., Decision[_Taken]]
"""From the order's history, and what else was asked for, to what is reserved or joined. Raises Refused."""


class Operations:
    """Moves money on a shop's word."""

    def __init__(self, acquiring: Acquiring, directory: Directory, access: Access) -> None:
        self._acquiring = acquiring
        self._directory = directory
        self._access = access

    async def move(self, bearer: Bearer, request: MoneyRequest) -> MoneyResult:
        """Captures, voids or refunds. Raises Refused or Overloaded: nothing has changed and nothing was asked then.

        Whoever has given the result to its caller then says so with `note_told`.
        """
        acquiring = self._acquiring
        order_id = await queries.find_order_id(acquiring.store, request.payment_id)
        history = await acquiring.store.find(keys.order_by_id(order_id)) if order_id else None
        if history is None:
            raise Refused(Refusal.NOT_FOUND, "there is no such payment", "id")
        terminal = await self._access.check_money(bearer, history)
        client_id = bearer.merchant.client_id
        return await acquiring.finish(self._move(history.order.id, terminal, request, client_id))

    async def note_told(self, result: MoneyResult) -> None:
        """The result has been sent to its caller, so another call without a key is no repeat of it any more, unless
        somebody was told "in progress". If this is lost, a repeat within a day gets the result, and moves nothing."""
        if result.untold is not None:
            await self._acquiring.finish(self._set_doubt(result.untold, None))

    async def release_hold(self, order_id: UUID, payment_id: UUID) -> MoneyResult:
        """Voids a hold that has expired; nobody asked for it, so it repeats nothing. Raises Refused if it is not due,
        or another operation of the payment is open."""
        history = await self._acquiring.store.find(keys.order_by_id(order_id))
        if history is None:
            raise LookupError(f"order {order_id} is not stored")
        terminal = await self._directory.get_terminal(history.order.terminal_id)
        draft = self._draft()

        def decide(history: OrderHistory) -> Decision[_Taken]:
            payment = history.payments[payment_id]
            movements.check_release(history, payment, draft.at)
            operation = movements.prepare(
                history, payment, OperationKind.VOID, payment.authorized, draft, cause=HOLD_EXPIRED
            )
            return Decision(_Taken(operation, payment.currency, True), (operation,))

        return await self._run(order_id, terminal, draft, (keys.order_by_id(order_id),), decide)

    async def _move(self, order_id: UUID, terminal: Terminal, request: MoneyRequest, client_id: str) -> MoneyResult:
        loop = asyncio.get_running_loop()
        patient_until = loop.time() + TELLING.total_seconds()
        while True:
            try:
                is_patient = loop.time() < patient_until
                return await self._try(order_id, terminal, request, client_id, is_patient=is_patient)
            except _BeingTold:
                await asyncio.sleep(TELLING_GAP_SECONDS)

    async def _try(
        self, order_id: UUID, terminal: Terminal, request: MoneyRequest, client_id: str, *, is_patient: bool
    ) -> MoneyResult:
        """As `move`. Raises _BeingTold only if it `is_patient`."""
        draft = self._draft()
        is_keyed = bool(request.idempotency_key)
        content_hash = hashlib.sha256(request.content).digest()
        key_hash = hashlib.sha256(f"{client_id}\n{request.idempotency_key}".encode()).digest()
        named: tuple[Key[Any], ...] = (keys.order_by_id(order_id),)
        if is_keyed:
            named += (keys.request_key_by_hash(key_hash),)

        def remember(operation: Operation) -> tuple[RequestKey, ...]:
            """Whatever a key was answered with, its repeat is."""
            if not is_keyed:
                return ()
            request_key = RequestKey(
                hash=key_hash,
                order_id=order_id,
                operation_id=operation.id,
                content_hash=content_hash,
            )
            return (request_key,)

        def decide(history: OrderHistory, known: RequestKeyWithOrder | None = None) -> Decision[_Taken]:
            payment = history.payments[request.payment_id]
            if known is not None:
                if known.record.content_hash != content_hash:
                    raise Refused(
                        Refusal.KEY_REUSED, "this Idempotency-Key was used for another request", "Idempotency-Key"
                    )
                return Decision(_Taken(history.operations[known.record.operation_id], payment.currency, False))
            same = movements.find_repeated(history, payment, request, draft.at)
            if same is not None:
                if is_patient and movements.may_be_being_told(same, draft.at, TELLING):
                    raise _BeingTold
                return Decision(_Taken(same, payment.currency, False), remember(same))
            amount = movements.check(payment, request, draft.at)
            operation = movements.prepare(
                history,
                payment,
                request.kind,
                amount,
                draft,
                cause=SHOP,
                external_id=request.external_id,
                is_keyed=is_keyed,
                # Until its caller is told: whatever ends this process before that, a repeat finds the operation.
                doubted_at=None if is_keyed or request.external_id else draft.at,
            )
            return Decision(_Taken(operation, payment.currency, True), (operation, *remember(operation)))

        return await self._run(order_id, terminal, draft, named, decide)

    async def _run(
        self,
        order_id: UUID,
        terminal: Terminal,
        draft: Draft,
        named: Sequence[Key[Any]],
        decide: _Decide,
    ) -> MoneyResult:
        """Reserve, call and record, or wait for whoever does. Raises what `decide` raises, or Overloaded, as long as
        nothing is
        reserved; afterwards whatever fails is answered with "in progress"."""
        acquiring, started = self._acquiring, time.perf_counter()
        taken = await self._reserve(order_id, draft, named, decide)
        if taken is None:
            return MoneyResult(is_settled=False)
        operation = taken.operation
        try:
            result = await (self._perform(taken, terminal) if taken.is_new else self._wait(operation))
        except Exception as error:
            log.error("operation_interrupted", operation=str(operation.id), kind=operation.kind, exc_info=error)
            result = MoneyResult(is_settled=False, external_id=operation.external_id)
        if not taken.is_new and not result.is_settled:
            await self._set_doubt(operation, acquiring.clock.now())
        outcome = "unknown" if not result.is_settled else "approved" if result.is_approved else "declined"
        if taken.is_new:
            operations_total.labels(operation.kind, outcome).inc()
        log.info(
            "operation",
            order=str(order_id),
            payment=str(operation.payment_id),
            operation=str(operation.id),
            kind=operation.kind,
            outcome=outcome,
            repeated=not taken.is_new,
            milliseconds=round((time.perf_counter() - started) * 1000),
        )
        return result

    async def _reserve(self, order_id: UUID, draft: Draft, named: Sequence[Key[Any]], decide: _Decide) -> _Taken | None:
        """None: it could not be learned whether it is stored. Nothing was sent; recovery does, if it is there."""
        store = self._acquiring.store

        def decide_once(history: OrderHistory | None, *others: Any) -> Decision[_Taken]:
            if history is None:
                raise LookupError(f"order {order_id} is not stored")
            stored = history.operations.get(draft.id)
            if stored is not None:
                is_new = stored.asked_until == draft.until  # otherwise recovery was faster
                return Decision(_Taken(stored, history.payments[stored.payment_id].currency, is_new))
            return decide(history, *others)

        try:
            return await store.change(named, decide_once)
        except Uncertain:
            log.warning("reservation_uncertain", operation=str(draft.id))
        try:
            # The lost commit held the order's lock until it ended. Whoever has the lock sees what became of it: the
            # operation is found by its id, or it never comes and is reserved now.
            return await store.change(named, decide_once)
        except (Refused, _BeingTold):
            raise
        except Exception as error:
            log.error("reservation_unknown", operation=str(draft.id), exc_info=error)
            return None

    async def _perform(self, taken: _Taken, terminal: Terminal) -> MoneyResult:
        """The exchange, and its outcome as it is stored."""
        operation, currency, _ = taken
        answer = await self._acquiring.exchange(money_request(operation, terminal, currency), operation.asked_until)
        await self._acquiring.record(operation, currency, terminal, answer)
        return await self._look(operation)

    async def _wait(self, operation: Operation) -> MoneyResult:
        """The result of another call's operation, or that it is not there in time."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._acquiring.limits.exchange_seconds
        result = await self._look(operation)
        while not result.is_settled and loop.time() < deadline:
            await asyncio.sleep(JOIN_SECONDS)
            result = await self._look(operation)
        return result

    async def _look(self, operation: Operation) -> MoneyResult:
        """The operation's result as it is stored."""
        history = await self._acquiring.store.find(keys.order_by_id(operation.order_id))
        if history is None:
            raise LookupError(f"order {operation.order_id} is not stored")
        now = history.operations[operation.id]
        if now.status in OPEN_OPERATIONS:
            return MoneyResult(is_settled=False, external_id=now.external_id)
        is_approved = now.status is OperationStatus.APPROVED
        untold = now if is_approved and movements.is_untold(now) else None
        return MoneyResult(True, is_approved, now.reason_code, now.external_id, untold)

    async def _set_doubt(self, operation: Operation, doubted_at: datetime | None) -> None:
        """Notes that a caller was told "in progress", or (None) that one has been told the result, unless somebody was
        told "in progress" meanwhile."""

        def decide(history: OrderHistory | None) -> Decision[None]:
            now = history.operations[operation.id] if history else None
            if now is None or (doubted_at is None and now.doubted_at != operation.doubted_at):
                return Decision(None)
            return Decision(None, (replace(now, doubted_at=doubted_at),))

        try:
            await self._acquiring.store.change((keys.order_by_id(operation.order_id),), decide)
        except Exception as error:  # no reason to keep from its caller what is known
            log.error("doubt_not_stored", operation=str(operation.id), exc_info=error)

    def _draft(self) -> Draft:
        acquiring = self._acquiring
        return Draft(acquiring.ids.new(), acquiring.ids.stan(), acquiring.clock.now(), acquiring.claim_until())
