"""A card form that comes back on the other side of a redirect: what of it the payer's browser carries there.

Used by checkout.py for browsers without a script. Invariant: no card number and no security code goes along, only what
card_form.py may write into a form that comes back.
"""

from collections.abc import Mapping

import msgspec

from tolem.domain.card import CardField, CardProblem
from tolem.flows.carried import Carried
from tolem.web.card_choice import Picked
from tolem.web.card_form import keep_typed

FIELD = "again"
"""Of the page's query."""

_PREFIX = FIELD.encode() + b"="


class KeptForm(msgspec.Struct, frozen=True, array_like=True):
    """What Pages.form is given."""

    version: str
    """PageView.version of the form at that moment: once the page would look different, what was wrong then is past."""
    problems: dict[CardField, CardProblem]
    typed: dict[CardField, str]
    """Only what may come back."""
    notice: str
    """A msgid of ours, or empty."""
    picked: Picked

    def remaining(self, version: str, typed: Mapping[CardField, str]) -> dict[CardField, CardProblem]:
        """What is still wrong on the page that is left: of the fields that were not touched on it."""
        if version != self.version:
            return {}
        return {
            field: problem
            for field, problem in self.problems.items()
            if typed.get(field, "") == self.typed.get(field, "")
        }


_decode = msgspec.json.Decoder(KeptForm).decode


def keep_form(
    version: str,
    problems: Mapping[CardField, CardProblem],
    typed: Mapping[CardField, str],
    notice: str,
    picked: Picked,
) -> KeptForm:
    """Of all that was typed, only what may come back."""
    return KeptForm(version, dict(problems), keep_typed(typed), notice, picked)


def seal_form(carried: Carried, page_id: str, form: KeptForm) -> str:
    """The query of the page's address that shows the form again."""
    return f"{FIELD}={carried.seal(page_id, msgspec.json.encode(form))}"


def open_form(carried: Carried, page_id: str, query: bytes) -> KeptForm | None:
    """The form that a page's address brings along. None: it brings none, or one that was not sealed for this page."""
    if not query.startswith(_PREFIX):
        return None
    words = carried.open(page_id, query[len(_PREFIX) :].decode("ascii", "replace"))
    try:
        return _decode(words) if words is not None else None
    except msgspec.MsgspecError:  # an older version of ours sealed it
        return None
