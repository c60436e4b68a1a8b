"""Step 3: what an opened payment page shows, and the payer who types a card on it, or leaves.

Double clicks, Back, reloads and second tabs all end in the same decisions here, and each sees the order's true state.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from msgspec.structs import replace

from tolem.acquirers.base import Acquirer
from tolem.clock import Clock
from tolem.domain.authentication import AuthenticationStep, Browser, PendingAuthentication
from tolem.domain.card import Card, CardField, InvalidCard, Pan, clean_number, parse_card
from tolem.domain.errors import Refusal, Refused
from tolem.domain.frame import frame_ancestors
from tolem.domain.history import Event, OrderHistory, PageWithOrder
from tolem.domain.maintenance import Pause
from tolem.domain.merchant import Terminal
from tolem.domain.order import Page
from tolem.domain.payment import PaymentStatus
from tolem.domain.saved_card import SavedCard
from tolem.flows import rounds
from tolem.flows.acquiring import Acquiring
from tolem.flows.authentication import Authentications, Sale, Visitor
from tolem.flows.authorization import Entry
from tolem.flows.directory import Directory
from tolem.flows.limits import Attempt, AttemptLimits
from tolem.flows.maintenance import MaintenanceWatch
from tolem.flows.rounds import PAYABLE_STATES, PageState
from tolem.flows.saved_cards import CardChoice, SavedCards, Saving
from tolem.ids import Ids, hash_secret_address
from tolem.notifications.notifier import Notifier
from tolem.storage import keys
from tolem.storage.store import Decision, Store

TYPED = CardChoice()
"""The payer types a card and keeps none."""


class OpenedPage(NamedTuple):
    """What the page shows, with all that it shows it of."""

    state: PageState
    page: Page
    history: OrderHistory
    terminal: Terminal
    now: datetime
    """Business time of this look."""
    frame_ancestors: tuple[str, ...]
    """Who may show it in a frame, as sources of a Content-Security-Policy."""
    pending: PendingAuthentication | None = None
    """What the payer has to do at the issuer's; None: nothing, or at another opening of the page."""
    cards: Sequence[SavedCard] = ()
    """Saved cards that the payer may choose, where a card may be chosen at all."""
    pause: Pause | None = None
    """Why no card may be typed now, though the order waits for one."""

    def without_pause(self) -> "OpenedPage":
        """The page whose payer has it open already: the card form stays, though no card is taken."""
        return self._replace(state=rounds.page_state(PageWithOrder(self.page, self.history), self.now))

    def challenges_another(self, number: str, choice: CardChoice) -> bool:
        """The issuer is challenging the payer over another card than this one."""
        payment = self.history.open_payment() if self.state is PageState.CHALLENGE else None
        if payment is None:
            return False
        if choice.card_id is not None:
            return payment.card_id != choice.card_id
        return payment.masked_pan != Pan(clean_number(number)).masked


class PageTerms(NamedTuple):
    """What the authenticator is told of a page's order; it can't change within the page's round."""

    order_id: UUID
    terminal_id: UUID
    amount: int
    """Minor units."""
    currency: str
    language: str


TERMS_MAX = 10_000
"""Pages remembered; past this the memory is emptied, and a payment costs one read more."""


class Checkout:
    """The payment page's flow."""

    def __init__(
        self,
        store: Store,
        directory: Directory,
        clock: Clock,
        ids: Ids,
        acquirer: Acquirer,
        acquiring: Acquiring,
        authentications: Authentications,
        cards: SavedCards,
        notifier: Notifier,
        limits: AttemptLimits,
        maintenance: MaintenanceWatch,
        *,
        is_sandbox: bool,
    ) -> None:
        self._store = store
        self._directory = directory
        self._clock = clock
        self._ids = ids
        self._acquirer = acquirer
        self._acquiring = acquiring
        self._authentications = authentications
        self._cards = cards
        self._notifier = notifier
        self._limits = limits
        self._maintenance = maintenance
        self._is_sandbox = is_sandbox
        self._terms: dict[bytes, PageTerms] = {}
        """Of pages shown here lately: what a card attempt has to know before it is decided. Never what decides."""

    async def view(self, page_id: str) -> OpenedPage | None:
        """What the page shows now. None: no such page, or not any more."""
        found = await self._store.find(keys.page_by_hash(hash_secret_address(page_id)))
        if found is None:
            return None
        now = self._clock.now()
        if found.record.expires_at <= now:
            return None
        order = found.history.order
        state = rounds.page_state(found, now)
        if state in PAYABLE_STATES:
            if len(self._terms) >= TERMS_MAX:
                self._terms.clear()
            language = found.record.language or order.language
            self._terms[found.record.hash] = PageTerms(
                order.id, order.terminal_id, order.amount, order.currency, language
            )
        terminal = await self._directory.get_terminal(order.terminal_id)
        framers = self._framers(terminal) if found.record.frame_origin else ()
        if state in PAYABLE_STATES:
            pause = await self._maintenance.find(terminal.id)
            shown = PageState.MAINTENANCE if pause else state
            cards = await self._cards.list_payable(order, terminal)
            return OpenedPage(shown, found.record, found.history, terminal, now, framers, None, cards, pause)
        if state is not PageState.CHALLENGE:
            return OpenedPage(state, found.record, found.history, terminal, now, framers)
        pending = await self._authentications.find(found.record.hash, found.history)
        if pending is not None and pending.step is AuthenticationStep.DEVICE:
            state = PageState.DEVICE
        return OpenedPage(state, found.record, found.history, terminal, now, framers, pending)

    async def look(self, page_id: str, patience_seconds: float) -> OpenedPage | None:
        """The same, after a look whether the payer's challenge has come to an end: then the payment goes on, and this
        waits for it a little."""
        opened = await self.view(page_id)
        if opened is None or opened.pending is None:
            return opened
        await self._authentications.resume(page_id, opened.pending, opened.terminal, patience_seconds)
        return await self.view(page_id)

    async def speak(self, page_id: str, language: str) -> None:
        """The payer chose `ru`, `kk` or `en` for this page, whatever the shop asked for."""

        def decide(found: PageWithOrder | None) -> Decision[None]:
            if found is None or found.record.language == language:
                return Decision(None)
            return Decision(None, (replace(found.record, language=language),))

        await self._store.change((keys.page_by_hash(hash_secret_address(page_id)),), decide)

    async def lead_back(self, page_id: str) -> bool:
        """A result is about to lead its payer back to the shop by itself. False: it did that before, so that whoever
        sees it now came on purpose."""

        def decide(found: PageWithOrder | None) -> Decision[bool]:
            if found is None or found.record.has_led_back:
                return Decision(False)
            return Decision(True, (replace(found.record, has_led_back=True),))

        return await self._store.change((keys.page_by_hash(hash_secret_address(page_id)),), decide)

    async def extend(self, page_id: str) -> None:
        """The payer asks for more time to type; given once in a round."""
        opened = await self.view(page_id)
        if opened is None:
            return
        terminal, stamp = opened.terminal, self._acquiring.stamp()

        def decide(found: PageWithOrder | None) -> Decision[None]:
            if found is None or not rounds.is_payable(found, stamp.at):
                return Decision(None)
            order = found.history.order
            if not rounds.can_extend(order, terminal, stamp.at):
                return Decision(None)
            detail = f"by {terminal.extension_minutes} minutes, as the payer asked"
            event = Event(
                id=stamp.event_id,
                order_id=order.id,
                payment_id=None,
                kind="round_extended",
                detail=detail,
                at=stamp.at,
            )
            return Decision(None, (rounds.extend(order, terminal, stamp.at), event))

        await self._store.change((keys.page_by_hash(hash_secret_address(page_id)),), decide)

    async def pay(
        self,
        page_id: str,
        typed: Mapping[CardField, str],
        browser: Browser,
        return_base: str,
        choice: CardChoice = TYPED,
    ) -> PaymentStatus | None:
        """One card attempt: authenticate, reserve, call, record. None: the page is not payable now, it shows why.

        Returns once the outcome is recorded or a few seconds have passed; the payment goes on either way. Or it waits
        for its payer: then the page shows what for, and the issuer sends the browser back to `return_base` and a nonce.
        Raises InvalidCard with what the payer should mend, Limited if the payer has to wait before any attempt.
        """
        page_hash = hash_secret_address(page_id)
        if page_hash not in self._terms:
            await self.view(page_id)
        terms = self._terms.pop(page_hash, None)
        if terms is None:
            return None
        terminal = await self._directory.get_terminal(terms.terminal_id)
        if await self._maintenance.find(terminal.id):
            return None
        ids = self._ids
        if choice == TYPED:
            card, saving = self._read_card(typed), None
        else:
            card, saving = await self._card_of_choice(page_hash, choice, typed, terminal)
        card_id = choice.card_id or ids.card()
        entry = Entry(page_hash, card, browser.ip, ids.new(), card_id, ids.stan(), saving)
        sale = Sale(terminal, terms.amount, terms.currency, terms.language)
        attempt = Attempt(self._limits.fingerprint(card.pan), browser.ip, terminal.id)
        async with self._limits.admit(attempt, terms.order_id):
            return await self._authentications.attempt(Visitor(page_id, browser, return_base), entry, sale)

    async def remove_card(self, page_id: str, card_id: UUID) -> None:
        """The payer removes a saved card of theirs. Raises Refused(NOT_FOUND), for a foreign card too."""
        opened = await self.view(page_id)
        if opened is None or all(card.id != card_id for card in opened.cards):
            raise Refused(Refusal.NOT_FOUND, "there is no such saved card", "cardId")
        await self._cards.remove(card_id, opened.terminal.merchant_id, opened.history.order.customer)

    async def find_returned(self, page_id: str, nonce: str) -> OpenedPage | None:
        """The page whose browser the issuer sent back to a nonce. None: the page's last attempt has another nonce, or
        there is no such page any more."""
        opened = await self.view(page_id)
        payment = opened.history.last_payment() if opened else None
        if payment is None or not await self._authentications.is_nonce_of(payment.id, nonce):
            return None
        return opened

    async def identify(self, page_id: str, browser: Browser, return_base: str, *, is_done: bool) -> None:
        """The issuer has looked at the payer's browser, or did not come to it in time: the attempt goes on."""
        opened = await self.view(page_id)
        if opened is None or opened.pending is None:
            return
        order = opened.history.order
        sale = Sale(opened.terminal, order.amount, order.currency, opened.page.language or order.language)
        visitor = Visitor(page_id, browser, return_base)
        await self._authentications.identify(visitor, opened.pending, sale, is_done=is_done)

    async def abandon(self, page_id: str) -> None:
        """The payer gives up the attempt that waits for them, here or at another opening of the page."""
        opened = await self.view(page_id)
        if opened is not None:
            await self._authentications.abandon(opened.history, opened.terminal)

    async def leave(self, page_id: str) -> None:
        """The payer goes back to the shop without paying: the round fails, unless a payment is open or approved."""
        opened = await self.view(page_id)
        if opened is None or opened.state not in (*PAYABLE_STATES, PageState.MAINTENANCE):
            return
        stamp = self._acquiring.stamp()

        def decide(found: PageWithOrder | None) -> Decision[rounds.RoundEnd | None]:
            if found is None or not rounds.is_payable(found, stamp.at):
                return Decision(None)
            history = found.history
            end = rounds.fail(
                history, history.last_payment(), opened.terminal, stamp, cause="the payer left", has_left=True
            )
            return Decision(end, (end.order, *end.records))

        end = await self._store.change((keys.page_by_hash(hash_secret_address(page_id)),), decide)
        if end is not None and end.message is not None:
            self._notifier.send(end.message)

    async def _card_of_choice(
        self, page_hash: bytes, choice: CardChoice, typed: Mapping[CardField, str], terminal: Terminal
    ) -> tuple[Card, Saving | None]:
        """The card that pays where the payer has chosen a saved one, or to save the one that is typed."""
        found = await self._store.find(keys.page_by_hash(page_hash))
        if found is None:
            raise LookupError("a page that was shown is not stored")
        order = found.history.order
        if choice.card_id is not None:
            card = await self._cards.open(choice.card_id, typed.get(CardField.CVC, ""), order, terminal)
            if problems := self._acquirer.check(card, self._clock.now().date()):
                raise InvalidCard(problems)
            return card, None
        card = self._read_card(typed)
        return card, await self._cards.begin(card, order, terminal)

    def _read_card(self, typed: Mapping[CardField, str]) -> Card:
        today = self._clock.now().date()
        fields = (typed.get(field, "") for field in CardField)
        return parse_card(*fields, check=lambda card: self._acquirer.check(card, today))

    def _framers(self, terminal: Terminal) -> tuple[str, ...]:
        return frame_ancestors(terminal.frame_hosts, is_sandbox=self._is_sandbox)
