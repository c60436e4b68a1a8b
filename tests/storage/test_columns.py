"""Codecs: whatever goes in comes out again, in both dialects and through both databases."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.storage.build import build_merchant, build_order, build_terminal, put
from tolem.domain.card import Brand
from tolem.storage import keys
from tolem.storage.columns import Choice, Flag, Id, Instant, Texts, compile_codec, uuid_of_bytes
from tolem.storage.store import Store

DIALECTS = st.sampled_from(("sqlite", "postgresql"))
INSTANTS = st.datetimes(timezones=st.just(UTC))
TEXT = st.text(st.characters(codec="utf-8"))


def through(column_type: sa.types.TypeEngine[Any], dialect: str, value: Any) -> Any:
    rested = compile_codec(column_type, dialect, "encode")(value)
    return compile_codec(column_type, dialect, "decode")(rested)


@given(DIALECTS, st.none() | st.uuids())
def test_ids(dialect: str, value: UUID | None) -> None:
    assert through(Id(), dialect, value) == value


@given(st.uuids())
def test_ids_rest_as_sixteen_bytes_and_come_back_whole(value: UUID) -> None:
    rested = compile_codec(Id(), "sqlite", "encode")(value)
    again = uuid_of_bytes(rested)
    assert rested == value.bytes
    assert (again, hash(again), str(again), again.is_safe) == (value, hash(value), str(value), value.is_safe)


@given(DIALECTS, st.none() | INSTANTS)
def test_instants(dialect: str, value: datetime | None) -> None:
    assert through(Instant(), dialect, value) == value


@given(st.lists(INSTANTS))
def test_instants_sort_as_they_rest(values: list[datetime]) -> None:
    encode = compile_codec(Instant(), "sqlite", "encode")
    assert sorted(values, key=encode) == sorted(values)


@given(DIALECTS, st.none() | st.booleans())
def test_flags(dialect: str, value: bool | None) -> None:
    again = through(Flag(), dialect, value)
    assert again is value


@given(DIALECTS, st.sampled_from(Brand))
def test_choices(dialect: str, value: Brand) -> None:
    assert type(compile_codec(Choice(Brand), dialect, "encode")(value)) is str
    assert through(Choice(Brand), dialect, value) is value


@given(DIALECTS, st.lists(TEXT).map(tuple))
def test_texts(dialect: str, value: tuple[str, ...]) -> None:
    assert through(Texts(), dialect, value) == value


def test_an_unknown_choice_is_an_error() -> None:
    with pytest.raises(KeyError):
        compile_codec(Choice(Brand), "sqlite", "decode")("NONE")


async def test_records_come_back_from_the_database(store: Store) -> None:
    merchant = build_merchant()
    plain, full = build_terminal(merchant), build_terminal(merchant, two_stage=True, currencies=(), link_hosts=())
    await put(store, merchant, plain, full)
    assert await store.find(keys.merchant_by_client("test")) == merchant
    assert await store.find(keys.terminal_by_id(plain.id)) == plain
    assert await store.find(keys.terminal_by_id(full.id)) == full


async def test_odd_values_come_back_from_the_database(store: Store) -> None:
    order = build_order(
        "0" * 15,
        amount=999_999_999_999,
        data="\x01\U0010ffff' \"\\%s ? ﷽",
        opened_at=datetime(1970, 1, 1, tzinfo=UTC),
        deadline_at=datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
        auto_return=True,
    )
    await put(store, order)
    found = await store.find(keys.order_by_id(order.id))
    assert found is not None
    assert found.order == order
    assert replace(found.order, opened_at=None) != order
