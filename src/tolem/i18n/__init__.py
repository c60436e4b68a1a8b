"""Texts for people in their language: catalogues, amounts, dates, and what a payer is told of a reason code.

One folder per language, `<language>/LC_MESSAGES/tolem.po`; msgids are the English texts. A new language is a new
folder with an empty file, which `python scripts/catalogues.py` fills with what has to be translated. Used by web
and cli.
"""
