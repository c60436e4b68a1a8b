"""One Chromium for all browser tests, fresh contexts for each, pictures of every open page when a test fails.

Playwright's objects belong to one event loop, so every test of this folder runs on the session's loop. An
async fixture that a browser test uses says so too: `@pytest_asyncio.fixture(loop_scope="session")`.
"""

import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, Error, Page, async_playwright
from scripts.browser import find_browser

from tests.browser.demo import Demo, running_demo
from tests.browser.other_shop import OtherShop, running_other_shop
from tests.browser.payer import Payer, Witness

HERE = Path(__file__).parent
OUTPUT = HERE.parent.parent / "test-output"
ACTION_MS_MAX = 20_000
START_MS_MAX = 90_000
LOG_SHOWN = 4_000
BROWSER_ARGUMENTS = (
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
    # Pages may load nothing from elsewhere: every other name is unknown at once.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE *.localhost, EXCLUDE 127.0.0.1",
)
NOT_IN_FILE_NAMES = re.compile(r"[^\w.-]+")
FAILED = pytest.StashKey[bool]()

TakeScreenshot = Callable[[Page, str], Awaitable[None]]
MakePayer = Callable[..., Awaitable[Payer]]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.browser)
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    item.stash[FAILED] = item.stash.get(FAILED, False) or report.failed
    return report


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def _chromium() -> AsyncIterator[Browser]:
    executable = find_browser()
    assert executable is not None, "no Chromium found; `make test` installs one"
    async with async_playwright() as playwright:
        chromium = await playwright.chromium.launch(
            executable_path=executable, args=list(BROWSER_ARGUMENTS), timeout=START_MS_MAX
        )
        yield chromium
        await chromium.close()


@pytest_asyncio.fixture(loop_scope="session")
async def browser(_chromium: Browser, request: pytest.FixtureRequest) -> AsyncIterator[Browser]:
    """A headless Chromium without a context.

    `await browser.new_context(…)` as often as a test has people; all are closed at its end, and if it failed
    pictures of their pages are in test-output/failures.
    """
    yield _chromium
    failed = request.node.stash.get(FAILED, False)
    for number, context in enumerate(list(_chromium.contexts)):
        if failed:
            await _picture_failure(context, f"{request.node.name}-{number}")
        await context.close()


@pytest_asyncio.fixture(loop_scope="session")
async def page(browser: Browser) -> AsyncIterator[Page]:
    """A page in a context of its own. An exception in a page's script fails the test."""
    context = await browser.new_context()
    context.set_default_timeout(ACTION_MS_MAX)
    faults: list[str] = []
    context.on("weberror", lambda fault: faults.append(str(fault.error)))
    yield await context.new_page()
    assert faults == []


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """Gateway and demo shop, one process for a module's tests, both on SQLite."""
    with running_demo(tmp_path_factory.mktemp("demo")) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="session")
async def make_payer(browser: Browser, demo: Demo, request: pytest.FixtureRequest) -> AsyncIterator[MakePayer]:
    """`await make_payer(…)` is a person with a browser of their own; options are those of `browser.new_context`.

    What their browsers saw is judged when the test ends.
    """
    witnesses: list[Witness] = []

    async def make(**options: Any) -> Payer:
        context = await browser.new_context(**{"locale": "en-GB", **options})
        context.set_default_timeout(ACTION_MS_MAX)
        witnesses.append(Witness(context, demo))
        return Payer(await context.new_page(), demo, witnesses[-1])

    yield make
    if request.node.stash.get(FAILED, False):
        print(f"end of the demo's log:\n{demo.log[-LOG_SHOWN:]}")
        return
    for witness in witnesses:
        witness.check()


@pytest_asyncio.fixture(loop_scope="session")
async def payer(make_payer: MakePayer) -> Payer:
    """An English payer at a desktop."""
    return await make_payer()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def other_shop() -> AsyncIterator[OtherShop]:
    """A shop of another site, one for a module's tests."""
    async with running_other_shop() as shop:
        yield shop


@pytest.fixture
def take_screenshot() -> TakeScreenshot:
    """`await take_screenshot(page, "form-phone")` keeps a picture in test-output/screenshots where SCREENSHOTS is set:
    each costs as much as a page."""

    async def take(page: Page, name: str) -> None:
        if os.environ.get("SCREENSHOTS"):
            path = OUTPUT / "screenshots" / f"{name}.png"
            await page.screenshot(path=path, full_page=True, animations="disabled")

    return take


async def _picture_failure(context: BrowserContext, name: str) -> None:
    for number, page in enumerate(context.pages):
        path = OUTPUT / "failures" / f"{NOT_IN_FILE_NAMES.sub('_', name)}-{number}.png"
        try:
            await page.screenshot(path=path, full_page=True, timeout=ACTION_MS_MAX)
        except Error as problem:  # a crashed or closing page has no picture
            print(f"no picture of {page.url}: {problem}")
        else:
            print(f"picture of {page.url}: {path}")
