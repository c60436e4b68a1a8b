"""Several processes, and processes that die: real ones."""

import asyncio
import hashlib
import json

import pytest

from tests.storage.build import build_order, build_payment, put
from tests.storage.conftest import Ask, ask_database
from tests.storage.processes import child
from tolem.domain.order import OrderStatus
from tolem.domain.payment import PaymentStatus
from tolem.storage.open import open_store
from tolem.storage.schema import tolem_schema


def run_two(what: str, url: str) -> list[str]:
    """Two siblings at once; their last words."""
    with child(what, url) as first, child(what, url) as second:
        for process in (first, second):
            assert process.stdin is not None
            process.stdin.write("begin\n")
            process.stdin.flush()
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


async def test_two_processes_under_the_same_keys_tell_the_same(postgres: str) -> None:
    """Whoever reads that its key is unknown, and then waits for the other's commit, has to find it all the same."""
    store = await open_store(postgres, schema=tolem_schema, instance=7)
    for number in range(200):
        order = build_order(f"{number:09d}", status=OrderStatus.PAID)
        await put(store, order, build_payment(order, status=PaymentStatus.AUTHORIZED, authorized=order.amount))
    await store.close()
    told = [json.loads(words) for words in await asyncio.to_thread(run_two, "capture", postgres)]
    captured = dict(ask_database(postgres, "SELECT encode(hash, 'hex'), operation_id::text FROM request_keys"))
    assert len(captured) == len(told[0]) / 2 == 200
    for call in told[0]:
        operation_id = captured.get(hashlib.sha256(call.encode()).hexdigest(), "None")
        assert [one[call] for one in told] == [[operation_id]] * 2, call


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
