"""`tolem demo` as people start it: a process of its own in a folder of its own, and the books it writes.

The browser tests' modules share one process each.
"""

import json
import os
import signal
import socket
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.error import URLError
from urllib.request import Request, urlopen

import psycopg

from tests.forks import TolemProcess
from tolem.sandbox.cards import build_number

START_SECONDS_MAX = 20
STOP_SECONDS_MAX = 15
APPROVED_CARD = "4405 6397 0401 5096"
DECLINED_CARD = "4003 0327 0454 7597"
SLOW_CARD = build_number(0, line="1")
"""Approved, but the answer takes as long as a form's answer waits for it."""
FOREIGN_CARD = "4111 1111 1111 1111"
"""No card of the sandbox's table."""
CHALLENGED_CARD = build_number(0, "1")
"""Approved after a look at the browser and a challenge."""
CARD_NUMBERS = (APPROVED_CARD, DECLINED_CARD, SLOW_CARD, FOREIGN_CARD, CHALLENGED_CARD)
LIMITS = {
    # The simulator's slow line takes 3 s; recovery must not make the tests wait 15 s as it may people.
    "TOLEM_ACQUIRER_TIMEOUT_SECONDS": "4",
    "TOLEM_RECOVERY_MARGIN_SECONDS": "0.5",
}


Read = Callable[..., list[tuple[Any, ...]]]
"""A statement with ? for its values → rows."""


class Truth(NamedTuple):
    """What the three parties believe of an order, each by its own books."""

    shop: str
    """Status in the shop: waiting, paid, declined."""
    order: str
    """The gateway's: open, paid, failed."""
    payments: list[str]
    """Statuses of its card attempts, oldest first."""
    operations: list[str]
    """`kind status` of each exchange, oldest first."""
    ledger: list[str]
    """`kind verdict` of each exchange in the acquirer's own book, recovery's inquiries excepted."""
    messages: list[str]
    """`kind state` of each notification, oldest first."""


PAID_ONCE = Truth("paid", "paid", ["captured"], ["purchase approved"], ["purchase approved"], ["success delivered"])
"""One card, one exchange, one message, and everybody knows."""


class Demo:
    """Gateway and shop. Blocking: tests call it in a thread where their browser must go on."""

    def __init__(self, folder: Path, database_url: str = "") -> None:
        self.folder = folder
        self.port, self.shop_port = find_free_ports(2)
        self.url = f"http://127.0.0.1:{self.port}"
        self.shop_url = f"http://127.0.0.1:{self.shop_port}"
        self.bank_url = f"http://acs.localhost:{self.port}"
        """The sandbox's access control server."""
        self.pid = 0
        self._database_url = database_url
        self._process: TolemProcess | None = None

    @property
    def log(self) -> str:
        """What the process has written to its standard error so far."""
        return (self.folder / "demo.log").read_text()

    def start(self) -> None:
        """Starts the process and returns once gateway and shop answer."""
        command = ["demo", "--port", str(self.port), "--shop-port", str(self.shop_port)]
        if self._database_url:
            command += ["--database", self._database_url]
        log = self.folder / "demo.log"
        self._process = TolemProcess(*command, cwd=self.folder, env={**os.environ, **LIMITS}, log=log)
        self.pid = self._process.pid
        for url in (f"{self.url}/readyz", f"{self.shop_url}/healthz"):
            self._wait_for(url)

    def stop(self) -> int:
        """SIGTERM; returns the process's exit status."""
        assert self._process is not None
        self._process.terminate()
        status, self._process, self.pid = self._process.wait(STOP_SECONDS_MAX), None, 0
        return status

    def kill(self) -> None:
        """kill -9."""
        assert self._process is not None
        self._process.kill()
        assert self._process.wait(STOP_SECONDS_MAX) == -signal.SIGKILL
        self._process, self.pid = None, 0

    def close(self) -> None:
        """Ends the process if it runs. Its exit status must be 0."""
        if self._process is not None:
            status = self.stop()
            assert status == 0, self.log

    def check_traces(self) -> None:
        """No fault in the log; none of the cards' full numbers in it or in any file of the databases."""
        assert "Traceback" not in self.log, self.log
        for path in self.folder.iterdir():
            content = path.read_bytes()
            for number in CARD_NUMBERS:
                assert number.encode() not in content, f"{path} has the number of a card"
                assert number.replace(" ", "").encode() not in content, f"{path} has the number of a card"

    def move_clock(self, seconds: int) -> None:
        """Moves the sandbox's time forward."""
        body = json.dumps({"advance_seconds": seconds}).encode()
        request = Request(f"{self.url}/sandbox/clock", body, {"content-type": "application/json"})  # noqa: S310
        with urlopen(request, timeout=30) as answer:  # noqa: S310 - an address of this machine
            assert answer.status == 200

    def read_truth(self, invoice_id: str) -> Truth:
        """The three parties' books as they stand now."""
        with closing(sqlite3.connect(f"file:{self.folder / 'tolem-shop.db'}?mode=ro", uri=True)) as books:
            shop = books.execute("SELECT status FROM orders WHERE invoice_id = ?", (invoice_id,)).fetchone()[0]
        with self._read_gateway() as read:
            of_order = "JOIN orders o ON o.id = x.order_id WHERE o.invoice_id = ? ORDER BY x.id"
            orders = read("SELECT status FROM orders WHERE invoice_id = ?", invoice_id)
            payments = read(f"SELECT x.status FROM payments x {of_order}", invoice_id)  # noqa: S608 - constants
            operations = read(f"SELECT x.kind, x.status, x.id FROM operations x {of_order}", invoice_id)  # noqa: S608
            messages = read(f"SELECT x.kind, x.state FROM messages x {of_order}", invoice_id)  # noqa: S608
        with self._read_ledger() as read:
            ledger = [
                row
                for operation in operations
                for row in read("SELECT kind, verdict FROM ledger WHERE key = ?", operation[2])
            ]
        return Truth(
            shop,
            orders[0][0] if orders else "",
            [row[0] for row in payments],
            [f"{row[0]} {row[1]}" for row in operations],
            [f"{row[0]} {row[1]}" for row in ledger],
            [f"{row[0]} {row[1]}" for row in messages],
        )

    def _read_gateway(self) -> AbstractContextManager[Read]:
        return _reading(self._database_url or str(self.folder / "tolem.db"))

    def _read_ledger(self) -> AbstractContextManager[Read]:
        return _reading(self._database_url or str(self.folder / "tolem-simulator.db"), "simulator")

    def _wait_for(self, url: str) -> None:
        deadline = time.monotonic() + START_SECONDS_MAX
        while True:
            try:
                with urlopen(url, timeout=2):  # noqa: S310 - an address of this machine
                    return
            except (URLError, OSError) as problem:
                if time.monotonic() > deadline:
                    raise RuntimeError(f"{url} does not answer: {problem}\n{self.log}") from problem
                time.sleep(0.02)


@contextmanager
def running_demo(folder: Path, database_url: str = "") -> Iterator[Demo]:
    """A demo that runs; judged at its end by what it leaves in its folder."""
    demo = Demo(folder, database_url)
    try:
        demo.start()
        yield demo
    finally:
        demo.close()
    demo.check_traces()


def find_free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on, all different."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [free.getsockname()[1] for free in sockets]
    for free in sockets:
        free.close()
    return ports


@contextmanager
def _reading(database: str, pg_schema: str = "public") -> Iterator[Read]:
    if database.startswith("postgresql:"):
        with psycopg.connect(database, options=f"-c search_path={pg_schema}") as connection:
            yield lambda statement, *values: connection.execute(statement.replace("?", "%s"), values).fetchall()
    else:
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
            yield lambda statement, *values: connection.execute(statement, values).fetchall()
