"""kill -9 of a delivering process in every phase of a delivery, with real sockets and both databases.

Every message is delivered at least once, none disappears, and a shop gets one twice only if it was on its way when the
process ended: such a try has no number, and its order tells that it was interrupted.
"""

import asyncio
import os
import random
import signal
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from multiprocessing.context import ForkServerContext, ForkServerProcess

import pytest

from tests.forks import fork_context
from tests.notifications.post import Post, open_post, running, until
from tests.notifications.shops import Behaviour, Shop, answer, hang, open_shop, raw_open
from tests.notifications.victim import PER_HOST, Case, Phase, run
from tolem.domain.delivery_story import TRY_INTERRUPTED
from tolem.domain.message import Message, MessageState
from tolem.storage.inspection import list_events
from tolem.storage.migrate import migrate

MESSAGES = 40
KILL_AT = 5
"""The phase is reached by so many deliveries before: some are done, some are on their way, some wait."""
VICTIM_SECONDS_MAX = 60


@pytest.fixture(scope="module")
def processes() -> ForkServerContext:
    """Makes victims."""
    return fork_context()


class Victim:
    """A process that delivers, and how the shop kills it."""

    def __init__(self) -> None:
        self.pid = 0
        self.reached = 0

    def reach(self) -> bool:
        """The phase was come to once more; the process ends if it is time. True: now."""
        self.reached += 1
        if self.reached == KILL_AT and self.pid:
            os.kill(self.pid, signal.SIGKILL)
        return self.reached == KILL_AT


def behaviour_of(phase: Phase, victim: Victim) -> Behaviour:
    """How the shop answers while the victim lives."""

    async def behave(writer: asyncio.StreamWriter) -> None:
        if phase is Phase.RECEIVED and victim.reach():
            await hang(writer)
        if phase is Phase.HALF_ANSWERED:
            await raw_open(b"HTTP/1.1 200 OK\r\ncontent-le")(writer)
            if victim.reach():
                await hang(writer)
            await raw_open(b"ngth: 0\r\n\r\n")(writer)
            return
        await answer(200)(writer)
        if phase is Phase.ANSWERED:
            victim.reach()

    return behave


@asynccontextmanager
async def open_deadly_shop(phase: Phase, victim: Victim) -> AsyncIterator[Shop]:
    async with open_shop(behaviour_of(phase, victim)) as shop:
        if phase is Phase.ACCEPTED:
            shop.on_connection = lambda _: victim.reach()
        yield shop


@asynccontextmanager
async def delivering(processes: ForkServerContext, case: Case, victim: Victim) -> AsyncIterator[ForkServerProcess]:
    """A victim that runs."""
    reader, writer = processes.Pipe(duplex=False)
    process = processes.Process(target=run, args=(case, writer))
    process.start()
    writer.close()
    try:
        victim.pid = await asyncio.to_thread(reader.recv)
        yield process
    finally:
        reader.close()
        process.kill()
        process.join()
        process.close()


async def live(processes: ForkServerContext, case: Case, victim: Victim, seconds: float | None = None) -> None:
    """Runs a victim until it is killed, by the shop, by itself, or after so many seconds."""
    async with delivering(processes, case, victim) as process:
        if seconds is not None:
            await asyncio.sleep(seconds)
            os.kill(victim.pid, signal.SIGKILL)
        await asyncio.to_thread(process.join, VICTIM_SECONDS_MAX)
        assert process.exitcode == -signal.SIGKILL


async def commit_messages(url: str, shop: Shop) -> list[Message]:
    async with open_post(url) as post:
        return [await post.commit(await post.store_order(shop.url)) for _ in range(MESSAGES)]


async def look(url: str, messages: list[Message]) -> dict[str, Message]:
    """What the victim has left, by id."""
    async with open_post(url, frees_leases=False) as post:
        return {str(message.id): await post.find(message) for message in messages}


async def is_delivered(post: Post, messages: list[Message]) -> bool:
    return {await post.state_of(message) for message in messages} == {MessageState.DELIVERED}


async def survive(url: str, messages: list[Message]) -> dict[str, int]:
    """Another process takes over; the numbers of tries that are on record, by id."""
    async with open_post(url) as post, running(post.notifier()):
        await until(lambda: is_delivered(post, messages), seconds=30)
        return {str(message.id): len(await post.list_attempts(message)) for message in messages}


async def list_interrupted(url: str, messages: list[Message]) -> list[str]:
    """The ids of messages whose orders tell that a try was interrupted."""
    async with open_post(url, frees_leases=False) as post:
        events = [event for message in messages for event in await list_events(post.store, message.order_id)]
    assert {event.kind for event in events} <= {TRY_INTERRUPTED}
    return sorted(event.detail.removesuffix(" 1") for event in events)


def find_faults(shop: Shop, left: dict[str, Message], tries: dict[str, int]) -> list[str]:
    """What contradicts the contract. `left`: the messages as the victim left them."""
    after = Counter(request.headers["webhook-id"] for request in shop.requests)
    faults = [f"{id}: a stranger" for id in after if id not in left]
    for id, message in left.items():
        was_on_its_way = message.state is MessageState.SENDING
        if not 1 <= after[id] <= 1 + was_on_its_way:
            faults.append(f"{id}: received {after[id]} times, left as {message.state}")
        if tries[id] != 1:
            faults.append(f"{id}: {tries[id]} tries on record")
    return faults


@pytest.mark.parametrize("phase", [phase for phase in Phase if phase is not Phase.ANY], ids=lambda phase: phase.name)
async def test_kill(prepared_url: str, processes: ForkServerContext, phase: Phase) -> None:
    victim = Victim()
    async with open_deadly_shop(phase, victim) as shop:
        messages = await commit_messages(prepared_url, shop)
        await live(processes, Case(prepared_url, phase, KILL_AT), victim)
        left = await look(prepared_url, messages)
        tries = await survive(prepared_url, messages)
        assert find_faults(shop, left, tries) == []
        on_their_way = sorted(id for id, message in left.items() if message.state is MessageState.SENDING)
        assert await list_interrupted(prepared_url, messages) == on_their_way
    states = Counter(message.state for message in left.values())
    ended_in = MessageState.DELIVERED if phase is Phase.STORED else MessageState.SENDING
    assert states[ended_in] >= 1
    assert states[MessageState.WAITING] >= 1


@pytest.mark.parametrize("seed", range(4))
async def test_kill_at_any_moment(prepared_url: str, processes: ForkServerContext, seed: int) -> None:
    victim = Victim()
    async with open_deadly_shop(Phase.ANY, victim) as shop:
        messages = await commit_messages(prepared_url, shop)
        seconds = random.Random(seed).uniform(0, 0.1)
        await live(processes, Case(prepared_url, Phase.ANY, 0), victim, seconds)
        left = await look(prepared_url, messages)
        tries = await survive(prepared_url, messages)
        assert find_faults(shop, left, tries) == []


async def test_of_two_processes_one_is_killed(postgres_url: str, processes: ForkServerContext) -> None:
    migrate(postgres_url, mode="sandbox")
    case = Case(postgres_url, Phase.ANY, 0)
    dying, other = Victim(), Victim()
    async with open_deadly_shop(Phase.ANY, dying) as shop:
        messages = [message for _ in range(4) for message in await commit_messages(postgres_url, shop)]
        async with delivering(processes, case, other), delivering(processes, case, dying):
            await until(lambda: len(shop.requests) >= len(messages) // 4, seconds=30)
            os.kill(dying.pid, signal.SIGKILL)
            async with open_post(postgres_url, frees_leases=False) as post:
                await until(lambda: is_delivered(post, messages), seconds=60)
                tries = [len(await post.list_attempts(message)) for message in messages]
    received = Counter(request.headers["webhook-id"] for request in shop.requests)
    assert received.keys() == {str(message.id) for message in messages}
    # Nothing is sent twice but what the one that was killed had on its way.
    assert max(received.values()) <= 2
    assert sum(count - 1 for count in received.values()) <= PER_HOST
    assert set(tries) == {1}
