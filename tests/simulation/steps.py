"""The steps of a payment, counted and named where the gateway's parts meet, and the power cut at one of them.

A step is a moment between two things that the world can tell apart: a commit of tolem's or of the acquirer's ledger
(before it: decided, nothing written; after it: on disk, nobody answered), a message to the acquirer, a notification.
"""

import os
import signal
from asyncio import Future
from collections.abc import Callable, Sequence
from datetime import date, datetime
from typing import Any, NamedTuple, cast
from uuid import UUID

import msgspec
import sqlalchemy as sa

from tolem.acquirers.base import (
    Acquirer,
    AcquirerAnswer,
    AcquirerRequest,
    AuthenticationRequest,
    Authenticator,
    StatementLine,
)
from tolem.bootstrap import Gateway
from tolem.domain.authentication import Authentication, Challenge, DeviceStep
from tolem.domain.card import Card, CardField, CardProblem, TypedCard
from tolem.domain.message import Message
from tolem.domain.order import Page
from tolem.domain.payment import Operation
from tolem.domain.sealed_card import CardKey
from tolem.notifications.schedule import TryResult
from tolem.notifications.terms import Terms
from tolem.sandbox.authenticator import SandboxAuthenticator
from tolem.sandbox.ledger import LedgerEntry
from tolem.sandbox.line import Line
from tolem.storage.store import Decision, Key, Store
from tolem.storage.tables import Setting


class Steps:
    """Counts steps; at number `kill_at` the process ends as by kill -9. None: a dry run, it lives."""

    def __init__(self, kill_at: int | None) -> None:
        self.names: list[str] = []
        self._kill_at = kill_at

    def reach(self, name: str) -> None:
        """One step more."""
        if len(self.names) == self._kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        self.names.append(name)


class WatchedStore:
    """A Store whose commits are steps, unless they write nothing of a payment."""

    def __init__(self, store: Store, steps: Steps) -> None:
        self._store = store
        self._steps = steps

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def change(self, keys: Sequence[Key[Any]], decide: Callable[..., Decision[Any]]) -> "Future[Any]":
        """As Store.change. The step after the commit comes before the caller learns of it."""
        written: list[str] = []

        def watched(*found: Any) -> Decision[Any]:
            decision = decide(*found)
            # The key of an hour is made by its first challenge, whichever that is; and a page is looked at whenever its
            # payer does.
            if not all(isinstance(record, Setting | CardKey | Page) for record in decision.writes):
                written.append(_describe(decision.writes))
                self._steps.reach(f"before commit of {written[-1]}")
            return decision

        def done(future: "Future[Any]") -> None:
            if written and not future.cancelled() and future.exception() is None:
                self._steps.reach(f"after commit of {written[-1]}")

        future = self._store.change(keys, watched)
        future.add_done_callback(done)  # the first of its callbacks: the caller's own comes later
        return future

    def sweep(self, statement: sa.Executable, **params: Any) -> "Future[list[Any]]":
        """As Store.sweep. What a claim will find can't be known before, so there is only a step after it. What a purge
        or the end of the leases of the dead has changed is there at any start as well: no step."""

        def done(future: "Future[list[Any]]") -> None:
            if future.cancelled() or future.exception() is not None:
                return
            claimed = [row for row in future.result() if isinstance(row, msgspec.Struct)]
            if claimed:
                self._steps.reach(f"after claim of {_describe(claimed)}")

        future = self._store.sweep(statement, **params)
        future.add_done_callback(done)
        return future


class Fault(NamedTuple):
    """What goes wrong with the first authorize or purchase."""

    is_delivered: bool
    """True: only the answer is lost."""


class WatchedAcquirer:
    """An acquirer whose exchanges are steps."""

    def __init__(self, acquirer: Acquirer, steps: Steps, fault: Fault | None) -> None:
        assert isinstance(acquirer, Line)
        simulator = acquirer.simulator
        simulator._store = cast(Store, WatchedStore(simulator._store, steps))  # bootstrap opens the ledger itself
        self._acquirer = acquirer
        self._steps = steps
        self._fault = fault

    def check(self, card: TypedCard, today: date) -> dict[CardField, CardProblem]:
        """As the acquirer's."""
        return self._acquirer.check(card, today)

    async def send(self, request: AcquirerRequest) -> AcquirerAnswer:
        """Two steps; the first exchange meets the fault."""
        fault, self._fault = self._fault, None
        self._steps.reach(f"before {request.kind} is sent")
        if fault and not fault.is_delivered:
            raise ConnectionError("the line is cut")
        answer = await self._acquirer.send(request)
        self._steps.reach(f"after {request.kind} is answered")
        if fault:
            raise ConnectionError("the line is cut")
        return answer

    async def statement(self, since: datetime, until: datetime) -> list[StatementLine]:
        """As the acquirer's."""
        return await self._acquirer.statement(since, until)

    async def close(self) -> None:
        """As the acquirer's."""
        await self._acquirer.close()


class WatchedAuthenticator:
    """An authenticator whose questions are steps, and the commits of its access control server."""

    def __init__(self, authenticator: Authenticator, steps: Steps) -> None:
        assert isinstance(authenticator, SandboxAuthenticator)
        book = authenticator._book
        opened = book._opened

        async def open_watched() -> Store:
            return cast(Store, WatchedStore(await opened(), steps))

        book._opened = open_watched  # type: ignore[method-assign]  # bootstrap makes the book itself
        self._authenticator = authenticator
        self._steps = steps

    def find_device_step(self, card: Card, key: UUID, return_url: str) -> DeviceStep | None:
        """As the authenticator's: it asks nobody."""
        return self._authenticator.find_device_step(card, key, return_url)

    async def authenticate(self, request: AuthenticationRequest) -> Authentication | Challenge:
        """A step if the answer is a challenge; any other one is part of reserving."""
        answer = await self._authenticator.authenticate(request)
        if isinstance(answer, Challenge):
            self._steps.reach("after a challenge is asked for")
        return answer

    async def find_result(self, key: UUID, reference: str) -> Authentication | None:
        """A step if there is one."""
        result = await self._authenticator.find_result(key, reference)
        if result is not None:
            self._steps.reach("after the result is told")
        return result

    async def close(self) -> None:
        """As the authenticator's."""
        await self._authenticator.close()


def watch_notifications(gateway: Gateway, steps: Steps) -> None:
    """Makes every try a step before and one after the shop has taken it."""
    send = gateway.sender.send

    async def watched(message: Message, terms: Terms) -> TryResult:
        steps.reach(f"before {message.kind} is told")
        result = await send(message, terms)
        steps.reach(f"after {message.kind} is told")
        return result

    gateway.sender.send = watched  # type: ignore[method-assign]  # open_gateway makes it


def _describe(records: Sequence[msgspec.Struct]) -> str:
    """`payment.authorizing+purchase.prepared`"""
    names = []
    for record in records:
        name = type(record).__name__.lower()
        if isinstance(record, Operation):
            name = record.kind
        elif isinstance(record, LedgerEntry):
            name = f"ledger.{record.kind}.{record.verdict}"
        state = getattr(record, "status", None) or getattr(record, "state", None)
        names.append(f"{name}.{state}" if isinstance(state, str) else name)
    return "+".join(names)
