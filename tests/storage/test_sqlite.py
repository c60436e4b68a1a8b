"""SQLite: one server a file, the command line beside it, and a disk that fails."""

import asyncio
import os
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from tests.storage.build import AT, TERMINAL_ID, build_merchant, open_order, put
from tests.storage.conftest import ask_database
from tests.storage.processes import child
from tolem.storage import keys
from tolem.storage.migrate import migrate
from tolem.storage.open import open_store
from tolem.storage.schema import tolem_schema
from tolem.storage.sqlite import DatabaseInUse, SqliteEngine
from tolem.storage.store import Decision, Overloaded, Store


def change(store: Store, invoice_id: str) -> "asyncio.Future[Any]":
    return store.change((keys.order_by_invoice(TERMINAL_ID, invoice_id),), open_order(invoice_id))


async def test_a_second_server_on_the_file_is_refused(sqlite_file: Path) -> None:
    url = f"sqlite:///{sqlite_file}"
    with child("hold", url) as holder, pytest.raises(DatabaseInUse) as refused:
        await open_store(url, schema=tolem_schema, instance=1)
    assert str(sqlite_file) in str(refused.value)
    assert f"process {holder.pid}" in str(refused.value)
    store = await open_store(url, schema=tolem_schema, instance=1)  # the lock went with its process
    await store.close()
    await (await open_store(url, schema=tolem_schema, instance=1)).close()


async def test_the_command_line_writes_beside_a_busy_server(sqlite_file: Path) -> None:
    url = f"sqlite:///{sqlite_file}"
    server = await open_store(url, schema=tolem_schema, instance=1)
    beside = await open_store(url, schema=tolem_schema, instance=2, exclusive=False)
    busy = True

    async def load(number: int) -> int:
        done = 0
        while busy:
            await change(server, f"{number:04d}{done:08d}")
            done += 1
        return done

    callers = [asyncio.create_task(load(number)) for number in range(8)]
    for number in range(10):
        await put(beside, build_merchant(f"shop{number}"))
        assert await server.find(keys.merchant_by_client(f"shop{number}")) is not None
    busy = False
    done = await asyncio.gather(*callers)
    await beside.close()
    await server.close()
    assert ask_database(url, "SELECT count(*) FROM orders") == [(sum(done),)]


async def test_a_lock_held_for_long_is_told_and_harms_nothing(
    sqlite_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tolem.storage.store.CONNECT_SECONDS_MAX", 0.1)
    url = f"sqlite:///{sqlite_file}"
    other = sqlite3.connect(sqlite_file, isolation_level=None)
    other.execute("PRAGMA journal_mode=wal")
    other.execute("BEGIN IMMEDIATE")
    store = await open_store(url, schema=tolem_schema, instance=1)
    with pytest.raises(Overloaded, match="written by another process"):
        await change(store, "1")
    monkeypatch.setattr("tolem.storage.store.CONNECT_SECONDS_MAX", 60.0)
    for again in (change(store, "1"), store.probe()):  # nobody waits as long again
        with pytest.raises(Overloaded, match="written by another process"):
            await asyncio.wait_for(again, 20)
    other.execute("ROLLBACK")
    other.close()
    await change(store, "2")
    await store.close()
    assert ask_database(url, "SELECT invoice_id FROM orders") == [("2",)]


async def test_every_commit_waits_for_the_disk(sqlite_file: Path) -> None:
    engine = SqliteEngine(sqlite_file)
    await engine.open()
    pragmas = ("journal_mode", "synchronous", "foreign_keys")
    values = [engine._writer.execute(f"PRAGMA {name}").fetchone()[0] for name in pragmas]
    await engine.close()
    assert values == ["wal", 2, 1]


class _FailingCursor:
    """A cursor whose COMMIT meets a disk that fails."""

    def __init__(self, cursor: sqlite3.Cursor, code: int, name: str) -> None:
        self._cursor = cursor
        self._code = code
        self._name = name

    def execute(self, text: str, values: tuple[Any, ...] = ()) -> sqlite3.Cursor:
        if text == "COMMIT":
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode, error.sqlite_errorname = self._code, self._name
            raise error
        return self._cursor.execute(text, values)

    def executemany(self, text: str, rows: list[tuple[Any, ...]]) -> sqlite3.Cursor:
        return self._cursor.executemany(text, rows)


@pytest.mark.parametrize(
    ("code", "name", "ends"),
    (
        (sqlite3.SQLITE_IOERR_FSYNC, "SQLITE_IOERR_FSYNC", True),
        (sqlite3.SQLITE_IOERR_WRITE, "SQLITE_IOERR_WRITE", True),
        (sqlite3.SQLITE_FULL, "SQLITE_FULL", False),
    ),
)
async def test_a_failed_fsync_ends_the_process(sqlite_file: Path, code: int, name: str, ends: bool) -> None:
    reasons: list[str] = []
    engine = SqliteEngine(sqlite_file, end=reasons.append)
    store = Store(engine, tolem_schema, 1)
    await store.open()
    working, engine._cursor = engine._cursor, _FailingCursor(engine._cursor, code, name)  # type: ignore[assignment]
    with pytest.raises(sqlite3.OperationalError):
        await change(store, "1")
    assert [name in reason and str(sqlite_file) in reason for reason in reasons] == [True] * ends
    engine._cursor = working
    await change(store, "2")
    await store.close()
    assert ask_database(f"sqlite:///{sqlite_file}", "SELECT invoice_id FROM orders") == [("2",)]


async def test_a_batch_that_writes_nothing_waits_for_no_disk(sqlite_file: Path) -> None:
    engine = SqliteEngine(sqlite_file)
    store = Store(engine, tolem_schema, 1)
    await store.open()
    await change(store, "1")
    engine._cursor = _FailingCursor(engine._cursor, sqlite3.SQLITE_IOERR, "")  # type: ignore[assignment]
    seen = await store.change(
        (keys.order_by_invoice(TERMINAL_ID, "1"),), lambda history: Decision(history.order.created_at)
    )
    assert seen == AT
    await store.close()


@pytest.mark.parametrize("url", ("sqlite://", "sqlite:///:memory:", "mysql://localhost/x", "tolem.db"))
async def test_an_address_that_is_no_database_of_ours_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="sqlite:///"):
        await open_store(url, schema=tolem_schema, instance=1)


def _modes_in(folder: Path) -> dict[str, str]:
    return {path.name: oct(path.stat().st_mode & 0o777) for path in folder.iterdir()}


async def test_only_their_user_reads_the_files(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        migrate(f"sqlite:///{tmp_path}/migrated.db", mode="sandbox")
        store = await open_store(f"sqlite:///{tmp_path}/served.db", schema=tolem_schema, instance=1)
        try:
            modes = _modes_in(tmp_path)
        finally:
            await store.close()
    finally:
        os.umask(before)
    made = ("migrated.db", "served.db", "served.db-shm", "served.db-wal", "served.db.lock")
    assert modes == dict.fromkeys(made, "0o600")


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(sqlite3.OperationalError, match="No such file or directory"):
        migrate(f"sqlite:///{tmp_path}/none/tolem.db", mode="sandbox")
