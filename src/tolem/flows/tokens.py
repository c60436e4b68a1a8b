"""Step 1: the shop's server asks for an access token; with an amount, it opens a round of an order."""

import time
from collections import OrderedDict
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from msgspec.structs import replace

from tolem.clock import Clock
from tolem.domain.declines import network_of
from tolem.domain.errors import Refusal, Refused
from tolem.domain.history import Event, OrderHistory
from tolem.domain.merchant import Merchant, Terminal, hash_secret, is_secret
from tolem.domain.money import InvalidAmount, parse_amount, parse_currency
from tolem.domain.order import AccessToken, Order, OrderStatus
from tolem.flows import rounds
from tolem.flows.directory import Directory
from tolem.flows.maintenance import MaintenanceWatch
from tolem.ids import Ids, hash_secret_address
from tolem.notifications.guard import check_link
from tolem.storage import keys
from tolem.storage.store import Decision, Store
from tolem.wire.token import TokenRequest, parse_terminal_id

TOKEN_LIFETIME = timedelta(seconds=7200)
SCOPES = frozenset(("payment", "webapi", "usermanagement", "email_send", "verification", "statement", "statistics"))
"""Accepted; what a token may do depends on whether it names an order, not on these."""
SCOPES_NOT_SPOKEN = frozenset(("transfer",))
WRONG_SECRETS_MAX = 10
WRONG_SECRETS_SECONDS = 60.0


class IssuedToken(NamedTuple):
    """What the shop's server gets."""

    access_token: str
    scope: str
    expires_in: int
    """Seconds."""
    expires_in_text: bool
    order_id: UUID | None


class SecretLimiter:
    """Counts wrong secrets by address (IPv6: its /64) and client: a guesser is slowed down, and locks nobody else out.

    Behind a proxy the address is the payer's or shop's own only with `trusted_proxies` (docs/operating.md)."""

    def __init__(self, entries_max: int = 10_000) -> None:
        self._wrong: OrderedDict[tuple[str, str], tuple[float, int]] = OrderedDict()
        self._entries_max = entries_max

    def check(self, address: str, client_id: str) -> None:
        """Raises Refused(TOO_MANY_TRIES) while this address has tried too many secrets for this client."""
        since, count = self._wrong.get((network_of(address), client_id), (0.0, 0))
        if count >= WRONG_SECRETS_MAX and time.monotonic() - since < WRONG_SECRETS_SECONDS:
            raise Refused(
                Refusal.TOO_MANY_TRIES,
                f"too many wrong secrets from this address: wait {WRONG_SECRETS_SECONDS:.0f} seconds",
            )

    def count(self, address: str, client_id: str) -> None:
        """One wrong secret more."""
        now = time.monotonic()
        key = (network_of(address), client_id)
        since, count = self._wrong.pop(key, (now, 0))
        if now - since >= WRONG_SECRETS_SECONDS:
            since, count = now, 0
        self._wrong[key] = (since, count + 1)
        if len(self._wrong) > self._entries_max:
            self._wrong.popitem(last=False)


class Tokens:
    """Issues access tokens."""

    def __init__(
        self,
        store: Store,
        directory: Directory,
        clock: Clock,
        ids: Ids,
        maintenance: MaintenanceWatch,
        *,
        is_sandbox: bool,
    ) -> None:
        self._store = store
        self._directory = directory
        self._maintenance = maintenance
        self._clock = clock
        self._ids = ids
        self._is_sandbox = is_sandbox
        self._limiter = SecretLimiter()

    async def issue(self, request: TokenRequest, address: str) -> IssuedToken:
        """A token for an order if the request names an amount, a service token otherwise. Raises Refused; InMaintenance
        while no payment may begin."""
        if request.grant_type != "client_credentials":
            raise Refused(Refusal.UNSUPPORTED_GRANT, "grant_type must be client_credentials", field="grant_type")
        merchant = await self._authenticate(request, address)
        scope = _check_scope(request.scope)
        terminal = await self._find_terminal(request, merchant)
        token = self._ids.secret()
        now = self._clock.now()
        record = AccessToken(
            hash=hash_secret_address(token),
            client_id=merchant.client_id,
            scope=scope,
            terminal_id=terminal.id if terminal else None,
            expires_at=now + TOKEN_LIFETIME,
        )
        if request.is_for_order:
            record = await self._open_round(request, terminal, record, now)
        else:
            await self._store.change((), lambda: Decision(None, (record,)))
        return IssuedToken(token, scope, int(TOKEN_LIFETIME.total_seconds()), merchant.expires_in_text, record.order_id)

    async def _authenticate(self, request: TokenRequest, address: str) -> Merchant:
        merchant = await self._directory.find_merchant(request.client_id) if request.client_id else None
        # Nothing is waited for from here to the count: tries that come at once are counted one by one.
        self._limiter.check(address, request.client_id)
        if merchant is None:
            hash_secret(b"\0" * 16, request.client_secret)  # the same work as for a client that exists
        if merchant is None or not is_secret(merchant, request.client_secret):
            self._limiter.count(address, request.client_id)
            raise Refused(Refusal.INVALID_CLIENT, "client_id or client_secret is wrong", field="client_id")
        return merchant

    async def _find_terminal(self, request: TokenRequest, merchant: Merchant) -> Terminal | None:
        if not request.terminal_id:
            return None
        terminal = await self._directory.find_terminal(parse_terminal_id(request.terminal_id))
        if terminal is None or terminal.merchant_id != merchant.id:
            raise Refused(
                Refusal.INVALID_REQUEST,
                f"terminal {request.terminal_id} is not one of client {merchant.client_id!r}",
                field="terminal",
            )
        return terminal

    async def _open_round(
        self, request: TokenRequest, terminal: Terminal | None, record: AccessToken, now: datetime
    ) -> AccessToken:
        if terminal is None:
            raise Refused(Refusal.INVALID_REQUEST, "terminal is missing: an amount needs one", field="terminal")
        await self._maintenance.check(terminal.id)
        amount, currency = _check_amount(request, terminal)
        self._check_links(request)
        order_id, round_id = self._ids.new(), self._ids.new()
        wanted = Order(
            id=order_id,
            terminal_id=terminal.id,
            invoice_id=request.invoice_id,
            status=OrderStatus.OPEN,
            round_id=round_id,
            amount=amount,
            currency=currency,
            created_at=now,
            updated_at=now,
        )
        event_id = self._ids.new()

        def decide(history: OrderHistory | None) -> Decision[AccessToken]:
            return _decide_order_token(history, wanted, request, record, event_id)

        return await self._store.change((keys.order_by_invoice(terminal.id, request.invoice_id),), decide)

    def _check_links(self, request: TokenRequest) -> None:
        for field, link in (("postLink", request.post_link), ("failurePostLink", request.failure_post_link)):
            if link and (problem := check_link(link, is_sandbox=self._is_sandbox)):
                raise Refused(Refusal.INVALID_REQUEST, f"{field}: {problem}", field=field)


def _check_scope(scope: str) -> str:
    wanted = scope.split() or ["payment"]
    for name in wanted:
        if name in SCOPES_NOT_SPOKEN:
            raise Refused(Refusal.INVALID_SCOPE, f"scope {name!r} is not available here", field="scope")
        if name not in SCOPES:
            raise Refused(
                Refusal.INVALID_SCOPE,
                f"scope {name[:40]!r} is not known; known are {', '.join(sorted(SCOPES))}",
                field="scope",
            )
    return " ".join(wanted)


def _check_amount(request: TokenRequest, terminal: Terminal) -> tuple[int, str]:
    try:
        currency = parse_currency(request.currency)
    except InvalidAmount as error:
        raise Refused(Refusal.INVALID_REQUEST, str(error), field="currency") from error
    if currency not in terminal.currencies:
        raise Refused(
            Refusal.INVALID_REQUEST,
            f"terminal {terminal.id} takes {', '.join(terminal.currencies)}, not {currency}",
            field="currency",
        )
    try:
        return parse_amount(request.amount, currency), currency
    except InvalidAmount as error:
        raise Refused(Refusal.INVALID_REQUEST, str(error), field="amount") from error


def _decide_order_token(
    history: OrderHistory | None, wanted: Order, request: TokenRequest, record: AccessToken, event_id: UUID
) -> Decision[AccessToken]:
    """The newest token's links and secret count. What it leaves out stays as it was, and nothing changes while a
    payment is open: a token that is asked for the status must not cost the shop its notification."""
    beside: tuple[Event, ...] = ()
    if history is None:
        order = wanted
    elif history.order.status is OrderStatus.PAID:
        order = history.order
        return Decision(_bind(record, order), (_bind(record, order),))
    else:
        order = history.order
        now = wanted.updated_at
        is_same = (order.amount, order.currency) == (wanted.amount, wanted.currency)
        if request.account_id and order.opened_at is not None:
            # Pages that were opened for one customer must not show the cards of another.
            is_same = is_same and request.account_id == order.customer
        is_payable = order.status is OrderStatus.OPEN and not rounds.is_overdue(order, now)
        if history.open_payment() is not None:
            if not is_same:
                raise Refused(
                    Refusal.IN_PROGRESS,
                    "a payment of this order is in progress: ask for its status before changing amount, currency or"
                    " account",
                    field="amount",
                )
            return Decision(_bind(record, order), (_bind(record, order),))
        if not (is_same and is_payable):
            order = rounds.open_next_round(order, wanted.round_id, wanted.amount, wanted.currency, now)
            event = Event(
                id=event_id, order_id=order.id, payment_id=None, kind="round_opened", detail="by a new token", at=now
            )
            beside = (event,)
    order = replace(order, updated_at=wanted.updated_at)
    if request.secret_hash:
        order = replace(order, secret_hash=request.secret_hash)
    if request.post_link:  # failures go there, too, if they have no address of their own
        order = replace(
            order, post_link=request.post_link, failure_post_link=request.failure_post_link, links_from_token=True
        )
    elif request.failure_post_link:
        order = replace(order, failure_post_link=request.failure_post_link, links_from_token=True)
    if request.account_id:
        order = replace(order, account_id=request.account_id, account_is_vouched=True)
    bound = _bind(record, order)
    return Decision(bound, (order, bound, *beside))


def _bind(record: AccessToken, order: Order) -> AccessToken:
    return replace(record, order_id=order.id, round_id=order.round_id)
