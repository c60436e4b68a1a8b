"""Several tabs pay one order at the same time: it is charged once, and every tab shows the truth.

On PostgreSQL, where the other browser tests use SQLite: what keeps the second payment out is a decision under the
order's lock, which tests/flows tries on both.
"""

import asyncio
from collections.abc import Iterator

import pytest

from tests.browser.demo import DECLINED_CARD, PAID_ONCE, SLOW_CARD, Demo, Truth, running_demo
from tests.browser.payer import Payer
from tests.postgres import PostgresServer


@pytest.fixture(scope="module")
def demo(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """A demo whose gateway keeps its orders in PostgreSQL."""
    name = postgres_server.create_database()
    with running_demo(tmp_path_factory.mktemp("demo-postgresql"), postgres_server.url(name)) as running:
        yield running
    postgres_server.drop_database(name)


async def test_two_tabs_at_once(payer: Payer) -> None:
    await payer.order()
    tabs = [payer, await payer.open_tab(), await payer.open_tab()]
    await asyncio.gather(*(tab.open_form() for tab in tabs))
    assert len({tab.page.url for tab in tabs}) == 3, "each opening has an address of its own"
    await asyncio.gather(*(tab.type_card() for tab in tabs))
    await asyncio.gather(*(tab.press_pay() for tab in tabs))
    await asyncio.gather(*(tab.sees("approved") for tab in tabs))
    await payer.sees_truth(PAID_ONCE)
    await asyncio.gather(*(tab.return_to_shop() for tab in tabs))
    await asyncio.gather(*(tab.sees_order("paid") for tab in tabs))


async def test_tabs_while_a_card_is_checked(payer: Payer) -> None:
    """Another card, leaving, even closing the tab that pays: the payment goes on, and the others wait for its end."""
    await payer.buy()
    other, leaver = await payer.open_tab(), await payer.open_tab()
    await other.type_card(DECLINED_CARD)
    await payer.type_card(SLOW_CARD)
    await payer.send_and_stay()
    await payer.operation_is_open()
    await asyncio.gather(other.press_pay(), leaver.leave())
    await asyncio.gather(other.sees("checking"), leaver.sees("checking"))
    assert await other.page.locator("#card").count() == 0
    await payer.page.close()
    await asyncio.gather(other.sees("approved"), leaver.sees("approved"))
    await other.sees_truth(PAID_ONCE)


@pytest.mark.parametrize("end", ("paid", "left"))
async def test_the_order_ends_in_another_tab_while_this_one_types(payer: Payer, end: str) -> None:
    await payer.buy()
    other = await payer.open_tab()
    await payer.type_card()
    if end == "paid":
        await other.pay()
        await other.sees("approved")
    else:  # the page of a round that was left leads back to the shop by itself, but only the first who sees it
        await other.leave()
        await other.sees_order("declined")
    await payer.press_pay()
    if end == "paid":
        await payer.sees("approved")
        await payer.sees_truth(PAID_ONCE)
    else:
        await payer.sees("failed")
        await payer.sees_truth(Truth("declined", "failed", [], [], [], ["failure delivered"]))
