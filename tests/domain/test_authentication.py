"""What every transStatus leads to, at terminals of every kind."""

from datetime import UTC, datetime
from itertools import product
from uuid import UUID

import pytest

from tolem.domain.authentication import (
    ABANDONED,
    ABSENT,
    REFUSED,
    RULES,
    UNAVAILABLE,
    Allows,
    Authentication,
    Browser,
    ChallengeWindow,
    Ruling,
    TransStatus,
    choose_window,
    eci_of,
    judge,
    rule_of,
)
from tolem.domain.card import Brand
from tolem.domain.merchant import Terminal

S = TransStatus


def terminal(attempted: bool = True, not_enrolled: bool = True, unavailable: bool = False) -> Terminal:
    return Terminal(
        id=UUID(int=1),
        merchant_id=UUID(int=2),
        name="T",
        accept_attempted=attempted,
        accept_not_enrolled=not_enrolled,
        accept_unavailable=unavailable,
        created_at=datetime(2026, 11, 24, tzinfo=UTC),
    )


@pytest.mark.parametrize(
    ("authentication", "reason_code"),
    (
        (Authentication(S.AUTHENTICATED), 0),
        (Authentication(S.ATTEMPTED), 0),
        (Authentication(S.NOT_AUTHENTICATED), REFUSED),
        (Authentication(S.UNAVAILABLE), UNAVAILABLE),
        (Authentication(S.UNAVAILABLE, trans_status_reason="22"), UNAVAILABLE),
        (Authentication(S.UNAVAILABLE, trans_status_reason="13"), 0),
        (Authentication(S.UNAVAILABLE, trans_status_reason="08"), 0),
        (Authentication(S.REJECTED), REFUSED),
        (Authentication(S.CHALLENGE), UNAVAILABLE),
        (Authentication(S.DECOUPLED), UNAVAILABLE),
        (Authentication(S.INFORMATION), 0),
        (Authentication(S.NOT_AUTHENTICATED, challenge_cancel="06"), REFUSED),
        (Authentication(S.AUTHENTICATED, challenge_cancel="01"), 0),
    ),
)
def test_usual_terminal(authentication: Authentication, reason_code: int) -> None:
    assert judge(authentication, terminal()) == Ruling(reason_code == 0, reason_code, False)


@pytest.mark.parametrize(
    ("authentication", "setting", "reason_code"),
    (
        (Authentication(S.ATTEMPTED), "attempted", ABSENT),
        (Authentication(S.INFORMATION), "not_enrolled", ABSENT),
        (Authentication(S.UNAVAILABLE, trans_status_reason="13"), "not_enrolled", ABSENT),
        (Authentication(S.UNAVAILABLE), "unavailable", UNAVAILABLE),
    ),
)
def test_setting_of_the_terminal_decides(authentication: Authentication, setting: str, reason_code: int) -> None:
    assert judge(authentication, terminal(**{setting: True})) == Ruling(True, 0, False)
    assert judge(authentication, terminal(**{setting: False})) == Ruling(False, reason_code, False)


@pytest.mark.parametrize("settings", tuple(product((False, True), repeat=3)))
def test_no_setting_lets_a_refusal_pass(settings: tuple[bool, bool, bool]) -> None:
    for status in (S.NOT_AUTHENTICATED, S.REJECTED, S.CHALLENGE, S.DECOUPLED):
        assert not judge(Authentication(status), terminal(*settings)).goes_on
    assert judge(Authentication(S.AUTHENTICATED), terminal(*settings)).goes_on


@pytest.mark.parametrize("status", (S.NOT_AUTHENTICATED, S.UNAVAILABLE))
@pytest.mark.parametrize("cancel", ("01", "02", "03", "04", "05", "08"))
def test_abandoned_challenge(status: TransStatus, cancel: str) -> None:
    given = Authentication(status, challenge_cancel=cancel)
    assert judge(given, terminal()) == Ruling(False, ABANDONED, True)


def test_every_status_has_a_rule_and_every_setting_is_a_terminals() -> None:
    assert set(RULES) == set(TransStatus)
    settings = {allows for allows in Allows if allows not in (Allows.ALWAYS, Allows.NEVER)}
    assert settings <= set(Terminal.__struct_fields__)
    assert {rule.allows for rule in RULES.values()} == set(Allows)


@pytest.mark.parametrize(
    ("given", "brand", "eci"),
    (
        (Authentication(S.AUTHENTICATED), Brand.VISA, "05"),
        (Authentication(S.AUTHENTICATED), Brand.MASTERCARD, "02"),
        (Authentication(S.AUTHENTICATED), Brand.MAESTRO, "02"),
        (Authentication(S.AUTHENTICATED), Brand.MIR, "05"),
        (Authentication(S.ATTEMPTED), Brand.AMEX, "06"),
        (Authentication(S.ATTEMPTED), Brand.MASTERCARD, "01"),
        (Authentication(S.UNAVAILABLE), Brand.VISA, "07"),
        (Authentication(S.UNAVAILABLE, trans_status_reason="13"), Brand.MASTERCARD, "00"),
        (Authentication(S.INFORMATION, "04"), Brand.MASTERCARD, "04"),
        (Authentication(S.NOT_AUTHENTICATED), Brand.VISA, ""),
    ),
)
def test_eci(given: Authentication, brand: Brand, eci: str) -> None:
    assert eci_of(given, brand) == eci


def test_only_a_full_authentication_is_told_as_f() -> None:
    details = {status: rule_of(Authentication(status)).secure_details for status in TransStatus}
    assert {status for status, detail in details.items() if detail == "F"} == {S.AUTHENTICATED}
    assert [status for status in TransStatus if Authentication(status).is_authenticated] == [S.AUTHENTICATED]


@pytest.mark.parametrize(
    ("width", "height", "window"),
    (
        (1280, 900, ChallengeWindow.W500X600),
        (1280, 600, ChallengeWindow.W600X400),
        (620, 500, ChallengeWindow.W500X600),
        (450, 900, ChallengeWindow.W390X400),
        (430, 932, ChallengeWindow.FULL),
        (320, 568, ChallengeWindow.FULL),
        (270, 480, ChallengeWindow.W250X400),
        (0, 0, ChallengeWindow.FULL),
    ),
)
def test_window_fits(width: int, height: int, window: ChallengeWindow) -> None:
    assert choose_window(Browser(has_script=True, window_width=width, window_height=height)) is window


def test_without_script_the_whole_page_is_the_window() -> None:
    assert choose_window(Browser(window_width=1280, window_height=900)) is ChallengeWindow.FULL
