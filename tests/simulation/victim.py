"""The process that is killed: a whole gateway, with the shop's server and the payer's browser calling it.

Started by test_kill in a process of its own. What outlives it is what outlives a machine: the database, the acquirer's
ledger, what the shop's server has received, and the page that the payer's browser has open.
"""

import asyncio
from multiprocessing.connection import Connection
from typing import Any, NamedTuple, cast

from tests.gateway import APPROVED_CARD, ORIGIN, Caller, build_config
from tests.issuer import CODE, SCRIPT, Issuer
from tests.simulation.books import settle
from tests.simulation.clock import MovableClock
from tests.simulation.quick import quicken
from tests.simulation.steps import (
    Fault,
    Steps,
    WatchedAcquirer,
    WatchedAuthenticator,
    WatchedStore,
    watch_notifications,
)
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
    code: str = CODE
    """What the payer types on the issuer's page."""
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
    """What people do with a page: wait while it is checked, type a card where there is a form, and a code at the
    issuer's. Answers its end."""
    issuer = Issuer(caller)
    for _ in range(CHECKS_MAX):
        page = await caller.get(path)
        state = page.state
        if state == "form":
            await caller.submit(path, scenario.first_card, browser=SCRIPT)
        elif 'data-step="device"' in page.text:
            await issuer.be_looked_at(page)
        elif 'data-step="challenge"' in page.text:
            await issuer.finish(page, scenario.code)
        elif state == "challenge":  # it waits at a page that is lost
            await caller.form(f"{path}/abandon", {}, {"origin": ORIGIN})
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
        wrap_authenticator=lambda authenticator: WatchedAuthenticator(authenticator, steps),
    )
    watch_notifications(gateway, steps)
    caller = Caller(gateway.app, case.shop_url)
    path = await caller.page(case.invoice)
    told.send(path)
    await finish_purchase(caller, path, case.scenario)
    await settle(gateway, clock)
    await gateway.close()
    told.send(steps.names)
