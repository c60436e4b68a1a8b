"""Money moved by the shop after a payment: capture, void (cancel), refund. Reserve → call → record, as ever.

At most one such operation of a payment is open. A caller that repeats itself joins what is there instead of moving
money again: by its Idempotency-Key, by the refund's own key, by the open operation that it repeats, or, for a day, by
one whose outcome it was not told.
"""

import asyncio
import hashlib
import time
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from msgspec.structs import replace

from tolem.domain.errors import Refusal, Refused
from tolem.domain.history import OrderHistory, RequestKeyWithOrder
from tolem.domain.merchant import Terminal
from tolem.domain.money import InvalidAmount, parse_amount, render_amount
from tolem.domain.order import RequestKey
from tolem.domain.payment import (
    CARD_KINDS,
    OPEN_OPERATIONS,
    Operation,
    OperationKind,
    OperationStatus,
    Payment,
    PaymentStatus,
)
from tolem.flows.access import Access, Bearer
from tolem.flows.acquiring import Acquiring
from tolem.flows.directory import Directory
from tolem.flows.outcome import HOLD_EXPIRED
from tolem.flows.recovery import money_request
from tolem.ids import rrn
from tolem.storage import keys, queries
from tolem.storage.store import Decision
from tolem.telemetry import log, operations_total

REFUND_LEAST = {"KZT": 1_000}
"""Minor units: a refund is at least 10 KZT, or all that is left (docs/protocol.md §7)."""
KEY_LIFETIME = timedelta(days=7)
REPEAT_LIFETIME = timedelta(hours=24)
"""So long a repeat without a key returns the result of an operation whose caller was told "in progress"."""
JOIN_SECONDS = 0.1
"""Gap between two looks at an operation that another caller, or another process, is running."""


class MoneyRequest(NamedTuple):
    """What a shop asks for."""

    kind: OperationKind
    """capture, void or refund."""
    payment_id: UUID
    amount: str | None
    """Decimal text; None: all that there is."""
    external_id: str
    """The shop's own key of a refund; empty: none."""
    idempotency_key: str
    """Empty: none."""
    content: bytes
    """All that was asked for: the same key with other content is refused."""


class MoneyResult(NamedTuple):
    """What became of it."""

    is_settled: bool
    """False: the outcome is not known yet; the status tells it later."""
    is_approved: bool = False
    reason_code: int = 0
    external_id: str = ""


class _Taken(NamedTuple):
    operation: Operation
    currency: str
    is_new: bool


class Operations:
    """Moves money on a shop's word."""

    def __init__(self, acquiring: Acquiring, directory: Directory, access: Access) -> None:
        self._acquiring = acquiring
        self._directory = directory
        self._access = access

    async def move(self, bearer: Bearer, request: MoneyRequest) -> MoneyResult:
        """Captures, voids or refunds. Raises Refused; nothing has changed then."""
        acquiring = self._acquiring
        order_id = await queries.find_order_id(acquiring.store, request.payment_id)
        history = await acquiring.store.find(keys.order_by_id(order_id)) if order_id else None
        if history is None:
            raise Refused(Refusal.NOT_FOUND, "there is no such payment", "id")
        terminal = await self._access.check_money(bearer, history)
        return await acquiring.finish(
            self._move(history.order.id, terminal, request, bearer.merchant.client_id, "shop")
        )

    async def release_hold(self, order_id: UUID, payment_id: UUID) -> MoneyResult:
        """Voids a hold that has expired; nobody asked for it."""
        history = await self._acquiring.store.find(keys.order_by_id(order_id))
        if history is None:
            raise LookupError(f"order {order_id} is not stored")
        terminal = await self._directory.get_terminal(history.order.terminal_id)
        request = MoneyRequest(OperationKind.VOID, payment_id, None, "", "", b"")
        return await self._move(order_id, terminal, request, "", HOLD_EXPIRED)

    async def _move(
        self, order_id: UUID, terminal: Terminal, request: MoneyRequest, client_id: str, cause: str
    ) -> MoneyResult:
        started = time.perf_counter()
        acquiring = self._acquiring
        taken = await self._reserve(order_id, terminal, request, client_id, cause)
        operation = taken.operation
        try:
            if taken.is_new:
                answer = await acquiring.exchange(money_request(operation, terminal, taken.currency))
                await acquiring.record(operation, taken.currency, terminal, answer)
            result = await self._wait(operation, is_new=taken.is_new)
        except Exception as error:
            # Reserved, so it may happen, or has happened: whatever failed since, its caller hears "in progress".
            log.error("operation_interrupted", operation=str(operation.id), kind=operation.kind, exc_info=error)
            result = MoneyResult(is_settled=False, external_id=operation.external_id)
            await self._doubt(operation)
        outcome = "unknown" if not result.is_settled else "approved" if result.is_approved else "declined"
        operations_total.labels(operation.kind, outcome).inc()
        log.info(
            "operation",
            order=str(order_id),
            payment=str(request.payment_id),
            operation=str(operation.id),
            kind=operation.kind,
            outcome=outcome,
            repeated=not taken.is_new,
            milliseconds=round((time.perf_counter() - started) * 1000),
        )
        return result

    async def _reserve(
        self, order_id: UUID, terminal: Terminal, request: MoneyRequest, client_id: str, cause: str
    ) -> _Taken:
        acquiring = self._acquiring
        at = acquiring.clock.now()
        operation_id, stan = acquiring.ids.new(), acquiring.ids.stan()
        due_at = acquiring.clock.real_now() + acquiring.first_recovery
        content_hash = hashlib.sha256(request.content).digest()
        key_hash = hashlib.sha256(f"{client_id}\n{request.idempotency_key}".encode()).digest()

        def decide(history: OrderHistory | None, known: RequestKeyWithOrder | None) -> Decision[_Taken]:
            if history is None:
                raise LookupError(f"order {order_id} is not stored")
            payment = history.payments[request.payment_id]
            if request.idempotency_key and known is not None:
                if known.record.content_hash != content_hash:
                    raise Refused(
                        Refusal.KEY_REUSED, "this Idempotency-Key was used for another request", "Idempotency-Key"
                    )
                return Decision(_Taken(history.operations[known.record.operation_id], payment.currency, False))
            same = find_repeated(history, payment, request, at)
            if same is not None:
                return Decision(_Taken(same, payment.currency, False))
            amount = _check(payment, request, at, cause)
            operation = Operation(
                id=operation_id,
                order_id=order_id,
                payment_id=payment.id,
                kind=request.kind,
                status=OperationStatus.PREPARED,
                amount=amount,
                stan=stan,
                rrn=rrn(at, stan),
                original_id=_original(history, payment).id,
                external_id=request.external_id,
                cause=cause,
                due_at=due_at,
                created_at=at,
            )
            writes: tuple[Operation | RequestKey, ...] = (operation,)
            if request.idempotency_key:
                writes += (
                    RequestKey(
                        hash=key_hash,
                        order_id=order_id,
                        operation_id=operation_id,
                        content_hash=content_hash,
                        expires_at=at + KEY_LIFETIME,
                    ),
                )
            return Decision(_Taken(operation, payment.currency, True), writes)

        named = (keys.order_by_id(order_id), keys.request_key_by_hash(key_hash))
        try:
            return await acquiring.store.change(named, decide)
        except Refused:
            # The key is read before the order is locked: another process may have stored it and moved all there was.
            if not request.idempotency_key or await acquiring.store.find(named[1]) is None:
                raise
            return await acquiring.store.change(named, decide)

    async def _wait(self, operation: Operation, *, is_new: bool) -> MoneyResult:
        """The operation's result, once it is there; unknown if it is not in time, and its caller will hear so."""
        acquiring = self._acquiring
        deadline = asyncio.get_running_loop().time() + (0 if is_new else acquiring.limits.exchange_seconds)
        while True:
            history = await acquiring.store.find(keys.order_by_id(operation.order_id))
            if history is None:
                raise LookupError(f"order {operation.order_id} is not stored")
            now = history.operations[operation.id]
            if now.status not in OPEN_OPERATIONS:
                is_approved = now.status is OperationStatus.APPROVED
                return MoneyResult(True, is_approved, now.reason_code, now.external_id)
            if asyncio.get_running_loop().time() >= deadline:
                await self._doubt(now)
                return MoneyResult(is_settled=False, external_id=now.external_id)
            await asyncio.sleep(JOIN_SECONDS)

    async def _doubt(self, operation: Operation) -> None:
        """Its caller is told "in progress": noted, so that a repeat finds it even after it is settled."""
        at = self._acquiring.clock.now()

        def decide(history: OrderHistory | None) -> Decision[None]:
            now = history.operations[operation.id] if history else None
            if now is None or now.doubted_at is not None:
                return Decision(None)
            return Decision(None, (replace(now, doubted_at=at),))

        await self._acquiring.store.change((keys.order_by_id(operation.order_id),), decide)


def find_repeated(history: OrderHistory, payment: Payment, request: MoneyRequest, at: datetime) -> Operation | None:
    """The operation that a request repeats. Raises Refused(IN_PROGRESS) if another one of the payment is open, and
    KEY_REUSED if the refund's own key was used for another amount."""
    wanted = _wanted(payment, request)
    ours = [o for o in history.operations.values() if o.payment_id == payment.id and o.kind is request.kind]
    if request.external_id:
        for operation in ours:
            if operation.external_id == request.external_id:
                if request.amount is not None and wanted != operation.amount:
                    raise Refused(Refusal.KEY_REUSED, "externalID was used for another amount", "externalID")
                return operation
    open_operation = history.open_operation(payment.id)
    if open_operation is not None:
        is_same_kind = open_operation.kind is request.kind and open_operation.external_id == request.external_id
        # A key of its own is a request of its own: joined, it would be forgotten, and its repeat would move money.
        if is_same_kind and not request.idempotency_key and wanted in (None, open_operation.amount):
            return open_operation
        raise Refused(
            Refusal.IN_PROGRESS, f"a {open_operation.kind} of this payment is in progress; ask for its status first"
        )
    if request.idempotency_key or request.external_id:
        return None
    for operation in sorted(ours, key=lambda o: o.id, reverse=True):
        is_recent = operation.doubted_at is not None and at - operation.doubted_at < REPEAT_LIFETIME
        if is_recent and not operation.external_id and wanted in (None, operation.amount):
            return operation
    return None


def _wanted(payment: Payment, request: MoneyRequest) -> int | None:
    """The amount that a request is about, minor units; None: all, and nothing is left that could be meant."""
    if request.amount is not None and request.kind is not OperationKind.VOID:
        return parse_request_amount(request.amount, payment.currency)
    if request.kind is OperationKind.REFUND:
        return payment.captured - payment.refunded or None
    return payment.authorized


def parse_request_amount(text: str, currency: str) -> int:
    """Decimal text of an API call → minor units. Raises Refused."""
    try:
        amount = parse_amount(text, currency)
    except InvalidAmount as error:
        raise Refused(Refusal.INVALID_REQUEST, str(error), "amount") from error
    if amount == 0:
        raise Refused(Refusal.INVALID_REQUEST, "amount must be above 0", "amount")
    return amount


def _check(payment: Payment, request: MoneyRequest, at: datetime, cause: str) -> int:
    """The amount to move, in minor units. Raises Refused where status or totals forbid it."""
    if request.kind is OperationKind.REFUND:
        return _check_refund(payment, request.amount)
    if payment.status is not PaymentStatus.AUTHORIZED:
        raise Refused(
            Refusal.WRONG_STATE, f"the payment is {payment.status}; only an authorized one can be {_PAST[request.kind]}"
        )
    if request.kind is OperationKind.VOID:
        return payment.authorized
    if payment.authorized == 0:
        raise Refused(Refusal.WRONG_STATE, "a card verification holds nothing that could be captured")
    if payment.hold_expires_at is not None and at >= payment.hold_expires_at and cause != HOLD_EXPIRED:
        raise Refused(Refusal.WRONG_STATE, "the hold has expired and is being released")
    if request.amount is None:
        return payment.authorized
    amount = parse_request_amount(request.amount, payment.currency)
    if amount > payment.authorized:
        raise _above(payment.authorized, payment.currency, "is held")
    return amount


def _check_refund(payment: Payment, text: str | None) -> int:
    if payment.status is not PaymentStatus.CAPTURED:
        raise Refused(Refusal.WRONG_STATE, f"the payment is {payment.status}; only a captured one can be refunded")
    rest = payment.captured - payment.refunded
    amount = rest if text is None else parse_request_amount(text, payment.currency)
    if amount > rest:
        raise _above(rest, payment.currency, "is left")
    if amount < min(rest, REFUND_LEAST.get(payment.currency, 1)):
        raise Refused(Refusal.INVALID_REQUEST, "a refund is at least 10 KZT, or all that is left", "amount")
    return amount


def _above(limit: int, currency: str, words: str) -> Refused:
    text = f"amount is above the {render_amount(limit, currency)} {currency} that {words}"
    return Refused(Refusal.INVALID_REQUEST, text, "amount")


def _original(history: OrderHistory, payment: Payment) -> Operation:
    """The authorize or purchase that made the payment."""
    for operation in history.operations.values():
        if (
            operation.payment_id == payment.id
            and operation.kind in CARD_KINDS
            and operation.status is OperationStatus.APPROVED
        ):
            return operation
    raise LookupError(f"payment {payment.id} has no approved authorize or purchase")


_PAST = {OperationKind.CAPTURE: "captured", OperationKind.VOID: "cancelled"}
