"""What a payer chooses at the card form beside typing a card: to save it, or to pay with a saved one."""

from collections.abc import Mapping
from uuid import UUID

from tolem.flows.saved_cards import CardChoice

SAVE_FIELD = "save-card"
"""Checkbox; `yes`: the payer agrees to save the card that is typed."""
SAVED_FIELD = "saved-card"
"""Radio buttons: the id of a saved card, or `new` for one that is typed."""
NEW_CARD = "new"

_NOBODYS = UUID(int=0)
"""No card has it."""


def read_choice(fields: Mapping[str, str]) -> CardChoice:
    """The fields of the posted form → the choice. What is no id is one that no card has."""
    text = fields.get(SAVED_FIELD, "")
    if text in ("", NEW_CARD):
        return CardChoice(saves=fields.get(SAVE_FIELD, "") == "yes")
    return CardChoice(card_id=read_card_id(text))


def read_card_id(text: str) -> UUID:
    """An id as the page wrote it."""
    try:
        return UUID(text)
    except ValueError:
        return _NOBODYS
