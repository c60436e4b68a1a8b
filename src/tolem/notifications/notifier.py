"""Delivers the outbox: first tries right after the commit, everything else by the durable loop.

The flows hand over a message whose lease they committed (`lease`, `send`); the loop (`run`) claims what is due:
retries, messages that waited for an older one of their order, and what a process that died had leased. A message is
claimed only when its host has a free slot. Each try's result is stored under the message's lease in one change, with
the next state; if that is impossible the lease runs out and the message is sent again: at least once, never less.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from datetime import datetime
from typing import NamedTuple, Protocol
from uuid import UUID

from msgspec.structs import replace

from tolem.clock import Clock
from tolem.domain.history import MessageWithOrder
from tolem.domain.message import Attempt, Message, MessageKind, MessageState
from tolem.ids import Ids
from tolem.notifications.outbox import Lease
from tolem.notifications.schedule import Outcome, TryResult, next_try
from tolem.notifications.slots import Slots
from tolem.notifications.terms import LEASE, Terms
from tolem.storage import keys
from tolem.storage.store import Decision, Store
from tolem.storage.sweeps import claim_messages
from tolem.telemetry import log

CONCURRENCY = 1024
"""Tries at one time in this process."""

PER_HOST = 32
"""Tries at one time to one host: also the sender's connections."""

POLL_SECONDS = 1.0
"""Longest sleep of the loop: what other programs made due is seen after this."""

BACK_OFF_SECONDS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
"""Waits after failures of the database; the last one repeats."""


class Carrier(Protocol):
    """Carries a message to its shop: the sender, or a sandbox's faults in front of it."""

    async def send(self, message: Message, terms: Terms) -> TryResult:
        """One try, which always answers within terms.whole_seconds."""
        ...


class Notifier:
    """One for each process. `lease`, `send` and `wake` may be called at any time; `run` is the loop; `stop` ends it."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        ids: Ids,
        sender: Carrier,
        instance: int,
        find_terms: Callable[[UUID], Awaitable[Terms]],
        *,
        concurrency: int = CONCURRENCY,
        per_host: int = PER_HOST,
        poll_seconds: float = POLL_SECONDS,
        on_try: Callable[[TryResult], None] | None = None,
    ) -> None:
        """`instance`: the store's own, since leases end with it. `find_terms`: of a terminal, by its id. `on_try` is
        told of every try that was stored."""
        self._store = store
        self._clock = clock
        self._ids = ids
        self._sender = sender
        self._instance = instance
        self._find_terms = find_terms
        self._slots = Slots(concurrency, per_host)
        self._poll_seconds = poll_seconds
        self._on_try = on_try
        self._tasks: set[asyncio.Task[None]] = set()
        self._of_order: dict[UUID, asyncio.Task[None]] = {}
        """The latest running try of each order."""
        self._woken = asyncio.Event()
        self._loop_ended = asyncio.Event()
        self._loop_ended.set()
        self._stopping = False
        self._left_due = False
        """Due messages may have been left, because the slots of their hosts were taken."""

    def lease(self) -> Lease:
        """This process's right to send a message that is about to be committed."""
        return Lease(self._instance, self._clock.real_now() + LEASE)

    def send(self, message: Message) -> None:
        """Sends a message that was just committed, if it was composed under our lease.

        If its host has no free slot the lease is given back, and the loop takes the message when it has.
        """
        if message.state is not MessageState.SENDING or message.lease_owner != self._instance:
            return  # it waits for an older one of its order
        if not self._start(message):
            self._spawn(self._give_back(message))

    def wake(self) -> None:
        """Something may have become due: a message was committed as waiting, a lease ended, the clock was moved."""
        self._woken.set()

    async def run(self) -> None:
        """The durable loop, until `stop`. Survives every failure of the database."""
        self._loop_ended.clear()
        failures = 0
        try:
            while not self._stopping:
                self._woken.clear()
                try:
                    await self._claim()
                    failures = 0
                    await self._sleep(self._poll_seconds)
                except Exception:
                    delay = BACK_OFF_SECONDS[min(failures, len(BACK_OFF_SECONDS) - 1)]
                    failures += 1
                    log.exception("notifications_claim_failed", retry_seconds=delay)
                    await asyncio.sleep(delay)
        finally:
            self._loop_ended.set()

    async def stop(self, timeout_seconds: float) -> None:
        """Claims nothing more and waits for what runs; what is not done in time is left to the next process."""
        self._stopping = True
        self.wake()
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._loop_ended.wait()
                while self._tasks:
                    await asyncio.wait(tuple(self._tasks))
        except TimeoutError:
            log.warning("notifications_cut_short", tries=len(self._tasks))
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _claim(self) -> None:
        """Leases what is due, as far as there are free slots, and starts it."""
        while not self._stopping:
            busy_hosts = self._slots.busy_hosts()
            # Something may wait for the slots that are taken: when they get free, it is worth another look.
            self._left_due = bool(busy_hosts) or self._slots.free == 0
            if self._slots.free == 0:
                return
            claimed = await claim_messages(
                self._store,
                now=self._clock.now(),
                real_now=self._clock.real_now(),
                lease=self.lease(),
                limit=self._slots.free,
                per_host=self._slots.free_per_host(),
                full_hosts=busy_hosts,
            )
            for message in claimed:
                if not self._start(message):
                    self._spawn(self._give_back(message))
            if not claimed:
                return

    async def _sleep(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        except TimeoutError:
            return

    def _start(self, message: Message) -> bool:
        """Begins a try; False if the host has no free slot, or if we are stopping."""
        if self._stopping or not self._slots.take(message.host):
            return False
        older = self._of_order.get(message.order_id)
        task = self._spawn(self._deliver(message, older))
        self._of_order[message.order_id] = task

        def release(_: asyncio.Task[None]) -> None:
            self._slots.give_back(message.host)
            if self._of_order.get(message.order_id) is task:
                del self._of_order[message.order_id]
            if self._left_due and self._slots.may_claim(message.host):
                self.wake()

        task.add_done_callback(release)
        return True

    def _spawn(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._forget)
        return task

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            # Its lease runs out, and the message is sent again.
            log.error("notification_fault", exc_info=error)

    async def _deliver(self, message: Message, older: asyncio.Task[None] | None) -> None:
        """One try from lease to stored result."""
        if older is not None:
            # A failure that was withdrawn in the middle of its try: the newer message must not overtake it on the way.
            await asyncio.wait((older,))
        terms = await self._find_terms(message.terminal_id)
        if self._seconds_left(message) < terms.whole_seconds:
            await self._give_back(message)
            return
        at = self._clock.now()
        result = await self._sender.send(message, terms)
        stored = await self._store_result(message, terms, at, result)
        if stored is None:
            return
        log.info(
            "notification_try",
            message_id=str(message.id),
            order_id=str(message.order_id),
            host=message.host,
            number=stored.number,
            status=result.status,
            error=result.error,
            duration_ms=result.duration_ms,
            state=stored.outcome.state,
        )
        if self._on_try is not None:
            self._on_try(result)
        if stored.frees_another:
            self.wake()

    async def _store_result(self, message: Message, terms: Terms, at: datetime, result: TryResult) -> "Stored | None":
        """Stores a try, patiently: a shop should not get a message twice because our database was away."""
        now = self._clock.now()
        jitter = (self._ids.new().int & 0xFFFF_FFFF) / 2**32  # the random end of an id

        def decide(loaded: MessageWithOrder | None) -> Decision[Stored | None]:
            return decide_result(loaded, message, terms, self._instance, at, result, now, jitter)

        failures = 0
        while True:
            try:
                stored = await self._store.change((keys.message_by_id(message.id),), decide)
            except Exception as error:
                delay = BACK_OFF_SECONDS[min(failures, len(BACK_OFF_SECONDS) - 1)]
                failures += 1
                if self._seconds_left(message) <= delay:
                    raise
                log.warning("notification_result_waits", message_id=str(message.id), cause=type(error).__name__)
                await asyncio.sleep(delay)
            else:
                if stored is None:
                    log.warning("notification_lease_lost", message_id=str(message.id), status=result.status)
                return stored

    async def _give_back(self, message: Message) -> None:
        """Ends our lease without a try."""

        def decide(loaded: MessageWithOrder | None) -> Decision[None]:
            if loaded is None or not _is_leased(loaded.record, message, self._instance):
                return Decision(None)
            waiting = replace(loaded.record, state=MessageState.WAITING, lease_owner=None, leased_until=None)
            return Decision(None, (waiting,))

        await self._store.change((keys.message_by_id(message.id),), decide)
        self._left_due = True
        if self._slots.may_claim(message.host):
            self.wake()

    def _seconds_left(self, message: Message) -> float:
        """Of the message's lease."""
        until = message.leased_until
        return (until - self._clock.real_now()).total_seconds() if until else 0.0


class Stored(NamedTuple):
    """A try that counts."""

    number: int
    outcome: Outcome
    frees_another: bool
    """A newer message of the order has waited for this one's end."""


def decide_result(
    loaded: MessageWithOrder | None,
    message: Message,
    terms: Terms,
    instance: int,
    at: datetime,
    result: TryResult,
    now: datetime,
    jitter: float,
) -> Decision[Stored | None]:
    """The try of `message` that began at `at` as an attempt and the message's next state; None if our lease was lost.

    A message that was withdrawn meanwhile stays withdrawn, but what the shop was told is on record.
    """
    if loaded is None:
        return Decision(None)
    record = loaded.record
    is_withdrawn = record.state is MessageState.WITHDRAWN and record.tries == message.tries
    if not is_withdrawn and not _is_leased(record, message, instance):
        return Decision(None)
    number = record.tries + 1
    outcome = (
        Outcome(MessageState.WITHDRAWN, None)
        if is_withdrawn
        else next_try(terms, number - record.tries_before, result, now, jitter)
    )
    is_overtaken = record.kind is MessageKind.FAILURE and record.round_id != loaded.history.order.round_id
    if is_overtaken and outcome.state is MessageState.WAITING:
        outcome = Outcome(MessageState.WITHDRAWN, None)  # a new round began while this was on its way
    attempt = Attempt(
        message_id=record.id,
        number=number,
        at=at,
        duration_ms=result.duration_ms,
        status=result.status,
        error=result.error,
        fault=result.fault,
        address=result.address,
        headers=result.headers,
        response=result.response,
    )
    moved = replace(
        record, state=outcome.state, tries=number, due_at=outcome.due_at, lease_owner=None, leased_until=None
    )
    is_over = outcome.state is not MessageState.WAITING
    frees_another = is_over and any(other.id != record.id for other in loaded.history.messages.values())
    return Decision(Stored(number, outcome, frees_another), (attempt, moved))


def _is_leased(record: Message, message: Message, instance: int) -> bool:
    """The stored message is still in the hands of the try that began with `message`."""
    return (record.state, record.lease_owner, record.tries) == (MessageState.SENDING, instance, message.tries)
