"""What the inspector reads: an order's whole trace, and pages of messages that cost the same whatever is stored."""

from datetime import timedelta
from uuid import UUID

import pytest
from msgspec.structs import replace

from tests.storage.build import AT, IDS, build_event, build_merchant, build_message, build_order, build_terminal, put
from tolem.domain.message import Attempt, Fault, Message, MessageState
from tolem.storage import inspection
from tolem.storage.inspection import NEWEST, MessagePage, Wanted
from tolem.storage.store import Store

STATES = tuple(MessageState)


def build_attempt(message: Message, number: int) -> Attempt:
    return Attempt(
        message_id=message.id,
        number=number,
        at=AT + timedelta(seconds=number),
        duration_ms=12,
        status=None,
        error="connection refused",
        fault=Fault.REFUSED,
        address="127.0.0.1:1",
        headers="webhook-id: 1\n",
        response=b"",
    )


async def test_the_trace_of_an_order(store: Store) -> None:
    merchant = build_merchant()
    here, there = build_terminal(merchant), build_terminal(merchant)
    order = build_order("000000007", terminal_id=here.id)
    twin = build_order("000000007", terminal_id=there.id)
    other = build_order("000000008", terminal_id=here.id)
    told = [in_state(build_message(one), MessageState.DELIVERED) for one in (order, order, other)]
    tries = [build_attempt(told[0], 1), build_attempt(told[0], 2), build_attempt(told[1], 1)]
    events = [build_event(order), build_event(order)]
    await put(store, merchant, here, there, order, twin, other, *told, *tries, *events, build_event(other))
    found = await inspection.list_orders_of_invoice(store, "000000007")
    assert sorted(found, key=lambda one: one.id) == [order, twin]
    assert await inspection.list_orders_of_invoice(store, "000000009") == []
    assert await inspection.list_messages_of_order(store, order.id) == told[:2]
    assert await inspection.list_attempts_of_order(store, order.id) == tries
    assert await inspection.list_attempts(store, told[0].id) == tries[:2]
    assert await inspection.list_events(store, order.id) == events


def in_state(message: Message, state: MessageState) -> Message:
    is_due = state in (MessageState.WAITING, MessageState.SENDING)
    lease = (7, AT) if state is MessageState.SENDING else (None, None)
    return replace(message, state=state, due_at=AT if is_due else None, lease_owner=lease[0], leased_until=lease[1])


async def read_all(store: Store, wanted: Wanted, limit: int) -> tuple[list[Message], list[MessagePage]]:
    pages: list[MessagePage] = []
    before: UUID | None = NEWEST
    while before is not None:
        pages.append(await inspection.list_messages(store, wanted, before=before, limit=limit))
        before = pages[-1].next
        assert len(pages) < 100
    return [message for page in pages for message in page.messages], pages


@pytest.mark.parametrize("limit", (1, 7, 500))
async def test_every_list_is_whole_and_newest_first(store: Store, monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    monkeypatch.setattr(inspection, "SCAN_MAX", 10)
    inspection._page.cache_clear()
    orders = [build_order("000000001"), build_order("000000002", terminal_id=IDS.new())]
    stored = [
        in_state(build_message(orders[number % 2], created_at=AT + timedelta(minutes=number)), STATES[number % 5])
        for number in range(40)
    ]
    await put(store, *orders, *stored)
    newest_first = stored[::-1]
    since = AT + timedelta(minutes=15)
    try:
        for states in (STATES, *[(state,) for state in STATES], STATES[:2], STATES[1:3]):
            for terminal_id in (None, orders[0].terminal_id, IDS.new()):
                for at in (None, since):
                    wanted = Wanted(frozenset(states), terminal_id, at)
                    found, pages = await read_all(store, wanted, limit)
                    assert found == [
                        message
                        for message in newest_first
                        if message.state in states
                        and terminal_id in (None, message.terminal_id)
                        and (at is None or message.created_at >= at)
                    ]
                    assert all(len(page.messages) <= limit for page in pages)
    finally:
        inspection._page.cache_clear()


async def test_a_page_looks_at_a_bounded_number_of_rows(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that nobody has among many others: it says where to go on instead of searching to the end."""
    monkeypatch.setattr(inspection, "SCAN_MAX", 10)
    inspection._page.cache_clear()
    order = build_order()
    stored = [in_state(build_message(order), MessageState.DELIVERED) for _ in range(25)]
    await put(store, order, *stored)
    try:
        page = await inspection.list_messages(store, Wanted(frozenset((MessageState.WITHDRAWN,))), limit=5)
        assert page == MessagePage([], stored[15].id)
        dead = await inspection.list_messages(store, Wanted(frozenset((MessageState.DEAD,))), limit=5)
        assert dead == MessagePage([], None)  # an index holds them alone
    finally:
        inspection._page.cache_clear()
