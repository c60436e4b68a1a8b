"""The terms of notifying as settings of a terminal: bounded, and in force for the next try."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from tolem.clock import SystemClock
from tolem.domain.errors import Refused
from tolem.flows.administration import Administration, describe
from tolem.ids import Ids
from tolem.notifications.terms import DEFAULT_TERMS, Terms, terms_of
from tolem.storage import keys
from tolem.storage.migrate import migrate
from tolem.storage.open import open_store
from tolem.storage.schema import tolem_schema

TERMINAL_ID = UUID(int=5)
SETTINGS: dict[str, Any] = {
    "notify_gaps": (0, 60, 3600),
    "notify_jitter_percent": 0,
    "notify_connect_seconds": 2,
    "notify_whole_seconds": 30,
    "notify_retry_after_max_seconds": 0,
    "notify_response_bytes": 0,
}


@pytest.fixture
async def administration(database_url: str) -> AsyncIterator[Administration]:
    """With a terminal."""
    migrate(database_url, mode="sandbox")
    store = await open_store(database_url, schema=tolem_schema, instance=7)
    administration = Administration(store, SystemClock(), Ids())
    await administration.add_merchant("shop", "Shop")
    await administration.add_terminal("shop", "Till", TERMINAL_ID)
    yield administration
    await store.close()


async def test_a_terminal_has_the_default_terms_until_it_is_given_others(administration: Administration) -> None:
    (stored,) = await administration.list_terminals()
    assert terms_of(stored) == DEFAULT_TERMS
    await administration.change_terminal(TERMINAL_ID, **SETTINGS)
    found = await administration._store.find(keys.terminal_by_id(TERMINAL_ID))
    assert found is not None
    minute, hour = timedelta(minutes=1), timedelta(hours=1)
    assert terms_of(found) == Terms((timedelta(0), minute, hour), 0.0, 2, 30, timedelta(0), 0)
    assert {name: describe(found)[name] for name in SETTINGS} == SETTINGS


@pytest.mark.parametrize(
    ("settings", "words"),
    (
        ({"notify_gaps": ()}, "notify_gaps: 0 tries, use 1 to 20"),
        ({"notify_gaps": (0,) * 21}, "notify_gaps: 21 tries, use 1 to 20"),
        ({"notify_gaps": (5, 5)}, "notify_gaps: the first is 0, since the first try follows the payment at once"),
        ({"notify_gaps": (0, -1)}, "notify_gaps: -1 seconds, use 0 to 604800"),
        ({"notify_gaps": (0, 604_801)}, "notify_gaps: 604801 seconds, use 0 to 604800"),
        ({"notify_jitter_percent": 51}, "notify_jitter_percent is 51, use 0 to 50"),
        ({"notify_connect_seconds": 0}, "notify_connect_seconds is 0, use 1 to 30"),
        ({"notify_whole_seconds": 31}, "notify_whole_seconds is 31, use 1 to 30"),
        ({"notify_retry_after_max_seconds": 604_801}, "notify_retry_after_max_seconds is 604801, use 0 to 604800"),
        ({"notify_response_bytes": 16_385}, "notify_response_bytes is 16385, use 0 to 16384"),
        (
            {"notify_whole_seconds": 4},
            "notify_connect_seconds is 5, use at most notify_whole_seconds, which is 4",
        ),
    ),
)
async def test_what_is_out_of_bounds_is_refused_in_words(
    administration: Administration, settings: dict[str, Any], words: str
) -> None:
    with pytest.raises(Refused) as changed:
        await administration.change_terminal(TERMINAL_ID, **settings)
    with pytest.raises(Refused) as added:
        await administration.add_terminal("shop", "Another", **settings)
    assert changed.value.message == added.value.message == words
    (stored,) = await administration.list_terminals()
    assert terms_of(stored) == DEFAULT_TERMS
