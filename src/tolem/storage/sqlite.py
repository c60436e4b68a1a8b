"""SQLite: statements on the loop, COMMIT, which waits for the disk, on a thread. One server process per file.

A statement takes some ten microseconds, less than handing it to a thread would; the commit's fsync takes milliseconds.
WAL with synchronous=FULL: an answered change survives a power cut. Whoever serves a file holds its lock file; the
command line may write beside it, in short transactions. A failed fsync ends the process: what the file holds after it
can only be learned by opening it anew.
"""

import asyncio
import contextlib
import fcntl
import logging
import os
import random
import sqlite3
import threading
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import TypeVar

from tolem.storage.batch import Fetch
from tolem.storage.change import Unavailable
from tolem.storage.statements import Query, Row, Rows
from tolem.telemetry import log

T = TypeVar("T")

BUSY_SECONDS = 0.004
"""Longest pause between two tries to begin while another process writes."""
STATEMENTS_CACHED = 512
PRIVATE = 0o600
"""Permissions of the files that are made here."""
PRAGMAS = (
    "busy_timeout=5000",  # for the next line, which may find the file being written
    "journal_mode=wal",
    "synchronous=full",
    "foreign_keys=on",
    "cache_size=-65536",  # KiB
    "busy_timeout=0",  # from here on waiting is asynchronous
)


class DatabaseInUse(Exception):
    """Another server process has the file; the message names both."""


def end_process(reason: str) -> None:
    """Ends the process at once, after a line in the log: nothing may be answered any more."""
    log.critical("storage_failed", reason=reason)
    logging.shutdown()
    os._exit(os.EX_IOERR)


def make_file(path: Path) -> None:
    """An empty database that only its user can read, if there is none: SQLite gives what it makes beside a database
    (-wal, -shm, -journal) the permissions of that. Raises sqlite3.OperationalError."""
    try:
        # One that is there is not even opened: closing it would give away the locks that this process has on it.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, PRIVATE))
    except FileExistsError:
        return
    except OSError as error:
        raise sqlite3.OperationalError(f"{path}: {error.strerror}") from error


class SqliteEngine:
    """sqlite3 on one file."""

    dialect = "sqlite"
    is_shared = False
    is_lost = False

    def __init__(self, path: Path, *, exclusive: bool = True, end: Callable[[str], None] = end_process) -> None:
        """`exclusive`: as a server, with the lock file; otherwise beside one. `end`: called when the disk failed."""
        self._path = path
        self._exclusive = exclusive
        self._end = end
        self._lock_descriptor: int | None = None
        self._thread = _CommitThread()
        self._writer: sqlite3.Connection
        self._reader: sqlite3.Connection
        self._cursor: sqlite3.Cursor
        self._changes_before = 0
        self._listeners: list[Callable[[], None]] = []

    async def open(self) -> None:
        """Takes the lock file and opens both connections. Raises DatabaseInUse."""
        make_file(self._path)
        if self._exclusive:
            self._lock_descriptor = _take_lock(self._path)
        self._writer = self._connect()
        self._cursor = self._writer.cursor()
        self._reader = self._connect()
        self._reader.execute("PRAGMA query_only=on")
        self._reader.execute("PRAGMA busy_timeout=1000")

    async def begin(self, patience_seconds: float) -> None:
        """Takes the file's write lock. Raises Unavailable if another process keeps it for longer."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + patience_seconds
        while True:
            try:
                self._cursor.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if _primary_code(error) != sqlite3.SQLITE_BUSY:
                    raise
                if loop.time() > deadline:
                    raise Unavailable(f"{self._path} is being written by another process") from error
                await asyncio.sleep(random.uniform(0.0005, BUSY_SECONDS))  # noqa: S311 - a pause, not a secret
            else:
                self._changes_before = self._writer.total_changes
                return

    async def fetch(self, queries: Sequence[Query]) -> list[list[Row]]:
        """Runs the statements."""
        execute = self._cursor.execute
        return [execute(text, values).fetchall() for text, values in queries]

    async def commit(self, writes: Sequence[Rows], witness: Query | None = None, *, wakes: bool = False) -> None:
        """Writes on the loop and commits on the thread. Ends the process if the disk fails."""
        for text, rows in writes:
            self._cursor.executemany(text, rows)
        if self._writer.total_changes == self._changes_before:  # a sweep that found nothing: no disk to wait for
            self._cursor.execute("ROLLBACK")
            return
        try:
            await self._thread.commit(self._cursor)
        except sqlite3.OperationalError as error:
            if _primary_code(error) == sqlite3.SQLITE_IOERR:
                self._end(f"{self._path}: {error} ({error.sqlite_errorname}) at COMMIT")
            raise
        if wakes:
            for on_wake in self._listeners:
                on_wake()

    def listen(self, on_wake: Callable[[], None]) -> None:
        """Hears of this process's own commits; what the command line writes beside it is seen by looking."""
        self._listeners.append(on_wake)

    async def release(self) -> None:
        """Ends a transaction that has written nothing."""
        self._cursor.execute("ROLLBACK")
        await asyncio.sleep(0)  # no commit was waited for, so that others have not had the loop since the batch began

    async def settle(self, error: Exception) -> bool:
        """Rolls back; a COMMIT that raised has stored nothing."""
        if self._writer.in_transaction:
            self._cursor.execute("ROLLBACK")
        return False

    def is_transient(self, error: Exception) -> bool:
        """A row appeared that the decision did not see."""
        return isinstance(error, sqlite3.IntegrityError) and error.sqlite_errorcode in (
            sqlite3.SQLITE_CONSTRAINT_UNIQUE,
            sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY,
        )

    async def read(self, work: Callable[[Fetch], Awaitable[T]]) -> T:
        """Runs `work` in a read transaction. It never suspends in between: `fetch` answers at once."""
        self._reader.execute("BEGIN")
        try:
            return await work(self._fetch_reading)
        finally:
            self._reader.execute("ROLLBACK")

    async def close(self) -> None:
        """Closes both connections, then gives the lock back."""
        self._thread.close()
        self._reader.close()
        self._writer.close()
        if self._lock_descriptor is not None:
            os.close(self._lock_descriptor)
            self._lock_descriptor = None

    async def _fetch_reading(self, queries: Sequence[Query]) -> list[list[Row]]:
        execute = self._reader.execute
        return [execute(text, values).fetchall() for text, values in queries]

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._path, isolation_level=None, cached_statements=STATEMENTS_CACHED, check_same_thread=False
        )
        for pragma in PRAGMAS:
            connection.execute(f"PRAGMA {pragma}")
        return connection


class _CommitThread:
    """Runs COMMITs one after the other. A thread pool would do the same for 8 % more processor time a payment."""

    def __init__(self) -> None:
        self._jobs: SimpleQueue[tuple[sqlite3.Cursor, asyncio.Future[None]] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="commit", daemon=True)
        self._thread.start()

    def commit(self, cursor: sqlite3.Cursor) -> "asyncio.Future[None]":
        """Done once all is on disk; raises what COMMIT raises."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._jobs.put((cursor, future))
        return future

    def close(self) -> None:
        """Finishes what was handed over; none may follow."""
        self._jobs.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            cursor, future = job
            error: Exception | None = None
            try:
                cursor.execute("COMMIT")
            except Exception as failure:
                error = failure
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                future.get_loop().call_soon_threadsafe(_settle_commit, future, error)


def _settle_commit(future: "asyncio.Future[None]", error: Exception | None) -> None:
    if future.done():  # the writer was cancelled
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)


def _take_lock(path: Path) -> int:
    """The descriptor of `<file>.lock`, locked for as long as it is open, which ends with the process at the latest."""
    lock_path = Path(f"{path}.lock")
    descriptor = os.open(lock_path, os.O_RDWR | os.O_CREAT, PRIVATE)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(descriptor, 32).decode("ascii", "replace").strip() or "unknown"
        os.close(descriptor)
        raise DatabaseInUse(
            f"{path} is served by process {holder} already (lock {lock_path}); one server process per SQLite file"
        ) from None
    os.truncate(descriptor, 0)
    os.write(descriptor, f"{os.getpid()}\n".encode())
    return descriptor


def _primary_code(error: sqlite3.Error) -> int:
    """The first byte of an extended result code says what kind of error it is."""
    return error.sqlite_errorcode & 0xFF
