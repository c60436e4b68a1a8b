"""Types of columns: how a value of the domain rests in SQLite and in PostgreSQL.

Each type is an ordinary SQLAlchemy type, and also names a pair of Python expressions per dialect (`codec`), from which
mapping.py generates one encoder and one decoder per record. Used by the tables; invariant: decoded(encoded(v)) == v.
"""

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, NamedTuple
from uuid import UUID, SafeUUID

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


class Codec(NamedTuple):
    """Expressions in which `{v}` stands for a value that is not None; "{v}" alone: it rests as it is."""

    encode: str = "{v}"
    decode: str = "{v}"
    names: Mapping[str, object] = {}
    """What the expressions refer to."""


PLAIN = Codec()


def uuid_of_bytes(
    octets: bytes,
    _new: Callable[[type[UUID]], UUID] = object.__new__,
    _set: Callable[[object, str, object], None] = object.__setattr__,
    _read: Callable[[bytes], int] = int.from_bytes,
    _unknown: SafeUUID = SafeUUID.unknown,
) -> UUID:
    """16 bytes of ours → UUID, without the constructor's checks: it takes a third of its time."""
    made = _new(UUID)
    _set(made, "int", _read(octets, "big"))  # type: ignore[call-arg]
    _set(made, "is_safe", _unknown)
    return made


class DomainType(sa.types.TypeDecorator[Any]):
    """Base of the types below: SQLAlchemy's own executions use the same codec as the generated functions."""

    impl: type[sa.types.TypeEngine[Any]] = sa.Text
    cache_ok = True

    def codec(self, dialect: str) -> Codec:
        """The codec for `sqlite` or `postgresql`. Every type below has its own: one without fails when the tables are
        loaded (SQLAlchemy's metaclass leaves no room for an abstract method)."""
        raise NotImplementedError(f"{type(self).__name__} has no codec")

    def process_bind_param(self, value: Any, dialect: sa.Dialect) -> Any:
        """Value of the domain → value of the driver."""
        return None if value is None else compile_codec(self, dialect.name, "encode")(value)

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> Any:
        """Value of the driver → value of the domain."""
        return None if value is None else compile_codec(self, dialect.name, "decode")(value)


class Id(DomainType):
    """UUID: 16 bytes on SQLite, uuid on PostgreSQL. Both sort as the bytes do, a UUIDv7 by its time."""

    impl = sa.LargeBinary
    cache_ok = True

    def load_dialect_impl(self, dialect: sa.Dialect) -> sa.types.TypeEngine[Any]:
        """The column's type in the database."""
        if dialect.name == "postgresql":
            return dialect.type_descriptor(postgresql.UUID(as_uuid=True))
        return dialect.type_descriptor(sa.LargeBinary())

    def codec(self, dialect: str) -> Codec:
        """UUID ↔ bytes on SQLite."""
        if dialect == "postgresql":
            return PLAIN
        return Codec("{v}.int.to_bytes(16, 'big')", "_uuid({v})", {"_uuid": uuid_of_bytes})


class Instant(DomainType):
    """Aware UTC datetime: microseconds since 1970 on SQLite, timestamptz on PostgreSQL."""

    impl = sa.BigInteger
    cache_ok = True

    def load_dialect_impl(self, dialect: sa.Dialect) -> sa.types.TypeEngine[Any]:
        """The column's type in the database."""
        if dialect.name == "postgresql":
            return dialect.type_descriptor(sa.DateTime(timezone=True))
        return dialect.type_descriptor(sa.BigInteger())

    def codec(self, dialect: str) -> Codec:
        """datetime ↔ integer on SQLite; PostgreSQL's driver answers in the connection's time zone, which is UTC."""
        if dialect == "postgresql":
            return PLAIN
        return Codec(
            "({v} - _epoch) // _microsecond",
            "_epoch + {v} * _microsecond",
            {"_epoch": EPOCH, "_microsecond": MICROSECOND},
        )


class Flag(DomainType):
    """bool: 0 or 1 on SQLite, boolean on PostgreSQL."""

    impl = sa.Integer
    cache_ok = True

    def load_dialect_impl(self, dialect: sa.Dialect) -> sa.types.TypeEngine[Any]:
        """The column's type in the database."""
        if dialect.name == "postgresql":
            return dialect.type_descriptor(sa.Boolean())
        return dialect.type_descriptor(sa.Integer())

    def codec(self, dialect: str) -> Codec:
        """bool ↔ integer on SQLite: its driver is slow for a subclass of int."""
        return PLAIN if dialect == "postgresql" else Codec("(1 if {v} else 0)", "({v} != 0)")


class Choice(DomainType):
    """A StrEnum, kept as its text."""

    impl = sa.Text
    cache_ok = True

    def __init__(self, choices: type[StrEnum]) -> None:
        super().__init__()
        self.choices = choices

    def codec(self, dialect: str) -> Codec:
        """Both drivers are slow or picky with subclasses of str, so the bare text goes in."""
        name = f"_{self.choices.__name__}"
        members = {member.value: member for member in self.choices}
        return Codec("{v}._value_", name + "[{v}]", {name: members})


class Texts(DomainType):
    """tuple[str, ...], kept as a JSON array."""

    impl = sa.Text
    cache_ok = True

    def codec(self, dialect: str) -> Codec:
        """JSON without escapes, so that people can read it."""
        return Codec("_to_json({v})", "_from_json({v})", {"_to_json": _to_json, "_from_json": _from_json})


class Integers(Texts):
    """tuple[int, ...], kept as a JSON array."""

    cache_ok = True


def codec_of(column_type: sa.types.TypeEngine[Any], dialect: str) -> Codec:
    """The codec of any column type; SQLAlchemy's plain ones rest as they are."""
    return column_type.codec(dialect) if isinstance(column_type, DomainType) else PLAIN


def compile_codec(column_type: sa.types.TypeEngine[Any], dialect: str, side: str) -> Callable[[Any], Any]:
    """One side ("encode" or "decode") of a codec as a function of one value; None stays None."""
    codec = codec_of(column_type, dialect)
    expression = (codec.encode if side == "encode" else codec.decode).format(v="v")
    function: Callable[[Any], Any] = generate(f"lambda v: None if v is None else {expression}", codec.names)
    return function


def generate(source: str, names: Mapping[str, object]) -> Any:
    """The function that `source` describes. Sources are made from our own tables only, at start, never from input."""
    return eval(source, dict(names))  # noqa: S307 - see above; a generated function costs a row one call


def _to_json(values: tuple[Any, ...]) -> str:
    return json.dumps(values, ensure_ascii=False)


def _from_json(text: str) -> tuple[Any, ...]:
    return tuple(json.loads(text))
