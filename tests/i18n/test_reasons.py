"""What a payer is told of reason codes and mistakes."""

import pytest

from tolem.domain.card import CardProblem
from tolem.i18n import reasons
from tolem.i18n.reasons import PROBLEM_TEXTS, find_reason_text


@pytest.mark.parametrize("code", (465, 467, 479, 481, 482, 483, 488, 489, 490, 491, 492, 505, 521, 523, 527, 528, 529))
def test_what_would_help_a_thief_reads_as_a_refusal(code: int) -> None:
    assert find_reason_text(code) == reasons.REFUSED


@pytest.mark.parametrize("code", (457, 471, 472, 3339))
def test_which_detail_was_wrong_is_not_told(code: int) -> None:
    assert find_reason_text(code) == reasons.CHECK_DETAILS


@pytest.mark.parametrize("code", (454, 459, 460))
def test_an_amount_that_may_be_held_is_never_called_free(code: int) -> None:
    assert find_reason_text(code) == reasons.MAY_BE_HELD
    assert "No money was taken" not in reasons.MAY_BE_HELD


def test_other_codes() -> None:
    assert find_reason_text(484) == reasons.FUNDS
    assert find_reason_text(478) == reasons.EXPIRED_CARD
    assert find_reason_text(473) == reasons.NOT_CONFIRMED
    assert find_reason_text(476) == reasons.NOTHING_DONE
    assert find_reason_text(0) == find_reason_text(99_999) == reasons.REFUSED


def test_every_mistake_in_the_form_has_a_text() -> None:
    assert set(PROBLEM_TEXTS) == set(CardProblem)
