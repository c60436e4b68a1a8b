"""docs/states.md tells what the code does."""

from pathlib import Path

from scripts.states import OPERATION_WORDS, ORDER_WORDS, PAGE_WORDS, PAYMENT_WORDS, TARGET, render

from tolem.domain.order import OrderStatus
from tolem.domain.payment import OperationStatus, PaymentStatus
from tolem.flows.rounds import PageState


def test_the_document_is_what_the_code_generates() -> None:
    assert Path(TARGET).read_text() == render(), "run make states"


def test_every_state_has_its_words() -> None:
    assert set(PAYMENT_WORDS) == set(PaymentStatus)
    assert set(ORDER_WORDS) == set(OrderStatus)
    assert set(OPERATION_WORDS) == set(OperationStatus)
    assert set(PAGE_WORDS) == set(PageState)
