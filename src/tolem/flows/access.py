"""What a bearer of an access token may do: the merchant API's door.

A token issued for an order tells the status of that order and nothing else; money, cards and links need a service
token, unless the merchant's setting loosens it for an old integration.
"""

from typing import NamedTuple
from uuid import UUID

from tolem.clock import Clock
from tolem.domain.errors import Refusal, Refused
from tolem.domain.history import OrderHistory
from tolem.domain.merchant import Merchant, Terminal
from tolem.domain.order import AccessToken
from tolem.flows.directory import Directory
from tolem.ids import hash_secret_address
from tolem.storage import keys, queries
from tolem.storage.store import Store

MONEY_SCOPE = "payment"
ORDER_TOKEN = "this token was issued for one order's payment page; request one without invoiceID and amount"  # noqa: S105 - words


class Bearer(NamedTuple):
    """Who is asking."""

    token: AccessToken
    merchant: Merchant
    history: OrderHistory | None
    """The order of the token, if it was issued for one."""


class Access:
    """Checks bearers."""

    def __init__(self, store: Store, directory: Directory, clock: Clock) -> None:
        self._store = store
        self._directory = directory
        self._clock = clock

    async def authenticate(self, token: str) -> Bearer:
        """The bearer of a token. Raises Refused(INVALID_TOKEN)."""
        found = await self._store.find(keys.token_by_hash(hash_secret_address(token))) if token else None
        if found is None or found.record.expires_at <= self._clock.now():
            raise Refused(Refusal.INVALID_TOKEN, "the access token is missing, unknown or expired; request a new one")
        merchant = await self._directory.find_merchant(found.record.client_id)
        if merchant is None:
            raise Refused(Refusal.INVALID_TOKEN, "the access token's client is gone")
        return Bearer(found.record, merchant, found.history)

    async def find_own_terminal(self, bearer: Bearer, terminal_id: UUID) -> Terminal | None:
        """The terminal, if it is one of the bearer's merchant."""
        terminal = await self._directory.find_terminal(terminal_id)
        return terminal if terminal is not None and terminal.merchant_id == bearer.merchant.id else None

    async def list_own_terminals(self, bearer: Bearer) -> tuple[UUID, ...]:
        """The terminals whose messages and orders the bearer may look at: the token's, or all of its merchant. Raises
        Refused for a token that was issued for an order."""
        token = bearer.token
        if token.order_id is not None:
            raise Refused(Refusal.FORBIDDEN, ORDER_TOKEN)
        if token.terminal_id is not None:
            return (token.terminal_id,) if await self.find_own_terminal(bearer, token.terminal_id) else ()
        return await queries.list_terminal_ids(self._store, bearer.merchant.id)

    async def check_money(self, bearer: Bearer, history: OrderHistory) -> Terminal:
        """The order's terminal, if the bearer may move its money. Raises Refused.

        An order of another merchant is told like one that does not exist.
        """
        terminal = await self.find_own_terminal(bearer, history.order.terminal_id)
        if terminal is None:
            raise Refused(Refusal.NOT_FOUND, "there is no such payment")
        token = bearer.token
        if token.terminal_id is not None and token.terminal_id != terminal.id:
            raise Refused(Refusal.FORBIDDEN, "the payment belongs to another terminal than the access token")
        if MONEY_SCOPE not in token.scope.split():
            raise Refused(Refusal.FORBIDDEN, f"the access token lacks the scope {MONEY_SCOPE!r}")
        if token.order_id is not None:
            is_own = token.order_id == history.order.id
            if not (is_own and bearer.merchant.order_token_powers):
                raise Refused(Refusal.FORBIDDEN, ORDER_TOKEN)
        return terminal
