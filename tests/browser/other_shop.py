"""A shop of another site than the gateway's, whose one page the test writes.

Not the browser's routing: a page without an address of its own network may not load anything from this machine (Local
Network Access).
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web


class OtherShop:
    """A server whose one page the test writes."""

    def __init__(self) -> None:
        self.url = ""
        self.page = ""
        self.headers: dict[str, str] = {}

    async def handle(self, request: web.Request) -> web.Response:
        """The page, in an encoding that is not the web's."""
        sent = {"content-type": "text/html; charset=windows-1251"} | self.headers
        return web.Response(body=self.page.encode("cp1251"), headers=sent)


@asynccontextmanager
async def running_other_shop() -> AsyncIterator[OtherShop]:
    """Runs on a free port of `localhost`, which is another site than 127.0.0.1."""
    shop = OtherShop()
    app = web.Application()
    app.router.add_get("/{path:.*}", shop.handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    shop.url = f"http://localhost:{runner.addresses[0][1]}"
    yield shop
    await runner.cleanup()
