"""The way between the gateway and its shops, with its faults: stands in front of the sender and is what the notifier
knows as its carrier.

Invariant: faults hold, lose, repeat or change what travels. What is stored stays true: a message keeps its bytes, an
attempt tells what the gateway would see, and a message that is held has given its lease back, so that any process takes
it up when its time has come.
"""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

import sqlalchemy as sa
from msgspec.structs import replace

from tolem.clock import Clock
from tolem.domain.history import MessageWithOrder
from tolem.domain.message import Fault, Message, MessageState
from tolem.notifications.attempts import is_leased
from tolem.notifications.notifier import Carrier, Notifier
from tolem.notifications.schedule import TryResult
from tolem.notifications.signature import Sign
from tolem.notifications.terms import Terms
from tolem.sandbox import faults
from tolem.sandbox.faults import SWAP_PAUSE, Corruption, DeliveryFault, FaultKind, Told
from tolem.sandbox.state import SharedState
from tolem.storage import keys
from tolem.storage.columns import Id
from tolem.storage.store import Decision, Store
from tolem.storage.tables import messages
from tolem.telemetry import log

REPEAT_SECONDS_MIN = 0.05
"""A repetition with less time than this is left out."""


class FaultyCarrier:
    """Carries messages to `sender`, unless a fault meets them."""

    def __init__(self, store: Store, clock: Clock, state: SharedState) -> None:
        self._store = store
        self._clock = clock
        self._state = state
        self._sender: Carrier | None = None
        self._notifier: Notifier | None = None
        self._sent: dict[UUID, Message] = {}
        """Messages whose bytes are changed on the way, as they were sent."""
        self._missigned: set[UUID] = set()

    def before(self, sender: Carrier) -> "FaultyCarrier":
        """This carrier in front of the sender that carries what no fault meets."""
        self._sender = sender
        return self

    def join(self, notifier: Notifier) -> None:
        """The notifier that sends a message which overtakes another one."""
        self._notifier = notifier

    def signing(self, sign: Sign) -> Sign:
        """`sign` for a sender behind this carrier: the signature is that of what was sent, not of what arrives."""

        async def sign_sent(message: Message, real_now: datetime) -> Mapping[str, str]:
            headers = dict(await sign(self._sent.get(message.id, message), real_now))
            if message.id in self._missigned and "webhook-signature" in headers:
                headers["webhook-signature"] = _spoil(headers["webhook-signature"])
            return headers

        return sign_sent

    async def send(self, message: Message, terms: Terms) -> TryResult | None:
        """One try; None: the message is held, and its lease given back."""
        assert self._sender is not None  # noqa: S101 - `before` comes first
        suspects = [fault for fault in self._state.current.faults if faults.may_meet(fault, message)]
        if not suspects or (told := await self.find_told(message)) is None:
            return await self._sender.send(message, terms)
        met = [fault for fault in suspects if faults.meets(fault, message, told)]
        if not met:
            return await self._sender.send(message, terms)
        log.info("sandbox_fault", message_id=str(message.id), faults=[f"{fault.id} {fault.fault}" for fault in met])
        until = faults.held_until(met, message, told, self._clock.now())
        if until is not None:
            await self._put_back(message, until)
            return None
        if faults.find(met, FaultKind.REORDER) and told.newer_untried and not message.tries:
            await self._let_newer_pass(message)
            return None
        return await self._send_met(self._sender, met, message, terms, told)

    async def _send_met(
        self, sender: Carrier, met: Sequence[DeliveryFault], message: Message, terms: Terms, told: Told
    ) -> TryResult | None:
        """A try that sets out, and what becomes of it on the way."""
        if lost := faults.find(met, FaultKind.LOSE):
            return TryResult(None, f"lost on the way by the sandbox's fault {lost.id}", fault=Fault.SANDBOX)
        travels, change = message, ""
        if corrupting := faults.find(met, FaultKind.CORRUPT):
            how, body = faults.corrupt(corrupting, message.body, told, message.tries)
            travels = replace(message, body=body)
            change = f"changed on the way ({how}) by the sandbox's fault {corrupting.id}"
            self._sent[message.id] = message
            if how is Corruption.SIGNATURE:
                self._missigned.add(message.id)
        try:
            repeated = faults.find(met, FaultKind.REPEAT)
            result = await _send_often(sender, travels, terms, repeated.times if repeated else 1)
        finally:
            self._sent.pop(message.id, None)
            self._missigned.discard(message.id)
        if result is None:
            return None
        if change:
            words = f"{result.error}; {change}" if result.error else change
            result = result._replace(error=words, fault=Fault.SANDBOX if result.status is not None else result.fault)
        if lost := faults.find(met, FaultKind.LOSE_ANSWER):
            was = f"{result.status or ''} {result.error}".strip()
            words = f"the answer ({was}) was lost on the way by the sandbox's fault {lost.id}"
            return result._replace(status=None, error=words, response=b"", retry_after=None, fault=Fault.SANDBOX)
        return result

    async def find_told(self, message: Message) -> Told | None:
        """What faults may know of it; None: it is not stored."""
        found = await self._store.find(keys.message_by_id(message.id))
        if found is None:
            return None
        of_order: list[tuple[UUID, MessageState, int]] = await self._store.select(_OF_ORDER, order_id=message.order_id)
        older = [row for row in of_order if row[0] < message.id]
        newer = [row for row in of_order if row[0] > message.id]
        return Told(
            invoice=found.history.order.invoice_id,
            number=len(older),
            has_older=any(id in found.history.messages for id, _, _ in older),
            newer_untried=any(id in found.history.messages and not tries for id, _, tries in newer),
            newer_tried=any(tries for _, _, tries in newer),
        )

    async def _put_back(self, message: Message, until: datetime) -> None:
        def decide(found: MessageWithOrder | None) -> Decision[None]:
            if found is None or not _is_ours(found.record, message):
                return Decision(None)
            return Decision(None, (_waiting(found.record, until),))

        await self._store.change((keys.message_by_id(message.id),), decide)

    async def _let_newer_pass(self, message: Message) -> None:
        """The next message of the order is sent now, and this one looks again a little later."""
        assert self._notifier is not None  # noqa: S101 - bootstrap has joined them
        lease = self._notifier.lease()
        until = self._clock.now() + SWAP_PAUSE

        def decide(found: MessageWithOrder | None) -> Decision[Message | None]:
            if found is None or not _is_ours(found.record, message):
                return Decision(None)
            waiting = [
                other
                for other in found.history.messages.values()
                if other.id > message.id and other.state is MessageState.WAITING and not other.tries
            ]
            held = _waiting(found.record, until)
            if not waiting:  # it is on its way already
                return Decision(None, (held,))
            following = min(waiting, key=lambda other: other.id)
            passing = replace(following, state=MessageState.SENDING, lease_owner=lease.owner, leased_until=lease.until)
            return Decision(passing, (held, passing))

        passing = await self._store.change((keys.message_by_id(message.id),), decide)
        if passing is not None:
            self._notifier.send(passing)


async def _send_often(sender: Carrier, message: Message, terms: Terms, times: int) -> TryResult | None:
    """The same several times within the time of one try: the message's lease is for no more. What brought the first
    success counts, or the first."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + terms.whole_seconds
    result = await sender.send(message, terms)
    for _ in range(times - 1):
        left = deadline - loop.time()
        if left < REPEAT_SECONDS_MIN:
            break
        again = await sender.send(message, terms._replace(whole_seconds=left))
        if result is None or (again is not None and again.is_delivered and not result.is_delivered):
            result = again
    return result


def _is_ours(record: Message, message: Message) -> bool:
    """The stored message is still in the hands of the try that was to begin."""
    return message.lease_owner is not None and is_leased(record, message, message.lease_owner)


def _waiting(record: Message, due_at: datetime) -> Message:
    return replace(record, state=MessageState.WAITING, due_at=due_at, lease_owner=None, leased_until=None)


def _spoil(signatures: str) -> str:
    """The same, each with another first character."""
    spoilt = []
    for signature in signatures.split(" "):
        version, _, value = signature.partition(",")
        spoilt.append(f"{version},{'B' if value.startswith('A') else 'A'}{value[1:]}")
    return " ".join(spoilt)


_OF_ORDER = sa.select(messages.c.id, messages.c.state, messages.c.tries).where(
    messages.c.order_id == sa.bindparam("order_id", type_=Id)
)
