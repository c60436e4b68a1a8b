"""Brings the catalogues in src/tolem/i18n up to date with the texts in the code and in the templates.

Run `python scripts/catalogues.py` after a text was added or changed, then translate what it lists. The tests compare
with `extract`. Invariant: translations that are there stay; what no code uses any more goes.
"""

import io
import sys
from pathlib import Path

from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import read_po, write_po

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "tolem"
METHODS = [("**.py", "python"), ("**/templates/**.html", "jinja2.ext:babel_extract")]
OPTIONS = {"**/templates/**.html": {"trimmed": "true", "silent": "false", "encoding": "utf-8"}}
DOMAINS = {"story": ("i18n/story.py",)}
"""Catalogues of their own, with the files whose texts they have; everything else is in `tolem`."""
# Where the msgid stands among the arguments; `mark` and `_` take it alone.
KEYWORDS = {"_": None, "mark": None, "text": (2,), "ntext": (2, 3)}
HEADER = """# Texts of tolem. Lines are made by scripts/catalogues.py, msgstr by hand.
msgid ""
msgstr ""
"Language: {language}\\n"
"Content-Type: text/plain; charset=utf-8\\n"
"Plural-Forms: {plural}\\n"

"""


def extract(domain: str = "tolem") -> Catalog:
    """Every text of a domain, as a catalogue without translations."""
    catalogue = Catalog(domain=domain, fuzzy=False)
    found = extract_from_dir(SOURCE, METHODS, OPTIONS, KEYWORDS, strip_comment_tags=True)
    of_file = {file: name for name, files in DOMAINS.items() for file in files}
    for name, _line, message, _comments, _context in sorted(found, key=lambda hit: (hit[0], hit[1])):
        if of_file.get(name, "tolem") == domain:
            catalogue.add(message, locations=[(name, 0)])
    return catalogue


def update(path: Path, language: str) -> list[str]:
    """Rewrites one catalogue; gives the msgids that still lack a translation."""
    with path.open("rb") as file:
        catalogue = read_po(file, locale=language)
    catalogue.update(extract(path.stem), no_fuzzy_matching=True)
    catalogue.obsolete.clear()
    if language == "en":  # msgids are the English texts
        for message in catalogue:
            if message.id:
                message.string = message.id
    body = io.BytesIO()
    write_po(body, catalogue, width=110, include_lineno=False, omit_header=True)
    header = HEADER.format(language=language, plural=Catalog(locale=language).plural_forms)
    path.write_bytes(header.encode() + body.getvalue().lstrip())
    return list_untranslated(catalogue)


def list_untranslated(catalogue: Catalog) -> list[str]:
    """Its msgids without a translation, or without one of their plural forms."""
    strings = {str(message.id): message.string for message in catalogue if message.id}
    return [msgid for msgid, string in strings.items() if not (all(string) if isinstance(string, tuple) else string)]


def main() -> int:
    missing = 0
    for path in sorted(SOURCE.glob("i18n/*/LC_MESSAGES/*.po")):
        language = path.parent.parent.name
        for msgid in update(path, language):
            print(f"{language}/{path.name}: not translated: {msgid}")
            missing += 1
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
