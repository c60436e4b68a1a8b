"""Every page that a payer sees, as bytes of HTML. Called by the web edge; does no I/O after its start.

A page is chosen by the order's true state (`PageView.state`); each tells where it stands in `data-state` on <main>.
All of them are PageBytes, which the edge can send compressed.
Invariants: what comes from outside is escaped and isolated (<bdi>); a card number or security code is never written,
whatever was typed; nothing is inline, so that the policy of headers.py holds; every page works without its script.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from msgspec.structs import replace

from tolem.domain.authentication import ABANDONED
from tolem.domain.card import BRAND_NAMES, Brand, CardField, CardProblem
from tolem.domain.errors import Refusal
from tolem.flows.opening import Known
from tolem.flows.rounds import PageState
from tolem.i18n.formats import format_amount, format_instant
from tolem.i18n.reasons import CANCELLED_CODE
from tolem.i18n.translator import LANGUAGE_NAMES, Translator, mark
from tolem.web.appearance import colours_integrity, colours_path, logo_path
from tolem.web.assets import template_names
from tolem.web.card_choice import Picked
from tolem.web.card_form import CardForms, brand_table, format_deadline, list_problems, show_card, tell_reason
from tolem.web.sandbox_cards import PRINTED_DATES, SANDBOX_CARDS
from tolem.web.shells import NOTHING, Html, Press, Shell, escape, join
from tolem.web.view import PageView

ACCEPTED_BRANDS = (Brand.VISA, Brand.MASTERCARD, Brand.AMEX, Brand.UNIONPAY, Brand.MIR)
"""Whose marks the form shows."""
_NOT_OPENED = mark("This payment cannot be opened")
_REFUSAL_TEXTS = {
    Refusal.NOT_FOUND: (
        _NOT_OPENED,
        mark("There is no such page, or its time is over. Return to the shop and start the payment again."),
    ),
    Refusal.INVALID_TOKEN: (
        _NOT_OPENED,
        mark("The permission to pay has run out. Return to the shop and start the payment again."),
    ),
    Refusal.FOREIGN_ORIGIN: (
        _NOT_OPENED,
        mark(
            "The card form was sent by another site. Nothing was charged. Pay only on the page that the shop leads you"
            " to."
        ),
    ),
    Refusal.NOT_AVAILABLE: (
        mark("This way of paying is not available"),
        mark("Nothing was charged. Return to the shop and pay by card."),
    ),
}
"""Title and text."""
_REFUSAL_DEFAULT = (
    _NOT_OPENED,
    mark("The shop sent a payment that cannot be opened. This attempt charged nothing. Tell the shop about it."),
)
# Whoever reads these has a page that does not open; by (what became of the order elsewhere, is a verification).
_KNOWN_TEXTS = {
    (PageState.PAID, False): (
        mark("This order is already paid"),
        mark("This page charged nothing. Return to the shop to see the order."),
    ),
    (PageState.PAID, True): (
        mark("The card was verified before"),
        mark("No money was taken. Nothing else needs to be done."),
    ),
    (PageState.CHECKING, False): (
        mark("This order is being paid on another page"),
        mark(
            "Its outcome is not known yet, and this page charged nothing. Go on where you began, or ask the shop"
            " before you pay again."
        ),
    ),
    (PageState.CHECKING, True): (
        mark("The card is being verified on another page"),
        mark("Its outcome is not known yet. Go on where you began, or ask the shop before you start again."),
    ),
}
_BUSY_TITLE = mark("The payment page is busy")
_BUSY_TEXT = mark("It takes no payments for a moment. Nothing was charged. Wait a few seconds and open it again.")
# Of an opened page nobody may say that nothing was charged.
_BUSY_PAGE_TEXT = mark(
    "It cannot show your payment for a moment. If you have pressed the button already, the payment goes on. "
    "This page opens again by itself in a few seconds."
)
_FAULT_TITLE = mark("Something went wrong on our side")
_FAULT_TEXT = mark(
    "Before you pay again, open this page anew or ask the shop whether the order is paid. Incident number: %(incident)s"
)
_SHOP_IS_TOLD = mark("We are letting the shop know. You can return to it now.")
_RETURN_NOW = mark("You can return to the shop now.")
_PAUSED_UNTIL = mark("Cards are taken again from %(time)s.")
LONG_AMOUNT = 18
"""Characters that fit into a line in the usual size: 9 999 999 999,99 ₸."""
NOTHING_KNOWN = Known()
NOTHING_PICKED = Picked()
BUSY_SECONDS = 5
"""A page of the busy gateway opens anew by itself after this."""
_ENDINGS = ("", "cancelled", "unconfirmed")
"""How an order failed: declined, by the payer who left, by the payer who did not finish at the bank."""
RESULT_STATES = (PageState.APPROVED, PageState.PAID, PageState.FAILED, PageState.EXPIRED)


class _Texts(NamedTuple):
    """Everything of one language that is rendered when the process starts."""

    checking: Mapping[tuple[bool, bool], Shell]
    """By whether the bank takes long, and whether it is a verification."""
    maintenance: Shell
    results: Mapping[tuple[PageState, bool, str], Shell]
    """By state, whether it is a verification, and one of _ENDINGS."""
    message: Shell
    other: Shell
    row: Shell
    link: Shell
    quiet_link: Shell
    no_link: Html
    retry: Shell
    refresh: Shell
    detail: Shell
    monogram: Shell
    logo: Shell
    colours: Shell
    icon: Html
    frame: Shell
    stop: Mapping[PageState, Html]


class Pages:
    """Renders pages; one for the life of a process."""

    def __init__(self, translator: Translator, *, sandbox: bool, brands: Sequence[Brand] = ACCEPTED_BRANDS) -> None:
        """Renders all shells (tens of milliseconds). `brands`: whose marks the form shows."""
        self._translator = translator
        problems = list_problems(sandbox=sandbox)
        press = Press(
            translator,
            sandbox=sandbox,
            brands=[(brand.value, BRAND_NAMES[brand]) for brand in brands],
            brand_table=brand_table(),
            problems=tuple(problems),
            problem_msgids=problems,
            languages=tuple(LANGUAGE_NAMES.items()),
            **template_names(),
            test_cards=SANDBOX_CARDS if sandbox else (),
            printed_dates=",".join(PRINTED_DATES),
        )
        self._forms = CardForms(press, translator)
        self._texts = {language: _render_texts(press, language) for language in translator.languages}

    def page(self, view: PageView) -> bytes:
        """The page of the view's state."""
        match view.state:
            case PageState.FORM | PageState.DECLINED:
                return self.form(view)
            case PageState.CHECKING:
                return self.checking(view)
            case PageState.MAINTENANCE:
                return self.maintenance(view)
            case PageState.APPROVED | PageState.PAID | PageState.FAILED | PageState.EXPIRED:
                return self._result(view, view.state)
            case PageState.DEVICE | PageState.CHALLENGE | PageState.INVALID:
                raise ValueError(f"no page of an order shows {view.state}")

    def form(
        self,
        view: PageView,
        problems: Mapping[CardField, CardProblem] | None = None,
        typed: Mapping[CardField, str] | None = None,
        notice: str = "",
        picked: Picked = NOTHING_PICKED,
    ) -> bytes:
        """The card form. In the state `declined` it says why, and how many attempts are left. Of what was typed only
        the expiry date and the name come back; `notice` is one of card_form's."""
        language = self._translator.choose(view.language)
        values = self.order_values(view, language)
        values["facts"] = self._facts(view, language)
        values["link"] = self._quiet_link(view, language)
        return self._forms.fill(view, language, values, problems or {}, typed or {}, notice, picked)

    def checking(self, view: PageView) -> bytes:
        """The outcome is not known yet; the page asks `<page_path>/state` and opens anew when it changes."""
        language = self._translator.choose(view.language)
        texts, values = self._texts[language], self.order_values(view, language)
        values["rows"] = self._rows(view, language)
        values["link"] = self._quiet_link(view, language)
        return texts.checking[view.is_slow, view.is_verification].fill_page(values)

    def maintenance(self, view: PageView) -> bytes:
        """Payments wait; the page asks `<page_path>/state` and opens anew when they go on. It also says of the last
        attempt that it was declined, since nobody may have been told yet."""
        language = self._translator.choose(view.language)
        texts, values = self._texts[language], self.order_values(view, language)
        until = NOTHING
        if view.pause and view.pause.until:
            until = escape(
                self._translator.text(language, _PAUSED_UNTIL, time=self._instant(view.pause.until, language))
            )
        values["until"] = until
        values["declined"] = self._forms.decline(view, language) if view.masked_pan else NOTHING
        untried = replace(view, masked_pan="", at=None, rrn="", approval_code="")
        values["rows"] = self._rows(untried, language, with_amount=not view.is_verification)
        url = link_address(view.return_url)
        values["link"] = texts.link.fill({"url": escape(url)}) if url else texts.no_link
        return texts.maintenance.fill_page(values)

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

    def invalid(
        self, language: str, refusal: Refusal, detail: str = "", known: Known = NOTHING_KNOWN, frame_origin: str = ""
    ) -> bytes:
        """A page that does not open. `detail`: `Refused.message`, English, shown small for the shop's developer. Where
        the order is paid, or being paid, the payer reads that: the money matters more than the reason."""
        title, text = _REFUSAL_TEXTS.get(refusal, _REFUSAL_DEFAULT)
        if known.order_state is not None:
            title, text = _KNOWN_TEXTS[known.order_state, known.is_verification]
        return self._message(
            language, title, text, detail=detail, return_url=known.return_url, frame_origin=frame_origin
        )

    def notice(self, language: str, title: str, text: str) -> bytes:
        """A page that only says something; `title` and `text` are msgids."""
        return self._message(language, title, text)

    def busy(self, language: str, page_path: str = "") -> bytes:
        """The gateway takes no more for a moment, or is being restarted. With a page's path it opens that by itself."""
        text = _BUSY_PAGE_TEXT if page_path else _BUSY_TEXT
        return self._message(language, _BUSY_TITLE, text, page_path=page_path, seconds=BUSY_SECONDS)

    def fault(self, language: str, incident: str, page_path: str = "") -> bytes:
        """Our own mistake; `incident` is the number under which the log has it."""
        return self._message(language, _FAULT_TITLE, _FAULT_TEXT, page_path=page_path, incident=incident)

    def _message(
        self,
        asked: str,
        title: str,
        text: str,
        *,
        detail: str = "",
        return_url: str = "",
        frame_origin: str = "",
        page_path: str = "",
        seconds: int = 0,
        **values: object,
    ) -> bytes:
        """A page that belongs to no order, so that nobody knows its payer's language: it speaks all of them, the asked
        one first. `title` and `text` are msgids, `values` the text's."""
        language = self._translator.choose(asked)
        texts = self._texts[language]
        said = {
            spoken: {
                "title": escape(self._translator.text(spoken, title)),
                "text": escape(self._translator.text(spoken, text, **values)),
            }
            for spoken in LANGUAGE_NAMES
        }
        others = join(self._texts[spoken].other.fill(said[spoken]) for spoken in said if spoken != language)
        refresh = watched = link = NOTHING
        if page_path:
            link = texts.retry.fill({"path": escape(page_path)})
            if seconds:
                watched = Html(f' data-page="{escape(page_path)}" data-version="busy"')
                refresh = texts.refresh.fill({"seconds": Html(str(seconds)), "url": escape(page_path)})
        elif not seconds:
            url = link_address(return_url) or link_address(frame_origin)
            link = texts.link.fill({"url": escape(url)}) if url else texts.no_link
        filled = said[language] | {
            "link": link,
            "refresh": refresh,
            "watched": watched,
            "detail": texts.detail.fill({"detail": escape(detail)}) if detail else NOTHING,
            "others": others,
        }
        filled |= self._place_values(language, frame_origin, PageState.INVALID)
        return texts.message.fill_page(filled)

    def _result(self, view: PageView, state: PageState) -> bytes:
        language = self._translator.choose(view.language)
        texts = self._texts[language]
        values = self.order_values(view, language)
        # Large where it was taken; a row among others where it was not.
        is_success = state in (PageState.APPROVED, PageState.PAID)
        values["rows"] = self._rows(view, language, with_amount=not is_success and not view.is_verification)
        reason = ""
        ending = _find_ending(view, state)
        if state is PageState.FAILED and not (view.is_verification and ending == "cancelled"):
            reason = tell_reason(view, self._translator, language, is_last=True)
        elif state is PageState.APPROVED and not view.is_verification:
            reason = self._translator.text(language, _SHOP_IS_TOLD if view.is_message_on_its_way else _RETURN_NOW)
        values["reason"] = escape(reason)
        url = link_address(view.return_url)
        values["link"] = texts.link.fill({"url": escape(url)}) if url else texts.no_link
        values["away"] = NOTHING
        if view.frame_origin:
            values |= self._place_values(language, view.frame_origin, state, is_over=view.auto_return)
        elif url and view.auto_return:
            values["away"] = Html(" data-away")
            # Browsers read a quotation mark in a refresh as the end of its address.
            unquoted = escape(url.replace('"', "%22").replace("'", "%27"))
            values["refresh"] = texts.refresh.fill({"seconds": Html("0"), "url": unquoted})
        return texts.results[state, view.is_verification, ending].fill_page(values)

    def order_values(self, view: PageView, language: str) -> dict[str, Html]:
        """What every page of an order shows of it."""
        texts, amount = self._texts[language], format_amount(view.amount, view.currency)
        if view.logo:
            shop_mark = texts.logo.fill({"path": escape(logo_path(view.logo))})
        else:
            letter = next((char.upper() for char in view.shop_name if char.isalnum()), "")[:1]
            shop_mark = texts.monogram.fill({"letter": escape(letter)})
        colours = NOTHING
        if view.colour:
            path = colours_path(view.colour, view.text_colour)
            integrity = escape(colours_integrity(view.colour, view.text_colour))
            colours = texts.colours.fill({"path": escape(path), "integrity": integrity, "colour": escape(view.colour)})
        return {
            "state": Html(view.state.value),
            "version": escape(view.version),
            "shop": escape(view.shop_name),
            "mark": shop_mark,
            "colours": colours,
            "refresh": NOTHING,
            "amount": escape(amount),
            "size": Html(" long") if len(amount) > LONG_AMOUNT else NOTHING,
            "description": escape(view.description),
            "path": escape(view.page_path),
        } | self._place_values(language, view.frame_origin, view.state)

    def _place_values(self, language: str, origin: str, state: PageState, *, is_over: bool = False) -> dict[str, Html]:
        """What a page needs where it stands: in a window, or in a frame of the shop's page. `is_over`: it tells that
        page at once how it ended."""
        texts = self._texts[language]
        if not origin:
            return {"place": texts.icon, "stop": NOTHING}
        over = Html(" data-over") if is_over else NOTHING
        return {"place": texts.frame.fill({"origin": escape(origin), "over": over}), "stop": texts.stop[state]}

    def _quiet_link(self, view: PageView, language: str) -> Html:
        """Back to the shop, for a page on which something else matters more."""
        url = link_address(view.return_url)
        return self._texts[language].quiet_link.fill({"url": escape(url)}) if url else NOTHING

    def _facts(self, view: PageView, language: str) -> Html:
        """What stands below the amount, beside the form."""
        text, row = self._translator.text, self._texts[language].row
        facts = [row.fill({"label": escape(text(language, "Order")), "value": escape(view.invoice_id)})]
        until = format_deadline(view, self._translator, language)
        if until:
            label = text(language, "Verify before") if view.is_verification else text(language, "Pay before")
            facts.append(row.fill({"label": escape(label), "value": escape(until)}))
        return join(facts)

    def _rows(self, view: PageView, language: str, *, with_amount: bool = False) -> Html:
        """What the order and its payment are, one row each; what is empty has no row."""
        text = self._translator.text
        rows = [
            (text(language, "Shop"), view.shop_name),
            (text(language, "Order"), view.invoice_id),
            (text(language, "Purpose"), view.description),
            (text(language, "Card"), show_card(view)),
        ]
        if view.at:
            rows.append((text(language, "Time"), self._instant(view.at, language)))
        rows.append((text(language, "Approval code"), view.approval_code))
        rows.append((text(language, "Reference"), view.rrn))
        if with_amount:
            rows.insert(0, (text(language, "Amount"), format_amount(view.amount, view.currency)))
        row = self._texts[language].row
        return join(row.fill({"label": escape(label), "value": escape(value)}) for label, value in rows if value)

    def _instant(self, at: datetime, language: str) -> str:
        """`24 November 2026, 14:05, Astana time`."""
        return self._translator.text(language, "%(time)s, Astana time", time=format_instant(at, language))


def _render_texts(press: Press, language: str) -> _Texts:
    return _Texts(
        checking={
            (slow, verification): press.shell("checking.html", language, slow=slow, verification=verification)
            for slow in (False, True)
            for verification in (False, True)
        },
        maintenance=press.shell("maintenance.html", language),
        results={
            (state, verification, ending): press.shell(
                "result.html", language, state=state.value, verification=verification, ending=ending
            )
            for state in RESULT_STATES
            for verification in (False, True)
            for ending in (_ENDINGS if state is PageState.FAILED else ("",))
        },
        message=press.shell("message.html", language),
        other=press.shell("other.html", language),
        row=press.shell("row.html", language),
        link=press.shell("link.html", language, look="primary"),
        quiet_link=press.shell("link.html", language, look="quiet"),
        no_link=press.shell("no_link.html", language).fill({}),
        retry=press.shell("retry.html", language),
        refresh=press.shell("refresh.html", language),
        detail=press.shell("detail.html", language),
        monogram=press.shell("monogram.html", language),
        logo=press.shell("logo.html", language),
        colours=press.shell("colours.html", language),
        icon=press.shell("icon.html", language).fill({}),
        frame=press.shell("frame.html", language),
        stop={state: press.shell("stop.html", language, state=state.value).fill({}) for state in PageState},
    )


def _find_ending(view: PageView, state: PageState) -> str:
    """One of _ENDINGS. Whoever left after a decline cancelled, though the shop is told of the decline."""
    if state is not PageState.FAILED:
        return ""
    if view.has_left or view.reason_code == CANCELLED_CODE:
        return "cancelled"
    return "unconfirmed" if view.reason_code == ABANDONED else ""


def link_address(url: str) -> str:
    """The address if a payer may follow it, else nothing."""
    return url if url.startswith(("https://", "http://")) else ""
