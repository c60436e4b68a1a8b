"""Every fact and advice has its text in three languages, filled with what the story gives."""

import re
from datetime import UTC, datetime
from enum import StrEnum

import pytest

from tolem.domain.message import Fault, MessageKind
from tolem.domain.payment import OperationKind
from tolem.domain.story import Advice, Fact, Line, Mark, Money, Step, Story, Values
from tolem.i18n import story
from tolem.i18n.translator import load_translator

TRANSLATOR = load_translator(story.CATALOGUE)
AT = datetime(2026, 11, 24, 9, 30, 15, 999999, tzinfo=UTC)


@pytest.mark.parametrize(
    ("members", "texts"),
    (
        (Step, story.STEPS),
        (Fact, story.FACTS),
        (Advice, story.ADVICES),
        (Fault, story.FAULTS),
        (MessageKind, story.KINDS),
    ),
)
def test_nothing_is_without_words(members: type[StrEnum], texts: dict[StrEnum, str]) -> None:
    assert set(texts) == set(members)
    assert len(set(texts.values())) == len(texts)


def test_a_line_in_three_languages() -> None:
    values: Values = {"kind": OperationKind.CAPTURE, "amount": Money(123_450, "KZT")}
    line = Line(Step.MONEY, Mark.DONE, Fact.MOVED, AT, values)
    told = {language: story.tell_line(TRANSLATOR, language, line).text for language in ("en", "ru", "kk")}
    assert told == {
        "en": "Capture of 1\u00a0234,50\u00a0₸: done.",
        "ru": "Списание, 1\u00a0234,50\u00a0₸: выполнено.",
        "kk": "Ұсталған соманы алу, 1\u00a0234,50\u00a0₸: орындалды.",
    }


def test_kinds_with_the_same_name_have_words_of_their_own() -> None:
    told = Line(Step.MESSAGE, Mark.DONE, Fact.COMPOSED, AT, {"kind": MessageKind.CAPTURE, "url": "http://s/"})
    assert story.tell_line(TRANSLATOR, "en", told).text == "To be told: capture, to http://s/"


def test_moments_advice_and_quotes() -> None:
    values: Values = {"due": AT, "number": 2, "message": "m"}
    line = Line(Step.MESSAGE, Mark.OPEN, Fact.NEXT_TRY_DUE, None, values, Advice.SEND_AGAIN, "100 % <b>")
    told = story.tell_line(TRANSLATOR, "en", line)
    assert told == (
        "message", "open", "next_try_due", None, "Try 2 comes at 2026-11-24 14:30:15.", "100 % <b>",
        "Once the shop is ready for it: tolem redeliver m",
    )  # fmt: skip
    headline, lines = story.tell_lines(TRANSLATOR, "kk", Story(line, (line, line)))
    assert headline.text == "2-жіберу уақыты: 2026-11-24 14:30:15."
    assert len(lines) == 2


@pytest.mark.parametrize("language", ("en", "ru", "kk"))
def test_no_percent_sign_is_left_over(language: str) -> None:
    for texts in (story.FACTS, story.ADVICES):
        for msgid in texts.values():
            text = TRANSLATOR.text(language, msgid)
            assert "%" not in re.sub(r"%\(\w+\)s", "", text)
