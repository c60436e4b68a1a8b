"""The gateway goes away in the middle of payments, orderly or by kill -9, and comes back: pages find the truth."""

import asyncio

import pytest

from tests.browser.conftest import MakePayer
from tests.browser.demo import PAID_ONCE, SLOW_CARD, Demo

# What a browser writes when nobody listens on the port, which the page's script expects.
AWAY = "ERR_CONNECTION_REFUSED|ERR_CONNECTION_RESET|ERR_EMPTY_RESPONSE|ERR_SOCKET_NOT_CONNECTED"


@pytest.mark.parametrize("end", ("SIGTERM", "SIGKILL"))
async def test_restart_in_the_middle(demo: Demo, make_payer: MakePayer, end: str) -> None:
    reader = await make_payer()  # has the card form open
    await reader.buy(good=1)
    sender = await make_payer()  # whose card is being checked
    await sender.buy()
    watcher = await sender.open_tab()  # sees that it is
    await sender.type_card(SLOW_CARD)
    await sender.send_and_stay()
    await sender.operation_is_open()
    await watcher.page.reload()
    await watcher.sees("checking")

    if end == "SIGKILL":
        demo.kill()
    else:
        assert await asyncio.to_thread(demo.stop) == 0
    await watcher.page.wait_for_event("requestfailed")  # it asked while nobody was there
    await watcher.sees("checking")
    await asyncio.to_thread(demo.start)

    await reader.pay()
    await reader.sees("approved")
    await watcher.sees("approved", seconds=15)
    await watcher.return_to_shop()
    await watcher.sees_order("paid")
    await sender.page.goto(sender.form_url)
    await sender.sees("approved")
    for payer in (reader, sender):
        await payer.sees_truth(PAID_ONCE)
    watcher.witness.forgive(AWAY)
