"""What stands at the gateway's own address, for people and for programs."""

import re

import pytest
from tests.gateway import Caller, running_gateway

from tolem.i18n.translator import load_translator
from tolem.web.assets import static_files
from tolem.web.home import production_home
from tolem.web.pages import Pages

BROWSER = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


async def test_a_developer_is_led_on(sqlite_url: str) -> None:
    async with running_gateway(sqlite_url) as gateway:
        caller = Caller(gateway.app)
        page = await caller.call("GET", "/", b"", BROWSER)
        assert (page.status, page.state) == (200, "home")
        assert page.headers["content-security-policy"].startswith("default-src 'none'")
        links = set(re.findall('(?:href|src)="(/[^"]*)"', page.text))
        assert {"/sandbox", "/payform/payment-api.js", "/readyz"} <= links
        for link in links:
            answer = await caller.call("GET", link, b"", {"host": "127.0.0.1"})
            assert answer.status == 200, link


@pytest.mark.parametrize("accepts", ({}, {"accept": "application/json"}, {"accept": "*/*"}))
async def test_a_program_gets_json(sqlite_url: str, accepts: dict[str, str]) -> None:
    async with running_gateway(sqlite_url) as gateway:
        answer = await Caller(gateway.app).call("GET", "/", b"", accepts)
        assert (answer.status, answer.headers["content-type"]) == (404, "application/json")
        assert "nothing is served" in answer.json()["message"]


async def test_the_icon_that_browsers_ask_for_on_their_own(sqlite_url: str) -> None:
    async with running_gateway(sqlite_url) as gateway:
        answer = await Caller(gateway.app).get("/favicon.ico")
        assert (answer.status, answer.headers["content-type"]) == (200, "image/x-icon")
        assert answer.body.startswith(b"\0\0\1\0")
        assert len(answer.body) < 2048


@pytest.mark.parametrize(
    ("language", "words"), (("ru", "Это страница оплаты"), ("kk", "Бұл — төлем беті"), ("en", "This is a payment page"))
)
def test_in_production_a_payer_is_told_in_the_browsers_language_first(language: str, words: str) -> None:
    text = production_home(Pages(load_translator(), sandbox=False))(language).decode()
    assert f'<html lang="{language}">' in text
    assert f"<h1>{words}</h1>" in text
    assert "andbox" not in text
    assert set(re.findall('(?:href|src)="(/[^"]*)"', text)) <= static_files().keys()
