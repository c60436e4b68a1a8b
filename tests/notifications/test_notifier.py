"""The outbox on both databases, with real shops and a clock that can be moved."""

import asyncio
import itertools
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
from msgspec.structs import replace

from tests.notifications.post import BODIES, GAPS, TERMS, TRIES_MAX, Post, open_post, running, until
from tests.notifications.shops import answer, find_free_port, hang, open_shop, reset_after
from tolem.domain.message import Message, MessageKind, MessageState
from tolem.notifications.terms import LEASE
from tolem.storage.migrate import migrate
from tolem.storage.store import Overloaded


async def test_the_first_try_follows_the_commit_at_once(post: Post) -> None:
    notifier = post.notifier()  # its loop does not even run
    async with open_shop(answer(200, body=b"thanks")) as shop:
        message = await post.commit(await post.store_order(shop.url), notifier.lease())
        assert message.state is MessageState.SENDING
        notifier.send(message)
        await notifier.stop(2)
    stored = await post.find(message)
    assert (stored.state, stored.tries, stored.due_at, stored.lease_owner) == (MessageState.DELIVERED, 1, None, None)
    (attempt,) = await post.list_attempts(message)
    assert (attempt.number, attempt.status, attempt.error, attempt.response) == (1, 200, "", b"thanks")
    assert shop.bodies == [BODIES[1]]
    assert shop.requests[0].headers["webhook-id"] == str(message.id)
    assert [result.status for result in post.results] == [200]


async def test_a_failed_first_try_is_repeated_when_it_is_due(post: Post) -> None:
    async with open_shop(answer(500), answer(200)) as shop, running(post.notifier()) as notifier:
        message = await post.commit(await post.store_order(shop.url), notifier.lease())
        notifier.send(message)
        await until(lambda: len(post.results) == 1)
        waiting = await post.find(message)
        assert waiting.state is MessageState.WAITING
        assert waiting.due_at is not None
        assert GAPS[1] * 0.9 < waiting.due_at - post.clock.now() <= GAPS[1] * 1.1
        await asyncio.sleep(0.1)
        assert len(shop.requests) == 1
        post.clock.ahead += GAPS[1] * 1.1
        notifier.wake()
        await until(lambda: len(post.results) == 2)
    assert await post.state_of(message) is MessageState.DELIVERED
    assert shop.bodies == [BODIES[1]] * 2
    assert shop.requests[0].headers["webhook-id"] == shop.requests[1].headers["webhook-id"]


async def test_the_whole_schedule_ends_in_a_dead_letter(post: Post) -> None:
    url = f"http://127.0.0.1:{find_free_port()}/"
    async with running(post.notifier()) as notifier:
        message = await post.commit(await post.store_order(url))
        for number in range(1, TRIES_MAX + 1):
            await until(lambda number=number: len(post.results) == number)
            stored = await post.find(message)
            if stored.due_at is not None:
                post.clock.ahead += stored.due_at - post.clock.now()
                notifier.wake()
        await asyncio.sleep(0.05)
    assert (stored.state, stored.tries, stored.due_at) == (MessageState.DEAD, TRIES_MAX, None)
    tries = await post.list_attempts(message)
    assert [attempt.number for attempt in tries] == list(range(1, TRIES_MAX + 1))
    assert {(attempt.status, attempt.error) for attempt in tries} == {(None, "connection refused")}
    for gap, (before, after) in zip(GAPS[1:], itertools.pairwise(tries), strict=True):
        assert gap <= after.at - before.at <= gap * 1.1 + timedelta(seconds=2)


async def test_410_is_dead_and_retry_after_is_kept(post: Post) -> None:
    async with open_shop(answer(410), answer(503, "retry-after: 3600")) as shop, running(post.notifier()):
        gone = await post.commit(await post.store_order(shop.url))
        await until(lambda: len(post.results) == 1)
        asked = await post.commit(await post.store_order(shop.url))
        await until(lambda: len(post.results) == 2)
    assert await post.state_of(gone) is MessageState.DEAD
    stored = await post.find(asked)
    assert stored.due_at is not None
    assert timedelta(minutes=59) < stored.due_at - post.clock.now() < timedelta(minutes=67)


async def test_messages_of_an_order_arrive_in_order(post: Post) -> None:
    async with open_shop(answer(500), answer(200)) as shop, running(post.notifier()) as notifier:
        order = await post.store_order(shop.url)
        failure = await post.commit(order, notifier.lease(), MessageKind.FAILURE, BODIES[0])
        success = await post.commit(order, notifier.lease())
        assert success.state is MessageState.WAITING  # a lease is not for what has to wait
        notifier.send(failure)
        notifier.send(success)
        await until(lambda: len(post.results) == 1)
        await asyncio.sleep(0.1)
        assert shop.bodies == [BODIES[0]]
        post.clock.ahead += GAPS[1] * 1.1
        notifier.wake()
        await until(lambda: len(post.results) == 3)
    assert shop.bodies == [BODIES[0], BODIES[0], BODIES[1]]
    assert [await post.state_of(message) for message in (failure, success)] == [MessageState.DELIVERED] * 2


async def test_the_end_of_a_message_frees_the_next_at_once(post: Post) -> None:
    async with open_shop() as shop, running(post.notifier(poll_seconds=30)) as notifier:
        order = await post.store_order(shop.url)
        failure = await post.commit(order, notifier.lease(), MessageKind.FAILURE, BODIES[0])
        await post.commit(order)
        notifier.send(failure)
        await until(lambda: len(post.results) == 2)
    assert shop.bodies == list(BODIES)


async def test_a_message_taken_away_while_it_waited_for_an_older_one_is_not_sent(post: Post) -> None:
    release = asyncio.Event()

    async def slowly(writer: asyncio.StreamWriter) -> None:
        await release.wait()
        await answer(500)(writer)

    async with open_shop(slowly, answer(200)) as shop, running(post.notifier()) as notifier:
        order = await post.store_order(shop.url)
        failure = await post.commit(order, notifier.lease(), MessageKind.FAILURE, BODIES[0])
        notifier.send(failure)
        await until(lambda: len(shop.requests) == 1)
        await post.write(replace(failure, state=MessageState.WITHDRAWN, due_at=None))
        success = await post.commit(order, notifier.lease())
        notifier.send(success)
        assert success.leased_until is not None
        taken = replace(success, leased_until=success.leased_until + timedelta(minutes=1))
        await post.write(taken)
        release.set()
        await until(lambda: len(post.results) == 1)
    assert shop.bodies == [BODIES[0]]
    assert await post.find(success) == taken


async def test_a_withdrawn_message_stays_withdrawn_and_is_not_overtaken(post: Post) -> None:
    release = asyncio.Event()

    async def slowly(writer: asyncio.StreamWriter) -> None:
        await release.wait()
        await answer(500)(writer)

    async with open_shop(slowly, answer(200)) as shop, running(post.notifier()) as notifier:
        order = await post.store_order(shop.url)
        failure = await post.commit(order, notifier.lease(), MessageKind.FAILURE, BODIES[0])
        notifier.send(failure)
        await until(lambda: len(shop.requests) == 1)
        await post.write(replace(failure, state=MessageState.WITHDRAWN, due_at=None))
        success = await post.commit(order, notifier.lease())
        assert success.state is MessageState.SENDING
        notifier.send(success)
        await asyncio.sleep(0.1)
        assert shop.bodies == [BODIES[0]]
        release.set()
        await until(lambda: len(post.results) == 2)
        post.clock.ahead += timedelta(days=1)
        notifier.wake()
        await asyncio.sleep(0.1)
    assert shop.bodies == list(BODIES)
    assert await post.state_of(failure) is MessageState.WITHDRAWN
    assert [attempt.status for attempt in await post.list_attempts(failure)] == [500]
    assert await post.state_of(success) is MessageState.DELIVERED


async def test_a_dead_host_does_not_delay_a_healthy_one(post: Post) -> None:
    async with open_shop(hang) as dead, open_shop() as healthy:
        waiting = [await post.commit(await post.store_order(dead.url)) for _ in range(10)]
        for _ in range(10):
            await post.commit(await post.store_order(healthy.url))
        async with running(post.notifier(per_host=2), stop_seconds=0.1) as notifier:
            await until(lambda: len(healthy.requests) == 10, seconds=1)
            late = await post.commit(await post.store_order(healthy.url), notifier.lease())
            notifier.send(late)
            await until(lambda: len(healthy.requests) == 11, seconds=1)
            assert len(dead.requests) == 2
            states = [await post.state_of(message) for message in waiting]
            # Only what has a slot is claimed: another process may have the others.
            assert states.count(MessageState.SENDING) == 2
            more = await post.commit(await post.store_order(dead.url), notifier.lease())
            notifier.send(more)
            await until(lambda: is_waiting(post, more))


async def test_two_hundred_dead_hosts_at_once_leave_room_for_a_healthy_stranger(
    post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.notifications.post.TERMS", TERMS._replace(connect_seconds=30, whole_seconds=30))
    async with open_shop(hang, host="0.0.0.0") as dead, open_shop() as healthy:  # noqa: S104 - all of 127/8
        port = urlsplit(dead.url).port
        for number in range(1, 201):
            url = f"http://127.0.1.{number}:{port}/"
            orders = await asyncio.gather(*(post.store_order(url) for _ in range(4)))
            await asyncio.gather(*(post.commit(order) for order in orders))
        async with running(post.notifier(), stop_seconds=0.1) as notifier:
            await until(lambda: len(dead.requests) >= 200, seconds=15)
            for _ in range(20):
                notifier.send(await post.commit(await post.store_order(healthy.url), notifier.lease()))
            # long before the first of the dead ones is given up
            await until(lambda: len(healthy.requests) == 20, seconds=15)
            assert [result.status for result in post.results] == [200] * len(post.results)


async def is_waiting(post: Post, message: Message) -> bool:
    return await post.state_of(message) is MessageState.WAITING


async def test_what_found_no_slot_goes_when_one_is_free(post: Post) -> None:
    async with open_shop() as shop, running(post.notifier(per_host=1, poll_seconds=30)) as notifier:
        messages = [await post.commit(await post.store_order(shop.url), notifier.lease()) for _ in range(20)]
        for message in messages:
            notifier.send(message)
        await until(lambda: len(post.results) == 20)
    assert sorted(request.headers["webhook-id"] for request in shop.requests) == [
        str(message.id) for message in messages
    ]


async def test_the_backlog_drains_past_the_slots(post: Post) -> None:
    async with open_shop() as shop:
        for _ in range(50):
            await post.commit(await post.store_order(shop.url))
        async with running(post.notifier(concurrency=4, poll_seconds=30)):
            await until(lambda: len(post.results) == 50)
    assert len(shop.requests) == 50


async def test_strangers_whose_share_was_full_go_when_it_has_room(post: Post) -> None:
    async with AsyncExitStack() as stack:
        shops = [await stack.enter_async_context(open_shop()) for _ in range(12)]
        for shop in shops:
            await post.commit(await post.store_order(shop.url))
        async with running(post.notifier(concurrency=8, poll_seconds=300)):
            await until(lambda: len(post.results) == len(shops))
    assert [len(shop.requests) for shop in shops] == [1] * 12


async def test_a_restart_takes_over_what_was_being_sent(prepared_url: str) -> None:
    async with open_shop(hang, answer(200)) as shop:
        async with open_post(prepared_url) as old:
            notifier = old.notifier()
            message = await old.commit(await old.store_order(shop.url), notifier.lease())
            notifier.send(message)
            await until(lambda: len(shop.requests) == 1)
            await notifier.stop(0)  # as good as killed: nothing is stored
            assert await old.state_of(message) is MessageState.SENDING
        async with open_post(prepared_url) as new, running(new.notifier()):
            await until(lambda: len(new.results) == 1)
            assert await new.state_of(message) is MessageState.DELIVERED
    assert shop.bodies == [BODIES[1]] * 2


async def test_a_lease_that_ran_out_is_taken_over(post: Post) -> None:
    async with open_shop() as shop:
        message = await post.commit(await post.store_order(shop.url), post.notifier().lease())
        async with running(post.notifier()):
            await asyncio.sleep(0.1)
            assert shop.requests == []
            post.clock.real_ahead += LEASE
            await until(lambda: len(post.results) == 1)
    assert await post.state_of(message) is MessageState.DELIVERED


async def test_a_result_counts_only_under_its_lease(post: Post) -> None:
    async with open_shop(hang) as shop:
        notifier = post.notifier()
        message = await post.commit(await post.store_order(shop.url), notifier.lease())
        notifier.send(message)
        await until(lambda: len(shop.requests) == 1)
        taken = replace(message, lease_owner=12345)
        await post.write(taken)
        await shop.close()
        await notifier.stop(2)
    assert await post.find(message) == taken
    assert await post.list_attempts(message) == []
    assert post.results == []


async def test_a_database_that_is_away_costs_no_message_and_no_repeat(post: Post) -> None:
    faults = [Overloaded("busy"), OSError("away")]

    class Flaky:
        """The store, failing twice in each way."""

        def __getattr__(self, name: str) -> Any:
            return getattr(post.store, name)

        def change(self, *args: Any) -> Any:
            if faults:
                raise faults.pop()
            return post.store.change(*args)

    async with open_shop() as shop, running(post.notifier(Flaky())):
        message = await post.commit(await post.store_order(shop.url))
        await until(lambda: len(post.results) == 1)
    assert faults == []
    assert len(shop.requests) == 1
    assert await post.state_of(message) is MessageState.DELIVERED


async def test_the_loop_survives_a_database_that_is_away(post: Post) -> None:
    faults = [OSError("away"), Overloaded("busy")]

    class Flaky:
        """The store, whose sweeps fail twice."""

        def __getattr__(self, name: str) -> Any:
            return getattr(post.store, name)

        def sweep(self, *args: Any, **params: Any) -> Any:
            if faults:
                raise faults.pop()
            return post.store.sweep(*args, **params)

    async with open_shop() as shop, running(post.notifier(Flaky())):
        await post.commit(await post.store_order(shop.url))
        await until(lambda: len(post.results) == 1)
    assert faults == []


async def test_stopping_waits_for_what_runs_and_begins_nothing(post: Post) -> None:
    release = asyncio.Event()

    async def slowly(writer: asyncio.StreamWriter) -> None:
        await release.wait()
        await answer(200)(writer)

    async with open_shop(slowly) as shop:
        notifier = post.notifier()
        loop = asyncio.create_task(notifier.run())
        running_one = await post.commit(await post.store_order(shop.url), notifier.lease())
        notifier.send(running_one)
        await until(lambda: len(shop.requests) == 1)
        stopping = asyncio.create_task(notifier.stop(2))
        await asyncio.sleep(0.05)
        late = await post.commit(await post.store_order(shop.url), notifier.lease())
        notifier.send(late)
        await until(lambda: is_waiting(post, late))
        assert not stopping.done()
        release.set()
        await asyncio.gather(stopping, loop)
    assert await post.state_of(running_one) is MessageState.DELIVERED
    assert len(shop.requests) == 1


async def test_a_reset_after_the_body_is_repeated(post: Post) -> None:
    async with open_shop(reset_after(), answer(204)) as shop, running(post.notifier()) as notifier:
        message = await post.commit(await post.store_order(shop.url))
        await until(lambda: len(post.results) == 1)
        post.clock.ahead += GAPS[1] * 1.1
        notifier.wake()
        await until(lambda: len(post.results) == 2)
    assert [attempt.status for attempt in await post.list_attempts(message)] == [None, 204]
    assert len(shop.requests) == 2


async def test_what_another_process_makes_due_is_sent_at_once(postgres_url: str) -> None:
    migrate(postgres_url, mode="sandbox")
    async with open_shop() as shop, open_post(postgres_url) as one, open_post(postgres_url) as other:
        async with running(other.notifier(poll_seconds=300)):
            await until(lambda: other.store._engine._listener.is_listening)  # type: ignore[attr-defined]
            message = await one.commit(await one.store_order(shop.url), wakes=True)
            await until(lambda: len(other.results) == 1)
        assert await one.state_of(message) is MessageState.DELIVERED


async def test_two_processes_share_the_work(postgres_url: str) -> None:
    migrate(postgres_url, mode="sandbox")
    async with open_shop() as shop, open_post(postgres_url) as one, open_post(postgres_url) as other:
        messages = [await one.commit(await one.store_order(shop.url)) for _ in range(60)]
        async with running(one.notifier(per_host=3)), running(other.notifier(per_host=3)):
            await until(lambda: len(one.results) + len(other.results) == 60)
    # Nothing is sent twice in normal running.
    assert sorted(request.headers["webhook-id"] for request in shop.requests) == [
        str(message.id) for message in messages
    ]
    assert one.results
    assert other.results
