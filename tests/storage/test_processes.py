"""Several processes, and processes that die: real ones."""

import pytest

from tests.storage.conftest import Ask, ask_database
from tests.storage.processes import child


def run_two(what: str, url: str) -> list[str]:
    """Two siblings at once; their last words."""
    with child(what, url) as first, child(what, url) as second:
        return [process.communicate(timeout=60)[0].splitlines()[-1] for process in (first, second)]


def test_two_processes_pay_the_same_invoices_once(postgres: str) -> None:
    assert run_two("pay", postgres) == ["errors 0 []"] * 2
    assert ask_database(postgres, "SELECT count(*), count(DISTINCT invoice_id) FROM orders WHERE status = 'paid'") == [
        (200, 200)
    ]
    assert ask_database(postgres, "SELECT count(*), count(DISTINCT order_id) FROM payments") == [(200, 200)]
    assert ask_database(postgres, "SELECT count(*), count(DISTINCT order_id) FROM messages") == [(200, 200)]


def test_two_processes_insert_the_same_invoices(postgres: str) -> None:
    assert run_two("insert", postgres) == ["errors 0 []"] * 2
    assert ask_database(postgres, "SELECT count(*), count(DISTINCT invoice_id) FROM orders") == [(300, 300)]
    assert ask_database(postgres, "SELECT count(*) FROM events") == [(600,)]


@pytest.mark.parametrize("answers", (1, 50))
def test_what_was_answered_survives_kill_9(url: str, ask: Ask, answers: int) -> None:
    with child("write", url) as process:
        assert process.stdout is not None
        answered = {process.stdout.readline().strip() for _ in range(answers)}
        process.kill()
        answered |= {line.strip() for line in process.stdout if line.endswith("\n")}
    stored = {row[0] for row in ask("SELECT invoice_id FROM orders")}
    assert answered <= stored
    assert len(stored) - len(answered) <= 1
