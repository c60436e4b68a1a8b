"""Every page that a payer sees, as bytes of HTML. Called by the web edge; does no I/O after its start.

A page is chosen by the order's true state (`PageView.state`); each tells where it stands in `data-state` on <main>.
Invariants: what comes from outside is escaped and isolated (<bdi>); a card number or security code is never written,
whatever was typed; nothing is inline, so that the policy of headers.py holds; every page works without its script.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

import msgspec

from tolem.domain.card import Brand, CardField, CardProblem, luhn_digit
from tolem.domain.errors import Refusal
from tolem.flows.rounds import PageState
from tolem.i18n.formats import format_amount, format_instant, format_time
from tolem.i18n.reasons import CANCELLED_CODE, PROBLEM_TEXTS, find_reason_text
from tolem.i18n.translator import Translator, mark
from tolem.web.assets import load_assets
from tolem.web.shells import NOTHING, Html, Press, Shell, escape


class PageView(msgspec.Struct, frozen=True, kw_only=True):
    """An order as its payer may see it: no secret, no full card number."""

    language: str
    """`ru`, `kk`, `en` or empty."""
    shop_name: str
    amount: int
    """Minor units; 0 for a verification."""
    currency: str
    invoice_id: str
    description: str = ""
    state: PageState = PageState.FORM
    attempts_left: int = 0
    masked_pan: str = ""
    """`440043...0128`, of the last attempt."""
    brand: str = ""
    rrn: str = ""
    """Shown as the reference."""
    approval_code: str = ""
    reason_code: int = 0
    """docs/protocol.md, reason codes; 0: none."""
    at: datetime | None = None
    """When the outcome was known."""
    return_url: str = ""
    """Where "Return to the shop" leads for this state; empty: nowhere."""
    auto_return: bool = False
    is_verification: bool = False
    page_path: str
    """`/pay/<id>`."""
    deadline_at: datetime | None = None


class SandboxCard(NamedTuple):
    """A test card that the sandbox's form shows to developers."""

    number: str
    cvc: str
    outcome: str
    """Its msgid."""


BUSY = mark("We are very busy. Nothing was sent to the bank: please press the button again.")
WAIT = mark("This payment cannot be taken right now. No money was taken. Please wait a little and try again.")
_FUNDS_CARD = "440043484000000"
SANDBOX_CARDS = (
    SandboxCard("4405639704015096", "321", mark("approved")),
    SandboxCard("5522042705066736", "775", mark("approved")),
    SandboxCard("377514500004820", "0198", mark("approved")),
    SandboxCard("4003032704547597", "170", mark("declined: card locked")),
    SandboxCard(_FUNDS_CARD + luhn_digit(_FUNDS_CARD), "123", mark("declined: no money")),
)
ACCEPTED_BRANDS = (Brand.VISA, Brand.MASTERCARD, Brand.AMEX, Brand.UNIONPAY, Brand.MIR)
"""Whose marks the form shows."""
_BRAND_NAMES = {
    Brand.VISA: "Visa",
    Brand.MASTERCARD: "Mastercard",
    Brand.AMEX: "American Express",
    Brand.UNIONPAY: "UnionPay",
    Brand.MIR: "Мир",
    Brand.MAESTRO: "Maestro",
}
_REFUSAL_TEXTS = {
    Refusal.NOT_FOUND: mark(
        "There is no such page, or its time is over. Return to the shop and start the payment again."
    ),
    Refusal.INVALID_TOKEN: mark("The permission to pay has run out. Return to the shop and start the payment again."),
    Refusal.FOREIGN_ORIGIN: mark(
        "The card form was sent by another site. Nothing was charged. Pay only on the page that the shop leads you to."
    ),
}
_REFUSAL_DEFAULT = mark("The shop sent a payment that cannot be opened. Nothing was charged. Tell the shop about it.")
# What may come back into the form: never a card number or security code that went into the wrong field.
_EXPIRY_TYPED = re.compile(r"\s*\d{1,2}\s*[/.\- ]\s*\d{2,4}\s*|\s*\d{4}\s*", re.ASCII)
_NAME_TYPED = re.compile(r"\D{0,60}")
_FIELDS = tuple((field, field.name.lower()) for field in CardField)
_RESULT_STATES = (PageState.APPROVED, PageState.PAID, PageState.FAILED, PageState.EXPIRED)


class _Texts(NamedTuple):
    """Everything of one language that is rendered when the process starts."""

    form: Mapping[bool, Shell]
    """By whether it is a verification."""
    checking: Shell
    results: Mapping[tuple[PageState, bool], Shell]
    message: Shell
    declined: Shell
    notice: Shell
    summary: Shell
    summary_item: Shell
    errors: Mapping[tuple[CardField, CardProblem], Html]
    row: Shell
    link: Shell
    no_link: Html
    refresh: Shell
    detail: Shell


class Pages:
    """Renders pages; one for the life of a process."""

    def __init__(self, translator: Translator, *, sandbox: bool, brands: Sequence[Brand] = ACCEPTED_BRANDS) -> None:
        """Renders all shells (tens of milliseconds). `brands`: whose marks the form shows."""
        self._translator = translator
        assets = load_assets()
        press = Press(
            translator,
            sandbox=sandbox,
            brands=[(brand.value, _BRAND_NAMES[brand]) for brand in brands],
            asset=lambda name: assets[name].path,
            test_cards=SANDBOX_CARDS if sandbox else (),
        )
        self._texts = {language: _render_texts(press, translator, language) for language in translator.languages}

    def page(
        self,
        view: PageView,
        problems: Mapping[CardField, CardProblem] | None = None,
        typed: Mapping[CardField, str] | None = None,
        notice: str = "",
    ) -> bytes:
        """The page of the view's state; `problems`, `typed` and `notice` count only where it has a form."""
        match view.state:
            case PageState.FORM | PageState.DECLINED:
                return self.form(view, problems, typed, notice)
            case PageState.CHECKING:
                return self.checking(view)
            case PageState.APPROVED | PageState.PAID | PageState.FAILED | PageState.EXPIRED:
                return self._result(view, view.state)
            case PageState.CHALLENGE | PageState.INVALID:
                raise ValueError(f"no page of an order shows {view.state}")

    def form(
        self,
        view: PageView,
        problems: Mapping[CardField, CardProblem] | None = None,
        typed: Mapping[CardField, str] | None = None,
        notice: str = "",
    ) -> bytes:
        """The card form. In the state `declined` it says why, and how many attempts are left. Of what was typed only
        the expiry date and the name come back; the number and the security code are typed again. `notice`: BUSY, WAIT.
        """
        language = self._translator.choose(view.language)
        texts = self._texts[language]
        values = self._order_values(view, language)
        values["facts"] = self._facts(view, language)
        values["notices"] = self._notices(view, language, problems or {}, notice)
        is_first = True
        for field, name in _FIELDS:
            problem = (problems or {}).get(field)
            values[f"{name}_error"] = texts.errors[field, problem] if problem else NOTHING
            values[f"{name}_state"] = _field_state(field, is_wrong=problem is not None, is_focused=is_first)
            is_first = is_first and problem is None
        values["expiry_typed"] = _refill(_EXPIRY_TYPED, typed, CardField.EXPIRY)
        values["name_typed"] = _refill(_NAME_TYPED, typed, CardField.NAME)
        return _encode(texts.form[view.is_verification].fill(values))

    def checking(self, view: PageView) -> bytes:
        """The outcome is not known yet; the page asks `<page_path>/state` and opens anew when it changes."""
        language = self._translator.choose(view.language)
        values = self._order_values(view, language)
        values["rows"] = self._rows(view, language)
        return _encode(self._texts[language].checking.fill(values))

    def approved(self, view: PageView) -> bytes:
        """Receipt of a payment made on this page."""
        return self._result(view, PageState.APPROVED)

    def paid(self, view: PageView) -> bytes:
        """The order was paid before; nothing was charged again."""
        return self._result(view, PageState.PAID)

    def failed(self, view: PageView) -> bytes:
        """The round ended without a payment."""
        return self._result(view, PageState.FAILED)

    def expired(self, view: PageView) -> bytes:
        """The round's deadline passed."""
        return self._result(view, PageState.EXPIRED)

    def invalid(self, language: str, refusal: Refusal, detail: str = "") -> bytes:
        """A page that does not open. `detail`: `Refused.message`, English, shown small for the shop's developer."""
        text = _REFUSAL_TEXTS.get(refusal, _REFUSAL_DEFAULT)
        title = self._translator.text(language, "This payment cannot be opened")
        return self._message(language, title, self._translator.text(language, text), detail)

    def not_available(self, language: str, what: str) -> bytes:
        """A part of the bank's service that is not spoken here; `what` names it, English, for the shop's developer."""
        title = self._translator.text(language, "This way of paying is not available")
        text = self._translator.text(language, "Nothing was charged. Return to the shop and pay by card.")
        return self._message(language, title, text, what)

    def wrong_origin(self, language: str) -> bytes:
        """A card form that another site posted."""
        return self.invalid(language, Refusal.FOREIGN_ORIGIN)

    def busy(self, language: str) -> bytes:
        """The gateway takes no more for a moment."""
        title = self._translator.text(language, "We are very busy")
        text = self._translator.text(language, "Nothing was charged. Wait a few seconds and open this page again.")
        return self._message(language, title, text)

    def fault(self, language: str, incident: str) -> bytes:
        """Our own mistake; `incident` is the number under which the log has it."""
        title = self._translator.text(language, "Something went wrong on our side")
        text = self._translator.text(
            language,
            "Before you pay again, open this page anew or ask the shop whether the order is paid. "
            "Incident number: %(incident)s",
            incident=incident,
        )
        return self._message(language, title, text)

    def _message(self, asked: str, title: str, text: str, detail: str = "") -> bytes:
        texts = self._texts[self._translator.choose(asked)]
        small = texts.detail.fill({"detail": escape(detail)}) if detail else NOTHING
        return _encode(texts.message.fill({"title": escape(title), "text": escape(text), "detail": small}))

    def _result(self, view: PageView, state: PageState) -> bytes:
        language = self._translator.choose(view.language)
        texts = self._texts[language]
        values = self._order_values(view, language)
        # Large where it was taken; a row among others where it was not.
        is_success = state in (PageState.APPROVED, PageState.PAID)
        values["rows"] = self._rows(view, language, with_amount=not is_success)
        reason = ""
        if state is PageState.FAILED:
            reason = self._translator.text(language, find_reason_text(view.reason_code))
        values["reason"] = escape(reason)
        url = view.return_url if view.return_url.startswith(("https://", "http://")) else ""
        values["link"] = texts.link.fill({"url": escape(url)}) if url else texts.no_link
        # Browsers read a quotation mark in a refresh as the end of its address.
        unquoted = escape(url.replace('"', "%22").replace("'", "%27"))
        values["refresh"] = texts.refresh.fill({"url": unquoted}) if url and view.auto_return else NOTHING
        is_cancelled = state is PageState.FAILED and view.reason_code == CANCELLED_CODE
        return _encode(texts.results[state, view.is_verification or is_cancelled].fill(values))

    def _order_values(self, view: PageView, language: str) -> dict[str, Html]:
        return {
            "state": Html(view.state.value),
            "shop": escape(view.shop_name),
            "monogram": escape(next((char.upper() for char in view.shop_name if char.isalnum()), "")[:1]),
            "amount": escape(format_amount(view.amount, view.currency)),
            "description": escape(view.description),
            "path": escape(view.page_path),
        }

    def _notices(
        self,
        view: PageView,
        language: str,
        problems: Mapping[CardField, CardProblem],
        notice: str,
    ) -> Html:
        texts, translator, blocks = self._texts[language], self._translator, ""
        if notice:
            blocks += texts.notice.fill({"text": escape(translator.text(language, notice))})
        if problems:
            items = "".join(
                texts.summary_item.fill(
                    {
                        "field": Html(field.value),
                        "text": escape(translator.text(language, PROBLEM_TEXTS[problems[field]])),
                    }
                )
                for field in CardField
                if field in problems
            )
            blocks += texts.summary.fill({"items": Html(items)})
        elif view.state is PageState.DECLINED:
            left = translator.ntext(language, "%(count)s attempt left", "%(count)s attempts left", view.attempts_left)
            values = {
                "card": escape(_show_card(view)),
                "reason": escape(translator.text(language, find_reason_text(view.reason_code))),
                "left": escape(left),
            }
            blocks += texts.declined.fill(values)
        return Html(blocks)

    def _facts(self, view: PageView, language: str) -> Html:
        """What stands below the amount, beside the form."""
        text, row = self._translator.text, self._texts[language].row
        facts = row.fill({"label": escape(text(language, "Order")), "value": escape(view.invoice_id)})
        if view.deadline_at is None:
            return facts
        until = text(language, "%(time)s, Astana time", time=format_time(view.deadline_at, language))
        return Html(facts + row.fill({"label": escape(text(language, "Pay before")), "value": escape(until)}))

    def _rows(self, view: PageView, language: str, *, with_amount: bool = False) -> Html:
        """What the order and its payment are, one row each; what is empty has no row."""
        text = self._translator.text
        rows = [
            (text(language, "Shop"), view.shop_name),
            (text(language, "Order"), view.invoice_id),
            (text(language, "Purpose"), view.description),
            (text(language, "Card"), _show_card(view)),
        ]
        if view.at:
            rows.append((text(language, "Time"), format_instant(view.at, language)))
        rows.append((text(language, "Approval code"), view.approval_code))
        rows.append((text(language, "Reference"), view.rrn))
        if with_amount:
            rows.insert(0, (text(language, "Amount"), format_amount(view.amount, view.currency)))
        row = self._texts[language].row
        return Html(
            "".join(row.fill({"label": escape(label), "value": escape(value)}) for label, value in rows if value)
        )


def _render_texts(press: Press, translator: Translator, language: str) -> _Texts:
    error = press.shell("error.html", language)
    return _Texts(
        form={kind: press.shell("form.html", language, verification=kind) for kind in (False, True)},
        checking=press.shell("checking.html", language),
        results={
            (state, special): press.shell("result.html", language, state=state.value, special=special)
            for state in _RESULT_STATES
            for special in (False, True)
        },
        message=press.shell("message.html", language),
        declined=press.shell("declined.html", language),
        notice=press.shell("notice.html", language),
        summary=press.shell("summary.html", language),
        summary_item=press.shell("summary_item.html", language),
        errors={
            (field, problem): error.fill(
                {"field": Html(field.value), "text": escape(translator.text(language, PROBLEM_TEXTS[problem]))}
            )
            for field in CardField
            for problem in CardProblem
        },
        row=press.shell("row.html", language),
        link=press.shell("link.html", language),
        no_link=press.shell("no_link.html", language).fill({}),
        refresh=press.shell("refresh.html", language),
        detail=press.shell("detail.html", language),
    )


def _refill(allowed: re.Pattern[str], typed: Mapping[CardField, str] | None, field: CardField) -> Html:
    text = typed.get(field, "") if typed else ""
    return escape(text) if allowed.fullmatch(text) else NOTHING


def _field_state(field: CardField, *, is_wrong: bool, is_focused: bool) -> Html:
    """Attributes of one input: what describes it, and whether it is wrong; the first wrong one gets the focus."""
    hint = "" if field is CardField.NUMBER else f"{field}-hint"
    if not is_wrong:
        return Html(f' aria-describedby="{hint}"') if hint else NOTHING
    focus = " autofocus" if is_focused else ""
    return Html(f' aria-invalid="true" aria-describedby="{f"{field}-error {hint}".strip()}"{focus}')


def _show_card(view: PageView) -> str:
    """`Visa •••• 0128`: what a payer compares with the card in hand."""
    if not view.masked_pan:
        return ""
    name = _BRAND_NAMES[Brand(view.brand)] if view.brand in Brand.__members__.values() else view.brand
    return f"{name} •••• {view.masked_pan[-4:]}".strip()


def _encode(page: Html) -> bytes:
    # A lone surrogate in a shop's text is no character: it must cost a question mark, not the page.
    return page.encode("utf-8", "replace")
