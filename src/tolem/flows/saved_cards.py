"""Saved cards: a payer keeps a card with a shop, pays with it by typing its security code only, and removes it.

Whose cards they are is the shop's server's word alone: the account that its token request named. A card is saved in two
steps, since an outcome may come without the card being at hand: the change that stores the attempt also stores the
payer's consent, with the number sealed; once the attempt has an outcome the consent is settled, at once or by the
worker. Paying with a saved card is an ordinary attempt, 3-D Secure included.
"""

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from msgspec.structs import replace

from tolem.clock import Clock
from tolem.domain.card import Card, CardField, CardProblem, InvalidCard, parse_cvc
from tolem.domain.errors import Refusal, Refused
from tolem.domain.merchant import Terminal
from tolem.domain.order import Order
from tolem.domain.payment import Payment
from tolem.domain.saved_card import CardConsent, SavedCard
from tolem.storage import keys, saved_cards
from tolem.storage.sealing import CannotOpen
from tolem.storage.store import Decision, Key, Store
from tolem.storage.vault import Vault
from tolem.telemetry import log

CARDS_MAX = 100
"""Of one customer; past this the ones that were saved first are not shown."""
BATCH = 100
KEPT = timedelta(days=1)
"""So long the record of a removed card stays, without its number."""


class CardChoice(NamedTuple):
    """What a payer chose beside typing: to save the card, or to pay with a saved one."""

    saves: bool = False
    card_id: UUID | None = None
    """None: a card that is typed."""


class Saving(NamedTuple):
    """A consent as far as it is known before the attempt is decided."""

    merchant_id: UUID
    account_id: str
    fingerprint: bytes
    key_id: str
    sealed: bytes


class SavedCards:
    """The flow."""

    def __init__(self, store: Store, clock: Clock, vault: Vault) -> None:
        self._store = store
        self._clock = clock
        self._vault = vault

    async def list(self, merchant_id: UUID, account_id: str) -> Sequence[SavedCard]:
        """A customer's cards, expired ones too, the one saved last first."""
        return await saved_cards.list_cards(self._store, merchant_id, account_id, CARDS_MAX)

    def today(self) -> date:
        """By which cards expire."""
        return self._clock.now().date()

    async def list_payable(self, order: Order, terminal: Terminal) -> Sequence[SavedCard]:
        """The cards with which an order may be paid: those of the customer that the shop's server vouched for."""
        if not order.customer:
            return ()
        today = self.today()
        return [card for card in await self.list(terminal.merchant_id, order.customer) if card.may_pay(today)]

    async def open(self, card_id: UUID, cvc: str, order: Order, terminal: Terminal) -> Card:
        """A saved card of an order's customer with the code that was typed. Raises InvalidCard."""
        found = await self._store.find(keys.saved_card_by_id(card_id))
        if found is None or not _is_of(found, terminal.merchant_id, order.customer):
            raise InvalidCard({CardField.NUMBER: CardProblem.NUMBER_GONE})
        if not found.may_pay(self.today()):
            raise InvalidCard({CardField.NUMBER: CardProblem.NUMBER_GONE})
        code = parse_cvc(cvc, found.brand)
        try:
            pan = self._vault.open(found)
        except CannotOpen as error:  # an operator's mistake; the payer can type the card
            log.error("saved_card_sealed", card=str(card_id), reason=str(error))
            raise InvalidCard({CardField.NUMBER: CardProblem.NUMBER_GONE}) from error
        return Card(pan, found.expiry, code, found.holder)

    async def begin(self, card: Card, order: Order, terminal: Terminal) -> Saving | None:
        """What saving a card needs, made before its attempt is decided. None: the card can't be saved here."""
        if not may_save(order):
            return None
        fingerprint = await self._vault.fingerprint(card.pan, terminal.merchant_id, order.customer)
        return Saving(terminal.merchant_id, order.customer, fingerprint, *self._vault.seal(card.pan, fingerprint))

    async def remove(self, card_id: UUID, merchant_id: UUID, account_id: str | None = None) -> None:
        """The card pays no more, and its number is gone. `account_id`: whose it must be; None: any of the merchant's.
        Raises Refused(NOT_FOUND), for a foreign card too."""
        now = self._clock.now()

        def decide(found: SavedCard | None) -> Decision[None]:
            is_own = found is not None and found.merchant_id == merchant_id and found.sealed is not None
            if found is None or not is_own or account_id not in (None, found.account_id):
                raise Refused(Refusal.NOT_FOUND, "there is no such saved card", "cardId")
            return Decision(None, (replace(found, key_id=None, sealed=None, holder="", updated_at=now),))

        await self._store.change((keys.saved_card_by_id(card_id),), decide)
        log.info("card_removed", card=str(card_id), by="payer" if account_id is not None else "shop")

    async def settle(self, payment_id: UUID, rrn: str, *, is_approved: bool) -> bool:
        """What becomes of a consent, once its payment has an outcome. True: the card is saved."""
        found = await self._store.find(keys.card_consent_of(payment_id))
        if found is None:
            return False
        now = self._clock.now()

        def decide(consent: CardConsent | None, known: SavedCard | None) -> Decision[bool]:
            if consent is None or consent.sealed is None:
                return Decision(False)
            settled = replace(consent, key_id=None, sealed=None, holder="")
            if not is_approved:
                return Decision(False, (settled,))
            saved = known or _record(consent, now)
            saved = replace(
                saved,
                terminal_id=consent.terminal_id,
                expiry_year=consent.expiry_year,
                expiry_month=consent.expiry_month,
                holder=consent.holder,
                key_id=consent.key_id,
                sealed=consent.sealed,
                payment_id=payment_id,
                rrn=rrn,
                updated_at=now,
            )
            return Decision(True, (settled, saved))

        loaded = (keys.card_consent_of(payment_id), keys.saved_card_by_fingerprint(found.fingerprint))
        is_saved = await self._store.change(loaded, decide)
        if is_saved:
            log.info("card_saved", payment=str(payment_id), card=str(found.card_id))
        return is_saved

    async def settle_soon(self, payment_id: UUID, rrn: str, *, is_approved: bool) -> None:
        """The same where a payer waits: what can't be stored now is left to the worker."""
        try:
            await self.settle(payment_id, rrn, is_approved=is_approved)
        except Exception as error:  # the payer's outcome is recorded, and is shown
            log.warning("consent_not_settled", payment=str(payment_id), exc_info=error)

    async def step(self) -> int:
        """Settles what nobody else has: payments whose outcome recovery found, and those of a process that ended."""
        due = await saved_cards.list_due_consents(self._store, BATCH)
        for consent in due:
            await self.settle(consent.payment_id, consent.rrn, is_approved=consent.is_approved)
        return len(due)

    async def purge(self) -> int:
        """Deletes what is left of removed cards. Returns how many rows went."""
        return await saved_cards.purge_cards(self._store, before=self._clock.now() - KEPT, limit=BATCH * 10)


def may_save(order: Order) -> bool:
    """The payer may be asked whether to save the card: the shop's page wishes it, and its server said whose it is."""
    return order.offers_saving and order.customer != ""


def keys_of(saving: Saving | None) -> tuple[Key[Any], ...]:
    """What a decision about an attempt loads besides, if its card is to be saved."""
    return () if saving is None else (keys.saved_card_by_fingerprint(saving.fingerprint),)


def agree(
    saving: Saving | None, card: Card, payment: Payment, order: Order, known: SavedCard | None, at: datetime
) -> tuple[Payment, tuple[CardConsent | SavedCard, ...]]:
    """The payment of a card that is to be saved, and what is stored with it. A card that is known keeps its id; of a
    new one a record without its number holds the place, so that two attempts agree on the id."""
    if saving is None or not may_save(order) or order.customer != saving.account_id:
        return payment, ()
    payment = replace(payment, card_id=known.id if known else payment.card_id, saves_card=True)
    consent = CardConsent(
        payment_id=payment.id,
        card_id=payment.card_id,
        merchant_id=saving.merchant_id,
        terminal_id=order.terminal_id,
        account_id=saving.account_id,
        fingerprint=saving.fingerprint,
        masked_pan=payment.masked_pan,
        brand=payment.brand,
        expiry_year=card.expiry.year,
        expiry_month=card.expiry.month,
        holder=card.holder,
        key_id=saving.key_id,
        sealed=saving.sealed,
        created_at=at,
    )
    return payment, (consent,) if known else (consent, _record(consent, at))


def _record(consent: CardConsent, at: datetime) -> SavedCard:
    """A record that holds the place of a card that is not saved yet."""
    return SavedCard(
        id=consent.card_id,
        merchant_id=consent.merchant_id,
        terminal_id=consent.terminal_id,
        account_id=consent.account_id,
        fingerprint=consent.fingerprint,
        masked_pan=consent.masked_pan,
        brand=consent.brand,
        expiry_year=consent.expiry_year,
        expiry_month=consent.expiry_month,
        holder="",
        key_id=None,
        sealed=None,
        payment_id=consent.payment_id,
        rrn="",
        created_at=at,
        updated_at=at,
    )


def _is_of(card: SavedCard, merchant_id: UUID, customer: str) -> bool:
    return customer != "" and card.merchant_id == merchant_id and card.account_id == customer
