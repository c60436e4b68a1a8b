"""What must never be found, and where it was looked for.

Called by test_secrets. A card number counts with and without separators, and by any twelve of its leading or trailing
digits; a security code, which any text may hold by chance, counts as a word of its own.
"""

import re
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import psycopg
from psycopg import sql

SHOWN_DIGITS = 12
"""So many digits of a number in a row are more than its mask shows."""
SEPARATORS = ("", " ", "-", "+", "%20")

# Numbers that are ours: where a trace points, how long something took.
_NUMBERS_OF_OURS = re.compile(r'line \d+|"(?:milliseconds|duration_ms)":\d+')


class Secrets:
    """All that a test typed or was given."""

    def __init__(self) -> None:
        self.pans: set[str] = set()
        self.cvcs: set[str] = set()
        self.words: set[str] = set()
        """Client secrets, access tokens, page ids."""

    def find_in(self, text: str, allowed: Iterable[str] = ()) -> list[str]:
        """Which of them a text holds, but for the words that are allowed there."""
        found = [pan for pan in self.pans if any(needle in text for needle in _needles(pan))]
        found += [word for word in self.words.difference(allowed) if word in text]
        plain = _NUMBERS_OF_OURS.sub("", text)
        found += [cvc for cvc in self.cvcs if re.search(rf"(?<![\w.-]){cvc}(?![\w-])", plain)]
        return found

    def find_in_bytes(self, data: bytes) -> list[str]:
        """The same for a file of a database, where any three digits may stand by chance."""
        found = [pan for pan in self.pans if any(needle.encode() in data for needle in _needles(pan))]
        return found + [word for word in self.words if word.encode() in data]


class Cell(NamedTuple):
    """One value of one row."""

    place: str
    """`table.column`"""
    text: str


def read_cells(connection: "psycopg.Connection[tuple[object, ...]]") -> Iterator[Cell]:
    """Every value of every table of a PostgreSQL database."""
    tables = connection.execute(
        "SELECT schemaname, tablename FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
    ).fetchall()
    for schema, table in tables:
        cursor = connection.execute(sql.SQL("SELECT * FROM {}").format(sql.Identifier(str(schema), str(table))))
        columns = [column.name for column in cursor.description or ()]
        yield from _cells(str(table), columns, cursor.fetchall())


def read_sqlite_cells(path: Path) -> Iterator[Cell]:
    """The same of a SQLite file."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        for (table,) in tables:
            cursor = connection.execute(f'SELECT * FROM "{table}"')  # noqa: S608 - a name of our own schema
            yield from _cells(table, [column[0] for column in cursor.description], cursor.fetchall())


def _cells(table: str, columns: list[str], rows: Iterable[tuple[object, ...]]) -> Iterator[Cell]:
    for row in rows:
        for column, value in zip(columns, row, strict=True):
            if column == "duration_ms":  # any number of milliseconds
                continue
            yield Cell(f"{table}.{column}", value.decode("latin-1") if isinstance(value, bytes) else str(value))


def _needles(pan: str) -> Iterator[str]:
    """Its first and last digits, bare and in the groups that people write."""
    for digits in (pan[:SHOWN_DIGITS], pan[-SHOWN_DIGITS:]):
        for separator in SEPARATORS:
            yield separator.join(re.findall("....", digits))
    if len(pan) == 15:  # American Express: 4, 6 and 5
        yield f"{pan[:4]} {pan[4:10]}"
