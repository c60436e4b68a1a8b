"""An outbox with all that delivers it, for tests: a process of its own on a database; its clock can be moved."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import sqlalchemy as sa

from tests.notifications.shops import sign_nothing
from tolem.domain.message import Attempt, Message, MessageKind, MessageState
from tolem.domain.order import Order, OrderStatus
from tolem.ids import Ids
from tolem.notifications.notifier import Notifier
from tolem.notifications.outbox import Lease, compose
from tolem.notifications.schedule import TryResult
from tolem.notifications.sender import Sender
from tolem.notifications.takeover import note_interruptions
from tolem.notifications.terms import DEFAULT_TERMS, Terms
from tolem.storage import keys
from tolem.storage.claims import free_all_leases
from tolem.storage.open import open_store
from tolem.storage.schema import tolem_schema
from tolem.storage.store import Decision, Store
from tolem.storage.tables import attempts

TERMS = DEFAULT_TERMS._replace(connect_seconds=1, whole_seconds=3)
GAPS, TRIES_MAX = TERMS.gaps, TERMS.tries_max
BODIES = (b'{"code":"error"}', b'{"code":"ok"}')


async def find_terms(_: UUID) -> Terms:
    """Every terminal's."""
    return TERMS


class MovableClock:
    """Real time plus what a test adds; leases may be moved too."""

    def __init__(self) -> None:
        self.ahead = timedelta(0)
        self.real_ahead = timedelta(0)

    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    def real_now(self) -> datetime:
        return datetime.now(UTC) + self.real_ahead


class Post(NamedTuple):
    """A gateway's outbox with all it needs."""

    store: Store
    clock: MovableClock
    ids: Ids
    sender: Sender
    results: list[TryResult]
    instance: int

    def notifier(self, store: Any = None, **options: Any) -> Notifier:
        """A notifier whose loop looks every 20 ms."""
        options.setdefault("poll_seconds", 0.02)
        options.setdefault("on_try", self.results.append)
        return Notifier(store or self.store, self.clock, self.ids, self.sender, self.instance, find_terms, **options)

    async def store_order(self, post_link: str) -> Order:
        """An order whose round has ended."""
        at = self.clock.now()
        order = Order(
            id=self.ids.new(),
            terminal_id=UUID(int=2),
            invoice_id=f"{self.ids.new().int % 10**15:015d}",
            status=OrderStatus.PAID,
            round_id=self.ids.new(),
            amount=10000,
            currency="KZT",
            post_link=post_link,
            created_at=at,
            updated_at=at,
        )
        await self.store.change((keys.order_by_id(order.id),), lambda _: Decision(None, (order,)))
        return order

    async def commit(
        self,
        order: Order,
        lease: Lease | None = None,
        kind: MessageKind = MessageKind.SUCCESS,
        body: bytes = BODIES[1],
        *,
        wakes: bool = False,
    ) -> Message:
        """A message of the order, stored as a flow would."""
        id, at = self.ids.new(), self.clock.now()

        def decide(history: Any) -> Decision[Message]:
            message = compose(
                order, kind, body, id=id, payment_id=None, at=at, earlier=history.messages.values(), lease=lease
            )
            assert message is not None
            return Decision(message, (message,), wakes)

        return await self.store.change((keys.order_by_id(order.id),), decide)

    async def write(self, message: Message) -> None:
        """A message as somebody else left it."""
        await self.store.change((keys.message_by_id(message.id),), lambda _: Decision(None, (message,)))

    async def find(self, message: Message) -> Message:
        """The message as it stands."""
        found = await self.store.find(keys.message_by_id(message.id))
        assert found is not None
        return found.record

    async def list_attempts(self, message: Message) -> list[Attempt]:
        """Its tries, in order."""
        statement = sa.select(attempts).where(attempts.c.message_id == message.id).order_by(attempts.c.number)
        found: list[Attempt] = await self.store.select(statement)
        return found

    async def state_of(self, message: Message) -> MessageState:
        """Where it stands."""
        return (await self.find(message)).state


@asynccontextmanager
async def open_post(url: str, *, frees_leases: bool = True) -> AsyncIterator[Post]:
    """A process of its own on the database; without `frees_leases` it only looks."""
    clock, ids, instance = MovableClock(), Ids(), Ids().instance()
    store = await open_store(url, schema=tolem_schema, instance=instance)
    if frees_leases:
        await note_interruptions(store, ids, await free_all_leases(store), clock.now())
    sender = Sender(clock, sign_nothing, sandbox=True, per_host=32)
    yield Post(store, clock, ids, sender, [], instance)
    await sender.close()
    await store.close()


@asynccontextmanager
async def running(notifier: Notifier, stop_seconds: float = 2) -> AsyncIterator[Notifier]:
    """The durable loop, as the worker runs it."""
    loop = asyncio.create_task(notifier.run())
    yield notifier
    await notifier.stop(stop_seconds)
    await loop


async def until(condition: Callable[[], Coroutine[Any, Any, bool]] | Callable[[], bool], seconds: float = 30) -> None:
    """Waits for something to become true."""
    async with asyncio.timeout(seconds):
        # ASYNC110 wants an event, but what is waited for is in a database.
        while not ((await met) if isinstance(met := condition(), Awaitable) else met):  # noqa: ASYNC110
            await asyncio.sleep(0.005)
