"""Bad input at the edge: each gets a clear answer, is logged once, and changes nothing."""

import asyncio
import base64
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from structlog.testing import capture_logs
from tests.gateway import APPROVED_CARD, ORIGIN, Answer, Caller, running_gateway

from tolem.sandbox.fixtures import TERMINAL_ID
from tolem.storage import keys
from tolem.storage.change import Unavailable
from tolem.storage.store import Store
from tolem.web import http
from tolem.wire.lzstring import decompress

INVOICE = "000000001"
REAL_LOOKING_CARD = "4111111111111111"


class Watched(Caller):
    """A caller that can say whether anything was stored."""

    def __init__(self, app: Any, store: Store) -> None:
        super().__init__(app)
        self.store = store

    async def has_order(self, invoice: str = INVOICE) -> bool:
        return await self.store.find(keys.order_by_invoice(TERMINAL_ID, invoice)) is not None

    async def payment_count(self) -> int:
        history = await self.store.find(keys.order_by_invoice(TERMINAL_ID, INVOICE))
        return len(history.payments) if history else 0


@asynccontextmanager
async def watched(database_url: str) -> AsyncIterator[Watched]:
    async with running_gateway(database_url) as gateway:
        yield Watched(gateway.app, gateway.store)


def assert_oauth_error(answer: Answer, status: int, error: str, words: str) -> None:
    assert answer.status == status, answer.text
    body = answer.json()
    assert body["error"] == error
    assert isinstance(body["code"], int)
    assert words.lower() in body["message"].lower()
    assert "Traceback" not in answer.text
    assert answer.headers["access-control-allow-origin"] == "*"


@pytest.mark.parametrize(
    ("changes", "status", "error", "words"),
    (
        ({"client_secret": "x" * 36}, 401, "invalid_client", "client_id or client_secret"),
        ({"client_id": "nobody"}, 401, "invalid_client", "client_id or client_secret"),
        ({"terminal": "00000000-0000-4000-8000-000000000000"}, 400, "invalid_request", "not one of client"),
        ({"terminal": "terminal"}, 400, "invalid_request", "UUID"),
        ({"amount": "-1"}, 400, "invalid_request", "plain decimal"),
        ({"amount": "1.001"}, 400, "invalid_request", "decimals"),
        ({"amount": "1000000000000000"}, 400, "invalid_request", "is above 9999999999.99 KZT"),
        ({"amount": "1" * 32}, 400, "invalid_request", "is above 9999999999.99 KZT"),
        ({"amount": "NaN"}, 400, "invalid_request", "plain decimal"),
        ({"amount": "1e3"}, 400, "invalid_request", "plain decimal"),
        ({"currency": "XYZ"}, 400, "invalid_request", "not known"),
        ({"currency": "EUR"}, 400, "invalid_request", "takes KZT"),
        ({"invoiceID": ""}, 400, "invalid_request", "invoiceID is missing"),
        ({"invoiceID": "1" * 200}, 400, "invalid_request", "6 to 15 digits"),
        ({"invoiceID": "abc123"}, 400, "invalid_request", "6 to 15 digits"),
        ({"grant_type": "password"}, 400, "unsupported_grant_type", "client_credentials"),
        ({"grant_type": ""}, 400, "unsupported_grant_type", "client_credentials"),
        ({"scope": "transfer"}, 400, "invalid_scope", "not available"),
        ({"scope": "everything"}, 400, "invalid_scope", "not known"),
        ({"postLink": "javascript:alert(1)"}, 400, "invalid_request", "postLink"),
        ({"postLink": "https://user:secret@shop.example/"}, 400, "invalid_request", "postLink"),
        ({"secret_hash": "a\0b"}, 400, "invalid_request", "control character"),
    ),
)
async def test_token_requests_that_are_refused(
    sqlite_url: str, changes: dict[str, str], status: int, error: str, words: str
) -> None:
    async with watched(sqlite_url) as caller:
        with capture_logs() as logs:
            answer = await caller.request_token(INVOICE, **changes)
        assert_oauth_error(answer, status, error, words)
        assert not await caller.has_order()
        assert [line["event"] for line in logs] == ["token_refused"]
        assert "yF587AV9Ms94qN2QShFzVR3vFnWkhjbAK3sG" not in repr(logs)


@pytest.mark.parametrize(
    ("content_type", "body", "status", "words"),
    (
        ("text/plain", b"grant_type=client_credentials", 400, "content type"),
        ("", b"", 400, "content type"),
        ("application/json", b"{", 400, "JSON"),
        ("application/json", b"[1]", 400, "object"),
        ("application/json", b'{"client_id": {"a": 1}}', 400, "text or a number"),
        ("application/json", b"[" * 5000, 400, "JSON"),
        ("application/x-www-form-urlencoded", b"client_id=%ff%fe", 400, "UTF-8"),
        ("application/x-www-form-urlencoded", b"\xff\xfe", 400, "UTF-8"),
        ("multipart/form-data; boundary=x", b"--x\r\nbroken", 400, "multipart"),
        ("multipart/form-data", b"", 400, "multipart"),
        ("application/json", b'{"a": "' + b"x" * 20_000 + b'"}', 413, "larger"),
    ),
)
async def test_token_bodies_that_cannot_be_read(
    sqlite_url: str, content_type: str, body: bytes, status: int, words: str
) -> None:
    async with watched(sqlite_url) as caller:
        answer = await caller.call("POST", "/oauth2/token", body, {"content-type": content_type})
        assert_oauth_error(answer, status, "invalid_request", words)


async def test_a_body_without_a_length_is_cut_off_at_the_limit(sqlite_url: str) -> None:
    async with watched(sqlite_url) as caller:
        head = {"content-type": "application/json"}
        answer = await caller.call("POST", "/oauth2/token", b"x" * 40_000, head, chunks=10)
        assert_oauth_error(answer, 413, "invalid_request", "larger")


async def test_a_body_that_never_ends_is_waited_for_in_bounds(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with watched(sqlite_url) as caller:
        path = await caller.page(INVOICE)
        bearer = {"authorization": f"Bearer {(await caller.token('000000002'))['access_token']}"}
        form = {"content-type": "application/x-www-form-urlencoded", "origin": ORIGIN}
        monkeypatch.setattr(http, "BODY_SECONDS_MAX", 0.01)
        caller.stalls = True
        for route, head in (
            ("/oauth2/token", {"content-type": "application/json"}),
            (f"/operation/{TERMINAL_ID}/charge", bearer | {"content-type": "application/json"}),
            ("/payform/", form),
            (path, form),
        ):
            with capture_logs() as logs:
                answer = await caller.call("POST", route, b"a", head)
            assert (answer.status, answer.headers["connection"]) == (408, "close"), route
            if "json" in answer.headers["content-type"]:
                assert "not complete after 0.01 seconds" in answer.json()["message"]
            else:
                assert answer.state == ("form" if route == path else "invalid")
            assert [entry["reason"] for entry in logs] == [
                "the body was not complete after 0.01 seconds: send it at once"
            ]
        assert await caller.payment_count() == 0


@pytest.mark.parametrize(
    ("host", "path", "content_type"),
    (
        ("gateway.test", "/sandbox/faults", "application/json"),
        ("acs.localhost", "/challenge", "application/x-www-form-urlencoded"),
    ),
)
async def test_hanging_up_in_the_middle_of_a_body_is_no_fault(
    sqlite_url: str, host: str, path: str, content_type: str
) -> None:
    async with watched(sqlite_url) as caller:
        caller.stalls = True
        caller.gone.set()
        with capture_logs() as logs:
            await caller.call("POST", path, b"{", {"host": host, "content-type": content_type})
        assert [entry for entry in logs if entry["log_level"] != "info"] == []


async def test_wrong_secrets_are_limited_by_address_and_never_lock_the_shop_out(sqlite_url: str) -> None:
    async with watched(sqlite_url) as caller:
        answers = [await caller.request_token(INVOICE, client_secret="wrong" * 8) for _ in range(12)]
        assert [answer.status for answer in answers] == [401] * 10 + [429] * 2
        assert answers[-1].headers["retry-after"] == "60"
        other = {"content-type": "application/json"}
        body = json.dumps(caller.token_fields(INVOICE)).encode()
        assert (await caller.call("POST", "/oauth2/token", body, other)).status == 429  # the guesser's address
        caller.address = "203.0.113.77"
        assert (await caller.call("POST", "/oauth2/token", body, other)).status == 200


async def test_the_token_answer_is_the_samples(sqlite_url: str) -> None:
    async with watched(sqlite_url) as caller:
        for path in ("/epay2/oauth2/token", "/oauth2/token", "//epay2//oauth2/token"):
            answer = await caller.form(path, caller.token_fields(INVOICE))
            body = answer.json()
            assert list(body) == ["access_token", "expires_in", "refresh_token", "scope", "token_type"]
            assert (body["expires_in"], body["refresh_token"], body["token_type"]) == (7200, "", "Bearer")
            assert len(body["access_token"]) == 22
            assert answer.headers["cache-control"] == "no-store"
        basic = "Basic " + base64.b64encode(b"test:yF587AV9Ms94qN2QShFzVR3vFnWkhjbAK3sG").decode()
        fields = {"grant_type": "client_credentials", "scope": "payment"}
        service = await caller.form("/oauth2/token", fields, {"authorization": basic})
        assert service.status == 200


async def test_browsers_may_ask_for_a_token(sqlite_url: str) -> None:
    async with watched(sqlite_url) as caller:
        answer = await caller.call("OPTIONS", "/oauth2/token", headers={"origin": "https://shop.example"})
        assert answer.status == 204
        assert "POST" in answer.headers["access-control-allow-methods"]
        for path in ("/oauth2/token", "/oauth2/token/", "/epay2/oauth2/token/"):
            assert (await caller.get(path)).status == 405
        answer = await caller.form("/epay2//oauth2/token/", caller.token_fields(INVOICE))
        assert answer.status == 200


async def test_a_refusal_speaks_the_pay_objects_language(sqlite_url: str) -> None:
    async with watched(sqlite_url) as caller:
        token = await caller.token(INVOICE)
        for language in ("rus", "ENG"):
            answer = await caller.open(token, INVOICE, language=language, amount=99)
            assert answer.status == 400
            assert f'<html lang="{language[:2].lower()}"' in answer.text


@pytest.mark.parametrize(
    ("changes", "words"),
    (
        ({"amount": 99}, "amount is"),
        ({"amount": "1e2"}, "plain decimal"),
        ({"amount": 0}, "amount is"),
        ({"currency": "USD"}, "currency is"),
        ({"terminal": "00000000-0000-4000-8000-000000000000"}, "terminal is"),
        ({"invoiceId": "000000002"}, "invoiceId is"),
        ({"backLink": "javascript:alert(1)"}, "backLink"),
        ({"failureBackLink": "data:text/html,x"}, "failureBackLink"),
        ({"backLink": "https://user:pw@shop.example/"}, "backLink"),
        ({"description": "о" * 63}, "125"),
        ({"paymentType": "cardVerification"}, "cardVerification"),
        ({"auth": ""}, "auth"),
        ({"auth": "invented-token-000000000"}, "unknown or has expired"),
    ),
)
async def test_pay_objects_that_contradict_the_token(sqlite_url: str, changes: dict[str, Any], words: str) -> None:
    async with watched(sqlite_url) as caller:
        token = await caller.token(INVOICE)
        with capture_logs() as logs:
            answer = await caller.open(token, INVOICE, **changes)
        assert answer.status == 400
        assert answer.state == "invalid"
        assert words in answer.text
        assert [line["event"] for line in logs] == ["page_refused"]
        history = await caller.store.find(keys.order_by_invoice(TERMINAL_ID, INVOICE))
        assert history is not None
        assert logs[0]["order"] == (None if "auth" in changes else str(history.order.id))
        assert history.order.opened_at is None


async def test_a_token_of_another_order_opens_nothing(sqlite_url: str) -> None:
    async with watched(sqlite_url) as caller:
        other = await caller.token("000000002")
        await caller.token(INVOICE)
        assert (await caller.open(other, INVOICE)).status == 400


async def test_a_service_token_opens_no_page(sqlite_url: str) -> None:
    async with watched(sqlite_url) as caller:
        fields = caller.token_fields("", amount="", terminal="", currency="")
        token = (await caller.form("/oauth2/token", {k: v for k, v in fields.items() if v})).json()
        answer = await caller.open(token, INVOICE)
        assert answer.status == 400
        assert "service token" in answer.text


@pytest.mark.parametrize(
    "params",
    ("", "{", "null", "[]", "{}", "N4Ig", "%00", "A" * 20_000, "[" * 3000, '{"a":' * 10 + "1" + "}" * 10),
)
async def test_broken_params(sqlite_url: str, params: str) -> None:
    async with watched(sqlite_url) as caller:
        posted = await caller.form("/payform/", {"params": params})
        assert posted.status == 400
        assert posted.state == "invalid"
        got = await caller.get(f"/redesign-payform/?params={params if params.isalnum() else 'N4Ig'}")
        assert got.status == 400
        assert got.state == "invalid"


def test_the_bomb_below_is_one() -> None:
    with pytest.raises(ValueError, match=r"."):
        decompress(bomb(), 64 * 1024)


def bomb() -> str:
    """An address of some hundred characters that would unfold to megabytes."""
    return "IYg" + "w" * 3000


async def test_a_bomb_is_refused_quickly(sqlite_url: str) -> None:
    async with watched(sqlite_url) as caller:
        started = asyncio.get_running_loop().time()
        assert (await caller.get(f"/payform/?params={bomb()}")).status == 400
        assert asyncio.get_running_loop().time() - started < 0.5


async def test_forms_of_the_wrong_kind_or_size(sqlite_url: str) -> None:
    async with watched(sqlite_url) as caller:
        path = await caller.page(INVOICE)
        assert (await caller.call("POST", "/payform/", b"{}", {"content-type": "application/json"})).status == 400
        assert (await caller.form("/payform/", {"params": "x" * 70_000})).status == 413
        assert (await caller.submit(path, "4" * 9000)).status == 413
        json_form = await caller.call("POST", path, b"{}", {"content-type": "application/json", "origin": ORIGIN})
        assert json_form.status == 400
        latin = {"content-type": "application/x-www-form-urlencoded", "origin": ORIGIN}
        assert (await caller.call("POST", path, b"cc-name=\xff", latin)).status == 400
        assert (await caller.call("PUT", path)).status == 405
        assert (await caller.call("DELETE", "/payform/")).status == 405
        assert await caller.payment_count() == 0


@pytest.mark.parametrize(
    "headers",
    (
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
        {"referer": "https://evil.example/"},
        {"referer": f"{ORIGIN}@evil.example/"},
        {"origin": ORIGIN + "0"},
    ),
)
async def test_a_card_form_posted_from_elsewhere_is_refused(sqlite_url: str, headers: dict[str, str]) -> None:
    async with watched(sqlite_url) as caller:
        path = await caller.page(INVOICE)
        fields = {"cc-number": APPROVED_CARD, "cc-exp": "12/30", "cc-csc": "123", "cc-name": "A B"}
        answer = await caller.form(path, fields, headers)
        assert answer.status == 403
        assert answer.state == "invalid"
        assert (await caller.form(f"{path}/leave", {}, headers)).status == 403
        assert await caller.payment_count() == 0
        assert (await caller.get(path)).state == "form"


async def test_a_mistyped_card_is_told_beside_its_field_and_costs_no_attempt(sqlite_url: str) -> None:
    async with watched(sqlite_url) as caller:
        path = await caller.page(INVOICE)
        answer = await caller.submit(path, "4405 63O7 0401 5096", cc_exp="13/30", cc_csc="12", cc_name="")
        assert answer.status == 422
        assert answer.state == "form"
        for field in ("cc-number", "cc-exp", "cc-csc", "cc-name"):
            assert f'id="{field}-error"' in answer.text
        assert "63O7" not in answer.text
        assert await caller.payment_count() == 0
        assert (await caller.pay(path, "4405-6397 0401 5096")).state == "approved"


async def test_a_card_outside_the_table_is_turned_away(sqlite_url: str) -> None:
    async with watched(sqlite_url) as caller:
        path = await caller.page(INVOICE)
        with capture_logs() as logs:
            answer = await caller.submit(path, REAL_LOOKING_CARD)
        assert answer.status == 422
        assert 'id="cc-number-error"' in answer.text
        assert REAL_LOOKING_CARD not in answer.text + repr(logs)
        assert await caller.payment_count() == 0


async def test_all_that_is_wrong_is_told_at_once_also_what_only_the_acquirer_knows(sqlite_url: str) -> None:
    async with watched(sqlite_url) as caller:
        path = await caller.page(INVOICE)
        answer = await caller.submit(path, REAL_LOOKING_CARD, cc_exp="01/20", cc_csc="12", cc_name="")
        told = set(re.findall('data-problem="([a-z_0-9]+)"', answer.text))
        assert told == {"number_not_sandbox", "expiry_past", "cvc_length_3", "name_missing"}


async def test_pages_that_do_not_exist(sqlite_url: str) -> None:
    async with watched(sqlite_url) as caller:
        for path in ("/pay/", "/pay/invented", "/pay/%00", "/pay/" + "x" * 3000, "/pay/a/b/c"):
            answer = await caller.get(path)
            assert answer.status == 404
            assert answer.state == "invalid"
        assert (await caller.get("/pay/invented/state")).status == 404
        missing = await caller.get("/nothing/here")
        assert missing.status == 404
        assert missing.json()["code"] == 100


async def test_ways_of_paying_that_are_not_spoken(sqlite_url: str) -> None:
    async with watched(sqlite_url) as caller:
        token = await caller.token(INVOICE)
        wish = {"invoiceId": INVOICE, "amount": 100, "auth": token}
        for flag in ("isTransfer", "isAFT", "isOCT"):
            answer = await caller.form("/payform/", {"params": json.dumps(wish), flag: "true"})
            assert answer.status == 501
            assert answer.state == "invalid"
        assert (await caller.open(token, INVOICE, paymentType="cardId")).status == 501


async def test_a_fault_of_ours_has_an_incident_number_and_one_line(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with watched(sqlite_url) as caller:
        path = await caller.page(INVOICE)

        async def broken(*_: Any) -> None:
            raise RuntimeError("the disk is on fire")

        monkeypatch.setattr(caller.store, "find", broken)
        with capture_logs() as logs:
            page = await caller.get(path)
        assert page.status == 500
        (line,) = [line for line in logs if line["log_level"] == "error"]
        assert line["incident"] in page.text
        assert "disk is on fire" not in page.text
        monkeypatch.setattr(caller.store, "change", broken)
        with capture_logs() as logs:
            answer = await caller.request_token("000000099")
        assert answer.status == 500
        (line,) = [line for line in logs if line["log_level"] == "error"]
        assert answer.json()["incident"] == line["incident"]
        assert line["incident"] in answer.json()["error_description"]
        assert "fire" not in answer.text


async def test_a_database_that_is_away_or_locked_is_told_as_such(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with watched(sqlite_url) as caller:

        async def locked(*_: Any) -> None:
            raise Unavailable("/srv/tolem.db is being written by another process")

        monkeypatch.setattr(caller.store, "change", locked)
        answer = await caller.request_token(INVOICE)
        assert_oauth_error(answer, 503, "temporarily_unavailable", "nothing was changed: try again")
        assert answer.json()["error_description"] == answer.json()["message"]
        assert answer.headers["retry-after"] == "1"
        assert "/srv" not in answer.text
