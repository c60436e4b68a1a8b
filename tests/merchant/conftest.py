"""A fake gateway for each test that asks for one."""

from collections.abc import AsyncIterator

import pytest

from tests.merchant.gateway import FakeGateway, running_fake_gateway


@pytest.fixture
async def gateway() -> AsyncIterator[FakeGateway]:
    async with running_fake_gateway() as running:
        yield running
