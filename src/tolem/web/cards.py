"""The merchant API's part about saved cards: a shop's server lists its customers' cards and deactivates them.

Needs a service token: one that was issued for an order is in the payer's browser. What belongs to another merchant is
told like what does not exist.
"""

from starlette.routing import Route

from tolem.domain.errors import Refusal, Refused
from tolem.flows.access import ORDER_TOKEN, Access, Bearer
from tolem.flows.saved_cards import SavedCards
from tolem.web.api import Endpoint, authenticate, on_both_hosts
from tolem.web.http import Request, Response, json_response
from tolem.wire import saved_cards as wire
from tolem.wire.operations import render_error


def card_routes(access: Access, cards: SavedCards) -> list[Route]:
    """The paths, bare and under /api."""
    api = _Cards(access, cards)
    return on_both_hosts(
        {
            "/cards/{accountId:path}": Endpoint("cards", ("GET", "HEAD"), api.list, render_error),
            "/card/deactivate/{id}": Endpoint("card_deactivate", ("POST",), api.deactivate, render_error),
        }
    )


class _Cards:
    """The calls."""

    def __init__(self, access: Access, cards: SavedCards) -> None:
        self._access = access
        self._cards = cards

    async def list(self, request: Request, path: dict[str, str]) -> Response:
        """GET /cards/{accountId}."""
        bearer = await self._authenticate(request)
        cards = await self._cards.list(bearer.merchant.id, wire.parse_account_id(path["accountId"]))
        if not cards:
            return json_response(404, wire.render_no_cards())
        return json_response(200, wire.render_cards(cards, self._cards.today()))

    async def deactivate(self, request: Request, path: dict[str, str]) -> Response:
        """POST /card/deactivate/{cardId}."""
        bearer = await self._authenticate(request)
        await self._cards.remove(wire.parse_card_id(path["id"]), bearer.merchant.id)
        return json_response(200, wire.render_deactivated())

    async def _authenticate(self, request: Request) -> Bearer:
        bearer = await authenticate(self._access, request)
        if bearer.token.order_id is not None:
            raise Refused(Refusal.FORBIDDEN, ORDER_TOKEN)
        return bearer
