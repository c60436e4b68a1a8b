"""Which processes are gone, as a condition of a statement: what they had leased is free.

Used by the claims in sweeps.py and by what processes of a sandbox share. A process on PostgreSQL holds an advisory lock
in its own name while it lives (postgresql.py). SQLite has no such locks: there a lease ends by its time, and a server
that starts knows that it is alone.
"""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles

from tolem.storage.postgresql import instance_lock_class
from tolem.storage.schema import tolem_schema


class IsOrphaned(sa.sql.functions.FunctionElement[bool]):
    """The process whose instance number this is holds its advisory lock no more; never true on SQLite."""

    name = "is_orphaned"
    inherit_cache = True


@compiles(IsOrphaned, "postgresql")
def _is_orphaned_on_postgresql(element: Any, compiler: Any, **options: Any) -> str:
    (owner,) = element.clauses
    lock_class = instance_lock_class(tolem_schema.name)
    return (
        f"{compiler.process(owner, **options)} NOT IN (SELECT objid::bigint FROM pg_locks"  # noqa: S608 - our own names
        f" WHERE locktype = 'advisory' AND classid = {lock_class} AND objsubid = 2 AND granted"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))"
    )


@compiles(IsOrphaned, "sqlite")
def _is_orphaned_on_sqlite(element: Any, compiler: Any, **options: Any) -> str:
    return "0"
