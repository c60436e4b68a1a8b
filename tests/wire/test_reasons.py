"""Reason codes: the table and its texts."""

import pytest

from tolem.wire.reasons import LEFT_CODE, REASONS, UNKNOWN_CODES, UNLISTED, reason_text


@pytest.mark.parametrize(
    ("code", "text"),
    (
        (0, "success"),
        (473, "Authentication failed"),
        (465, "Your card is restricted"),
        (484, "Not sufficient funds"),
        (999, UNLISTED),
    ),
)
def test_reason_text(code: int, text: str) -> None:
    assert reason_text(code) == text


def test_codes_that_settle_nothing() -> None:
    assert {454, 459, 460} == UNKNOWN_CODES
    assert LEFT_CODE in REASONS
    assert LEFT_CODE not in UNKNOWN_CODES


def test_texts_read_as_sentences() -> None:
    for code, text in REASONS.items():
        assert text == text.strip()
        assert text[0].isupper() or text[0].isdigit() or code == 0
