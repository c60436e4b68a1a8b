"""Short reads for the command line, readiness and metrics, beside the writer."""

import sqlalchemy as sa

from tolem.domain.merchant import Merchant, Terminal
from tolem.domain.message import UNDELIVERED
from tolem.domain.payment import OPEN_OPERATIONS
from tolem.storage.schema import merchants, messages, one_of, operations, terminals
from tolem.storage.store import Store


async def list_merchants(store: Store) -> list[Merchant]:
    """All merchants, oldest first."""
    return await store.select(_MERCHANTS)


async def list_terminals(store: Store) -> list[Terminal]:
    """All terminals, oldest first."""
    return await store.select(_TERMINALS)


async def count_undelivered(store: Store) -> int:
    """Messages that are still to be delivered."""
    ((count,),) = await store.select(_UNDELIVERED)
    return int(count)


async def count_open_operations(store: Store) -> int:
    """Exchanges with the acquirer whose outcome is not known (yet)."""
    ((count,),) = await store.select(_OPEN_OPERATIONS)
    return int(count)


_MERCHANTS = sa.select(*merchants.columns).order_by(merchants.c.created_at, merchants.c.id)
_TERMINALS = sa.select(*terminals.columns).order_by(terminals.c.created_at, terminals.c.id)
_COUNT = sa.func.count().label("count")
_UNDELIVERED = sa.select(_COUNT).select_from(messages).where(one_of(messages.c.state, UNDELIVERED))
# `due_at` is set as long as the outcome is open: its index holds the few rows that are
_OPEN_OPERATIONS = (
    sa.select(_COUNT)
    .select_from(operations)
    .where(operations.c.due_at.is_not(None), one_of(operations.c.status, OPEN_OPERATIONS))
)
