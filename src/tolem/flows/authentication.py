"""Step 4 of a payment: the issuer is asked who the payer is, and the payer sent to it where it wants to see them.

Most attempts end here at once, and are reserved with their payment in one change (authorization.py). The others wait:
for the issuer's look at the browser (the 3DS Method), or for a challenge. Whatever the browser brings back only wakes
this flow; the result comes from the authenticator, server to server. While an attempt waits the acquirer has heard
nothing of it, and its card rests sealed; so whoever ends it first, the payer, the issuer or the time, ends it once.
"""

import asyncio
import hmac
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from msgspec.structs import replace

from tolem.acquirers.base import AuthenticationRequest, Authenticator, DeviceCheck
from tolem.domain.authentication import (
    ABANDONED,
    LOST,
    Authentication,
    AuthenticationStep,
    Browser,
    Challenge,
    DeviceStep,
    PendingAuthentication,
    Ruling,
    TransStatus,
    choose_window,
    judge,
)
from tolem.domain.card import Card
from tolem.domain.history import OrderHistory, PageWithOrder, PendingWithOrder, SealedCardWithOrder
from tolem.domain.merchant import Terminal
from tolem.domain.payment import PaymentStatus, advance
from tolem.domain.saved_card import SavedCard
from tolem.domain.sealed_card import SealedCard
from tolem.flows import outcome, rounds
from tolem.flows.acquiring import Acquiring
from tolem.flows.authorization import (
    PATIENCE_SECONDS,
    Authorizations,
    Entry,
    build_payment,
    end_step,
    note_result,
)
from tolem.flows.directory import Directory
from tolem.flows.limits import Attempt, AttemptLimits
from tolem.flows.outcome import Recorded
from tolem.flows.saved_cards import agree, keys_of
from tolem.flows.steps import tell_failures
from tolem.storage import keys, sweeps
from tolem.storage.sealed_cards import CardSealer
from tolem.storage.sealing import CannotOpen
from tolem.storage.store import Decision
from tolem.telemetry import log, payments_total

CHALLENGE_MAX = timedelta(minutes=10)
"""So long an attempt may wait for its payer, all steps together (business time)."""
BATCH = 100

_ABANDONED = Ruling(False, ABANDONED, True)
_LOST = Ruling(False, LOST, False)


class Visitor(NamedTuple):
    """Whose attempt it is: the payer's browser at an opening of the page."""

    page_id: str
    browser: Browser
    return_base: str
    """Where the issuer sends the browser back to, followed by a nonce: `https://host/3ds/`."""


class Sale(NamedTuple):
    """What the issuer is told that the payment is for."""

    terminal: Terminal
    amount: int
    currency: str
    language: str


class _Waiting(NamedTuple):
    """What an attempt waits for."""

    step: AuthenticationStep
    url: str
    data: str
    reference: str = ""


class Authentications:
    """Runs attempts up to the acquirer's door."""

    def __init__(
        self,
        acquiring: Acquiring,
        authorizations: Authorizations,
        directory: Directory,
        authenticator: Authenticator,
        cards: CardSealer,
        limits: AttemptLimits,
    ) -> None:
        self._acquiring = acquiring
        self._authorizations = authorizations
        self._directory = directory
        self._authenticator = authenticator
        self._cards = cards
        self._limits = limits

    async def attempt(self, visitor: Visitor, entry: Entry, sale: Sale) -> PaymentStatus | None:
        """A new attempt, as far as it goes without the payer. None: it still runs, or the page was not payable any
        more. Raises what storing raises."""
        nonce = self._acquiring.ids.secret()
        return_url = visitor.return_base + nonce
        if visitor.browser.has_script:
            device = self._authenticator.find_device_step(entry.card, entry.payment_id, return_url)
            if device is not None:
                return await self._wait_for_payer(visitor, entry, nonce, _waiting(device), sale.terminal)
        answer = await self._ask(_request(visitor, entry.payment_id, entry.card, sale, return_url, self._now()))
        if isinstance(answer, Challenge):
            return await self._wait_for_payer(visitor, entry, nonce, _waiting(answer), sale.terminal)
        ruling = judge(answer, sale.terminal)
        if ruling.goes_on:
            return await self._authorizations.attempt(entry, answer, sale.terminal)
        return await self._refuse(entry, answer, ruling, sale.terminal)

    async def find(self, page_hash: bytes, history: OrderHistory) -> PendingAuthentication | None:
        """What an order's open payment waits for; None: nothing, or not at this opening of the page."""
        payment = history.open_payment()
        if payment is None or payment.status is not PaymentStatus.AUTHENTICATING:
            return None
        found = await self._acquiring.store.find(keys.authentication_of(payment.id))
        if found is None or found.record.page_hash != page_hash or found.record.deadline_at is None:
            return None
        return found.record

    async def is_nonce_of(self, payment_id: UUID, nonce: str) -> bool:
        """The issuer was told to send this payment's browser back to the nonce."""
        found = await self._acquiring.store.find(keys.authentication_of(payment_id))
        return found is not None and hmac.compare_digest(found.record.return_nonce.encode(), nonce.encode())

    async def identify(self, visitor: Visitor, pending: PendingAuthentication, sale: Sale, *, is_done: bool) -> None:
        """The issuer has looked at the payer's browser, or has not come to it in time: the attempt goes on."""
        if pending.step is not AuthenticationStep.DEVICE:
            return
        card = await self._open_card(pending, visitor.page_id, sale.terminal)
        if card is None:
            return
        return_url = visitor.return_base + pending.return_nonce
        request = _request(visitor, pending.payment_id, card, sale, return_url, self._now())
        check = DeviceCheck.DONE if is_done else DeviceCheck.FAILED
        answer = await self._ask(replace(request, device_check=check))
        if isinstance(answer, Challenge):
            await self._challenge(pending.payment_id, answer)
        else:
            await self._conclude(pending, answer, card, sale.terminal, PATIENCE_SECONDS)

    async def resume(
        self,
        page_id: str,
        pending: PendingAuthentication,
        terminal: Terminal,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        """Asks for the result of a challenge, and goes on if there is one. Whoever wakes it, and as often."""
        if pending.step is AuthenticationStep.DEVICE:
            return
        try:
            async with asyncio.timeout(self._acquiring.limits.exchange_seconds):
                result = await self._authenticator.find_result(pending.payment_id, pending.reference)
        except Exception as error:  # asked again when the page asks next
            log.warning("authenticator_failed", payment=str(pending.payment_id), exc_info=error)
            return
        if result is None:
            return
        if not judge(result, terminal).goes_on:
            await self._conclude(pending, result, None, terminal, patience_seconds)
            return
        card = await self._open_card(pending, page_id, terminal)
        if card is not None:
            await self._conclude(pending, result, card, terminal, patience_seconds)

    async def abandon(self, history: OrderHistory, terminal: Terminal) -> None:
        """The payer gives up what waits for them, at whatever opening of the page."""
        payment = history.open_payment()
        if payment is not None and payment.status is PaymentStatus.AUTHENTICATING:
            await self._end(payment.id, None, _ABANDONED, terminal)

    async def expire(self) -> int:
        """Fails the attempts whose payers did not come back in time. Returns how many ended."""
        due = await sweeps.due_authentications(self._acquiring.store, now=self._now(), limit=BATCH)
        results = await asyncio.gather(*(self._expire(payment_id) for payment_id in due), return_exceptions=True)
        tell_failures("expiry_failed", "payment", zip(due, results, strict=True))
        return sum(result is True for result in results)

    # Steps -----------------------------------------------------------------------------------------------------------

    async def _ask(self, request: AuthenticationRequest) -> Authentication | Challenge:
        """The issuer's word; that it is not available where the authenticator fails or is silent."""
        try:
            async with asyncio.timeout(self._acquiring.limits.exchange_seconds):
                return await self._authenticator.authenticate(request)
        except Exception as error:
            log.warning("authenticator_failed", payment=str(request.key), exc_info=error)
            return Authentication(TransStatus.UNAVAILABLE)

    async def _wait_for_payer(
        self, visitor: Visitor, entry: Entry, nonce: str, waiting: _Waiting, terminal: Terminal
    ) -> PaymentStatus | None:
        """Stores the payment, what it waits for and its card, all or nothing."""
        now = self._now()
        deadline_at = now + CHALLENGE_MAX
        key_name, sealed = await self._cards.seal(entry.card, visitor.page_id, entry.payment_id)
        fingerprint = self._limits.fingerprint(entry.card.pan)

        def decide(found: PageWithOrder | None, known: SavedCard | None = None) -> Decision[PaymentStatus | None]:
            if found is None or not rounds.may_attempt(found, terminal, now):
                return Decision(None)
            order = found.history.order
            payment, saving = agree(entry.saving, entry.card, build_payment(entry, order, now), order, known, now)
            payment = advance(payment, PaymentStatus.AUTHENTICATING, now)
            pending = PendingAuthentication(
                payment_id=payment.id,
                order_id=order.id,
                page_hash=entry.page_hash,
                step=waiting.step,
                url=waiting.url,
                data=waiting.data,
                reference=waiting.reference,
                window=choose_window(visitor.browser),
                return_nonce=nonce,
                deadline_at=deadline_at,
                created_at=now,
            )
            card = SealedCard(
                payment_id=payment.id,
                order_id=order.id,
                key_name=key_name,
                sealed=sealed,
                fingerprint=fingerprint,
                expires_at=deadline_at,
            )
            return Decision(payment.status, (payment, pending, card, *saving))

        loaded = (keys.page_by_hash(entry.page_hash), *keys_of(entry.saving))
        return await self._acquiring.store.change(loaded, decide)

    async def _challenge(self, payment_id: UUID, challenge: Challenge) -> None:
        """From the look at the browser to the challenge."""
        step, url, data, reference = _waiting(challenge)

        def decide(found: PendingWithOrder | None) -> Decision[None]:
            if found is None or found.record.step is not AuthenticationStep.DEVICE:
                return Decision(None)
            return Decision(None, (replace(found.record, step=step, url=url, data=data, reference=reference),))

        await self._acquiring.store.change((keys.authentication_of(payment_id),), decide)

    async def _conclude(
        self,
        pending: PendingAuthentication,
        result: Authentication,
        card: Card | None,
        terminal: Terminal,
        patience_seconds: float,
    ) -> None:
        ruling = judge(result, terminal)
        if ruling.goes_on and card is not None:
            await self._authorizations.go_on(pending.payment_id, card, result, terminal, patience_seconds)
        else:
            await self._end(pending.payment_id, result, ruling, terminal)

    async def _open_card(self, pending: PendingAuthentication, page_id: str, terminal: Terminal) -> Card | None:
        """The card of a waiting attempt. None: somebody else took it, or it can't be opened any more, which ends the
        attempt: nothing was charged."""
        found = await self._acquiring.store.find(keys.sealed_card_of(pending.payment_id))
        if found is None or found.record.sealed is None:
            return None
        try:
            return await self._cards.open(found.record, page_id)
        except CannotOpen as error:
            log.warning("sealed_card_lost", payment=str(pending.payment_id), cause=str(error))
            await self._end(pending.payment_id, None, _LOST, terminal)
            return None

    async def _refuse(
        self, entry: Entry, authentication: Authentication, ruling: Ruling, terminal: Terminal
    ) -> PaymentStatus | None:
        """A new attempt ends before it began: the payment is stored as declined."""
        stamp = self._acquiring.stamp()

        def decide(found: PageWithOrder | None) -> Decision[Recorded | None]:
            if found is None or not rounds.may_attempt(found, terminal, stamp.at):
                return Decision(None)
            payment = note_result(build_payment(entry, found.history.order, stamp.at), authentication)
            recorded, writes, _ = outcome.record_unauthenticated(found.history, payment, ruling, terminal, stamp)
            return Decision(recorded, writes)

        recorded = await self._acquiring.store.change((keys.page_by_hash(entry.page_hash),), decide)
        if recorded is None:
            return None
        self._tell(recorded, entry.payment_id)
        attempted = Attempt(self._limits.fingerprint(entry.card.pan), entry.ip, terminal.id)
        await self._limits.count(attempted, ruling.reason_code)
        return recorded.status

    async def _end(self, payment_id: UUID, result: Authentication | None, ruling: Ruling, terminal: Terminal) -> bool:
        """An attempt that waits ends without the acquirer: not authenticated, abandoned, lost. False: it did before."""
        stamp = self._acquiring.stamp()

        def decide(
            found: PendingWithOrder | None, sealed: SealedCardWithOrder | None
        ) -> Decision[tuple[Recorded, Attempt | None] | None]:
            payment = found.history.payments.get(payment_id) if found else None
            if found is None or payment is None or payment.status is not PaymentStatus.AUTHENTICATING:
                return Decision(None)
            if result is not None:
                payment = note_result(payment, result)
            recorded, writes, _ = outcome.record_unauthenticated(found.history, payment, ruling, terminal, stamp)
            attempted = Attempt(sealed.record.fingerprint, payment.ip, terminal.id) if sealed else None
            return Decision((recorded, attempted), (*writes, *end_step(found.record, sealed, stamp.at)))

        loaded = (keys.authentication_of(payment_id), keys.sealed_card_of(payment_id))
        ended = await self._acquiring.store.change(loaded, decide)
        if ended is None:
            return False
        recorded, attempted = ended
        self._tell(recorded, payment_id)
        if attempted is not None:
            await self._limits.count(attempted, ruling.reason_code)
        return True

    async def _expire(self, payment_id: UUID) -> bool:
        found = await self._acquiring.store.find(keys.authentication_of(payment_id))
        if found is None:
            raise LookupError(f"the authentication of payment {payment_id} is not stored")
        terminal = await self._directory.get_terminal(found.history.order.terminal_id)
        return await self._end(payment_id, None, _ABANDONED, terminal)

    def _tell(self, recorded: Recorded, payment_id: UUID) -> None:
        self._acquiring.tell(recorded)
        payments_total.labels(recorded.status).inc()
        log.info("not_authenticated", payment=str(payment_id), status=recorded.status)

    def _now(self) -> datetime:
        return self._acquiring.clock.now()


def _waiting(asked: DeviceStep | Challenge) -> _Waiting:
    if isinstance(asked, DeviceStep):
        return _Waiting(AuthenticationStep.DEVICE, asked.url, asked.data)
    step = AuthenticationStep.CHALLENGE if asked.url else AuthenticationStep.DECOUPLED
    return _Waiting(step, asked.url, asked.creq, asked.reference)


def _request(
    visitor: Visitor, payment_id: UUID, card: Card, sale: Sale, return_url: str, at: datetime
) -> AuthenticationRequest:
    return AuthenticationRequest(
        key=payment_id,
        terminal_id=sale.terminal.id,
        shop_name=sale.terminal.name,
        amount=sale.amount,
        currency=sale.currency,
        card=card,
        browser=visitor.browser,
        window=choose_window(visitor.browser),
        language=sale.language,
        return_url=return_url,
        at=at,
    )
