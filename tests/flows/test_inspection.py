"""Why an order is unpaid and what was sent, through a whole gateway on both databases."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from tests.gateway import LOCKED_CARD, PatientCaller, ShopServer, eventually, running_gateway, running_shop
from tolem.bootstrap import Gateway
from tolem.clock import SystemClock
from tolem.domain.errors import Refusal, Refused
from tolem.domain.message import MessageState
from tolem.domain.story import Advice, Fact, Story
from tolem.flows.administration import Administration
from tolem.flows.directory import Directory
from tolem.flows.inspection import Inspection
from tolem.ids import Ids
from tolem.sandbox.fixtures import CLIENT_ID, TERMINAL_ID


class Scene:
    """A gateway, a shop, and somebody who looks at both."""

    def __init__(self, gateway: Gateway, shop: ShopServer) -> None:
        self.gateway = gateway
        self.shop = shop
        self.caller = PatientCaller(gateway.app, shop.url)
        self.inspection = Inspection(gateway.store, Directory(gateway.store), SystemClock())

    async def tell(self, invoice: str) -> Story:
        return await self.inspection.tell(await self.inspection.get_order(invoice))

    async def ends_with(self, invoice: str, fact: Fact) -> Story:
        """The story, once its headline says that."""
        await eventually(lambda: self._is_headline(invoice, fact))
        return await self.tell(invoice)

    async def _is_headline(self, invoice: str, fact: Fact) -> bool:
        return (await self.tell(invoice)).headline.fact is fact


@asynccontextmanager
async def opened(database_url: str) -> AsyncIterator[Scene]:
    async with running_shop() as shop, running_gateway(database_url) as gateway:
        yield Scene(gateway, shop)


def facts(story: Story) -> list[Fact]:
    return [line.fact for line in story.lines]


async def test_the_whole_chain_of_a_paid_order(database_url: str) -> None:
    async with opened(database_url) as scene:
        invoice = "000000001"
        await scene.caller.token(invoice)
        assert (await scene.tell(invoice)).headline.advice is Advice.CALL_PAY
        path = await scene.caller.page(invoice)
        assert facts(await scene.tell(invoice)) == [Fact.TOKEN_ISSUED, Fact.PAGE_OPENED, Fact.NO_CARD]
        await scene.caller.pay(path, LOCKED_CARD)
        assert facts(await scene.tell(invoice))[2:] == [
            Fact.CARD_ENTERED,
            Fact.AUTHENTICATED,
            Fact.DECLINED,
            Fact.MAY_TRY_AGAIN,
        ]
        await scene.caller.pay(path)
        story = await scene.ends_with(invoice, Fact.ORDER_PAID)
        assert facts(story)[5:] == [
            Fact.CARD_ENTERED,
            Fact.AUTHENTICATED,
            Fact.TAKEN,
            Fact.PAID,
            Fact.COMPOSED,
            Fact.TRY_DELIVERED,
        ]
        (message,) = (await scene.inspection.page_of_order(await scene.inspection.get_order(invoice))).messages
        shown = await scene.inspection.get_message(message.id)
        (attempt,) = shown.delivery.attempts
        assert shown.order.invoice_id == invoice
        assert shown.delivery.message.body == scene.shop.bodies[0]
        assert f"webhook-id: {message.id}\n" in attempt.headers
        assert attempt.address == scene.shop.url.split("/")[2]
        assert [line.fact for line in shown.lines] == [Fact.COMPOSED, Fact.TRY_DELIVERED]


async def test_a_page_that_did_not_open_is_remembered_until_it_does(database_url: str) -> None:
    async with opened(database_url) as scene:
        invoice = "000000002"
        token = await scene.caller.token(invoice)
        assert (await scene.caller.open(token, invoice, amount=101)).status == 400
        story = await scene.tell(invoice)
        assert (story.headline.fact, story.headline.advice) == (Fact.ORDER_OPEN, Advice.MEND_PAGE)
        assert "amount is '101'" in story.headline.quote
        assert (await scene.caller.open(token, invoice, isTransfer="true")).status == 303  # unknown fields are ignored
        assert facts(await scene.tell(invoice)) == [Fact.TOKEN_ISSUED, Fact.PAGE_OPENED, Fact.NO_CARD]
        newer = await scene.caller.token(invoice, amount="200")
        assert (await scene.caller.open(token, invoice)).status == 400  # of the round before
        story = await scene.tell(invoice)
        assert facts(story) == [Fact.TOKEN_FIRST, Fact.TOKEN_ANEW, Fact.PAGE_REFUSED]
        assert "newer token" in story.headline.quote
        assert (await scene.caller.open(newer, invoice, amount=200)).status == 303
        assert facts(await scene.tell(invoice)) == [Fact.TOKEN_FIRST, Fact.TOKEN_ANEW, Fact.PAGE_OPENED, Fact.NO_CARD]


async def test_an_object_that_cannot_be_read_is_remembered_by_its_token(database_url: str) -> None:
    async with opened(database_url) as scene:
        invoice = "000000012"
        token = (await scene.caller.token(invoice))["access_token"]
        for params, words in (
            (f'{{"invoiceId": "{invoice}", "backLink": "not a link", "auth": "{token}"}}', "backLink"),
            (f'{{"invoiceId": "{invoice}", "auth": {{"access_token": "{token}"}}, ', "not valid JSON"),
            (f'{{"invoiceId": "{invoice}", "auth": "{token}", "data": "{"x" * 20_000}"}}', "bytes"),
        ):
            assert (await scene.caller.form("/payform/", {"params": params})).status == 400
            story = await scene.tell(invoice)
            assert (story.headline.fact, story.headline.advice) == (Fact.ORDER_OPEN, Advice.MEND_PAGE)
            assert words in story.headline.quote
            assert token not in story.headline.quote
        assert (await scene.caller.form("/payform/", {"params": '{"auth": "of nobody", '})).status == 400


async def test_an_invoice_without_a_token_says_where_to_look(sqlite_url: str) -> None:
    async with opened(sqlite_url) as scene:
        assert (await scene.caller.request_token("000000013", currency="XXX")).status == 400
        with pytest.raises(Refused, match="no token was issued for this invoice"):
            await scene.tell("000000013")


async def test_a_refused_page_changes_nothing_of_a_paid_order(database_url: str) -> None:
    async with opened(database_url) as scene:
        invoice = "000000003"
        await scene.caller.pay(await scene.caller.page(invoice))
        before = await scene.ends_with(invoice, Fact.ORDER_PAID)
        token = await scene.caller.token(invoice)
        assert (await scene.caller.open(token, invoice, amount=7)).status == 400
        assert (await scene.tell(invoice)).lines == before.lines


async def test_a_shop_in_trouble_is_told_what_to_do(database_url: str) -> None:
    async with opened(database_url) as scene:
        scene.shop.status = 404
        await scene.caller.pay(await scene.caller.page("000000004"))
        await scene.shop.wait(1)
        await eventually(lambda: has_fact(scene, "000000004", Fact.NEXT_TRY_DUE))
        story = await scene.tell("000000004")
        assert (story.headline.fact, story.headline.advice) == (Fact.ORDER_PAID_UNTOLD, Advice.CHECK_PATH)
        scene.shop.url = "http://127.0.0.1:1/"
        deaf = PatientCaller(scene.gateway.app, "http://127.0.0.1:1/")
        await deaf.pay(await deaf.page("000000005"))
        await eventually(lambda: has_fact(scene, "000000005", Fact.TRY_FAILED))
        assert (await scene.tell("000000005")).headline.advice is Advice.START_SHOP
        silent = PatientCaller(scene.gateway.app)
        await silent.pay(await silent.page("000000006"))
        assert (await scene.tell("000000006")).headline.advice is Advice.NAME_ADDRESS


async def has_fact(scene: Scene, invoice: str, fact: Fact) -> bool:
    return fact in facts(await scene.tell(invoice))


async def test_whose_order_it_is(database_url: str) -> None:
    async with opened(database_url) as scene:
        admin = Administration(scene.gateway.store, SystemClock(), Ids())
        kiosk = (await admin.add_terminal(CLIENT_ID, "Kiosk")).id
        await scene.caller.token("000000007")
        await scene.caller.token("000000007", terminal=str(kiosk))
        find = scene.inspection.get_order
        assert (await find("000000007", (kiosk,))).terminal_id == kiosk
        assert (await find("000000007", (TERMINAL_ID,))).terminal_id == TERMINAL_ID
        with pytest.raises(Refused, match=f"several terminals.*{kiosk}") as caught:
            await find("000000007")
        assert caught.value.refusal is Refusal.INVALID_REQUEST
        for terminals in ((), (UUID(int=1),)):
            with pytest.raises(Refused, match="no order") as caught:
                await find("000000007", terminals)
            assert caught.value.refusal is Refusal.NOT_FOUND
        with pytest.raises(Refused, match="no message"):
            await scene.inspection.get_message(UUID(int=1))


@pytest.mark.parametrize("limit", (1, 2, 100))
async def test_lists_of_several_terminals_are_one(sqlite_url: str, limit: int) -> None:
    async with opened(sqlite_url) as scene:
        admin = Administration(scene.gateway.store, SystemClock(), Ids())
        kiosk, other = [(await admin.add_terminal(CLIENT_ID, name)).id for name in ("Kiosk", "Other")]
        for number, terminal in enumerate((kiosk, TERMINAL_ID, other, kiosk, TERMINAL_ID, kiosk), 1):
            path = await scene.caller.page(f"00000001{number}", terminal=str(terminal))
            await scene.caller.pay(path)
        await scene.shop.wait(6)
        newest_first = [told["invoiceId"] for told in scene.shop.received[::-1]]
        assert sorted(newest_first, reverse=True) == [f"00000001{number}" for number in range(6, 0, -1)]

        async def read_all(terminals: Any, **wanted: Any) -> list[str]:
            found: list[str] = []
            page = await scene.inspection.list_messages(terminals, limit=limit, **wanted)
            while True:
                assert len(page.messages) <= limit
                for message in page.messages:
                    found.append((await scene.inspection.get_message(message.id, terminals)).order.invoice_id)
                if page.next is None:
                    return found
                page = await scene.inspection.list_messages(terminals, limit=limit, before=page.next, **wanted)

        assert await read_all(None) == [f"00000001{number}" for number in (6, 5, 4, 3, 2, 1)]
        assert await read_all((kiosk, TERMINAL_ID)) == [f"00000001{number}" for number in (6, 5, 4, 2, 1)]
        assert await read_all((other,)) == ["000000013"]
        assert await read_all(()) == []
        assert await read_all((kiosk,), states=(MessageState.DEAD,)) == []
        assert await read_all(None, since=SystemClock().now() + timedelta(hours=1)) == []
        page = await scene.inspection.list_messages((other,))
        with pytest.raises(Refused, match="no message"):
            await scene.inspection.get_message(page.messages[0].id, (kiosk,))
