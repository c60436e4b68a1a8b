"""An operator has payments wait: nothing new begins, what is at the bank goes on, and every process follows."""

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import UUID

from tests.gateway import APPROVED_CARD, LOCKED_CARD, ORIGIN, Answer, Caller, eventually, running_gateway
from tests.issuer import CHALLENGED_CARD, CODE, Issuer
from tolem.clock import SystemClock
from tolem.domain.maintenance import Maintenance, Pause
from tolem.flows.maintenance import MaintenanceSwitch
from tolem.sandbox.fixtures import TERMINAL_ID
from tolem.storage.store import Store

NOON = datetime(2026, 11, 24, 7, tzinfo=UTC)
HOUR = timedelta(hours=1)
OTHER = UUID(int=7)
TYPED = {"cc-number": APPROVED_CARD, "cc-exp": "12/30", "cc-csc": "719", "cc-name": "ARMAN ALI"}
PLAIN = {"origin": ORIGIN, "accept": "text/html"}
"""Headers of a browser without a script."""


async def switch(store: Store, caller: Caller, *, minutes: int | None = None, is_on: bool = True) -> None:
    """As the command line does beside the gateway; returns once that has followed."""
    maintenance = MaintenanceSwitch(store, SystemClock())
    until = SystemClock().now() + timedelta(minutes=minutes) if minutes is not None else None
    await (maintenance.begin(TERMINAL_ID, until) if is_on else maintenance.end(None))

    async def has_followed() -> bool:
        told = (await caller.get("/readyz")).json()["maintenance"]
        return (str(TERMINAL_ID) in told) == is_on

    await eventually(has_followed)


def retry_seconds(answer: Answer) -> int:
    return int(answer.headers["retry-after"])


def test_of_several_reasons_the_one_that_ends_last_counts() -> None:
    early, late, endless = (Pause(since=NOON, until=NOON + n * HOUR if n else None) for n in (1, 2, 0))
    assert Maintenance(terminals={OTHER: early}).find(TERMINAL_ID, NOON) is None
    both = Maintenance(whole=late, terminals={TERMINAL_ID: early})
    assert both.find(TERMINAL_ID, NOON) is late
    assert Maintenance(whole=late, terminals={TERMINAL_ID: endless}).find(TERMINAL_ID, NOON) is endless
    assert both.find(TERMINAL_ID, NOON + 2 * HOUR) is None
    assert both.forget_ended(NOON + HOUR) == Maintenance(whole=late)
    assert (early.seconds_left(NOON + HOUR - timedelta(microseconds=1)), endless.seconds_left(NOON)) == (1, None)


async def test_nothing_begins_until_payments_go_on(database_url: str) -> None:
    async with running_gateway(database_url) as gateway:
        caller = Caller(gateway.app)
        opened, token = (
            await caller.page("000000001", failureBackLink="", language="en"),
            await caller.token("000000002"),
        )
        await switch(gateway.store, caller)

        refused = await caller.request_token("000000003")
        assert (refused.status, retry_seconds(refused)) == (503, 60)
        assert refused.json()["error"] == "temporarily_unavailable"
        assert (refused.json()["code"], "maintenance" in refused.json()["message"]) == (108, True)
        assert (await caller.request_token("000000003", amount="")).status == 200  # for status and refunds

        shown = await caller.get(opened)
        assert (shown.status, shown.state, retry_seconds(shown)) == (503, "maintenance", 60)
        assert "https://shop.example/ok" in shown.text
        assert "cc-number" not in shown.text
        sent = await caller.submit(opened)  # by the page's script: the form stays, and what is typed
        assert (sent.status, sent.state, "Payments pause" in sent.text) == (503, "form", True)
        assert retry_seconds(sent) == 60
        version = sent.text.partition('data-version="')[2].partition('"')[0]
        spoken = await caller.press(opened, "language", language="kk")
        assert (spoken.status, spoken.state, "Техникалық" in spoken.text) == (200, "form", True)
        plain = await caller.form(opened, TYPED, PLAIN)
        kept = plain.headers["location"]
        assert (plain.status, (await caller.get(kept)).state) == (303, "maintenance")
        spoken = await caller.form(opened + "/language", {"language": "en"}, PLAIN | {"referer": ORIGIN + kept})
        kept = spoken.headers["location"]
        assert (await caller.get(f"{opened}/state")).json()["state"] == "maintenance"
        assert (await caller.get(opened)).state == "maintenance"
        late = (await caller.open(token, "000000002")).headers["location"]
        assert (await caller.get(late)).state == "maintenance"

        await switch(gateway.store, caller, is_on=False)
        assert (await caller.get(late)).state == "form"
        page = await caller.get(kept)
        assert f'data-version="{version}"' in page.text
        assert all(words in page.text for words in ('value="12/30"', 'value="ARMAN ALI"', "please type them again"))
        assert (await caller.pay(opened)).state == "approved"
        assert (await caller.request_token("000000003")).status == 200


async def test_what_is_at_the_bank_goes_on_to_its_end(sqlite_url: str) -> None:
    async with running_gateway(sqlite_url) as gateway:
        caller = Caller(gateway.app)
        issuer = Issuer(caller)
        path = await caller.page("000000001", language="en")
        await caller.pay(path, LOCKED_CARD)
        challenged = await caller.pay(path, CHALLENGED_CARD)
        assert challenged.state == "challenge"
        await switch(gateway.store, caller, minutes=30)
        assert (await caller.get(path)).state == "challenge"
        await issuer.finish(challenged, CODE)
        assert (await caller.get(path)).state == "approved"

        ready = await caller.get("/readyz")
        assert (ready.status, "until" in ready.json()["maintenance"][str(TERMINAL_ID)]) == (200, True)


async def test_a_decline_is_told_and_the_time_to_pay_begins_when_payments_go_on(sqlite_url: str) -> None:
    async with running_gateway(sqlite_url) as gateway:
        caller = Caller(gateway.app)
        declined, token = await caller.page("000000001", language="en"), await caller.token("000000002")
        await caller.pay(declined, LOCKED_CARD)
        await switch(gateway.store, caller, minutes=30)
        page = await caller.get(declined)
        assert page.state == "maintenance"
        assert "2 attempts left" in page.text
        assert 1700 < retry_seconds(page) <= 1800
        path = (await caller.open(token, "000000002")).headers["location"]
        left = (await caller.get(f"{path}/state")).json()["seconds_left"]
        assert 49 * 60 < left <= 50 * 60
        await caller.press(path, "leave")
        assert (await caller.get(path)).state == "failed"


async def test_it_ends_by_itself(sqlite_url: str) -> None:
    async with running_gateway(sqlite_url) as gateway:
        caller = Caller(gateway.app)
        path = await caller.page("000000001")
        until = SystemClock().now() + timedelta(seconds=2)
        await MaintenanceSwitch(gateway.store, SystemClock()).begin(None, until)

        async def is_form() -> bool:
            return (await caller.get(path)).state == "form"

        await asyncio.sleep((until - SystemClock().now()).total_seconds())
        await eventually(is_form)
