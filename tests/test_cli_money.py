"""resolve and reconcile as an operator runs them, beside a running server."""

import json
import time
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from tests.test_cli import invoke, run, serving
from tolem.sandbox.cards import build_number
from tolem.sandbox.fixtures import CLIENT_ID, CLIENT_SECRET, TERMINAL_ID


class Shop:
    """A shop's server and its payer, over HTTP."""

    def __init__(self, port: int) -> None:
        self.base = f"http://127.0.0.1:{port}"

    def post(self, path: str, fields: dict[str, str], **headers: str) -> tuple[str, bytes]:
        """A form; where it led, and what came."""
        data = urllib.parse.urlencode(fields).encode()
        request = urllib.request.Request(self.base + path, data, headers)  # noqa: S310 - loopback
        with urllib.request.urlopen(request, timeout=15) as answer:  # noqa: S310 - loopback
            return answer.url, answer.read()

    def pay(self, invoice: str, number: str, post_link: str = "") -> str:
        """Pays an order; the page's address."""
        order = {"invoiceID": invoice, "amount": "100", "currency": "KZT", "terminal": str(TERMINAL_ID)}
        order |= {"postLink": post_link} if post_link else {}
        client = {"grant_type": "client_credentials", "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}
        token = json.loads(self.post("/oauth2/token", client | order)[1])
        wish = {"invoiceId": invoice, "amount": 100, "auth": token}
        page, _ = self.post("/payform/", {"params": json.dumps(wish)})
        card = {"cc-number": number, "cc-exp": "12/30", "cc-csc": "123", "cc-name": "ARMAN ALI"}
        self.post(page.removeprefix(self.base), card, Origin=self.base)
        return page


def reconcile(cwd: Path, status: int, **extra: str) -> dict[str, Any]:
    """The report as JSON. With status 1 it still goes to standard output."""
    done = invoke("reconcile", "--json", cwd=cwd, **extra)
    assert done.exit_code == status, done.output
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def test_what_stays_unknown_is_listed_and_resolved(tmp_path: Path) -> None:
    limits: dict[str, Any] = {
        "TOLEM_ACQUIRER_TIMEOUT_SECONDS": "0.3",
        "TOLEM_RECOVERY_MARGIN_SECONDS": "0.1",
        "TOLEM_RECOVERY_TRIES": "1",
    }
    with serving(tmp_path, **limits) as (_, port):
        shop = Shop(port)
        shop.pay("000000001", build_number(0))
        assert "nothing is open" in run("resolve", "--list", cwd=tmp_path)
        deadline = time.monotonic() + 60
        while reconcile(tmp_path, 0, **limits)["operations"] < 1:  # what may be under way still is not compared
            assert time.monotonic() < deadline
        assert "1 operations, 1 lines of the acquirer" in run("reconcile", cwd=tmp_path, **limits)
        # The simulator answers an inquiry about 460 with 460 for ever; its reversal works, so it settles by itself.
        shop.pay("000000002", build_number(460))
        deadline = time.monotonic() + 60
        while "nothing is open" not in run("resolve", "--list", cwd=tmp_path):
            assert time.monotonic() < deadline
        while (report := reconcile(tmp_path, 0, **limits))["operations"] < 2:
            assert time.monotonic() < deadline
        assert report["differences"] == []
    unknown = "00000000-0000-7000-8000-000000000000"
    assert "no operation" in run(
        "resolve", unknown, "--happened", "--reason", "the bank says so", cwd=tmp_path, status=1
    )
    assert "say one of" in run("resolve", unknown, "--reason", "the bank says so", cwd=tmp_path, status=2)
    assert "no operation" in run("resolve", unknown, "--happened", "--reason", "x", cwd=tmp_path, status=1)
    assert "10 characters" in run("resolve", "--help", cwd=tmp_path)


def test_what_was_paid_just_now_is_too_young(tmp_path: Path) -> None:
    with serving(tmp_path) as (_, port):
        Shop(port).pay("000000001", build_number(0))
        report = reconcile(tmp_path, 0)
        assert report == {"differences": [], "operations": 0, "acquirer_lines": 1, "orders": 0, "too_young": 2}
        assert "2 too young to be compared" in run("reconcile", cwd=tmp_path)
        # the day by Kazakhstan's calendar; one that has not begun has nothing that could agree
        assert "0 lines" in run("reconcile", "--date", "2001-01-01", cwd=tmp_path)
        assert "has not begun yet" in run("reconcile", "--date", "2999-01-01", cwd=tmp_path, status=2)


def test_reconcile_tells_when_a_side_cannot_be_read(tmp_path: Path) -> None:
    run("migrate", cwd=tmp_path)
    assert "Error" in run("reconcile", "--acquirer", "http://127.0.0.1:1", cwd=tmp_path, status=2)
    assert "no such ledger" in run("reconcile", cwd=tmp_path, status=2)
    assert not (tmp_path / "tolem-simulator.db").exists()
    assert "2026-13-01" in run("reconcile", "--date", "2026-13-01", cwd=tmp_path, status=2)
