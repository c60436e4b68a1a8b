"""Outboxes on each engine."""

from collections.abc import AsyncIterator

import pytest

from tests.notifications.post import Post, open_post
from tolem.storage.migrate import migrate


@pytest.fixture
def prepared_url(database_url: str) -> str:
    migrate(database_url, mode="sandbox")
    return database_url


@pytest.fixture
async def post(prepared_url: str) -> AsyncIterator[Post]:
    async with open_post(prepared_url) as post:
        yield post
