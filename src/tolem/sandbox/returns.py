"""Which comes first, the payer's browser or the notification: stands in front of the edge and watches result pages.

A browser goes back to the shop from the page that shows how its round ended. So holding that page back until the
notification was tried brings the notification first (`before_return`), and holding the notification until the page was
shown brings the browser first (`after_return`). Without such a fault nothing is touched.
"""

import asyncio
from datetime import timedelta

from msgspec.structs import replace
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tolem.clock import Clock
from tolem.domain import message as notification
from tolem.domain.history import MessageWithOrder, PageWithOrder
from tolem.domain.message import MessageState
from tolem.domain.order import OrderStatus
from tolem.ids import hash_secret_address
from tolem.sandbox import faults
from tolem.sandbox.carrier import FaultyCarrier
from tolem.sandbox.faults import RETURN_LIMIT, RETURN_SECONDS, DeliveryFault, FaultKind
from tolem.sandbox.state import SharedState
from tolem.storage import keys
from tolem.storage.store import Decision, Store

PAGE_PREFIX = "/pay/"
RETURN_FAULTS = (FaultKind.AFTER_RETURN, FaultKind.BEFORE_RETURN)
HOLD_SECONDS_MAX = 20.0
"""So long a result page waits for its notification (real time)."""
LOOK_SECONDS = 0.02


class ReturnWatch:
    """ASGI in front of `app`."""

    def __init__(self, app: ASGIApp, store: Store, clock: Clock, state: SharedState, carrier: FaultyCarrier) -> None:
        self._app = app
        self._store = store
        self._clock = clock
        self._state = state
        self._carrier = carrier

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers as `app` does, later if a fault says so."""
        if not any(fault.fault in RETURN_FAULTS for fault in self._state.current.faults) or not _is_page(scope):
            await self._app(scope, receive, send)
            return
        answered: list[Message] = []

        async def keep(message: Message) -> None:
            answered.append(message)

        await self._app(scope, receive, keep)
        await self._await_order_of_return(hash_secret_address(scope["path"].removeprefix(PAGE_PREFIX)))
        for message in answered:
            await send(message)

    async def _await_order_of_return(self, page_hash: bytes) -> None:
        """Returns when the page may reach the browser."""
        deadline = asyncio.get_running_loop().time() + HOLD_SECONDS_MAX
        while asyncio.get_running_loop().time() < deadline:
            found = await self._store.find(keys.page_by_hash(page_hash))
            if found is None or found.history.order.status is OrderStatus.OPEN:
                return  # the page does not lead back yet
            if not await self._must_wait(found):
                return
            await asyncio.sleep(LOOK_SECONDS)

    async def _must_wait(self, found: PageWithOrder) -> bool:
        must_wait = False
        for message in list(found.history.messages.values()):
            if message.tries:
                continue
            met = await self._list_met(message)
            if faults.find(met, FaultKind.BEFORE_RETURN):
                must_wait = True
            if faults.find(met, FaultKind.AFTER_RETURN):
                # Until the carrier has put it back it can't be let go; that takes a moment only.
                must_wait = must_wait or message.state is MessageState.SENDING
                await self._let_go(message)
        return must_wait

    async def _list_met(self, message: notification.Message) -> list[DeliveryFault]:
        suspects = [fault for fault in self._state.current.faults if faults.may_meet(fault, message)]
        told = await self._carrier.find_told(message) if suspects else None
        return [fault for fault in suspects if told is not None and faults.meets(fault, message, told)]

    async def _let_go(self, message: notification.Message) -> None:
        """The browser is about to return: a notification that waits for it sets out soon after."""
        due_at = self._clock.now() + timedelta(seconds=RETURN_SECONDS)

        def decide(found: MessageWithOrder | None) -> Decision[None]:
            record = found.record if found else None
            if record is None or record.state is not MessageState.WAITING or record.tries:
                return Decision(None)
            if record.due_at != record.created_at + RETURN_LIMIT:
                return Decision(None)
            return Decision(None, (replace(record, due_at=due_at),))

        await self._store.change((keys.message_by_id(message.id),), decide)


def _is_page(scope: Scope) -> bool:
    """A browser asks for a payment page."""
    if scope["type"] != "http" or scope["method"] != "GET" or not scope["path"].startswith(PAGE_PREFIX):
        return False
    return "/" not in scope["path"].removeprefix(PAGE_PREFIX)
