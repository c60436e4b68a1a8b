"""A shop that is open, with a fake gateway behind it."""

from collections.abc import AsyncIterator

import pytest

from tests.merchant.gateway import FakeGateway, running_fake_gateway
from tests.shop.visitor import Visitor, visiting


@pytest.fixture
async def gateway() -> AsyncIterator[FakeGateway]:
    async with running_fake_gateway() as running:
        yield running


@pytest.fixture
async def visitor(gateway: FakeGateway) -> AsyncIterator[Visitor]:
    async with visiting(gateway) as open_shop:
        yield open_shop
