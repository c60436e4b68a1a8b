"""The sandbox's own addresses, for tests and people: the clock and the faults. Joined to the application by bootstrap,
in a sandbox only, behind the sandbox's password where there is one.

Bodies are JSON with that content type: a foreign page in somebody's browser cannot send it here without asking first.
Every error has `code` (the HTTP status), `message`, which says what to change, and `field` where one is to blame.
"""

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from tolem.domain.errors import Overloaded, Refusal, Refused
from tolem.domain.message import MessageKind
from tolem.domain.strict_json import find_repeated_field
from tolem.sandbox.clock import SandboxClock
from tolem.sandbox.faults import Corruption, FaultKind, FaultWish
from tolem.sandbox.state import NotFollowed, SharedState, add_fault, remove_faults
from tolem.sandbox.time_machine import StillWorking, TimeMachine
from tolem.telemetry import log

BODY_BYTES_MAX = 16 * 1024
_CHOICES = {"fault": FaultKind, "messages": MessageKind, "how": Corruption}
WAIT_SECONDS = 120
WAIT_SECONDS_MAX = 3600

T = TypeVar("T")
Handler = Callable[[Request], Awaitable[Response]]


class ClockMove(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What POST /sandbox/clock takes: one of the first two."""

    advance_seconds: int | None = None
    to: datetime | None = None
    """An instant with an offset, such as 2026-11-24T09:30:00Z."""
    wait_seconds: int = WAIT_SECONDS
    """How long the answer may take; what is not done by then is told, and goes on."""


def clock_routes(clock: SandboxClock, state: SharedState, machine: TimeMachine) -> list[Route]:
    """/sandbox/clock."""

    async def tell(request: Request) -> Response:
        return answer(200, _describe(clock, state))

    async def move(request: Request) -> Response:
        asked = await read_body(request, ClockMove)
        if (asked.advance_seconds is None) == (asked.to is None):
            raise _refuse('say either "advance_seconds" or "to"', "advance_seconds")
        if not 1 <= asked.wait_seconds <= WAIT_SECONDS_MAX:
            raise _refuse(f"wait_seconds must be 1 to {WAIT_SECONDS_MAX}", "wait_seconds")
        try:
            if asked.to is not None:
                if asked.to.tzinfo is None:
                    raise _refuse("to needs an offset, such as 2026-11-24T09:30:00Z", "to")
                moved = await machine.advance_to(asked.to, asked.wait_seconds)
            else:
                moved = await machine.advance(_seconds(asked.advance_seconds or 0), asked.wait_seconds)
        except StillWorking as working:
            log.warning("clock_still_working", cause=str(working))
            message = (
                f"the move is stored and not finished ({working});"
                " POST again with advance_seconds 0 to go on with it and wait for the rest"
            )
            return answer(504, {"code": 504, "message": message} | _describe(clock, state))
        log.info("clock_moved", offset_seconds=clock.offset.total_seconds(), stops=moved.stops)
        return answer(200, _describe(clock, state) | {"stops": moved.stops})

    return [Route("/sandbox/clock", SandboxEndpoint({"GET": tell, "POST": move}))]


def fault_routes(state: SharedState) -> list[Route]:
    """/sandbox/faults and /sandbox/faults/{id}."""

    async def tell(request: Request) -> Response:
        return answer(200, (await state.read()).faults)

    async def add(request: Request) -> Response:
        fault = await add_fault(state, await read_body(request, FaultWish, _CHOICES))
        log.info("fault_made", fault=fault.id, kind=fault.fault)
        return answer(201, fault)

    async def remove_all(request: Request) -> Response:
        await remove_faults(state, None)
        return answer(200, [])

    async def remove(request: Request) -> Response:
        return answer(200, (await remove_faults(state, request.path_params["id"])).faults)

    return [
        Route("/sandbox/faults", SandboxEndpoint({"GET": tell, "POST": add, "DELETE": remove_all})),
        Route("/sandbox/faults/{id}", SandboxEndpoint({"DELETE": remove})),
    ]


class SandboxEndpoint:
    """Plain ASGI around handlers, one for each method. They may raise Refused and Overloaded."""

    def __init__(self, handlers: Mapping[str, Handler]) -> None:
        self._handlers = handlers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        response = await self._answer(Request(scope, receive))
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        handle = self._handlers.get(request.method)
        if handle is None:
            allowed = ", ".join(self._handlers)
            refusal = answer(405, {"code": 405, "message": f"use {allowed}"})
            refusal.headers["allow"] = allowed
            return refusal
        try:
            return await handle(request)
        except Refused as refused:
            status = 404 if refused.refusal is Refusal.NOT_FOUND else 400
            field = {"field": refused.field} if refused.field else {}
            return answer(status, {"code": status, "message": refused.message} | field)
        except NotFollowed as error:
            return answer(504, {"code": 504, "message": str(error)})
        except Overloaded as error:
            return answer(503, {"code": 503, "message": str(error)})


def answer(status: int, body: Any) -> Response:
    """JSON that nobody keeps."""
    return Response(
        msgspec.json.encode(body), status, media_type="application/json", headers={"cache-control": "no-store"}
    )


async def read_body(request: Request, kind: type[T], choices: Mapping[str, type[StrEnum]] | None = None) -> T:
    """The body as `kind`. Raises Refused, which says what is wrong with it; `choices`: what a field may be."""
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type != "application/json":
        raise _refuse("the content type must be application/json", "Content-Type")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY_BYTES_MAX:
            raise _refuse(f"the body is larger than the {BODY_BYTES_MAX} bytes that are read here", "")
    try:
        read = msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        field = str(error).rpartition("$.")[2].rstrip("`").partition("[")[0] if "$." in str(error) else ""
        known = f": use {', '.join(choices[field])}" if choices and field in choices else ""
        raise _refuse(f"{error}{known}", field) from error
    except msgspec.DecodeError as error:
        raise _refuse(f"the body is no JSON: {error}", "") from error
    if repeated := find_repeated_field(body):
        raise _refuse(f"{repeated} stands twice in the body: say it once", repeated)
    return read


def _describe(clock: SandboxClock, state: SharedState) -> dict[str, Any]:
    current = state.current
    is_moving = current.target > current.offset
    return {
        "now": clock.now(),
        "real_now": clock.real_now(),
        "offset_seconds": current.offset.total_seconds(),
        "moving_to": clock.now() + (current.target - current.offset) if is_moving else None,
    }


def _seconds(seconds: int) -> timedelta:
    """Raises Refused for what no timedelta holds."""
    try:
        return timedelta(seconds=seconds)
    except OverflowError:
        return timedelta.max if seconds > 0 else timedelta.min


def _refuse(message: str, field: str) -> Refused:
    return Refused(Refusal.INVALID_REQUEST, message, field)
