"""What every exchange with the acquirer has in common: reserve → call → record, whoever asks for it.

The operation is committed as `prepared` before the call and its outcome after it; no transaction is open around the
call. The steps run in a task of their own: a caller that goes away cannot stop it, and closing waits for it.
"""

import asyncio
from collections.abc import Callable, Coroutine
from datetime import datetime, timedelta
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

from tolem.acquirers.base import Acquirer, AcquirerAnswer, AcquirerRequest, AnswerGarbled
from tolem.clock import Clock
from tolem.domain.history import OrderHistory
from tolem.domain.merchant import Terminal
from tolem.domain.payment import Operation
from tolem.flows import outcome
from tolem.flows.outcome import Recorded
from tolem.flows.rounds import Stamp
from tolem.ids import Ids
from tolem.notifications.notifier import Notifier
from tolem.storage import keys
from tolem.storage.store import Decision, Store
from tolem.telemetry import log

T = TypeVar("T")


class Limits(NamedTuple):
    """Real time around an exchange."""

    exchange_seconds: float = 10.0
    """An acquirer that has not answered by then leaves the outcome unknown."""
    margin_seconds: float = 5.0
    """Recovery waits this much longer, so that it never meets an exchange that is still running."""
    recovery_tries: int = 60
    """So many recovery steps, then people are alerted; about an hour, since gaps grow to a minute."""

    @property
    def claim(self) -> timedelta:
        """So long an operation belongs to whoever is about to ask the acquirer: one exchange and the margin, for what
        is stored before it."""
        return timedelta(seconds=self.exchange_seconds + self.margin_seconds)


class Acquiring:
    """One process's dealings with its acquirer."""

    def __init__(
        self, store: Store, clock: Clock, ids: Ids, acquirer: Acquirer, notifier: Notifier, limits: Limits
    ) -> None:
        self.store = store
        self.clock = clock
        self.ids = ids
        self.acquirer = acquirer
        self.limits = limits
        self._notifier = notifier
        self._running: set[asyncio.Task[Any]] = set()

    def stamp(self) -> Stamp:
        """Time and ids for one decision."""
        return Stamp(self.clock.now(), self.clock.real_now(), self.ids.new(), self.ids.new(), self._notifier.lease())

    def claim_until(self) -> datetime:
        """`Operation.asked_until` of what the acquirer is going to be asked about now. Recovery may take it up then."""
        return self.clock.real_now() + self.limits.claim

    async def exchange(self, request: AcquirerRequest, until: datetime | None) -> AcquirerAnswer | str:
        """The acquirer's answer, or in words why there is no certain one. Never raises what the acquirer raises.

        `until`: `Operation.asked_until` as the caller stored it. Nothing is asked for longer, nor sent after it.
        """
        left = (until - self.clock.real_now()).total_seconds() if until else 0.0
        if left <= 0:
            return "its time was over before it was sent"
        seconds = min(left, self.limits.exchange_seconds)
        try:
            async with asyncio.timeout(seconds):
                answer = await self.acquirer.send(request)
        except TimeoutError:
            return f"no answer within {seconds:.3g} s"
        except (OSError, AnswerGarbled) as error:  # no connection, or no answer: every exchange says so while it lasts
            reason = f"{type(error).__name__}: {error}"
            log.warning("acquirer_failed", operation=str(request.key), kind=request.kind, reason=reason)
            return f"the exchange failed: {type(error).__name__}"
        except Exception as error:
            log.warning("acquirer_failed", operation=str(request.key), kind=request.kind, exc_info=error)
            return f"the exchange failed: {type(error).__name__}"
        if answer.key != request.key:
            return "the answer belongs to another exchange"
        return answer

    async def record(
        self,
        operation: Operation,
        currency: str,
        terminal: Terminal,
        answer: AcquirerAnswer | str,
        recovered_by: str = "",
    ) -> Recorded:
        """What came back becomes the operation's outcome, and its message leaves. Words: nothing certain came.

        `recovered_by`: how recovery came by the answer; the operation's caller was not told its result then.
        """
        stamp = self.stamp()
        certain = None if isinstance(answer, str) or not outcome.is_certain(answer, operation, currency) else answer
        cause = (
            answer if isinstance(answer, str) else f"{recovered_by or 'answer'}: {answer.verdict} {answer.reason_code}"
        )
        due_at = stamp.real_at + timedelta(seconds=self.limits.margin_seconds)

        def decide(history: OrderHistory) -> Decision[Recorded]:
            if certain is None:
                return outcome.record_unknown(history, operation, due_at, cause, stamp)
            decision = outcome.record_answer(
                history, operation.id, certain, terminal, stamp, was_recovered=bool(recovered_by)
            )
            if not decision.answer.must_reverse or recovered_by:  # recovery goes on with it
                return decision
            late = "approved when it may not count any more"
            unknown = outcome.record_unknown(history, operation, stamp.real_at, late, stamp)
            return Decision(decision.answer, (*decision.writes, *unknown.writes))

        recorded = await self.settle(operation.order_id, decide)
        if recorded.is_contradicted:
            log.error("late_approval", order=str(operation.order_id), operation=str(operation.id), kind=operation.kind)
        return recorded

    async def settle(self, order_id: UUID, decide: Callable[[OrderHistory], Decision[Recorded]]) -> Recorded:
        """Commits an outcome; once it is stored, its message is sent."""

        def decide_stored(history: OrderHistory | None) -> Decision[Recorded]:
            if history is None:
                raise LookupError(f"order {order_id} of an operation is not stored")
            return decide(history)

        recorded = await self.store.change((keys.order_by_id(order_id),), decide_stored)
        self.tell(recorded)
        return recorded

    def tell(self, recorded: Recorded) -> None:
        """Sends the message of an outcome that is stored, if it has one."""
        if recorded.message is not None:
            self._notifier.send(recorded.message)

    async def run(
        self, work: Coroutine[Any, Any, T], ready: "asyncio.Future[None]", patience_seconds: float
    ) -> T | None:
        """Runs `work` to its end whatever becomes of the caller. Its result, or None once the patience is over, which
        begins when `work` says that it is `ready`: until then there is nothing that a payer could be shown.

        Raises what it raises within the patience; later it is logged.
        """
        task = asyncio.ensure_future(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        # One future and one timer: asyncio.wait would cost a payment more than storing it does.
        loop = asyncio.get_running_loop()
        over = loop.create_future()
        timers: list[asyncio.TimerHandle] = []

        def end(_: object = None) -> None:
            if not over.done():
                over.set_result(None)

        task.add_done_callback(end)
        ready.add_done_callback(lambda _: timers.append(loop.call_later(patience_seconds, end)))
        await over
        for timer in timers:
            timer.cancel()
        if task.done():
            return task.result()
        task.add_done_callback(_log_failure)
        return None

    async def finish(self, work: Coroutine[Any, Any, T]) -> T:
        """Runs `work`, which ends by its own limits, to its end whatever becomes of the caller."""
        task = asyncio.ensure_future(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return await asyncio.shield(task)

    async def close(self, timeout_seconds: float) -> None:
        """Waits for what runs; what is not done by then is recovered after the next start."""
        if self._running:
            await asyncio.wait(self._running, timeout=timeout_seconds)


def _log_failure(task: "asyncio.Task[Any]") -> None:
    """What outlived its caller's patience has nobody else to tell of its fault."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("exchange_failed", exc_info=error)
