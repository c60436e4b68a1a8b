"""What a payer sees while the issuer makes sure of them. Called by the web edge; does no I/O after its start.

The issuer's page stands in a frame of the payment page; where it will not be framed, or without a script, it takes the
whole page, and a window of its own where the payment page itself stands in a frame of the shop's. Every page here works
without its script, and asks the gateway what became of the payment.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from tolem.domain.authentication import AuthenticationStep, PendingAuthentication
from tolem.i18n.translator import LANGUAGE_NAMES, Translator, mark
from tolem.web.assets import template_names
from tolem.web.card_form import show_card
from tolem.web.pages import Pages, link_address
from tolem.web.shells import NOTHING, Html, Press, Shell, escape
from tolem.web.view import PageView

OTHER = mark("Another card is being confirmed: the one you typed was not used.")
NOTHING_TAKEN = mark("The shop wants to know that the card works. No money is taken.")


_WAITS = {
    AuthenticationStep.DEVICE.value: "device.html",
    AuthenticationStep.CHALLENGE.value: "challenge.html",
    "framed": "challenge.html",
    AuthenticationStep.DECOUPLED.value: "waiting.html",
    "elsewhere": "waiting.html",
}
"""Template by what an attempt waits for: a step, a challenge in a frame of the shop's page, another opening."""


class _Texts(NamedTuple):
    """Everything of one language."""

    waits: Mapping[tuple[str, bool], Shell]
    """By what the attempt waits for (_WAITS), and whether it is a verification."""
    returned: Shell
    returned_beside: Shell
    returned_nowhere: Shell
    link: Shell
    icon: Html
    other: Html


class ChallengePages:
    """Renders them; one for the life of a process."""

    def __init__(self, translator: Translator, pages: Pages, *, sandbox: bool) -> None:
        """`pages`: the order's others, which look the same."""
        self._translator = translator
        self._pages = pages
        languages = tuple(LANGUAGE_NAMES.items())
        press = Press(translator, sandbox=sandbox, languages=languages, **template_names())
        self._texts = {
            language: _Texts(
                waits={
                    (name, verification): press.shell(template, language, kind=name, verification=verification)
                    for name, template in _WAITS.items()
                    for verification in (False, True)
                },
                returned=press.shell("returned.html", language, kind="onwards"),
                returned_beside=press.shell("returned.html", language, kind="beside"),
                returned_nowhere=press.shell("returned.html", language, kind="nowhere"),
                link=press.shell("challenge_link.html", language),
                icon=press.shell("icon.html", language).fill({}),
                other=press.shell("notice.html", language).fill({"text": escape(translator.text(language, OTHER))}),
            )
            for language in translator.languages
        }

    def page(
        self, view: PageView, pending: PendingAuthentication | None, session_data: str, *, is_other: bool = False
    ) -> bytes:
        """What an attempt waits for; None: it waits at another opening of the page. `session_data`: goes to the issuer
        and comes back from it (threeDSSessionData). `is_other`: the payer has just typed another card."""
        language = self._translator.choose(view.language)
        texts, values = self._texts[language], self._pages.order_values(view, language)
        waits = {name: texts.waits[name, view.is_verification] for name in _WAITS}
        url = link_address(view.return_url)
        values["link"] = texts.link.fill({"url": escape(url)}) if url else NOTHING
        values["card"] = escape(show_card(view))
        values["other"] = texts.other if is_other else NOTHING
        if pending is None:
            return waits["elsewhere"].fill_page(values)
        values |= {
            "step": Html(pending.step.value),
            "url": escape(pending.url),
            "data": escape(pending.data),
            "session": escape(session_data),
            "window": Html(pending.window.value),
        }
        if view.is_verification and pending.step is AuthenticationStep.CHALLENGE:
            values["amount"] = escape(self._translator.text(language, NOTHING_TAKEN))
        is_framed = pending.step is AuthenticationStep.CHALLENGE and view.frame_origin
        name = "framed" if is_framed else pending.step.value
        return waits.get(name, waits[AuthenticationStep.DECOUPLED]).fill_page(values)

    def returned(self, language: str, path: str, step: AuthenticationStep, *, is_beside: bool = False) -> bytes:
        """Where the issuer sends the browser back: in a frame it only knocks, else it leads on to `path`; empty: the
        browser has to find back by itself. `is_beside`: a window beside the one whose frame shows the page."""
        texts = self._texts[self._translator.choose(language)]
        led = texts.returned_beside if is_beside else texts.returned
        shell = led if path else texts.returned_nowhere
        values = {"path": escape(path), "step": Html(step.value), "place": texts.icon, "stop": NOTHING}
        return shell.fill_page(values)


def origins(pending: PendingAuthentication) -> Sequence[str]:
    """Of the access control server: where the page may post, and what its frame may show."""
    scheme, _, rest = pending.url.partition("://")
    return (f"{scheme}://{rest.partition('/')[0]}",) if rest else ()
