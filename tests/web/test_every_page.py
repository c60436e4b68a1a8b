"""Every answer that a payer's browser gets is within the inventory: nothing inline, nothing else, all headers.

One walk through all states, over the edge; a caller looks at each page on its way.
"""

from datetime import timedelta
from typing import Any

import pytest
from tests.gateway import LOCKED_CARD, ORIGIN, Answer, PatientCaller, eventually, running_gateway
from tests.issuer import SCRIPT, Issuer, read_form
from tests.pictures import build_png
from tests.simulation.clock import MovableClock

from tolem.bootstrap import Gateway
from tolem.clock import SystemClock
from tolem.domain.errors import Overloaded
from tolem.flows.administration import Administration
from tolem.ids import Ids
from tolem.sandbox.cards import build_number
from tolem.sandbox.fixtures import TERMINAL_ID
from tolem.web.inventory import Served, build_inventory, check_page

INVENTORY = build_inventory()
ALONE, RETURNED = INVENTORY.pages[0].headers, INVENTORY.pages[2].headers
BANK = "http://acs.localhost"
SHOP = "https://shop.example"
FRAME = {"sec-fetch-dest": "iframe", "referer": SHOP + "/basket"}


class Guard(PatientCaller):
    """A browser that looks at every page that it gets, but the bank's."""

    def __init__(self, app: Any) -> None:
        super().__init__(app)
        self.seen: dict[str, int] = {}
        self.extra: dict[str, str] = {}

    async def call(self, method: str, path: str, *args: Any, **kwargs: Any) -> Answer:
        body, headers = (*args, b"", None)[:2] if args else (b"", kwargs.pop("headers", None))
        answer = await super().call(method, path, body, self.extra | (headers or {}), **kwargs)
        if (headers or {}).get("host", "").startswith("acs."):
            return answer
        if answer.headers.get("content-type", "").startswith("text/html"):
            self.look(path, answer)
        elif answer.status == 303:
            assert answer.headers["cache-control"] == "no-store"
            assert answer.headers["referrer-policy"] == "same-origin"
        return answer

    def look(self, path: str, answer: Answer) -> None:
        """The page is as the inventory has it."""
        origins: tuple[str, ...] = ()
        policy = answer.headers["content-security-policy"]
        if answer.state in ("challenge", "device"):
            origins = (BANK,)
        if self.extra == FRAME or path.startswith("/3ds/"):
            origins += (SHOP, SHOP.replace("https", "http"), "http:", "https:")
        served = Served(path, answer.status, list(answer.headers.items()), answer.body)
        assert list(check_page(INVENTORY, served, RETURNED if path.startswith("/3ds/") else ALONE, origins)) == []
        assert "unsafe" not in policy
        if BANK in policy:
            assert BANK in policy.partition("form-action")[2].partition(";")[0]
        key = f"{answer.status} {answer.state}" + (" bank" if BANK in policy else "")
        self.seen[key] = self.seen.get(key, 0) + 1


async def walk(caller: Guard, clock: MovableClock, start: int) -> None:
    """All that can become of a payment."""
    invoices = iter(str(start + number) for number in range(50))
    path = await caller.page(next(invoices))
    await caller.get(path)  # form
    await caller.pay(path, "4405")  # 422
    await caller.submit(path, "4" * 9000)  # 413
    await caller.pay(path, LOCKED_CARD)  # declined
    await caller.pay(path)  # approved
    invoice = str(start)
    again = await caller.open(await caller.token(invoice), invoice)
    assert (await caller.get(again.headers["location"])).state == "paid"
    left = await caller.page(next(invoices))
    await caller.form(f"{left}/leave", {}, {"origin": ORIGIN})
    assert (await caller.get(left)).state == "failed"
    asked = await caller.page(next(invoices))
    issuer = Issuer(caller)
    await caller.submit(asked, build_number(0, "1"), browser=SCRIPT)
    device = await caller.get(asked)
    if 'data-step="device"' in device.text:
        await issuer.be_looked_at(device)
    challenge = await caller.get(asked)
    assert challenge.state == "challenge"
    assert read_form(challenge, "creq").action.startswith(BANK)
    elsewhere = await caller.page(str(start + 2))
    assert (await caller.get(elsewhere)).state == "challenge"
    await issuer.come_back(await issuer.answer(await issuer.arrive(challenge)))
    await caller.get("/3ds/invented")
    for method, address in (("GET", "/pay/invented"), ("GET", "/payform/"), ("POST", "/payform/"), ("POST", path)):
        await caller.call(method, address)
    await caller.form(path, {}, {"origin": "https://evil.example"})  # 403
    await caller.form("/payform/", {"params": "{}", "isAFT": "true"})
    token = await caller.token(next(invoices))
    await caller.open(token, str(start + 3), paymentType="cardId")  # 501
    late = await caller.page(next(invoices))
    assert (await caller.get(late)).state == "form"
    clock.advance_to(clock.now() + timedelta(minutes=21))

    async def is_expired() -> bool:
        return (await caller.get(late)).state == "expired"

    await eventually(is_expired)


async def dress(gateway: Gateway) -> None:
    admin = Administration(gateway.store, SystemClock(), Ids())
    await admin.change_terminal(TERMINAL_ID, colour="#112233", frame_hosts=("shop.example",), logo=build_png(88, 88))


@pytest.mark.parametrize("is_framed", (False, True))
async def test_every_page(sqlite_url: str, is_framed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = MovableClock()
    limits: dict[str, Any] = {"attempt_limits": "on", "card_declines_max": 1, "address_declines_max": 0}
    async with running_gateway(sqlite_url, clock=clock, **limits) as gateway:
        caller = Guard(gateway.app)
        if is_framed:
            caller.extra = FRAME
            await dress(gateway)
        await walk(caller, clock, 100_000)
        waiting = await caller.page("000000099")
        await caller.pay(waiting, LOCKED_CARD)
        await caller.pay(waiting, LOCKED_CARD)  # 429

        async def overloaded(*_: Any, **__: Any) -> None:
            raise Overloaded("too much waits")

        async def broken(*_: Any, **__: Any) -> None:
            raise RuntimeError("broken")

        with monkeypatch.context() as patch:
            patch.setattr(gateway.store, "change", overloaded)
            await caller.submit(waiting)  # 503, the form again
            patch.setattr(gateway.store, "find", overloaded)
            await caller.get(waiting)  # 503
            patch.setattr(gateway.store, "find", broken)
            await caller.get(waiting)  # 500
    expected = {
        *("200 form", "422 form", "200 declined", "200 approved", "200 paid", "200 failed", "200 challenge bank"),
        *("200 device bank", "200 challenge", "200 checking", "404 invalid", "400 invalid", "403 invalid"),
        *("413 form", "501 invalid", "200 expired", "429 declined", "503 declined", "503 invalid", "500 invalid"),
    }
    assert expected <= caller.seen.keys(), expected - caller.seen.keys()
