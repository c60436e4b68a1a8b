"""Records and their tables: which record rests in which table, what may change, and what hangs on what.

A Schema is what a Store works on; schema.py has tolem's, the simulator's ledger has one of its own. A schema may have a
root (tolem: the order): it is loaded whole, with its children, and whoever changes any of them holds the root's lock.
"""

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any, NamedTuple, TypeAlias

import msgspec
import sqlalchemy as sa

Record: TypeAlias = msgspec.Struct
Columns: TypeAlias = tuple[str, ...]


class Mapped:
    """One record type and its table; the fields of the one are the columns of the other."""

    def __init__(self, table: sa.Table, record: type[Record], *, mutable: Columns = (), unique: Columns = ()) -> None:
        fields = {field.name for field in msgspec.structs.fields(record)}
        if fields != set(table.columns.keys()):
            raise TypeError(f"{record.__name__} and table {table.name} differ: {fields ^ set(table.columns.keys())}")
        self.table = table
        self.record = record
        self.mutable = mutable
        """Columns that an UPDATE writes; without any, rows are only ever added."""
        self.unique = unique
        """A unique key chosen by the outside world: new rows are inserted in its order, so that two processes that
        insert the same ones wait for each other, and never in a circle."""
        self.key: Columns = tuple(column.name for column in table.primary_key)
        self.key_of: Callable[[Any], Any] = attrgetter(*self.key)
        """A record's primary key: the bare value if it has one column, otherwise a tuple."""


class Child(NamedTuple):
    """Records that belong to a root and are loaded with it."""

    record: type[Record]
    column: str
    """Names the root's id."""
    attribute: str
    """The view's dict, from the child's id to the child."""
    where: sa.ColumnElement[bool] | None = None
    """Which ones are loaded; None: all."""
    keeps: Callable[[Any], bool] | None = None
    """The same condition on a record."""


class Root(NamedTuple):
    """The record that everything hangs on."""

    record: type[Record]
    view: Callable[[Any], Any]
    """Makes what decisions see from the record; it has the record and the children's dicts as attributes."""
    attribute: str
    children: tuple[Child, ...] = ()


class Pointer(NamedTuple):
    """A record that names its root: its key loads both."""

    record: type[Record]
    column: str
    """Names the root's id, may be NULL."""
    answer: Callable[[Any, Any], Any]
    """Made of the record and its view (None if it names no root)."""


class Schema:
    """All that one store keeps. Tables are written in the order given."""

    def __init__(self, *mapped: Mapped, root: Root | None = None, pointers: Sequence[Pointer] = (), name: str) -> None:
        self.name = name
        """PostgreSQL: the advisory locks and the migration lock of different schemas don't meet."""
        self.mapped = {one.record: one for one in mapped}
        self.metadata = mapped[0].table.metadata
        self.root = root
        self.pointers = {one.record: one for one in pointers}
        self.children = {one.record: one for one in root.children} if root else {}
        self.mapped_of_table = {one.table: one for one in mapped}
