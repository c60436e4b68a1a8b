"""What a batch of changes has loaded and what it will write. Each decision sees what the ones before it wrote.

Used by the store for changes, and for a single read by `find`. Loading goes in two steps: first keys → ids of roots,
then the roots' locks, and in later statements, with newer snapshots, everything that hangs on them. A child joined into
the locking statement would be as old as that statement, and an order would be charged twice. So would an idempotency
key that was not there before the lock was waited for: it is read again, too.
"""

from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import cache
from operator import attrgetter
from typing import Any, TypeAlias

from tolem.storage.change import Key
from tolem.storage.mapping import Columns, Record, Schema
from tolem.storage.statements import Query, Row, Rows, Statements

Fetch: TypeAlias = Callable[[Sequence[Query]], Awaitable[list[list[Row]]]]
Wanted: TypeAlias = dict[tuple[type[Record], Columns], set[Row]]
"""The values that are asked for, by record and key."""


class Conflict(Exception):
    """Something changed under the batch between reading and writing: the changes are run again."""


class Batch:
    """The rows of one transaction."""

    def __init__(self, schema: Schema, statements: Statements) -> None:
        self._schema = schema
        self._statements = statements
        self._root = schema.root
        self._root_key: Columns = schema.mapped[schema.root.record].key if schema.root else ()
        self._views: dict[Any, Any] = {}
        self._root_ids: dict[Columns, dict[Row, Any]] = {}
        """Roots that were asked for by another key than their id."""
        self._found: dict[type[Record], dict[Columns, dict[Row, Record]]] = {}
        """All that is not a root, by the keys that were asked for."""
        self._known: defaultdict[type[Record], dict[Any, Record]] = defaultdict(dict)
        """By primary key, as loaded."""
        self._changed: defaultdict[type[Record], dict[Any, Record]] = defaultdict(dict)
        self._new: defaultdict[type[Record], dict[Any, Record]] = defaultdict(dict)

    async def load(self, keys: Iterable[Key[Any]], fetch: Fetch, *, lock: bool) -> None:
        """Reads what the keys name, in at most two round trips. `lock`: roots are locked in the order of their ids, and
        what was read before the lock and may have changed, or come, while it was waited for is read again."""
        wanted: Wanted = {}
        for kind, columns, value in keys:
            wanted.setdefault((kind, columns), set()).add(value)
        root_values: set[Row] = set()
        if self._root is not None:
            root_values = wanted.pop((self._root.record, self._root_key), root_values)
        if wanted or not root_values:  # the transaction begins with the first round trip, even if it asks for nothing
            await self._load_first(wanted, root_values, fetch)
        if root_values:
            await self._load_roots(list(root_values), self._stale(wanted) if lock else {}, fetch, lock)

    def see(self, key: Key[Any]) -> Any:
        """What a decision gets for a key."""
        kind, columns, value = key
        root = self._root
        if root is not None and kind is root.record:
            if columns == self._root_key:
                return self._views.get(value[0])
            root_id = self._root_ids[columns].get(value)
            return None if root_id is None else self._views.get(root_id)
        record = self._found[kind][columns].get(value)
        if record is None:
            return None
        pointer = self._schema.pointers.get(kind)
        if pointer is None:
            return record
        root_id = getattr(record, pointer.column)
        if root_id is None:
            return pointer.answer(record, None)
        view = self._views.get(root_id)
        if view is None:  # written by a decision of this batch that had not loaded the root
            raise Conflict(f"{kind.__name__} names a root that is not loaded")
        return pointer.answer(record, view)

    def put(self, record: Record) -> None:
        """Takes up one write. Raises if a child's root is not loaded: whoever writes it must hold the root's lock."""
        kind = type(record)
        mapped = self._schema.mapped[kind]
        key = mapped.key_of(record)
        child = self._schema.children.get(kind)
        if child is not None:
            view = self._views.get(getattr(record, child.column))
            if view is None:
                raise LookupError(f"{kind.__name__} is written without its root being loaded")
            children = getattr(view, child.attribute)
            if child.keeps is None or child.keeps(record):
                children[key] = record
            else:
                children.pop(key, None)
        elif self._root is not None and kind is self._root.record:
            self._put_root(record, key)
        found = self._found.get(kind)
        if found is not None:
            for columns, records in found.items():
                records[_value_getter(columns)(record)] = record
        if key in self._known[kind]:
            if not mapped.mutable:
                raise TypeError(f"{kind.__name__} is stored already and never changes")
            self._changed[kind][key] = record
        else:
            self._new[kind][key] = record

    @property
    def is_empty(self) -> bool:
        """Nothing to write."""
        return not self._new and not self._changed

    def rows(self) -> list[Rows]:
        """What to run: updates before inserts, so that what ends makes place for what begins; tables in the schema's
        order, new rows in the order of their unique key."""
        texts = []
        for kind in self._schema.mapped:
            if changed := self._changed.get(kind):
                text, encode = self._statements.update[kind]
                texts.append(Rows(text, [encode(record) for record in changed.values()]))
        for kind, mapped in self._schema.mapped.items():
            if new := self._new.get(kind):
                records: Iterable[Record] = new.values()
                if mapped.unique and len(new) > 1:
                    records = sorted(records, key=attrgetter(*mapped.unique))
                text, encode = self._statements.insert[kind]
                texts.append(Rows(text, [encode(record) for record in records]))
        return texts

    def witness(self) -> Query | None:
        """Reads one of the new rows: it is there if, and only if, the batch is stored. None: nothing is new."""
        for kind, new in self._new.items():
            key_columns = self._schema.mapped[kind].key
            key = next(iter(new))
            return self._statements.select(kind, key_columns, [key if len(key_columns) > 1 else (key,)])
        return None

    async def verify(self, fetch: Fetch) -> None:
        """Locks the rows to be changed that hang on no root, and raises Conflict if one is not as it was loaded."""
        for kind, changed in self._changed.items():
            if self._is_guarded(kind):
                continue
            mapped = self._schema.mapped[kind]
            values = [key if len(mapped.key) > 1 else (key,) for key in changed]
            decode = self._statements.decode[kind]
            (rows,) = await fetch([self._statements.select(kind, mapped.key, values, lock=True)])
            now = {mapped.key_of(record): record for record in map(decode, rows)}
            if any(now.get(key) != self._known[kind][key] for key in changed):
                raise Conflict(f"{kind.__name__} was changed by another process")

    @property
    def must_verify(self) -> bool:
        """True: rows are changed that no root's lock guards."""
        return any(not self._is_guarded(kind) for kind in self._changed)

    def _is_guarded(self, kind: type[Record]) -> bool:
        is_root = self._root is not None and kind is self._root.record
        return is_root or kind in self._schema.children or kind in self._schema.pointers

    def _stale(self, wanted: Wanted) -> Wanted:
        """What of the first reading must be read again under the roots' locks: pointers that may change, and those that
        were not there, since whoever held the lock before may have stored them."""
        stale: Wanted = {}
        for (kind, columns), values in wanted.items():
            if kind in self._schema.pointers:
                may_change = bool(self._schema.mapped[kind].mutable)
                again = values if may_change else values - self._found[kind][columns].keys()
                if again:
                    stale[kind, columns] = again
        return stale

    def _put_root(self, record: Record, key: Any) -> None:
        root = self._root
        assert root is not None  # noqa: S101 - for the type checker; the caller has looked
        view = self._views.get(key)
        if view is None:
            self._views[key] = root.view(record)
        else:
            setattr(view, root.attribute, record)
        for columns, ids in self._root_ids.items():
            ids[_value_getter(columns)(record)] = key

    async def _load_first(self, wanted: Wanted, root_values: set[Row], fetch: Fetch) -> None:
        """Everything that is not a root, and the ids of roots; adds those to `root_values`."""
        select = self._statements.select
        root = self._root.record if self._root else None
        queries = [
            select(kind, columns, list(values), answer=(*self._root_key, *columns) if kind is root else ())
            for (kind, columns), values in wanted.items()
        ]
        for (kind, columns), rows in zip(wanted, await fetch(queries), strict=True):
            if kind is root:
                self._note_root_ids(columns, rows, root_values)
            else:
                self._note_records(kind, columns, rows, root_values)

    def _note_root_ids(self, columns: Columns, rows: list[Row], root_values: set[Row]) -> None:
        ids = self._root_ids.setdefault(columns, {})
        root = self._root
        if rows and root is not None:
            decode = self._statements.row_decoder(root.record, (*self._root_key, *columns))
            for row in rows:
                root_id, *value = decode(row)
                ids[tuple(value)] = root_id
                root_values.add((root_id,))

    def _note_records(
        self, kind: type[Record], columns: Columns, rows: list[Row], root_values: set[Row] | None
    ) -> None:
        records = self._found.setdefault(kind, {}).setdefault(columns, {})
        known = self._known[kind]
        decode = self._statements.decode[kind]
        value_of, key_of = _value_getter(columns), self._schema.mapped[kind].key_of
        pointer = self._schema.pointers.get(kind)
        for row in rows:
            record = decode(row)
            records[value_of(record)] = known[key_of(record)] = record
            if root_values is not None and pointer is not None:
                root_id = getattr(record, pointer.column)
                if root_id is not None:
                    root_values.add((root_id,))

    async def _load_roots(self, root_values: list[Row], again: Wanted, fetch: Fetch, lock: bool) -> None:
        root = self._root
        assert root is not None  # noqa: S101 - for the type checker; the caller has looked
        select, decoders = self._statements.select, self._statements.decode
        queries = [select(root.record, self._root_key, root_values, lock=lock)]
        queries += [select(child.record, (child.column,), root_values) for child in root.children]
        queries += [select(kind, columns, list(values)) for (kind, columns), values in again.items()]
        root_rows, *others = await fetch(queries)
        key_of = self._schema.mapped[root.record].key_of
        for record in map(decoders[root.record], root_rows):
            key = key_of(record)
            self._known[root.record][key] = record
            self._views[key] = root.view(record)
        for child, rows in zip(root.children, others, strict=False):
            if rows:
                decode, known = decoders[child.record], self._known[child.record]
                child_key_of = self._schema.mapped[child.record].key_of
                for record in map(decode, rows):
                    key = child_key_of(record)
                    known[key] = record
                    getattr(self._views[getattr(record, child.column)], child.attribute)[key] = record
        for ((kind, columns), values), rows in zip(again.items(), others[len(root.children) :], strict=True):
            for value in values:
                self._found[kind][columns].pop(value, None)
            self._note_records(kind, columns, rows, None)


@cache
def _value_getter(columns: Columns) -> Callable[[Any], Row]:
    """A record's value under a key, always a tuple."""
    if len(columns) == 1:
        get = attrgetter(columns[0])
        return lambda record: (get(record),)
    getter: Callable[[Any], Row] = attrgetter(*columns)
    return getter
