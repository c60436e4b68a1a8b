"""`/`: what stands here, for whoever opens the gateway's own address.

In a sandbox that is a developer, who is led on; in production a payer who cut an address short, who is told in all
languages that nothing is paid here. Called by the bootstrap; does no I/O after its start.
"""

from collections.abc import Callable

from tolem.i18n.translator import Translator, mark
from tolem.web.assets import template_names
from tolem.web.pages import Pages
from tolem.web.sandbox_cards import APPROVED_CARD, DECLINED_CARD
from tolem.web.shells import NOTHING, Press

_TITLE = mark("This is a payment page")
_TEXT = mark(
    "A payment opens here when a shop leads you to it. To pay, return to the shop and start the payment there."
)


def sandbox_home(translator: Translator) -> Callable[[str], bytes]:
    """The sandbox's, in English."""
    press = Press(translator, sandbox=True, **template_names())
    shell = press.shell("home.html", "en", approved=APPROVED_CARD.number, declined=DECLINED_CARD.number)
    page = shell.fill({"place": press.shell("icon.html", "en").fill({}), "stop": NOTHING}).encode()
    return lambda language: page


def production_home(pages: Pages) -> Callable[[str], bytes]:
    """The production's; takes the browser's language."""
    return lambda language: pages.notice(language, _TITLE, _TEXT)
