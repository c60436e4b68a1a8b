"""The card form's moving parts: what is wrong in which field, what may come back of what was typed, the notices above.

Used by pages.py. Invariant: a card number or security code is never written, whatever was typed into which field. The
form carries what its script needs to say the same as the server: every problem's words and the table of card schemes.
"""

import re
from collections.abc import Mapping
from itertools import product
from typing import NamedTuple

from tolem.domain.authentication import ABANDONED
from tolem.domain.card import BRAND_NAMES, BRAND_RULES, Brand, CardField, CardProblem
from tolem.flows.rounds import PageState
from tolem.i18n.formats import format_amount, format_time
from tolem.i18n.reasons import PROBLEM_TEXTS, find_reason
from tolem.i18n.translator import Translator, mark
from tolem.web.card_choice import CardChoices, Picked
from tolem.web.shells import NOTHING, Html, PageBytes, Press, Shell, escape, join
from tolem.web.view import PageView

BUSY = mark("We are very busy. Nothing was sent to the bank: please press the button again.")
WAIT = mark("This payment cannot be taken right now. No money was taken. Please wait a little and try again.")
PAUSED = mark(
    "Payments pause for maintenance. Nothing was sent to the bank: please press the button again a little later."
)
UNREAD = mark("What was typed could not be read. Nothing was sent to the bank: please type the card details again.")
RETYPE = mark("The card number and the security code are never sent back: please type them again.")

_FAULTS = (BUSY, WAIT, PAUSED, UNREAD)
_TITLES = {
    (False, False): mark("Payment"),
    (False, True): mark("Card verification"),
    (True, False): mark("The payment was declined"),
    (True, True): mark("The card was not verified"),
}
"""By whether the last card was declined, and whether it is a verification."""

_ENDS = {
    False: mark("The time to pay ends at %(time)s."),
    True: mark("The time to verify the card ends at %(time)s."),
}
"""By whether it is a verification."""

# What may come back into the form: never a card number or security code that went into the wrong field.
_EXPIRY_TYPED = re.compile(r"\D{0,20}(?:\d{1,2}\s*[/.\-\u2010-\u2015 ]\s*\d{2,4}|\d{4})\D{0,20}")
_NAME_TYPED = re.compile(r"\D{0,60}")
_MAY_COME_BACK = {CardField.EXPIRY: _EXPIRY_TYPED, CardField.NAME: _NAME_TYPED}
_FIELDS = tuple((field, field.name.lower()) for field in CardField)
_SANDBOX_PROBLEMS = (CardProblem.NUMBER_NOT_SANDBOX,)


def brand_table() -> str:
    """BRAND_RULES for the script: `brand|name|ranges of first digits|lengths|CVC's length|gaps`, joined by `;`."""
    return ";".join(
        "|".join(
            (
                rule.brand,
                rule.name,
                ",".join(f"{low}-{high}" for low, high in rule.prefixes),
                ",".join(map(str, rule.lengths)),
                str(rule.cvc_length),
                ",".join(map(str, rule.gaps)),
            )
        )
        for rule in BRAND_RULES
    )


def list_problems(*, sandbox: bool) -> dict[str, str]:
    """Value of each CardProblem that the form's script may tell → its msgid."""
    hidden = () if sandbox else _SANDBOX_PROBLEMS
    return {problem.value: msgid for problem, msgid in PROBLEM_TEXTS.items() if problem not in hidden}


def keep_typed(typed: Mapping[CardField, str]) -> dict[CardField, str]:
    """Of what was typed, what may come back into the form."""
    return {field: text for field, text in typed.items() if text and _may_come_back(field, text)}


def show_card(view: PageView) -> str:
    """`Visa •••• 0128`: what a payer compares with the card in hand."""
    if not view.masked_pan:
        return ""
    name = BRAND_NAMES[Brand(view.brand)] if view.brand in Brand.__members__.values() else view.brand
    return f"{name} •••• {view.masked_pan[-4:]}".strip()


def format_deadline(view: PageView, translator: Translator, language: str) -> str:
    """`12:05, Astana time`; empty where there is no deadline."""
    if view.deadline_at is None:
        return ""
    return translator.text(language, "%(time)s, Astana time", time=format_time(view.deadline_at, language))


_NOT_CONFIRMED = {
    False: mark("The payment was not confirmed"),
    True: mark("The card was not confirmed"),
}
"""Instead, where it was the payer who did not finish at the bank; by whether it is a verification."""


def _find_title(view: PageView, *, is_declined: bool) -> str:
    """The msgid of what the page says first."""
    if is_declined and view.reason_code == ABANDONED:
        return _NOT_CONFIRMED[view.is_verification]
    return _TITLES[is_declined, view.is_verification]


def tell_reason(view: PageView, translator: Translator, language: str, *, is_last: bool) -> str:
    """Why the last attempt was declined, and what to do next."""
    reason = find_reason(view.reason_code, is_verification=view.is_verification)
    return " ".join(translator.text(language, text) for text in reason.texts(is_last=is_last))


class _Texts(NamedTuple):
    """Everything of one language that is rendered when the process starts."""

    first: Mapping[tuple[bool, bool, bool], Shell]
    """The form before anything was typed, by whether it is a verification, has saved cards and offers to save one.
    Each gap that such a form does not need would cost bytes on the wire."""
    again: Mapping[bool, Shell]
    """The form that comes back with what was typed or is wrong, by whether it is a verification."""
    declined: Shell
    notice: Shell
    summary: Shell
    summary_item: Shell
    errors: Mapping[CardProblem, Html]
    hurry: Shell
    extend: Shell
    choices: CardChoices


class CardForms:
    """Renders card forms in every language; one for the life of a process."""

    def __init__(self, press: Press, translator: Translator) -> None:
        self._translator = translator
        self._texts = {language: _render_texts(press, translator, language) for language in translator.languages}

    def fill(
        self,
        view: PageView,
        language: str,
        values: dict[str, Html],
        problems: Mapping[CardField, CardProblem],
        typed: Mapping[CardField, str],
        notice: str,
        picked: Picked,
    ) -> PageBytes:
        """The page of the form. `values`: what every page of an order has; `notice`: a msgid of this module."""
        texts = self._texts[language]
        is_first = True
        for field, name in _FIELDS:
            problem = problems.get(field)
            values[f"{name}_error"] = texts.errors[problem] if problem else NOTHING
            values[f"{name}_state"] = _field_state(problem, is_focused=is_first)
            is_first = is_first and problem is None
        kept = keep_typed(typed)
        values["expiry_typed"] = escape(kept.get(CardField.EXPIRY, ""))
        values["name_typed"] = escape(kept.get(CardField.NAME, ""))
        values["month"] = Html(f' data-month="{view.now:%Y-%m}"') if view.now else NOTHING
        values["title"] = self._title(view, language, is_wrong=bool(problems) or notice in _FAULTS)
        values["hurry"] = self._hurry(view, language)
        values["notices"] = join(
            (texts.choices.ask(view, picked), *self._notices(view, language, problems, notice, picked))
        )
        values |= texts.choices.fill(view, picked)
        if problems or kept or picked.saves:
            return texts.again[view.is_verification].fill_page(values)
        return texts.first[view.is_verification, bool(view.cards), view.offers_saving].fill_page(values)

    def decline(self, view: PageView, language: str) -> Html:
        """Why the last card was declined, and how many attempts are left."""
        text = self._translator.text
        left = self._translator.ntext(language, "%(count)s attempt left", "%(count)s attempts left", view.attempts_left)
        values = {
            "card": escape(show_card(view)),
            "title": escape(text(language, _find_title(view, is_declined=True))),
            "reason": escape(tell_reason(view, self._translator, language, is_last=False)),
            "left": escape(left),
        }
        return self._texts[language].declined.fill(values)

    def _title(self, view: PageView, language: str, *, is_wrong: bool) -> Html:
        """The document's, which begins with what a payer who hears it has to know first."""
        is_declined = view.state is PageState.DECLINED and not is_wrong
        words = [self._translator.text(language, _find_title(view, is_declined=is_declined))]
        if is_wrong:
            words[0] = f"{self._translator.text(language, 'Error:')} {words[0]}"
        if not view.is_verification:
            words.append(format_amount(view.amount, view.currency))
        words.append(f"\u2068{view.shop_name}\u2069")
        return escape(" · ".join(words))

    def _notices(
        self,
        view: PageView,
        language: str,
        problems: Mapping[CardField, CardProblem],
        notice: str,
        picked: Picked,
    ) -> list[Html]:
        texts, translator, blocks = self._texts[language], self._translator, []
        if notice and not (problems and notice == RETYPE):  # the summary says it
            blocks.append(texts.notice.fill({"text": escape(translator.text(language, notice))}))
        if problems:
            items = join(
                texts.summary_item.fill(
                    {
                        "field": Html(field.value),
                        "text": escape(translator.text(language, PROBLEM_TEXTS[problems[field]])),
                    }
                )
                for field in CardField
                if field in problems
            )
            blocks.append(texts.summary.fill({"items": items}))
        elif view.state is PageState.DECLINED and not picked.asked:
            blocks.append(self.decline(view, language))
        return blocks

    def _hurry(self, view: PageView, language: str) -> Html:
        """The warning that the deadline is near; its script shows it in time, and without one it offers the extension
        from the start."""
        if view.seconds_left is None:
            return NOTHING
        texts, translator, extend = self._texts[language], self._translator, NOTHING
        until = format_deadline(view, translator, language)
        if view.extension_minutes:
            offer = translator.ntext(language, "Add %(count)s minute", "Add %(count)s minutes", view.extension_minutes)
            extend = texts.extend.fill({"path": escape(view.page_path), "text": escape(offer)})
        values = {
            "left": Html(str(view.seconds_left)),
            "until": escape(translator.text(language, _ENDS[view.is_verification], time=until)),
            "extend": extend,
        }
        return texts.hurry.fill(values)


def _render_texts(press: Press, translator: Translator, language: str) -> _Texts:
    error = press.shell("error.html", language)
    return _Texts(
        first={
            (verification, has_cards, saves): press.shell(
                "form.html", language, comes_back=False, verification=verification, has_cards=has_cards, saves=saves
            )
            for verification, has_cards, saves in product((False, True), repeat=3)
        },
        again={
            verification: press.shell("form.html", language, comes_back=True, verification=verification)
            for verification in (False, True)
        },
        declined=press.shell("declined.html", language),
        notice=press.shell("notice.html", language),
        summary=press.shell("summary.html", language),
        summary_item=press.shell("summary_item.html", language),
        errors={
            problem: error.fill({"text": escape(translator.text(language, msgid))})
            for problem, msgid in PROBLEM_TEXTS.items()
        },
        hurry=press.shell("hurry.html", language),
        extend=press.shell("extend.html", language),
        choices=CardChoices(press, translator, language),
    )


def _may_come_back(field: CardField, text: str) -> bool:
    pattern = _MAY_COME_BACK.get(field)
    return pattern is not None and pattern.fullmatch(text) is not None


def _field_state(problem: CardProblem | None, *, is_focused: bool) -> Html:
    """Attributes of one input that say that it is wrong; the first wrong one gets the focus."""
    if problem is None:
        return NOTHING
    focus = " autofocus" if is_focused else ""
    return Html(f' aria-invalid="true" data-problem="{problem}"{focus}')
