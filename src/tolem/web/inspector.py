"""The sandbox's live page, `/sandbox`: orders and messages as they happen, what was sent and answered, and buttons that
send it again.

For developers, in a sandbox only, behind its password where it has one. No secret leaves here: a body is shown without
its `secret_hash`. What changes something takes JSON, which a foreign page cannot send without asking first.
"""

from datetime import datetime
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from tolem.clock import Clock
from tolem.domain.delivery_story import find_waited_for
from tolem.domain.errors import Overloaded, Refusal, Refused
from tolem.domain.secrecy import hide
from tolem.domain.story import Delivery, Trace
from tolem.domain.strict_json import find_repeated_field
from tolem.flows.inspection import Inspection, WatchedOrder, list_secrets
from tolem.flows.replay import Replay, Way
from tolem.i18n.formats import format_amount
from tolem.i18n.story import describe_story, tell_line
from tolem.i18n.translator import Translator
from tolem.telemetry import log
from tolem.web.assets import template_names
from tolem.web.feed import Feed
from tolem.web.headers import security_headers
from tolem.web.shells import Html, Press
from tolem.wire import messages as wire

PATH = "/sandbox"
LANGUAGE = "en"
WHO = "at the sandbox's page"
BODY_BYTES_MAX = 1024


class SendWish(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is posted to a message."""

    way: Way
    seconds: int = 60
    """`late`: business time."""


def render_page(translator: Translator) -> Html:
    """The page as it is sent to everybody."""
    press = Press(translator, **template_names())
    return press.shell("sandbox.html", LANGUAGE, languages=sorted(translator.languages)).fill({})


class Inspector:
    """The page, and what it asks for."""

    def __init__(self, inspection: Inspection, replay: Replay, clock: Clock, translator: Translator) -> None:
        """`translator`: of the stories' texts."""
        self._inspection = inspection
        self._replay = replay
        self._clock = clock
        self._translator = translator
        self._feed = Feed(self._look)
        self._page = render_page(translator)

    def routes(self) -> list[Route]:
        """Everything below /sandbox that is the page's."""
        return [
            Route(PATH, self._show),
            Route(f"{PATH}/feed", self._stream),
            Route(f"{PATH}/orders/{{id}}", _answering(self._tell_order)),
            Route(f"{PATH}/messages/{{id}}/send", _answering(self._send), methods=["POST"]),
        ]

    def close(self) -> None:
        """Ends the streams."""
        self._feed.close()

    async def _show(self, request: Request) -> Response:
        response = Response(self._page.encode())
        response.raw_headers = [(b"content-type", b"text/html; charset=utf-8"), *security_headers()]
        return response

    async def _stream(self, request: Request) -> Response:
        if self._feed.is_full:
            return _refuse(503, "too many pages watch already: close one")
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        return StreamingResponse(self._feed.read(), media_type="text/event-stream", headers=headers)

    async def _look(self) -> dict[str, bytes]:
        recent = await self._inspection.list_recent()
        return {str(one.trace.order.id): msgspec.json.encode(self._describe(one)) for one in recent}

    async def _tell_order(self, request: Request) -> Any:
        """One order: its story in the asked language, its messages with every try."""
        language = request.query_params.get("language", LANGUAGE)
        if language not in self._translator.languages:
            known = ", ".join(sorted(self._translator.languages))
            raise Refused(Refusal.INVALID_REQUEST, f"language must be one of {known}", "language")
        watched = await self._inspection.watch_order(wire.parse_id(request.path_params["id"], "id"))
        return self._describe(watched) | {
            "now": _instant(self._clock.now()),
            "story": describe_story(self._translator, language, watched.story),
            "deliveries": [_describe_delivery(one, watched.trace) for one in reversed(watched.trace.deliveries)],
        }

    async def _send(self, request: Request) -> Any:
        wish = await _read_wish(request)
        message_id = wire.parse_id(request.path_params["id"], "id")
        played = await self._replay.play(message_id, wish.way, WHO, late_seconds=wish.seconds)
        log.info("message_sent_again", message_id=str(message_id), way=wish.way)
        return {
            "sent": [str(one) for one in played.sent],
            "waits_for": str(played.waits_for) if played.waits_for else None,
        }

    def _describe(self, watched: WatchedOrder) -> dict[str, Any]:
        """An order in the list."""
        order = watched.trace.order
        headline = tell_line(self._translator, LANGUAGE, watched.story.headline)
        payment = watched.trace.payments[-1] if watched.trace.payments else None
        return {
            "id": str(order.id),
            "invoice": order.invoice_id,
            "shop": watched.shop,
            "amount": format_amount(order.amount, order.currency),
            "status": order.status.value,
            "state": headline.fact,
            "mark": headline.mark,
            "end": watched.story.lines[-1].fact.value,
            "at": _instant(watched.touched_at),
            "card": f"{payment.brand} •••• {payment.masked_pan[-4:]}" if payment else "",
            "payment": payment.status.value if payment else "",
            "messages": [
                {"id": str(one.message.id), "kind": one.message.kind.value, "state": one.message.state.value,
                 "tries": one.message.tries}
                for one in watched.trace.deliveries
            ],
        }  # fmt: skip


def _describe_delivery(one: Delivery, trace: Trace) -> dict[str, Any]:
    waits_for = find_waited_for(one.message, (other.message for other in trace.deliveries))
    told = wire.describe_delivery(one.message, trace.order.invoice_id, one.attempts, waits_for)
    body = hide(one.message.body, list_secrets(trace.order, (one.message,)))
    return told | {"body": wire.read_text(body)}


def _answering(handle: Any) -> Any:
    """A handler whose answer is JSON that nobody keeps, and whose refusals say what to change."""

    async def answer(request: Request) -> Response:
        try:
            return _json(200, await handle(request))
        except Refused as refused:
            return _refuse(404 if refused.refusal is Refusal.NOT_FOUND else 400, refused.message)
        except Overloaded as error:
            return _refuse(503, str(error))

    return answer


async def _read_wish(request: Request) -> SendWish:
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type != "application/json":
        raise Refused(Refusal.INVALID_REQUEST, "the content type must be application/json", "Content-Type")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY_BYTES_MAX:
            raise Refused(Refusal.INVALID_REQUEST, f"the body is larger than {BODY_BYTES_MAX} bytes")
    try:
        wish = msgspec.json.decode(body, type=SendWish)
    except msgspec.DecodeError as error:
        raise Refused(Refusal.INVALID_REQUEST, f"the body is not what is taken here: {error}") from error
    if repeated := find_repeated_field(body):
        raise Refused(Refusal.INVALID_REQUEST, f"{repeated} stands twice in the body: say it once", repeated)
    return wish


def _json(status: int, told: Any) -> Response:
    headers = {"cache-control": "no-store"}
    return Response(msgspec.json.encode(told), status, headers, media_type="application/json")


def _refuse(status: int, message: str) -> Response:
    return _json(status, {"code": status, "message": message})


def _instant(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
