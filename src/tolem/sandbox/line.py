"""The line between a gateway and the simulator, with its faults: answers that come late, garbled or never.

In process it stands in front of the simulator and is the acquirer that the gateway knows; over the wire program.py asks
it what to let through. The card's number says what the line does to an authorize or purchase, the amount's fraction
what it does to a capture, void or refund. Invariant: faults delay or lose messages, and never change what the
simulator does with one.
"""

import asyncio
from datetime import date, datetime
from enum import StrEnum
from typing import NamedTuple

from tolem.acquirers.base import AcquirerAnswer, AcquirerRequest, AnswerGarbled, StatementLine
from tolem.domain.card import CardField, CardProblem, TypedCard
from tolem.domain.payment import OperationKind
from tolem.sandbox.cards import find_card
from tolem.sandbox.simulator import FRACTION_LOST, Simulator, fraction
from tolem.telemetry import log

DELAY_SECONDS = 3.0
"""How long a slow answer takes; the gateway's deadline is longer."""
LATE_SECONDS = 20.0
"""How long a late request is on its way: by then the gateway's deadline of 10 s and recovery's margin of 5 s are over,
and the key is reversed. At 15 s request and inquiry would race, and chance decide."""
LATE_MAX = 1_000
"""So many requests may be on their way; one more is lost."""


class Fault(StrEnum):
    """What the line does to one exchange."""

    NONE = "none"
    SLOW = "slow"  # done at once, the answer takes its time
    LOST = "lost"  # done, and no answer comes
    NEVER_ARRIVES = "never_arrives"  # not done, and no answer comes
    GARBLED = "garbled"  # done, and what comes back is no answer
    LATE = "late"  # done after the gateway gave up, and no answer comes


FAULTS = {
    "0": Fault.NONE,
    "1": Fault.SLOW,
    "2": Fault.LOST,
    "3": Fault.NEVER_ARRIVES,
    "4": Fault.GARBLED,
    "5": Fault.LATE,
}
"""By the line digit of a card's number."""


class Carried(NamedTuple):
    """How an exchange went."""

    fault: Fault
    answer: AcquirerAnswer | None
    """What the simulator said; None: it was not asked, or not yet."""


class Line:
    """Carries exchanges to `simulator`, which it owns, and their answers back."""

    def __init__(
        self, simulator: Simulator, *, delay_seconds: float = DELAY_SECONDS, late_seconds: float = LATE_SECONDS
    ) -> None:
        self._simulator = simulator
        self._delay_seconds = delay_seconds
        self._late_seconds = late_seconds
        self._late: set[asyncio.Task[None]] = set()

    @property
    def simulator(self) -> Simulator:
        """The acquirer at the other end."""
        return self._simulator

    def check(self, card: TypedCard, today: date) -> dict[CardField, CardProblem]:
        """What the simulator says of a card."""
        return self._simulator.check(card, today)

    async def send(self, request: AcquirerRequest) -> AcquirerAnswer:
        """One exchange. An answer that does not come is awaited for ever: the caller's deadline ends it.

        Raises AnswerGarbled, and what the simulator raises.
        """
        fault, answer = await self.carry(request)
        if fault is Fault.GARBLED:
            raise AnswerGarbled("the sandbox's line garbles what this card is answered")
        if answer is None or fault is Fault.LOST:
            await asyncio.Event().wait()
            raise AssertionError("nobody sets the event")
        return answer

    async def carry(self, request: AcquirerRequest) -> Carried:
        """As far as the exchange gets, and what is to become of its answer."""
        fault = await self._find_fault(request)
        if fault is Fault.NEVER_ARRIVES:
            return Carried(fault, None)
        if fault is Fault.LATE:
            self._start_late(request)
            return Carried(fault, None)
        answer = await self._simulator.send(request)
        if fault is Fault.SLOW:
            # After the commit: the ledger knows of it while the gateway is still waiting.
            await asyncio.sleep(self._delay_seconds)
        return Carried(fault, answer)

    async def statement(self, since: datetime, until: datetime) -> list[StatementLine]:
        """The simulator's book; no fault touches it."""
        return await self._simulator.statement(since, until)

    async def close(self) -> None:
        """What is still on its way is lost; then closes the simulator."""
        for task in self._late:
            task.cancel()
        await asyncio.gather(*self._late, return_exceptions=True)
        await self._simulator.close()

    async def _find_fault(self, request: AcquirerRequest) -> Fault:
        if request.card is not None:
            card = find_card(request.card.pan)
            return FAULTS[card.line] if card else Fault.NONE
        if request.kind in (OperationKind.CAPTURE, OperationKind.REFUND):
            amount: int | None = request.amount
        elif request.kind is OperationKind.VOID and request.original_key is not None:
            amount = await self._simulator.find_amount(request.original_key)
        else:
            return Fault.NONE
        is_lost = amount is not None and fraction(amount, request.currency) == FRACTION_LOST
        return Fault.LOST if is_lost else Fault.NONE

    def _start_late(self, request: AcquirerRequest) -> None:
        if len(self._late) >= LATE_MAX:
            log.warning("late_request_lost", key=str(request.key))
            return
        task = asyncio.create_task(self._deliver_late(request), name=f"late {request.kind} {request.key}")
        self._late.add(task)
        task.add_done_callback(self._late.discard)

    async def _deliver_late(self, request: AcquirerRequest) -> None:
        await asyncio.sleep(self._late_seconds)
        try:
            answer = await self._simulator.send(request)
        except Exception as error:
            log.error("late_request_failed", key=str(request.key), exc_info=error)
        else:
            log.info("late_request", key=str(request.key), verdict=answer.verdict)
