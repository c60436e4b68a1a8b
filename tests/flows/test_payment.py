"""Whole payments through the gateway's edge, on both databases: token, page, card, notification."""

import asyncio

import pytest

from tests.gateway import APPROVED_CARD, LOCKED_CARD, PatientCaller, eventually, running_gateway, running_shop
from tests.merchant_api import service
from tolem.bootstrap import Gateway
from tolem.clock import SystemClock
from tolem.domain.card import luhn_digit
from tolem.domain.history import OrderHistory
from tolem.domain.order import OrderStatus
from tolem.domain.payment import OperationStatus, PaymentStatus
from tolem.flows.administration import Administration
from tolem.ids import Ids
from tolem.sandbox.fixtures import CLIENT_ID, TERMINAL_ID
from tolem.storage import keys


def sandbox_card(reason: str = "000", authentication: str = "0", line: str = "0") -> str:
    digits = f"440043{reason}{authentication}{line}0000"
    return digits + luhn_digit(digits)


async def history_of(gateway: Gateway, invoice: str) -> OrderHistory:
    history = await gateway.store.find(keys.order_by_invoice(TERMINAL_ID, invoice))
    assert history is not None
    return history


async def test_an_approved_card_pays_and_the_shop_is_told(database_url: str) -> None:
    async with running_shop() as shop, running_gateway(database_url) as gateway:
        caller = PatientCaller(gateway.app, shop.url)
        path = await caller.page("000000001", phone="77777777777", email="example@example.com", name="Arman Ali")
        assert (await caller.get(path)).state == "form"
        result = await caller.pay(path)
        assert result.state == "approved"
        assert "https://shop.example/ok" in result.text
        (told,) = await shop.wait(1)
        assert told["code"] == "ok"
        assert told["reason"] == "success"
        assert told["amount"] == 100
        assert told["invoiceId"] == "000000001"
        assert told["secret_hash"] == "JDKCNDDGGDTPSKJD"
        assert told["cardMask"] == "440563...5096"
        assert told["secure"] == "yes"
        assert told["reference"] in result.text
        history = await history_of(gateway, "000000001")
        (payment,) = history.payments.values()
        assert payment.status is PaymentStatus.CAPTURED
        assert payment.captured == payment.authorized == 10_000
        assert told["id"] == str(payment.id)


async def test_a_locked_card_is_declined_and_another_one_pays(database_url: str) -> None:
    async with running_shop() as shop, running_gateway(database_url) as gateway:
        caller = PatientCaller(gateway.app, shop.url)
        path = await caller.page("000000002")
        declined = await caller.pay(path, LOCKED_CARD)
        assert declined.state == "declined"
        assert shop.received == []  # the round goes on: nothing is told yet
        assert (await caller.pay(path)).state == "approved"
        (told,) = await shop.wait(1)
        assert told["code"] == "ok"
        history = await history_of(gateway, "000000002")
        assert [p.status for p in history.round_payments()] == [PaymentStatus.DECLINED, PaymentStatus.CAPTURED]


async def test_used_up_attempts_end_the_round_with_the_last_reason(database_url: str) -> None:
    async with running_shop() as shop, running_gateway(database_url) as gateway:
        caller = PatientCaller(gateway.app, shop.url)
        path = await caller.page("000000003")
        for _ in range(2):
            assert (await caller.pay(path, LOCKED_CARD)).state == "declined"
        last = await caller.pay(path, sandbox_card("484"))
        assert last.state == "failed"
        assert "https://shop.example/fail" in last.text
        (told,) = await shop.wait(1)
        assert (told["code"], told["reasonCode"]) == ("error", 484)
        assert told["accountId"] == "testuser1"
        assert "acountId" not in told
        assert (await caller.pay(path)).state == "failed"  # no fourth attempt, whatever the card
        assert len((await history_of(gateway, "000000003")).payments) == 3


async def test_leaving_after_a_decline_tells_its_reason(database_url: str) -> None:
    async with running_shop() as shop, running_gateway(database_url) as gateway:
        caller = PatientCaller(gateway.app, shop.url)
        path = await caller.page("000000004")
        await caller.pay(path, sandbox_card("488"))
        left = await caller.form(f"{path}/leave", {}, {"origin": "http://gateway.test"})
        assert left.status == 303
        page = await caller.get(path)
        assert page.state == "failed"
        (told,) = await shop.wait(1)
        assert told["reasonCode"] == 488
        assert (await caller.pay(path)).state == "failed"


async def test_leaving_without_an_attempt_is_told_under_the_rounds_own_id(database_url: str) -> None:
    async with running_shop() as shop, running_gateway(database_url) as gateway:
        caller = PatientCaller(gateway.app, shop.url)
        path = await caller.page("000000005")
        await caller.form(f"{path}/leave", {}, {"origin": "http://gateway.test"})
        (told,) = await shop.wait(1)
        history = await history_of(gateway, "000000005")
        assert told["reasonCode"] == 476
        assert told["id"] == str(history.order.round_id)


async def test_a_failed_order_gets_a_new_round_and_can_be_paid(database_url: str) -> None:
    async with running_shop() as shop, running_gateway(database_url) as gateway:
        caller = PatientCaller(gateway.app, shop.url)
        old_token = await caller.token("000000006")
        old_path = (await caller.open(old_token, "000000006")).headers["location"]
        await caller.form(f"{old_path}/leave", {}, {"origin": "http://gateway.test"})
        await shop.wait(1)
        path = await caller.page("000000006")
        refused = await caller.open(old_token, "000000006")
        assert refused.status == 400  # a newer round revokes the older token
        assert (await caller.get(old_path)).state == "invalid"
        assert (await caller.pay(path)).state == "approved"
        told = await shop.wait(2)
        assert [t["code"] for t in told] == ["error", "ok"]


async def test_an_undelivered_failure_is_withdrawn_by_a_new_round(database_url: str) -> None:
    async with running_shop() as shop, running_gateway(database_url) as gateway:
        shop.status = 500
        caller = PatientCaller(gateway.app, shop.url)
        path = await caller.page("000000007")
        await caller.form(f"{path}/leave", {}, {"origin": "http://gateway.test"})
        await shop.wait(1)
        shop.status = 200
        assert (await caller.pay(await caller.page("000000007"))).state == "approved"
        told = await shop.wait(2)
        assert [t["code"] for t in told] == ["error", "ok"]

        async def is_delivered() -> bool:
            return not (await history_of(gateway, "000000007")).messages

        await eventually(is_delivered)


async def test_double_clicks_and_second_tabs_make_one_payment(database_url: str) -> None:
    async with running_shop() as shop, running_gateway(database_url) as gateway:
        caller = PatientCaller(gateway.app, shop.url)
        token = await caller.token("000000008")
        paths = [(await caller.open(token, "000000008")).headers["location"] for _ in range(3)]
        answers = await asyncio.gather(*(caller.submit(path) for path in paths * 4))
        assert {answer.status for answer in answers} == {303}
        for path in paths:
            assert (await caller.get(path)).state == "approved"
        again = await caller.open(await caller.token("000000008"), "000000008")
        assert (await caller.get(again.headers["location"])).state == "paid"
        await shop.wait(1)
        history = await history_of(gateway, "000000008")
        assert len(history.payments) == 1
        assert [o.status for o in history.operations.values()] == [OperationStatus.APPROVED]
        assert len(shop.received) == 1


async def test_a_two_stage_terminal_holds_the_amount(database_url: str) -> None:
    async with running_shop() as shop, running_gateway(database_url) as gateway:
        terminal = await Administration(gateway.store, SystemClock(), Ids()).add_terminal(
            CLIENT_ID, "Hotel", two_stage=True, attempts_max=1
        )
        caller = PatientCaller(gateway.app, shop.url)
        path = await caller.page("000000009", terminal=str(terminal.id))
        assert (await caller.pay(path)).state == "approved"
        await shop.wait(1)
        history = await gateway.store.find(keys.order_by_invoice(terminal.id, "000000009"))
        assert history is not None
        (payment,) = history.payments.values()
        assert payment.status is PaymentStatus.AUTHORIZED
        assert (payment.authorized, payment.captured) == (10_000, 0)


async def test_a_verification_takes_nothing(database_url: str) -> None:
    async with running_shop() as shop, running_gateway(database_url) as gateway:
        caller = PatientCaller(gateway.app, shop.url)
        path = await caller.page("000000010", amount=0, paymentType="cardVerification")
        assert (await caller.pay(path)).state == "approved"
        (told,) = await shop.wait(1)
        assert told["amount"] == 0
        (payment,) = (await history_of(gateway, "000000010")).payments.values()
        assert payment.status is PaymentStatus.AUTHORIZED


@pytest.mark.parametrize(("digit", "secure", "eci"), (("0", "yes", "05"), ("2", "no", "06"), ("3", "no", "07")))
async def test_authentication_follows_the_card(database_url: str, digit: str, secure: str, eci: str) -> None:
    async with running_shop() as shop, running_gateway(database_url) as gateway:
        caller = PatientCaller(gateway.app, shop.url)
        assert (
            await caller.pay(await caller.page("000000011"), sandbox_card(authentication=digit))
        ).state == "approved"
        (told,) = await shop.wait(1)
        assert told["secure"] == secure
        (payment,) = (await history_of(gateway, "000000011")).payments.values()
        assert payment.eci == eci


async def test_a_slow_acquirer_shows_checking_and_then_the_truth(database_url: str) -> None:
    async with running_shop() as shop, running_gateway(database_url, acquirer_timeout_seconds=10) as gateway:
        caller = PatientCaller(gateway.app, shop.url)
        path = await caller.page("000000012")
        started = asyncio.get_running_loop().time()
        assert (await caller.submit(path, sandbox_card(line="1"))).status == 303
        assert asyncio.get_running_loop().time() - started < 6
        assert (await caller.get(path)).state in ("checking", "approved")
        assert (await caller.pay(path, APPROVED_CARD)).state == "approved"
        await shop.wait(1)
        assert (await caller.get(path)).state == "approved"
        assert len((await history_of(gateway, "000000012")).payments) == 1


@pytest.mark.parametrize("attempts_max", (1, 3))
async def test_a_purchase_that_was_undone_has_failed_and_is_not_declined(database_url: str, attempts_max: int) -> None:
    """The bank never got it and confirmed the reversal: nobody has said no, and every telling of it says so."""
    async with running_shop() as shop, running_gateway(database_url) as gateway:
        terminal = await Administration(gateway.store, SystemClock(), Ids()).add_terminal(
            CLIENT_ID, "Kiosk", attempts_max=attempts_max
        )
        caller = PatientCaller(gateway.app, shop.url)
        path = await caller.page("000000014", terminal=str(terminal.id))
        is_last = attempts_max == 1
        assert (await caller.pay(path, sandbox_card(line="3"))).state == ("failed" if is_last else "declined")
        history = await gateway.store.find(keys.order_by_invoice(terminal.id, "000000014"))
        assert history is not None
        (payment,) = history.payments.values()
        purchase, reversal = sorted(history.operations.values(), key=lambda operation: operation.id)
        assert (payment.status, payment.reason_code, payment.authorized) == (PaymentStatus.FAILED, 458, 0)
        assert (purchase.status, purchase.reason_code) == (OperationStatus.REVERSED, 458)
        assert reversal.status is OperationStatus.APPROVED
        server = await service(gateway.app, terminal=str(terminal.id))
        by_id = (await server.get(f"/check-status/payment/transactionId/{payment.id}")).json()
        by_invoice = await server.status("000000014")
        assert (by_id["resultCode"], by_invoice["resultCode"]) == ("101", "101" if is_last else "107")
        for told in (by_id["transaction"], by_invoice["transaction"]):
            assert (told["statusName"], told["statusID"], told["reasonCode"]) == ("FAILED", "9", "458")
        if is_last:
            (notified,) = await shop.wait(1)
            assert (notified["code"], notified["reasonCode"]) == ("error", 458)


async def test_an_order_that_was_paid_stays_paid(database_url: str) -> None:
    async with running_shop() as shop, running_gateway(database_url) as gateway:
        caller = PatientCaller(gateway.app, shop.url)
        await caller.pay(await caller.page("000000013"))
        await shop.wait(1)
        token = await caller.token("000000013", amount="999")
        refused = await caller.open(token, "000000013", amount=999)
        assert refused.status == 400
        assert (await history_of(gateway, "000000013")).order.status is OrderStatus.PAID
