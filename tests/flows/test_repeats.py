"""A money call that is made again: how long it is known, and when its caller counts as told."""

from datetime import timedelta

from tests.flows.test_operations import REFUND, MovedClock, paid_till
from tolem.domain.errors import Refusal
from tolem.storage import sweeps


async def test_a_key_is_known_as_long_as_its_operation(database_url: str) -> None:
    clock = MovedClock()
    async with paid_till(database_url, two_stage=False, clock=clock) as till:
        first = await till.move(REFUND, "20", key="k1")
        declined = await till.move(REFUND, "10.66", key="k2")
        clock.offset = timedelta(days=1_000)
        while await sweeps.purge_expired(till.gateway.store, before=clock.now(), real_before=clock.now(), limit=100):
            pass
        assert await till.move(REFUND, "20", key="k1") == first
        assert await till.move(REFUND, "10.66", key="k2") == declined
        assert await till.refused(REFUND, "30", key="k1") is Refusal.KEY_REUSED
        assert (await till.payment()).refunded == 2_000
        assert till.acquirer.count(REFUND) == 2
