"""why, messages and redeliver as people type them, beside a running server, on both databases."""

import json
import signal
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.test_cli import COMMAND, environment, run, serving
from tests.test_cli_money import Shop
from tolem.sandbox.cards import build_number
from tolem.sandbox.fixtures import TERMINAL_ID
from tolem.server import GRACE_SECONDS

APPROVED = build_number(0)
PATIENCE_SECONDS = 30
UNKNOWN = "00000000-0000-7000-8000-000000000000"


class Receiver:
    """A shop's server that answers what it is told to."""

    def __init__(self) -> None:
        self.status = 200
        self.answer = b"secret_hash differs\x1b[2J"
        """To what it does not accept."""
        self.ids: list[str] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["content-length"]))
                receiver.ids.append(self.headers["webhook-id"])
                self.send_response(receiver.status)
                self.end_headers()
                self.wfile.write(b"ok" if receiver.status == 200 else receiver.answer)

            def log_message(self, format: str, *args: object) -> None:
                """Quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/notify"


@contextmanager
def receiving() -> Iterator[Receiver]:
    receiver = Receiver()
    threading.Thread(target=receiver.server.serve_forever, daemon=True).start()
    try:
        yield receiver
    finally:
        receiver.server.shutdown()
        receiver.server.server_close()


class Desk:
    """Somebody at the command line."""

    def __init__(self, cwd: Path, database: str) -> None:
        self.cwd = cwd
        self.where = ("--database", database)

    def run(self, *arguments: str, status: int = 0) -> str:
        return run(*arguments, *self.where, cwd=self.cwd, status=status)

    def find(self, *arguments: str) -> list[dict[str, Any]]:
        listed: list[dict[str, Any]] = json.loads(self.run("messages", "--json", *arguments))
        return listed

    def wait_for(self, condition: Callable[[list[dict[str, Any]]], bool], *arguments: str) -> list[dict[str, Any]]:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not condition(listed := self.find(*arguments)):
            assert time.monotonic() < deadline, listed
        return listed


@pytest.fixture
def desk(tmp_path: Path, database_url: str) -> Desk:
    return Desk(tmp_path, database_url)


def test_from_an_unpaid_order_to_one_that_was_sent_again(desk: Desk) -> None:
    with receiving() as receiver, serving(desk.cwd, *desk.where) as (_, port):
        shop = Shop(port)
        receiver.status = 400
        shop.pay("000000001", APPROVED, receiver.url)
        (listed,) = desk.wait_for(lambda all_: bool(all_) and all_[0]["state"] == "waiting", "--state", "undelivered")
        assert (listed["invoice"], listed["kind"], listed["state"]) == ("000000001", "success", "waiting")
        assert (listed["last_try"]["status"], listed["last_try"]["address"]) == (400, receiver.url.split("/")[2])
        assert listed["next_try_at"] > listed["created_at"]

        told = desk.run("why", "000000001")
        assert told.startswith("Order 000000001 for 100\u00a0₸ is paid, but the shop has not confirmed")
        for words in (
            "token",
            "VISA 440043",
            "ECI 05",
            "approval code",
            "answered 400",
            "secret_hash differs",
        ):
            assert words in told
        assert "\x1b" not in told
        assert "What to do: The shop refused the message" in told
        assert "не подтвердил" in desk.run("why", "000000001", "--language", "ru")
        assert "растаған жоқ" in desk.run("why", "000000001", "--language", "kk", "--terminal", str(TERMINAL_ID))
        story = json.loads(desk.run("why", "000000001", "--json"))
        assert (story["state"], story["status"]) == ("order_paid_untold", "paid")
        assert "try_answered" in [line["fact"] for line in story["lines"]]

        shown = desk.run("messages", "show", listed["id"])
        for words in (
            f"webhook-id: {listed['id']}",
            '"invoiceId":"000000001"',
            receiver.url,
            "secret_hash differs\ufffd[2J",
        ):
            assert words in shown
        told_message = json.loads(desk.run("messages", "show", listed["id"], "--json"))
        attempt = told_message["attempts"][0]  # others follow by themselves, after seconds
        assert ["webhook-id", listed["id"]] in attempt["headers"]
        assert attempt["response"] == "secret_hash differs\x1b[2J"
        assert json.loads(told_message["body"])["invoiceId"] == "000000001"

        receiver.status = 200
        assert desk.run("redeliver", listed["id"]) == "to be sent again: 1\n"
        (again,) = desk.wait_for(lambda all_: all_[0]["state"] == "delivered", "--order", "000000001")
        assert again["id"] == listed["id"]
        assert again["tries"] >= 2
        assert set(receiver.ids) == {listed["id"]}
        assert "Sent again by hand (by " in desk.run("why", "000000001")
        assert desk.find("--state", "dead") == desk.find("--since", "2030-01-01") == []
        assert desk.run("messages", "--terminal", UNKNOWN) == "none\n"


def test_many_at_once(desk: Desk) -> None:
    with receiving() as receiver, serving(desk.cwd, *desk.where) as (_, port):
        shop = Shop(port)
        receiver.status = 410
        for number in range(3):
            shop.pay(f"00000000{number}", APPROVED, receiver.url)
        desk.wait_for(lambda all_: len(all_) == 3, "--state", "dead")
        assert len(desk.find("--limit", "2")) == 2
        receiver.status = 200
        assert desk.run("redeliver", "--dead", "--since", "1h") == "to be sent again: 3\n"
        desk.wait_for(lambda all_: len(all_) == 3, "--state", "delivered", "--since", "2h")
        assert sorted(receiver.ids[3:]) == sorted(receiver.ids[:3])
        assert desk.run("redeliver", "--dead", "--terminal", UNKNOWN) == "to be sent again: 0\n"
        assert desk.run("redeliver", "--since", "1h") == "to be sent again: 3\n"
        desk.wait_for(lambda all_: [one["tries"] for one in all_] == [3, 3, 3], "--state", "delivered")


def test_following(desk: Desk) -> None:
    with receiving() as receiver, serving(desk.cwd, *desk.where) as (_, port):
        shop = Shop(port)
        receiver.status = 410
        shop.pay("000000001", APPROVED, receiver.url)
        (first,) = desk.wait_for(lambda all_: bool(all_), "--state", "dead")
        command = [*COMMAND, "messages", "--follow", "--json", *desk.where]
        with subprocess.Popen(
            command, cwd=desk.cwd, env=environment(PYTHONUNBUFFERED="1"), stdout=subprocess.PIPE, text=True
        ) as follower:
            try:
                line = read_until(follower.stdout, lambda one: one["id"] == first["id"])
                assert line["state"] == "dead"
                receiver.status = 200
                shop.pay("000000002", APPROVED, receiver.url)
                line = read_until(follower.stdout, lambda one: one["invoice"] == "000000002" and one["tries"] == 1)
                assert line["state"] == "delivered"
                desk.run("redeliver", first["id"])
                line = read_until(follower.stdout, lambda one: one["id"] == first["id"] and one["tries"] == 2)
                assert line["state"] == "delivered"
            finally:
                follower.terminate()


def read_until(lines: Any, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    while True:
        line: dict[str, Any] = json.loads(lines.readline())
        if condition(line):
            return line


def test_what_is_wrong_is_said(tmp_path: Path) -> None:
    run("migrate", cwd=tmp_path)
    assert "no order '000000009'" in run("why", "000000009", cwd=tmp_path, status=1)
    assert "no message" in run("messages", "show", UNKNOWN, cwd=tmp_path, status=1)
    assert "no message" in run("redeliver", UNKNOWN, cwd=tmp_path, status=1)
    assert "--dead or --since" in run("redeliver", cwd=tmp_path, status=2)
    assert "--dead or --since" in run("redeliver", UNKNOWN, "--dead", cwd=tmp_path, status=2)
    assert "use 2h, 3d" in run("messages", "--since", "soon", cwd=tmp_path, status=2)
    assert "'waiting', 'sending'" in run("messages", "--state", "lost", cwd=tmp_path, status=2)
    assert "no order" in run("messages", "--order", "1", cwd=tmp_path, status=1)
    assert run("messages", cwd=tmp_path) == "none\n"


def test_a_page_that_watches_does_not_hold_up_the_end(tmp_path: Path) -> None:
    with (
        serving(tmp_path) as (process, port),
        urllib.request.urlopen(f"http://127.0.0.1:{port}/sandbox/feed", timeout=10) as stream,
    ):
        assert stream.headers["content-type"].startswith("text/event-stream")
        assert [stream.readline() for _ in range(4)] == [b"retry: 1000\n", b"\n", b"event: all\n", b"data: []\n"]
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert stream.read() == b"\n"
        assert process.wait(timeout=15) == 0
        assert time.monotonic() - began < GRACE_SECONDS
