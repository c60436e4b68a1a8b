"""What a caller brings to the store, and the answers that are not the caller's own.

Overloaded       nothing was stored: too much waits, or the store is closing; come again later
  Unavailable    nothing was stored: the database can't be reached
Uncertain        the connection was lost at COMMIT and the outcome could not be learned: read before going on

The first and the last are the domain's own: flows and edge tell them from a caller's mistake.
"""

from typing import Any, Generic, NamedTuple, TypeVar

from tolem.domain.errors import Overloaded
from tolem.storage.mapping import Columns, Record

A = TypeVar("A")
F_co = TypeVar("F_co", covariant=True)


class Unavailable(Overloaded):
    """Nothing was stored: there is no connection to the database."""


class Key(NamedTuple, Generic[F_co]):
    """Names what a change needs to see; keys.py makes them. F_co: what is found under it."""

    kind: type[Record]
    columns: Columns
    """A primary or unique key."""
    value: tuple[Any, ...]
    """One value for each column."""


class Decision(NamedTuple, Generic[A]):
    """What a change comes to."""

    answer: A
    writes: tuple[Record, ...] = ()
    """The new states of rows that were loaded, and new rows."""
    wakes: bool = False
    """True: with the commit something becomes due, and whoever listens is told, in all processes."""
