"""Another process as if it were an application in this one: what tests ask of a gateway goes over HTTP to its port."""

from typing import Any

import aiohttp


class RemoteApp:
    """An ASGI application that passes everything on. Callers of tests.gateway work with it unchanged."""

    def __init__(self, session: aiohttp.ClientSession, port: int) -> None:
        self._session = session
        self._url = f"http://127.0.0.1:{port}"

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        message = await receive()
        assert not message["more_body"]
        query = scope["query_string"].decode()
        async with self._session.request(
            scope["method"],
            self._url + scope["path"] + (f"?{query}" if query else ""),
            data=message["body"],
            headers=[(name.decode(), value.decode("latin-1")) for name, value in scope["headers"]],
            allow_redirects=False,
        ) as answer:
            body = await answer.read()
        headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in answer.headers.items()]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": body})
