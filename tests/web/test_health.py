"""What monitoring sees of a gateway."""

from datetime import timedelta

import pytest
from tests.flows.moody import Mood
from tests.flows.test_operations import REFUND, MovedClock, paid_till
from tests.gateway import Caller

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
