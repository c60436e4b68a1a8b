"""The graph of payment states: nothing moves along an edge that it does not name, and totals never exceed."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tolem.domain.card import Brand
from tolem.domain.payment import (
    GRAPH,
    OPEN_STATUSES,
    SUCCESSFUL_STATUSES,
    InvalidTransition,
    Payment,
    PaymentStatus,
    advance,
)

AT = datetime(2026, 11, 24, tzinfo=UTC)


def build_payment(status: PaymentStatus, **fields: Any) -> Payment:
    return Payment(
        id=UUID(int=1), order_id=UUID(int=2), round_id=UUID(int=3), status=status, amount=1000, currency="KZT",
        masked_pan="440563...5096", brand=Brand.VISA, stan="000001", rrn="632812000001", card_id=UUID(int=4),
        created_at=AT, updated_at=AT, **fields,
    )  # fmt: skip


@pytest.mark.parametrize("source", tuple(PaymentStatus))
@pytest.mark.parametrize("target", tuple(PaymentStatus))
def test_only_edges_of_the_graph_move_a_payment(source: PaymentStatus, target: PaymentStatus) -> None:
    payment = build_payment(source)
    if any((edge.source, edge.target) == (source, target) for edge in GRAPH):
        assert advance(payment, target, AT).status is target
    else:
        with pytest.raises(InvalidTransition):
            advance(payment, target, AT)


def test_every_status_can_be_reached_and_every_edge_has_its_cause_once() -> None:
    reached = {PaymentStatus.NEW}
    for _ in PaymentStatus:
        reached |= {edge.target for edge in GRAPH if edge.source in reached}
    assert reached == set(PaymentStatus)
    assert len({(edge.source, edge.target) for edge in GRAPH}) == len(GRAPH)
    assert all(edge.cause for edge in GRAPH)


def test_no_way_leads_from_an_ended_payment_to_money() -> None:
    ended = {PaymentStatus.DECLINED, PaymentStatus.FAILED, PaymentStatus.VOIDED, PaymentStatus.REFUNDED}
    assert not [edge for edge in GRAPH if edge.source in ended]
    assert not ended & set(OPEN_STATUSES)
    assert not set(OPEN_STATUSES) & set(SUCCESSFUL_STATUSES)


@given(st.integers(-5, 15), st.integers(-5, 15), st.integers(-5, 15))
def test_totals_never_exceed(authorized: int, captured: int, refunded: int) -> None:
    payment = build_payment(PaymentStatus.AUTHORIZING)
    fits = 0 <= refunded <= captured <= authorized <= 1000
    totals = {"authorized": authorized, "captured": captured, "refunded": refunded}
    if fits:
        assert advance(payment, PaymentStatus.CAPTURED, AT, **totals).captured == captured
    else:
        with pytest.raises(InvalidTransition):
            advance(payment, PaymentStatus.CAPTURED, AT, **totals)
