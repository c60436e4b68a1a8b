"""What makes hundreds of starts fit into a minute. Nothing that is tested here is replaced.

Called before a gateway is opened; victims are forked from a process that has imported this.
"""

from collections.abc import Callable

from tolem import bootstrap, worker
from tolem.i18n import story
from tolem.i18n.translator import DOMAIN, load_translator
from tolem.web.challenge_pages import ChallengePages
from tolem.web.pages import Pages

STEP_SECONDS = 0.02
"""The worker's loops: nobody waits a second for what is due now."""
TRANSLATORS = {domain: load_translator(domain) for domain in (DOMAIN, story.CATALOGUE)}
PAGES = Pages(TRANSLATORS[DOMAIN], sandbox=True)
CHALLENGE_PAGES = ChallengePages(TRANSLATORS[DOMAIN], PAGES, sandbox=True)
"""To read the texts and to render the pages' shells takes half a start, and they are the same each time."""


def quicken(set_attribute: Callable[[object, str, object], None]) -> None:
    """`set_attribute`: setattr, or a test's monkeypatch."""
    set_attribute(worker, "STEP_SECONDS", STEP_SECONDS)
    set_attribute(bootstrap, "load_translator", lambda domain=DOMAIN: TRANSLATORS[domain])
    set_attribute(bootstrap, "Pages", lambda _translator, *, sandbox: PAGES)
    set_attribute(bootstrap, "ChallengePages", lambda _translator, _pages, *, sandbox: CHALLENGE_PAGES)
