"""An acquirer in a mood: the simulator's books stay true, what reaches the gateway does not. And a store in one."""

import asyncio
from datetime import date, datetime
from enum import StrEnum
from typing import Any

from msgspec.structs import replace

from tolem.acquirers.base import Acquirer, AcquirerAnswer, AcquirerRequest, StatementLine, Verdict
from tolem.domain.card import CardField, CardProblem, TypedCard
from tolem.domain.payment import OperationKind
from tolem.ids import Ids
from tolem.storage.store import Overloaded, Store, Unavailable, Uncertain


class Mood(StrEnum):
    """What becomes of one exchange."""

    WELL = "well"
    LOST = "lost"  # done, but the answer never comes
    REFUSED = "refused"  # not done, the connection fails
    SILENT = "silent"  # not done, no answer
    UNSURE = "unsure"  # done, and the acquirer says that it does not know
    FOREIGN = "foreign"  # done, the answer is about another key
    SHORT = "short"  # done, the answer is about another amount
    UNCODED = "uncoded"  # done, the approval has no code
    MISCODED = "miscoded"  # done, the approval's code is no code


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

    def check(self, card: TypedCard, today: date) -> dict[CardField, CardProblem]:
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
            case Mood.UNCODED:
                return replace(answer, approval_code="")
            case Mood.MISCODED:
                return replace(answer, approval_code="12 456")
            case _:
                pass
        return answer

    async def statement(self, since: datetime, until: datetime) -> list[StatementLine]:
        """The true books."""
        return await self.inner.statement(since, until)

    async def close(self) -> None:
        """Closes the simulator."""
        await self.inner.close()


class Fault(StrEnum):
    """What becomes of one change."""

    NONE = "none"
    BUSY = "busy"  # refused, nothing is stored
    LOST = "lost"  # nothing is stored, and nobody can tell
    STORED = "stored"  # stored, and nobody can tell


class MoodyStore:
    """A store in front of a store: the next changes and readings fail as a test says, then all is well."""

    def __init__(self, inner: Store) -> None:
        self._inner = inner
        self.changes: list[Fault] = []
        self.failing_finds = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def change(self, keys: Any, decide: Any) -> Any:
        """As the store's, but for the faults."""
        fault = self.changes.pop(0) if self.changes else Fault.NONE
        if fault is Fault.BUSY:
            raise Overloaded("5000 changes wait already")
        if fault is Fault.LOST:
            raise Uncertain("the connection was lost at COMMIT")
        answer = await self._inner.change(keys, decide)
        if fault is Fault.STORED:
            raise Uncertain("the connection was lost at COMMIT")
        return answer

    async def find(self, key: Any) -> Any:
        """As the store's, but for the faults."""
        if self.failing_finds:
            self.failing_finds -= 1
            raise Unavailable("no connection to PostgreSQL")
        return await self._inner.find(key)
