"""What monitoring sees of a gateway."""

import sqlite3
import time
from contextlib import closing
from datetime import timedelta

import pytest
from tests.flows.moody import Mood
from tests.flows.test_operations import REFUND, MovedClock, paid_till
from tests.gateway import Caller, running_gateway

from tolem.domain.payment import OperationKind


@pytest.mark.parametrize(
    ("minutes", "age"), ((0, "under_a_minute"), (10, "up_to_an_hour"), (90, "over_an_hour")), ids=str
)
async def test_operations_without_an_outcome_are_told_by_their_age(database_url: str, minutes: int, age: str) -> None:
    clock = MovedClock()
    async with paid_till(database_url, two_stage=False, clock=clock) as till:
        till.acquirer.feel(REFUND, *[Mood.REFUSED] * 99)
        till.acquirer.feel(OperationKind.INQUIRY, *[Mood.REFUSED] * 99)
        await till.move(REFUND, "40")
        clock.offset = timedelta(minutes=minutes)
        caller = Caller(till.gateway.app)
        answer = await caller.get("/readyz")
        ages = {"under_a_minute": 0, "up_to_an_hour": 0, "over_an_hour": 0, "given_up": 0} | {age: 1}
        assert (answer.status, answer.json()["open_operations_by_age"]) == (200, ages)
        assert answer.json()["open_operations"] == 1
        metrics = (await caller.get("/metrics")).text
        for name, count in ages.items():
            assert f'tolem_operations_open_by_age{{age="{name}"}} {count}.0' in metrics


async def test_a_file_that_another_process_keeps_locked_is_not_ready_and_is_told_in_time(sqlite_url: str) -> None:
    async with running_gateway(sqlite_url) as gateway:
        caller = Caller(gateway.app)
        path = await caller.page("000000001")
        with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            for _ in range(2):
                started = time.monotonic()
                answer = await caller.get("/readyz")
                assert (answer.status, answer.json()["status"]) == (503, "not ready")
                assert time.monotonic() - started < 10  # READY_SECONDS_MAX and what a busy machine adds
            page = await caller.get(path)  # reading goes on
            assert (page.status, page.state) == (200, "form")
            assert (await caller.get("/healthz")).status == 200
            refused = await caller.request_token("000000002")
            assert refused.status == 503
            other.execute("ROLLBACK")
        answer = await caller.get("/readyz")
        assert (answer.status, answer.json()["database"]) == (200, "current")
        assert (await caller.pay(path)).state in ("approved", "checking")
