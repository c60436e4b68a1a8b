"""The contract of acquirers, kept by the simulator in process and over the wire, on both ledger databases."""

import itertools
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.acquirers.contract import AcquirerContract, Bench, bench_day
from tests.acquirers.programs import Program, running_program
from tests.postgres import PostgresServer
from tolem.acquirers.base import Acquirer
from tolem.acquirers.http import HttpAcquirer
from tolem.domain.card import Card, Cvc, Expiry, Pan
from tolem.sandbox.cards import build_number
from tolem.sandbox.fixtures import TERMINAL_ID
from tolem.sandbox.ledger import open_ledger
from tolem.sandbox.line import Line
from tolem.sandbox.simulator import Simulator, check_card

_DAYS = itertools.count()


def sandbox_bench(acquirer: Acquirer) -> Bench:
    """The sandbox's cards, and a day that no other test has."""
    approved, declined = (Card(Pan(build_number(code)), Expiry(2030, 1), Cvc("123"), "A B") for code in (0, 484))
    return Bench(acquirer, TERMINAL_ID, "KZT", approved, declined, bench_day(next(_DAYS)))


@pytest.fixture(scope="module", params=("sqlite", "postgresql"))
def ledger_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A ledger for all tests of this file, once on each engine."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path_factory.mktemp('ledger') / 'simulator.db'}"
        return
    server: PostgresServer = request.getfixturevalue("postgres_server")
    name = server.create_database()
    yield server.url(name)
    server.drop_database(name)


@pytest.fixture(scope="module")
def program(ledger_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    folder: Path = tmp_path_factory.mktemp("program")
    with running_program(folder, ledger_url) as program:
        yield program


class TestSimulatorInProcess(AcquirerContract):
    @pytest.fixture
    async def bench(self, database_url: str) -> AsyncIterator[Bench]:
        line = Line(Simulator(await open_ledger(database_url, instance=1)))
        yield sandbox_bench(line)
        await line.close()


class TestSimulatorOverTheWire(AcquirerContract):
    @pytest.fixture
    async def bench(self, program: Program) -> AsyncIterator[Bench]:
        acquirer = HttpAcquirer(program.url, check=check_card)
        yield sandbox_bench(acquirer)
        await acquirer.close()
