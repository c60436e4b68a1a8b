"""The simulator as a program of its own: HTTP in front of the line and the simulator behind it.

Served by `tolem acquirer-simulator`; its client is acquirers/http.py. The line's faults become what they are on a real
connection: held open until the client gives up, cut without a word, or carrying half an answer. Killed at any moment it
loses nothing that it answered: the ledger is its truth. Bodies are bounded and never logged.
"""

import asyncio
import hmac
from datetime import datetime
from urllib.parse import parse_qs
from uuid import UUID

import msgspec
from starlette.responses import Response
from starlette.routing import Route, Router
from starlette.types import Receive, Scope, Send

from tolem.acquirers.messages import (
    EXCHANGE_PATH,
    REQUEST_BYTES_MAX,
    STATEMENT_PATH,
    InvalidRequest,
    encode_answer,
    encode_statement,
    parse_request,
)
from tolem.sandbox.ledger import Cursor
from tolem.sandbox.line import Fault, Line
from tolem.storage.store import Overloaded
from tolem.telemetry import log


def build_program(line: Line, secret: str, stopping: asyncio.Event) -> Router:
    """The application. `secret`: asked for in `Authorization: Bearer`, empty: nobody is asked. `stopping`: set when the
    program ends, so that connections that are held open end, too.

    A bare Router: Starlette's middlewares would stand between the endpoint and the connection that it may have to cut.
    """
    door = _Door(secret)
    return Router(
        [
            Route(EXCHANGE_PATH, _Exchange(line, door, stopping), methods=["POST"]),
            Route(STATEMENT_PATH, _Statement(line, door), methods=["GET"]),
            Route("/healthz", _Health(), methods=["GET"]),
        ]
    )


class _Door:
    """Who may come in."""

    def __init__(self, secret: str) -> None:
        self._expected = f"Bearer {secret}".encode() if secret else b""

    def is_open(self, scope: Scope) -> bool:
        """Compares in constant time."""
        if not self._expected:
            return True
        given = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        return hmac.compare_digest(given, self._expected)


class _Health:
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await _json(200, b'{"status":"ok"}')(scope, receive, send)


class _Exchange:
    """POST: one message in, one answer out, unless the line has a fault."""

    def __init__(self, line: Line, door: _Door, stopping: asyncio.Event) -> None:
        self._line = line
        self._door = door
        self._stopping = stopping

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not self._door.is_open(scope):
            await _error(401, "wrong secret")(scope, receive, send)
            return
        body = await _read(receive)
        if body is None:
            await _error(413, f"a message has at most {REQUEST_BYTES_MAX} bytes")(scope, receive, send)
            return
        try:
            request = parse_request(body)
        except InvalidRequest as error:
            await _error(400, str(error))(scope, receive, send)
            return
        try:
            fault, answer = await self._line.carry(request)
        except Overloaded:
            await _error(503, "too much to do")(scope, receive, send)
            return
        except Exception as error:
            log.error("simulator_failed", key=str(request.key), kind=request.kind, exc_info=error)
            await _error(500, "the outcome is unknown")(scope, receive, send)
            return
        log.info("exchange", key=str(request.key), kind=request.kind, verdict=answer and answer.verdict, line=fault)
        if fault is Fault.LATE:
            await _hold(receive, self._stopping)
        if answer is None or fault is Fault.LOST:
            await _cut(receive, send)
            return
        told = encode_answer(answer)
        await _json(200, told[: len(told) // 2] if fault is Fault.GARBLED else told)(scope, receive, send)


class _Statement:
    """GET: one page of the book."""

    def __init__(self, line: Line, door: _Door) -> None:
        self._line = line
        self._door = door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not self._door.is_open(scope):
            await _error(401, "wrong secret")(scope, receive, send)
            return
        query = {name: values[-1] for name, values in parse_qs(scope["query_string"].decode("latin-1")).items()}
        try:
            since, until = _parse_instant(query["since"]), _parse_instant(query["until"])
            after = _parse_cursor(query["after"]) if "after" in query else None
        except (KeyError, ValueError):
            await _error(400, "since and until must be instants with an offset, after what the page before told")(
                scope, receive, send
            )
            return
        try:
            lines, following = await self._line.simulator.statement_page(since, until, after)
        except Exception as error:
            log.error("statement_failed", exc_info=error)
            await _error(500, "the book cannot be read")(scope, receive, send)
            return
        told = encode_statement(lines, f"{following.at.isoformat()}~{following.key}" if following else "")
        await _json(200, told)(scope, receive, send)


async def _read(receive: Receive) -> bytes | None:
    """The whole body; None: it is too large, or the client went away."""
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if len(body) > REQUEST_BYTES_MAX or message["type"] == "http.disconnect":
            return None
        if not message.get("more_body", False):
            return bytes(body)


async def _hold(receive: Receive, stopping: asyncio.Event) -> None:
    """Says nothing until the client gives up, or the program ends."""
    waits = [asyncio.ensure_future(_disconnected(receive)), asyncio.ensure_future(stopping.wait())]
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()


async def _cut(receive: Receive, send: Send) -> None:
    """Closes the connection without an answer. ASGI has no word for it: uvicorn's `send` is a method of the exchange,
    which has the transport."""
    send.__self__.transport.abort()  # type: ignore[attr-defined]
    await _disconnected(receive)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass  # a body that nobody reads


def _json(status: int, body: bytes) -> Response:
    return Response(body, status, media_type="application/json", headers={"cache-control": "no-store"})


def _error(status: int, words: str) -> Response:
    return _json(status, msgspec.json.encode({"error": words}))


def _parse_instant(text: str) -> datetime:
    instant = datetime.fromisoformat(text)
    if instant.tzinfo is None:
        raise ValueError("an instant needs an offset")
    return instant


def _parse_cursor(text: str) -> Cursor:
    at, _, key = text.partition("~")
    return Cursor(_parse_instant(at), UUID(key))
