"""Delivers the outbox: first tries right after the commit, everything else by the durable loop.

The flows hand over a message whose lease they committed (`lease`, `send`); the loop (`run`) claims what is due:
retries, messages that waited for an older one of their order, and what a process that died had leased. It looks when it
is woken, in this process or by a commit of another one, and now and then. A message is claimed only when its host has a
free slot. Each try's result is stored under the message's lease in one change, with the next state; if that is
impossible the lease runs out and the message is sent again: at least once, never less.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from datetime import datetime
from typing import Protocol
from uuid import UUID

from tolem.clock import Clock
from tolem.domain.errors import Overloaded, Uncertain
from tolem.domain.history import MessageWithOrder
from tolem.domain.message import Message, MessageState
from tolem.ids import Ids
from tolem.notifications.attempts import Stored, decide_result, decide_return, is_leased
from tolem.notifications.hosts import Hosts, Slot
from tolem.notifications.outbox import Lease
from tolem.notifications.schedule import TryResult
from tolem.notifications.takeover import note_interruptions
from tolem.notifications.terms import LEASE, Terms
from tolem.storage import keys
from tolem.storage.claims import claim_messages, free_leases, list_due_hosts
from tolem.storage.store import Decision, Store
from tolem.telemetry import Outages, log

LOOP = "notifications"
"""Its name, where failures are told."""

CONCURRENCY = 1024
"""Tries at one time in this process."""

PER_HOST = 32
"""Tries at one time to one host: also the sender's connections."""

CLAIM_MAX = 128
"""Messages that are claimed at one time: the database works on them for some milliseconds."""

POLL_SECONDS = 1.0
"""Longest sleep of the loop: what falls due by time, and what a program beside the server wrote, is seen after this."""

BACK_OFF_SECONDS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
"""Waits after failures of the database; the last one repeats."""


class Carrier(Protocol):
    """Carries a message to its shop: the sender, or a sandbox's faults in front of it."""

    async def send(self, message: Message, terms: Terms) -> TryResult | None:
        """One try, which always answers within terms.whole_seconds. None: there was none, the lease was given up."""
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
        outages: Outages | None = None,
    ) -> None:
        """`instance`: the store's own, since leases end with it. `find_terms`: of a terminal, by its id. `on_try` is
        told of every try that was stored, `outages` of what the loop fails at."""
        self._store = store
        self._clock = clock
        self._ids = ids
        self._sender = sender
        self._instance = instance
        self._find_terms = find_terms
        self._hosts = Hosts(concurrency, per_host)
        self._poll_seconds = poll_seconds
        self._on_try = on_try
        self._outages = outages or Outages()
        self._tasks: set[asyncio.Task[None]] = set()
        self._of_order: dict[UUID, asyncio.Task[None]] = {}
        """The latest running try of each order."""
        self._woken = asyncio.Event()
        self._loop_ended = asyncio.Event()
        self._loop_ended.set()
        self._stopping = False
        self._after = ""
        """The host at which the next look goes on, if more are due than can be looked at."""
        self._freed_at = 0.0
        """When leases of the dead were ended last, by the loop's time."""

    def lease(self) -> Lease:
        """This process's right to send a message that is about to be committed."""
        return Lease(self._instance, self._clock.real_now() + LEASE)

    def send(self, message: Message) -> None:
        """Sends a message that was just committed, if it was composed under our lease.

        If its host has no free slot the lease is given back, and the loop takes the message when it has.
        """
        if message.state is not MessageState.SENDING or message.lease_owner != self._instance:
            return  # it waits for an older one of its order
        self._start_or_give_back(message)

    def wake(self) -> None:
        """Something may have become due: a message was committed as waiting, a lease ended, the clock was moved."""
        self._woken.set()

    async def run(self) -> None:
        """The durable loop, until `stop`. Survives every failure of the database."""
        self._loop_ended.clear()
        self._store.listen(self.wake)
        failures = 0
        try:
            while not self._stopping:
                self._woken.clear()
                try:
                    await self._free_leases()
                    await self._claim()
                    failures = 0
                    self._outages.succeeded(LOOP)
                    await self._sleep(self._poll_seconds)
                except Exception as error:
                    delay = BACK_OFF_SECONDS[min(failures, len(BACK_OFF_SECONDS) - 1)]
                    failures += 1
                    self._outages.failed(LOOP, error)
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

    async def _free_leases(self) -> None:
        """What processes that died had leased is anybody's again. The look is cheap, and need not follow every wake."""
        now = asyncio.get_running_loop().time()
        if now - self._freed_at >= self._poll_seconds:
            self._freed_at = now
            freed = await free_leases(self._store, real_now=self._clock.real_now())
            await note_interruptions(self._store, self._ids, freed, self._clock.now())

    async def _claim(self) -> None:
        """Leases what is due, as far as there are free slots, and starts it. Looks at every host once."""
        self._hosts.begin_round()
        start, wraps = self._after, 0
        while not self._stopping:
            if not self._hosts.free:
                self._hosts.note_unseen()
                return
            due = await list_due_hosts(self._store, now=self._clock.now(), after=self._after)
            if not await self._claim_of(due.names):
                return
            self._after = due.next_after or ""
            wraps += not self._after
            if due.next_after is None or wraps > 1 or (wraps and self._after >= start):
                return

    async def _claim_of(self, names: Sequence[str]) -> bool:
        """The same for some hosts. False: no slot was left before the last of them."""
        while names:
            plan = self._hosts.plan(names, asyncio.get_running_loop().time(), CLAIM_MAX)
            if plan.quotas:
                claimed = await claim_messages(
                    self._store, plan.quotas, now=self._clock.now(), lease=self.lease(), limit=CLAIM_MAX
                )
                for message in claimed:
                    self._start_or_give_back(message)
                self._hosts.note_claimed(Counter(message.host for message in claimed), plan)
            elif plan.rest:
                self._hosts.note_unseen()
                return False
            names = plan.rest
        return True

    async def _sleep(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        except TimeoutError:
            return

    def _start_or_give_back(self, message: Message) -> None:
        """Begins a try, unless the host has no free slot or we are stopping."""
        slot = None if self._stopping else self._hosts.take(message.host, asyncio.get_running_loop().time())
        if slot is None:
            self._spawn(self._give_back(message))
            return
        older = self._of_order.get(message.order_id)
        task = self._spawn(self._deliver(message, slot, older))
        self._of_order[message.order_id] = task

        def release(_: asyncio.Task[None]) -> None:
            self._hosts.give_back(slot)
            if self._of_order.get(message.order_id) is task:
                del self._of_order[message.order_id]
            if self._hosts.is_worth_a_claim(message.host):
                self.wake()

        task.add_done_callback(release)

    def _spawn(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._forget)
        return task

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled() or (error := task.exception()) is None:
            return
        # Its lease runs out, and the message is sent again.
        if isinstance(error, Overloaded | Uncertain):
            self._outages.failed(LOOP, error)
        else:
            log.error("notification_fault", exc_info=error)

    async def _deliver(self, message: Message, slot: Slot, older: asyncio.Task[None] | None) -> None:
        """One try from lease to stored result."""
        if older is not None:
            # A failure that was withdrawn in the middle of its try: the newer message must not overtake it on the way.
            await asyncio.wait((older,))
            stored = await self._store.find(keys.message_by_id(message.id))
            if stored is None or not is_leased(stored.record, message, self._instance):
                return  # withdrawn or taken over meanwhile
        terms = await self._find_terms(message.terminal_id)
        if self._seconds_left(message) < terms.whole_seconds:
            await self._give_back(message)
            return
        at, started = self._clock.now(), asyncio.get_running_loop().time()
        result = await self._sender.send(message, terms)
        if result is None:
            return
        # The slot was held until the body's start had come, too.
        taken = asyncio.get_running_loop().time() - started
        self._hosts.judge(slot, taken, is_answered=result.status is not None)
        counted = await self._store_result(message, terms, at, result)
        if counted is None:
            return
        log.info(
            "notification_try",
            message_id=str(message.id),
            order_id=str(message.order_id),
            host=message.host,
            number=counted.number,
            status=result.status,
            error=result.error,
            duration_ms=result.duration_ms,
            state=counted.outcome.state,
        )
        if self._on_try is not None:
            self._on_try(result)

    async def _store_result(self, message: Message, terms: Terms, at: datetime, result: TryResult) -> Stored | None:
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
            return decide_return(loaded, message, self._instance)

        await self._store.change((keys.message_by_id(message.id),), decide)
        self._hosts.note_left(message.host)
        if self._hosts.is_worth_a_claim(message.host):
            self.wake()

    def _seconds_left(self, message: Message) -> float:
        """Of the message's lease."""
        until = message.leased_until
        return (until - self._clock.real_now()).total_seconds() if until else 0.0
