"""The one door for writing. Changes are decided and stored in batches: whatever queued while the last commit ran, and
what comes in the next turns of the loop while each of them brings more.

Flows call `change` with the keys of what they need to see and a plain function that decides; sweeps.py and queries.py
use `sweep` and `select`. Invariant: a caller is answered only after the commit that holds what its decision saw and
wrote, and every caller gets the answer of its own change, whatever happens to the others of its batch.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple, TypeVar, cast

import sqlalchemy as sa

from tolem.domain.errors import Overloaded, Uncertain
from tolem.storage.batch import Batch, Conflict
from tolem.storage.change import Decision, Key, Unavailable
from tolem.storage.engine import Engine
from tolem.storage.mapping import Schema
from tolem.storage.statements import Query, statements_of
from tolem.telemetry import log

__all__ = ["Decision", "Key", "Overloaded", "Store", "Unavailable", "Uncertain"]

A = TypeVar("A")
F = TypeVar("F")

BATCH_MAX = 128
TURNS_MAX = 8
"""Turns of the loop that a batch waits for more, at most: each runs what is ready, and a quiet loop has one."""
WAITING_MAX = 5_000
TRIES_MAX = 3
"""Retries of a lone change."""
RETRY_SECONDS = 0.02
"""Pause before the second retry, twice that before the third; the first is at once."""
CONNECT_SECONDS_MAX = 5.0
"""How long a batch waits for a database that is away, before its callers are told."""
AWAY_SECONDS_MAX = 1.0
"""The same for every batch after one that waited in vain, until the database is back: nobody waits twice."""


class _Change(NamedTuple):
    keys: Sequence[Key[Any]]
    decide: Callable[..., Decision[Any]]
    future: "asyncio.Future[Any]"


class _Sweep(NamedTuple):
    query: Query
    decode: Callable[[tuple[Any, ...]], Any]
    future: "asyncio.Future[Any]"


class _Search(NamedTuple):
    key: Key[Any]
    future: "asyncio.Future[Any]"


class _Outcome(NamedTuple):
    future: "asyncio.Future[Any]"
    answer: Any
    error: Exception | None


class Store:
    """All that is stored under one schema. Made by open.py; used on the loop that opened it."""

    def __init__(
        self,
        engine: Engine,
        schema: Schema,
        instance: int,
        *,
        batch_max: int = BATCH_MAX,
        waiting_max: int = WAITING_MAX,
    ) -> None:
        self.instance = instance
        """Name of this process, for leases."""
        self.batches = 0
        """Transactions begun."""
        self.failed_batches = 0
        """Transactions that had to be run again, whole or in halves, or failed."""
        self._engine = engine
        self._schema = schema
        self._statements = statements_of(schema, engine.dialect)
        self._batch_max = batch_max
        self._waiting_max = waiting_max
        self._waiting: deque[_Change | _Sweep] = deque()
        self._wake = asyncio.Event()
        self._closing = False
        self._is_away = False
        """The last batch waited for the database in vain."""
        self._task: asyncio.Task[None] | None = None
        self._wanted: list[_Search] = []
        self._reading: asyncio.Task[None] | None = None
        """Runs while something is wanted."""

    @property
    def waiting_count(self) -> int:
        """Changes and sweeps that wait for their turn."""
        return len(self._waiting)

    @property
    def dialect(self) -> str:
        """`sqlite` or `postgresql`."""
        return self._engine.dialect

    async def open(self) -> None:
        """Connects and starts the writer."""
        await self._engine.open()
        self._task = asyncio.create_task(self._run(), name=f"{self._schema.name} writer")

    def change(self, keys: Sequence[Key[Any]], decide: Callable[..., Decision[A]]) -> "asyncio.Future[A]":
        """Runs `decide` on what the keys load, one argument for each key, and stores what it writes.

        `decide` does no I/O and may run more than once. What it raises reaches its caller only, and nothing of it is
        stored. A caller cancelled before its turn is dropped; later the change stands. Raises Overloaded, Uncertain.
        """
        future: asyncio.Future[A] = asyncio.get_running_loop().create_future()
        self._enqueue(_Change(keys, decide, future))
        return future

    def sweep(self, statement: sa.Executable, **params: Any) -> "asyncio.Future[list[Any]]":
        """Runs a set-based UPDATE or DELETE in a transaction of its own, in line with the changes.

        Answers the rows that it returns: records if they are whole rows of a table, otherwise tuples.
        """
        text, encode, decode = self._statements.prepared(statement)
        future: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        self._enqueue(_Sweep(Query(text, encode(params)), decode, future))
        return future

    def find(self, key: Key[F]) -> "asyncio.Future[F | None]":
        """Reads what a key names, beside the writer: all of it as of one moment, not older than the last answer.

        What is asked for at one time is read together. What is found is for reading: others may have found it too.
        """
        future: asyncio.Future[F | None] = asyncio.get_running_loop().create_future()
        self._wanted.append(_Search(key, future))
        if self._reading is None:
            self._reading = asyncio.create_task(self._read_wanted(), name=f"{self._schema.name} reader")
        return future

    async def select(self, statement: sa.Executable, **params: Any) -> list[Any]:
        """Runs a short SELECT beside the writer. Answers as `sweep` does."""
        text, encode, decode = self._statements.prepared(statement)
        query = Query(text, encode(params))

        async def work(fetch: Callable[[Sequence[Query]], Awaitable[list[list[Any]]]]) -> list[list[Any]]:
            return await fetch((query,))

        (rows,) = await self._engine.read(work)
        return [decode(row) for row in rows]

    async def probe(self) -> None:
        """Waits until the writer could write now. Raises Unavailable while another process keeps it from writing."""
        await self.change((), lambda: Decision(None))

    def listen(self, on_wake: Callable[[], None]) -> None:
        """Calls `on_wake` when a change that wakes (Decision.wakes) was committed, and when one may have been missed.

        On PostgreSQL that is heard from every process, on SQLite from this one: look now and then all the same.
        """
        self._engine.listen(on_wake)

    async def close(self) -> None:
        """Refuses what is new, finishes what waits, disconnects."""
        self._closing = True
        self._wake.set()
        try:
            if self._task is not None:
                await self._task
            if self._reading is not None:
                await self._reading
        finally:
            await self._engine.close()

    def _enqueue(self, job: _Change | _Sweep) -> None:
        if self._closing:
            raise Overloaded("the store is closing")
        if len(self._waiting) >= self._waiting_max:
            raise Overloaded(f"{self._waiting_max} changes wait already")
        self._waiting.append(job)
        self._wake.set()

    # The reader ------------------------------------------------------------------------------------------------------

    async def _read_wanted(self) -> None:
        """Reads until nothing is wanted any more; meanwhile the next reading gathers."""
        try:
            while self._wanted:
                searches, self._wanted = self._wanted[: self._batch_max], self._wanted[self._batch_max :]
                await self._read(searches)
        finally:
            self._reading = None
            if self._wanted:  # the loop is going down
                _deliver(
                    [_Outcome(search.future, None, Overloaded("the store has stopped")) for search in self._wanted]
                )
                self._wanted = []

    async def _read(self, searches: list[_Search]) -> None:
        """One transaction for all; if that fails one for each, so that nobody suffers from another one's key."""
        searches = [search for search in searches if not search.future.done()]  # cancelled before its turn
        if not searches:
            return
        batch = Batch(self._schema, self._statements)
        keys = [search.key for search in searches]
        try:
            await self._engine.read(lambda fetch: batch.load(keys, fetch, lock=False))
            outcomes = [_Outcome(search.future, batch.see(search.key), None) for search in searches]
        except Exception as error:
            if len(searches) > 1 and not isinstance(error, Unavailable):
                for search in searches:
                    await self._read([search])
                return
            outcomes = [_Outcome(search.future, None, error) for search in searches]
        except BaseException as fault:
            _deliver([_Outcome(search.future, None, Overloaded(f"reading ended: {fault!r}")) for search in searches])
            raise
        _deliver(outcomes)

    # The writer ------------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        try:
            while self._waiting or not self._closing:
                if self._waiting:
                    await self._gather()
                    await self._work(self._take())
                else:
                    self._wake.clear()
                    await self._wake.wait()
        finally:
            # Reached with a backlog only if the loop is going down: nobody may wait for a writer that is gone.
            self._closing = True
            while self._waiting:
                _deliver([_Outcome(self._waiting.popleft().future, None, Overloaded("the store has stopped"))])

    async def _gather(self) -> None:
        """Lets the loop turn while each turn brings more changes. A batch costs by its statements and its commit more
        than by its changes; and whoever the last commit has answered goes on before the next one begins."""
        gathered = 0
        for _ in range(TURNS_MAX):
            if not gathered < len(self._waiting) < self._batch_max:
                return
            gathered = len(self._waiting)
            await asyncio.sleep(0)

    def _take(self) -> "list[_Change] | _Sweep":
        """The sweep at the head of the queue, or the changes up to the next sweep."""
        waiting = self._waiting
        changes: list[_Change] = []
        while waiting and len(changes) < self._batch_max:
            job = waiting[0]
            if isinstance(job, _Sweep):
                return changes or cast(_Sweep, waiting.popleft())
            waiting.popleft()
            changes.append(job)
        return changes

    async def _work(self, job: "list[_Change] | _Sweep") -> None:
        """One batch or sweep. Whatever happens, the writer goes on and every caller is answered."""
        futures = [job.future] if isinstance(job, _Sweep) else [change.future for change in job]
        try:
            await (self._sweep(job) if isinstance(job, _Sweep) else self._store(job))
        except BaseException as fault:
            _deliver([_Outcome(future, None, Uncertain(f"the writer failed: {fault!r}")) for future in futures])
            if not isinstance(fault, Exception):
                raise
            log.error("writer_failed", exc_info=fault)

    async def _store(self, changes: list[_Change], tries: int = 0) -> None:
        """One transaction; after a failure the whole again, or its halves."""
        changes = [change for change in changes if not change.future.done()]  # cancelled before its turn
        if not changes:
            return
        self.batches += 1
        outcomes: list[_Outcome] = []
        try:
            await self._begin()
            await self._decide(changes, outcomes)
        except Unavailable as error:
            outcomes = [_Outcome(change.future, None, error) for change in changes]
        except Exception as error:
            self.failed_batches += 1
            try:
                is_stored = await self._engine.settle(error)
            except Uncertain as doubt:
                log.error("commit_uncertain", changes=len(changes), cause=type(error).__name__)
                outcomes, is_stored = [_Outcome(change.future, None, doubt) for change in changes], True
            if not is_stored:
                await self._store_again(changes, error, tries)
                return
        _deliver(outcomes)

    async def _store_again(self, changes: list[_Change], error: Exception, tries: int) -> None:
        is_lost = self._engine.is_lost
        may_succeed = is_lost or isinstance(error, Conflict) or self._engine.is_transient(error)
        if tries < TRIES_MAX and (is_lost or (len(changes) == 1 and may_succeed)):
            await asyncio.sleep(RETRY_SECONDS * tries)
            await self._store(changes, tries + 1)
        elif len(changes) > 1:
            log.info("batch_split", changes=len(changes), cause=type(error).__name__)
            half = len(changes) // 2
            await self._store(changes[:half])
            await self._store(changes[half:])
        else:
            _deliver([_Outcome(changes[0].future, None, error)])

    async def _decide(self, changes: list[_Change], outcomes: list[_Outcome]) -> None:
        """Loads, decides, writes, commits; what came of each decision goes to `outcomes`, before the commit."""
        engine = self._engine
        batch = Batch(self._schema, self._statements)
        wakes = False
        keys = [key for change in changes for key in change.keys]
        await batch.load(keys, engine.fetch, lock=engine.is_shared)
        for change in changes:
            try:
                answer, writes, is_waking = change.decide(*[batch.see(key) for key in change.keys])
            except Conflict:
                raise
            except Exception as refusal:
                outcomes.append(_Outcome(change.future, None, refusal))
                continue
            for record in writes:
                batch.put(record)
            wakes = wakes or is_waking
            outcomes.append(_Outcome(change.future, answer, None))
        if batch.is_empty:
            await engine.release()
            return
        if engine.is_shared and batch.must_verify:
            await batch.verify(engine.fetch)
        await engine.commit(batch.rows(), batch.witness() if engine.is_shared else None, wakes=wakes)

    async def _sweep(self, job: _Sweep, tries: int = 0) -> None:
        if job.future.done():
            return
        self.batches += 1
        rows: list[Any] = []
        outcome: Exception | None = None
        try:
            await self._begin()
            (rows,) = await self._engine.fetch([job.query])
            await self._engine.commit(())
        except Unavailable as error:
            outcome = error
        except Exception as error:
            self.failed_batches += 1
            try:
                if not await self._engine.settle(error):
                    outcome = error
            except Uncertain as doubt:
                outcome = doubt
            is_worth_it = self._engine.is_lost or self._engine.is_transient(error)
            if outcome is error and is_worth_it and tries < TRIES_MAX:
                await asyncio.sleep(RETRY_SECONDS * tries)
                await self._sweep(job, tries + 1)
                return
        _deliver([_Outcome(job.future, [job.decode(row) for row in rows], outcome)])

    async def _begin(self) -> None:
        patience = AWAY_SECONDS_MAX if self._is_away else CONNECT_SECONDS_MAX
        try:
            await self._engine.begin(0.0 if self._closing else patience)
        except Unavailable:
            self._is_away = True
            raise
        self._is_away = False


def _deliver(outcomes: list[_Outcome]) -> None:
    for future, answer, error in outcomes:
        if future.done():  # its caller was cancelled; the change stands
            continue
        if error is None:
            future.set_result(answer)
        else:
            future.set_exception(error)
