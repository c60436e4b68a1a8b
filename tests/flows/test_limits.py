"""Limits of card attempts through the gateway's edge, on both databases: who waits, how long, and who never does."""

import asyncio
import hmac
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, NamedTuple
from uuid import UUID

import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from tests.flows.test_payment import sandbox_card
from tests.gateway import APPROVED_CARD, LOCKED_CARD, ORIGIN, Answer, PatientCaller, eventually, running_gateway
from tests.issuer import CHALLENGED_CARD, Issuer
from tests.simulation.clock import MovableClock
from tolem.acquirers.base import Acquirer, AcquirerAnswer, AcquirerRequest
from tolem.bootstrap import Gateway
from tolem.clock import SystemClock
from tolem.domain.declines import Declines
from tolem.flows.administration import Administration
from tolem.ids import Ids
from tolem.sandbox.fixtures import CLIENT_ID
from tolem.server import _configure
from tolem.storage.store import Store
from tolem.storage.tables import declines
from tolem.wire.reasons import REASONS

SECOND = timedelta(seconds=1)
WAITING = "Сейчас этот платёж принять нельзя."
LIMITS = {
    "attempt_limits": "on",
    "card_declines_max": 3,
    "address_declines_max": 5,
    "terminal_declines_max": 0,
    "attempt_wait_seconds": 20.0,
    "attempt_wait_seconds_max": 600.0,
}


class Stage(NamedTuple):
    """A gateway with limits, a payer, and the time."""

    gateway: Gateway
    caller: PatientCaller
    clock: MovableClock
    invoices: Iterator[int]

    async def attempt(self, number: str, address: str = "", **changes: Any) -> Answer:
        """One card at a page of its own: whoever tests cards opens an order for each."""
        if address:
            self.caller.address = address
        path = await self.caller.page(str(next(self.invoices)), **changes)
        return await self.caller.pay(path, number)

    async def states(self, number: str, times: int, address: str = "", **changes: Any) -> list[str]:
        """What the pages show; `waits` where the card has to wait."""
        answers = [await self.attempt(number, address, **changes) for _ in range(times)]
        return ["waits" if answer.status == 429 else answer.state for answer in answers]

    def move(self, seconds: float) -> None:
        self.clock.advance_to(self.clock.now() + seconds * SECOND)


@asynccontextmanager
async def limited(database_url: str, clock: MovableClock | None = None, **changes: Any) -> AsyncIterator[Stage]:
    """A gateway with the limits above."""
    clock = clock or MovableClock()
    async with running_gateway(database_url, clock=clock, **(LIMITS | changes)) as gateway:
        start = 100_000 + int(clock.offset.total_seconds())
        yield Stage(gateway, PatientCaller(gateway.app), clock, iter(range(start, start + 10_000)))


def cards() -> Iterator[str]:
    """Declined cards, each another one."""
    return iter([sandbox_card(str(reason)) for reason in REASONS if 465 <= reason < 493])


async def rows_of(store: Store) -> list[Declines]:
    return list(await store.select(declines.select()))


async def test_a_card_waits_once_it_was_declined_often_and_longer_each_time(database_url: str) -> None:
    async with limited(database_url) as stage:
        assert await stage.states(LOCKED_CARD, 4) == ["declined"] * 3 + ["waits"]
        stage.move(20.5)
        assert await stage.states(LOCKED_CARD, 2) == ["declined", "waits"]
        stage.move(30)
        assert await stage.states(LOCKED_CARD, 1) == ["waits"]
        stage.move(10.5)
        assert await stage.states(LOCKED_CARD, 2) == ["declined", "waits"]


async def test_the_card_waits_wherever_it_is_tried_and_its_payer_may_take_another(database_url: str) -> None:
    async with limited(database_url) as stage:
        await stage.states(LOCKED_CARD, 3, "198.51.100.1")
        assert await stage.states(LOCKED_CARD, 1, "198.51.100.2") == ["waits"]
        assert await stage.states(APPROVED_CARD, 1, "198.51.100.1") == ["approved"]


async def test_an_address_that_tries_many_cards_waits_and_others_do_not(database_url: str) -> None:
    async with limited(database_url) as stage:
        tested = [(await stage.states(number, 1, "2001:db8:7:7::1"))[0] for number in list(cards())[:6]]
        assert tested == ["declined"] * 5 + ["waits"]
        assert await stage.states(APPROVED_CARD, 1, "2001:db8:7:7:ffff::2") == ["waits"]  # the same /64
        assert await stage.states(APPROVED_CARD, 1, "2001:db8:7:8::1") == ["approved"]
        stage.move(20.5)
        assert await stage.states(APPROVED_CARD, 1, "2001:db8:7:7::1") == ["approved"]


async def test_a_terminal_makes_those_wait_who_were_declined_and_nobody_else(database_url: str) -> None:
    changes: dict[str, Any] = {"card_declines_max": 100, "address_declines_max": 100, "terminal_declines_max": 6}
    async with limited(database_url, **changes) as stage:
        numbers = cards()
        for visitor in range(6):  # each card once, each address once: nothing that either would notice
            assert await stage.states(next(numbers), 1, f"198.51.100.{visitor}") == ["declined"]
        assert await stage.states(next(numbers), 1, "198.51.100.3") == ["waits"]  # an address that was declined
        assert await stage.states(sandbox_card("465"), 1, "198.51.100.77") == ["waits"]  # a card that was
        assert await stage.states(APPROVED_CARD, 3, "198.51.100.78") == ["approved"] * 3
        stage.move(20.5)
        assert await stage.states(next(numbers), 1, "198.51.100.3") == ["declined"]
        assert await stage.states(next(numbers), 1, "198.51.100.3") == ["waits"]


async def test_one_visitor_does_not_bring_a_terminal_to_its_limit(database_url: str) -> None:
    async with limited(database_url, terminal_declines_max=8) as stage:
        tested = [await stage.states(number, 1, "198.51.100.1") for number in list(cards())[:20]]
        assert tested.count(["waits"]) == 15
        assert await stage.states(LOCKED_CARD, 2, "198.51.100.2") == ["declined"] * 2


async def test_another_terminal_is_not_touched(database_url: str) -> None:
    changes: dict[str, Any] = {"card_declines_max": 100, "address_declines_max": 100, "terminal_declines_max": 3}
    async with limited(database_url, **changes) as stage:
        admin = Administration(stage.gateway.store, SystemClock(), Ids())
        other = str((await admin.add_terminal(CLIENT_ID, "Another shop")).id)
        numbers = cards()
        for _ in range(3):
            assert await stage.states(next(numbers), 1, "198.51.100.1") == ["declined"]
        assert await stage.states(next(numbers), 1, "198.51.100.1") == ["waits"]
        assert await stage.states(next(numbers), 2, "198.51.100.1", terminal=other) == ["declined"] * 2


async def test_approvals_and_outages_are_not_counted(database_url: str) -> None:
    async with limited(database_url, card_declines_max=1, address_declines_max=1) as stage:
        assert await stage.states(APPROVED_CARD, 4) == ["approved"] * 4
        assert await stage.states(sandbox_card("494"), 2) == ["declined"] * 2  # the issuer is not available
        assert await rows_of(stage.gateway.store) == []


async def test_an_approved_payment_stores_nothing_more(database_url: str) -> None:
    async with limited(database_url, attempt_limits="off") as stage:
        before = stage.gateway.store.batches
        assert await stage.states(APPROVED_CARD, 1) == ["approved"]
        without = stage.gateway.store.batches - before
    async with limited(database_url, MovableClock(timedelta(minutes=1))) as stage:
        before = stage.gateway.store.batches
        assert await stage.states(APPROVED_CARD, 1) == ["approved"]
        # Loops look for what is due in transactions of their own: they may have made a few in one of the two.
        assert stage.gateway.store.batches - before <= without + 3
        assert await rows_of(stage.gateway.store) == []


async def test_a_waiting_card_is_sent_nowhere_and_uses_up_no_attempt(database_url: str) -> None:
    async with limited(database_url) as stage:
        number = sandbox_card("467")  # none that the page prints itself
        await stage.states(number, 3)
        path = await stage.caller.page("000000077")
        for _ in range(5):
            page = await stage.caller.pay(path, number)
            assert (page.status, page.state) == (429, "form")
            assert WAITING in page.text
            assert "ARMAN ALI" in page.text  # what may come back does
            assert number not in page.text
            assert page.headers["cache-control"] == "no-store"
            assert "retry-after" not in page.headers
        assert (await stage.caller.pay(path, APPROVED_CARD)).state == "approved"


@pytest.mark.parametrize(("language", "words"), (("RU", WAITING), ("KZ", "Сәл күтіп"), ("EN", "Please wait a little")))
async def test_the_answer_is_the_same_whatever_the_limit(database_url: str, language: str, words: str) -> None:
    async with limited(database_url, card_declines_max=2, address_declines_max=3) as stage:
        await stage.states(LOCKED_CARD, 2, "198.51.100.1")
        by_card = await stage.attempt(LOCKED_CARD, "198.51.100.9", language=language)
        await stage.states(sandbox_card("484"), 1, "198.51.100.1")
        by_address = await stage.attempt(APPROVED_CARD, "198.51.100.1", language=language)
        assert (by_card.status, by_address.status) == (429, 429)
        assert words in by_card.text
        # All that differs is the order's number and deadline, and the page's own address.
        pages = [re.sub(r"/pay/[\w-]+|\d", "", answer.text) for answer in (by_card, by_address)]
        assert pages[0] == pages[1]


async def test_what_is_under_way_counts(database_url: str) -> None:
    """A burst is as good as its first few: the others wait until it is known what became of those."""
    gate = asyncio.Event()

    class Slow:
        """An acquirer that answers once everybody has come."""

        def __init__(self, inner: Acquirer) -> None:
            self._inner = inner

        def __getattr__(self, name: str) -> Any:
            return getattr(self._inner, name)

        async def send(self, request: AcquirerRequest) -> AcquirerAnswer:
            await gate.wait()
            return await self._inner.send(request)

    async with limited(database_url, wrap_acquirer=Slow, acquirer_timeout_seconds=30.0) as stage:
        paths = [await stage.caller.page(str(next(stage.invoices))) for _ in range(8)]
        burst = [asyncio.create_task(stage.caller.submit(path, LOCKED_CARD)) for path in paths]

        async def rest_has_waited() -> bool:
            return sum(task.done() for task in burst) == 5

        await eventually(rest_has_waited)
        gate.set()
        statuses = sorted([(await task).status for task in burst])
        assert statuses == [303] * 3 + [429] * 5


async def test_challenges_that_nobody_passes_count(database_url: str) -> None:
    async with limited(database_url) as stage:
        began = stage.clock.now()
        for end in ("abandoned", "wrong code", "left"):
            path = await stage.caller.page(str(next(stage.invoices)))
            issuer = Issuer(stage.caller)
            page = await issuer.start(path)
            if end == "abandoned":
                await stage.caller.form(f"{path}/abandon", {}, {"origin": ORIGIN})
            elif end == "wrong code":
                asked = await issuer.arrive(page)
                for _ in range(3):
                    asked = await issuer.answer(asked, "000000")
                await issuer.come_back(asked)
            else:
                stage.move(601)

            async def is_over(path: str = path) -> bool:
                return (await stage.caller.get(path)).state == "declined"

            if end != "left":
                await eventually(is_over)

        async def is_last_counted() -> bool:
            rows = await rows_of(stage.gateway.store)
            return len(rows) == 2 and all(row.last_at > began + 600 * SECOND for row in rows)

        await eventually(is_last_counted)
        assert await stage.states(CHALLENGED_CARD, 1) == ["waits"]


async def test_limits_survive_a_restart_and_hold_in_every_process(database_url: str) -> None:
    clock = MovableClock()
    async with limited(database_url, clock) as stage:
        assert await stage.states(LOCKED_CARD, 3) == ["declined"] * 3
        if not database_url.startswith("sqlite"):
            async with running_gateway(database_url, clock=clock, **LIMITS) as other:
                caller = PatientCaller(other.app)
                assert (await caller.pay(await caller.page("000000078"), LOCKED_CARD)).status == 429
    clock.offset += SECOND
    async with limited(database_url, clock) as stage:
        assert await stage.states(LOCKED_CARD, 1) == ["waits"]


async def test_what_has_faded_is_purged(database_url: str) -> None:
    async with limited(database_url) as stage:
        await stage.states(LOCKED_CARD, 2)
        assert len(await rows_of(stage.gateway.store)) == 2
        stage.move(2 * 3600)
        await stage.gateway.worker._expiry.purge()
        assert await rows_of(stage.gateway.store) == []
        assert await stage.states(LOCKED_CARD, 3) == ["declined"] * 3


async def test_only_keyed_fingerprints_are_stored_and_each_limit_is_told_in_the_log(database_url: str) -> None:
    def counted(name: str) -> float:
        return REGISTRY.get_sample_value("tolem_attempts_limited_total", {"subject": name}) or 0.0

    async with limited(database_url) as stage:
        before = counted("card")
        await stage.states(LOCKED_CARD, 3, "198.51.100.1")
        with capture_logs() as lines:
            assert await stage.states(LOCKED_CARD, 1, "198.51.100.1") == ["waits"]
        (line,) = [line for line in lines if line["event"] == "attempt_limited"]
        assert line["subject"] == "card"
        assert line["address"] == "198.51.100.1"
        assert 0 < line["wait_seconds"] <= 20
        assert str(UUID(line["order"])) == line["order"]
        assert all(LOCKED_CARD[:6] not in str(value) for value in line.values())
        assert counted("card") == before + 1
        hashes = {row.hash for row in await rows_of(stage.gateway.store)}
        assert len(hashes) == 2
        for text in (LOCKED_CARD, "198.51.100.1"):
            for key in (b"", b"card", b"address"):
                assert hmac.digest(key, text.encode(), "sha256") not in hashes


async def test_a_decline_that_cannot_be_counted_is_shown_all_the_same(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object) -> None:
        raise OSError("no disk")

    async with limited(database_url) as stage:
        monkeypatch.setattr("tolem.storage.declines.count", fail)
        with capture_logs() as lines:
            assert await stage.states(LOCKED_CARD, 4) == ["declined"] * 4
        assert sum(line["event"] == "decline_not_counted" for line in lines) == 4


async def test_payers_behind_a_proxy_that_nobody_named_share_no_limit(database_url: str) -> None:
    async with limited(database_url) as stage:
        with capture_logs() as lines:
            tested = [await stage.states(number, 1, "10.0.0.5") for number in list(cards())[:8]]
        assert tested == [["declined"]] * 8
        assert sum(line["event"] == "payers_address_is_local" for line in lines) == 1


async def test_the_address_is_the_one_that_the_trusted_proxy_saw(database_url: str) -> None:
    async with limited(database_url) as stage:
        config = _configure(stage.gateway.app, "10.0.0.5")
        config.load()
        assert isinstance(config.loaded_app, ProxyHeadersMiddleware)

        class Proxied(PatientCaller):
            forwarded = ""

            async def call(self, method: str, path: str, *args: Any, **kwargs: Any) -> Answer:
                body, headers = (*args, b"", None)[:2] if args else (b"", None)
                return await super().call(method, path, body, {"x-forwarded-for": self.forwarded, **(headers or {})})

        caller = Proxied(config.loaded_app)
        behind = stage._replace(caller=caller)
        numbers = cards()
        caller.address = "10.0.0.5"
        for number in range(5):  # what the visitor says of itself stands before what the proxy saw
            caller.forwarded = f"192.0.2.{number}, 198.51.100.1"
            assert await behind.states(next(numbers), 1) == ["declined"]
        assert await behind.states(APPROVED_CARD, 1) == ["waits"]
        caller.forwarded = "198.51.100.1, 198.51.100.2"
        assert await behind.states(APPROVED_CARD, 1) == ["approved"]
        caller.address, caller.forwarded = "203.0.113.50", "198.51.100.1"  # no proxy of ours
        assert await behind.states(APPROVED_CARD, 1) == ["approved"]


async def test_a_sandbox_has_no_limits_unless_it_is_asked_for_them(database_url: str) -> None:
    async with limited(database_url, attempt_limits="", card_declines_max=1, address_declines_max=1) as stage:
        assert await stage.states(LOCKED_CARD, 4) == ["declined"] * 4
        assert await rows_of(stage.gateway.store) == []


async def test_wrong_secrets_are_limited_by_the_same_network(database_url: str) -> None:
    async with limited(database_url) as stage:
        caller = stage.caller
        for number in range(10):
            caller.address = f"2001:db8:7:7::{number}"
            assert (await caller.request_token("000001", client_secret="wrong")).status == 401
        caller.address = "2001:db8:7:7:8::8"
        assert (await caller.request_token("000001")).status == 429
        caller.address = "2001:db8:7:8::8"
        assert (await caller.request_token("000001")).status == 200
