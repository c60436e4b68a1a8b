"""The process that is killed in the middle of its deliveries. Started by test_kill in a process of its own."""

import asyncio
import os
import signal
from collections.abc import Callable
from enum import Enum
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

from tests.notifications.post import find_terms, open_post
from tolem.domain.message import Message
from tolem.notifications.notifier import Notifier
from tolem.notifications.schedule import TryResult
from tolem.notifications.sender import Sender
from tolem.notifications.terms import Terms
from tolem.storage.store import Store

PER_HOST = 8
"""Tries at one time, so that some messages still wait when it ends."""


class Phase(Enum):
    """Where in a delivery it ends. The shop kills it in the first four, it kills itself in the others."""

    ACCEPTED = "connected, nothing said"
    RECEIVED = "the request is with the shop"
    HALF_ANSWERED = "half of the answer is sent"
    ANSWERED = "the answer is sent"
    CLAIMED = "before it connects"
    HEARD = "the answer is heard, and nothing written of it"
    DECIDED = "the result is decided, and not committed"
    STORED = "the result is stored"
    ANY = "at any moment"


class Case(NamedTuple):
    """One run of a victim."""

    database: str
    phase: Phase
    number: int
    """It ends when that many deliveries have come there."""


class _Countdown:
    def __init__(self, case: Case) -> None:
        self._case = case
        self._left = case.number

    def reach(self, phase: Phase) -> None:
        """Ends the process as kill -9 does, if it is time."""
        if phase is self._case.phase:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


class _WatchedSender:
    def __init__(self, sender: Sender, countdown: _Countdown) -> None:
        self._sender = sender
        self._countdown = countdown

    async def send(self, message: Message, terms: Terms) -> TryResult:
        self._countdown.reach(Phase.CLAIMED)
        result = await self._sender.send(message, terms)
        self._countdown.reach(Phase.HEARD)
        return result


class _WatchedStore:
    def __init__(self, store: Store, countdown: _Countdown) -> None:
        self._store = store
        self._countdown = countdown

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def change(self, keys: Any, decide: Callable[..., Any]) -> Any:
        def watched(*found: Any) -> Any:
            decision = decide(*found)
            self._countdown.reach(Phase.DECIDED)
            return decision

        return self._store.change(keys, watched)


def run(case: Case, told: Connection) -> None:
    """The process: delivers what is due until it is killed."""
    asyncio.run(_live(case, told))


async def _live(case: Case, told: Connection) -> None:
    async with open_post(case.database) as post:
        countdown = _Countdown(case)
        notifier = Notifier(
            _WatchedStore(post.store, countdown),  # type: ignore[arg-type]  # it has all that is used
            post.clock,
            post.ids,
            _WatchedSender(post.sender, countdown),
            post.instance,
            find_terms,
            on_try=lambda _: countdown.reach(Phase.STORED),
            poll_seconds=0.02,
            per_host=PER_HOST,
        )
        told.send(os.getpid())
        await notifier.run()
