"""Texts and page shells, made once for all gateways of a process: they take half a start and are always the same."""

from collections.abc import Callable
from functools import cache

from tolem import bootstrap
from tolem.i18n import story
from tolem.i18n.translator import DOMAIN, Translator, load_translator
from tolem.web import inspector
from tolem.web.challenge_pages import ChallengePages
from tolem.web.home import sandbox_home
from tolem.web.pages import Pages

TRANSLATORS = {domain: load_translator(domain) for domain in (DOMAIN, story.CATALOGUE)}


@cache
def _pages(translator: Translator, *, sandbox: bool) -> Pages:
    return Pages(translator, sandbox=sandbox)


@cache
def _challenge_pages(translator: Translator, pages: Pages, *, sandbox: bool) -> ChallengePages:
    return ChallengePages(translator, pages, sandbox=sandbox)


_sandbox_home = cache(sandbox_home)
_inspector_page = cache(inspector.render_page)


def share_pages(set_attribute: Callable[[object, str, object], None]) -> None:
    """For every gateway that is opened afterwards; `set_attribute`: setattr, or a test's monkeypatch."""
    set_attribute(bootstrap, "load_translator", lambda domain=DOMAIN: TRANSLATORS[domain])
    set_attribute(bootstrap, "Pages", _pages)
    set_attribute(bootstrap, "ChallengePages", _challenge_pages)
    set_attribute(bootstrap, "sandbox_home", _sandbox_home)
    set_attribute(inspector, "render_page", _inspector_page)


# Here, so that a process which is forked from this one has them.
_challenge_pages(TRANSLATORS[DOMAIN], _pages(TRANSLATORS[DOMAIN], sandbox=True), sandbox=True)
