"""A whole gateway whose acquirer is a program of its own: it pays, and settles what a fault or a kill left open."""

import asyncio
import os
from pathlib import Path
from uuid import UUID

from tests.acquirers.programs import Program, running_program
from tests.gateway import Caller, eventually, running_gateway
from tolem.acquirers.base import StatementLine
from tolem.bootstrap import Gateway
from tolem.domain.payment import PaymentStatus
from tolem.sandbox.cards import build_number
from tolem.sandbox.fixtures import TERMINAL_ID
from tolem.storage import keys


async def status_of(gateway: Gateway, invoice: str) -> PaymentStatus:
    history = await gateway.store.find(keys.order_by_invoice(TERMINAL_ID, invoice))
    assert history is not None
    (payment,) = history.payments.values()
    return payment.status


async def settle(gateway: Gateway, invoice: str) -> PaymentStatus:
    """The status once it is no longer open."""

    async def is_settled() -> bool:
        return await status_of(gateway, invoice) not in (PaymentStatus.AUTHORIZING, PaymentStatus.UNKNOWN)

    await eventually(is_settled, 15)
    return await status_of(gateway, invoice)


async def money_of(gateway: Gateway, invoice: str) -> list[StatementLine]:
    """What the acquirer's book says was charged for an order and not undone."""
    history = await gateway.store.find(keys.order_by_invoice(TERMINAL_ID, invoice))
    assert history is not None
    ours: set[UUID] = set(history.operations)
    at = history.order.created_at
    lines = await gateway.acquirer.statement(at.replace(year=at.year - 1), at.replace(year=at.year + 1))
    charged = [line for line in lines if line.kind == "purchase" and line.is_approved and not line.is_undone]
    return [line for line in charged if line.key in ours]


async def test_payments_over_the_wire(tmp_path: Path, database_url: str) -> None:
    with running_program(tmp_path, "sqlite:///simulator.db", "--late-seconds", "1.5") as program:
        async with running_gateway(database_url, acquirer_url=program.url) as gateway:
            caller = Caller(gateway.app)
            expected = {
                "000000001": (build_number(0), PaymentStatus.CAPTURED),
                "000000002": (build_number(484), PaymentStatus.DECLINED),
                "000000003": (build_number(0, line="2"), PaymentStatus.CAPTURED),
                "000000004": (build_number(0, line="3"), PaymentStatus.FAILED),
                "000000005": (build_number(0, line="4"), PaymentStatus.CAPTURED),
                "000000006": (build_number(0, line="5"), PaymentStatus.FAILED),
                "000000007": (build_number(454), PaymentStatus.CAPTURED),
                "000000008": (build_number(459), PaymentStatus.FAILED),
                "000000009": (build_number(460), PaymentStatus.FAILED),
            }

            async def pay(invoice: str, number: str) -> None:
                await caller.pay(await caller.page(invoice), number)

            await asyncio.gather(*(pay(invoice, number) for invoice, (number, _) in expected.items()))
            statuses = {invoice: await settle(gateway, invoice) for invoice in expected}
            assert statuses == {invoice: status for invoice, (_, status) in expected.items()}
            await asyncio.sleep(1.5)  # the late one has arrived by now, and was refused
            for invoice, (_, status) in expected.items():
                charged = await money_of(gateway, invoice)
                assert len(charged) == (status is PaymentStatus.CAPTURED), invoice
    assert "tolem-simulator.db" not in os.listdir(tmp_path)  # the gateway keeps no book of its own


async def test_killed_acquirer_leaves_nothing_open(tmp_path: Path, sqlite_url: str) -> None:
    program = Program(tmp_path, "sqlite:///simulator.db")
    program.start()
    try:
        async with running_gateway(sqlite_url, acquirer_url=program.url) as gateway:
            caller = Caller(gateway.app)
            path, later = await caller.page("000000011"), await caller.page("000000012")
            paying = asyncio.create_task(caller.pay(path, build_number(0, line="1")))
            await asyncio.sleep(0.5)  # in the book by now; its answer would take 3 s
            program.kill()
            await paying
            await caller.pay(later)  # nobody is there
            assert await status_of(gateway, "000000012") is PaymentStatus.UNKNOWN
            program.start()
            assert await settle(gateway, "000000011") is PaymentStatus.CAPTURED
            assert await settle(gateway, "000000012") is PaymentStatus.FAILED
            assert len(await money_of(gateway, "000000011")) == 1
            assert await money_of(gateway, "000000012") == []
    finally:
        program.kill()
