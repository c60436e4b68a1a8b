"""What a payer chooses at the card form beside typing a card: to save it, to pay with a saved one, to remove one.

Used by checkout.py, which reads the fields, and by card_form.py, which shows them. Invariant: a saved card is shown by
scheme, last four digits and expiry date only.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple
from uuid import UUID

from tolem.domain.card import BRAND_NAMES, BRAND_RULES
from tolem.domain.saved_card import SavedCard
from tolem.flows.saved_cards import CardChoice
from tolem.i18n.translator import Translator, mark
from tolem.web.shells import NOTHING, Html, Press, Shell, escape, join, pack_filled
from tolem.web.view import CardOffer, PageView

SAVE_FIELD = "save-card"
"""Checkbox; `yes`: the payer agrees to save the card that is typed."""
SAVED_FIELD = "saved-card"
"""Radio buttons: the id of a saved card, or `new` for one that is typed."""
REMOVE_FIELD = "card"
"""The buttons that remove a saved card: its id."""
NEW_CARD = "new"
REMOVED = mark("The card was removed.")

_CHECKED = Html(" checked")
_NOBODYS = UUID(int=0)
"""No card has it."""


class Picked(NamedTuple):
    """What the form comes back with."""

    card: str = ""
    """Value of SAVED_FIELD; empty: the payer has chosen nothing yet."""
    saves: bool = False
    asked: str = ""
    """Id of the card about which the payer is asked whether to remove it."""


def read_choice(fields: Mapping[str, str]) -> CardChoice:
    """The fields of the posted form → the choice. What is no id is one that no card has."""
    picked = read_picked(fields)
    if picked.card in ("", NEW_CARD):
        return CardChoice(saves=picked.saves)
    return CardChoice(card_id=read_card_id(picked.card))


def read_picked(fields: Mapping[str, str], asked: str = "") -> Picked:
    """The same, to be shown again."""
    return Picked(fields.get(SAVED_FIELD, ""), fields.get(SAVE_FIELD, "") == "yes", asked)


def read_card_id(text: str) -> UUID:
    """An id as the page wrote it."""
    try:
        return UUID(text)
    except ValueError:
        return _NOBODYS


def offer_cards(cards: Sequence[SavedCard]) -> tuple[CardOffer, ...]:
    """What the payer may see of the cards."""
    lengths = {rule.brand: rule.cvc_length for rule in BRAND_RULES}
    return tuple(
        CardOffer(
            id=str(card.id),
            name=f"{BRAND_NAMES[card.brand]} ••••\u00a0{card.masked_pan[-4:]}",
            expiry=str(card.expiry),
            cvc_length=lengths[card.brand],
        )
        for card in cards
    )


class CardChoices:
    """Renders what there is to choose, in one language."""

    def __init__(self, press: Press, translator: Translator, language: str) -> None:
        self._translator = translator
        self._language = language
        self._saved = press.shell("saved.html", language)
        self._card = press.shell("saved_card.html", language)
        self._save = press.shell("save.html", language, comes_back=True)
        self._ask: Shell = press.shell("ask.html", language)

    def fill(self, view: PageView, picked: Picked) -> dict[str, Html]:
        """The gaps `saved` and `save` of the form."""
        values = {"saved": NOTHING, "save": NOTHING}
        if view.offers_saving:
            values["save"] = self._save.fill({"checked": _CHECKED if picked.saves else NOTHING})
        if view.cards:
            ids = [card.id for card in view.cards]
            chosen = picked.card if picked.card in ids else NEW_CARD if picked.card else ids[0]
            cards = join(self._fill_card(view, card, is_chosen=card.id == chosen) for card in view.cards)
            checked = _CHECKED if chosen == NEW_CARD else NOTHING
            # Each card's markup is the other's but for numbers that the gateway wrote.
            values["saved"] = pack_filled(self._saved.fill({"cards": cards, "checked": checked}))
        return values

    def ask(self, view: PageView, picked: Picked) -> Html:
        """Whether the payer means to remove a card; nothing where nobody is asked."""
        card = next((card for card in view.cards if card.id == picked.asked), None)
        if card is None:
            return NOTHING
        text = self._translator.text(
            self._language, "Remove %(card)s? You will have to type it again next time.", card=card.name
        )
        return self._ask.fill({"text": escape(text), "path": escape(view.page_path), "id": escape(card.id)})

    def _fill_card(self, view: PageView, card: CardOffer, *, is_chosen: bool) -> Html:
        return self._card.fill(
            {
                "id": escape(card.id),
                "name": escape(card.name),
                "until": escape(self._translator.text(self._language, "until %(expiry)s", expiry=card.expiry)),
                "cvc": Html(str(card.cvc_length)),
                "path": escape(view.page_path),
                "checked": _CHECKED if is_chosen else NOTHING,
            }
        )
