"""A terminal that tells of captures, voids and refunds: what its shop gets, read as its shop reads it."""

from decimal import Decimal
from typing import Any

import pytest

from tests.flows.test_operations import CAPTURE, INVOICE, REFUND, VOID, Till, paid_till
from tests.gateway import ShopServer, running_shop
from tolem.merchant import (
    ExpectedPayment,
    InvalidNotification,
    Operation,
    OperationNotification,
    verify_notification,
    verify_post_link,
)

EVERYTHING = ("capture", "void", "refund")


def expected(till: Till) -> ExpectedPayment:
    """What the shop has in its own records."""
    return ExpectedPayment(
        invoice_id=INVOICE,
        amount=100,
        currency="KZT",
        terminal_id=str(till.terminal.id),
        secret_hash="JDKCNDDGGDTPSKJD",
    )


async def read(shop: ShopServer, till: Till, count: int) -> list[tuple[Operation, Decimal, Decimal]]:
    """What was told of the money; the first notification is the payment's own."""
    await shop.wait(count)
    first, *later = shop.bodies
    paid = verify_post_link(first, expected(till))
    assert (paid.is_paid, paid.payment_id) == (True, str(till.payment_id))
    told = []
    for body in later:
        with pytest.raises(InvalidNotification):
            verify_post_link(body, expected(till))
        operation = verify_notification(body, expected(till))
        assert isinstance(operation, OperationNotification)
        assert operation.payment_id == paid.payment_id
        told.append((operation.operation, operation.amount, operation.refunded))
    return told


@pytest.mark.parametrize("seed_bodies", (True, False))
async def test_charges_and_refunds(database_url: str, seed_bodies: bool) -> None:
    settings: dict[str, Any] = {"tells": EVERYTHING, "seed_bodies": seed_bodies}
    async with running_shop() as shop, paid_till(database_url, shop_url=shop.url, **settings) as till:
        await till.move(CAPTURE, "80.50")
        await till.move(REFUND, "30")
        await till.move(REFUND, "30", "another")
        await till.move(REFUND)
        assert await read(shop, till, 5) == [
            (Operation.CHARGE, Decimal("80.50"), Decimal(0)),
            (Operation.REFUND, Decimal(30), Decimal(30)),
            (Operation.REFUND, Decimal(30), Decimal(60)),
            (Operation.REFUND, Decimal("20.50"), Decimal("80.50")),
        ]


async def test_a_cancel(database_url: str) -> None:
    async with running_shop() as shop, paid_till(database_url, shop_url=shop.url, tells=EVERYTHING) as till:
        await till.move(VOID)
        assert await read(shop, till, 2) == [(Operation.CANCEL, Decimal(100), Decimal(0))]


async def test_a_terminal_tells_what_it_was_set_to(sqlite_url: str) -> None:
    async with running_shop() as shop, paid_till(sqlite_url, shop_url=shop.url, tells=("refund",)) as till:
        await till.move(CAPTURE)
        await till.move(REFUND, "10")
        assert await read(shop, till, 2) == [(Operation.REFUND, Decimal(10), Decimal(10))]
