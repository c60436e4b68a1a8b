"""What any acquirer must do, as one suite. A connector's tests subclass `AcquirerContract` and give it a bench.

docs/acquirers.md explains each promise. The suite sends real exchanges, so a connector to a bank runs it against the
bank's test system. Every test makes its own keys and its own day, so that a book may be shared by many runs.
"""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from uuid import UUID

import pytest
from msgspec.structs import replace

from tolem.acquirers.base import Acquirer, AcquirerAnswer, AcquirerRequest, StatementLine, Verdict
from tolem.domain.card import Card
from tolem.domain.payment import OperationKind
from tolem.ids import Ids, rrn

K = OperationKind
CARD_KINDS = (K.AUTHORIZE, K.PURCHASE)
AMOUNT = 80_000
IDS = Ids()


class Bench(NamedTuple):
    """An acquirer to be tested, and what it needs to be asked for."""

    acquirer: Acquirer
    terminal_id: UUID
    currency: str
    approved: Card
    """The test system approves it."""
    declined: Card
    """The test system declines it."""
    day: datetime
    """A day of its own in the acquirer's book; exchanges carry times of it."""

    def ask(
        self, kind: OperationKind, *, of: AcquirerRequest | UUID | None = None, amount: int = AMOUNT,
        card: Card | None = None, seconds: int = 0,
    ) -> AcquirerRequest:  # fmt: skip
        """An exchange with a new key. `of`: the original, or its key."""
        stan, at = IDS.stan(), self.day + timedelta(hours=9, seconds=seconds)
        return AcquirerRequest(
            key=IDS.new(),
            kind=kind,
            terminal_id=self.terminal_id,
            amount=amount,
            currency=self.currency,
            stan=stan,
            rrn=rrn(at, stan),
            at=at,
            card=(card or self.approved) if kind in CARD_KINDS else None,
            original_key=of.key if isinstance(of, AcquirerRequest) else of,
        )

    async def send(self, request: AcquirerRequest) -> AcquirerAnswer:
        """One exchange; whatever comes back must be the answer to it."""
        answer = await self.acquirer.send(request)
        assert answer.key == request.key
        assert (answer.verdict is Verdict.APPROVED) == (answer.reason_code == 0)
        assert answer.verdict is Verdict.APPROVED or answer.amount == 0
        return answer

    async def done(self, kind: OperationKind, **asked: object) -> AcquirerRequest:
        """An exchange that was approved."""
        request = self.ask(kind, **asked)  # type: ignore[arg-type]
        assert (await self.send(request)).verdict is Verdict.APPROVED
        return request

    async def verdict(self, kind: OperationKind, **asked: object) -> Verdict:
        """What a new exchange comes to."""
        return (await self.send(self.ask(kind, **asked))).verdict  # type: ignore[arg-type]

    async def inquire(self, of: AcquirerRequest | UUID) -> AcquirerAnswer:
        """What the acquirer says of an operation."""
        return await self.send(self.ask(K.INQUIRY, of=of))

    async def lines(self) -> list[StatementLine]:
        """The book of the day."""
        return await self.acquirer.statement(self.day, self.day + timedelta(days=1))


def bench_day(number: int) -> datetime:
    """The day of the test with that number."""
    return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=number)


class AcquirerContract:
    """The promises, one test each. A subclass has a fixture `bench`."""

    # Answers ---------------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("kind", CARD_KINDS)
    async def test_approval_tells_amount_currency_and_code(self, bench: Bench, kind: OperationKind) -> None:
        answer = await bench.send(bench.ask(kind))
        assert (answer.verdict, answer.amount) == (Verdict.APPROVED, AMOUNT)
        assert answer.currency in (bench.currency, "")
        assert len(answer.approval_code) == 6
        assert answer.rrn == "" or len(answer.rrn) == 12

    @pytest.mark.parametrize("kind", CARD_KINDS)
    async def test_decline_tells_its_reason(self, bench: Bench, kind: OperationKind) -> None:
        request = bench.ask(kind, card=bench.declined)
        answer = await bench.send(request)
        assert answer.verdict is Verdict.DECLINED
        assert (await bench.inquire(request)).verdict is Verdict.DECLINED

    # Keys ------------------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("kind", CARD_KINDS)
    async def test_same_key_at_once_is_one_exchange(self, bench: Bench, kind: OperationKind) -> None:
        request = bench.ask(kind)
        answers = await asyncio.gather(*(bench.send(request) for _ in range(8)))
        assert all(answer == answers[0] for answer in answers)
        assert [line.key for line in await bench.lines()] == [request.key]

    async def test_same_key_with_other_content_moves_nothing_else(self, bench: Bench) -> None:
        request = await bench.done(K.PURCHASE)
        for other in (replace(request, amount=AMOUNT * 2), replace(request, card=bench.declined)):
            answer = await bench.send(other)
            is_refused = answer.verdict is Verdict.DECLINED
            assert is_refused or (answer.verdict, answer.amount) == (Verdict.APPROVED, AMOUNT)
        assert [(line.amount, line.is_approved) for line in await bench.lines()] == [(AMOUNT, True)]

    async def test_same_refund_at_once_gives_back_once(self, bench: Bench) -> None:
        bought = await bench.done(K.PURCHASE)
        refund = bench.ask(K.REFUND, of=bought, amount=AMOUNT // 2)
        answers = await asyncio.gather(*(bench.send(refund) for _ in range(8)))
        assert {answer.verdict for answer in answers} == {Verdict.APPROVED}
        assert await bench.verdict(K.REFUND, of=bought, amount=AMOUNT // 2 + 1) is Verdict.DECLINED
        assert await bench.verdict(K.REFUND, of=bought, amount=AMOUNT // 2) is Verdict.APPROVED

    # Reversals -------------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("kind", CARD_KINDS)
    async def test_reversal_undoes_the_original(self, bench: Bench, kind: OperationKind) -> None:
        original = await bench.done(kind)
        reversal = await bench.done(K.REVERSAL, of=original)
        assert (await bench.send(reversal)).verdict is Verdict.APPROVED
        assert await bench.verdict(K.REVERSAL, of=original) is Verdict.APPROVED
        assert (await bench.inquire(original)).verdict is Verdict.DECLINED
        assert (await bench.send(original)).verdict is Verdict.DECLINED
        for follow_up in (K.CAPTURE, K.VOID, K.REFUND):
            assert await bench.verdict(follow_up, of=original) is Verdict.DECLINED

    @pytest.mark.parametrize("kind", CARD_KINDS)
    async def test_late_original_is_refused_after_its_reversal(self, bench: Bench, kind: OperationKind) -> None:
        original = bench.ask(kind)
        await bench.done(K.REVERSAL, of=original)
        assert (await bench.inquire(original)).verdict is Verdict.DECLINED
        assert (await bench.send(original)).verdict is Verdict.DECLINED
        assert (await bench.inquire(original)).verdict is Verdict.DECLINED

    async def test_original_and_reversal_at_once_leave_nothing(self, bench: Bench) -> None:
        for _ in range(5):
            original = bench.ask(K.PURCHASE)
            reversal = bench.ask(K.REVERSAL, of=original)
            _, answer, _ = await asyncio.gather(bench.send(original), bench.send(reversal), bench.send(original))
            assert answer.verdict is Verdict.APPROVED
            assert (await bench.inquire(original)).verdict is Verdict.DECLINED

    async def test_reversal_of_a_decline_is_confirmed(self, bench: Bench) -> None:
        original = bench.ask(K.AUTHORIZE, card=bench.declined)
        await bench.send(original)
        assert await bench.verdict(K.REVERSAL, of=original) is Verdict.APPROVED

    async def test_reversal_is_no_refund(self, bench: Bench) -> None:
        held, bought = await bench.done(K.AUTHORIZE), await bench.done(K.PURCHASE)
        await bench.done(K.CAPTURE, of=held)
        await bench.done(K.REFUND, of=bought, amount=AMOUNT // 2)
        for original in (held, bought):
            assert await bench.verdict(K.REVERSAL, of=original) is Verdict.DECLINED
            assert (await bench.inquire(original)).verdict is Verdict.APPROVED

    # Inquiries -------------------------------------------------------------------------------------------------------

    async def test_inquiry_of_an_unknown_key(self, bench: Bench) -> None:
        key = IDS.new()
        for _ in range(2):
            answer = await bench.inquire(key)
            assert (answer.verdict, answer.amount) == (Verdict.NOT_FOUND, 0)
        assert await bench.lines() == []

    async def test_not_found_ends_nothing(self, bench: Bench) -> None:
        request = bench.ask(K.PURCHASE)
        assert (await bench.inquire(request)).verdict is Verdict.NOT_FOUND
        assert (await bench.send(request)).verdict is Verdict.APPROVED

    async def test_inquiry_of_every_kind_tells_its_amount(self, bench: Bench) -> None:
        held = await bench.done(K.AUTHORIZE)
        capture = await bench.done(K.CAPTURE, of=held, amount=AMOUNT // 2)
        refund = await bench.done(K.REFUND, of=held, amount=AMOUNT // 4)
        released = await bench.done(K.AUTHORIZE)
        void = await bench.done(K.VOID, of=released)
        for request in (held, capture, refund, void):
            answer = await bench.inquire(request)
            assert (answer.verdict, answer.amount) == (Verdict.APPROVED, request.amount), request.kind
        refused = bench.ask(K.CAPTURE, of=held)
        assert (await bench.send(refused)).verdict is Verdict.DECLINED
        assert (await bench.inquire(refused)).verdict is Verdict.DECLINED

    # Totals ----------------------------------------------------------------------------------------------------------

    async def test_capture_happens_once_and_within_the_hold(self, bench: Bench) -> None:
        held = await bench.done(K.AUTHORIZE)
        assert await bench.verdict(K.CAPTURE, of=held, amount=AMOUNT + 100) is Verdict.DECLINED
        assert await bench.verdict(K.REFUND, of=held, amount=100) is Verdict.DECLINED
        await bench.done(K.CAPTURE, of=held, amount=AMOUNT // 2)
        assert await bench.verdict(K.CAPTURE, of=held, amount=100) is Verdict.DECLINED
        assert await bench.verdict(K.VOID, of=held) is Verdict.DECLINED

    async def test_refunds_at_once_stay_within_what_was_taken(self, bench: Bench) -> None:
        held = await bench.done(K.AUTHORIZE)
        await bench.done(K.CAPTURE, of=held, amount=AMOUNT // 2)
        refunds = [bench.ask(K.REFUND, of=held, amount=AMOUNT // 4) for _ in range(5)]
        answers = await asyncio.gather(*map(bench.send, refunds))
        assert [answer.verdict for answer in answers].count(Verdict.APPROVED) == 2

    async def test_capture_and_void_at_once_are_one_of_both(self, bench: Bench) -> None:
        held = await bench.done(K.AUTHORIZE)
        asked = [bench.ask(kind, of=held) for kind in (K.CAPTURE, K.VOID, K.CAPTURE, K.VOID)]
        answers = await asyncio.gather(*map(bench.send, asked))
        assert [answer.verdict for answer in answers].count(Verdict.APPROVED) == 1

    async def test_void_releases_the_whole_hold_once(self, bench: Bench) -> None:
        held = await bench.done(K.AUTHORIZE)
        void = await bench.done(K.VOID, of=held)
        assert (await bench.send(void)).verdict is Verdict.APPROVED
        for kind in (K.VOID, K.CAPTURE, K.REFUND):
            assert await bench.verdict(kind, of=held) is Verdict.DECLINED
        assert (await bench.inquire(held)).verdict is not Verdict.APPROVED
        (line,) = [line for line in await bench.lines() if line.key == held.key]
        assert (line.is_approved, line.is_undone) == (True, True)

    @pytest.mark.parametrize("kind", (K.CAPTURE, K.VOID, K.REFUND))
    async def test_follow_up_of_nothing_or_of_another_terminals(self, bench: Bench, kind: OperationKind) -> None:
        bought = await bench.done(K.PURCHASE if kind is K.REFUND else K.AUTHORIZE)
        assert await bench.verdict(kind, of=IDS.new()) is Verdict.DECLINED
        foreign = replace(bench.ask(kind, of=bought), terminal_id=IDS.new())
        assert (await bench.send(foreign)).verdict is Verdict.DECLINED

    # The book --------------------------------------------------------------------------------------------------------

    async def test_statement_tells_every_exchange_in_order(self, bench: Bench) -> None:
        held = await bench.done(K.AUTHORIZE, seconds=1)
        capture = await bench.done(K.CAPTURE, of=held, amount=AMOUNT // 2, seconds=2)
        gone = await bench.done(K.PURCHASE, seconds=3)
        reversal = await bench.done(K.REVERSAL, of=gone, seconds=4)
        refused = bench.ask(K.PURCHASE, card=bench.declined, seconds=5)
        await bench.send(refused)
        await bench.inquire(held)
        told = [
            (line.key, line.kind, line.original_key, line.amount, line.is_approved, line.is_undone, line.at)
            for line in await bench.lines()
        ]
        assert told == [
            (held.key, K.AUTHORIZE, None, AMOUNT, True, False, held.at),
            (capture.key, K.CAPTURE, held.key, AMOUNT // 2, True, False, capture.at),
            (gone.key, K.PURCHASE, None, AMOUNT, True, True, gone.at),
            (reversal.key, K.REVERSAL, gone.key, AMOUNT, True, False, reversal.at),
            (refused.key, K.PURCHASE, None, AMOUNT, False, False, refused.at),
        ]

    async def test_statement_keeps_to_its_time(self, bench: Bench) -> None:
        first, second = await bench.done(K.PURCHASE, seconds=1), await bench.done(K.PURCHASE, seconds=2)
        keys = [line.key for line in await bench.acquirer.statement(first.at, second.at)]
        assert keys == [first.key]
        assert await bench.acquirer.statement(second.at + timedelta(seconds=1), bench.day + timedelta(days=1)) == []

    async def test_statement_of_many_is_whole(self, bench: Bench) -> None:
        requests = [bench.ask(K.PURCHASE, seconds=number // 50) for number in range(250)]
        await asyncio.gather(*map(bench.send, requests))
        keys = [line.key for line in await bench.lines()]
        assert len(keys) == len(set(keys))
        assert set(keys) == {request.key for request in requests}

    async def test_close_ends_it(self, bench: Bench) -> None:
        await bench.done(K.PURCHASE)
        await bench.acquirer.close()
        with pytest.raises(Exception):  # noqa: B017, PT011 - whatever it raises means unknown
            await bench.send(bench.ask(K.PURCHASE))
