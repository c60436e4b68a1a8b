"""An acquirer in a mood: the simulator's books stay true, what reaches the gateway does not."""

import asyncio
from datetime import date, datetime
from enum import StrEnum

from msgspec.structs import replace

from tolem.acquirers.base import Acquirer, AcquirerAnswer, AcquirerRequest, StatementLine, Verdict
from tolem.domain.card import Card, CardField, CardProblem
from tolem.domain.payment import OperationKind
from tolem.ids import Ids


class Mood(StrEnum):
    """What becomes of one exchange."""

    WELL = "well"
    LOST = "lost"  # done, but the answer never comes
    REFUSED = "refused"  # not done, the connection fails
    SILENT = "silent"  # not done, no answer
    UNSURE = "unsure"  # done, and the acquirer says that it does not know
    FOREIGN = "foreign"  # done, the answer is about another key
    SHORT = "short"  # done, the answer is about another amount


class MoodyAcquirer:
    """Does what `moods` says for the next exchanges of a kind, then behaves."""

    def __init__(self, inner: Acquirer) -> None:
        self.inner = inner
        self.moods: dict[OperationKind, list[Mood]] = {}
        self.sent: list[AcquirerRequest] = []

    def feel(self, kind: OperationKind, *moods: Mood) -> None:
        """The moods of the next exchanges of that kind."""
        self.moods.setdefault(kind, []).extend(moods)

    def count(self, kind: OperationKind) -> int:
        """How many exchanges of that kind came, with different keys."""
        return len({request.key for request in self.sent if request.kind is kind})

    def check(self, card: Card, today: date) -> tuple[CardField, CardProblem] | None:
        """As the simulator."""
        return self.inner.check(card, today)

    async def send(self, request: AcquirerRequest) -> AcquirerAnswer:
        """One exchange."""
        self.sent.append(request)
        waiting = self.moods.get(request.kind, [])
        mood = waiting.pop(0) if waiting else Mood.WELL
        if mood is Mood.REFUSED:
            raise ConnectionRefusedError("nobody there")
        if mood is Mood.SILENT:
            await asyncio.Event().wait()
        answer = await self.inner.send(request)
        match mood:
            case Mood.LOST:
                await asyncio.Event().wait()
            case Mood.UNSURE:
                return replace(answer, verdict=Verdict.UNKNOWN, reason_code=454)
            case Mood.FOREIGN:
                return replace(answer, key=Ids().new())
            case Mood.SHORT:
                return replace(answer, amount=answer.amount + 1)
            case _:
                pass
        return answer

    async def statement(self, since: datetime, until: datetime) -> list[StatementLine]:
        """The true books."""
        return await self.inner.statement(since, until)

    async def close(self) -> None:
        """Closes the simulator."""
        await self.inner.close()
