"""Webhook secrets on both databases: given, replaced, ended, resealed under another server key; and what signs when."""

import asyncio
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from msgspec.structs import replace
from standardwebhooks.webhooks import Webhook

from tests.gateway import Caller, PatientCaller, build_config, eventually, running_gateway
from tests.notifications.shops import Request as ReceivedRequest
from tests.notifications.shops import Shop as RecordingShop
from tests.notifications.shops import answer, open_shop
from tolem.bootstrap import Gateway, open_gateway
from tolem.config import InvalidConfig
from tolem.domain.errors import Refused
from tolem.domain.key import ServerKey, parse_webhook_secret, render_server_key, render_webhook_secret
from tolem.domain.message import Message, MessageKind, MessageState
from tolem.flows.directory import FRESH_SECONDS, Directory
from tolem.flows.signing import Signer, WebhookSecretKeeper, find_missing_keys
from tolem.ids import Ids
from tolem.sandbox.fixtures import TERMINAL_ID, WEBHOOK_SECRET
from tolem.storage import queries
from tolem.storage.open import open_store
from tolem.storage.schema import tolem_schema
from tolem.storage.sealing import CannotOpen, Sealer
from tolem.storage.store import Decision, Store

OLD_KEY, NEW_KEY = ServerKey(b"o" * 32), ServerKey(b"n" * 32)
FIRST, SECOND, THIRD = (render_webhook_secret(letter * 32) for letter in (b"1", b"2", b"3"))
BODY = b'{"code":"ok"}'


class MovableClock:
    """Real time that a test moves; business time stands still."""

    def __init__(self) -> None:
        self.real = datetime.now(UTC)

    def now(self) -> datetime:
        return datetime(2020, 1, 1, tzinfo=UTC)

    def real_now(self) -> datetime:
        return self.real


class Bench:
    """A keeper with a terminal, and signers that have just started."""

    def __init__(self, store: Store, terminal_id: UUID) -> None:
        self.store = store
        self.clock = MovableClock()
        self.terminal_id = terminal_id

    def keeper(self, *keys: ServerKey) -> WebhookSecretKeeper:
        return WebhookSecretKeeper(self.store, self.clock, Sealer(keys or (OLD_KEY,)))

    async def who_signs(self, *keys: ServerKey) -> list[str]:
        """Which of the secrets sign a message now."""
        signer = Signer(Directory(self.store), Sealer(keys or (OLD_KEY,)))
        headers = await signer.sign(build_message(self.terminal_id), self.clock.real_now())
        count = headers.get("webhook-signature", "").count("v1,")
        found = [secret for secret in (FIRST, SECOND, THIRD) if _is_signed(headers, secret)]
        assert len(found) == count
        return found


def _is_signed(headers: Any, secret: str) -> bool:
    at = datetime.fromtimestamp(int(headers["webhook-timestamp"]), UTC)
    wanted = Webhook(secret).sign(headers["webhook-id"], at, BODY.decode())
    return wanted in headers.get("webhook-signature", "").split()


def build_message(terminal_id: UUID) -> Message:
    at = datetime(2020, 1, 1, tzinfo=UTC)
    return Message(
        id=Ids().new(), order_id=UUID(int=1), round_id=UUID(int=2), terminal_id=terminal_id, payment_id=None,
        kind=MessageKind.SUCCESS, url="https://shop.example/", host="shop.example:443", body=BODY,
        state=MessageState.SENDING, tries=0, due_at=at, lease_owner=1, leased_until=at, created_at=at,
    )  # fmt: skip


@pytest.fixture
async def bench(database_url: str) -> AsyncIterator[Bench]:
    async with running_gateway(database_url):
        pass  # it makes the published terminal
    store = await open_store(database_url, schema=tolem_schema, instance=1)
    bench = Bench(store, TERMINAL_ID)
    await bench.keeper().change(TERMINAL_ID, FIRST, keep_hours=0)
    yield bench
    await store.close()


async def test_a_new_secret_signs_beside_the_one_before_for_a_day(bench: Bench) -> None:
    keeper = bench.keeper()
    assert await bench.who_signs() == [FIRST]
    changed = await keeper.change(TERMINAL_ID, SECOND)
    assert changed == await keeper.read(TERMINAL_ID)
    assert (changed.current, changed.previous) == (parse_webhook_secret(SECOND), parse_webhook_secret(FIRST))
    assert changed.previous_until == bench.clock.real + timedelta(hours=24)
    assert await bench.who_signs() == [FIRST, SECOND]
    bench.clock.real += timedelta(hours=23, minutes=59)
    assert await bench.who_signs() == [FIRST, SECOND]
    bench.clock.real += timedelta(minutes=1)
    assert await bench.who_signs() == [SECOND]
    assert (await keeper.read(TERMINAL_ID)).previous is None


async def test_never_more_than_two_sign_and_the_one_a_shop_may_use_ends_by_force_only(bench: Bench) -> None:
    changed = await bench.keeper().change(TERMINAL_ID, SECOND)
    assert changed.previous_until is not None
    until = f"{changed.previous_until + timedelta(hours=5):%Y-%m-%d %H:%M:%S} UTC+5"
    with pytest.raises(Refused, match=re.escape(until)) as refused:
        await bench.keeper().change(TERMINAL_ID, THIRD)
    assert f" {FIRST[:12]}… still signs" in refused.value.message
    assert FIRST not in refused.value.message
    assert await bench.who_signs() == [FIRST, SECOND]
    await bench.keeper().change(TERMINAL_ID, THIRD, ends_previous=True)
    assert await bench.who_signs() == [SECOND, THIRD]
    await bench.keeper().change(TERMINAL_ID, SECOND)  # back again: nothing ends
    assert await bench.who_signs() == [SECOND, THIRD]
    bench.clock.real += timedelta(hours=24)
    await bench.keeper().change(TERMINAL_ID, FIRST)
    assert await bench.who_signs() == [FIRST, SECOND]


async def test_the_same_secret_again_changes_nothing(bench: Bench) -> None:
    first = await bench.keeper().change(TERMINAL_ID, SECOND)
    bench.clock.real += timedelta(hours=1)
    assert await bench.keeper().change(TERMINAL_ID, SECOND, keep_hours=0) == first
    assert await bench.who_signs() == [FIRST, SECOND]


async def test_the_one_before_can_end_at_once(bench: Bench) -> None:
    await bench.keeper().change(TERMINAL_ID, SECOND)
    await bench.keeper().end_previous(TERMINAL_ID)
    assert await bench.who_signs() == [SECOND]
    await bench.keeper().change(TERMINAL_ID, THIRD, keep_hours=0)
    assert await bench.who_signs() == [THIRD]


async def test_a_removed_secret_signs_nothing_and_does_not_come_back(bench: Bench) -> None:
    await bench.keeper().change(TERMINAL_ID, SECOND)
    await bench.keeper().remove(TERMINAL_ID)
    assert await bench.who_signs() == []
    assert (await bench.keeper().read(TERMINAL_ID)).current is None
    await bench.keeper().change(TERMINAL_ID, THIRD)
    assert await bench.who_signs() == [THIRD]


async def test_a_made_secret_is_new_each_time(bench: Bench) -> None:
    made = [(await bench.keeper().change(TERMINAL_ID, ends_previous=True)).current for _ in range(3)]
    assert len(set(made)) == 3
    assert all(secret and len(secret) == 32 for secret in made)


@pytest.mark.parametrize(
    ("secret", "keep_hours", "words"),
    (
        ("password", 24, "24 to 64 bytes in base64"),
        (SECOND, -1, "use 0 to 2160"),
        (SECOND, float("nan"), "use 0 to 2160"),
        (SECOND, 1e9, "use 0 to 2160"),
    ),
)
async def test_what_is_refused(bench: Bench, secret: str, keep_hours: float, words: str) -> None:
    with pytest.raises(Refused, match=words):
        await bench.keeper().change(TERMINAL_ID, secret, keep_hours)
    assert await bench.who_signs() == [FIRST]


async def test_an_unknown_terminal_is_refused(bench: Bench) -> None:
    keeper, nobody = bench.keeper(), UUID(int=5)
    for call in (keeper.change(nobody), keeper.read(nobody), keeper.remove(nobody), keeper.end_previous(nobody)):
        with pytest.raises(Refused, match="there is no terminal"):
            await call
    assert [stored.terminal_id for stored in await queries.list_webhook_secrets(bench.store)] == [TERMINAL_ID]


async def test_a_terminal_without_a_secret_has_id_and_time_only(bench: Bench) -> None:
    signer = Signer(Directory(bench.store), Sealer((OLD_KEY,)))
    headers = await signer.sign(build_message(UUID(int=5)), bench.clock.real_now())
    assert set(headers) == {"webhook-id", "webhook-timestamp"}


async def test_the_server_key_is_replaced_in_four_steps(bench: Bench) -> None:
    await bench.keeper().change(TERMINAL_ID, SECOND)
    # 1. the new key opens everywhere, 2. it seals
    assert await bench.who_signs(OLD_KEY, NEW_KEY) == [FIRST, SECOND]
    both = bench.keeper(NEW_KEY, OLD_KEY)
    assert await both.count_by_server_key() == {NEW_KEY.id: 0, OLD_KEY.id: 2}
    # 3. all is sealed anew
    assert await both.reseal() == 2
    assert await both.reseal() == 0
    assert await both.count_by_server_key() == {NEW_KEY.id: 2, OLD_KEY.id: 0}
    # 4. the old one goes
    assert await bench.who_signs(NEW_KEY) == [FIRST, SECOND]
    with pytest.raises(CannotOpen, match=NEW_KEY.id):
        await bench.who_signs(OLD_KEY)


async def test_a_missing_server_key_is_found_and_a_new_secret_is_the_way_out(bench: Bench) -> None:
    await bench.keeper().change(TERMINAL_ID, SECOND)
    assert await find_missing_keys(bench.store, Sealer((NEW_KEY,))) == {OLD_KEY.id: [TERMINAL_ID]}
    assert await find_missing_keys(bench.store, Sealer((NEW_KEY, OLD_KEY))) == {}
    with pytest.raises(CannotOpen):
        await bench.keeper(NEW_KEY).reseal()
    with pytest.raises(CannotOpen):
        await bench.keeper(NEW_KEY).read(TERMINAL_ID)
    changed = await bench.keeper(NEW_KEY).change(TERMINAL_ID, THIRD)
    assert (changed.current, changed.previous) == (parse_webhook_secret(THIRD), None)
    assert await bench.who_signs(NEW_KEY) == [THIRD]


async def test_resealing_beside_a_change_loses_nothing(bench: Bench) -> None:
    both = bench.keeper(NEW_KEY, OLD_KEY)
    for number in range(5):
        secret = render_webhook_secret(bytes([number]) * 40)
        await asyncio.gather(both.reseal(), bench.keeper().change(TERMINAL_ID, secret), both.reseal())
        live = await both.read(TERMINAL_ID)
        assert live.current == parse_webhook_secret(secret)


async def test_secrets_rest_sealed(bench: Bench) -> None:
    await bench.keeper().change(TERMINAL_ID, SECOND)
    (stored,) = await queries.list_webhook_secrets(bench.store)
    for text in (FIRST, SECOND):
        assert parse_webhook_secret(text) not in (stored.current or b"") + (stored.previous or b"")
    # Moved to another terminal's row it does not open.
    other = UUID(int=5)
    await bench.store.change((), lambda: Decision(None, (replace(stored, terminal_id=other),)))
    with pytest.raises(CannotOpen, match="belongs elsewhere"):
        await Signer(Directory(bench.store), Sealer((OLD_KEY,))).sign(build_message(other), bench.clock.real_now())


async def pay(gateway: Gateway, shop: RecordingShop, invoice: str) -> ReceivedRequest:
    """The notification of a new payment."""
    caller = PatientCaller(gateway.app, shop.url)
    before = len(shop.requests)
    await caller.pay(await caller.page(invoice))

    async def has_come() -> bool:
        return len(shop.requests) > before

    await eventually(has_come, 20)
    return shop.requests[-1]


async def test_a_sandbox_signs_with_the_published_secret(database_url: str) -> None:
    async with open_shop() as shop, running_gateway(database_url) as gateway:
        request = await pay(gateway, shop, "000000001")
    assert Webhook(WEBHOOK_SECRET).verify(request.body, request.headers)["code"] == "ok"


async def test_a_secret_from_the_configuration_is_the_only_one(database_url: str) -> None:
    async with open_shop() as shop, running_gateway(database_url, webhook_secret=SECOND) as gateway:
        request = await pay(gateway, shop, "000000001")
        assert (await gateway.secrets.read(TERMINAL_ID)).previous is None
    assert request.headers["webhook-signature"].count("v1,") == 1
    Webhook(SECOND).verify(request.body, request.headers)
    async with open_shop() as shop, running_gateway(database_url) as gateway:
        request = await pay(gateway, shop, "000000002")
    Webhook(SECOND).verify(request.body, request.headers)  # it is stored


async def test_another_secret_in_the_configuration_signs_beside_the_one_before(
    database_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for secret in (FIRST, SECOND):
        async with running_gateway(database_url, webhook_secret=secret) as gateway:
            live = await gateway.secrets.read(TERMINAL_ID)
    assert (live.current, live.previous) == (parse_webhook_secret(SECOND), parse_webhook_secret(FIRST))
    assert live.previous_until is not None
    assert "webhook_secret_replaced" in capsys.readouterr().out
    async with running_gateway(database_url, webhook_secret=THIRD) as gateway:
        live = await gateway.secrets.read(TERMINAL_ID)
    assert (live.current, live.previous) == (parse_webhook_secret(THIRD), parse_webhook_secret(SECOND))


async def test_what_the_command_line_changed_survives_a_restart(database_url: str) -> None:
    async with running_gateway(database_url) as gateway:
        await gateway.secrets.remove(TERMINAL_ID)
    async with open_shop() as shop, running_gateway(database_url) as gateway:
        request = await pay(gateway, shop, "000000001")
    assert "webhook-signature" not in request.headers


async def test_a_running_gateway_follows_within_a_second(database_url: str) -> None:
    async with open_shop() as shop, running_gateway(database_url) as gateway:
        await pay(gateway, shop, "000000001")
        await gateway.secrets.change(TERMINAL_ID, SECOND)
        await asyncio.sleep(FRESH_SECONDS)
        request = await pay(gateway, shop, "000000002")
    Webhook(SECOND).verify(request.body, request.headers)
    Webhook(WEBHOOK_SECRET).verify(request.body, request.headers)


async def test_a_gateway_without_the_needed_server_key_does_not_start(database_url: str) -> None:
    async with running_gateway(database_url, server_key=render_server_key(OLD_KEY)):
        pass
    with pytest.raises(InvalidConfig, match=f"not configured, {OLD_KEY.id}: add it to server_key") as caught:
        await open_gateway(build_config(database_url, server_key=render_server_key(NEW_KEY)))
    assert str(TERMINAL_ID) in str(caught.value)
    both = " ".join(map(render_server_key, (NEW_KEY, OLD_KEY)))
    async with running_gateway(database_url, server_key=both) as gateway:
        assert await gateway.secrets.reseal() == 1
    async with open_shop() as shop, running_gateway(database_url, server_key=render_server_key(NEW_KEY)) as gateway:
        request = await pay(gateway, shop, "000000001")
    Webhook(WEBHOOK_SECRET).verify(request.body, request.headers)


async def test_a_message_that_waits_is_signed_through_a_change_of_both_keys(database_url: str) -> None:
    old, new = (render_server_key(key) for key in (OLD_KEY, NEW_KEY))
    async with open_shop(answer(500), answer(500), answer(200)) as shop:
        async with running_gateway(database_url, server_key=old, webhook_secret=FIRST) as gateway:
            first = await pay(gateway, shop, "000000001")
            await settle(gateway, 0)
        async with running_gateway(database_url, server_key=f"{new} {old}") as gateway:
            await gateway.secrets.change(TERMINAL_ID, SECOND)
            assert await gateway.secrets.reseal() > 0
            await settle(gateway, 60)
        assert len(shop.requests) == 2
        async with running_gateway(database_url, server_key=new) as gateway:  # the old key is gone
            await settle(gateway, 3600)
    assert len(shop.requests) == 3
    assert {(one.body, one.headers["webhook-id"]) for one in shop.requests} == {
        (first.body, first.headers["webhook-id"])
    }
    for secrets, request in zip(((FIRST,), (FIRST, SECOND), (FIRST, SECOND)), shop.requests, strict=True):
        assert request.headers["webhook-signature"].count("v1,") == len(secrets)
        for secret in secrets:
            Webhook(secret).verify(request.body, request.headers)


async def settle(gateway: Gateway, seconds: int) -> None:
    """Moves the sandbox's clock and waits for what fell due."""
    body = f'{{"advance_seconds": {seconds}}}'.encode()
    answered = await Caller(gateway.app).call("POST", "/sandbox/clock", body, {"content-type": "application/json"})
    assert answered.status == 200, answered.text
