"""An acquirer in every mood that a bank has been seen in, in front of the simulator, whose ledger stays true.

Whatever is lost, late, garbled or doubled here, the simulator answers each key as it always would; only what reaches it
and what comes back is at the mercy of the mood. Moods come from a seed.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import date, datetime
from random import Random
from uuid import UUID

from msgspec.structs import replace

from tolem.acquirers.base import Acquirer, AcquirerAnswer, AcquirerRequest, StatementLine, Verdict
from tolem.domain.card import CardField, CardProblem, TypedCard

SLOW_SECONDS = 0.03
"""Within the gateway's limit."""


class Moods:
    """What outlives a restart of the gateway: the source of moods, and the messages that are still on their way."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.is_calm = False
        self.on_their_way: list[AcquirerRequest] = []
        self.last_answer: AcquirerAnswer | None = None
        self.seen: list[str] = []

    async def deliver_late(self, acquirer: Acquirer) -> None:
        """What was thought lost arrives, in any order; nobody hears the answer."""
        self.random.shuffle(self.on_their_way)
        while self.on_their_way:
            await acquirer.send(self.on_their_way.pop())


class MoodyAcquirer:
    """One gateway's line to the acquirer."""

    def __init__(self, acquirer: Acquirer, moods: Moods) -> None:
        self.acquirer = acquirer
        self._moods = moods

    def check(self, card: TypedCard, today: date) -> dict[CardField, CardProblem]:
        """As the acquirer's."""
        return self.acquirer.check(card, today)

    async def send(self, request: AcquirerRequest) -> AcquirerAnswer:
        """One exchange, in some mood."""
        moods = self._moods
        weights = CARD_WEIGHTS if request.card else RECOVERY_WEIGHTS
        mood = "prompt" if moods.is_calm else moods.random.choices(tuple(MOODS), weights)[0]
        moods.seen.append(f"{request.kind} {str(request.key)[-6:]} {mood}")
        return await MOODS[mood](self, request)

    async def statement(self, since: datetime, until: datetime) -> list[StatementLine]:
        """As the acquirer's."""
        return await self.acquirer.statement(since, until)

    async def close(self) -> None:
        """As the acquirer's."""
        await self.acquirer.close()

    async def _prompt(self, request: AcquirerRequest) -> AcquirerAnswer:
        answer = await self.acquirer.send(request)
        self._moods.last_answer = answer
        return answer

    async def _slow(self, request: AcquirerRequest) -> AcquirerAnswer:
        await asyncio.sleep(SLOW_SECONDS)
        answer = await self.acquirer.send(request)
        await asyncio.sleep(SLOW_SECONDS)
        return answer

    async def _silent(self, request: AcquirerRequest) -> AcquirerAnswer:
        return await _silence()

    async def _answer_lost(self, request: AcquirerRequest) -> AcquirerAnswer:
        await self.acquirer.send(request)
        return await _silence()

    async def _late(self, request: AcquirerRequest) -> AcquirerAnswer:
        self._moods.on_their_way.append(request)
        return await _silence()

    async def _broken(self, request: AcquirerRequest) -> AcquirerAnswer:
        raise ConnectionError("no line")

    async def _broken_late(self, request: AcquirerRequest) -> AcquirerAnswer:
        self._moods.on_their_way.append(request)
        raise ConnectionError("the line broke, the message got through")

    async def _broken_after(self, request: AcquirerRequest) -> AcquirerAnswer:
        await self.acquirer.send(request)
        raise ConnectionError("the line broke before the answer")

    async def _twice(self, request: AcquirerRequest) -> AcquirerAnswer:
        first, second = await asyncio.gather(self.acquirer.send(request), self.acquirer.send(request))
        assert first == second
        return second

    async def _garbled(self, request: AcquirerRequest) -> AcquirerAnswer:
        """A verdict beside a reason that leaves everything open."""
        answer = await self._phantom(request)
        verdict = self._moods.random.choice((Verdict.APPROVED, Verdict.DECLINED, Verdict.UNKNOWN))
        return replace(answer, verdict=verdict, reason_code=self._moods.random.choice((454, 459, 460)))

    async def _mute_decline(self, request: AcquirerRequest) -> AcquirerAnswer:
        return replace(await self._phantom(request), verdict=Verdict.DECLINED, amount=0, reason_code=0)

    async def _other_key(self, request: AcquirerRequest) -> AcquirerAnswer:
        """The answer to an earlier question, or to nobody's."""
        phantom = await self._phantom(request)
        last = self._moods.last_answer
        if last is not None and last.key != request.key:
            return last
        return replace(phantom, key=UUID(int=self._moods.random.getrandbits(128)))

    async def _other_amount(self, request: AcquirerRequest) -> AcquirerAnswer:
        answer = await self.acquirer.send(request)
        return replace(answer, amount=answer.amount + self._moods.random.choice((-1, 1)))

    async def _phantom(self, request: AcquirerRequest) -> AcquirerAnswer:
        """An approval that means nothing: the message has arrived, will arrive, or was lost."""
        fate = self._moods.random.choice(("arrives", "arrives", "late", "lost"))
        if fate == "arrives":
            await self.acquirer.send(request)
        elif fate == "late":
            self._moods.on_their_way.append(request)
        return AcquirerAnswer(key=request.key, verdict=Verdict.APPROVED, amount=request.amount, approval_code="000000")


async def _silence() -> AcquirerAnswer:
    """Until the gateway gives up."""
    await asyncio.Event().wait()
    raise AssertionError


MOODS: dict[str, Callable[[MoodyAcquirer, AcquirerRequest], Awaitable[AcquirerAnswer]]] = {
    "prompt": MoodyAcquirer._prompt,
    "slow": MoodyAcquirer._slow,
    "silent": MoodyAcquirer._silent,
    "answer lost": MoodyAcquirer._answer_lost,
    "late": MoodyAcquirer._late,
    "broken": MoodyAcquirer._broken,
    "broken late": MoodyAcquirer._broken_late,
    "broken after": MoodyAcquirer._broken_after,
    "twice": MoodyAcquirer._twice,
    "garbled": MoodyAcquirer._garbled,
    "mute decline": MoodyAcquirer._mute_decline,
    "other key": MoodyAcquirer._other_key,
    "other amount": MoodyAcquirer._other_amount,
}
CARD_WEIGHTS = (35, 2, 2, 5, 4, 3, 5, 5, 4, 12, 8, 12, 8)
RECOVERY_WEIGHTS = (15, *CARD_WEIGHTS[1:])
"""Inquiries and reversals are rarer, and what goes wrong with them matters more."""
