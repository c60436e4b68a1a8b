"""The client against a gateway that answers well, refuses, answers rubbish, or is not there."""

import json
import socket
from decimal import Decimal

import pytest

from tests.merchant.gateway import CLIENT_ID, CLIENT_SECRET, TERMINAL, TOKEN, FakeGateway
from tolem.merchant import Client, OrderRequest, TemporaryError, Token, TokenError
from tolem.merchant import client as client_module

ORDER = OrderRequest(
    invoice_id="000000001",
    amount=Decimal("1850.50"),
    secret_hash="JDKCNDDGGDTPSKJD",
    post_link="https://shop.example/notify",
)


async def request(gateway: FakeGateway, order: OrderRequest = ORDER) -> Token:
    async with Client(gateway.url, CLIENT_ID, CLIENT_SECRET, TERMINAL) as client:
        return await client.request_token(order)


async def test_form_is_the_documentations(gateway: FakeGateway) -> None:
    token = await request(gateway)
    assert gateway.content_types == ["multipart/form-data"]
    assert gateway.requests == [
        {
            "grant_type": "client_credentials",
            "scope": "payment",
            "client_id": CLIENT_ID,
            "client_secret": CLIENT_SECRET,
            "invoiceID": "000000001",
            "secret_hash": "JDKCNDDGGDTPSKJD",
            "amount": "1850.50",
            "currency": "KZT",
            "terminal": TERMINAL,
            "postLink": "https://shop.example/notify",
            "failurePostLink": "",
        }
    ]
    assert token == Token(access_token=str(TOKEN["access_token"]), terminal_id=TERMINAL, expires_in=7200)
    assert token.as_auth() == TOKEN


async def test_account_and_failure_link_are_sent(gateway: FakeGateway) -> None:
    order = OrderRequest(
        invoice_id="000000002",
        amount=1,
        secret_hash="s",
        failure_post_link="https://shop.example/no",
        account_id="покупатель-1",
    )
    await request(gateway, order)
    assert gateway.requests[0]["accountId"] == "покупатель-1"
    assert gateway.requests[0]["failurePostLink"] == "https://shop.example/no"


async def test_lifetime_in_text(gateway: FakeGateway) -> None:
    gateway.answer = json.dumps(TOKEN | {"expires_in": "1200"}).encode()
    assert (await request(gateway)).expires_in == 1200


@pytest.mark.parametrize(
    ("status", "answer", "code", "message"),
    (
        (401, b'{"error":"invalid_client","code":1007,"message":"wrong secret"}', 1007, "wrong secret"),
        (400, b'{"error":"invalid_request","error_description":"no amount"}', 0, "no amount"),
        (400, b'{"error":"invalid_scope","code":"12"}', 12, "invalid_scope"),
        (400, b"{}", 0, "the answer has no access_token"),
        (200, b'{"access_token":""}', 0, "the answer has no access_token"),
        (200, b'{"access_token":7}', 0, "the answer has no access_token"),
        (200, b"<h1>nginx</h1>", 0, "is not JSON of a token: '<h1>nginx</h1>'"),
        (200, b"[]", 0, "is not JSON of a token"),
        (200, b"[" * 5000, 0, "is not JSON of a token"),
        (404, b"\xff\xfe", 0, "is not JSON of a token"),
        (200, json.dumps(TOKEN | {"scope": "x" * 70_000}).encode(), 0, "is not JSON of a token"),
    ),
)
async def test_refusals(gateway: FakeGateway, status: int, answer: bytes, code: int, message: str) -> None:
    gateway.status, gateway.answer = status, answer
    with pytest.raises(TokenError) as caught:
        await request(gateway)
    assert (caught.value.code, caught.value.status) == (code, status)
    assert message in caught.value.message
    assert CLIENT_SECRET not in str(caught.value)


@pytest.mark.parametrize("status", (500, 502, 503, 429, 408))
async def test_gateway_in_trouble_is_temporary(gateway: FakeGateway, status: int) -> None:
    gateway.status = status
    with pytest.raises(TemporaryError, match=f"HTTP {status}"):
        await request(gateway)


async def test_redirect_does_not_carry_the_secret_away(gateway: FakeGateway) -> None:
    gateway.status, gateway.answer, gateway.location = 307, b"", gateway.url + "/oauth2/token"
    with pytest.raises(TokenError):
        await request(gateway)
    assert len(gateway.requests) == 1


async def test_slow_gateway_is_temporary(gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    assert client_module.DEADLINE_SECONDS == 10
    monkeypatch.setattr(client_module, "DEADLINE_SECONDS", 0.1)
    gateway.delay_seconds = 5
    with pytest.raises(TemporaryError, match="did not answer"):
        await request(gateway)


async def test_absent_gateway_is_temporary() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening: connections are refused
        address = f"http://127.0.0.1:{taken.getsockname()[1]}"
        async with Client(address, CLIENT_ID, CLIENT_SECRET, TERMINAL) as client:
            with pytest.raises(TemporaryError, match="can't be reached"):
                await client.request_token(ORDER)


async def test_other_path(gateway: FakeGateway) -> None:
    async with Client(gateway.url + "/", "test", "s", TERMINAL, token_path="/oauth2/token") as client:
        assert (await client.request_token(ORDER)).access_token == TOKEN["access_token"]


async def test_use_outside_of_the_context_is_explained() -> None:
    client = Client("http://127.0.0.1:8700", "test", "s", TERMINAL)
    with pytest.raises(RuntimeError, match="async with"):
        await client.request_token(ORDER)


@pytest.mark.parametrize("address", ("", "127.0.0.1:8700", "ftp://x", "http://"))
def test_wrong_address(address: str) -> None:
    with pytest.raises(ValueError, match="not an http or https address"):
        Client(address, "test", "s", TERMINAL)
