"""No language lacks a text, none keeps a stale one, and every text takes its values."""

import re
from pathlib import Path

import pytest
from babel.messages.catalog import Catalog
from babel.messages.pofile import read_po
from scripts.catalogues import extract, list_untranslated

from tolem.i18n.translator import DEFAULT_LANGUAGE, Translator, list_catalogues, load_translator

CATALOGUES = {
    (domain, language): path for domain in ("tolem", "story") for language, path in list_catalogues(domain).items()
}


def read(domain: str, language: str) -> Catalog:
    with CATALOGUES[domain, language].open("rb") as file:
        return read_po(file, locale=language, domain=domain, abort_invalid=True)


def msgids(catalogue: Catalog) -> set[str]:
    return {str(message.id) for message in catalogue if message.id}


def test_the_three_languages_are_there() -> None:
    assert set(list_catalogues()) == {"ru", "en", "kk"}
    assert set(list_catalogues("story")) == {"ru", "en", "kk"}


@pytest.mark.parametrize(("domain", "language"), CATALOGUES)
def test_catalogue_is_complete_and_has_nothing_stale(domain: str, language: str) -> None:
    catalogue, texts = read(domain, language), msgids(extract(domain))
    assert len(texts) > 50  # the extractor finds templates and code
    assert texts - msgids(catalogue) == set(), "run scripts/catalogues.py and translate"
    assert msgids(catalogue) - texts == set(), "run scripts/catalogues.py"
    assert not catalogue.obsolete
    assert list_untranslated(catalogue) == []
    assert [message.id for message in catalogue if message.id and message.fuzzy] == []


@pytest.mark.parametrize(("domain", "language"), CATALOGUES)
def test_translations_have_the_places_of_their_msgids(domain: str, language: str) -> None:
    for message in read(domain, language):
        ids = message.id if isinstance(message.id, (tuple, list)) else (message.id,)
        strings = message.string if isinstance(message.string, (tuple, list)) else (message.string,)
        if message.id:
            for string in strings:
                assert places(string) == places(ids[-1]), message.id


def test_kazakh_is_kazakh() -> None:
    """A text that was copied from the Russian catalogue would be complete, and no Kazakh."""
    russian = {str(message.id): message.string for message in read("tolem", "ru") if message.id}
    same = {
        str(message.id) for message in read("tolem", "kk") if message.id and message.string == russian[str(message.id)]
    }
    assert same <= {"Card"}  # карта is a word of both


def places(text: str | None) -> set[str]:
    return set(re.findall(r"%\((\w+)\)s", text or ""))


def test_plurals() -> None:
    translator = load_translator()
    forms = ("%(count)s attempt left", "%(count)s attempts left")
    assert [translator.ntext("ru", *forms, count) for count in (1, 2, 5, 21)] == [
        "Осталась 1 попытка",
        "Осталось 2 попытки",
        "Осталось 5 попыток",
        "Осталась 21 попытка",
    ]
    assert [translator.ntext("kk", *forms, count) for count in (1, 2)] == ["1 әрекет қалды", "2 әрекет қалды"]
    assert [translator.ntext("en", *forms, count) for count in (1, 2)] == ["1 attempt left", "2 attempts left"]


def test_an_unknown_language_or_text_still_says_something() -> None:
    translator = load_translator()
    assert translator.choose("en") == "en"
    assert translator.choose("xx") == DEFAULT_LANGUAGE
    assert translator.text("xx", "Order") == translator.text(DEFAULT_LANGUAGE, "Order") == "Заказ"
    assert translator.text("en", "never translated") == "never translated"
    with pytest.raises(ValueError, match="default language"):
        Translator({})


def test_catalogues_are_plain_files_beside_the_code() -> None:
    for (domain, language), path in CATALOGUES.items():
        assert path.parts[-4:] == ("i18n", language, "LC_MESSAGES", f"{domain}.po")
        assert list(Path(path.parent).glob("*.mo")) == []
