"""The merchant API as shops' servers use it: the status, and the edge of every call."""

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from starlette.applications import Starlette
from structlog.testing import capture_logs
from tests.flows.test_operations import INVOICE, paid_till
from tests.gateway import APPROVED_CARD, LOCKED_CARD, Caller, running_gateway
from tests.merchant_api import ShopServer, assert_error, paid_shop, service, stranger

import tolem.wire
from tolem.clock import SystemClock
from tolem.domain.errors import Overloaded, Refusal, Refused
from tolem.flows.administration import Administration
from tolem.flows.operations import MoneyResult
from tolem.ids import Ids
from tolem.sandbox.fixtures import CLIENT_ID, TERMINAL_ID
from tolem.web.api import LATER, NOT_SPOKEN, api_routes
from tolem.web.app import TOKEN_PATHS
from tolem.web.cards import card_routes
from tolem.web.messages import message_routes
from tolem.wire.status import ResultCode, StatusName

# Status --------------------------------------------------------------------------------------------------------------


async def test_a_shop_polls_the_status_until_it_is_paid(database_url: str) -> None:
    async with running_gateway(database_url) as gateway:
        shop = await service(gateway.app, terminal=str(TERMINAL_ID))
        caller = Caller(gateway.app)
        assert (await shop.status())["resultCode"] == "102"
        path = await caller.page(INVOICE)
        told = await shop.status()
        assert (told["resultCode"], told["transaction"]["statusName"]) == ("107", "NEW")
        assert (await caller.pay(path, LOCKED_CARD)).state == "declined"
        told = await shop.status()
        assert (told["resultCode"], told["transaction"]["statusName"]) == ("107", "REJECT")
        rejected = told["transaction"]["id"]
        assert (await caller.pay(path, APPROVED_CARD)).state == "approved"
        told = await shop.status()
        assert (told["resultCode"], told["resultMessage"]) == ("100", "SUCCESS")
        transaction = told["transaction"]
        assert (transaction["statusName"], transaction["amount"], transaction["secure"]) == ("CHARGE", 100, True)
        assert transaction["id"] != rejected

        for id, status, result in ((transaction["id"], "CHARGE", "100"), (rejected, "REJECT", "101")):
            for prefix in ("", "/api"):
                one = (await shop.get(f"{prefix}/check-status/payment/transactionId/{id}")).json()
                assert (one["resultCode"], one["transaction"]["statusName"]) == (result, status)
                assert one["transaction"]["id"] == id


async def test_a_failed_order_is_rejected_and_a_new_token_begins_anew(database_url: str) -> None:
    async with paid_attempt(database_url, LOCKED_CARD) as (shop, caller, terminal):
        told = await shop.status()
        assert (told["resultCode"], told["transaction"]["statusName"]) == ("101", "REJECT")
        await caller.token(INVOICE, terminal=terminal, amount="200")
        told = await shop.status()
        assert (told["resultCode"], told["transaction"]["statusName"]) == ("107", "NEW")
        assert told["transaction"]["amount"] == 200


@asynccontextmanager
async def paid_attempt(database_url: str, card: str) -> AsyncIterator[tuple[ShopServer, Caller, str]]:
    """An order whose only permitted attempt was made with `card`."""
    async with running_gateway(database_url) as gateway:
        admin = Administration(gateway.store, SystemClock(), Ids())
        terminal = str((await admin.add_terminal(CLIENT_ID, "Kiosk", attempts_max=1)).id)
        caller = Caller(gateway.app)
        await caller.pay(await caller.page(INVOICE, terminal=terminal), card)
        yield await service(gateway.app, terminal=terminal), caller, terminal


async def test_the_amounts_of_a_hold_a_capture_and_refunds(database_url: str) -> None:
    async with paid_shop(database_url) as (till, shop):

        async def amounts() -> tuple[str, float, float, float]:
            told = (await shop.status())["transaction"]
            return told["statusName"], told["orgAmount"], told["payoutAmount"], told["amount"]

        assert await amounts() == ("AUTH", 100, 0, 100)
        assert (await shop.operate(till.payment_id, "charge", {"amount": 80.5})).status == 200
        assert await amounts() == ("CHARGE", 100, 0, 80.5)
        assert (await shop.operate(till.payment_id, "refund", amount="30.25")).status == 200
        assert await amounts() == ("CHARGE", 100, 30.25, 50.25)
        assert (await shop.operate(till.payment_id, "refund")).status == 200
        assert await amounts() == ("REFUND", 100, 80.5, 0)


async def test_a_cancelled_hold(database_url: str) -> None:
    async with paid_shop(database_url) as (till, shop):
        assert (await shop.operate(till.payment_id, "cancel")).json() == {"code": 0, "message": ""}
        told = (await shop.status())["transaction"]
        assert (told["statusName"], told["amount"], told["orgAmount"]) == ("CANCEL", 0, 100)


async def test_an_orders_own_token_tells_that_order_only(database_url: str) -> None:
    async with paid_till(database_url) as till:
        caller = Caller(till.gateway.app)
        token = await caller.token(INVOICE, terminal=str(till.terminal.id), scope="statistics")
        shop = ShopServer(caller, token["access_token"])
        assert (await shop.status())["transaction"]["statusName"] == "AUTH"
        by_id = await shop.get(f"/check-status/payment/transactionId/{till.payment_id}")
        assert by_id.json()["resultCode"] == "100"
        for path in (
            "/check-status/payment/transaction/000000002",
            f"/check-status/payment/transactionId/{uuid4()}",
        ):
            answer = await shop.get(path)
            assert_error(answer, 403, "another order")
            assert (answer.json()["resultCode"], answer.json()["transaction"]) == ("103", None)


async def test_whose_terminal_it_is(database_url: str) -> None:
    async with paid_shop(database_url) as (till, shop):
        gateway, by_id = till.gateway, f"/check-status/payment/transactionId/{till.payment_id}"
        without = await service(gateway.app)
        told = await without.status()
        assert (told["resultCode"], told["transaction"], told["code"]) == ("104", None, 100)
        assert "terminal" in told["resultMessage"]
        assert (await without.get(by_id)).json()["resultCode"] == "100"  # the payment names its terminal
        other = await service(gateway.app, terminal=str(TERMINAL_ID))
        assert (await other.get(by_id)).json()["resultCode"] == "106"
        assert (await other.status())["resultCode"] == "102"  # invoices are numbered per terminal
        foreign = await stranger(gateway)
        assert (await foreign.get(by_id)).json()["resultCode"] == "109"
        assert (await foreign.status())["resultCode"] == "102"
        unknown = await shop.get(f"/check-status/payment/transactionId/{uuid4()}")
        assert (unknown.status, unknown.json()["resultCode"]) == (200, "102")


async def test_the_scheme_in_any_case_and_head(sqlite_url: str) -> None:
    async with paid_shop(sqlite_url) as (_, shop):
        shop.headers = {"authorization": shop.headers["authorization"].replace("Bearer", "bearer")}
        path = f"/api//check-status/payment/transaction/{INVOICE}"
        answer = await shop.get(path)
        head = await shop.caller.call("HEAD", path, headers=shop.headers)
        assert (head.status, head.body) == (200, b"")
        assert head.headers["content-length"] == answer.headers["content-length"]


# The edge ------------------------------------------------------------------------------------------------------------


class Operator:
    """Stands in for the flow: answers or raises what a test says."""

    def __init__(self, outcome: MoneyResult | Exception) -> None:
        self.outcome = outcome

    async def move(self, bearer: Any, request: Any) -> MoneyResult:
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome

    async def note_told(self, result: MoneyResult) -> None:
        assert result is self.outcome


class Doorkeeper:
    """Stands in for the check of tokens."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error

    async def authenticate(self, token: str) -> Any:
        if self.error:
            raise self.error
        return SimpleNamespace(merchant=SimpleNamespace(client_id=CLIENT_ID))


def shop_of(outcome: MoneyResult | Exception, error: Exception | None = None) -> ShopServer:
    door: Any = Doorkeeper(error)
    operator: Any = Operator(outcome)
    unasked: Any = None
    return ShopServer(Caller(Starlette(routes=api_routes(door, unasked, operator))), "token")


@pytest.mark.parametrize(
    ("outcome", "status", "code", "words"),
    (
        (MoneyResult(True, True), 200, 0, ""),
        (MoneyResult(True, False, 466), 400, 466, "Declined, call your bank"),
        (MoneyResult(False), 503, 454, "ask the status"),
        (Overloaded("away"), 503, 461, "nothing was asked of the acquirer; try again"),
        (Refused(Refusal.IN_PROGRESS, "why"), 409, 100, "why"),
        (Refused(Refusal.KEY_REUSED, "why"), 409, 100, "why"),
        (Refused(Refusal.WRONG_STATE, "why"), 400, 100, "why"),
        (Refused(Refusal.NOT_FOUND, "why"), 404, 100, "why"),
    ),
)
async def test_every_outcome_has_its_answer(
    outcome: MoneyResult | Exception, status: int, code: int, words: str
) -> None:
    assert_error(await shop_of(outcome).operate(uuid4(), "refund"), status, words, code)


async def test_a_fault_is_told_by_its_incident_and_logged_once() -> None:
    with capture_logs() as logs:
        answer = await shop_of(RuntimeError("4405639704015096")).operate(uuid4(), "refund")
    assert_error(answer, 500, "incident", code=456)
    assert "4405639704015096" not in answer.text
    (line,) = logs
    assert (line["event"], line["incident"]) == ("fault", answer.json()["incident"])


async def test_too_much_waits_before_anything_was_asked() -> None:
    shop = shop_of(MoneyResult(True, True), Overloaded("full"))
    for answer in (
        await shop.operate(uuid4(), "refund"),
        await shop.get(f"/check-status/payment/transaction/{INVOICE}"),
    ):
        assert_error(answer, 503, "try again", code=461)
        assert answer.headers["retry-after"] == "1"


async def test_methods() -> None:
    shop = shop_of(MoneyResult(True, True))
    got = await shop.get(f"/operation/{uuid4()}/charge")
    assert_error(got, 405, "POST")
    assert got.headers["allow"] == "POST"
    posted = await shop.post(f"/check-status/payment/transaction/{INVOICE}")
    assert_error(posted, 405, "GET")
    assert posted.headers["allow"] == "GET, HEAD"


@pytest.mark.parametrize("path", (*LATER, *NOT_SPOKEN))
async def test_parts_that_are_known_and_not_there(path: str) -> None:
    shop = shop_of(MoneyResult(True, True))
    concrete = path.replace("{rest:path}", "a/b").replace("{id}", "1")
    words = "not available yet" if path in LATER else "not available here"
    for prefix in ("", "/api"):
        for answer in (await shop.get(prefix + concrete), await shop.post(prefix + concrete, {"amount": 1})):
            assert_error(answer, 501, words)


def test_openapi_describes_what_is_served() -> None:
    text = (Path(tolem.wire.__file__).parent / "openapi.yaml").read_text(encoding="utf-8")
    described = set(re.findall(r"^  (/[^:]+):$", text, re.MULTILINE)) - set(TOKEN_PATHS)
    unasked: Any = None
    routes = [*api_routes(unasked, unasked, unasked), *message_routes(unasked, unasked, unasked, unasked)]
    routes += card_routes(unasked, unasked)
    served = {route.path for route in routes} - {*LATER, *NOT_SPOKEN}
    assert described == {path.replace(":path}", "}") for path in served if not path.startswith("/api/")}
    names = re.search(r"statusName: \{enum: \[([^]]+)]}", text)
    results = re.search(r"resultCode:\n +enum: \[([^]]+)]", text)
    assert names
    assert results
    assert names[1].split(", ") == list(StatusName)
    assert {*json.loads(f"[{results[1]}]"), ResultCode.ERROR} == set(ResultCode)


async def test_a_client_that_goes_away_is_not_answered() -> None:
    app: Any = shop_of(MoneyResult(True, True)).caller.app
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    path = f"/operation/{uuid4()}/charge"
    scope = {
        "type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "root_path": "", "query_string": b"",
        "headers": [(b"content-type", b"application/json")],
    }  # fmt: skip
    await app(scope, receive, send)
    assert sent == []
