"""Reconciliation of books that are long: piece by piece it finds what a comparison of the whole would."""

import random
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from tests.storage.build import AT, IDS, build_operation, build_order, build_payment, put
from tolem.acquirers.base import StatementLine
from tolem.domain.order import OrderStatus
from tolem.domain.payment import Operation, OperationStatus, PaymentStatus
from tolem.flows import reconciliation
from tolem.flows.reconciliation import Cause, reconcile
from tolem.storage import books
from tolem.storage.migrate import migrate
from tolem.storage.open import open_store
from tolem.storage.schema import tolem_schema

ORDERS = 150
DAYS = 2
MARGIN = timedelta(minutes=10)


class Statements:
    """An acquirer's books, and what was asked of them."""

    def __init__(self, lines: list[StatementLine]) -> None:
        self.lines = sorted(lines, key=lambda line: line.at)
        self.asked: list[tuple[datetime, datetime]] = []
        self.told_max = 0

    async def statement(self, since: datetime, until: datetime) -> list[StatementLine]:
        self.asked.append((since, until))
        told = [line for line in self.lines if since <= line.at < until]
        self.told_max = max(self.told_max, len(told))
        return told


def line_of(operation: Operation, at: datetime, **changes: Any) -> StatementLine:
    values: dict[str, Any] = {
        "key": operation.id, "kind": operation.kind, "original_key": None, "terminal_id": IDS.new(),
        "amount": operation.amount, "currency": "KZT", "rrn": operation.rrn, "is_approved": True, "is_undone": False,
        "at": at,
    }  # fmt: skip
    return StatementLine(**(values | changes))


def moments(chance: random.Random) -> Iterator[datetime]:
    """Some alone, some in crowds, some at the same instant."""
    while True:
        at = AT + timedelta(seconds=chance.uniform(0, DAYS * 86_400))
        for _ in range(chance.choice((1, 1, 2, 9))):
            yield at
            at += timedelta(seconds=chance.choice((0, 0.000001, 1, 300)))


@pytest.mark.parametrize("seed", range(4))
async def test_piece_by_piece(database_url: str, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(books, "PAGE", 3)
    monkeypatch.setattr(reconciliation, "CHUNK", 7)
    chance = random.Random(seed)
    migrate(database_url, mode="sandbox")
    store = await open_store(database_url, schema=tolem_schema, instance=1)
    operations: list[Operation] = []
    wrong: dict[Any, Cause] = {}
    lines: list[StatementLine] = []
    for number, at in zip(range(ORDERS), moments(chance), strict=False):
        order = build_order(f"{number:09d}", status=OrderStatus.PAID, post_link="", created_at=at, updated_at=at)
        payment = build_payment(order, status=PaymentStatus.CAPTURED)
        operation = build_operation(
            payment, status=OperationStatus.APPROVED, due_at=None, created_at=at, finished_at=at
        )
        await put(store, order, payment, operation)
        operations.append(operation)
        there = at + timedelta(seconds=chance.uniform(-599, 599))
        match chance.randrange(8):
            case 0:
                wrong[operation.id] = Cause.MISSING_THERE
            case 1:
                wrong[operation.id] = Cause.AMOUNT
                lines.append(line_of(operation, there, amount=1))
            case _:
                lines.append(line_of(operation, there))
    strangers = [line_of(build_operation(build_payment(build_order())), at) for at in _some(chance, 20)]
    strangers += [line_of(operations[0], at, key=IDS.new(), is_approved=False) for at in _some(chance, 20)]
    for since, until in _windows(chance):
        acquirer: Any = Statements(lines + strangers)
        report = await reconcile(store, acquirer, since, until)
        expected = {(cause, key) for key, cause in wrong.items() if since <= _at(operations, key) < until}
        expected |= {(Cause.UNKNOWN_HERE, s.key) for s in strangers if s.is_approved and since <= s.at < until}
        assert {(d.cause, d.key) for d in report.differences} == expected
        assert len(report.differences) == len(expected)
        mine = [operation for operation in operations if since <= operation.created_at < until]
        assert (report.operations, report.orders) == (len(mine), len(mine))
        assert report.lines == sum(since <= line.at < until for line in acquirer.lines)
        assert (acquirer.asked[0][0], acquirer.asked[-1][1]) == (since - MARGIN, until + MARGIN)
        assert all(earlier[1] == later[0] for earlier, later in pairwise(acquirer.asked))
        if len(mine) > 100:
            assert acquirer.told_max < len(acquirer.lines) / 2
    await store.close()


def _some(chance: random.Random, count: int) -> list[datetime]:
    return [AT + timedelta(seconds=chance.uniform(0, DAYS * 86_400)) for _ in range(count)]


def _windows(chance: random.Random) -> list[tuple[datetime, datetime]]:
    whole = (datetime(1970, 1, 1, tzinfo=AT.tzinfo), datetime(9000, 1, 1, tzinfo=AT.tzinfo))
    middle = AT + timedelta(seconds=chance.uniform(0, DAYS * 86_400))
    return [whole, (whole[0], middle), (middle, whole[1]), (AT, AT + timedelta(hours=1))]


def _at(operations: list[Operation], key: Any) -> datetime:
    return next(operation.created_at for operation in operations if operation.id == key)
