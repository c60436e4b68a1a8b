"""The shop's edge: languages, headers, forms of other sites, wrong addresses, faults."""

import pytest

from tests.shop.visitor import SHOP, Visitor
from tolem.shop import ShopConfig
from tolem.shop.orders import Orders
from tolem.shop.pages import render_pretty
from tolem.shop.texts import LANGUAGES, TEXTS, choose_language, render_price


@pytest.mark.parametrize(
    ("asked", "accept", "language"),
    (
        (None, "", "ru"),
        (None, "en-GB,en;q=0.9", "en"),
        (None, "kk,ru;q=0.8,en;q=0.5", "kk"),
        (None, "ru;q=0.2, en;q=0.9", "en"),
        (None, "de,fr;q=0.5", "ru"),
        (None, "en;q=0", "ru"),
        (None, "en;q=rubbish,ru;q=0.1", "ru"),
        (None, ",;=,*", "ru"),
        ("en", "ru", "en"),
        ("ru", "en", "ru"),
        ("de", "en", "en"),
    ),
)
def test_language(asked: str | None, accept: str, language: str) -> None:
    assert choose_language(asked, accept) == language


@pytest.mark.parametrize(("amount", "price"), ((350, "350 ₸"), (1850, "1 850 ₸"), (1234567, "1 234 567 ₸")))
def test_price(amount: int, price: str) -> None:
    assert render_price(amount) == price.replace(" ", "\u00a0")


def test_texts_are_whole() -> None:
    assert all(len(words) == len(LANGUAGES) and all(map(str.strip, words)) for words in TEXTS.values())


def test_pretty_body_keeps_numbers() -> None:
    assert render_pretty({"a": 1, "b": "я", "c": None}) == '{\n  "a": 1,\n  "b": "я",\n  "c": null\n}'


async def test_language_is_kept_by_links(visitor: Visitor) -> None:
    page = await visitor.get("/?lang=en", "ru")
    assert '<html lang="en">' in page.text
    assert 'action="/orders?lang=en"' in page.text
    assert 'href="/?lang=ru"' in page.text
    answer = await visitor.post("/orders?lang=en", good="tea", lang="en")
    assert answer.headers["location"].endswith("?lang=en")


async def test_order_keeps_the_language_it_was_bought_in(visitor: Visitor) -> None:
    page = await visitor.buy("tea", lang="ru")
    assert '<html lang="ru">' in page.text
    assert '<html lang="en">' in (await visitor.get(f"/orders/{page.invoice_id}?lang=en")).text


async def test_headers(visitor: Visitor) -> None:
    for path in ("/", "/orders/1", "/static/shop.css", "/healthz"):
        headers = (await visitor.get(path)).headers
        policy = headers["content-security-policy"]
        assert "script-src 'self' http://pay.test;" in policy
        assert "form-action 'self' http://pay.test;" in policy
        assert "frame-src http://pay.test;" in policy
        assert "default-src 'none'" in policy
        assert headers["x-content-type-options"] == "nosniff"


async def test_pages_need_nothing_inline(visitor: Visitor) -> None:
    invoice = (await visitor.buy()).invoice_id
    for path in ("/", f"/orders/{invoice}", f"/orders/{invoice}/return"):
        text = (await visitor.get(path)).text
        assert " style=" not in text
        assert " onclick=" not in text
        assert "<style" not in text


@pytest.mark.parametrize("origin", ("https://evil.example", "null", "http://shop.test.evil.example"))
async def test_form_of_another_site_is_refused(visitor: Visitor, origin: str) -> None:
    invoice = (await visitor.buy()).invoice_id
    for path in ("/orders", f"/orders/{invoice}/token"):
        answer = await visitor.post(path, origin=origin, good="tea")
        assert answer.status == 403
        assert "not how one buys here" in answer.words
    assert len(visitor.gateway.requests) == 1


@pytest.mark.parametrize("origin", (SHOP, ""))
async def test_own_form_is_accepted(visitor: Visitor, origin: str) -> None:
    assert (await visitor.post("/orders", origin=origin, good="tea")).status == 303


@pytest.mark.parametrize(
    ("body", "status"),
    ((b"", 400), (b"good=gold", 400), (b"good=%ff", 400), (b"good=\xff", 400), (b"a=1&" * 50, 400), (b"x" * 5000, 413)),
)
async def test_broken_form(visitor: Visitor, body: bytes, status: int) -> None:
    assert (await visitor.call("POST", "/orders", body)).status == status
    assert visitor.gateway.requests == []


@pytest.mark.parametrize(
    ("method", "path", "status"),
    (
        ("GET", "/nowhere", 404),
        ("GET", "/orders/123", 404),
        ("GET", "/orders/<script>/return", 404),
        ("POST", "/orders/123/token", 404),
        ("GET", "/static/../app.py", 404),
        ("GET", "/orders", 405),
        ("GET", "/notifications/epay", 405),
    ),
)
async def test_wrong_address(visitor: Visitor, method: str, path: str, status: int) -> None:
    answer = await visitor.call(method, path)
    assert answer.status == status
    assert "<h1>" in answer.text
    assert "<script>" not in answer.text


async def test_fault_is_a_page_and_raised_for_the_log(visitor: Visitor, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Orders, invoice_id: str) -> None:
        raise OSError("disk on fire")

    monkeypatch.setattr(Orders, "find", fail)
    with pytest.raises(OSError, match="disk on fire"):
        await visitor.get("/orders/1")
    assert visitor.sent[0]["status"] == 500
    page = b"".join(message.get("body", b"") for message in visitor.sent).decode()
    assert "Something fell off a shelf" in page
    assert "disk on fire" not in page


async def test_notification_is_not_acknowledged_if_it_can_not_be_stored(
    visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Orders, *arguments: object) -> None:
        raise OSError("disk full")

    here = f"/orders/{(await visitor.buy()).invoice_id}"
    with monkeypatch.context() as patched:
        patched.setattr(Orders, "record", fail)
        with pytest.raises(OSError, match="disk full"):
            await visitor.notify()
    assert (await visitor.get(here)).order_status == "waiting"
    assert (await visitor.notify()).text == "stored: accepted"


async def test_health(visitor: Visitor) -> None:
    answer = await visitor.get("/healthz")
    assert (answer.status, answer.text) == (200, '{"status":"ok"}')


@pytest.mark.parametrize(
    "changes", ({"gateway_url": "127.0.0.1"}, {"shop_url": ""}, {"gateway_internal_url": "ftp://x"})
)
def test_wrong_configuration(changes: dict[str, str]) -> None:
    values = {
        "gateway_url": "http://pay.test", "shop_url": SHOP, "client_id": "test", "client_secret": "SECRET",
        "terminal_id": "t", "database": ":memory:", "webhook_secret": "whsec_SECRET",
    }  # fmt: skip
    assert "SECRET" not in repr(ShopConfig(**values))
    with pytest.raises(ValueError, match="not an http or https address"):
        ShopConfig(**(values | changes))
