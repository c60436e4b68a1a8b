"""tolem's own part of the merchant API: a shop looks at its notifications, has them sent again, and asks why an order
is unpaid (docs/inspector.md).

Server to server with a service token. A shop sees the orders and messages of its own terminals; those of others are
told like what does not exist.
"""

from uuid import UUID

import msgspec
from starlette.routing import Route

from tolem.domain.errors import Refusal, Refused
from tolem.flows.access import Access, Bearer
from tolem.flows.inspection import Inspection
from tolem.flows.redelivery import Redelivery
from tolem.i18n.story import describe_story
from tolem.i18n.translator import Translator
from tolem.telemetry import log
from tolem.web.api import Endpoint, authenticate, on_both_hosts
from tolem.web.http import Request, Response, json_response
from tolem.wire import messages as wire
from tolem.wire.operations import render_error

DEFAULT_LANGUAGE = "en"


def message_routes(
    access: Access, inspection: Inspection, redelivery: Redelivery, translator: Translator
) -> list[Route]:
    """The paths, bare and under /api. `translator`: of the stories' texts."""
    api = _Api(access, inspection, redelivery, translator)
    reading = ("GET", "HEAD")
    return on_both_hosts(
        {
            "/messages": Endpoint("messages", reading, api.list, render_error),
            "/messages/{id}": Endpoint("messages", reading, api.show, render_error),
            "/messages/{id}/redeliver": Endpoint("redeliver", ("POST",), api.redeliver, render_error),
            "/orders/{invoice}/why": Endpoint("why", reading, api.tell_why, render_error),
        }
    )


class _Api:
    """The calls."""

    def __init__(self, access: Access, inspection: Inspection, redelivery: Redelivery, translator: Translator) -> None:
        self._access = access
        self._inspection = inspection
        self._redelivery = redelivery
        self._translator = translator

    async def list(self, request: Request, path: dict[str, str]) -> Response:
        """GET /messages."""
        _, own = await self._enter(request)
        asked = wire.parse_query(request.query())
        terminals = self._choose(own, asked.terminal_id)
        if asked.invoice_id:
            order = await self._inspection.get_order(asked.invoice_id, terminals)
            page = await self._inspection.page_of_order(
                order, states=asked.states, since=asked.since, before=asked.before, limit=asked.limit
            )
        else:
            page = await self._inspection.list_messages(
                terminals, states=asked.states, since=asked.since, before=asked.before, limit=asked.limit
            )
        listed = await self._inspection.describe(page.messages)
        return _answer(
            {
                "messages": [wire.describe_message(*one) for one in listed],
                "next": str(page.next) if page.next else None,
            }
        )

    async def show(self, request: Request, path: dict[str, str]) -> Response:
        """GET /messages/{id}."""
        _, own = await self._enter(request)
        found = await self._inspection.get_message(wire.parse_id(path["id"], "id"), own)
        message, attempts = found.delivery
        return _answer(wire.describe_delivery(message, found.order.invoice_id, attempts, found.waits_for))

    async def redeliver(self, request: Request, path: dict[str, str]) -> Response:
        """POST /messages/{id}/redeliver."""
        bearer, own = await self._enter(request)
        who = f"by client {bearer.merchant.client_id}"
        again = await self._redelivery.redeliver(wire.parse_id(path["id"], "id"), who, terminals=own)
        message = again.message
        log.info("message_sent_again", message_id=str(message.id), client=bearer.merchant.client_id)
        (listed,) = await self._inspection.describe((message,))
        return _answer(wire.describe_message(*listed._replace(waits_for=again.waits_for)))

    async def tell_why(self, request: Request, path: dict[str, str]) -> Response:
        """GET /orders/{invoice}/why."""
        _, own = await self._enter(request)
        fields = request.query()
        language = fields.get("language", DEFAULT_LANGUAGE)
        if language not in self._translator.languages:
            known = ", ".join(sorted(self._translator.languages))
            raise Refused(Refusal.INVALID_REQUEST, f"language must be one of {known}", "language")
        named = wire.parse_id(fields["terminal"], "terminal") if fields.get("terminal") else None
        order = await self._inspection.get_order(path["invoice"], self._choose(own, named))
        story = await self._inspection.tell(order)
        about = {"invoice": order.invoice_id, "terminal": str(order.terminal_id), "status": order.status.value}
        return _answer(about | describe_story(self._translator, language, story))

    async def _enter(self, request: Request) -> tuple[Bearer, tuple[UUID, ...]]:
        """Who asks, and the terminals that are theirs."""
        bearer = await authenticate(self._access, request)
        return bearer, await self._access.list_own_terminals(bearer)

    @staticmethod
    def _choose(own: tuple[UUID, ...], named: UUID | None) -> tuple[UUID, ...]:
        if named is None:
            return own
        if named not in own:
            raise Refused(Refusal.NOT_FOUND, f"terminal {named} is not one of this token", "terminal")
        return (named,)


def _answer(told: object) -> Response:
    return json_response(200, msgspec.json.encode(told))
