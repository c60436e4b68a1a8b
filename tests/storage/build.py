"""Records and decisions of a realistic payment, for the tests of this room."""

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from msgspec.structs import replace

from tolem.domain.card import Brand
from tolem.domain.history import Event, OrderHistory, PageWithOrder, RequestKeyWithOrder, TokenWithOrder
from tolem.domain.merchant import Merchant, Terminal
from tolem.domain.message import Message, MessageKind, MessageState
from tolem.domain.order import AccessToken, Order, OrderStatus, Page, RequestKey
from tolem.domain.payment import (
    Operation,
    OperationKind,
    OperationStatus,
    Payment,
    PaymentStatus,
    advance,
)
from tolem.ids import Ids
from tolem.storage import keys
from tolem.storage.store import Decision, Store

IDS = Ids()
TERMINAL_ID = UUID("67e34d63-102f-4bd1-898e-370781d0074d")
AT = datetime(2026, 11, 24, 9, 30, 15, 123456, tzinfo=UTC)


def build_order(invoice_id: str = "000000001", **changes: Any) -> Order:
    order = Order(
        id=IDS.new(),
        terminal_id=TERMINAL_ID,
        invoice_id=invoice_id,
        status=OrderStatus.OPEN,
        round_id=IDS.new(),
        amount=10_000,
        currency="KZT",
        secret_hash="JDKCNDDGGDTPSKJD",
        post_link="https://shop.kz/ok",
        created_at=AT,
        updated_at=AT,
    )
    return replace(order, **changes)


def build_token(order: Order | None, name: str = "token") -> AccessToken:
    return AccessToken(
        hash=hashlib.sha256(name.encode()).digest(),
        client_id="test",
        scope="payment",
        terminal_id=TERMINAL_ID,
        order_id=order.id if order else None,
        round_id=order.round_id if order else None,
        expires_at=AT + timedelta(hours=2),
    )


def build_page(order: Order, name: str = "page") -> Page:
    return Page(
        hash=hashlib.sha256(name.encode()).digest(),
        order_id=order.id,
        round_id=order.round_id,
        language="kk",
        expires_at=AT + timedelta(hours=2),
    )


def build_payment(order: Order, **changes: Any) -> Payment:
    payment = Payment(
        id=IDS.new(),
        order_id=order.id,
        round_id=order.round_id,
        status=PaymentStatus.AUTHORIZING,
        amount=order.amount,
        currency=order.currency,
        masked_pan="440043...0128",
        brand=Brand.VISA,
        stan="000001",
        rrn="632909000001",
        card_id=IDS.new(),
        created_at=AT,
        updated_at=AT,
    )
    return replace(payment, **changes)


def build_operation(payment: Payment, **changes: Any) -> Operation:
    operation = Operation(
        id=IDS.new(),
        order_id=payment.order_id,
        payment_id=payment.id,
        kind=OperationKind.PURCHASE,
        status=OperationStatus.PREPARED,
        amount=payment.amount,
        stan=payment.stan,
        rrn=payment.rrn,
        due_at=AT + timedelta(seconds=30),
        created_at=AT,
    )
    return replace(operation, **changes)


def build_request_key(operation: Operation, name: str = "key") -> RequestKey:
    return RequestKey(
        hash=hashlib.sha256(name.encode()).digest(),
        order_id=operation.order_id,
        operation_id=operation.id,
        content_hash=hashlib.sha256(b"content").digest(),
    )


def build_message(order: Order, **changes: Any) -> Message:
    message = Message(
        id=IDS.new(),
        order_id=order.id,
        round_id=order.round_id,
        terminal_id=order.terminal_id,
        payment_id=None,
        kind=MessageKind.SUCCESS,
        url="https://shop.kz/ok",
        host="shop.kz:443",
        body=b'{"amount":100}',
        state=MessageState.WAITING,
        tries=0,
        due_at=AT,
        lease_owner=None,
        leased_until=None,
        created_at=AT,
    )
    return replace(message, **changes)


def build_event(order: Order) -> Event:
    return Event(id=IDS.new(), order_id=order.id, payment_id=None, kind="order_opened", at=AT)


def build_merchant(client_id: str = "test") -> Merchant:
    return Merchant(
        id=IDS.new(),
        client_id=client_id,
        name="Дүкен",
        secret_salt=b"0123456789abcdef",
        secret_hash=b"\x00\xff" * 16,
        created_at=AT,
    )


def build_terminal(merchant: Merchant, **changes: Any) -> Terminal:
    terminal = Terminal(
        id=IDS.new(),
        merchant_id=merchant.id,
        name="Касса 1",
        currencies=("KZT", "USD"),
        link_hosts=("shop.kz", "магазин.kz"),
        frame_hosts=("shop.kz:8443",),
        created_at=AT,
    )
    return replace(terminal, **changes)


def open_order(invoice_id: str) -> Callable[[OrderHistory | None], Decision[UUID]]:
    """A token request: the order of an invoice, new or known."""
    order = build_order(invoice_id)
    event_id = IDS.new()

    def decide(history: OrderHistory | None) -> Decision[UUID]:
        stored = order if history is None else replace(history.order, updated_at=AT)
        event = Event(id=event_id, order_id=stored.id, payment_id=None, kind="token", at=AT)
        return Decision(stored.id, (stored, event))

    return decide


async def put(store: Store, *records: Any) -> None:
    """Stores records, as new ones or, if their order is loaded with them, changed ones."""
    order_ids = {r.order_id for r in records if getattr(r, "order_id", None)}
    loaded = [keys.order_by_id(order_id) for order_id in order_ids]
    loaded += [keys.order_by_id(r.id) for r in records if isinstance(r, Order)]
    await store.change(loaded, lambda *_: Decision(None, records))


async def pay(store: Store, invoice_id: str) -> bool:
    """One payer's way: token, page, card, outcome. False if somebody else pays or has paid."""
    token_hash, page_hash = IDS.new().bytes * 2, IDS.new().bytes * 2
    new = build_order(invoice_id)

    def open_round(history: OrderHistory | None) -> Decision[None]:
        order = new if history is None else history.order
        return Decision(None, (order, replace(build_token(order), hash=token_hash)))

    def open_page(found: TokenWithOrder | None) -> Decision[None]:
        assert found is not None
        assert found.history is not None
        order = replace(found.history.order, opened_at=AT, deadline_at=AT + timedelta(minutes=20))
        return Decision(None, (order, replace(build_page(order), hash=page_hash)))

    await store.change((keys.order_by_invoice(TERMINAL_ID, invoice_id),), open_round)
    await store.change((keys.token_by_hash(token_hash),), open_page)
    payment_id, operation_id, message_id = IDS.new(), IDS.new(), IDS.new()

    def reserve(found: PageWithOrder | None) -> Decision[UUID | None]:
        assert found is not None
        order, history = found.history.order, found.history
        if order.status is not OrderStatus.OPEN or history.open_payment():
            return Decision(None)
        payment = build_payment(order, id=payment_id)
        return Decision(order.id, (payment, build_operation(payment, id=operation_id)))

    order_id = await store.change((keys.page_by_hash(page_hash),), reserve)
    if order_id is None:
        return False

    def record(history: OrderHistory | None) -> Decision[bool]:
        assert history is not None
        order, payment = history.order, history.payments[payment_id]
        operation = history.operations[operation_id]
        if operation.status is not OperationStatus.PREPARED:
            return Decision(True)
        captured = advance(payment, PaymentStatus.CAPTURED, AT, authorized=payment.amount, captured=payment.amount)
        return Decision(
            True,
            (
                replace(order, status=OrderStatus.PAID),
                captured,
                replace(operation, status=OperationStatus.APPROVED, due_at=None, finished_at=AT),
                build_message(order, id=message_id, payment_id=payment_id),
            ),
        )

    return await store.change((keys.order_by_id(order_id),), record)


async def capture_once(store: Store, invoice_id: str, key_name: str) -> UUID | None:
    """One shop's call under a key, which whoever repeats it joins; None: refused, since another call has captured."""
    found = await store.find(keys.order_by_invoice(TERMINAL_ID, invoice_id))
    assert found is not None
    (payment,) = found.payments.values()
    operation = build_operation(payment, kind=OperationKind.CAPTURE, status=OperationStatus.APPROVED, due_at=None)
    request_key = build_request_key(operation, f"{invoice_id} {key_name}")

    def decide(history: OrderHistory | None, known: RequestKeyWithOrder | None) -> Decision[UUID | None]:
        assert history is not None
        if known is not None:
            return Decision(known.record.operation_id)
        if history.operations:
            return Decision(None)
        return Decision(operation.id, (operation, request_key))

    named = (keys.order_by_id(found.order.id), keys.request_key_by_hash(request_key.hash))
    return await store.change(named, decide)
