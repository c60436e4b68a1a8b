"""One database for all cases of a module: each case has orders of its own, and finds those of the earlier ones."""

from collections.abc import Iterator

import pytest

from tests.postgres import PostgresServer
from tests.simulation.quick import quicken


@pytest.fixture(scope="module", params=("sqlite", "postgresql"))
def shared_database(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a database, once on each engine."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path_factory.mktemp('simulation') / 'tolem.db'}"
        return
    server: PostgresServer = request.getfixturevalue("postgres_server")
    name = server.create_database()
    yield server.url(name)
    server.drop_database(name)


@pytest.fixture(autouse=True)
def quick_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of every gateway in this process."""
    quicken(monkeypatch.setattr)
