"""Step 2: the payer's browser brings a pay object, and a page of its order opens, or does not.

Everything that the browser brings is checked against what the shop's server said in its token request.
"""

from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from msgspec.structs import replace

from tolem.clock import Clock
from tolem.domain.errors import Refusal, Refused
from tolem.domain.frame import may_frame
from tolem.domain.history import TokenWithOrder
from tolem.domain.merchant import Terminal
from tolem.domain.order import Order, OrderStatus, Page
from tolem.flows import rounds
from tolem.flows.agreement import VERIFICATION, check_agreement, check_token
from tolem.flows.directory import Directory
from tolem.flows.maintenance import MaintenanceWatch
from tolem.flows.rounds import PAGE_LIFETIME, PageState
from tolem.ids import Ids, hash_secret_address
from tolem.notifications.guard import check_link, host_of
from tolem.storage import keys
from tolem.storage.store import Decision, Store
from tolem.wire.pay_object import PayObject
from tolem.wire.token import TERMINAL_ID

FLAGS_NOT_SPOKEN = {"isTransfer": "a card transfer", "isAFT": "account funding", "isOCT": "a payout to a card"}


class Known(NamedTuple):
    """What is known where a page does not open."""

    return_url: str = ""
    """Where the payer may return to; empty: nobody knows."""
    order_id: UUID | None = None
    order_state: PageState | None = None
    """What became of the order on other pages: PAID or CHECKING. None: nobody is known to have been charged."""
    is_verification: bool = False


class Openings:
    """How payment pages are opened."""

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
        self._clock = clock
        self._ids = ids
        self._maintenance = maintenance
        self._is_sandbox = is_sandbox

    async def open_page(self, wish: PayObject, browser_language: str = "", *, frame_origin: str | None = None) -> str:
        """A pay object → the id of a new page of its order's round. The browser's language counts where the object
        names none. `frame_origin`: of the page that shows this one in a frame, empty where it is not known, None for a
        page of its own. Raises Refused where the object contradicts the token, or the shop may not frame; the order
        keeps why."""
        token_hash = hash_secret_address(wish.access_token)
        try:
            return await self._open_page(wish, token_hash, wish.language or browser_language, frame_origin)
        except Refused as refused:
            await self._note_refusal(token_hash, refused.record)
            raise

    async def note_unreadable(self, access_token: str, message: str) -> None:
        """An object that names this token can't be read: its order keeps why."""
        await self._note_refusal(hash_secret_address(access_token), message)

    async def find_known(self, access_token: str, came_from: str) -> Known:
        """What the payer of a page that does not open may be told. `came_from`: where they came from, as the browser
        says. An address of the object that was refused leads nobody back: anybody may have made it. What an opening of
        the token's order brought that was not refused does, else where the payer came from, else the terminal's first
        site that may frame the page."""
        found = await self._store.find(keys.token_by_hash(hash_secret_address(access_token)))
        if found is None or found.history is None:
            return Known(came_from)
        order = found.history.order
        return_url = order.return_url or order.failure_return_url or came_from
        if not return_url:
            terminal = await self._directory.get_terminal(order.terminal_id)
            return_url = f"https://{terminal.frame_hosts[0]}/" if terminal.frame_hosts else ""
        return Known(return_url, order.id, rounds.settled_elsewhere(found.history), order.is_verification)

    async def _open_page(self, wish: PayObject, token_hash: bytes, language: str, frame_origin: str | None) -> str:
        for flag, service in FLAGS_NOT_SPOKEN.items():
            if flag in wish.flags:
                raise Refused(Refusal.NOT_AVAILABLE, f"{service} is not available here", field=flag)
        if wish.payment_type not in ("", VERIFICATION):
            raise Refused(
                Refusal.NOT_AVAILABLE, f"paymentType {wish.payment_type!r} is not available here", field="paymentType"
            )
        terminal = await self._terminal_of(wish, token_hash)
        page_id = self._ids.secret()
        page_hash = hash_secret_address(page_id)
        now = self._clock.now()
        pause = await self._maintenance.find(terminal.id)
        starts_at = pause.until or now if pause else now

        def decide(found: TokenWithOrder | None) -> Decision[None]:
            history = check_token(found, now)
            order = history.order
            check_agreement(order, wish)
            if frame_origin is not None:
                self._check_frame(frame_origin, terminal)
            page = Page(
                hash=page_hash,
                order_id=order.id,
                round_id=order.round_id,
                language=language,
                frame_origin=frame_origin or "",
                expires_at=now + PAGE_LIFETIME,
            )
            if order.status is not OrderStatus.OPEN or rounds.is_overdue(order, now) or history.open_payment():
                return Decision(None, (page,))  # it shows how the round ended, or how the payment goes on
            opened = self._take_page_data(order, wish, terminal, now, starts_at)
            overtaken = rounds.withdraw_failures(history) if order.opened_at is None else ()
            return Decision(None, (opened, page, *overtaken))

        await self._store.change((keys.token_by_hash(token_hash),), decide)
        return page_id

    async def _note_refusal(self, token_hash: bytes, message: str) -> None:
        """Whoever asks why the order is unpaid is told that its page did not open."""
        now = self._clock.now()

        def decide(found: TokenWithOrder | None) -> Decision[None]:
            if found is None or found.history is None or found.history.order.status is not OrderStatus.OPEN:
                return Decision(None)
            return Decision(None, (replace(found.history.order, page_refusal=message, page_refused_at=now),))

        await self._store.change((keys.token_by_hash(token_hash),), decide)

    async def _terminal_of(self, wish: PayObject, token_hash: bytes) -> Terminal:
        """The terminal that the object names, which the decision compares with the order's own; else the order's."""
        if TERMINAL_ID.fullmatch(wish.terminal_id):
            named = await self._directory.find_terminal(UUID(wish.terminal_id))
            if named is not None:
                return named
        found = await self._store.find(keys.token_by_hash(token_hash))
        history = check_token(found, self._clock.now())
        return await self._directory.get_terminal(history.order.terminal_id)

    def _take_page_data(
        self, order: Order, wish: PayObject, terminal: Terminal, now: datetime, starts_at: datetime
    ) -> Order:
        """The order with what the shop's page says of it. Notification addresses are taken only where the shop's server
        named none; an opening that names none leaves those of the one before. `starts_at`: when a card can be typed."""
        post_link, failure_post_link = order.post_link, order.failure_post_link
        if not order.links_from_token and (wish.post_link or wish.failure_post_link):
            post_link, failure_post_link = wish.post_link or post_link, wish.failure_post_link
            for field, link in (("postLink", post_link), ("failurePostLink", failure_post_link)):
                self._check_page_link(field, link, terminal)
        return_url, failure_return_url = order.return_url, order.failure_return_url
        if wish.return_url or wish.failure_return_url:
            return_url, failure_return_url = wish.return_url, wish.failure_return_url
        return replace(
            order,
            post_link=post_link,
            failure_post_link=failure_post_link,
            account_id=order.account_id if order.account_is_vouched else wish.account_id,
            opened_at=order.opened_at or now,
            deadline_at=order.deadline_at or rounds.deadline_from(terminal, starts_at),
            return_url=return_url,
            failure_return_url=failure_return_url,
            auto_return=wish.auto_return,
            language=wish.language,
            invoice_id_alt=wish.invoice_id_alt,
            description=wish.description,
            email=wish.email,
            phone=wish.phone,
            name=wish.name,
            data=wish.data,
            payment_type=wish.payment_type,
            offers_saving=wish.card_save,
            page_refusal="",
            page_refused_at=None,
            updated_at=now,
        )

    def _check_frame(self, origin: str, terminal: Terminal) -> None:
        if not origin:
            raise Refused(
                Refusal.FRAME_NOT_ALLOWED,
                "origin: nothing says which page shows this one in a frame. Open it with halyk.showPaymentWidget() of"
                " our payment-api.js, or let your page's Referrer-Policy tell its origin",
                "origin",
            )
        if not may_frame(origin, terminal.frame_hosts, is_sandbox=self._is_sandbox):
            raise Refused(
                Refusal.FRAME_NOT_ALLOWED,
                f"origin: a page of {origin[:300]!r} may not show this one in a frame. Add its host to the terminal:"
                f" tolem terminal set {terminal.id} --frame-host HOST[:PORT] (https, but in a sandbox)",
                "origin",
            )

    def _check_page_link(self, field: str, link: str, terminal: Terminal) -> None:
        if not link:
            return
        if problem := check_link(link, is_sandbox=self._is_sandbox):
            raise Refused(Refusal.INVALID_REQUEST, f"{field}: {problem}", field=field)
        is_open = self._is_sandbox and not terminal.link_hosts
        if not is_open and host_of(link).rpartition(":")[0] not in terminal.link_hosts:
            raise Refused(
                Refusal.LINK_NOT_ALLOWED,
                f"{field}: its host is not on the list of terminal {terminal.id}. Name the address in the token"
                " request, which your server sends, or add the host to the terminal",
                field=field,
            )
