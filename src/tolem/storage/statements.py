"""Statement texts: written with SQLAlchemy Core, compiled once per dialect, run as text on the driver.

Called by the store and the loading of batches. Beside each text stands the generated function that turns records into
the driver's rows, or rows into records.
"""

from collections.abc import Callable, Sequence
from functools import cache
from operator import itemgetter
from typing import Any, NamedTuple, TypeAlias

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from tolem.storage.columns import Codec, codec_of, compile_codec, generate
from tolem.storage.mapping import Columns, Mapped, Record, Schema

Row: TypeAlias = tuple[Any, ...]
Decoder: TypeAlias = Callable[[Row], Any]


class Query(NamedTuple):
    """A text with its values."""

    text: str
    values: Row


class Write(NamedTuple):
    """A text and its encoder: record → row."""

    text: str
    encode: Callable[[Any], Row]


class Rows(NamedTuple):
    """A text and the rows to run it with."""

    text: str
    rows: list[Row]


class Prepared(NamedTuple):
    """A statement of sweeps.py or queries.py, compiled."""

    text: str
    encode: Callable[[dict[str, Any]], Row]
    """Named parameters → the driver's values."""
    decode: Decoder
    """Row → the mapped record if the statement answers a whole one, otherwise a tuple of the domain's values."""


class Statements:
    """The statements of one schema in one dialect (`sqlite` or `postgresql`)."""

    def __init__(self, schema: Schema, dialect: str) -> None:
        self.dialect = dialect
        self._schema = schema
        self._compiler: sa.Dialect = (
            sqlite.dialect() if dialect == "sqlite" else postgresql.dialect(paramstyle="format")  # type: ignore[no-untyped-call]
        )
        self.insert: dict[type[Record], Write] = {}
        self.update: dict[type[Record], Write] = {}
        self.decode: dict[type[Record], Decoder] = {}
        for mapped in schema.mapped.values():
            self._add(mapped)
        self._selects: dict[tuple[object, ...], str] = {}
        self._key_encoders: dict[tuple[type[Record], Columns], Callable[[Row], Row]] = {}
        self._row_decoders: dict[tuple[type[Record], Columns], Decoder] = {}
        self._prepared: dict[sa.Executable, Prepared] = {}

    def select(
        self,
        record: type[Record],
        columns: Columns,
        values: Sequence[Row],
        *,
        lock: bool = False,
        answer: Columns = (),
    ) -> Query:
        """The rows of `record` whose `columns` have one of `values`; `answer` names columns, empty: all.

        With `lock` the rows are locked in the order of their key. The list is padded to a power of two by repeating its
        last value, so that a few texts serve every batch.
        """
        size = 1 << (len(values) - 1).bit_length()
        name = (record, columns, size, lock, answer)
        text = self._selects.get(name)
        if text is None:
            text = self._selects[name] = self._select_text(self._schema.mapped[record], columns, size, lock, answer)
        encoder = self._key_encoders.get((record, columns))
        if encoder is None:
            encoder = self._key_encoders[record, columns] = self._key_encoder(record, columns)
        encoded: list[Any] = []
        for value in values:
            encoded += encoder(value)
        return Query(text, (*encoded, *encoded[-len(columns) :] * (size - len(values))))

    def prepared(self, statement: sa.Executable) -> Prepared:
        """A Core statement with named parameters, compiled at its first use; keep statements in module constants."""
        found = self._prepared.get(statement)
        if found is None:
            found = self._prepared[statement] = self._prepare(statement)
        return found

    def row_decoder(self, record: type[Record], columns: Columns) -> Decoder:
        """Rows of some columns of `record` → tuples of the domain's values."""
        decoder = self._row_decoders.get((record, columns))
        if decoder is None:
            table = self._schema.mapped[record].table
            decoder = self._row_decoders[record, columns] = self._tuple_decoder([table.c[name] for name in columns])
        return decoder

    def _add(self, mapped: Mapped) -> None:
        table = mapped.table
        insert = table.insert().values({c.name: sa.bindparam(c.name, type_=c.type) for c in table.columns})
        self.insert[mapped.record] = Write(self._text(insert), self._encoder(list(table.columns)))
        self.decode[mapped.record] = self._decoder(mapped)
        if mapped.mutable:
            changed = [table.c[name] for name in mapped.mutable]
            keys = list(table.primary_key.columns)
            update = table.update().values({c.name: sa.bindparam(f"new_{c.name}", type_=c.type) for c in changed})
            update = update.where(*[c == sa.bindparam(f"key_{c.name}", type_=c.type) for c in keys])
            # SET follows the table's order of columns, whatever the order of `mutable`
            ordered = [c for c in table.columns if c.name in mapped.mutable]
            self.update[mapped.record] = Write(self._text(update), self._encoder([*ordered, *keys]))

    def _text(self, statement: sa.ClauseElement) -> str:
        return str(statement.compile(dialect=self._compiler, compile_kwargs={"render_postcompile": True}))

    def _encoder(self, columns: Sequence[sa.Column[Any]]) -> Callable[[Any], Row]:
        """record → tuple, as one generated expression."""
        names: dict[str, object] = {}
        parts = [self._expression(column, "encode", f"r.{column.name}", names) for column in columns]
        encode: Callable[[Any], Row] = generate(f"lambda r: ({', '.join(parts)},)", names)
        return encode

    def _decoder(self, mapped: Mapped) -> Decoder:
        """row → record, as one generated call with keywords."""
        names: dict[str, object] = {"_Record": mapped.record}
        variables = [f"v{number}" for number in range(len(mapped.table.columns))]
        parts = [
            f"{column.name}={self._expression(column, 'decode', variable, names)}"
            for variable, column in zip(variables, mapped.table.columns, strict=True)
        ]
        build = generate(f"lambda {', '.join(variables)}: _Record({', '.join(parts)})", names)
        decode: Decoder = lambda row: build(*row)  # noqa: E731 - one call more is cheaper than indexing each column
        return decode

    def _expression(self, column: sa.ColumnElement[Any], side: str, value: str, names: dict[str, object]) -> str:
        codec: Codec = codec_of(column.type, self.dialect)
        template = codec.encode if side == "encode" else codec.decode
        names.update(codec.names)
        if template == "{v}":
            return value
        expression = template.format(v=value)
        is_nullable = getattr(column, "nullable", True) is not False  # a computed column does not say
        return f"(None if {value} is None else {expression})" if is_nullable else expression

    def _key_encoder(self, record: type[Record], columns: Columns) -> Callable[[Row], Row]:
        names: dict[str, object] = {}
        table = self._schema.mapped[record].table
        parts = [self._expression(table.c[c], "encode", f"k[{i}]", names) for i, c in enumerate(columns)]
        encode: Callable[[Row], Row] = generate(f"lambda k: ({', '.join(parts)},)", names)
        return encode

    def _select_text(self, mapped: Mapped, columns: Columns, size: int, lock: bool, answer: Columns) -> str:
        table = mapped.table
        keys = [table.c[name] for name in columns]
        if len(keys) == 1:
            among = [sa.bindparam(f"k{i}", type_=keys[0].type) for i in range(size)]
            condition: sa.ColumnElement[bool] = keys[0].in_(among)
        else:
            # a list of row values would be a scan on SQLite, this is a look-up in the index for each
            condition = sa.or_(
                *[
                    sa.and_(*[key == sa.bindparam(f"k{i}_{j}", type_=key.type) for j, key in enumerate(keys)])
                    for i in range(size)
                ]
            )
        child = self._schema.children.get(mapped.record)
        if child is not None and columns == (child.column,) and child.where is not None:
            condition = sa.and_(condition, child.where)
        answered = [table.c[name] for name in answer] or list(table.columns)
        statement = sa.select(*answered).where(condition)
        if lock:
            statement = statement.order_by(*table.primary_key.columns).with_for_update()
        return self._text(statement)

    def _prepare(self, statement: sa.Executable) -> Prepared:
        compiled = statement.compile(dialect=self._compiler, compile_kwargs={"render_postcompile": True})  # type: ignore[attr-defined]
        getters: list[Callable[[dict[str, Any]], Any]] = []
        for name in compiled.positiontup or ():
            bind = compiled.binds[name]
            encode = compile_codec(bind.type, self.dialect, "encode")
            if bind.required:
                getters.append(_named(name, encode))
            else:
                getters.append(_constant(encode(bind.effective_value)))
        return Prepared(
            str(compiled), lambda named: tuple([get(named) for get in getters]), self._decoder_of(statement)
        )

    def _decoder_of(self, statement: sa.Executable) -> Decoder:
        columns = list(getattr(statement, "exported_columns", ()))
        for mapped in self._schema.mapped.values():
            if columns == list(mapped.table.columns):
                return self.decode[mapped.record]
        return self._tuple_decoder(columns)

    def _tuple_decoder(self, columns: Sequence[sa.ColumnElement[Any]]) -> Decoder:
        names: dict[str, object] = {}
        parts = [self._expression(column, "decode", f"row[{i}]", names) for i, column in enumerate(columns)]
        decode: Decoder = generate(f"lambda row: ({''.join(part + ', ' for part in parts)})", names)
        return decode


@cache
def statements_of(schema: Schema, dialect: str) -> Statements:
    """The statements that all stores of a process share: to compile them takes half of a store's opening."""
    return Statements(schema, dialect)


def _named(name: str, encode: Callable[[Any], Any]) -> Callable[[dict[str, Any]], Any]:
    pick = itemgetter(name)
    return lambda named: encode(pick(named))


def _constant(value: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda named: value
