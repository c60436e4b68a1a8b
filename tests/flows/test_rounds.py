"""Rounds against time: deadlines, expiry, changed amounts, tokens that end."""

import asyncio
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from tests.gateway import LOCKED_CARD, PatientCaller, eventually, running_gateway, running_shop
from tolem.clock import SystemClock
from tolem.domain.message import MessageState
from tolem.domain.order import OrderStatus
from tolem.flows.administration import Administration
from tolem.ids import Ids
from tolem.sandbox.cards import build_number
from tolem.sandbox.fixtures import TERMINAL_ID
from tolem.storage import keys
from tolem.storage.tables import events, messages


class MovedClock:
    """Business time that a test moves; real time stays real."""

    def __init__(self) -> None:
        self.offset = timedelta()

    def now(self) -> datetime:
        return datetime.now(UTC) + self.offset

    def real_now(self) -> datetime:
        return datetime.now(UTC)


async def test_the_deadline_ends_a_round_and_tells_the_shop(database_url: str) -> None:
    clock = MovedClock()
    async with running_shop() as shop, running_gateway(database_url, clock=clock) as gateway:
        caller = PatientCaller(gateway.app, shop.url)
        path = await caller.page("000000001")
        clock.offset = timedelta(minutes=20)
        assert (await caller.get(path)).state == "expired"
        assert (await caller.pay(path)).state == "expired"
        (told,) = await shop.wait(1)
        assert (told["code"], told["reasonCode"]) == ("error", 476)
        history = await gateway.store.find(keys.order_by_invoice(TERMINAL_ID, "000000001"))
        assert history is not None
        assert history.order.status is OrderStatus.FAILED
        assert not history.payments
        assert (await caller.get(path)).state == "expired"
        assert (await caller.pay(await caller.page("000000001"))).state == "approved"


async def test_the_deadline_after_a_decline_tells_the_declines_reason(database_url: str) -> None:
    clock = MovedClock()
    async with running_shop() as shop, running_gateway(database_url, clock=clock) as gateway:
        caller = PatientCaller(gateway.app, shop.url)
        path = await caller.page("000000002")
        await caller.pay(path, LOCKED_CARD)
        clock.offset = timedelta(minutes=21)
        (told,) = await shop.wait(1)
        assert told["code"] == "error"
        assert told["reasonCode"] not in (0, 476)
        assert (await caller.get(path)).state == "failed"


async def test_reopening_does_not_move_the_deadline(database_url: str) -> None:
    clock = MovedClock()
    async with running_gateway(database_url, clock=clock) as gateway:
        caller = PatientCaller(gateway.app)
        token = await caller.token("000000003")
        await caller.open(token, "000000003")
        clock.offset = timedelta(minutes=15)
        path = (await caller.open(token, "000000003")).headers["location"]
        assert (await caller.get(path)).state == "form"
        clock.offset = timedelta(minutes=20, seconds=1)
        assert (await caller.get(path)).state == "expired"


async def test_nothing_is_told_of_a_page_that_was_never_opened(database_url: str) -> None:
    clock = MovedClock()
    async with running_shop() as shop, running_gateway(database_url, clock=clock) as gateway:
        caller = PatientCaller(gateway.app, shop.url)
        await caller.token("000000004")
        clock.offset = timedelta(hours=3)
        path = await caller.page("000000005")
        clock.offset = timedelta(hours=4)
        (told,) = await shop.wait(1)
        assert told["invoiceId"] == "000000005"
        assert path


async def test_a_token_ends_after_two_hours_and_a_page_after_a_day(database_url: str) -> None:
    clock = MovedClock()
    async with running_gateway(database_url, clock=clock) as gateway:
        caller = PatientCaller(gateway.app)
        token = await caller.token("000000006")
        clock.offset = timedelta(seconds=7199)
        path = (await caller.open(token, "000000006")).headers["location"]
        clock.offset = timedelta(seconds=7201)
        assert (await caller.open(token, "000000006")).status == 400
        assert (await caller.get(path)).status == 200
        clock.offset = timedelta(days=1, hours=3)
        assert (await caller.get(path)).status == 404


async def test_another_amount_opens_a_new_round(database_url: str) -> None:
    async with running_shop() as shop, running_gateway(database_url) as gateway:
        caller = PatientCaller(gateway.app, shop.url)
        token = await caller.token("000000007")
        old_path = (await caller.open(token, "000000007")).headers["location"]
        same = await caller.token("000000007", amount="100.00")
        assert (await caller.open(token, "000000007")).status == 303  # 100.00 is 100: the same round
        assert (await caller.open(same, "000000007")).status == 303
        path = await caller.page("000000007", amount="250.50")
        assert (await caller.open(token, "000000007")).status == 400
        assert (await caller.get(old_path)).state == "invalid"
        assert (await caller.pay(path)).state == "approved"
        (told,) = await shop.wait(1)
        assert told["amount"] == 250.5


async def test_the_newest_tokens_links_and_secret_count(database_url: str) -> None:
    async with running_shop() as shop, running_gateway(database_url) as gateway:
        caller = PatientCaller(gateway.app, shop.url)
        token = await caller.token("000000008", secret_hash="first")
        path = (await caller.open(token, "000000008")).headers["location"]
        await caller.token("000000008", secret_hash="second")
        await caller.pay(path)
        (told,) = await shop.wait(1)
        assert told["secret_hash"] == "second"


async def test_the_objects_links_count_only_where_the_token_names_none(database_url: str) -> None:
    async with running_shop() as shop, running_shop() as thief, running_gateway(database_url) as gateway:
        named = PatientCaller(gateway.app, shop.url)
        token = await named.token("000000009")
        path = (await named.open(token, "000000009", postLink=thief.url)).headers["location"]
        await named.pay(path)
        await shop.wait(1)
        unnamed = PatientCaller(gateway.app)
        token = await unnamed.token("000000010")
        path = (await unnamed.open(token, "000000010", postLink=shop.url)).headers["location"]
        await unnamed.pay(path)
        await shop.wait(2)
        assert thief.received == []


async def test_a_later_token_without_links_costs_nobody_the_notification(database_url: str) -> None:
    async with running_shop() as shop, running_gateway(database_url) as gateway:
        named, unnamed = PatientCaller(gateway.app, shop.url), PatientCaller(gateway.app)
        for invoice, first in (("000000011", named), ("000000012", unnamed)):
            token = await first.token(invoice)
            wish = {} if first is named else {"postLink": shop.url}
            path = (await first.open(token, invoice, **wish)).headers["location"]
            await unnamed.token(invoice, secret_hash="")  # for the status, say
            assert (await unnamed.open(token, invoice)).status == 303  # a second tab whose object names no link
            await first.pay(path)
            told = await shop.wait(int(invoice[-1]))
            assert (told[-1]["invoiceId"], told[-1]["secret_hash"]) == (invoice, "JDKCNDDGGDTPSKJD")


async def test_nothing_of_an_order_changes_while_its_payment_is_open(database_url: str) -> None:
    async with running_shop() as shop, running_gateway(database_url, acquirer_timeout_seconds=10) as gateway:
        caller = PatientCaller(gateway.app, shop.url)
        token = await caller.token("000000013")
        path = (await caller.open(token, "000000013")).headers["location"]
        paying = asyncio.create_task(caller.pay(path, build_number(0, "0", "1")))
        await asyncio.sleep(0.5)
        later = await caller.token("000000013", secret_hash="another", postLink="https://elsewhere.example/")
        assert (await caller.open(later, "000000013", backLink="https://elsewhere.example/")).status == 303
        assert (await caller.request_token("000000013", amount="99")).status == 400
        await paying
        (told,) = await shop.wait(1)
        assert told["secret_hash"] == "JDKCNDDGGDTPSKJD"
        assert "https://shop.example/ok" in (await caller.get(path)).text


async def test_a_failure_on_its_way_holds_back_the_success_and_is_not_sent_again(database_url: str) -> None:
    """Two processes on one database would otherwise let the shop finish with the older failure."""
    async with running_shop() as shop, running_gateway(database_url) as gateway:
        shop.status, shop.seconds = 500, 1.0
        caller = PatientCaller(gateway.app, shop.url)
        path = await caller.page("000000014")
        await caller.form(f"{path}/leave", {}, {"origin": "http://gateway.test"})
        await asyncio.sleep(0.3)  # the shop has it, and takes its time
        path = await caller.page("000000014")
        assert (await caller.pay(path)).state == "approved"
        history = await gateway.store.find(keys.order_by_invoice(TERMINAL_ID, "000000014"))
        assert history is not None
        assert [m.state for m in history.messages.values()] == [MessageState.SENDING, MessageState.WAITING]
        shop.status = 200
        told = await shop.wait(2)
        assert [t["code"] for t in told] == ["error", "ok"]

        async def both_ended() -> bool:
            found = await gateway.store.select(sa.select(messages.c.state).order_by(messages.c.id))
            return [row[0] for row in found] == [MessageState.WITHDRAWN, MessageState.DELIVERED]

        await eventually(both_ended)


async def test_no_outcome_is_told_to_nobody_because_a_later_request_left_an_address_out(database_url: str) -> None:
    async with running_shop() as shop, running_gateway(database_url) as gateway:
        caller = PatientCaller(gateway.app, shop.url)
        elsewhere = {"postLink": "", "failurePostLink": "https://elsewhere.example/failed"}

        await caller.token("000000021")  # another token names only where failures go
        path = (await caller.open(await caller.token("000000021", **elsewhere), "000000021")).headers["location"]
        assert (await caller.pay(path)).state == "approved"

        bare = await caller.token("000000022", postLink="")  # so does another opening of the page
        await caller.open(bare, "000000022", postLink=shop.url)
        opened = await caller.open(bare, "000000022", failurePostLink="https://elsewhere.example/failed")
        assert (await caller.pay(opened.headers["location"])).state == "approved"

        path = await caller.page("000000023")  # a new round, and its token names nothing
        await caller.form(f"{path}/leave", {}, {"origin": "http://gateway.test"})
        await shop.wait(3)
        again = await caller.token("000000023", postLink="", secret_hash="")
        assert (await caller.pay((await caller.open(again, "000000023")).headers["location"])).state == "approved"

        await caller.token("000000024")  # another amount is another round, too
        other = await caller.token("000000024", postLink="", amount="99")
        opened = await caller.open(other, "000000024", amount=99)
        assert (await caller.pay(opened.headers["location"])).state == "approved"

        told = await shop.wait(5)
        successes = {body["invoiceId"]: body["secret_hash"] for body in told if body["code"] == "ok"}
        assert sorted(successes) == ["000000021", "000000022", "000000023", "000000024"]
        assert set(successes.values()) == {"JDKCNDDGGDTPSKJD"}


async def test_a_token_that_asks_for_the_status_costs_no_failure(database_url: str) -> None:
    async with running_shop() as shop, running_gateway(database_url) as gateway:
        shop.status = 500
        caller = PatientCaller(gateway.app, shop.url)
        path = await caller.page("000000025")
        assert (await caller.pay(path, LOCKED_CARD)).state == "declined"
        await caller.form(f"{path}/leave", {}, {"origin": "http://gateway.test"})
        await shop.wait(1)
        token = await caller.token("000000025")
        bearer = {"authorization": f"Bearer {token['access_token']}"}
        answer = await caller.call("GET", "/check-status/payment/transaction/000000025", headers=bearer)
        assert answer.json()["resultCode"] == "101"
        assert answer.json()["transaction"]["statusName"] == "REJECT"
        shop.status = 200
        told = await shop.wait(2, seconds=20)  # tried again after 5 s
        assert [(body["code"], body["reasonCode"]) for body in told] == [("error", 465)] * 2


async def test_the_deadline_is_extended_once(database_url: str) -> None:
    clock = MovedClock()
    async with running_gateway(database_url, clock=clock) as gateway:
        caller = PatientCaller(gateway.app)
        path = await caller.page("000000015")
        other = (await caller.open(await caller.token("000000015"), "000000015")).headers["location"]
        clock.offset = timedelta(minutes=19)
        assert 0 < (await caller.get(f"{path}/state")).json()["seconds_left"] <= 60
        for _ in range(2):  # the second time, it stays as it is
            assert (await caller.press(path, "extend")).status == 200
            assert 600 < (await caller.get(f"{path}/state")).json()["seconds_left"] <= 660
        assert (await caller.get(other)).text.count("/extend") == 0  # nor by another opening of the same round
        clock.offset = timedelta(minutes=29)
        assert (await caller.get(path)).state == "form"
        history = await gateway.store.find(keys.order_by_invoice(TERMINAL_ID, "000000015"))
        assert history is not None
        assert history.order.is_extended
        rows = await gateway.store.select(
            sa.select(events.c.detail).where(events.c.kind == "round_extended", events.c.order_id == history.order.id)
        )
        assert rows == [("by 10 minutes, as the payer asked",)]
        clock.offset = timedelta(minutes=31)
        assert (await caller.get(path)).state == "expired"
        await caller.press(path, "extend")
        assert (await caller.get(path)).state == "expired"
        token = await caller.token("000000015", amount="250")  # a new round has an extension of its own
        path = (await caller.open(token, "000000015", amount=250)).headers["location"]
        assert "/extend" in (await caller.get(path)).text


async def test_a_terminal_without_extensions_offers_none(database_url: str) -> None:
    async with running_gateway(database_url) as gateway:
        await Administration(gateway.store, SystemClock(), Ids()).change_terminal(TERMINAL_ID, extension_minutes=0)
        caller = PatientCaller(gateway.app)
        path = await caller.page("000000016")
        assert "/extend" not in (await caller.get(path)).text
        before = (await caller.get(f"{path}/state")).json()["seconds_left"]
        await caller.press(path, "extend")
        assert (await caller.get(f"{path}/state")).json()["seconds_left"] <= before


async def test_a_page_speaks_what_its_payer_chose_and_the_shop_is_told_what_it_asked_for(database_url: str) -> None:
    async with running_shop() as shop, running_gateway(database_url) as gateway:
        caller = PatientCaller(gateway.app, shop.url)
        path = await caller.page("000000017")
        other = (await caller.open(await caller.token("000000017"), "000000017")).headers["location"]
        await caller.press(path, "language", language="kk")
        assert '<html lang="kk">' in (await caller.get(path)).text
        assert '<html lang="ru">' in (await caller.get(other)).text
        for wrong in ("", "xx", "KK", "<b>"):
            await caller.press(path, "language", language=wrong)
        assert '<html lang="kk">' in (await caller.get(path)).text
        assert '<html lang="kk">' in (await caller.pay(path)).text
        (told,) = await shop.wait(1)
        assert told["language"] == "RUS"
