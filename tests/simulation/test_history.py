"""Random histories from seeds: payers and shops at odds with time and a moody acquirer. The books agree in the end.

A history does whatever people and machines do, in any order and at once: tokens, pages, cards, challenges passed and
failed and given up, double clicks, leaving, a shop that is down, restarts, time that passes. Then everything is left to
settle, and the three books are compared.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import timedelta
from random import Random
from typing import Any
from uuid import UUID

import pytest

from tests.gateway import APPROVED_CARD, LOCKED_CARD, ORIGIN, Answer, Caller, running_gateway
from tests.issuer import CHALLENGED_CARD, CODE, SCRIPT, Form, Issuer, read_form
from tests.notifications.shops import Shop, answer, open_shop, reset_after
from tests.simulation.books import find_faults, read_books, settle
from tests.simulation.clock import MovableClock
from tests.simulation.moods import Moods, MoodyAcquirer
from tolem.acquirers.base import Acquirer
from tolem.bootstrap import Gateway
from tolem.clock import SystemClock
from tolem.domain.order import OrderStatus
from tolem.flows.administration import Administration
from tolem.ids import Ids
from tolem.sandbox.cards import build_number
from tolem.sandbox.fixtures import CLIENT_ID, TERMINAL_ID

SEEDS = range(10)
STEPS = 30
ORDERS = 6
SHORT: dict[str, Any] = {"acquirer_timeout_seconds": 0.1, "recovery_margin_seconds": 0.05}
HOTEL = UUID("00000000-0000-7000-8000-0000000000b0")
"""A terminal that holds first, and allows two attempts."""
CARDS = (
    *(APPROVED_CARD, build_number(0), build_number(0, "2")),
    *(LOCKED_CARD, build_number(484), build_number(488), build_number(500, "3")),
    *(CHALLENGED_CARD, CHALLENGED_CARD, build_number(484, "1"), build_number(0, "6"), build_number(0, "7")),
    build_number(0, "4"),
)
JUMPS = tuple(timedelta(seconds=seconds) for seconds in (1, 6, 65, 65, 330, 21 * 60, 3 * 3600))
"""What deadlines, leases, retries and recovery wait for."""


class History:
    """One shop, its payers, and what they believe."""

    def __init__(self, seed: int, database: str, shop: Shop) -> None:
        self.random = Random(seed)
        self.moods = Moods(Random(f"moods {seed}"))
        self.clock = MovableClock()
        self.shop = shop
        self.database = database
        self.invoices = {f"{seed:06d}{number:03d}": (TERMINAL_ID, HOTEL)[number % 2] for number in range(ORDERS)}
        self.tokens: list[tuple[str, str, object]] = []
        """Invoice, amount, token: also those that a newer round revoked."""
        self.pages: list[tuple[str, str]] = []
        """Invoice, path."""
        self.seen_approved: set[str] = set()
        """Invoices that a payer saw paid."""
        self.returned: list[Form] = []
        """What issuers sent browsers back with."""
        self.told: list[str] = []
        """What was done, for the message of a failure."""
        self.gateway: Gateway
        self.caller: Caller
        self._acquirer: Acquirer
        self._stack = AsyncExitStack()
        self._payers: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Opens a gateway."""

        def wrap(acquirer: Acquirer) -> Acquirer:
            self._acquirer = acquirer
            return MoodyAcquirer(acquirer, self.moods)

        self.gateway = await self._stack.enter_async_context(
            running_gateway(self.database, clock=self.clock, wrap_acquirer=wrap, **SHORT)
        )
        self.caller = Caller(self.gateway.app, self.shop.url)

    async def stop(self) -> None:
        """Closes it as a server does: requests first."""
        await self.join_payers()
        await self._stack.aclose()

    async def join_payers(self) -> None:
        """Waits for what was done in the background; raises what went wrong there."""
        await asyncio.gather(*self._payers)
        self._payers.clear()

    async def live(self) -> None:
        """All steps, then peace."""
        await self.start()
        await self.ask_token()
        await self.open_page()
        for _ in range(STEPS):
            (action,) = self.random.choices(ACTIONS, WEIGHTS)
            self.told.append(action.__name__)
            await action(self)
        await self.join_payers()
        self.moods.is_calm = True
        self.shop.behaviours = [answer(200)]
        await self.moods.deliver_late(self._acquirer)
        await settle(self.gateway, self.clock)

    async def ask_token(self) -> None:
        """The shop's server, perhaps about another amount."""
        unpaid = [invoice for invoice in self.invoices if invoice not in self.seen_approved]
        invoice = self.random.choice(unpaid if unpaid and self.random.random() < 0.9 else list(self.invoices))
        amount = self.random.choice(("100", "100", "250.5"))
        terminal = str(self.invoices[invoice])
        asked = await self.caller.request_token(invoice, amount=amount, terminal=terminal)
        assert asked.status in (200, 400, 409), asked.text  # refused while another amount is being paid
        if asked.status == 200:
            self.tokens.append((invoice, amount, asked.json()))

    async def open_page(self) -> None:
        """A browser with any token that there ever was, mostly the newest."""
        invoice, amount, token = self.tokens[-1] if self.random.random() < 0.7 else self.random.choice(self.tokens)
        terminal = str(self.invoices[invoice])
        opened = await self.caller.open(token, invoice, amount=json.loads(amount), terminal=terminal)
        assert opened.status in (303, 400), opened.text
        if opened.status == 303:
            self.pages.append((invoice, opened.headers["location"]))

    async def buy(self) -> None:
        """The usual way: token, page, card."""
        await self.ask_token()
        await self.open_page()
        await self.pay()

    async def look(self) -> None:
        """A payer reloads."""
        if self.pages:
            await self._look(*self._choose_page())

    async def pay(self) -> None:
        """A payer types a card, and waits or not."""
        if not self.pages:
            return
        page, card = self._choose_page(), self.random.choice(CARDS)
        if self.random.random() < 0.4:
            self._spawn(self._pay(*page, card))
        else:
            await self._pay(*page, card)

    async def pay_twice(self) -> None:
        """A double click, or several tabs with several cards at once."""
        if self.pages:
            chosen = [(self._choose_page(), self.random.choice(CARDS)) for _ in range(self.random.choice((2, 3)))]
            await asyncio.gather(*(self._pay(*page, card) for page, card in chosen))

    async def confirm(self) -> None:
        """A payer who is challenged does something about it."""
        if self.pages:
            invoice, path = self._choose_page()
            work = self._confirm(path)
            if self.random.random() < 0.3:
                self._spawn(work)
            else:
                await work
            await self._look(invoice, path)

    async def come_back_again(self) -> None:
        """An old answer of the issuer comes once more."""
        if self.returned:
            answered = await Issuer(self.caller).post(self.random.choice(self.returned))
            assert answered.status == 200, answered.text

    async def leave(self) -> None:
        """A payer goes back to the shop."""
        if self.pages:
            _, path = self._choose_page()
            left = await self.caller.form(f"{path}/leave", {}, {"origin": ORIGIN})
            assert left.status == 303, left.text

    async def pass_time(self) -> None:
        """Time jumps, also over what is under way."""
        self.clock.offset += self.random.choice(JUMPS)
        self.gateway.notifier.wake()

    async def recover(self) -> None:
        """Time for recovery to look again, and to have done so."""
        self.clock.offset += timedelta(minutes=2)
        await asyncio.sleep(0.05)

    async def deliver_late(self) -> None:
        """Messages that were thought lost reach the acquirer."""
        await self.moods.deliver_late(self._acquirer)

    async def change_shop(self) -> None:
        """The shop's server fails, or comes back."""
        self.shop.behaviours = [self.random.choice((answer(200), answer(500), answer(503), reset_after()))]

    async def restart(self) -> None:
        """A graceful restart."""
        await self.stop()
        await self.start()

    def _choose_page(self) -> tuple[str, str]:
        unpaid = [page for page in self.pages if page[0] not in self.seen_approved]
        pages = unpaid if unpaid and self.random.random() < 0.9 else self.pages
        return pages[-1] if self.random.random() < 0.5 else self.random.choice(pages)

    def _spawn(self, work: Awaitable[None]) -> None:
        self._payers.add(asyncio.ensure_future(work))

    async def _pay(self, invoice: str, path: str, card: str) -> None:
        paid = await self.caller.submit(path, card, browser=self.random.choice((SCRIPT, "")))
        assert paid.status in (303, 409), paid.text  # 409: another card was at its bank, and this one was not used
        await self._look(invoice, path)

    async def _confirm(self, path: str) -> None:
        issuer = Issuer(self.caller)
        page = await self.caller.get(path)
        if 'data-step="device"' in page.text:
            if self.random.random() < 0.7:
                await issuer.be_looked_at(page)
            else:
                await issuer.post(read_form(page, "done"), done="N")
        elif 'data-step="challenge"' in page.text:
            asked = await issuer.arrive(page)
            choice = self.random.choice(("pass", "pass", "pass", "wrong", "cancel", "give up", "go away"))
            if choice == "give up":
                await self.caller.form(f"{path}/abandon", {}, {"origin": ORIGIN})
            if 'data-acs="challenge"' in asked.text and choice in ("pass", "wrong"):
                asked = await issuer.answer(asked, CODE if choice == "pass" else "000000")
            if 'data-acs="challenge"' in asked.text and choice == "cancel":
                asked = await issuer.cancel(asked)
            if 'data-acs="return"' in asked.text:
                self.returned.append(read_form(asked, "cres"))
                if self.random.random() < 0.8:
                    await issuer.come_back(asked)
        elif page.status == 200 and page.state == "challenge" and self.random.random() < 0.3:
            await self.caller.form(f"{path}/abandon", {}, {"origin": ORIGIN})

    async def _look(self, invoice: str, path: str) -> None:
        shown: Answer = await self.caller.get(path)
        assert shown.status in (200, 404), shown.text
        if shown.state in ("approved", "paid"):
            self.seen_approved.add(invoice)


ACTIONS: tuple[Callable[[History], Awaitable[None]], ...] = (
    *(History.buy, History.ask_token, History.open_page, History.look, History.pay, History.pay_twice, History.leave),
    *(History.pass_time, History.recover, History.deliver_late, History.change_shop, History.restart),
    *(History.confirm, History.come_back_again),
)
WEIGHTS = (30, 5, 8, 5, 20, 10, 3, 7, 7, 5, 6, 3, 30, 4)


@pytest.fixture(scope="module")
def database(shared_database: str) -> str:
    """With the second terminal."""

    async def start() -> None:
        async with running_gateway(shared_database) as gateway:
            await Administration(gateway.store, SystemClock(), Ids()).add_terminal(
                CLIENT_ID, "Hotel", HOTEL, two_stage=True, attempts_max=2
            )

    asyncio.run(start())
    return shared_database


@pytest.mark.parametrize("seed", SEEDS)
async def test_history(database: str, seed: int) -> None:
    async with open_shop() as shop:
        history = History(seed, database, shop)
        try:
            await history.live()
            books = await read_books(history.gateway, database)
        except BaseException:
            print(f"seed {seed}", history.told, *history.moods.seen, sep="\n")
            raise
        finally:
            await history.stop()
    faults = find_faults(books, shop.requests, history.invoices)
    paid = {order.invoice_id for order in books.orders if order.status is OrderStatus.PAID}
    faults += [f"order {invoice}: a payer saw it paid" for invoice in history.seen_approved - paid]
    assert not faults, f"seed {seed}: {faults}\n{history.told}\n{history.moods.seen}"
