"""The live feed: what joins sees everything, then what changes; nobody looks while nobody watches."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.gateway import eventually

from tolem.web import feed
from tolem.web.feed import EVENTS_MAX, READERS_MAX, REJOIN, Feed


class Books:
    """What there is to show, and how often somebody looked."""

    def __init__(self) -> None:
        self.shown: dict[str, bytes] = {}
        self.looks = 0
        self.error: Exception | None = None

    async def look(self) -> dict[str, bytes]:
        self.looks += 1
        if self.error is not None:
            raise self.error
        return dict(self.shown)

    async def wait_for_looks(self, count: int) -> None:
        async def looked() -> bool:
            return self.looks >= count

        await eventually(looked)


@pytest.fixture
def books(monkeypatch: pytest.MonkeyPatch) -> Books:
    monkeypatch.setattr(feed, "LOOK_SECONDS", 0.005)
    monkeypatch.setattr(feed, "LOOK_SECONDS_MAX", 0.02)
    return Books()


async def read_event(events: AsyncIterator[bytes]) -> tuple[str, Any]:
    async with asyncio.timeout(30):
        event = await anext(events)
    name, data = event.decode().removesuffix("\n\n").split("\n")
    return name.removeprefix("event: "), json.loads(data.removeprefix("data: "))


async def join(live: Feed) -> AsyncIterator[bytes]:
    events = live.read()
    assert await anext(events) == REJOIN
    return events


async def test_everything_at_first_and_then_what_changes(books: Books) -> None:
    books.shown = {"a": b'{"n":1}', "b": b'{"n":2}'}
    live = Feed(books.look)
    events = await join(live)
    assert await read_event(events) == ("all", [{"n": 1}, {"n": 2}])
    books.shown = {"c": b'{"n":3}', "a": b'{"n":1}', "b": b'{"n":20}'}
    assert await read_event(events) == ("changed", [{"n": 3}, {"n": 20}])
    later = await join(live)
    assert await read_event(later) == ("all", [{"n": 3}, {"n": 1}, {"n": 20}])
    books.shown |= {"a": b'{"n":10}'}
    for reader in (events, later):
        assert await read_event(reader) == ("changed", [{"n": 10}])
    live.close()


async def test_an_empty_book_is_told_once(books: Books) -> None:
    live = Feed(books.look)
    events = await join(live)
    assert await read_event(events) == ("all", [])
    await books.wait_for_looks(5)
    books.shown = {"a": b"1"}
    assert await read_event(events) == ("changed", [1])
    live.close()


async def test_nobody_looks_while_nobody_watches(books: Books) -> None:
    live = Feed(books.look)
    assert books.looks == 0
    events = await join(live)
    await read_event(events)
    await events.aclose()  # type: ignore[attr-defined]

    async def is_still() -> bool:
        before = books.looks
        await asyncio.sleep(0.05)
        return books.looks == before

    await eventually(is_still)
    again = await join(live)
    assert (await read_event(again))[0] == "all"
    live.close()


async def test_books_that_cannot_be_read_for_a_while(books: Books) -> None:
    books.error = OSError("away")
    live = Feed(books.look)
    events = await join(live)
    await books.wait_for_looks(3)
    books.error = None
    books.shown = {"a": b"1"}
    assert await read_event(events) == ("all", [1])
    live.close()


async def test_a_silent_stream_says_that_it_is_there(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "HEARTBEAT_SECONDS", 0.01)
    live = Feed(books.look)
    events = await join(live)
    await read_event(events)
    assert await anext(events) == b": still there\n\n"
    live.close()


async def test_a_reader_that_cannot_keep_up_is_cut_off(books: Books) -> None:
    live = Feed(books.look)
    slow, quick = await join(live), await join(live)
    task = asyncio.ensure_future(anext(slow))  # begins to read, and reads no more
    await read_event(quick)
    await task
    for number in range(EVENTS_MAX + 1):
        books.shown = {"a": b"%d" % number}
        assert await read_event(quick) == ("changed", [number])
    with pytest.raises(StopAsyncIteration):
        await anext(slow)
    live.close()


async def test_a_closed_feed_ends_its_streams_and_takes_nobody(books: Books) -> None:
    live = Feed(books.look)
    readers = [await join(live) for _ in range(READERS_MAX)]
    assert live.is_full
    await read_event(readers[0])
    live.close()
    for reader in readers:
        async with asyncio.timeout(30):
            assert b"event: changed" not in b"".join([event async for event in reader])
    assert live.is_full
