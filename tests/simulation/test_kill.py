"""kill -9 at each of the steps of a payment, then a restart: ledger = orders = notifications, on both databases.

The victim is a process of its own, forked from a server that has imported it already: a bare start would cost more than
the payment. It plays the payer's browser too, so that the steps come in one order; what the browser has open survives.
"""

import asyncio
import signal
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from itertools import count
from multiprocessing.context import ForkServerContext
from typing import NamedTuple

import pytest

from tests.forks import fork_context
from tests.gateway import LOCKED_CARD, Caller, running_gateway
from tests.issuer import CHALLENGED_CARD
from tests.notifications.shops import Shop, answer, open_shop
from tests.simulation.books import find_faults, read_books, settle
from tests.simulation.clock import MovableClock
from tests.simulation.steps import Fault
from tests.simulation.victim import SHORT, Case, Scenario, finish_purchase, run
from tolem.domain.order import OrderStatus

VICTIM_SECONDS_MAX = 30
DOWN = timedelta(minutes=2)
"""How long the gateway is away: longer than a lease, and than recovery waits."""
GONE = timedelta(minutes=30)
"""The same where the payer is gone, too: longer than a round."""


def commit_of(written: str) -> tuple[str, str]:
    """The two steps of a commit."""
    return (f"before commit of {written}", f"after commit of {written}")


OPEN = (*commit_of("order.open+accesstoken"), *commit_of("order.open+page"))
RESERVE = (*commit_of("payment.authorizing+purchase.prepared"), "before purchase is sent")
CALL = (*commit_of("ledger.purchase.approved"), "after purchase is answered")
CALL_DECLINED = (*commit_of("ledger.purchase.declined"), "after purchase is answered")
RECORD = commit_of("order.paid+payment.captured+purchase.approved+event+message.sending")
RECORD_DECLINED = commit_of("payment.declined+purchase.declined+event")
RECORD_UNKNOWN = commit_of("payment.unknown+purchase.unknown+event")
INQUIRE = ("after claim of purchase.unknown", "before inquiry is sent", "after inquiry is answered")
REVERSE = (
    *commit_of("purchase.unknown+reversal.prepared"),
    "before reversal is sent",
    *commit_of("ledger.reversal.declined+ledger.reversal.approved"),
    "after reversal is answered",
    *commit_of("payment.failed+purchase.reversed+event+reversal.approved"),
)
LOOK = commit_of("payment.authenticating+pendingauthentication+sealedcard")
CHALLENGE = (*commit_of("acsentry"), "after a challenge is asked for", *commit_of("pendingauthentication"))
CONFIRM = (*commit_of("acsentry"), "after the result is told")
RESERVE_CHALLENGED = (
    *commit_of("payment.authorizing+purchase.prepared+pendingauthentication+sealedcard"),
    "before purchase is sent",
)
NOT_AUTHENTICATED = commit_of("payment.declined+event+pendingauthentication+sealedcard")
LEAVE = commit_of("order.failed+event+message.sending")
TELL = ("before success is told", "after success is told")
TELL_FAILURE = ("before failure is told", "after failure is told")
TOLD = commit_of("attempt+message.delivered")
TOLD_IN_VAIN = (*commit_of("attempt+message.waiting"), "after claim of message.sending")

SCENARIOS: dict[str, tuple[Scenario, tuple[str, ...]]] = {
    "paid": (Scenario(), (*OPEN, *RESERVE, *CALL, *RECORD, *TELL, *TOLD)),
    "abandoned": (Scenario(returns=False), (*OPEN, *RESERVE, *CALL, *RECORD, *TELL, *TOLD)),
    "left": (
        Scenario(first_card=LOCKED_CARD, leaves=True),
        (*OPEN, *RESERVE, *CALL_DECLINED, *RECORD_DECLINED, *LEAVE, *TELL_FAILURE, *TOLD),
    ),
    "answer-lost": (
        Scenario(fault=Fault(is_delivered=True)),
        (*OPEN, *RESERVE, *CALL, *RECORD_UNKNOWN, *INQUIRE, *RECORD, *TELL, *TOLD),
    ),
    "never-arrived": (
        Scenario(fault=Fault(is_delivered=False)),
        (*OPEN, *RESERVE, *RECORD_UNKNOWN, *INQUIRE, *REVERSE, *RESERVE, *CALL, *RECORD, *TELL, *TOLD),
    ),
    "challenged": (
        Scenario(first_card=CHALLENGED_CARD),
        (*OPEN, *LOOK, *CHALLENGE, *CONFIRM, *RESERVE_CHALLENGED, *CALL, *RECORD, *TELL, *TOLD),
    ),
    "challenged-abandoned": (
        Scenario(first_card=CHALLENGED_CARD, returns=False),
        (*OPEN, *LOOK, *CHALLENGE, *CONFIRM, *RESERVE_CHALLENGED, *CALL, *RECORD, *TELL, *TOLD),
    ),
    "not-authenticated": (
        Scenario(first_card=CHALLENGED_CARD, code="000000"),
        (
            *OPEN,
            *LOOK,
            *CHALLENGE,
            *commit_of("acsentry"),
            *commit_of("acsentry"),
            *CONFIRM,
            *NOT_AUTHENTICATED,
            *RESERVE,
            *CALL,
            *RECORD,
            *TELL,
            *TOLD,
        ),
    ),
    "shop-down": (
        Scenario(deaf_tries=1),
        (*OPEN, *RESERVE, *CALL, *RECORD, *TELL, *TOLD_IN_VAIN, *TELL, *TOLD),
    ),
}
"""Each with the steps that it takes; test_the_steps compares them with those that a victim counts."""


class Outcome(NamedTuple):
    """How a victim ended."""

    exit_code: int | None
    page: str | None
    """None: the browser had not got it yet."""
    steps: list[str] | None
    """None: it was killed."""


_invoices = (f"{number:09d}" for number in count(1))


@pytest.fixture(scope="module")
def processes() -> ForkServerContext:
    """Makes victims."""
    return fork_context()


@pytest.fixture(scope="module")
def database(shared_database: str) -> str:
    """Past its first start."""

    async def start() -> None:
        async with running_gateway(shared_database, **SHORT):
            pass

    asyncio.run(start())
    return shared_database


@pytest.mark.parametrize("name", SCENARIOS)
async def test_the_steps(database: str, processes: ForkServerContext, name: str) -> None:
    scenario, steps = SCENARIOS[name]
    async with shop_of(scenario) as shop:
        outcome = await _live(processes, Case(database, next(_invoices), shop.url, scenario, None))
    assert outcome.steps == list(steps)


def kill_cases() -> list[pytest.ParameterSet]:
    """Every step of "paid". Of the others every state that a kill can leave behind: each "after" step, since the step
    before the next thing that happens leaves the same one, and nothing that went as in "paid" until then."""
    paid = SCENARIOS["paid"][1]
    cases = []
    for name, (scenario, steps) in SCENARIOS.items():
        shared = next((n for n, (a, b) in enumerate(zip(steps, paid, strict=False)) if a != b), 0)
        for number, step in enumerate(steps):
            is_new = number >= shared or not scenario.returns
            if name == "paid" or (is_new and step.startswith("after")):
                cases.append(pytest.param(name, number, id=f"{name}-{number:02d} {step}"))
    return cases


@pytest.mark.parametrize(("name", "number"), kill_cases())
async def test_kill(database: str, processes: ForkServerContext, name: str, number: int) -> None:
    scenario, _ = SCENARIOS[name]
    invoice = next(_invoices)
    clock = MovableClock(DOWN if scenario.returns else GONE)
    async with shop_of(scenario) as shop:
        victim = await _live(processes, Case(database, invoice, shop.url, scenario, number))
        assert victim.exit_code == -signal.SIGKILL
        async with running_gateway(database, clock=clock, **SHORT) as gateway:
            caller = Caller(gateway.app, shop.url)
            if scenario.returns:
                page = victim.page or await caller.page(invoice)  # without a page, from the shop anew
                assert await finish_purchase(caller, page, scenario) == ("failed" if scenario.leaves else "approved")
            await settle(gateway, clock)
            books = await read_books(gateway, database)
    assert find_faults(books, shop.requests, [invoice]) == []
    if scenario.returns:
        (order,) = (order for order in books.orders if order.invoice_id == invoice)
        assert order.status is (OrderStatus.FAILED if scenario.leaves else OrderStatus.PAID)


def shop_of(scenario: Scenario) -> AbstractAsyncContextManager[Shop]:
    """The shop's server, which is deaf at first if the scenario says so."""
    return open_shop(*[answer(500)] * scenario.deaf_tries, answer(200))


async def _live(processes: ForkServerContext, case: Case) -> Outcome:
    """Runs a victim to its end. The loop goes on meanwhile: the shop's server is on it."""
    reader, writer = processes.Pipe(duplex=False)
    victim = processes.Process(target=run, args=(case, writer))
    victim.start()
    writer.close()
    await asyncio.to_thread(victim.join, VICTIM_SECONDS_MAX)
    exit_code = victim.exitcode
    if exit_code is None:
        victim.kill()
        victim.join()
    heard = []
    while reader.poll():
        try:
            heard.append(reader.recv())
        except EOFError:
            break
    reader.close()
    victim.close()
    page, steps, *_ = (*heard, None, None)
    return Outcome(exit_code, page, steps)
