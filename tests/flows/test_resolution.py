"""What people may settle by their word, when, and what happens if the acquirer says otherwise later."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, NamedTuple

import pytest
import sqlalchemy as sa

from tests.flows.moody import Mood, MoodyAcquirer
from tests.flows.test_operations import resolution_of
from tests.gateway import Caller, ShopServer, eventually, running_gateway, running_shop
from tolem.acquirers.base import AcquirerAnswer, Verdict
from tolem.bootstrap import Gateway
from tolem.domain.errors import Refused
from tolem.domain.history import OrderHistory
from tolem.domain.payment import OPEN_OPERATIONS, Operation, OperationKind, OperationStatus, PaymentStatus
from tolem.flows.directory import Directory
from tolem.flows.recovery import INQUIRIES_MIN
from tolem.sandbox.fixtures import TERMINAL_ID
from tolem.storage import keys, tables

INVOICE = "000000001"
WHY = "the acquirer's desk looked it up"


class Attempt(NamedTuple):
    """A card attempt whose outcome is not known."""

    gateway: Gateway
    acquirer: MoodyAcquirer
    caller: Caller
    path: str
    shop: ShopServer

    async def history(self) -> OrderHistory:
        history = await self.gateway.store.find(keys.order_by_invoice(TERMINAL_ID, INVOICE))
        assert history is not None
        return history

    async def operation(self) -> Operation:
        (operation,) = [o for o in (await self.history()).operations.values() if o.kind is OperationKind.PURCHASE]
        return operation

    async def status(self) -> PaymentStatus:
        (payment,) = (await self.history()).payments.values()
        return payment.status

    async def is_given_up(self) -> bool:
        return (await self.operation()).alerted_at is not None

    async def is_settled(self) -> bool:
        return (await self.operation()).status not in OPEN_OPERATIONS

    async def resolve(self, happened: bool, **more: str) -> None:
        operation = await self.operation()
        await resolution_of(self.gateway).resolve(operation.id, happened=happened, reason=WHY, who="root", **more)

    async def event_kinds(self) -> list[str]:
        return [row[0] for row in await self.gateway.store.select(_EVENT_KINDS)]

    async def come_late(self, verdict: Verdict = Verdict.APPROVED) -> None:
        """The acquirer's answer, long after anybody waits for it."""
        operation = await self.operation()
        terminal = await Directory(self.gateway.store).get_terminal(TERMINAL_ID)
        answer = AcquirerAnswer(
            key=operation.id,
            verdict=verdict,
            amount=operation.amount if verdict is Verdict.APPROVED else 0,
            reason_code=0 if verdict is Verdict.APPROVED else 466,
            approval_code="123456",
        )
        await self.gateway.acquiring.record(operation, "KZT", terminal, answer)


_EVENT_KINDS = sa.select(tables.events.c.kind).order_by(tables.events.c.id)


@asynccontextmanager
async def doubtful(database_url: str, mood: Mood, *, tries: int = 1) -> AsyncIterator[Attempt]:
    """The acquirer does what `mood` says to the purchase, and answers nothing afterwards."""
    moody: list[MoodyAcquirer] = []

    def wrap(inner: Any) -> MoodyAcquirer:
        moody.append(MoodyAcquirer(inner))
        return moody[0]

    short: dict[str, Any] = {"acquirer_timeout_seconds": 0.3, "recovery_margin_seconds": 0.1, "recovery_tries": tries}
    async with running_shop() as shop, running_gateway(database_url, wrap_acquirer=wrap, **short) as gateway:
        (acquirer,) = moody
        acquirer.feel(OperationKind.PURCHASE, mood)
        for kind in (OperationKind.INQUIRY, OperationKind.REVERSAL):
            acquirer.feel(kind, *[Mood.REFUSED] * 1_000)
        caller = Caller(gateway.app, shop.url)
        path = await caller.page(INVOICE)
        assert (await caller.pay(path)).state == "checking"
        yield Attempt(gateway, acquirer, caller, path, shop)


async def test_nothing_is_settled_while_recovery_works_on_it(database_url: str) -> None:
    async with doubtful(database_url, Mood.LOST, tries=1_000) as attempt:
        for _ in range(3):
            with pytest.raises(Refused, match="still being asked about"):
                await attempt.resolve(happened=False)
            await asyncio.sleep(0.2)
        assert await attempt.status() is PaymentStatus.UNKNOWN
        assert "resolved_by_hand" not in await attempt.event_kinds()


async def test_nothing_is_settled_while_the_acquirer_is_being_asked(database_url: str) -> None:
    async with doubtful(database_url, Mood.LOST) as attempt:
        await eventually(attempt.is_given_up)
        attempt.acquirer.moods.clear()
        attempt.acquirer.feel(OperationKind.INQUIRY, Mood.SILENT)
        attempt.gateway.acquiring.limits = attempt.gateway.acquiring.limits._replace(exchange_seconds=5.0)
        operation = await attempt.operation()
        asked = len(attempt.acquirer.sent)
        await resolution_of(attempt.gateway).retry(operation.id, reason=WHY, who="root")

        async def is_asked() -> bool:
            return len(attempt.acquirer.sent) > asked

        await eventually(is_asked)
        with pytest.raises(Refused, match=r"being asked about it just now: try again in \d+ s"):
            await attempt.resolve(happened=False)
        assert await attempt.status() is PaymentStatus.UNKNOWN


async def test_back_again_and_retried(database_url: str) -> None:
    async with doubtful(database_url, Mood.LOST) as attempt:
        await eventually(attempt.is_given_up)
        attempt.acquirer.moods.clear()
        await asyncio.sleep(0.3)
        assert not await attempt.is_settled()  # its next try is in a quarter of an hour
        operation = await attempt.operation()
        await resolution_of(attempt.gateway).retry(operation.id, reason=WHY, who="root")
        await eventually(attempt.is_settled)
        assert await attempt.status() is PaymentStatus.CAPTURED
        assert [body["code"] for body in await attempt.shop.wait(1)] == ["ok"]
        assert "retried_by_hand" in await attempt.event_kinds()


async def test_an_inquiry_that_is_not_answered_undoes_no_sale(database_url: str) -> None:
    """The line is down for a moment longer than one exchange."""
    async with doubtful(database_url, Mood.LOST, tries=1_000) as attempt:
        attempt.acquirer.moods[OperationKind.INQUIRY] = [Mood.REFUSED] * (INQUIRIES_MIN - 1)
        await eventually(attempt.is_settled)
        assert await attempt.status() is PaymentStatus.CAPTURED
        assert attempt.acquirer.count(OperationKind.REVERSAL) == 0


@pytest.mark.parametrize("mood", (Mood.UNCODED, Mood.MISCODED))
async def test_an_approval_without_its_code_is_no_certain_answer(database_url: str, mood: Mood) -> None:
    """The shop would be told an approval that it can't look up."""
    async with doubtful(database_url, mood, tries=1_000) as attempt:
        attempt.acquirer.moods[OperationKind.INQUIRY] = [mood, Mood.WELL]
        assert await attempt.status() is PaymentStatus.UNKNOWN
        attempt.acquirer.moods[OperationKind.REVERSAL] = []
        await eventually(attempt.is_settled)
        # The inquiry had no code either, so it was not believed: nothing stays taken.
        assert (await attempt.operation()).status is OperationStatus.REVERSED
        assert await attempt.status() is PaymentStatus.FAILED


async def test_happened_by_hand_tells_the_approval_code(database_url: str) -> None:
    async with doubtful(database_url, Mood.LOST) as attempt:
        await eventually(attempt.is_given_up)
        for code in ("", "12345", "1234567", "12345é", "12 456"):
            with pytest.raises(Refused, match="approval code"):
                await attempt.resolve(happened=True, approval_code=code)
        with pytest.raises(Refused, match="RRN"):
            await attempt.resolve(happened=True, approval_code="A1B2C3", reference="12")
        await attempt.resolve(happened=True, approval_code="A1B2C3", reference="632900000017")
        assert (await attempt.caller.get(attempt.path)).state == "approved"
        (body,) = await attempt.shop.wait(1)
        assert (body["code"], body["approvalCode"], body["reference"]) == ("ok", "A1B2C3", "632900000017")


async def test_happened_is_refused_once_its_reversal_is_under_way(database_url: str) -> None:
    async with doubtful(database_url, Mood.LOST, tries=INQUIRIES_MIN) as attempt:
        await eventually(attempt.is_given_up)
        with pytest.raises(Refused, match="reversal is under way"):
            await attempt.resolve(happened=True, approval_code="A1B2C3")
        await attempt.resolve(happened=False)
        assert await attempt.status() is PaymentStatus.FAILED


async def test_a_late_approval_of_what_people_called_not_happened_is_reversed(database_url: str) -> None:
    async with doubtful(database_url, Mood.LOST) as attempt:
        await eventually(attempt.is_given_up)
        await attempt.resolve(happened=False)
        assert await attempt.status() is PaymentStatus.FAILED
        attempt.acquirer.moods.clear()
        await attempt.come_late()
        await eventually(attempt.is_settled)
        operation = await attempt.operation()
        assert (operation.status, attempt.acquirer.count(OperationKind.REVERSAL)) == (OperationStatus.REVERSED, 1)
        assert await attempt.status() is PaymentStatus.FAILED
        kinds = await attempt.event_kinds()
        assert (kinds.count("late_approval"), kinds.count("late_reversed")) == (1, 1)
        lines = await attempt.acquirer.statement(
            operation.created_at - timedelta(days=1), operation.created_at + timedelta(days=1)
        )
        assert [line.is_undone for line in lines if line.key == operation.id] == [True]
        # The payer goes on with the same order: nothing stands in the way.
        assert (await attempt.caller.pay(attempt.path)).state == "approved"


async def test_a_late_decline_of_a_settled_operation_changes_nothing(database_url: str) -> None:
    async with doubtful(database_url, Mood.LOST) as attempt:
        await eventually(attempt.is_given_up)
        await attempt.resolve(happened=True, approval_code="A1B2C3")
        before = await attempt.operation()
        await attempt.come_late(Verdict.DECLINED)
        await attempt.come_late()
        assert await attempt.operation() == before
        assert await attempt.status() is PaymentStatus.CAPTURED
