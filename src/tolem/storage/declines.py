"""Counting declines: one statement whatever was there before, so that processes never wait for each other's reading."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import cache
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from tolem.domain.declines import Declines
from tolem.storage.columns import Instant
from tolem.storage.store import Store
from tolem.storage.tables import declines


class Counted(NamedTuple):
    """One decline more."""

    hash: bytes
    """Whose."""
    fade: timedelta
    """The time in which it fades."""
    memory: timedelta
    """The time in which all fade, however many there are."""


async def count(store: Store, counted: Sequence[Counted], now: datetime) -> list[Declines]:
    """Adds one decline to each. Answers them as they are now."""
    named: dict[str, Any] = {}
    # In one order, so that two processes that count the same ones wait for each other, and never in a circle.
    for index, (fingerprint, fade, memory) in enumerate(sorted(counted)):
        named |= {f"hash_{index}": fingerprint, f"last_at_{index}": now}
        named |= {f"expires_at_{index}": now + fade, f"most_at_{index}": now + memory}
    return await store.sweep(_statement(store.dialect, len(counted)), **named)


@cache
def _statement(dialect: str, size: int) -> sa.Executable:
    rows = [
        {c.name: sa.bindparam(f"{c.name}_{index}", type_=c.type) for c in declines.columns} for index in range(size)
    ]
    insert = (sqlite.insert if dialect == "sqlite" else postgresql.insert)(declines).values(rows)
    new = insert.excluded
    begins_at = sa.case((declines.c.expires_at > new.last_at, declines.c.expires_at), else_=new.last_at)
    ends_at = begins_at + (new.expires_at - new.last_at)
    most_at = sa.case(
        *(
            (declines.c.hash == row["hash"], sa.bindparam(f"most_at_{index}", type_=Instant))
            for index, row in enumerate(rows)
        )
    )
    return insert.on_conflict_do_update(
        index_elements=[declines.c.hash],
        set_={"last_at": new.last_at, "expires_at": sa.case((ends_at < most_at, ends_at), else_=most_at)},
    ).returning(*declines.columns)
