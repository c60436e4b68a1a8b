"""The process that is killed: a whole gateway, with the shop's server and the payer's browser calling it.

Started by test_kill in a process of its own. What outlives it is what outlives a machine: the database, the acquirer's
ledger, what the shop's server has received, and the page that the payer's browser has open.
"""

import asyncio
from multiprocessing.connection import Connection
from typing import Any, NamedTuple, cast

from tests.gateway import APPROVED_CARD, ORIGIN, Caller, build_config
from tests.simulation.books import settle
from tests.simulation.clock import MovableClock
from tests.simulation.quick import quicken
from tests.simulation.steps import Fault, Steps, WatchedAcquirer, WatchedStore, watch_notifications
from tolem.bootstrap import open_gateway
from tolem.storage.store import Store

CHECKS_MAX = 1000
CHECK_SECONDS = 0.01
SHORT: dict[str, Any] = {"recovery_margin_seconds": 0.05}
"""Limits, for victim and survivor."""


class Scenario(NamedTuple):
    """What happens to an order."""

    first_card: str = APPROVED_CARD
    fault: Fault | None = None
    leaves: bool = False
    """After a decline the payer goes back to the shop; otherwise pays with another card."""
    returns: bool = True
    """After a power cut the payer goes on; otherwise is never seen again."""
    deaf_tries: int = 0
    """So many tries are answered 500 by the shop."""


class Case(NamedTuple):
    """One run of a victim."""

    database: str
    invoice: str
    shop_url: str
    scenario: Scenario
    kill_at: int | None


def run(case: Case, told: Connection) -> None:
    """The process. Tells the page's path once the browser has it, and at its natural end the list of its steps."""
    asyncio.run(_live(case, told))


async def finish_purchase(caller: Caller, path: str, scenario: Scenario) -> str:
    """What people do with a page: wait while it is checked, type a card where there is a form. Answers its end."""
    for _ in range(CHECKS_MAX):
        state = (await caller.get(path)).state
        if state == "form":
            await caller.submit(path, scenario.first_card)
        elif state == "declined" and scenario.leaves:
            await caller.form(f"{path}/leave", {}, {"origin": ORIGIN})
        elif state == "declined":
            await caller.submit(path, APPROVED_CARD)
        elif state != "checking":
            return state
        await asyncio.sleep(CHECK_SECONDS)
    raise TimeoutError(f"the page still shows {state}")


async def _live(case: Case, told: Connection) -> None:
    quicken(setattr)
    steps = Steps(case.kill_at)
    clock = MovableClock()
    gateway = await open_gateway(
        build_config(case.database, **SHORT),
        clock=clock,
        wrap_store=lambda store: cast(Store, WatchedStore(store, steps)),
        wrap_acquirer=lambda acquirer: WatchedAcquirer(acquirer, steps, case.scenario.fault),
    )
    watch_notifications(gateway, steps)
    caller = Caller(gateway.app, case.shop_url)
    path = await caller.page(case.invoice)
    told.send(path)
    await finish_purchase(caller, path, case.scenario)
    await settle(gateway, clock)
    await gateway.close()
    told.send(steps.names)
