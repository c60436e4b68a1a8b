"""The way of an order: bought, offered for payment, told, shown. Only a verified notification changes its status."""

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.merchant.gateway import CLIENT_SECRET, TERMINAL, TOKEN, WEBHOOK_SECRET, FakeGateway, sign
from tests.shop.visitor import SHOP, Visitor, visiting
from tolem.shop.goods import GOODS
from tolem.shop.orders import LOGGED_PER_ORDER_MAX


async def test_shelves_offer_every_article(visitor: Visitor) -> None:
    page = await visitor.get("/", "ru")
    assert page.status == 200
    for good in GOODS:
        assert good.name[0] in page.words
        assert f'name="good" value="{good.key}"' in page.text
    assert "1\u00a0850\u00a0₸" in page.text
    assert page.text.count('<svg viewBox="0 0 240 180"') == len(GOODS)


async def test_bought_order_is_offered_for_payment(visitor: Visitor) -> None:
    page = await visitor.buy("honey", lang="ru")
    assert page.order_status == "waiting"
    invoice = page.invoice_id
    assert invoice.isdecimal()
    assert len(invoice) == 12
    asked = visitor.gateway.requests[0]
    assert (asked["invoiceID"], asked["amount"], asked["currency"]) == (invoice, "3200", "KZT")
    assert asked["postLink"] == f"{SHOP}/notifications/epay"
    offered = page.pay_object
    assert offered["invoiceId"] == invoice
    assert offered["amount"] == 3200
    assert offered["terminal"] == TERMINAL
    assert offered["language"] == "rus"
    assert offered["description"] == "Мёд с предгорий"
    assert offered["backLink"] == offered["failureBackLink"] == f"{SHOP}/orders/{invoice}/return"
    assert offered["auth"] == TOKEN
    assert '<script src="http://pay.test/payform/payment-api.js" defer>' in page.text
    assert page.headers["cache-control"] == "no-store"
    assert asked["secret_hash"] not in page.text
    assert CLIENT_SECRET not in page.text


async def test_orders_have_numbers_of_their_own(visitor: Visitor) -> None:
    pages = await asyncio.gather(*(visitor.buy() for _ in range(20)))
    numbers = {page.invoice_id for page in pages}
    assert len(numbers) == len({number[-6:] for number in numbers}) == 20
    assert len({request["secret_hash"] for request in visitor.gateway.requests}) == 20


async def test_return_of_the_browser_proves_nothing(visitor: Visitor) -> None:
    here = f"/orders/{(await visitor.buy()).invoice_id}"
    page = await visitor.get(f"{here}/return")
    assert page.order_status == "waiting"
    assert "Waiting for the bank's confirmation" in page.words
    assert f'<meta http-equiv="refresh" content="1;url={here}/return?try=1">' in page.text
    assert (await visitor.get(here)).order_status == "waiting"


async def test_verified_notification_pays(visitor: Visitor) -> None:
    here = f"/orders/{(await visitor.buy()).invoice_id}"
    answer = await visitor.notify(cardMask="440563...5096", reference="632804123456")
    assert (answer.status, answer.text) == (200, "stored: accepted")
    for path in (here, f"{here}/return"):
        page = await visitor.get(path)
        assert page.order_status == "paid"
        assert "440563...5096" in page.words
        assert "632804123456" in page.words
        assert 'id="pay"' not in page.text
        assert "http-equiv" not in page.text
        assert page.verdicts == ["accepted"]


async def test_secret_is_not_shown_in_the_log(visitor: Visitor) -> None:
    here = f"/orders/{(await visitor.buy()).invoice_id}"
    await visitor.notify(amount=1)
    await visitor.notify()
    page = await visitor.get(here)
    assert page.verdicts == ["accepted", "rejected"]
    assert '"invoiceId"' in page.words
    assert visitor.gateway.requests[0]["secret_hash"] not in page.text


@pytest.mark.parametrize(
    ("reason_code", "reason", "language", "words"),
    (
        (467, "Your card is disabled", "ru", "Карта заблокирована код 467 · Your card is disabled"),
        (467, "Your card is disabled", "en", "The card is blocked code 467"),
        (599, "Strange <b>reason</b>", "en", "Strange <b>reason</b> code 599"),
    ),
)
async def test_declined_order_says_why(
    visitor: Visitor, reason_code: int, reason: str, language: str, words: str
) -> None:
    here = f"/orders/{(await visitor.buy()).invoice_id}?lang={language}"
    assert (await visitor.notify(is_paid=False, reasonCode=reason_code, reason=reason)).status == 200
    page = await visitor.get(here)
    assert page.order_status == "declined"
    assert words in page.words


async def test_nobody_says_that_nothing_was_taken_when_it_may_be_held(visitor: Visitor) -> None:
    here = f"/orders/{(await visitor.buy()).invoice_id}"
    await visitor.notify(is_paid=False, reasonCode=454, reason="Operation failed")
    words = (await visitor.get(here)).words
    assert "The bank may be holding the amount" in words
    assert "Nothing was taken" not in words


async def test_declined_order_is_paid_again(visitor: Visitor) -> None:
    invoice = (await visitor.buy()).invoice_id
    await visitor.notify(is_paid=False, id="first")
    assert 'id="pay-again"' in (await visitor.get(f"/orders/{invoice}")).text
    visitor.gateway.answer = json.dumps(TOKEN | {"access_token": "SECOND"}).encode()
    answer = await visitor.post(f"/orders/{invoice}/token")
    assert answer.status == 303
    page = await visitor.get(answer.headers["location"])
    assert page.order_status == "waiting"
    assert page.pay_object["auth"]["access_token"] == "SECOND"
    first, second = visitor.gateway.requests
    assert first == second
    # The first failure comes once more while the order is being paid: it is known, and declines nothing.
    assert (await visitor.notify(is_paid=False, id="first")).text == "stored: repeated"
    assert (await visitor.get(f"/orders/{invoice}")).order_status == "waiting"
    assert (await visitor.notify(id="second")).text == "stored: accepted"
    page = await visitor.get(f"/orders/{invoice}")
    assert page.order_status == "paid"
    assert page.verdicts == ["accepted", "repeated", "accepted"]


async def test_paid_order_stays_paid(visitor: Visitor) -> None:
    invoice = (await visitor.buy()).invoice_id
    told = visitor.gateway.post_link(id="paid")
    assert [(await visitor.tell(told)).text for _ in range(2)] == ["stored: accepted", "stored: repeated"]
    assert (await visitor.notify(is_paid=False, id="late")).text == "stored: overtaken"
    assert (await visitor.post(f"/orders/{invoice}/token")).status == 303
    assert len(visitor.gateway.requests) == 1
    assert (await visitor.get(f"/orders/{invoice}")).order_status == "paid"


@pytest.mark.parametrize(
    ("told", "standing", "words"),
    (
        ((("charge", 1850, 0),), "paid", "Charged 1 850 ₸"),
        ((("charge", 1000, 0), ("refund", "999.50", "999.50")), "paid", "Given back 999.50 ₸"),
        ((("charge", 1000, 0), ("refund", 600, 600), ("refund", 400, 1000)), "refunded", "Given back 400 ₸"),
        ((("refund", 1850, 1850),), "refunded", "All that was taken is given back"),
        ((("cancel", 1850, 0),), "cancelled", "The hold on the card is released"),
    ),
)
async def test_what_became_of_the_money_is_shown(
    visitor: Visitor, told: tuple[tuple[str, int | str, int | str], ...], standing: str, words: str
) -> None:
    here = f"/orders/{(await visitor.buy('tea')).invoice_id}"
    await visitor.notify()
    for operation in told:
        body = visitor.gateway.operation(*operation)
        assert [(await visitor.tell(body)).text for _ in range(2)] == ["stored: accepted", "stored: repeated"]
    page = await visitor.get(here)
    assert page.order_status == standing
    assert words in page.words
    assert re.findall(r'data-operation="([a-z]+)"', page.text) == [operation[0] for operation in told]
    assert page.verdicts == ["repeated", "accepted"] * len(told) + ["accepted"]
    # Whatever became of its money: nobody pays it again, and a repeat of the first notification changes nothing.
    assert (await visitor.notify()).text == "stored: repeated"
    assert (await visitor.post(f"{here}/token")).status == 303
    assert len(visitor.gateway.requests) == 1
    assert (await visitor.get(here)).order_status == standing


@pytest.mark.parametrize("code", ("charge", "cancel", "refund"))
async def test_an_operation_pays_for_nothing(visitor: Visitor, code: str) -> None:
    here = f"/orders/{(await visitor.buy('tea')).invoice_id}"
    answer = await visitor.tell(visitor.gateway.operation(code, 1850, 1850))
    assert (answer.status, answer.text) == (200, "stored: accepted")
    assert (await visitor.get(here)).order_status == "waiting"
    assert (await visitor.tell(visitor.gateway.operation(code, 1851, 1850))).status == 400
    await visitor.notify(is_paid=False)
    assert (await visitor.get(here)).order_status == "declined"


@pytest.mark.parametrize(
    ("changes", "words"),
    (
        ({"secret_hash": "forged"}, "secret_hash is not the one of this order"),
        ({"amount": 1}, "amount is '1', the order has '1850'"),
        ({"currency": "USD"}, "currency is 'USD'"),
        ({"terminal": "another"}, "terminal is 'another'"),
        ({"code": "maybe"}, "code is 'maybe'"),
    ),
)
async def test_forged_notification_changes_nothing(visitor: Visitor, changes: dict[str, Any], words: str) -> None:
    here = f"/orders/{(await visitor.buy('tea')).invoice_id}"
    answer = await visitor.notify(**changes)
    assert answer.status == 400
    assert words in answer.text
    page = await visitor.get(here)
    assert page.order_status == "waiting"
    assert page.verdicts == ["rejected"]
    assert words in page.words


async def test_notification_for_another_order_of_the_shop(visitor: Visitor) -> None:
    mine = (await visitor.buy()).invoice_id
    await visitor.buy()
    answer = await visitor.notify(invoiceId=mine)  # with the secret of the second order
    assert answer.status == 400
    assert (await visitor.get(f"/orders/{mine}")).order_status == "waiting"


@pytest.mark.parametrize(
    ("body", "status"),
    (
        (b"", 400),
        (b"not json", 400),
        (b'{"invoiceId":"<script>"}', 400),
        (b'{"invoiceId":"100000000000"}', 404),
        (b"[" * 60_000, 400),
        (b" " * 70_000, 413),
    ),
)
async def test_rubbish_is_refused_with_words(visitor: Visitor, body: bytes, status: int) -> None:
    answer = await visitor.tell(body)
    assert answer.status == status
    assert answer.text


async def test_flood_of_forgeries_leaves_a_short_log_and_the_truth(visitor: Visitor) -> None:
    here = f"/orders/{(await visitor.buy()).invoice_id}"
    await visitor.notify(is_paid=False, id="first")
    for _ in range(LOGGED_PER_ORDER_MAX + 5):
        await visitor.notify(secret_hash="forged", description="<script>alert(1)</script>" + "x" * 9000)
    assert (await visitor.notify(is_paid=False, id="first")).text == "stored: repeated"
    page = await visitor.get(here)
    assert len(page.verdicts) == LOGGED_PER_ORDER_MAX + 1
    assert page.verdicts[-1] == "accepted"
    assert "<script>alert" not in page.text
    assert len(page.body) < 200_000


async def test_restart_keeps_orders(gateway: FakeGateway, tmp_path: Path) -> None:
    database = str(tmp_path / "shop.db")
    async with visiting(gateway, database) as visitor:
        invoice = (await visitor.buy()).invoice_id
    async with visiting(gateway, database) as visitor:
        page = await visitor.get(f"/orders/{invoice}")
        assert page.order_status == "waiting"
        assert page.pay_object["auth"] == TOKEN
        await visitor.notify()
    async with visiting(gateway, database) as visitor:
        assert (await visitor.get(f"/orders/{invoice}")).order_status == "paid"
        assert (await visitor.notify()).text == "stored: repeated"


async def test_token_that_ends_soon_is_not_offered(visitor: Visitor) -> None:
    visitor.gateway.answer = json.dumps(TOKEN | {"expires_in": 30}).encode()
    page = await visitor.buy()
    assert 'id="pay"' not in page.text
    assert 'id="pay-object"' not in page.text
    assert "Continue to payment" in page.words
    visitor.gateway.answer = json.dumps(TOKEN).encode()
    answer = await visitor.post(f"/orders/{page.invoice_id}/token?lang=ru")
    page = await visitor.get(answer.headers["location"])
    assert "Оплатить 1\u00a0850\u00a0₸" in page.text


@pytest.mark.parametrize(
    ("status", "answer", "trouble", "words"),
    (
        (503, b"", "temporary", "does not answer"),
        (401, b'{"code":7,"message":"wrong <i>secret</i>"}', "refused", "wrong <i>secret</i> (code 7, HTTP 401)"),
    ),
)
async def test_no_token_is_said_clearly(visitor: Visitor, status: int, answer: bytes, trouble: str, words: str) -> None:
    visitor.gateway.status, visitor.gateway.answer = status, answer
    page = await visitor.post("/orders", good="tea")
    assert page.status == 502
    assert f'data-trouble="{trouble}"' in page.text
    assert words in page.words
    visitor.gateway.status, visitor.gateway.answer = 200, json.dumps(TOKEN).encode()
    again = await visitor.post(f"/orders/{page.invoice_id}/token")
    assert again.status == 303
    assert (await visitor.get(again.headers["location"])).pay_object["invoiceId"] == page.invoice_id


async def test_waiting_page_stops_asking(visitor: Visitor) -> None:
    here = f"/orders/{(await visitor.buy()).invoice_id}/return"
    page = await visitor.get(f"{here}?try=59&lang=en")
    assert f'content="10;url={here}?try=60&lang=en"'.replace("&", "&amp;") in page.text
    page = await visitor.get(f"{here}?try=60")
    assert "http-equiv" not in page.text
    assert "The bank is still silent" in page.words
    for odd in ("-1", "x", "1e9", "9" * 5000, "٣"):
        assert "?try=1" in (await visitor.get(f"{here}?try={odd}".replace("٣", "%D9%A3"))).text


async def test_with_a_webhook_secret_only_what_is_signed_counts(gateway: FakeGateway) -> None:
    other = "whsec_" + "A" * 44
    async with visiting(gateway, webhook_secret=WEBHOOK_SECRET) as visitor:
        here = f"/orders/{(await visitor.buy()).invoice_id}"
        body = gateway.post_link()
        for headers, reason in (
            ({}, "webhook-id is missing"),
            (sign(body, other), "webhook-signature is not of this body"),
            (sign(body + b" "), "webhook-signature is not of this body"),
            (sign(body, age_seconds=400), " s old"),
        ):
            answer = await visitor.tell(body, **headers)
            assert answer.status == 400
            assert reason in answer.text
        page = await visitor.get(here)
        assert page.order_status == "waiting"
        assert " s old" in page.words
        assert (await visitor.tell(body, **sign(body))).text == "stored: accepted"
        assert (await visitor.get(here)).order_status == "paid"
