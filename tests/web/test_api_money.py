"""Capture, cancel and refund over HTTP as shops' servers send them, and everything that is turned away."""

import asyncio
from typing import Any
from urllib.parse import urlencode
from uuid import uuid4

import pytest
from structlog.testing import capture_logs
from tests.flows.moody import Fault, Mood
from tests.flows.test_operations import CAPTURE, INVOICE, REFUND, MovedClock, paid_till, resolution_of
from tests.gateway import Caller, eventually
from tests.merchant_api import ShopServer, assert_error, paid_shop, service, snapshot, stranger

from tolem.acquirers.base import AcquirerAnswer, AcquirerRequest
from tolem.clock import SystemClock
from tolem.domain.payment import OperationKind
from tolem.flows.administration import Administration
from tolem.flows.tokens import TOKEN_LIFETIME
from tolem.ids import Ids
from tolem.sandbox.fixtures import CLIENT_ID, TERMINAL_ID


@pytest.mark.parametrize(
    ("query", "body"),
    (
        ({}, None),
        ({}, {}),
        ({}, {"amount": None}),
        ({"amount": "100"}, None),
        ({}, {"amount": 100}),
        ({}, {"amount": "100.00"}),
        ({"amount": "100.00"}, {"amount": 100}),
        ({"currency": "KZT"}, {"amount": 100}),
    ),
)
async def test_a_capture_by_query_by_json_and_by_both(
    sqlite_url: str, query: dict[str, str], body: dict[str, Any] | None
) -> None:
    async with paid_shop(sqlite_url) as (till, shop):
        answer = await shop.operate(till.payment_id, "charge", body, **query)
        assert (answer.status, answer.json()) == (200, {"code": 0, "message": ""})
        assert (await till.payment()).captured == 10_000


async def test_a_refund_with_its_own_key_is_made_once(sqlite_url: str) -> None:
    async with paid_shop(sqlite_url, two_stage=False) as (till, shop):
        for query, body in (
            ({"amount": "40", "externalID": "r-1"}, None),
            ({"externalId": "r-1"}, {"amount": 40}),
            ({}, {"amount": 40.00, "externalID": "r-1"}),
        ):
            answer = await shop.operate(till.payment_id, "refund", body, **query)
            assert (answer.status, answer.json()) == (200, {"code": 0, "message": "", "externalID": "r-1"})
        assert_error(await shop.operate(till.payment_id, "refund", amount="41", externalID="r-1"), 409, "externalID")
        assert (await till.payment()).refunded == 4_000
        assert till.acquirer.count(REFUND) == 1


async def test_an_idempotency_key_answers_the_same_call_once(sqlite_url: str) -> None:
    async with paid_shop(sqlite_url, two_stage=False) as (till, shop):
        path = f"/operation/{till.payment_id}/refund"
        first = await shop.post(path, {"amount": 20}, idempotency_key="order-17")
        again = await shop.post(f"/api{path}?amount=20.00", idempotency_key="order-17")
        assert first.status == again.status == 200
        assert first.body == again.body
        assert_error(await shop.post(path, {"amount": 21}, idempotency_key="order-17"), 409, "Idempotency-Key")
        assert_error(await shop.post(path, {"amount": 20}, idempotency_key="x" * 256), 400, "Idempotency-Key")
        assert (await till.payment()).refunded == 2_000
        assert till.acquirer.count(REFUND) == 1


@pytest.mark.parametrize("name", ("x-idempotency-key", "idempotency_token"))
async def test_a_key_in_another_header_moves_nothing(sqlite_url: str, name: str) -> None:
    async with paid_shop(sqlite_url, two_stage=False) as (till, shop):
        before = await snapshot(till)
        path = f"/operation/{till.payment_id}/refund?amount=40"
        answer = await shop.caller.call("POST", path, b"", shop.headers | {name: "k-1"})
        assert_error(answer, 400, "write Idempotency-Key")
        assert await snapshot(till) == before
        answer = await shop.caller.call("POST", path, b"", shop.headers | {"x-request-id": "k-1"})
        assert answer.status == 200


async def test_two_tokens_are_refused(sqlite_url: str) -> None:
    async with paid_shop(sqlite_url, two_stage=False) as (till, shop):
        before = await snapshot(till)
        path = f"/operation/{till.payment_id}/refund?amount=40"
        both = shop.headers | {"Authorization": "Bearer another"}
        assert len(both) == 2
        assert_error(await shop.caller.call("POST", path, b"", both), 400, "Authorization comes twice")
        assert await snapshot(till) == before


async def test_an_unknown_outcome_is_said_and_a_repeat_moves_nothing(sqlite_url: str) -> None:
    async with paid_shop(sqlite_url, two_stage=False) as (till, shop):
        till.acquirer.feel(REFUND, Mood.LOST)
        answer = await shop.operate(till.payment_id, "refund", amount="40")
        assert_error(answer, 503, "ask the status", code=454)
        assert answer.headers["retry-after"] == "5"
        await eventually(till.is_settled)
        assert (await shop.operate(till.payment_id, "refund", amount="40")).status == 200
        assert (await shop.status())["transaction"]["payoutAmount"] == 40
        assert till.acquirer.count(REFUND) == 1


async def test_a_decline_tells_the_acquirers_reason(sqlite_url: str) -> None:
    async with paid_shop(sqlite_url, two_stage=False) as (till, shop):
        answer = await shop.operate(till.payment_id, "refund", amount="20.66")
        assert_error(answer, 400, "Declined, call your bank", code=466)
        assert (await shop.status())["transaction"]["payoutAmount"] == 0
        assert (await shop.operate(till.payment_id, "refund", amount="20")).status == 200


async def test_a_store_that_takes_nothing_is_told_as_busy(sqlite_url: str) -> None:
    async with paid_shop(sqlite_url, two_stage=False) as (till, shop):
        before, store = await snapshot(till), till.in_moods()
        store.changes = [Fault.BUSY]
        answer = await shop.operate(till.payment_id, "refund", amount="40")
        assert_error(answer, 503, "nothing was asked of the acquirer; try again", code=461)
        assert answer.headers["retry-after"] == "1"
        store.failing_finds = 1
        assert_error(await shop.operate(till.payment_id, "refund", amount="40"), 503, "try again", code=461)
        assert (await snapshot(till), till.acquirer.count(REFUND)) == (before, 0)
        assert (await shop.operate(till.payment_id, "refund", amount="40")).status == 200


@pytest.mark.parametrize("fault", (Fault.LOST, Fault.STORED))
async def test_a_store_that_does_not_say_what_it_took_is_told_as_in_progress(sqlite_url: str, fault: Fault) -> None:
    async with paid_shop(sqlite_url, two_stage=False) as (till, shop):
        store = till.in_moods()
        store.changes = [fault, Fault.BUSY]
        answer = await shop.operate(till.payment_id, "refund", amount="40")
        assert_error(answer, 503, "ask the status", code=454)
        assert answer.headers["retry-after"] == "5"
        await eventually(till.is_settled)
        store.changes = [fault]
        assert (await shop.operate(till.payment_id, "refund", amount="40")).status == 200
        assert (await shop.status())["transaction"]["payoutAmount"] == 40
        assert till.acquirer.count(REFUND) == 1


async def test_the_same_amount_under_different_keys(sqlite_url: str) -> None:
    """Refused while another is open, each moves money once, each is answered as the first time."""
    async with paid_shop(sqlite_url, two_stage=False) as (till, shop):
        path = f"/operation/{till.payment_id}/refund"
        till.acquirer.feel(REFUND, Mood.LOST)
        first = asyncio.ensure_future(shop.post(path, {"amount": 20}, idempotency_key="return-1"))
        await eventually(till.has_open)
        for key in ("return-2", "return-3"):
            assert_error(await shop.post(path, {"amount": 20}, idempotency_key=key), 409, "in progress")
        assert_error(await shop.post(path, {"amount": 20}), 409, "in progress")
        assert (await first).status == 503
        await eventually(till.is_settled)
        for _ in range(2):
            for key in ("return-1", "return-2", "return-3"):
                answer = await shop.post(path, {"amount": 20}, idempotency_key=key)
                assert (answer.status, answer.json()) == (200, {"code": 0, "message": ""})
        assert (await shop.status())["transaction"]["payoutAmount"] == 60
        assert till.acquirer.count(REFUND) == 3


@pytest.mark.parametrize("goes_away", (True, False))
async def test_a_shop_that_hung_up_before_it_was_told_may_ask_again(sqlite_url: str, goes_away: bool) -> None:
    """Its patience is shorter than the acquirer's: it was told nothing, so the repeat moves nothing."""
    async with paid_shop(sqlite_url, two_stage=False) as (till, shop):
        asked, answered = asyncio.Event(), asyncio.Event()
        send = till.acquirer.inner.send

        async def send_slowly(request: AcquirerRequest) -> AcquirerAnswer:
            asked.set()
            await answered.wait()
            return await send(request)

        till.acquirer.inner.send = send_slowly  # type: ignore[method-assign]
        impatient = await service(till.gateway.app, terminal=str(till.terminal.id))
        call = asyncio.ensure_future(impatient.operate(till.payment_id, "refund", amount="40"))
        await asked.wait()
        if goes_away:
            impatient.caller.gone.set()
        answered.set()
        assert (await call).status == 200
        assert (await shop.operate(till.payment_id, "refund", amount="40")).status == 200
        told = (await shop.status())["transaction"]["payoutAmount"]
        assert (told, till.acquirer.count(REFUND)) == ((40, 1) if goes_away else (80, 2))


async def test_a_shop_is_told_once_its_answer_is_written(sqlite_url: str) -> None:
    """The process ends while it answers. Before that nothing may say that the shop was told."""
    async with paid_shop(sqlite_url, two_stage=False) as (till, shop):
        answering = asyncio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            async def never_send(message: Any) -> None:
                answering.set()
                await asyncio.Event().wait()

            await till.gateway.app(scope, receive, never_send)

        unlucky = ShopServer(Caller(app), "")
        unlucky.headers = shop.headers
        call = asyncio.ensure_future(unlucky.operate(till.payment_id, "refund", amount="40"))
        await answering.wait()
        call.cancel()
        assert (await shop.operate(till.payment_id, "refund", amount="40")).status == 200
        assert ((await till.payment()).refunded, till.acquirer.count(REFUND)) == (4_000, 1)
        # Now it has been told, once: the next one is another refund.
        assert (await shop.operate(till.payment_id, "refund", amount="40")).status == 200
        assert ((await till.payment()).refunded, till.acquirer.count(REFUND)) == (8_000, 2)


async def test_what_follows_an_answer_at_once_is_no_repeat(sqlite_url: str) -> None:
    """The next refund of the same amount comes before it is stored that the first was told."""
    async with paid_shop(sqlite_url, two_stage=False) as (till, shop):
        store = till.in_moods()
        change, written = store.change, asyncio.Event()
        changes = 0

        async def change_slowly(named: Any, decide: Any) -> Any:
            nonlocal changes
            changes += 1
            if changes == 3:  # after the reservation and the outcome
                written.set()
                await asyncio.sleep(0.3)
            return await change(named, decide)

        store.change = change_slowly
        first = asyncio.ensure_future(shop.operate(till.payment_id, "refund", amount="40"))
        await written.wait()
        assert (await shop.operate(till.payment_id, "refund", amount="40")).status == 200
        assert (await first).status == 200
        assert ((await till.payment()).refunded, till.acquirer.count(REFUND)) == (8_000, 2)


async def test_a_slash_at_the_end_is_the_same_call(sqlite_url: str) -> None:
    async with paid_shop(sqlite_url) as (till, shop):
        assert (await shop.operate(till.payment_id, "charge/", {"amount": 80})).status == 200
        answer = await shop.post(f"/api/operation/{till.payment_id}/refund/?amount=30")
        assert (answer.status, answer.json()["code"]) == (200, 0)
        told = (await shop.get(f"/check-status/payment/transaction/{INVOICE}/")).json()["transaction"]
        assert (told["orgAmount"], told["payoutAmount"]) == (100, 30)
        assert (await shop.get(f"/check-status/payment/transactionId/{till.payment_id}/")).status == 200
        assert_error(await shop.operate(uuid4(), "refund/"), 404, "no such payment")


async def test_a_decline_that_came_late_may_be_tried_again(sqlite_url: str) -> None:
    async with paid_shop(sqlite_url, two_stage=False) as (till, shop):
        till.acquirer.feel(REFUND, Mood.UNSURE)
        assert_error(await shop.operate(till.payment_id, "refund", amount="20.66"), 503, "ask the status", code=454)
        await eventually(till.is_settled)
        assert_error(await shop.operate(till.payment_id, "refund", amount="20.66"), 400, code=466)
        assert till.acquirer.count(REFUND) == 2


async def test_a_repeat_is_told_what_people_settled(sqlite_url: str) -> None:
    """Not as a fault of ours: it was decided, and nothing has moved."""
    async with paid_shop(sqlite_url, two_stage=False) as (till, shop):
        till.gateway.acquiring.limits = till.gateway.acquiring.limits._replace(recovery_tries=1)
        for kind in (REFUND, OperationKind.INQUIRY):
            till.acquirer.feel(kind, *[Mood.REFUSED] * 1_000)
        refund = {"amount": "40", "externalID": "r-1"}
        assert_error(await shop.operate(till.payment_id, "refund", **refund), 503, "in progress", 454)
        resolution = resolution_of(till.gateway)

        async def waits() -> bool:
            (found,) = await resolution.list_open()
            return found.operation.alerted_at is not None and found.operation.asked_until is None

        await eventually(waits)
        (found,) = await resolution.list_open()
        await resolution.resolve(found.operation.id, happened=False, reason="the desk never saw it", who="root")
        assert_error(await shop.operate(till.payment_id, "refund", **refund), 400, "No action taken", 476)
        till.acquirer.moods.clear()
        assert (await shop.operate(till.payment_id, "refund", amount="40", externalID="r-2")).status == 200


async def test_another_operation_meanwhile_is_refused(sqlite_url: str) -> None:
    async with paid_shop(sqlite_url, two_stage=False) as (till, shop):
        till.acquirer.feel(REFUND, Mood.LOST)
        first = asyncio.ensure_future(shop.operate(till.payment_id, "refund", amount="40"))
        await eventually(till.has_open)
        assert_error(await shop.operate(till.payment_id, "refund", amount="50"), 409, "in progress")
        assert (await first).status == 503
        await eventually(till.is_settled)
        assert (await till.payment()).refunded == 4_000


@pytest.mark.parametrize(
    ("word", "query", "body", "status", "words"),
    (
        ("charge", {"amount": "100.01"}, None, 400, "above"),
        ("charge", {"amount": "0"}, None, 400, "above 0"),
        ("charge", {"amount": "-1"}, None, 400, "plain decimal"),
        ("charge", {"amount": "1e1"}, None, 400, "plain decimal"),
        ("charge", {"amount": "NaN"}, None, 400, "plain decimal"),
        ("charge", {"amount": "10.001"}, None, 400, "decimals"),
        ("charge", {"amount": ""}, None, 400, "empty"),
        ("charge", {"amount": "10"}, {"amount": 11}, 400, "different values"),
        ("charge", {"amount": "10", "currency": "USD"}, None, 400, "KZT, not USD"),
        ("charge", {}, {"currency": "EUR"}, 400, "KZT, not EUR"),
        ("charge", {}, {"amount": [10]}, 400, "text or a number"),
        ("charge", {"Amount": "10"}, None, 400, "write amount"),
        ("charge", {}, {"ammount": 10}, 400, "write amount"),
        ("charge", {}, {"params": [{"amount": 10}]}, 400, "stands inside of 'params'"),
        ("charge", {"half": "1"}, None, 400, "is no parameter here"),
        ("cancel", {"externalID": "3"}, None, 400, "header Idempotency-Key"),
        ("refund", {"amount": "10", "external_id": "r-1"}, None, 400, "write externalID"),
        ("refund", {}, {"amount": 10, "idempotencyKey": "k-1"}, 400, "header Idempotency-Key"),
        ("charge", {}, b"{", 400, "JSON"),
        ("charge", {}, b"[" * 3_000, 400, "JSON"),
        ("charge", {}, b"\xff", 400, "UTF-8"),
        ("charge", {}, b'{"a": "' + b"x" * 20_000 + b'"}', 413, "larger"),
        ("cancel", {"amount": "10"}, None, 400, "whole hold"),
        ("refund", {}, None, 400, "only a captured one"),
        ("refund", {"externalID": "x" * 65}, None, 400, "64 characters"),
    ),
)
async def test_calls_that_change_nothing(
    sqlite_url: str, word: str, query: dict[str, str], body: Any, status: int, words: str
) -> None:
    async with paid_shop(sqlite_url) as (till, shop):
        before = await snapshot(till)
        path = f"/operation/{till.payment_id}/{word}?{urlencode(query)}"
        with capture_logs() as logs:
            assert_error(await shop.post(path, body, content_type="application/json"), status, words)
        assert [line["event"] for line in logs] == ["operation_refused"]
        assert await snapshot(till) == before
        assert till.acquirer.count(CAPTURE) == 0


async def test_a_body_that_is_no_json(sqlite_url: str) -> None:
    async with paid_shop(sqlite_url) as (till, shop):
        path = f"/operation/{till.payment_id}/charge"
        for content_type in ("application/x-www-form-urlencoded", "text/plain"):
            assert_error(await shop.post(path, b"amount=10", content_type=content_type), 415, "application/json")
        assert (await shop.post(path, content_type="application/x-www-form-urlencoded")).status == 200  # no body


async def test_refunds_that_are_refused(sqlite_url: str) -> None:
    async with paid_shop(sqlite_url, two_stage=False) as (till, shop):
        before = await snapshot(till)
        for amount, words in (("9.99", "at least 10 KZT"), ("100.01", "above the 100 KZT that is left")):
            assert_error(await shop.operate(till.payment_id, "refund", amount=amount), 400, words)
        for word in ("charge", "cancel"):
            assert_error(await shop.operate(till.payment_id, word), 400, "captured")
        assert await snapshot(till) == before


async def test_payments_that_are_not_there(sqlite_url: str) -> None:
    async with paid_shop(sqlite_url) as (till, shop):
        before = await snapshot(till)
        for word in ("charge", "cancel", "refund"):
            assert_error(await shop.operate(uuid4(), word), 404, "no such payment")
            for id in ("17", till.payment_id.hex, "%00", "x" * 36, INVOICE):
                assert_error(await shop.operate(id, word), 400, "UUID")
        foreign = await stranger(till.gateway)
        assert_error(await foreign.operate(till.payment_id, "cancel"), 404, "no such payment")
        for invoice in ("12345", "1" * 16, "00000000x", "%D9%A1%D9%A2%D9%A3%D9%A4%D9%A5%D9%A6"):
            answer = await shop.get(f"/check-status/payment/transaction/{invoice}")
            assert_error(answer, 400, "6 to 15 digits")
            assert answer.json()["resultCode"] == "103"
        assert_error(await shop.get("/check-status/payment/transactionId/17"), 400, "UUID")
        assert await snapshot(till) == before


async def test_tokens_that_may_not(sqlite_url: str) -> None:
    clock = MovedClock()
    async with paid_shop(sqlite_url, clock=clock) as (till, shop):
        app, caller, before = till.gateway.app, shop.caller, await snapshot(till)
        own = (await caller.token(INVOICE, terminal=str(till.terminal.id)))["access_token"]
        assert_error(await ShopServer(caller, own).operate(till.payment_id, "cancel"), 403, "one order")
        scopeless = await service(app, terminal=str(till.terminal.id), scope="statistics")
        assert_error(await scopeless.operate(till.payment_id, "cancel"), 403, "scope")
        elsewhere = await service(app, terminal=str(TERMINAL_ID))
        assert_error(await elsewhere.operate(till.payment_id, "cancel"), 403, "another terminal")

        status_path = f"/check-status/payment/transaction/{INVOICE}"
        for token in ("", "unknown", "x" * 5_000):
            wrong = ShopServer(caller, token)
            for answer in (await wrong.operate(till.payment_id, "cancel"), await wrong.get(status_path)):
                assert_error(answer, 401, "access token")
                assert answer.headers["www-authenticate"].startswith('Bearer realm="tolem"')
                assert ("invalid_token" in answer.headers["www-authenticate"]) == (token != "")
            assert (await wrong.get(status_path)).json()["resultCode"] == "103"
        basic = ShopServer(caller, shop.headers["authorization"].split()[1], scheme="Basic")
        assert_error(await basic.operate(till.payment_id, "cancel"), 401, "access token")
        assert (await snapshot(till))[1:] == before[1:]

        clock.offset = TOKEN_LIFETIME
        assert_error(await shop.operate(till.payment_id, "cancel"), 401, "expired")
        assert_error(await shop.get(status_path), 401, "expired")
        assert (await snapshot(till))[1:] == before[1:]


async def test_an_old_integration_may_use_the_orders_own_token(sqlite_url: str) -> None:
    async with paid_till(sqlite_url) as till:
        caller = Caller(till.gateway.app)
        admin = Administration(till.gateway.store, SystemClock(), Ids())
        await admin.change_merchant(CLIENT_ID, order_token_powers=True)
        await asyncio.sleep(1.1)  # what the directory remembers is at most a second old
        token = (await caller.token(INVOICE, terminal=str(till.terminal.id)))["access_token"]
        assert (await ShopServer(caller, token).operate(till.payment_id, "charge")).status == 200
