"""How an outcome becomes a message: which address it goes to, and who sends it first.

Called by the flows inside the decision that settles an outcome, so that outcome and message are committed together. The
body is rendered by `wire` and never changes afterwards.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from tolem.domain.message import UNDELIVERED, Message, MessageKind, MessageState
from tolem.domain.order import Order
from tolem.notifications.guard import host_of


class Lease(NamedTuple):
    """A process's right to send a message."""

    owner: int
    """The instance."""
    until: datetime
    """Real time."""


def find_address(order: Order, kind: MessageKind) -> str | None:
    """Where an outcome of the order is told; None: nowhere. Failures go to post_link if they have none of their own."""
    if kind is MessageKind.FAILURE and order.failure_post_link:
        return order.failure_post_link
    return order.post_link or None


def compose(
    order: Order,
    kind: MessageKind,
    body: bytes,
    *,
    id: UUID,
    payment_id: UUID | None,
    operation_id: UUID | None = None,
    at: datetime,
    earlier: Iterable[Message] = (),
    lease: Lease | None = None,
) -> Message | None:
    """The message that tells the current round's outcome; None if the order has no address for it.

    `earlier`: the order's other messages as they will stand after this decision. While one of them is undelivered, the
    new one waits for it, and is due when it is. Otherwise, with a `lease`, the committing process holds it from the
    start and must hand it to `Notifier.send` after the commit. `at`: business time.
    """
    url = find_address(order, kind)
    if url is None:
        return None
    due = [message.due_at for message in earlier if message.state in UNDELIVERED]
    if due:
        lease = None
    return Message(
        id=id,
        order_id=order.id,
        round_id=order.round_id,
        terminal_id=order.terminal_id,
        payment_id=payment_id,
        operation_id=operation_id,
        kind=kind,
        url=url,
        host=host_of(url),
        body=body,
        state=MessageState.SENDING if lease else MessageState.WAITING,
        tries=0,
        due_at=max(at, *(instant for instant in due if instant is not None)) if due else at,
        lease_owner=lease.owner if lease else None,
        leased_until=lease.until if lease else None,
        created_at=at,
    )
