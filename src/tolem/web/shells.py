"""Page shells: a template rendered once per language, when the process starts, into text with gaps for what differs.

Called by pages.py. A request only fills the gaps, which takes a tenth of a template's rendering. Invariant: a gap
takes Html, and only `escape` and `Shell.fill` make Html of anything that came from outside.
"""

import html
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NewType

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from tolem.i18n.translator import Translator

TEMPLATES = Path(__file__).parent / "templates"

Html = NewType("Html", str)
"""Text that is safe where it stands: markup of ours with escaped values."""

NOTHING = Html("")

# Control characters, which no template holds.
_GAP = re.compile("\x02([a-z_]+)\x03")


def escape(text: str) -> Html:
    """Text from outside → Html, for an element's content or a quoted attribute."""
    return Html(html.escape(text))


class Shell:
    """One template in one language, with gaps."""

    __slots__ = ("_text",)

    def __init__(self, rendered: str) -> None:
        lines = re.sub(r"\s*\n\s*", "\n", rendered.strip())  # indentation is for people
        self._text = _GAP.sub(r"%(\1)s", lines.replace("%", "%%"))

    def fill(self, values: Mapping[str, Html]) -> Html:
        """The markup with its gaps filled. Raises KeyError for a gap without a value; others are left out."""
        return Html(self._text % values)


class _Gaps:
    """What a template writes as `{{ gap.amount }}`."""

    def __getattr__(self, name: str) -> Markup:
        return Markup(f"\x02{name}\x03")  # noqa: S704 - the name of an attribute in our own template

    __getitem__ = __getattr__


class Press:
    """Renders templates into shells."""

    def __init__(self, translator: Translator, **everywhere: object) -> None:
        """`everywhere`: values that every template may use, the same for the life of the process."""
        self._language = ""
        self._environment = Environment(
            loader=FileSystemLoader(TEMPLATES),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=["jinja2.ext.i18n"],
        )
        gettext: Callable[[str], str] = lambda msgid: translator.text(self._language, msgid)  # noqa: E731
        ngettext: Callable[[str, str, int], str] = lambda one, many, n: translator.ntext(  # noqa: E731
            self._language, one, many, n
        )
        self._environment.install_gettext_callables(gettext, ngettext, newstyle=True)  # type: ignore[attr-defined]
        self._environment.globals.update(everywhere, gap=_Gaps())

    def shell(self, template: str, language: str, **fixed: object) -> Shell:
        """The template in a language that has a catalogue; `fixed` are its values that no request changes."""
        self._language = language
        return Shell(self._environment.get_template(template).render(language=language, **fixed))
