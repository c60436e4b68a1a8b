"""Why an order is unpaid, told from its records: every state of the chain, its end, and what to do about it."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from msgspec.structs import replace

from tolem.domain.authentication import TransStatus
from tolem.domain.card import Brand
from tolem.domain.delivery_story import SENT_AGAIN, TRY_INTERRUPTED, advise
from tolem.domain.history import Event
from tolem.domain.message import Attempt, Fault, Message, MessageKind, MessageState
from tolem.domain.order import Order, OrderStatus
from tolem.domain.order_story import OUTCOME_UNKNOWN, ROUND_OPENED, tell_story
from tolem.domain.payment import Operation, OperationKind, OperationStatus, Payment, PaymentStatus
from tolem.domain.story import Advice, Delivery, Fact, Line, Mark, Money, Story, Trace

AT = datetime(2026, 11, 24, 9, 30, tzinfo=UTC)
DEADLINE = AT + timedelta(minutes=20)
ROUND, EARLIER_ROUND = UUID(int=200), UUID(int=100)


def build_order(**changes: Any) -> Order:
    return replace(
        Order(
            id=UUID(int=1),
            terminal_id=UUID(int=2),
            invoice_id="000000001",
            status=OrderStatus.OPEN,
            round_id=ROUND,
            amount=10_000,
            currency="KZT",
            post_link="https://shop.kz/ok",
            opened_at=AT,
            deadline_at=DEADLINE,
            created_at=AT,
            updated_at=AT,
        ),
        **changes,
    )


def build_payment(number: int, status: PaymentStatus, **changes: Any) -> Payment:
    is_taken = status is PaymentStatus.CAPTURED
    return replace(
        Payment(
            id=UUID(int=1000 + number),
            order_id=UUID(int=1),
            round_id=ROUND,
            status=status,
            amount=10_000,
            currency="KZT",
            authorized=10_000 if is_taken else 0,
            captured=10_000 if is_taken else 0,
            masked_pan="440043...0128",
            brand=Brand.VISA,
            stan="000001",
            rrn="632909000001",
            approval_code="421907" if is_taken else "",
            eci="05",
            trans_status=TransStatus.AUTHENTICATED,
            card_id=UUID(int=5),
            created_at=AT,
            updated_at=AT,
        ),
        **changes,
    )


def build_operation(payment: Payment, status: OperationStatus, **changes: Any) -> Operation:
    return replace(
        Operation(
            id=UUID(int=payment.id.int + 1000),
            order_id=payment.order_id,
            payment_id=payment.id,
            kind=OperationKind.PURCHASE,
            status=status,
            amount=payment.amount,
            stan=payment.stan,
            rrn=payment.rrn,
            due_at=None,
            created_at=AT,
            finished_at=AT,
        ),
        **changes,
    )


def build_message(state: MessageState, number: int = 1, **changes: Any) -> Message:
    return replace(
        Message(
            id=UUID(int=9000 + number),
            order_id=UUID(int=1),
            round_id=ROUND,
            terminal_id=UUID(int=2),
            payment_id=UUID(int=1001),
            kind=MessageKind.SUCCESS,
            url="https://shop.kz/ok",
            host="shop.kz:443",
            body=b"{}",
            state=state,
            tries=0,
            due_at=None,
            lease_owner=None,
            leased_until=None,
            created_at=AT,
        ),
        **changes,
    )


def build_attempt(number: int, status: int | None = None, fault: Fault | None = None, response: bytes = b"") -> Attempt:
    return Attempt(
        message_id=UUID(int=9001),
        number=number,
        at=AT + timedelta(minutes=number),
        duration_ms=15,
        status=status,
        error="" if fault is None else "in words",
        fault=fault,
        address="203.0.113.7:443",
        response=response,
    )


def build_event(kind: str, detail: str = "", at: datetime = AT, **changes: Any) -> Event:
    return replace(
        Event(id=UUID(int=7), order_id=UUID(int=1), payment_id=None, kind=kind, detail=detail, at=at), **changes
    )


def tell(
    order: Order,
    payments: tuple[Payment, ...] = (),
    operations: tuple[Operation, ...] = (),
    events: tuple[Event, ...] = (),
    deliveries: tuple[Delivery, ...] = (),
    now: datetime = AT,
) -> Story:
    trace = Trace(order, payments, operations, events, deliveries, attempts_max=3)
    return tell_story(trace, now, lambda code: f"reason {code}")


def facts(story: Story) -> list[Fact]:
    return [line.fact for line in story.lines]


def line_of(story: Story, fact: Fact) -> Line:
    (line,) = [line for line in story.lines if line.fact is fact]
    return line


def paid(deliveries: tuple[Delivery, ...], *, events: tuple[Event, ...] = (), **changes: Any) -> Story:
    payment = build_payment(1, PaymentStatus.CAPTURED)
    operation = build_operation(payment, OperationStatus.APPROVED)
    order = build_order(status=OrderStatus.PAID, **changes)
    return tell(order, (payment,), (operation,), events, deliveries)


def test_the_page_was_never_opened() -> None:
    story = tell(build_order(opened_at=None, deadline_at=None))
    assert facts(story) == [Fact.TOKEN_ISSUED, Fact.PAGE_NOT_OPENED]
    assert story.headline.fact is Fact.ORDER_OPEN
    assert story.headline.advice is Advice.CALL_PAY
    assert story.headline.values["asked"] == Money(10_000, "KZT")


def test_the_page_did_not_open() -> None:
    refusal = "amount is '101' in the object, but the token was issued for another amount"
    story = tell(build_order(opened_at=None, deadline_at=None, page_refusal=refusal, page_refused_at=AT))
    assert facts(story) == [Fact.TOKEN_ISSUED, Fact.PAGE_REFUSED]
    assert (story.headline.advice, story.headline.quote) == (Advice.MEND_PAGE, refusal)
    later = tell(build_order(page_refusal=refusal, page_refused_at=AT))
    assert facts(later) == [Fact.TOKEN_ISSUED, Fact.PAGE_OPENED, Fact.PAGE_REFUSED, Fact.NO_CARD]
    assert later.headline.advice is Advice.MEND_PAGE


def test_the_payer_has_not_entered_a_card() -> None:
    story = tell(build_order())
    assert facts(story) == [Fact.TOKEN_ISSUED, Fact.PAGE_OPENED, Fact.NO_CARD]
    assert story.headline.advice is Advice.WAIT_FOR_PAYER
    assert story.lines[-1].values["deadline"] == DEADLINE
    late = tell(build_order(), now=DEADLINE)
    assert (late.lines[-1].fact, late.headline.advice) == (Fact.OVERDUE, Advice.WAIT_A_MOMENT)


def test_a_declined_card_leaves_attempts() -> None:
    payment = build_payment(1, PaymentStatus.DECLINED, eci="06", trans_status=TransStatus.ATTEMPTED)
    declined = build_operation(payment, OperationStatus.DECLINED, reason_code=484)
    story = tell(build_order(), (payment,), (declined,))
    assert facts(story)[2:] == [Fact.CARD_ENTERED, Fact.AUTHENTICATION_TRIED, Fact.DECLINED, Fact.MAY_TRY_AGAIN]
    assert line_of(story, Fact.DECLINED).values == {"code": 484, "reason": "reason 484"}
    assert line_of(story, Fact.MAY_TRY_AGAIN).values["left"] == 2
    assert line_of(story, Fact.CARD_ENTERED).values["card"] == "440043...0128"


@pytest.mark.parametrize(
    ("payment_status", "operation", "fact", "advice"),
    (
        (PaymentStatus.AUTHENTICATING, None, Fact.CHALLENGED, Advice.WAIT_FOR_PAYER),
        (PaymentStatus.AUTHORIZING, (OperationStatus.PREPARED, {}), Fact.ASKED, Advice.WAIT_FOR_BANK),
        (PaymentStatus.UNKNOWN, (OperationStatus.UNKNOWN, {"tries": 2}), Fact.UNKNOWN, Advice.WAIT_FOR_RECOVERY),
        (PaymentStatus.UNKNOWN, (OperationStatus.UNKNOWN, {"alerted_at": AT}), Fact.GIVEN_UP, Advice.RESOLVE),
    ),
)
def test_an_open_payment_ends_the_chain(
    payment_status: PaymentStatus, operation: tuple[OperationStatus, Any] | None, fact: Fact, advice: Advice
) -> None:
    payment = build_payment(1, payment_status)
    operations = [build_operation(payment, operation[0], **operation[1])] if operation else []
    doubt = build_event(OUTCOME_UNKNOWN, "purchase: no answer within 10 s", payment_id=payment.id)
    story = tell(build_order(), (payment,), tuple(operations), (doubt,))
    assert story.lines[-1].fact is fact
    assert story.headline.advice is advice
    if fact is Fact.UNKNOWN:
        assert story.headline.quote == "purchase: no answer within 10 s"
    if fact is Fact.GIVEN_UP:
        assert story.headline.values["operation"] == str(operations[0].id)


def test_an_issuer_that_refuses_and_a_reversal() -> None:
    refused = build_payment(
        1, PaymentStatus.DECLINED, reason_code=473, trans_status=TransStatus.REJECTED, trans_status_reason="11"
    )
    reversed_ = build_payment(
        2, PaymentStatus.FAILED, eci="07", trans_status=TransStatus.UNAVAILABLE, trans_status_reason="13"
    )
    undone = build_operation(reversed_, OperationStatus.REVERSED)
    story = tell(build_order(), (refused, reversed_), (undone,))
    assert facts(story)[2:] == [
        Fact.CARD_ENTERED,
        Fact.NOT_AUTHENTICATED,
        Fact.CARD_ENTERED,
        Fact.NOT_ENROLLED,
        Fact.REVERSED,
        Fact.MAY_TRY_AGAIN,
    ]
    assert line_of(story, Fact.NOT_AUTHENTICATED).values == {"code": 473, "reason": "reason 473", "status": "R 11"}


@pytest.mark.parametrize(
    ("changes", "fact"),
    (
        ({"trans_status": TransStatus.INFORMATION}, Fact.ISSUER_DECIDED_NOTHING),
        ({"trans_status": TransStatus.UNAVAILABLE, "trans_status_reason": "08"}, Fact.NOT_ENROLLED),
        ({"trans_status": TransStatus.UNAVAILABLE, "trans_status_reason": "22"}, Fact.AUTHENTICATION_UNAVAILABLE),
    ),
)
def test_a_payment_that_goes_on_without_an_authentication(changes: dict[str, Any], fact: Fact) -> None:
    payment = build_payment(1, PaymentStatus.AUTHORIZING, **changes)
    story = tell(build_order(), (payment,), (build_operation(payment, OperationStatus.PREPARED),))
    assert fact in facts(story)


def test_a_challenge_that_nobody_finished() -> None:
    payment = build_payment(1, PaymentStatus.FAILED, reason_code=499, trans_status=None)
    assert facts(tell(build_order(), (payment,)))[2:4] == [Fact.CARD_ENTERED, Fact.CHALLENGE_ABANDONED]


@pytest.mark.parametrize(
    ("changes", "fact"),
    (
        ({"has_left": True}, Fact.LEFT),
        ({"updated_at": DEADLINE}, Fact.TIME_IS_UP),
        ({"reason_code": 484}, Fact.ATTEMPTS_USED),
    ),
)
def test_how_an_order_failed(changes: Any, fact: Fact) -> None:
    delivered = Delivery(build_message(MessageState.DELIVERED, kind=MessageKind.FAILURE), (build_attempt(1, 200),))
    story = tell(build_order(status=OrderStatus.FAILED, **changes), deliveries=(delivered,))
    assert facts(story)[-3:] == [fact, Fact.COMPOSED, Fact.TRY_DELIVERED]
    assert (story.headline.fact, story.headline.advice) == (Fact.ORDER_FAILED, Advice.NEW_TOKEN)
    untold = tell(build_order(status=OrderStatus.FAILED, post_link="", **changes))
    assert untold.lines[-1].fact is Fact.NO_ADDRESS
    assert (untold.headline.fact, untold.headline.advice) == (Fact.ORDER_FAILED_UNTOLD, Advice.NAME_ADDRESS)


def test_paid_and_confirmed() -> None:
    message = build_message(MessageState.DELIVERED, tries=1)
    story = paid((Delivery(message, (build_attempt(1, 204),)),))
    assert facts(story) == [
        Fact.TOKEN_ISSUED,
        Fact.PAGE_OPENED,
        Fact.CARD_ENTERED,
        Fact.AUTHENTICATED,
        Fact.TAKEN,
        Fact.PAID,
        Fact.COMPOSED,
        Fact.TRY_DELIVERED,
    ]
    assert {line.mark for line in story.lines} == {Mark.DONE}
    assert (story.headline.fact, story.headline.advice) == (Fact.ORDER_PAID, Advice.ALL_DONE)
    assert story.headline.values["message"] == str(message.id)


def test_paid_but_the_order_names_no_address() -> None:
    story = paid(())
    assert (story.headline.fact, story.headline.advice) == (Fact.ORDER_PAID_UNTOLD, Advice.NAME_ADDRESS)


@pytest.mark.parametrize(
    ("message", "attempts", "fact", "advice"),
    (
        ({"due_at": AT}, (), Fact.FIRST_TRY_DUE, Advice.WAIT_A_MOMENT),
        ({"due_at": AT, "tries": 1}, (build_attempt(1, 500),), Fact.NEXT_TRY_DUE, Advice.MEND_SHOP),
        ({"due_at": AT, "tries": 1, "tries_before": 1}, (build_attempt(1, 500),), Fact.FIRST_TRY_DUE, None),
        ({"state": MessageState.SENDING}, (), Fact.BEING_SENT, Advice.WAIT_A_MOMENT),
        ({"state": MessageState.DEAD, "tries": 10}, (build_attempt(10, 500),), Fact.DEAD, Advice.SEND_AGAIN),
        ({"state": MessageState.DEAD, "tries": 1}, (build_attempt(1, 410),), Fact.ENDED_BY_SHOP, Advice.SEND_AGAIN),
    ),
)
def test_a_message_that_is_not_there_yet(
    message: Any, attempts: tuple[Attempt, ...], fact: Fact, advice: Advice | None
) -> None:
    one = Delivery(build_message(message.pop("state", MessageState.WAITING), **message), attempts)
    story = paid((one,))
    assert story.lines[-1].fact is fact
    assert story.headline.fact is Fact.ORDER_PAID_UNTOLD
    if advice is not None:
        assert story.headline.advice is advice


def test_a_message_waits_for_an_earlier_one() -> None:
    first = build_message(MessageState.WAITING, 1, tries=1, due_at=AT)
    second = build_message(MessageState.WAITING, 2, kind=MessageKind.REFUND, due_at=AT)
    story = paid((Delivery(first, (build_attempt(1, 503),)), Delivery(second, ())))
    last = story.lines[-1]
    assert (last.fact, last.advice) == (Fact.WAITS_FOR_EARLIER, Advice.DELIVER_EARLIER)
    assert last.values["earlier"] == str(first.id)
    assert story.headline.advice is Advice.MAKE_ROOM  # of the first that is not settled


def test_an_earlier_round_is_told_before_the_current_one() -> None:
    old = build_payment(1, PaymentStatus.DECLINED, round_id=EARLIER_ROUND)
    declined = build_operation(old, OperationStatus.DECLINED, reason_code=484)
    withdrawn = Delivery(build_message(MessageState.WITHDRAWN, round_id=EARLIER_ROUND, kind=MessageKind.FAILURE), ())
    opened = build_event(ROUND_OPENED, at=AT + timedelta(hours=1))
    story = tell(build_order(opened_at=None, deadline_at=None), (old,), (declined,), (opened,), (withdrawn,))
    assert facts(story) == [
        Fact.TOKEN_FIRST,
        Fact.CARD_ENTERED,
        Fact.AUTHENTICATED,
        Fact.DECLINED,
        Fact.COMPOSED,
        Fact.WITHDRAWN,
        Fact.TOKEN_ANEW,
        Fact.PAGE_NOT_OPENED,
    ]
    assert line_of(story, Fact.TOKEN_ANEW).at == AT + timedelta(hours=1)


def test_money_that_moved_later() -> None:
    payment = build_payment(1, PaymentStatus.CAPTURED)
    kinds: dict[OperationKind, tuple[OperationStatus, Any]] = {
        OperationKind.CAPTURE: (OperationStatus.APPROVED, {}),
        OperationKind.VOID: (OperationStatus.DECLINED, {"reason_code": 466}),
        OperationKind.REFUND: (OperationStatus.UNKNOWN, {"alerted_at": AT}),
        OperationKind.REVERSAL: (OperationStatus.APPROVED, {}),
    }
    moved = [
        build_operation(payment, status, id=UUID(int=5000 + number), kind=kind, **changes)
        for number, (kind, (status, changes)) in enumerate(kinds.items())
    ]
    held = build_operation(payment, OperationStatus.APPROVED, kind=OperationKind.AUTHORIZE)
    delivered = Delivery(build_message(MessageState.DELIVERED, tries=1), (build_attempt(1, 200),))
    story = tell(build_order(status=OrderStatus.PAID), (payment,), (held, *moved), (), (delivered,))
    assert facts(story)[4:-3] == [Fact.HELD, Fact.MOVED, Fact.NOT_MOVED, Fact.GIVEN_UP]
    assert (story.headline.fact, story.headline.advice) == (Fact.ORDER_PAID, Advice.RESOLVE)


def test_a_verified_card() -> None:
    payment = build_payment(1, PaymentStatus.AUTHORIZED, amount=0)
    verified = build_operation(payment, OperationStatus.APPROVED, kind=OperationKind.AUTHORIZE)
    story = tell(build_order(status=OrderStatus.PAID, amount=0), (payment,), (verified,))
    assert Fact.VERIFIED in facts(story)


def test_tries_answers_and_sending_again_stand_in_the_order_of_time() -> None:
    message = build_message(MessageState.DELIVERED, tries=3, tries_before=2)
    attempts = (
        build_attempt(1, None, Fault.REFUSED),
        build_attempt(2, 500, response=b"<h1>Traceback\n  in views.py</h1>\xff"),
        build_attempt(3, 200, response=b"ok"),
    )
    again = build_event(SENT_AGAIN, f"{message.id} by aigerim", AT + timedelta(minutes=2, seconds=30))
    other = build_event(SENT_AGAIN, f"{UUID(int=4)} by aigerim", AT)
    lost = build_event(TRY_INTERRUPTED, f"{message.id} 3", AT + timedelta(minutes=2, seconds=40))
    story = paid((Delivery(message, attempts),), events=(again, other, lost))
    told = story.lines[6:]
    assert [line.fact for line in told] == [
        Fact.COMPOSED,
        Fact.TRY_FAILED,
        Fact.TRY_ANSWERED,
        Fact.SENT_AGAIN,
        Fact.TRY_INTERRUPTED,
        Fact.TRY_DELIVERED,
    ]
    assert told[1].quote == "in words"
    assert told[1].values["fault"] is Fault.REFUSED
    assert told[2].quote == "<h1>Traceback in views.py</h1>\N{REPLACEMENT CHARACTER}"
    assert told[3].values == {"who": "by aigerim"}
    assert told[4].values == {"number": "3"}


def test_a_long_row_of_tries_is_shortened() -> None:
    attempts = tuple(build_attempt(number, None, Fault.TIMED_OUT) for number in range(1, 31))
    story = paid((Delivery(build_message(MessageState.DEAD, tries=30), attempts),))
    numbers = [line.values.get("number") for line in story.lines if line.fact is Fact.TRY_FAILED]
    assert numbers == [1, 2, *range(22, 31)]
    assert line_of(story, Fact.TRIES_LEFT_OUT).values == {"count": 19}


def test_a_long_answer_is_cut() -> None:
    attempts = (build_attempt(1, 500, response=b"x" * 2048),)
    story = paid((Delivery(build_message(MessageState.DEAD, tries=1), attempts),))
    assert line_of(story, Fact.TRY_ANSWERED).quote == "x" * 199 + "…"


@pytest.mark.parametrize(
    ("status", "response", "advice"),
    (
        (200, b"ok", None),
        (200, b"\n <!DOCTYPE html><title>Shop", Advice.CHECK_CATCH_ALL),
        (302, b"", Advice.NAME_FINAL_ADDRESS),
        (400, b"", Advice.CHECK_VERIFICATION),
        (401, b"", Advice.LET_IN),
        (404, b"", Advice.CHECK_PATH),
        (410, b"", None),
        (418, b"", Advice.ANSWER_2XX),
        (429, b"", Advice.MAKE_ROOM),
        (500, b"", Advice.MEND_SHOP),
        (503, b"", Advice.MAKE_ROOM),
        (101, b"", Advice.ANSWER_2XX),
    ),
)
def test_what_to_do_about_an_answer(status: int, response: bytes, advice: Advice | None) -> None:
    assert advise(build_attempt(1, status, response=response)) is advice


@pytest.mark.parametrize("fault", Fault)
def test_what_to_do_about_every_fault(fault: Fault) -> None:
    assert advise(build_attempt(1, None, fault)) is not None
