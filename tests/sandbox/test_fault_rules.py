"""Faults as rules: whom they meet, what is drawn from a seed, how bytes change, what is refused. No I/O."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tolem.domain.errors import Refused
from tolem.domain.message import Message, MessageKind, MessageState
from tolem.ids import Ids
from tolem.sandbox import faults
from tolem.sandbox.faults import Corruption, DeliveryFault, FaultKind, FaultWish, Told

AT = datetime(2026, 11, 24, 9, 30, tzinfo=UTC)
IDS = Ids()
TERMINAL = UUID("67e34d63-102f-4bd1-898e-370781d0074d")


def build_message(**changes: Any) -> Message:
    message = Message(
        id=IDS.new(),
        order_id=IDS.new(),
        round_id=IDS.new(),
        terminal_id=TERMINAL,
        payment_id=None,
        kind=MessageKind.SUCCESS,
        url="http://shop.test/",
        host="shop.test:80",
        body=b"{}",
        state=MessageState.SENDING,
        tries=0,
        due_at=AT,
        lease_owner=7,
        leased_until=AT,
        created_at=AT,
    )
    return replace(message, **changes)


def build_told(invoice: str = "000000001", **changes: Any) -> Told:
    return Told(invoice, 0, False, False, False)._replace(**changes)


def build_fault(kind: FaultKind, **changes: Any) -> DeliveryFault:
    values: dict[str, Any] = {"id": "f1", "fault": kind, "seed": 7} | changes
    return DeliveryFault(**values)


def test_what_is_left_out_has_a_default() -> None:
    fault = faults.make_fault(FaultWish(fault=FaultKind.REPEAT), "f3", 99)
    assert (fault.id, fault.seed, fault.percent, fault.tries, fault.times) == ("f3", 99, 100, 1, 2)
    assert faults.make_fault(FaultWish(fault=FaultKind.LOSE, seed=0), "f1", 99).seed == 0


@pytest.mark.parametrize(
    ("wish", "field", "words"),
    (
        ({"fault": "delay", "tries": 2}, "tries", "goes with lose, lose_answer, repeat, corrupt, not with delay"),
        ({"fault": "lose", "seconds": 2}, "seconds", "goes with delay, reorder"),
        ({"fault": "lose", "times": 2}, "times", "goes with repeat"),
        ({"fault": "lose", "how": "cut"}, "how", "goes with corrupt"),
        ({"fault": "lose", "tries": 0}, "tries", "use 1 to 100"),
        ({"fault": "lose", "tries": 101}, "tries", "use 1 to 100"),
        ({"fault": "lose", "percent": 0}, "percent", "use 1 to 100"),
        ({"fault": "lose", "percent": 101}, "percent", "use 1 to 100"),
        ({"fault": "lose", "seed": -1}, "seed", "use 0 to"),
        ({"fault": "lose", "seed": 2**31}, "seed", "use 0 to"),
        ({"fault": "delay", "seconds": 0}, "seconds", "use 1 to"),
        ({"fault": "delay", "seconds": 2_592_001}, "seconds", "use 1 to 2592000"),
        ({"fault": "repeat", "times": 1}, "times", "use 2 to 10"),
        ({"fault": "repeat", "times": 11}, "times", "use 2 to 10"),
        *(
            ({"fault": "lose", "invoice": invoice}, "invoice", "6 to 15 digits")
            for invoice in ("", "   ", "abc", "12345", "1" * 16, "١٢٣٤٥٦", "123456\n")
        ),
        ({"fault": "lose", "messages": ()}, "messages", "messages is empty"),
    ),
)
def test_wishes_that_are_refused(wish: dict[str, Any], field: str, words: str) -> None:
    wished = FaultWish(**{**wish, "fault": FaultKind(wish["fault"])})
    with pytest.raises(Refused) as refused:
        faults.make_fault(wished, "f1", 1)
    assert refused.value.field == field
    assert words in refused.value.message


@pytest.mark.parametrize(
    ("limits", "meets"),
    (
        ({}, True),
        ({"terminal": TERMINAL}, True),
        ({"terminal": UUID(int=1)}, False),
        ({"invoice": "000000001"}, True),
        ({"invoice": "000000002"}, False),
        ({"messages": (MessageKind.REFUND, MessageKind.SUCCESS)}, True),
        ({"messages": (MessageKind.REFUND,)}, False),
    ),
)
def test_whom_a_fault_is_for(limits: dict[str, Any], meets: bool) -> None:
    fault, message = build_fault(FaultKind.LOSE, **limits), build_message()
    assert (faults.may_meet(fault, message) and faults.meets(fault, message, build_told())) is meets


@pytest.mark.parametrize("kind", (FaultKind.LOSE, FaultKind.LOSE_ANSWER, FaultKind.REPEAT, FaultKind.CORRUPT))
def test_the_first_tries_are_met(kind: FaultKind) -> None:
    fault = build_fault(kind, tries=3)
    assert [faults.may_meet(fault, build_message(tries=tries)) for tries in range(5)] == [True] * 3 + [False] * 2


def test_the_same_seed_meets_the_same_orders() -> None:
    def met(seed: int) -> list[bool]:
        fault, message = build_fault(FaultKind.LOSE, percent=30, seed=seed), build_message()
        return [faults.meets(fault, message, build_told(f"{number:09}")) for number in range(1000)]

    assert met(7) == met(7)
    assert met(7) != met(8)
    assert 250 < sum(met(7)) < 350
    # each try of a message is drawn anew
    fault = build_fault(FaultKind.LOSE, percent=50, tries=100)
    drawn = [faults.meets(fault, build_message(tries=tries), build_told()) for tries in range(100)]
    assert 30 < sum(drawn) < 70


def test_how_long_a_message_is_held() -> None:
    message, told = build_message(), build_told()

    def until(kind: FaultKind, now: datetime = AT, **changes: Any) -> datetime | None:
        return faults.held_until([build_fault(kind, **changes)], message, told, now)

    assert until(FaultKind.DELAY, seconds=600) == AT + timedelta(minutes=10)
    assert until(FaultKind.DELAY, AT + timedelta(minutes=10), seconds=600) is None
    assert until(FaultKind.AFTER_RETURN) == AT + timedelta(minutes=5)
    assert until(FaultKind.LOSE) is None
    assert until(FaultKind.BEFORE_RETURN) is None
    held = until(FaultKind.REORDER, seconds=60)
    assert held is not None
    assert AT < held < AT + timedelta(minutes=1)
    assert held == until(FaultKind.REORDER, seconds=60)
    # the longest counts
    both = [build_fault(FaultKind.DELAY, seconds=10), build_fault(FaultKind.DELAY, seconds=20)]
    assert faults.held_until(both, message, told, AT) == AT + timedelta(seconds=20)
    # a later try keeps to its schedule
    assert faults.held_until(both, replace(message, tries=1), told, AT) is None


def test_a_named_order_is_looked_at_again_and_again() -> None:
    fault, message = build_fault(FaultKind.REORDER, invoice="000000001", seconds=3), build_message()
    looks, now = 0, AT
    while (until := faults.held_until([fault], message, build_told(), now)) is not None:
        looks, now = looks + 1, until
    assert (looks, now) == (3, AT + timedelta(seconds=3))
    for told in (build_told(newer_tried=True), build_told(newer_untried=True), build_told(has_older=True)):
        assert faults.held_until([fault], message, told, AT) is None


BODY = json.dumps({"amount": 100, "id": "0a", "code": "ok", "secret_hash": "JDKC", "дата": "24.11.2026"}).encode()


@pytest.mark.parametrize("how", (Corruption.CUT, Corruption.EMPTY, Corruption.DIGIT, Corruption.GARBLE))
def test_bytes_change(how: Corruption) -> None:
    fault = build_fault(FaultKind.CORRUPT, how=how)
    done, body = faults.corrupt(fault, BODY, build_told(), 0)
    assert done is how
    assert body != BODY
    assert faults.corrupt(fault, BODY, build_told(), 0) == (done, body)


def test_the_seed_draws_how_bytes_change() -> None:
    fault = build_fault(FaultKind.CORRUPT)
    drawn = {faults.corrupt(fault, BODY, build_told(f"{number:09}"), 0)[0] for number in range(100)}
    assert drawn == set(Corruption)
    seeds = [build_fault(FaultKind.CORRUPT, how=Corruption.DIGIT, seed=seed) for seed in range(50)]
    assert len({faults.corrupt(fault, BODY, build_told(), 0)[1] for fault in seeds}) > 5


@given(
    st.dictionaries(st.text(max_size=5), st.integers(0) | st.floats(allow_nan=False, allow_infinity=False) | st.text()),
    st.integers(0, 2**31 - 1),
)
def test_another_digit_is_still_json(fields: dict[str, Any], seed: int) -> None:
    body = json.dumps(fields).encode()
    fault = build_fault(FaultKind.CORRUPT, how=Corruption.DIGIT, seed=seed)
    changed = faults.corrupt(fault, body, build_told(), 0)[1]
    json.loads(changed)
    assert len(changed) == len(body)
    has_digit = any(chr(byte).isdigit() for byte in body)
    assert (changed != body) is has_digit


@given(st.binary(max_size=64), st.integers(0, 2**31 - 1), st.sampled_from(Corruption))
def test_any_bytes_may_be_changed(body: bytes, seed: int, how: Corruption) -> None:
    changed = faults.corrupt(build_fault(FaultKind.CORRUPT, how=how, seed=seed), body, build_told(), 0)[1]
    assert len(changed) <= len(body)
