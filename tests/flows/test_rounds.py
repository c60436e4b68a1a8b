"""Rounds against time: deadlines, expiry, changed amounts, tokens that end."""

from datetime import UTC, datetime, timedelta

from tests.gateway import LOCKED_CARD, Caller, running_gateway, running_shop
from tolem.domain.order import OrderStatus
from tolem.sandbox.fixtures import TERMINAL_ID
from tolem.storage import keys


class MovedClock:
    """Business time that a test moves; real time stays real."""

    def __init__(self) -> None:
        self.offset = timedelta()

    def now(self) -> datetime:
        return datetime.now(UTC) + self.offset

    def real_now(self) -> datetime:
        return datetime.now(UTC)


async def test_the_deadline_ends_a_round_and_tells_the_shop(database_url: str) -> None:
    clock = MovedClock()
    async with running_shop() as shop, running_gateway(database_url, clock=clock) as gateway:
        caller = Caller(gateway.app, shop.url)
        path = await caller.page("000000001")
        clock.offset = timedelta(minutes=20)
        assert (await caller.get(path)).state == "expired"
        assert (await caller.pay(path)).state == "expired"
        (told,) = await shop.wait(1)
        assert (told["code"], told["reasonCode"]) == ("error", 476)
        history = await gateway.store.find(keys.order_by_invoice(TERMINAL_ID, "000000001"))
        assert history is not None
        assert history.order.status is OrderStatus.FAILED
        assert not history.payments
        assert (await caller.get(path)).state == "expired"
        assert (await caller.pay(await caller.page("000000001"))).state == "approved"


async def test_the_deadline_after_a_decline_tells_the_declines_reason(database_url: str) -> None:
    clock = MovedClock()
    async with running_shop() as shop, running_gateway(database_url, clock=clock) as gateway:
        caller = Caller(gateway.app, shop.url)
        path = await caller.page("000000002")
        await caller.pay(path, LOCKED_CARD)
        clock.offset = timedelta(minutes=21)
        (told,) = await shop.wait(1)
        assert told["code"] == "error"
        assert told["reasonCode"] not in (0, 476)
        assert (await caller.get(path)).state == "failed"


async def test_reopening_does_not_move_the_deadline(database_url: str) -> None:
    clock = MovedClock()
    async with running_gateway(database_url, clock=clock) as gateway:
        caller = Caller(gateway.app)
        token = await caller.token("000000003")
        await caller.open(token, "000000003")
        clock.offset = timedelta(minutes=15)
        path = (await caller.open(token, "000000003")).headers["location"]
        assert (await caller.get(path)).state == "form"
        clock.offset = timedelta(minutes=20, seconds=1)
        assert (await caller.get(path)).state == "expired"


async def test_nothing_is_told_of_a_page_that_was_never_opened(database_url: str) -> None:
    clock = MovedClock()
    async with running_shop() as shop, running_gateway(database_url, clock=clock) as gateway:
        caller = Caller(gateway.app, shop.url)
        await caller.token("000000004")
        clock.offset = timedelta(hours=3)
        path = await caller.page("000000005")
        clock.offset = timedelta(hours=4)
        (told,) = await shop.wait(1)
        assert told["invoiceId"] == "000000005"
        assert path


async def test_a_token_ends_after_two_hours_and_a_page_after_a_day(database_url: str) -> None:
    clock = MovedClock()
    async with running_gateway(database_url, clock=clock) as gateway:
        caller = Caller(gateway.app)
        token = await caller.token("000000006")
        clock.offset = timedelta(seconds=7199)
        path = (await caller.open(token, "000000006")).headers["location"]
        clock.offset = timedelta(seconds=7201)
        assert (await caller.open(token, "000000006")).status == 400
        assert (await caller.get(path)).status == 200
        clock.offset = timedelta(days=1, hours=3)
        assert (await caller.get(path)).status == 404


async def test_another_amount_opens_a_new_round(database_url: str) -> None:
    async with running_shop() as shop, running_gateway(database_url) as gateway:
        caller = Caller(gateway.app, shop.url)
        token = await caller.token("000000007")
        old_path = (await caller.open(token, "000000007")).headers["location"]
        same = await caller.token("000000007", amount="100.00")
        assert (await caller.open(token, "000000007")).status == 303  # 100.00 is 100: the same round
        assert (await caller.open(same, "000000007")).status == 303
        path = await caller.page("000000007", amount="250.50")
        assert (await caller.open(token, "000000007")).status == 400
        assert (await caller.get(old_path)).state == "invalid"
        assert (await caller.pay(path)).state == "approved"
        (told,) = await shop.wait(1)
        assert told["amount"] == 250.5


async def test_the_newest_tokens_links_and_secret_count(database_url: str) -> None:
    async with running_shop() as shop, running_gateway(database_url) as gateway:
        caller = Caller(gateway.app, shop.url)
        token = await caller.token("000000008", secret_hash="first")
        path = (await caller.open(token, "000000008")).headers["location"]
        await caller.token("000000008", secret_hash="second")
        await caller.pay(path)
        (told,) = await shop.wait(1)
        assert told["secret_hash"] == "second"


async def test_the_objects_links_count_only_where_the_token_names_none(database_url: str) -> None:
    async with running_shop() as shop, running_shop() as thief, running_gateway(database_url) as gateway:
        named = Caller(gateway.app, shop.url)
        token = await named.token("000000009")
        path = (await named.open(token, "000000009", postLink=thief.url)).headers["location"]
        await named.pay(path)
        await shop.wait(1)
        unnamed = Caller(gateway.app)
        token = await unnamed.token("000000010")
        path = (await unnamed.open(token, "000000010", postLink=shop.url)).headers["location"]
        await unnamed.pay(path)
        await shop.wait(2)
        assert thief.received == []
