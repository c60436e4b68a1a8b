"""What a payer is told of reason codes and mistakes."""

import pytest

from tolem.domain.card import CardProblem
from tolem.i18n import reasons
from tolem.i18n.reasons import PROBLEM_TEXTS, find_reason
from tolem.wire.reasons import REASONS


@pytest.mark.parametrize("code", (465, 467, 479, 481, 482, 483, 488, 489, 490, 491, 492, 505, 521, 523, 527, 528, 529))
def test_what_would_help_a_thief_reads_as_a_refusal(code: int) -> None:
    assert find_reason(code) == reasons.REFUSED


@pytest.mark.parametrize("code", (457, 471, 472, 3339))
def test_which_detail_was_wrong_is_not_told(code: int) -> None:
    assert find_reason(code) == reasons.CHECK_DETAILS


@pytest.mark.parametrize("code", (454, 459, 460))
def test_an_amount_that_may_be_held_is_never_called_free(code: int) -> None:
    assert find_reason(code) == reasons.MAY_BE_HELD
    assert "No money was taken" not in reasons.MAY_BE_HELD.cause


def test_other_codes() -> None:
    assert find_reason(484) == reasons.FUNDS
    assert find_reason(478) == reasons.EXPIRED_CARD
    assert find_reason(473) == reasons.NOT_CONFIRMED
    assert find_reason(476) == reasons.NOTHING_DONE
    assert find_reason(0) == find_reason(99_999) == reasons.REFUSED


def test_a_verification_takes_nothing_so_nothing_is_to_be_topped_up() -> None:
    assert find_reason(484, is_verification=True) == find_reason(0, is_verification=True)


@pytest.mark.parametrize("code", (464, 468, 469, 470, 478, 485, 486, 487, 495, 498, 2092))
@pytest.mark.parametrize("is_verification", (False, True))
def test_where_this_card_will_not_do_another_one_is_asked_for(code: int, is_verification: bool) -> None:
    *_, advice = find_reason(code, is_verification=is_verification).texts(is_last=False)
    assert advice.startswith("Use another card")


@pytest.mark.parametrize("is_verification", (False, True))
def test_after_the_last_attempt_nobody_is_told_to_try_again(is_verification: bool) -> None:
    for code in REASONS:
        told = find_reason(code, is_verification=is_verification).texts(is_last=True)
        assert not any("again" in text or "another card" in text for text in told), code


def test_every_mistake_in_the_form_has_a_text() -> None:
    assert set(PROBLEM_TEXTS) == set(CardProblem)
