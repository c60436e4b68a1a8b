"""PostgreSQL: one psycopg connection for the writer, pipelined, two or three round trips a batch, and one for reading.

A connection lost at COMMIT leaves a question: did it happen? The transaction's id was read before anything was written,
and the server is asked. The writer's connection also holds an advisory lock in the name of this process: while it is
held, the process's leases count.
"""

import asyncio
import zlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tolem.domain.errors import Uncertain
from tolem.storage.batch import Fetch
from tolem.storage.change import Unavailable
from tolem.storage.listener import Listener
from tolem.storage.statements import Query, Row, Rows
from tolem.telemetry import log

T = TypeVar("T")

TRANSIENT_STATES = frozenset({"23505", "40001", "40P01", "55P03"})
"""Unique violation, serialization failure, deadlock, lock time-out (SQLSTATE, PostgreSQL's appendix A)."""

RECONNECT_SECONDS_MAX = 1.0
OUTCOME_TRIES = 50
OUTCOME_SECONDS = 0.1
"""A lost COMMIT is asked about for so many tries with such pauses."""

# A peer that vanished without a word is noticed within seconds, not after the system's two hours.
KEEPALIVE = {
    "connect_timeout": "5",
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",
}
# Everything here is found by an index. A planner without statistics, as after a first burst of payments, would read
# whole tables for a batch of keys, and is as wrong about what is worth compiling.
COMMON_OPTIONS = "-c timezone=UTC -c client_encoding=UTF8 -c enable_seqscan=off -c jit=off"
WRITER_OPTIONS = (
    "-c default_transaction_isolation=read\\ committed -c lock_timeout=2s -c idle_in_transaction_session_timeout=10s"
)
# Repeatable read: all queries of a pipeline see one state.
READER_OPTIONS = "-c default_transaction_isolation=repeatable\\ read -c default_transaction_read_only=on"


class Connection(psycopg.AsyncConnection[Row]):
    """Keeps its cursors, one for each text: psycopg looks up how to adapt values once for a cursor and its text."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._idle: dict[str, psycopg.AsyncCursor[Row]] = {}

    async def fetch_all(self, queries: Sequence[Query]) -> Callable[[], Awaitable[list[list[Row]]]]:
        """Sends the statements into the open pipeline; what comes back waits for their rows."""
        cursors = []
        for text, values in queries:
            cursor = self._idle.pop(text, None) or self.cursor()
            cursors.append(await cursor.execute(text, values, binary=True))

        async def rows() -> list[list[Row]]:
            found = [await cursor.fetchall() for cursor in cursors]
            self._idle.update((query.text, cursor) for query, cursor in zip(queries, cursors, strict=True))
            return found

        return rows

    async def write_all(self, writes: Sequence[Rows]) -> None:
        """Sends the rows into the open pipeline."""
        for text, rows in writes:
            cursor = self._idle.pop(text, None) or self.cursor()
            await cursor.executemany(text, rows)
            self._idle[text] = cursor


class PostgresEngine:
    """psycopg 3 on one database."""

    dialect = "postgresql"
    is_shared = True

    def __init__(self, url: str, instance: int, *, name: str, pg_schema: str | None = None) -> None:
        """`name`: the Schema's. `pg_schema`: the namespace of the tables; None: the server's search path counts."""
        path = f" -c search_path={pg_schema}" if pg_schema else ""
        self._writer_info = _conninfo(url, f"{COMMON_OPTIONS} {WRITER_OPTIONS}{path}")
        self._reader_info = _conninfo(url, f"{COMMON_OPTIONS} {READER_OPTIONS}{path}")
        self._instance_lock = (instance_lock_class(name), instance)
        channel = f"{name}_{pg_schema}_wake" if pg_schema else f"{name}_wake"
        self._notify = f"NOTIFY {channel}"
        self._listener = Listener(_conninfo(url, COMMON_OPTIONS), channel)
        self._writer: Connection | None = None
        self._reader: Connection | None = None
        self._reading = asyncio.Lock()
        self._must_begin = False
        self._transaction_id: str | None = None
        self._commit_sent = False
        self._witness: Query | None = None
        self.is_lost = False

    async def open(self) -> None:
        """Connects the writer; the reader follows when it is needed."""
        self._writer = await self._connect_writer()

    async def begin(self, patience_seconds: float) -> None:
        """Connects again if the connection is gone. BEGIN travels with the first queries."""
        self._must_begin, self._transaction_id, self._commit_sent, self.is_lost = True, None, False, False
        if self._writer is not None and not self._writer.closed:
            return
        loop = asyncio.get_running_loop()
        deadline, pause = loop.time() + patience_seconds, 0.02
        while True:
            try:
                self._writer = await self._connect_writer()
            except (psycopg.Error, OSError) as error:
                if loop.time() + pause > deadline:
                    raise Unavailable(f"no connection to PostgreSQL: {type(error).__name__}") from error
                await asyncio.sleep(pause)
                pause = min(pause * 2, RECONNECT_SECONDS_MAX)
            else:
                return

    async def fetch(self, queries: Sequence[Query]) -> list[list[Row]]:
        """Runs the statements in one pipeline."""
        connection = self._connection()
        async with connection.pipeline():
            begun = None
            if self._must_begin:
                await connection.execute("BEGIN")
                begun = await connection.execute("SELECT pg_current_xact_id()::text")
                self._must_begin = False
            rows = await connection.fetch_all(queries)
        # The pipeline's end has brought all answers; asked for inside it they would cost a round trip more.
        if begun is not None:
            row = await begun.fetchone()
            assert row is not None  # noqa: S101 - a SELECT without FROM has one row
            self._transaction_id = row[0]
        return await rows()

    async def commit(self, writes: Sequence[Rows], witness: Query | None = None, *, wakes: bool = False) -> None:
        """Writes and commits in one pipeline. NOTIFY is for what wakes only: such commits wait for each other."""
        connection = self._connection()
        self._commit_sent, self._witness = True, witness
        async with connection.pipeline():
            await connection.write_all(writes)
            if wakes:
                await connection.execute(self._notify)
            await connection.execute("COMMIT")

    async def release(self) -> None:
        """Ends a transaction that has written nothing: a rollback waits for no disk."""
        await self._connection().execute("ROLLBACK")

    async def settle(self, error: Exception) -> bool:
        """Rolls back, or asks what became of a COMMIT that was under way when the connection broke."""
        _hide_details(error)
        if not _is_loss(error):
            try:
                await self._connection().execute("ROLLBACK")
            except psycopg.Error as second:
                log.warning("rollback_failed", cause=type(second).__name__, after=type(error).__name__)
            else:
                return False
        self.is_lost = True
        await self._connection().close()
        if not self._commit_sent or self._transaction_id is None:
            return False
        return await self._ask_outcome(self._transaction_id)

    def is_transient(self, error: Exception) -> bool:
        """Another process was there first, or stood in the way."""
        return isinstance(error, psycopg.Error) and error.sqlstate in TRANSIENT_STATES

    async def read(self, work: Callable[[Fetch], Awaitable[T]]) -> T:
        """Runs `work` in one pipeline, hence in one transaction; once more on a new connection if the old one broke."""
        async with self._reading:
            if self._reader is not None and not self._reader.closed:
                try:
                    return await _read(self._reader, work)
                except psycopg.Error as error:
                    if not _is_loss(error):
                        raise
                    log.info("reader_reconnects", cause=type(error).__name__)
                    await self._reader.close()
            try:
                self._reader = await _connect(self._reader_info)
            except (psycopg.OperationalError, OSError) as error:
                raise Unavailable(f"no connection to PostgreSQL: {type(error).__name__}") from error
            return await _read(self._reader, work)

    def listen(self, on_wake: Callable[[], None]) -> None:
        """Hears of all processes on this database, over a connection of its own."""
        self._listener.add(on_wake)

    async def close(self) -> None:
        """Disconnects; a read that is under way ends first."""
        await self._listener.close()
        async with self._reading:
            for connection in (self._reader, self._writer):
                if connection is not None:
                    await connection.close()

    def _connection(self) -> Connection:
        assert self._writer is not None  # noqa: S101 - `open` made it, `begin` renews it
        return self._writer

    async def _connect_writer(self) -> Connection:
        connection = await _connect(self._writer_info)
        # Shared, so that a connection which the server has not missed yet can't keep its successor waiting.
        try:
            await connection.execute("SELECT pg_advisory_lock_shared(%s::int, %s::int)", self._instance_lock)
        except BaseException:
            await connection.close()
            raise
        return connection

    async def _ask(self, query: Query) -> Any:
        """The first value of the first row, None if there is none."""
        row = await (await self._connection().execute(query.text, query.values)).fetchone()
        return row[0] if row else None

    async def _ask_outcome(self, transaction_id: str) -> bool:
        """Did it commit? Asked of the server, never guessed; its backend may need a moment to notice and give up."""
        for number in range(OUTCOME_TRIES):
            try:
                if self._connection().closed:
                    self._writer = await self._connect_writer()
                status = await self._ask(Query("SELECT pg_xact_status(%s::xid8)", (transaction_id,)))
                if status == "committed" and self._witness is not None:
                    # An id that a crash kept from reaching the disk may have gone to another transaction since.
                    return await self._ask(self._witness) is not None
            except psycopg.errors.InvalidParameterValue:
                # "in the future": the server crashed and came back without ever having written this id to disk.
                return False
            except (psycopg.Error, OSError) as error:
                if number == 0:
                    log.warning("outcome_unknown", cause=type(error).__name__)
                await self._connection().close()
            else:
                if status in ("committed", "aborted"):
                    return bool(status == "committed")
            await asyncio.sleep(OUTCOME_SECONDS)
        raise Uncertain("the connection was lost at COMMIT and PostgreSQL did not say whether it happened")


def instance_lock_class(name: str) -> int:
    """First key of the advisory locks that processes hold in their own names, under one schema; the second key is the
    instance."""
    return zlib.crc32(f"tolem instances of {name}".encode()) & 0x7FFFFFFF


def _is_loss(error: Exception) -> bool:
    """The connection is gone, or about to be: the driver's own complaint, which has no SQLSTATE, or one of the classes
    08 (connection) and 57P (shutdown)."""
    if not isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        return False
    return error.sqlstate is None or error.sqlstate.startswith(("08", "57P"))


async def _connect(info: str) -> Connection:
    connection = await Connection.connect(info, autocommit=True, prepare_threshold=0)
    connection.prepared_max = None  # the texts are few and made by us
    return connection


async def _read(connection: Connection, work: Callable[[Fetch], Awaitable[T]]) -> T:
    async def fetch(queries: Sequence[Query]) -> list[list[Row]]:
        rows = await connection.fetch_all(queries)
        return await rows()

    async with connection.pipeline():
        return await work(fetch)


def _conninfo(url: str, options: str) -> str:
    given: dict[str, Any] = conninfo_to_dict(url)
    merged = f"{given.get('options') or ''} {options}".strip()
    return make_conninfo(url, **{**KEEPALIVE, **{k: v for k, v in given.items() if k in KEEPALIVE}}, options=merged)


def _hide_details(error: Exception) -> None:
    """PostgreSQL's details quote whole rows; errors are logged, rows are not."""
    if isinstance(error, psycopg.Error) and error.diag.message_primary:
        error.args = (error.diag.message_primary,)
