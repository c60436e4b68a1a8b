"""The simulator's own book: every exchange it was asked for, kept apart from tolem's database.

Written by the simulator only, and committed before it answers, so that what the acquirer approved can be compared with
what tolem and the shop believe. One row per key: a key that comes again is the same exchange. It holds no card number
but the masked one. Read page by page, for statements and for people, beside the simulator if it runs.
"""

from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import msgspec
import sqlalchemy as sa
from sqlalchemy import BigInteger, Column, Integer, Text

from tolem.acquirers.base import Verdict
from tolem.domain.money import AMOUNT_MAX
from tolem.domain.payment import OperationKind
from tolem.storage.columns import Choice, Id, Instant
from tolem.storage.mapping import Mapped, Schema
from tolem.storage.migrate import has_tables, open_with_tables
from tolem.storage.open import is_sqlite, open_store, sqlite_path
from tolem.storage.store import Store

PG_SCHEMA = "simulator"
"""Where the ledger lives on PostgreSQL, apart from tolem's tables if it shares their database."""
PAGE_SIZE = 100
"""Entries read at one time: on SQLite the loop waits for them."""


class LedgerEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One exchange. An authorize or purchase also carries what became of its money."""

    key: UUID
    """AcquirerRequest.key."""
    kind: OperationKind
    """What was asked. `reversal` without an original: the key was reversed before anything came under it."""
    original_key: UUID | None = None
    """The authorize or purchase that the exchange is about."""
    terminal_id: UUID
    amount: int
    """Asked for, minor units."""
    currency: str
    stan: str
    rrn: str
    approval_code: str = ""
    verdict: Verdict
    """What it came to: approved or declined."""
    reason_code: int = 0
    """Of an approved one: 0, or the code of an acquirer that can't tell it (454, 460), though here it is known."""
    masked_pan: str = ""
    captured: int = 0
    """Taken from the payer, minor units; a purchase takes all at once."""
    refunded: int = 0
    """Given back; ≤ captured."""
    at: datetime
    """The gateway's business time."""
    voided_at: datetime | None = None
    """The hold was released by a void."""
    reversed_at: datetime | None = None
    """Undone by a reversal: as if it had never been."""

    @property
    def is_live(self) -> bool:
        """True: approved, and neither voided nor reversed since."""
        return self.verdict is Verdict.APPROVED and self.voided_at is None and self.reversed_at is None

    @property
    def held(self) -> int:
        """Minor units held on the payer's account by this entry now."""
        is_hold = self.kind is OperationKind.AUTHORIZE and self.is_live and not self.captured
        return self.amount if is_hold else 0

    @property
    def taken(self) -> int:
        """Minor units taken from the payer by this entry and not given back."""
        return self.captured - self.refunded if self.is_live else 0


metadata = sa.MetaData()

entries = sa.Table(
    "ledger",
    metadata,
    Column("key", Id, primary_key=True, nullable=False),
    Column("kind", Choice(OperationKind), nullable=False),
    Column("original_key", Id),
    Column("terminal_id", Id, nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("currency", Text, nullable=False),
    Column("stan", Text, nullable=False),
    Column("rrn", Text, nullable=False),
    Column("approval_code", Text, nullable=False),
    Column("verdict", Choice(Verdict), nullable=False),
    Column("reason_code", Integer, nullable=False),
    Column("masked_pan", Text, nullable=False),
    Column("captured", BigInteger, nullable=False),
    Column("refunded", BigInteger, nullable=False),
    Column("at", Instant, nullable=False),
    Column("voided_at", Instant),
    Column("reversed_at", Instant),
    sa.CheckConstraint(f"amount BETWEEN 0 AND {AMOUNT_MAX}", name="ledger_amount"),
    sa.CheckConstraint("0 <= refunded AND refunded <= captured AND captured <= amount", name="ledger_totals"),
    sa.Index("ledger_at", "at", "key"),
)

ledger_schema = Schema(
    Mapped(
        entries,
        LedgerEntry,
        mutable=("captured", "refunded", "voided_at", "reversed_at"),
    ),
    name="ledger",
)


class LedgerMissing(Exception):
    """There is no such book; the message says where it was looked for."""


class Cursor(NamedTuple):
    """Place of an entry in the order of the book: business time, then key."""

    at: datetime
    key: UUID


class Page(NamedTuple):
    """Some entries in a row."""

    entries: list[LedgerEntry]
    next: Cursor | None
    """Where the next page starts after; None: this is the last."""


async def open_ledger(url: str, *, instance: int) -> Store:
    """Makes the book if it is not there and opens it for the simulator. Raises DatabaseInUse if another one has it."""
    return await open_with_tables(url, schema=ledger_schema, instance=instance, pg_schema=PG_SCHEMA)


async def open_ledger_beside(url: str, *, instance: int) -> Store:
    """Opens the book for reading, beside its simulator if that runs. Makes none: raises LedgerMissing."""
    if not has_tables(url, ledger_schema, pg_schema=PG_SCHEMA):
        where = f"{sqlite_path(url)}: " if is_sqlite(url) else f"schema {PG_SCHEMA} of the database: "
        raise LedgerMissing(f"{where}no such ledger; --ledger names another, or --database the gateway's database")
    return await open_store(url, schema=ledger_schema, instance=instance, exclusive=False, pg_schema=PG_SCHEMA)


async def read_page(
    store: Store, since: datetime, until: datetime, after: Cursor | None = None, size: int = PAGE_SIZE
) -> Page:
    """At most `size` entries with since ≤ at < until, oldest first, from the one behind `after` on."""
    place = after or Cursor(since, UUID(int=0))
    found: list[LedgerEntry] = await store.select(
        _PAGE, since=max(since, place.at), until=until, at=place.at, key=place.key, size=size + 1
    )
    rows = found[:size]
    return Page(rows, Cursor(rows[-1].at, rows[-1].key) if len(found) > size else None)


_AT, _KEY = entries.c.at, entries.c.key
_PAGE = (
    sa.select(*entries.columns)
    .where(
        sa.bindparam("since", type_=_AT.type) <= _AT,
        sa.bindparam("until", type_=_AT.type) > _AT,
        sa.or_(sa.bindparam("at", type_=_AT.type) < _AT, sa.bindparam("key", type_=_KEY.type) < _KEY),
    )
    .order_by(_AT, _KEY)
    .limit(sa.bindparam("size", type_=sa.Integer))
)
