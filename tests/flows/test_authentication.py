"""3-D Secure from the form to the acquirer's door, on both databases: whatever comes, nothing is charged twice."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, NamedTuple

import pytest
import sqlalchemy as sa
from msgspec.structs import replace

from tests.gateway import ORIGIN, Answer, PatientCaller, ShopServer, eventually, running_gateway, running_shop
from tests.issuer import CHALLENGED_CARD, SCRIPT, Form, Issuer, read_form
from tests.simulation.clock import MovableClock
from tolem.acquirers.base import AuthenticationRequest, Authenticator
from tolem.bootstrap import Gateway
from tolem.clock import SystemClock
from tolem.domain.authentication import Authentication, Challenge, DeviceStep, TransStatus
from tolem.domain.card import Card
from tolem.domain.history import OrderHistory
from tolem.domain.order import OrderStatus
from tolem.domain.payment import OperationStatus, Payment, PaymentStatus
from tolem.flows.administration import Administration
from tolem.flows.authentication import CHALLENGE_MAX
from tolem.flows.rounds import PAGE_LIFETIME
from tolem.ids import Ids
from tolem.sandbox.acs_book import TIME_MAX
from tolem.sandbox.cards import build_number
from tolem.sandbox.fixtures import TERMINAL_ID
from tolem.storage import keys
from tolem.storage.store import Decision
from tolem.storage.tables import authentications

INVOICE = "000000001"
S, T = PaymentStatus, TransStatus
_NONCES = sa.select(authentications.c.return_nonce)


class Stage(NamedTuple):
    """A gateway, a shop, and a payer at the card form."""

    gateway: Gateway
    shop: ShopServer
    caller: PatientCaller
    issuer: Issuer
    path: str
    clock: MovableClock

    async def history(self) -> OrderHistory:
        history = await self.gateway.store.find(keys.order_by_invoice(TERMINAL_ID, INVOICE))
        assert history is not None
        return history

    async def payment(self) -> Payment:
        """The only one."""
        (payment,) = (await self.history()).payments.values()
        return payment

    async def state(self) -> str:
        """What the page shows, once the bank has answered."""

        async def is_known() -> bool:
            return (await self.caller.get(self.path)).state != "checking"

        await eventually(is_known)
        return (await self.caller.get(self.path)).state

    async def sealed(self) -> bytes | None:
        """What is stored of the only payment's card."""
        found = await self.gateway.store.find(keys.sealed_card_of((await self.payment()).id))
        assert found is not None
        return found.record.sealed

    async def abandon(self, path: str = "") -> Answer:
        return await self.caller.form(f"{path or self.path}/abandon", {}, {"origin": ORIGIN})


@asynccontextmanager
async def at_the_form(database_url: str, **changes: Any) -> AsyncIterator[Stage]:
    """Everything up to the card form."""
    clock = MovableClock()
    settings = {"acquirer_timeout_seconds": 5.0} | changes  # the issuer has as long: a busy machine declines nothing
    async with running_shop() as shop, running_gateway(database_url, clock=clock, **settings) as gateway:
        caller = PatientCaller(gateway.app, shop.url)
        yield Stage(gateway, shop, caller, Issuer(caller), await caller.page(INVOICE), clock)


async def assert_nothing_charged(stage: Stage, status: PaymentStatus, reason_code: int) -> None:
    """The only payment ended like this, and the acquirer has never heard of it."""
    history = await stage.history()
    (payment,) = history.payments.values()
    assert (payment.status, payment.reason_code) == (status, reason_code)
    assert history.operations == {}
    assert await stage.sealed() is None


# The way through ------------------------------------------------------------------------------------------------------


async def test_a_passed_challenge_pays(database_url: str) -> None:
    async with at_the_form(database_url) as stage:
        page = await stage.issuer.start(stage.path)
        assert page.state == "challenge"
        history = await stage.history()
        assert (await stage.payment()).status is S.AUTHENTICATING
        assert history.operations == {}
        assert await stage.sealed() is not None
        asked = await stage.issuer.arrive(page)
        returned = await stage.issuer.come_back(await stage.issuer.answer(asked))
        assert f'data-path="{stage.path}"' in returned.text
        assert await stage.state() == "approved"
        (told,) = await stage.shop.wait(1)
        assert (told["code"], told["secure"], told["secureDetails"]) == ("ok", "yes", "F")
        payment = await stage.payment()
        assert (payment.status, payment.eci, payment.trans_status) == (S.CAPTURED, "05", T.AUTHENTICATED)
        assert [o.status for o in (await stage.history()).operations.values()] == [OperationStatus.APPROVED]
        assert await stage.sealed() is None


async def test_the_page_finds_out_though_the_browser_brings_nothing_back(database_url: str) -> None:
    async with at_the_form(database_url) as stage:
        asked = await stage.issuer.arrive(await stage.issuer.start(stage.path))
        await stage.issuer.answer(asked)  # and the window is closed there

        async def is_approved() -> bool:
            return bool((await stage.caller.get(f"{stage.path}/state")).json()["state"] == "approved")

        await eventually(is_approved)
        assert len(await stage.shop.wait(1)) == 1


async def test_a_look_at_the_browser_may_be_all(database_url: str) -> None:
    async with at_the_form(database_url) as stage:
        await stage.caller.submit(stage.path, build_number(0, "6"), browser=SCRIPT)
        page = await stage.caller.get(stage.path)
        assert page.state == "device"
        assert (await stage.caller.get(f"{stage.path}/state")).json()["state"] == "device"
        assert (await stage.payment()).status is S.AUTHENTICATING
        await stage.issuer.post(read_form(page, "done"), done="Y", browser=SCRIPT)
        assert await stage.state() == "approved"
        assert (await stage.payment()).is_authenticated


async def test_a_look_at_the_browser_that_comes_to_nothing_costs_nothing(database_url: str) -> None:
    async with at_the_form(database_url) as stage:
        await stage.caller.submit(stage.path, CHALLENGED_CARD, browser=SCRIPT)
        page = await stage.caller.get(stage.path)
        form = read_form(page, "done")
        answers = await asyncio.gather(*(stage.issuer.post(form, done="N", browser="{}") for _ in range(3)))
        assert {answer.status for answer in answers} == {303}
        assert await stage.state() == "challenge"
        assert (
            await stage.issuer.pass_challenge_at(await stage.caller.get(stage.path), stage.path)
        ).state == "approved"


async def test_without_a_script_there_is_no_look_and_a_challenge_all_the_same(database_url: str) -> None:
    async with at_the_form(database_url) as stage:
        page = await stage.issuer.start(stage.path, browser="")
        assert page.state == "challenge"
        assert 'data-window="05"' in page.text
        assert (await stage.issuer.pass_challenge_at(page, stage.path)).state == "approved"


async def test_confirmed_in_the_banks_app(database_url: str) -> None:
    async with at_the_form(database_url) as stage:
        page = await stage.issuer.start(stage.path, build_number(0, "7"))
        assert page.state == "challenge"
        assert "creq" not in page.text
        assert await stage.state() == "challenge"
        stage.clock.advance_to(stage.clock.now() + timedelta(seconds=6))
        assert await stage.state() == "approved"
        assert (await stage.payment()).is_authenticated


# Without a challenge --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("digit", "status", "secure", "details", "eci"),
    (
        ("0", T.AUTHENTICATED, "yes", "F", "05"),
        ("2", T.ATTEMPTED, "no", "A", "06"),
        ("3", T.UNAVAILABLE, "no", "", "07"),
        ("8", T.INFORMATION, "no", "", "07"),
    ),
)
async def test_what_goes_on_is_told(
    database_url: str, digit: str, status: TransStatus, secure: str, details: str, eci: str
) -> None:
    async with at_the_form(database_url) as stage:
        assert (await stage.caller.pay(stage.path, build_number(0, digit), browser=SCRIPT)).state == "approved"
        (told,) = await stage.shop.wait(1)
        assert (told["secure"], told["secureDetails"]) == (secure, details)
        payment = await stage.payment()
        assert (payment.trans_status, payment.eci) == (status, eci)
        token = (await stage.caller.token(INVOICE))["access_token"]
        found = await stage.caller.call(
            "GET",
            f"/check-status/payment/transaction/{INVOICE}",
            headers={"authorization": f"Bearer {token}"},
        )
        transaction = found.json()["transaction"]
        assert (transaction["secure"], transaction["secureDetails"]) == (secure == "yes", details)


@pytest.mark.parametrize(("digit", "reason_code"), (("4", 473), ("5", 455)))
async def test_what_does_not_go_on_is_declined_and_another_card_pays(
    database_url: str, digit: str, reason_code: int
) -> None:
    async with at_the_form(database_url) as stage:
        assert (await stage.caller.pay(stage.path, build_number(0, digit))).state == "declined"
        history = await stage.history()
        (payment,) = history.payments.values()
        assert (payment.status, payment.reason_code) == (S.DECLINED, reason_code)
        assert history.operations == {}
        assert stage.shop.received == []
        assert (await stage.caller.pay(stage.path)).state == "approved"
        assert [told["code"] for told in await stage.shop.wait(1)] == ["ok"]


async def test_refusals_use_up_the_attempts(database_url: str) -> None:
    async with at_the_form(database_url) as stage:
        for state in ("declined", "declined", "failed"):
            assert (await stage.caller.pay(stage.path, build_number(0, "4"))).state == state
        (told,) = await stage.shop.wait(1)
        assert (told["code"], told["reasonCode"], told["reason"]) == ("error", 473, "Authentication failed")
        assert (told["secure"], told["secureDetails"]) == ("no", "")
        assert (await stage.caller.pay(stage.path)).state == "failed"
        assert len((await stage.history()).payments) == 3


@pytest.mark.parametrize(
    ("settings", "digit", "state"),
    (
        ({"accept_unavailable": True}, "5", "approved"),
        ({"accept_attempted": False}, "2", "declined"),
        ({"accept_not_enrolled": False}, "3", "declined"),
        ({"accept_not_enrolled": False}, "8", "declined"),
        ({"accept_unavailable": True}, "4", "declined"),
    ),
)
async def test_the_terminal_decides(database_url: str, settings: dict[str, bool], digit: str, state: str) -> None:
    async with running_shop() as shop, running_gateway(database_url) as gateway:
        await Administration(gateway.store, SystemClock(), Ids()).change_terminal(TERMINAL_ID, **settings)
        caller = PatientCaller(gateway.app, shop.url)
        assert (await caller.pay(await caller.page(INVOICE), build_number(0, digit))).state == state


# Not passed -----------------------------------------------------------------------------------------------------------


async def test_three_wrong_codes(database_url: str) -> None:
    async with at_the_form(database_url) as stage:
        asked = await stage.issuer.arrive(await stage.issuer.start(stage.path))
        for left in (2, 1):
            asked = await stage.issuer.answer(asked, "000000")
            assert 'role="alert"' in asked.text
            assert str(left) in asked.text.partition('role="alert"')[2][:80]
        await stage.issuer.come_back(await stage.issuer.answer(asked, "654321"))
        assert await stage.state() == "declined"
        await assert_nothing_charged(stage, S.DECLINED, 473)
        assert (await stage.payment()).trans_status is T.NOT_AUTHENTICATED
        # The right code comes too late: what has ended stays as it ended.
        done = await stage.issuer.answer(asked)
        await stage.issuer.come_back(done)
        assert await stage.state() == "declined"
        assert (await stage.caller.pay(stage.path)).state == "approved"


async def test_cancelled_at_the_issuers(database_url: str) -> None:
    async with at_the_form(database_url) as stage:
        asked = await stage.issuer.arrive(await stage.issuer.start(stage.path))
        await stage.issuer.come_back(await stage.issuer.cancel(asked))
        assert await stage.state() == "declined"
        await assert_nothing_charged(stage, S.FAILED, 499)


async def test_cancelled_at_the_page(database_url: str) -> None:
    async with at_the_form(database_url) as stage:
        asked = await stage.issuer.arrive(await stage.issuer.start(stage.path))
        assert (await stage.abandon()).status == 303
        assert await stage.state() == "declined"
        await assert_nothing_charged(stage, S.FAILED, 499)
        # Passing it now is of no use any more.
        await stage.issuer.come_back(await stage.issuer.answer(asked))
        assert await stage.state() == "declined"
        await assert_nothing_charged(stage, S.FAILED, 499)
        assert (await stage.abandon()).status == 303
        assert (await stage.caller.pay(stage.path)).state == "approved"


async def test_the_issuers_time_is_over(database_url: str) -> None:
    async with at_the_form(database_url) as stage:
        asked = await stage.issuer.arrive(await stage.issuer.start(stage.path))
        stage.clock.advance_to(stage.clock.now() + TIME_MAX)
        await stage.issuer.come_back(await stage.issuer.answer(asked))  # the right code, too late
        assert await stage.state() == "declined"
        await assert_nothing_charged(stage, S.FAILED, 499)


@pytest.mark.parametrize("digit", ("1", "6"))
async def test_nobody_comes_back(database_url: str, digit: str) -> None:
    """Whether the payer was lost at the issuer's or before it: the time ends it, and the round after it."""
    async with at_the_form(database_url) as stage:
        await stage.caller.submit(stage.path, build_number(0, digit), browser=SCRIPT)
        assert (await stage.payment()).status is S.AUTHENTICATING
        stage.clock.advance_to(stage.clock.now() + CHALLENGE_MAX)

        async def has_ended() -> bool:
            return (await stage.payment()).status is S.FAILED

        await eventually(has_ended)
        await assert_nothing_charged(stage, S.FAILED, 499)
        assert (await stage.history()).order.status is OrderStatus.OPEN
        stage.clock.advance_to(stage.clock.now() + timedelta(minutes=15))
        (told,) = await stage.shop.wait(1)
        assert (told["code"], told["reasonCode"]) == ("error", 499)


async def test_the_rounds_deadline_waits_for_a_challenge(database_url: str) -> None:
    async with at_the_form(database_url) as stage:
        stage.clock.advance_to(stage.clock.now() + timedelta(minutes=19))
        page = await stage.issuer.start(stage.path)
        stage.clock.advance_to(stage.clock.now() + timedelta(minutes=2))
        assert (await stage.caller.get(stage.path)).state == "challenge"
        assert (await stage.issuer.pass_challenge_at(page, stage.path)).state == "approved"


async def test_a_challenge_failed_after_the_deadline_ends_the_round(database_url: str) -> None:
    async with at_the_form(database_url) as stage:
        stage.clock.advance_to(stage.clock.now() + timedelta(minutes=19))
        asked = await stage.issuer.arrive(await stage.issuer.start(stage.path))
        stage.clock.advance_to(stage.clock.now() + timedelta(minutes=2))
        await stage.issuer.come_back(await stage.issuer.cancel(asked))
        assert await stage.state() == "failed"
        (told,) = await stage.shop.wait(1)
        assert (told["code"], told["reasonCode"]) == ("error", 499)


# Forged, late, repeated -----------------------------------------------------------------------------------------------


async def test_a_forged_answer_achieves_nothing(database_url: str) -> None:
    async with at_the_form(database_url) as stage:
        page = await stage.issuer.start(stage.path)
        form = read_form(page, "creq")
        asked = await stage.issuer.arrive(page)
        nonce = (await stage.gateway.store.select(_NONCES))[0][0]
        forged = "eyJ0cmFuc1N0YXR1cyI6IlkifQ"  # {"transStatus":"Y"}
        for path, fields, status in (
            (f"/3ds/{nonce}", {"cres": forged, "threeDSSessionData": form.fields["threeDSSessionData"]}, 200),
            (f"/3ds/{nonce}", {"cres": forged}, 404),
            (f"/3ds/{nonce}", {"cres": forged, "threeDSSessionData": "x" * 2000}, 404),
            (f"/3ds/{nonce}", {"threeDSMethodData": forged}, 200),
            ("/3ds/" + "A" * 22, {"cres": forged, "threeDSSessionData": form.fields["threeDSSessionData"]}, 404),
            ("/3ds/", {"cres": forged}, 404),
        ):
            led = await stage.caller.form(path, fields)
            assert led.status == 303
            page = await stage.caller.get(led.headers["location"])
            assert page.status == status
            assert 'data-returned="' in page.text  # it says where to look in any case
        assert (await stage.caller.call("POST", f"/3ds/{nonce}", b"\xff" * 70_000)).status == 303
        for query in ("?back=x", "?back", "?look", "?back=1&back=2", "?%ff"):
            assert stage.path not in (await stage.caller.get(f"/3ds/{nonce}{query}")).text
        assert (await stage.caller.get(f"/3ds/{nonce}")).status == 404
        assert (await stage.caller.call("PUT", f"/3ds/{nonce}")).status == 405
        assert await stage.state() == "challenge"
        assert (await stage.history()).operations == {}
        await stage.issuer.come_back(await stage.issuer.answer(asked))
        assert await stage.state() == "approved"


async def test_the_answer_of_another_payment_achieves_nothing(database_url: str) -> None:
    async with at_the_form(database_url) as stage:
        other_path = await stage.caller.page("000000002")
        mine, others = await stage.issuer.start(stage.path), await stage.issuer.start(other_path)
        done = await stage.issuer.answer(await stage.issuer.arrive(others))
        passed = read_form(done, "cres")
        nonces = {row[0] for row in await stage.gateway.store.select(_NONCES)}
        (own,) = nonces - {passed.action.rpartition("/")[2]}
        returned = await stage.issuer.post(Form(f"{ORIGIN}/3ds/{own}", passed.fields))
        assert other_path not in returned.text
        assert stage.path not in returned.text
        assert await stage.state() == "challenge"
        session = read_form(mine, "creq").fields["threeDSSessionData"]
        returned = await stage.issuer.post(passed, threeDSSessionData=session)
        assert stage.path not in returned.text
        assert await stage.state() == "challenge"
        assert (await stage.caller.get(other_path)).state == "approved"


async def test_an_answer_that_comes_again_and_late(database_url: str) -> None:
    async with at_the_form(database_url) as stage:
        done = await stage.issuer.answer(await stage.issuer.arrive(await stage.issuer.start(stage.path)))
        answers = await asyncio.gather(*(stage.issuer.come_back(done) for _ in range(5)))
        assert {answer.status for answer in answers} == {200}
        assert await stage.state() == "approved"
        assert f'data-path="{stage.path}"' in (await stage.issuer.come_back(done)).text
        stage.clock.advance_to(stage.clock.now() + PAGE_LIFETIME)
        # The page's address is told as long as there is a page.
        assert stage.path not in (await stage.issuer.come_back(done)).text
        assert len(await stage.shop.wait(1)) == 1
        history = await stage.history()
        assert len(history.payments) == len(history.operations) == 1


async def test_an_answer_after_the_time_is_over(database_url: str) -> None:
    """The payer passed, but was so long about coming back that the page has given the attempt up."""
    async with at_the_form(database_url) as stage:
        done = await stage.issuer.answer(await stage.issuer.arrive(await stage.issuer.start(stage.path)))
        stage.clock.advance_to(stage.clock.now() + CHALLENGE_MAX)

        async def has_ended() -> bool:
            return (await stage.payment()).status is S.FAILED

        await eventually(has_ended)
        for _ in range(2):
            returned = await stage.issuer.come_back(done)
            assert returned.status == 200
            assert f'<noscript><meta http-equiv="refresh" content="0;url={stage.path}">' in returned.text
            assert f'<a href="{stage.path}">' in returned.text
        assert await stage.state() == "declined"
        await assert_nothing_charged(stage, S.FAILED, 499)
        assert (await stage.caller.pay(stage.path)).state == "approved"


async def test_an_answer_after_everything_is_purged(database_url: str) -> None:
    async with at_the_form(database_url) as stage:
        done = await stage.issuer.answer(await stage.issuer.arrive(await stage.issuer.start(stage.path)))
        stage.clock.advance_to(stage.clock.now() + timedelta(days=2))
        returned = await stage.issuer.come_back(done)
        assert (returned.status, stage.path in returned.text) == (404, False)


async def test_a_repeated_challenge_shows_itself_again(database_url: str) -> None:
    """Back and reload in the issuer's frame: the same challenge, with the same tries."""
    async with at_the_form(database_url) as stage:
        page = await stage.issuer.start(stage.path)
        await stage.issuer.answer(await stage.issuer.arrive(page), "000000")
        again = await stage.issuer.arrive(await stage.caller.get(stage.path))
        asked = await stage.issuer.answer(again, "000000")
        await stage.issuer.come_back(await stage.issuer.answer(asked, "000000"))
        assert await stage.state() == "declined"
        ended = await stage.issuer.arrive(page)
        assert read_form(ended, "cres").fields["threeDSSessionData"]


# Several at one time --------------------------------------------------------------------------------------------------


async def test_many_wake_one_payment(database_url: str) -> None:
    async with at_the_form(database_url) as stage:
        done = await stage.issuer.answer(await stage.issuer.arrive(await stage.issuer.start(stage.path)))
        await asyncio.gather(
            *(stage.issuer.come_back(done) for _ in range(4)),
            *(stage.caller.get(f"{stage.path}/state") for _ in range(4)),
            *(stage.caller.get(stage.path) for _ in range(4)),
        )
        assert await stage.state() == "approved"
        await stage.shop.wait(1)
        history = await stage.history()
        assert [o.status for o in history.operations.values()] == [OperationStatus.APPROVED]
        assert len(stage.shop.received) == 1


async def test_passing_and_giving_up_at_one_time_is_one_of_both(database_url: str) -> None:
    for number in range(5):
        async with at_the_form(database_url) as stage:
            path = await stage.caller.page(f"00000010{number}")
            done = await stage.issuer.answer(await stage.issuer.arrive(await stage.issuer.start(path)))
            await asyncio.gather(stage.issuer.come_back(done), stage.abandon(path), stage.caller.get(f"{path}/state"))
            page = await stage.caller.get(path)
            history = await stage.gateway.store.find(keys.order_by_invoice(TERMINAL_ID, f"00000010{number}"))
            assert history is not None
            (payment,) = history.payments.values()
            is_paid = page.state == "approved"
            assert (payment.status is S.CAPTURED) == is_paid
            assert len(history.operations) == (1 if is_paid else 0)


async def test_two_processes_share_a_challenge(postgres_url: str) -> None:
    async with (
        running_shop() as shop,
        running_gateway(postgres_url) as first,
        running_gateway(postgres_url) as second,
    ):
        callers = [PatientCaller(gateway.app, shop.url) for gateway in (first, second)]
        path = await callers[0].page(INVOICE)
        page = await Issuer(callers[0]).start(path)
        issuer = Issuer(callers[1])
        done = await issuer.answer(await issuer.arrive(page))
        await asyncio.gather(
            *(Issuer(caller).come_back(done) for caller in callers * 2),
            *(caller.get(f"{path}/state") for caller in callers * 3),
        )
        await shop.wait(1)
        history = await second.store.find(keys.order_by_invoice(TERMINAL_ID, INVOICE))
        assert history is not None
        assert [o.status for o in history.operations.values()] == [OperationStatus.APPROVED]
        assert [(await caller.get(path)).state for caller in callers] == ["approved", "approved"]
        assert len(shop.received) == 1


async def test_double_clicks_on_the_form_make_one_challenge(database_url: str) -> None:
    async with at_the_form(database_url) as stage:
        answers = await asyncio.gather(
            *(stage.caller.submit(stage.path, CHALLENGED_CARD, browser=SCRIPT) for _ in range(6))
        )
        assert {answer.status for answer in answers} == {303}
        assert (await stage.payment()).status is S.AUTHENTICATING


async def test_another_opening_of_the_page_can_only_look_on_or_begin_again(database_url: str) -> None:
    async with at_the_form(database_url) as stage:
        page = await stage.issuer.start(stage.path)
        elsewhere = await stage.caller.page(INVOICE)
        seen = await stage.caller.get(elsewhere)
        assert seen.state == "challenge"
        assert "creq" not in seen.text
        assert (await stage.caller.submit(elsewhere)).status == 409  # a card typed there is not taken, and that is said
        form = await stage.caller.form(f"{elsewhere}/device", {"done": "Y"}, {"origin": ORIGIN})
        assert form.status == 303
        asked = await stage.issuer.arrive(page)
        done = await stage.issuer.answer(asked)
        assert (await stage.caller.get(elsewhere)).state == "challenge"  # it has not the card's key
        await stage.abandon(elsewhere)
        assert (await stage.caller.get(elsewhere)).state == "declined"
        await stage.issuer.come_back(done)
        assert await stage.state() == "declined"
        await assert_nothing_charged(stage, S.FAILED, 499)
        assert (await stage.caller.pay(elsewhere)).state == "approved"


async def test_foreign_sites_cannot_give_up_or_go_on(database_url: str) -> None:
    async with at_the_form(database_url) as stage:
        await stage.issuer.start(stage.path)
        for action in ("abandon", "device"):
            answer = await stage.caller.form(f"{stage.path}/{action}", {}, {"origin": "https://elsewhere.example"})
            assert answer.status == 403
        assert await stage.state() == "challenge"


async def test_a_new_token_waits_for_the_challenge(database_url: str) -> None:
    async with at_the_form(database_url) as stage:
        page = await stage.issuer.start(stage.path)
        assert (await stage.caller.request_token(INVOICE, amount="999")).status == 400
        assert (await stage.caller.request_token(INVOICE)).status == 200
        assert (await stage.issuer.pass_challenge_at(page, stage.path)).state == "approved"


# The authenticator and the keys fail ----------------------------------------------------------------------------------


class MoodyAuthenticator:
    """Another authenticator's mistakes."""

    def __init__(self, inner: Authenticator, mood: str) -> None:
        self._inner = inner
        self.mood = mood

    def find_device_step(self, card: Card, key: Any, return_url: str) -> DeviceStep | None:
        return None

    async def authenticate(self, request: AuthenticationRequest) -> Authentication | Challenge:
        if self.mood == "broken":
            raise ConnectionError("the 3DS server is gone")
        if self.mood == "silent":
            await asyncio.sleep(60)
        if self.mood == "says C":
            return Authentication(TransStatus.CHALLENGE)
        return await self._inner.authenticate(request)

    async def find_result(self, key: Any, reference: str) -> Authentication | None:
        if self.mood == "deaf":
            raise ConnectionError("the 3DS server is gone")
        return await self._inner.find_result(key, reference)

    async def close(self) -> None:
        await self._inner.close()


@pytest.mark.parametrize("mood", ("broken", "silent", "says C"))
async def test_an_authenticator_that_fails_declines(database_url: str, mood: str) -> None:
    wrap = {"wrap_authenticator": lambda inner: MoodyAuthenticator(inner, mood)}
    async with at_the_form(database_url, **wrap) as stage:
        assert (await stage.caller.pay(stage.path)).state == "declined"
        history = await stage.history()
        (payment,) = history.payments.values()
        assert (payment.status, payment.reason_code) == (S.DECLINED, 455)
        assert history.operations == {}


async def test_a_result_that_cannot_be_asked_for_is_asked_for_later(database_url: str) -> None:
    moody: list[MoodyAuthenticator] = []

    def wrap(inner: Authenticator) -> Authenticator:
        moody.append(MoodyAuthenticator(inner, "deaf"))
        return moody[0]

    async with at_the_form(database_url, wrap_authenticator=wrap) as stage:
        page = await stage.issuer.start(stage.path)
        assert (await stage.issuer.pass_challenge_at(page, stage.path)).state == "challenge"
        moody[0].mood = "well"
        assert await stage.state() == "approved"


async def test_a_restart_in_the_middle_of_a_challenge(database_url: str) -> None:
    async with running_shop() as shop:
        async with running_gateway(database_url) as gateway:
            caller = PatientCaller(gateway.app, shop.url)
            path = await caller.page(INVOICE)
            page = await Issuer(caller).start(path)
        async with running_gateway(database_url) as gateway:
            caller = PatientCaller(gateway.app, shop.url)
            assert (await Issuer(caller).pass_challenge_at(page, path)).state == "approved"
            (told,) = await shop.wait(1)
            assert told["secure"] == "yes"


async def test_a_card_that_cannot_be_opened_any_more_is_not_charged(database_url: str) -> None:
    async with at_the_form(database_url) as stage:
        page = await stage.issuer.start(stage.path)
        found = await stage.gateway.store.find(keys.sealed_card_of((await stage.payment()).id))
        assert found is not None
        spoilt = replace(found.record, sealed=b"\0" * 60)
        await stage.gateway.store.change((keys.sealed_card_of(spoilt.payment_id),), lambda _: Decision(None, (spoilt,)))
        await stage.issuer.pass_challenge_at(page, stage.path)
        assert await stage.state() == "declined"
        await assert_nothing_charged(stage, S.DECLINED, 456)


async def test_a_verification_may_be_challenged(database_url: str) -> None:
    async with running_shop() as shop, running_gateway(database_url) as gateway:
        caller = PatientCaller(gateway.app, shop.url)
        path = await caller.page(INVOICE, amount=0, paymentType="cardVerification")
        assert (await Issuer(caller).pass_challenge(path)).state == "approved"
        (told,) = await shop.wait(1)
        assert (told["amount"], told["secure"]) == (0, "yes")
