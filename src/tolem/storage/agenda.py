"""What business time brings: the work that has fallen due, and the next instant at which some will.

Read where time is moved on purpose (a sandbox's clock): the move stops at each such instant until what fell due is
done. Exchanges without an outcome are not here: recovery's deadlines are real time.
"""

from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa

from tolem.domain.message import MessageState
from tolem.domain.payment import MONEY_KINDS, OperationStatus
from tolem.storage.claims import is_first
from tolem.storage.columns import Instant
from tolem.storage.store import Store
from tolem.storage.sweeps import is_open_round
from tolem.storage.tables import authentications, messages, one_of, operations, orders, payments

COUNT_MAX = 1_000
"""What is counted of each kind: whoever waits need not know how long a backlog is."""


class DueWork(NamedTuple):
    """How much has fallen due and is not done, at most COUNT_MAX of each."""

    waiting: int
    """Messages to be tried."""
    sending: int
    """Messages that are being tried."""
    rounds: int
    """Past their deadline and open."""
    holds: int
    """Past their time and not released; those whose release has no certain answer are recovery's."""
    authentications: int
    """Past their time, with the payer still at the issuer's."""

    @property
    def is_done(self) -> bool:
        """Nothing is left."""
        return not any(self)


async def count_due(store: Store, *, now: datetime) -> DueWork:
    """What has fallen due by `now` (business time)."""
    (row,) = await store.select(_DUE, now=now)
    return DueWork(*row)


async def next_instant(store: Store, *, after: datetime) -> datetime | None:
    """The earliest business instant after `after` at which work falls due; None: there is none."""
    (row,) = await store.select(_NEXT, after=after)
    return min((instant for instant in row if instant is not None), default=None)


def _instant(name: str) -> sa.BindParameter[Any]:
    return sa.bindparam(name, type_=Instant)


def _is_at(state: MessageState) -> sa.ColumnElement[bool]:
    """A message whose turn it is: an older one of its order would have to end first."""
    return sa.and_(one_of(messages.c.state, (state,)), is_first(messages))


def _is_releasable() -> sa.ColumnElement[bool]:
    """A hold that nobody has to be asked about first."""
    return sa.and_(
        payments.c.release_at.is_not(None),
        ~sa.exists().where(
            operations.c.payment_id == payments.c.id,
            operations.c.order_id == payments.c.order_id,
            one_of(operations.c.status, (OperationStatus.UNKNOWN,)),
            one_of(operations.c.kind, MONEY_KINDS),
        ),
    )


def _agenda() -> list[tuple[str, sa.Column[Any], sa.ColumnElement[bool]]]:
    return [
        ("waiting", messages.c.due_at, _is_at(MessageState.WAITING)),
        ("sending", messages.c.due_at, _is_at(MessageState.SENDING)),
        ("rounds", orders.c.deadline_at, is_open_round()),
        ("holds", payments.c.release_at, _is_releasable()),
        ("authentications", authentications.c.deadline_at, authentications.c.deadline_at.is_not(None)),
    ]


def _count(instant: sa.Column[Any], condition: sa.ColumnElement[bool]) -> Any:
    found = sa.select(instant).where(instant <= _instant("now"), condition)
    bounded = found.limit(sa.literal_column(str(COUNT_MAX))).subquery()
    return sa.select(sa.func.count()).select_from(bounded).scalar_subquery()


def _earliest(instant: sa.Column[Any], condition: sa.ColumnElement[bool]) -> Any:
    later = sa.select(instant).where(instant > _instant("after"), condition)
    return later.order_by(instant).limit(sa.literal_column("1")).scalar_subquery()


_DUE = sa.select(*(_count(instant, condition).label(name) for name, instant, condition in _agenda()))
_NEXT = sa.select(*(_earliest(instant, condition).label(name) for name, instant, condition in _agenda()))
