"""The catalogues of texts, one a language, read from their .po files when a process starts. Used by web and cli.

Invariant: a text is never missing for a payer. What a catalogue lacks shows in English (tests/i18n fails long before),
and a language without a catalogue falls back to one its readers know.
"""

import io
from collections.abc import Mapping
from gettext import GNUTranslations
from pathlib import Path

from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po

CATALOGUES = Path(__file__).parent
DOMAIN = "tolem"
"""What payers read. `story` is what developers and operators read (story.py)."""
DEFAULT_LANGUAGE = "ru"
"""For a payer whose language is not known, and for one without a catalogue."""
LANGUAGE_NAMES = {"kk": "Қазақша", "ru": "Русский", "en": "English"}
"""Each as its speakers write it."""


def mark(msgid: str) -> str:
    """The text itself: marks it for the extractor where it stands in a table and is translated later."""
    return msgid


def list_catalogues(domain: str = DOMAIN) -> dict[str, Path]:
    """Language → its .po file, for every language that has one."""
    return {path.parent.parent.name: path for path in sorted(CATALOGUES.glob(f"*/LC_MESSAGES/{domain}.po"))}


class Translator:
    """Texts by language and msgid."""

    def __init__(self, catalogues: Mapping[str, GNUTranslations]) -> None:
        if DEFAULT_LANGUAGE not in catalogues:
            raise ValueError(f"no catalogue for the default language {DEFAULT_LANGUAGE}")
        self._catalogues = dict(catalogues)
        self.languages = tuple(self._catalogues)
        """Languages that have a catalogue."""

    def choose(self, asked: str) -> str:
        """The language in which somebody who asked for `asked` is answered; always one of `languages`."""
        return asked if asked in self._catalogues else DEFAULT_LANGUAGE

    def text(self, language: str, msgid: str, **values: object) -> str:
        """The text in `language`, its `%(name)s` places filled with `values`. Plain text: escape it for HTML."""
        translated = self._catalogues[self.choose(language)].gettext(msgid)
        return translated % values if values else translated

    def ntext(self, language: str, singular: str, plural: str, count: int, **values: object) -> str:
        """The text in the form that `language` has for `count` things; `%(count)s` is the number itself."""
        translated = self._catalogues[self.choose(language)].ngettext(singular, plural, count)
        return translated % {"count": count, **values}


def load_translator(domain: str = DOMAIN) -> Translator:
    """Reads every catalogue of a domain. There are no compiled files: a .po file is all there is to edit."""
    return Translator({language: _read(language, path) for language, path in list_catalogues(domain).items()})


def _read(language: str, path: Path) -> GNUTranslations:
    with path.open("rb") as file:
        catalogue = read_po(file, locale=language)
    compiled = io.BytesIO()
    write_mo(compiled, catalogue)
    compiled.seek(0)
    return GNUTranslations(compiled)
