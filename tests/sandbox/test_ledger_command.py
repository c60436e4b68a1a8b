"""`tolem ledger` and the starts that `tolem acquirer-simulator` refuses, run as people run them."""

import asyncio
import csv
import io
import json
import socket
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest
from click.testing import CliRunner
from msgspec.structs import replace

from tests.acquirers.programs import Program, running_program
from tests.sandbox.test_line import AT, ask
from tests.test_cli import run as run_beside
from tests.test_cli import serving
from tests.test_cli_money import Shop
from tolem.acquirers.http import HttpAcquirer
from tolem.cli import main
from tolem.config import InvalidConfig, load_config
from tolem.domain.payment import OperationKind
from tolem.sandbox.cards import build_number
from tolem.sandbox.ledger import LedgerEntry
from tolem.sandbox.simulator import check_card


def run(program: Program, *arguments: str, status: int = 0) -> str:
    """A start, as a process of its own."""
    command = [sys.executable, "-m", "tolem.cli", *arguments]
    done = subprocess.run(command, cwd=program.folder, env=program.environment, capture_output=True, text=True)
    assert done.returncode == status, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout if status == 0 else done.stderr


def read(*arguments: str, status: int = 0) -> str:
    """A look into the book, in this process."""
    result = CliRunner().invoke(main, ["ledger", *arguments])
    assert result.exit_code == status, result.output
    return result.output


async def fill(program: Program) -> list[UUID]:
    """A hold that is captured and given back in part, one that is reversed, and 120 that are simply declined later."""
    acquirer = HttpAcquirer(program.url, check=check_card)
    held = ask(OperationKind.AUTHORIZE)
    capture = ask(OperationKind.CAPTURE, of=held.key, amount=50050)
    refund = ask(OperationKind.REFUND, of=held.key, amount=1000)
    gone = ask(OperationKind.PURCHASE)
    reversal = ask(OperationKind.REVERSAL, of=gone.key)
    voided = ask(OperationKind.AUTHORIZE)
    void = ask(OperationKind.VOID, of=voided.key)
    requests = [held, capture, refund, gone, reversal, voided, void]
    requests += [ask(OperationKind.CAPTURE, of=gone.key) for _ in range(120)]
    requests = [replace(request, at=AT + timedelta(seconds=n)) for n, request in enumerate(requests)]
    for request in requests:
        await acquirer.send(request)
    await acquirer.close()
    return [request.key for request in requests]


def test_ledger_beside_a_running_simulator(tmp_path: Path, database_url: str) -> None:
    with running_program(tmp_path, database_url) as program:
        keys = asyncio.run(fill(program))
        where = ("--ledger", database_url)
        table = read("list", *where).splitlines()
        assert len(table) == len(keys) + 1
        assert [line.split("  ")[0] for line in table[:2]] == ["time (UTC)", "2026-11-24 09:00:00"]
        assert "approved, captured 500.50, refunded 10" in table[1]
        assert "440043...0007" in table[1]
        assert "approved, reversed" in table[4]
        assert "approved, voided" in table[6]
        assert "declined 469" in table[8]
        assert str(keys[0]) in table[2]
        assert str(keys[1]) in table[2]

        rows = list(csv.DictReader(io.StringIO(read("export", *where))))
        assert [UUID(row["key"]) for row in rows] == keys
        assert tuple(rows[0]) == LedgerEntry.__struct_fields__
        assert (rows[0]["amount"], rows[0]["captured"], rows[0]["refunded"]) == ("800.00", "500.50", "10.00")
        assert rows[0]["at"] == "2026-11-24T09:00:00Z"

        lines = read("export", "--format", "json", *where).splitlines()
        records = [json.loads(line) for line in lines]
        assert [{k: "" if v is None else str(v) for k, v in record.items()} for record in records] == rows

        period = ("--since", "2026-11-24T09:00:01", "--until", "2026-11-24T15:00:03+06:00")
        some = read("list", "--format", "json", *period, *where).splitlines()
        assert [json.loads(line)["kind"] for line in some] == ["capture", "refund"]
        assert read("export", "--until", "2026-11-24", *where).count("\n") == 1
        assert "use 2026-11-24" in read("list", "--since", "yesterday", *where, status=2)
        assert program.is_running


def test_what_is_refused_with_one_line(tmp_path: Path) -> None:
    program = Program(tmp_path, "sqlite:///simulator.db")
    text = run(program, "acquirer-simulator", "--host", "0.0.0.0", status=1)  # noqa: S104 - that is what is refused
    assert "set acquirer_secret" in text
    assert "simulator_ledger must begin" in run(program, "acquirer-simulator", "--ledger", "nonsense", status=1)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert "use another --port" in run(program, "acquirer-simulator", "--port", port, status=1)
    with running_program(tmp_path, "sqlite:///simulator.db"):
        text = run(program, "acquirer-simulator", "--port", "0", "--ledger", "sqlite:///simulator.db", status=1)
        assert "is served by process" in text


@pytest.mark.parametrize("flag", ("--database", "--ledger"))
async def test_a_ledger_survives_its_simulator(tmp_path: Path, database_url: str, flag: str) -> None:
    """Named by the gateway's database or by itself, as `tolem ledger` finds it."""
    request = ask(OperationKind.PURCHASE)
    with running_program(tmp_path, "", flag, database_url) as program:
        answers = []
        for _ in range(2):
            acquirer = HttpAcquirer(program.url, check=check_card)
            answers.append(await acquirer.send(request))
            await acquirer.close()
            program.kill()
            program.start()
        assert answers[0] == answers[1]
        (line,) = run(program, "ledger", "export", "--format", "json", flag, database_url).splitlines()
        assert json.loads(line)["key"] == str(request.key)


@pytest.mark.parametrize("command", ("list", "export"))
@pytest.mark.parametrize("form", ("text", "csv", "json"))
def test_a_ledger_that_is_not_there(tmp_path: Path, empty_postgres_url: str, command: str, form: str) -> None:
    elsewhere = f"sqlite:///{tmp_path / 'other.db'}"
    for where in (("--ledger", elsewhere), ("--database", elsewhere), ("--ledger", empty_postgres_url)):
        result = CliRunner().invoke(main, ["ledger", command, "--format", form, *where])
        assert (result.exit_code, result.stdout) == (1, "")
        assert "no such ledger" in result.stderr
        assert result.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_the_ledger_of_a_gateway_is_found_beside_it(tmp_path: Path, postgres_url: str) -> None:
    """As people do it: the same --database, or none."""
    for where in ((), ("--database", "sqlite:///shop.db"), ("--database", postgres_url)):
        with serving(tmp_path, *where) as (_, port):
            Shop(port).pay("000000001", build_number(0))
            (line,) = run_beside("ledger", "export", "--format", "json", *where, cwd=tmp_path).splitlines()
            assert json.loads(line)["kind"] == "purchase"
            assert len(run_beside("ledger", "list", *where, cwd=tmp_path).splitlines()) == 2
    assert {"tolem-simulator.db", "shop-simulator.db"} <= {path.name for path in tmp_path.iterdir()}


def test_the_simulator_keeps_the_ledger_that_ledger_tells(tmp_path: Path) -> None:
    program = Program(tmp_path, "")
    with running_program(tmp_path, "") as running:
        asyncio.run(fill(running))
        assert "approved" in run(program, "ledger", "list")


def test_gateway_with_an_address_that_cards_must_not_go_to(tmp_path: Path) -> None:
    program = Program(tmp_path, "sqlite:///simulator.db", TOLEM_ACQUIRER_URL="http://acquirer.example")
    text = run(program, "serve", "--port", "0", status=1)
    assert "acquirer_url must be https" in text
    assert text.count("\n") == 1


@pytest.mark.parametrize(
    ("setting", "value", "words"),
    (
        ("acquirer_secret", "short", "24 or more"),
        ("acquirer_secret", "with a space and more than 24", "24 or more"),
        ("simulator_port", 70000, "0 to 65535"),
        ("simulator_late_seconds", -1, "0 or more"),
        ("simulator_delay_seconds", -1, "0 or more"),
        ("simulator_host", "192.0.2.1", "set acquirer_secret"),
    ),
)
def test_settings(setting: str, value: object, words: str) -> None:
    with pytest.raises(InvalidConfig, match=words):
        load_config({setting: value}, {})
