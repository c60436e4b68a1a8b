"""Short reads for the command line."""

from datetime import timedelta

from msgspec.structs import replace

from tests.storage.build import AT, build_merchant, build_terminal, put
from tolem.storage import queries
from tolem.storage.store import Store


async def test_merchants_and_terminals_are_listed_oldest_first(store: Store) -> None:
    young = replace(build_merchant("young"), created_at=AT + timedelta(days=1))
    old = build_merchant("old")
    terminals = [build_terminal(old, name="б"), build_terminal(young, name="а")]
    await put(store, young, old, *terminals)
    assert await queries.list_merchants(store) == [old, young]
    assert await queries.list_terminals(store) == terminals
