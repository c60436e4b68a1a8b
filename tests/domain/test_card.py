"""Cards: what is accepted as typed, what is told of mistakes, and that secrets never show themselves."""

import copy
import pickle
from datetime import date

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tolem.domain.card import (
    Brand,
    CardField,
    CardProblem,
    Cvc,
    Expiry,
    InvalidCard,
    Pan,
    luhn_digit,
    parse_card,
    parse_cvc,
    passes_luhn,
)

VISA, MASTERCARD, AMEX = "4405639704015096", "5522042705066736", "377514500004820"


def problems_of(number: str = VISA, expiry: str = "01/30", cvc: str = "321", name: str = "ARMAN ALI") -> dict[str, str]:
    with pytest.raises(InvalidCard) as caught:
        parse_card(number, expiry, cvc, name)
    return {str(field): str(problem) for field, problem in caught.value.problems.items()}


@pytest.mark.parametrize(
    "typed",
    (VISA, "4405 6397 0401 5096", "4405-6397-0401-5096", " 4405\u00a06397 04015096 ", "4405–6397–0401–5096",
     "\u200e4405\u200b6397\u20610401 5096\ufeff"),
)  # fmt: skip
def test_spaces_and_dashes_are_accepted(typed: str) -> None:
    assert parse_card(typed, "01/30", "321", "Arman Ali").pan == Pan(VISA)


@pytest.mark.parametrize(
    "typed",
    ("Card: 4405 6397 0401 5096 exp 12/30", "4405639704015096 12/30 321", "карта 4405-6397-0401-5096, 12.30",
     "4405639704015096; +7 701 123 45 67"),
)  # fmt: skip
def test_the_one_card_number_of_a_text_is_found(typed: str) -> None:
    assert parse_card(typed, "01/30", "321", "Arman Ali").pan == Pan(VISA)


@pytest.mark.parametrize(
    ("number", "problem"),
    (
        ("", CardProblem.NUMBER_MISSING),
        (f"{VISA} or {MASTERCARD}", CardProblem.NUMBER_LETTERS),
        (f"Card: {VISA[:-1]}7 exp 12/30", CardProblem.NUMBER_LETTERS),
        (f"+7 701 123 45 67 {VISA}, mine", CardProblem.NUMBER_LETTERS),
        ("4405 63O7 0401 5096", CardProblem.NUMBER_LETTERS),
        ("٤٤٠٥٦٣٩٧٠٤٠١٥٠٩٦", CardProblem.NUMBER_LETTERS),
        ("44056397040150", CardProblem.NUMBER_SHORT),
        ("440563970401509612345", CardProblem.NUMBER_LONG),
        ("4405639704015097", CardProblem.NUMBER_CHECK),
        ("9999999999999995", CardProblem.NUMBER_BRAND),
    ),
)
def test_a_wrong_number_is_told_apart(number: str, problem: CardProblem) -> None:
    assert problems_of(number=number) == {CardField.NUMBER: problem}


@pytest.mark.parametrize(
    ("number", "brand"),
    ((VISA, Brand.VISA), (MASTERCARD, Brand.MASTERCARD), (AMEX, Brand.AMEX), ("2200000000000004", Brand.MIR),
     ("6200000000000005", Brand.UNIONPAY), ("2221000000000009", Brand.MASTERCARD), ("3530111333300000", Brand.JCB),
     ("30569309025904", Brand.DINERS), ("6011111111111117", Brand.DISCOVER), ("6759649826438453", Brand.MAESTRO),
     ("9398000000000001", Brand.ALTYN)),
)  # fmt: skip
def test_brands(number: str, brand: Brand) -> None:
    card = parse_card(number, "1/30", "1234" if brand is Brand.AMEX else "123", "A B")
    assert card.pan.brand is brand


@pytest.mark.parametrize(
    ("typed", "expiry"),
    (("01/30", Expiry(2030, 1)), ("1/30", Expiry(2030, 1)), ("01/2030", Expiry(2030, 1)), ("0130", Expiry(2030, 1)),
     ("12-29", Expiry(2029, 12)), (" 01 / 30 ", Expiry(2030, 1)), ("012030", Expiry(2030, 1)),
     ("2030-01", Expiry(2030, 1)), ("01 / 2030", Expiry(2030, 1)), ("01–30", Expiry(2030, 1)),
     ("０１／３０", Expiry(2030, 1)), ("exp 01/30", Expiry(2030, 1)), ("01/30 г.", Expiry(2030, 1)),
     ("1 30", Expiry(2030, 1)), ("1230", Expiry(2030, 12))),
)  # fmt: skip
def test_expiry_as_people_type_it(typed: str, expiry: Expiry) -> None:
    assert parse_card(VISA, typed, "321", "A B").expiry == expiry


def test_full_width_is_read_as_usual() -> None:
    card = parse_card("４４０５ ６３９７ ０４０１ ５０９６", "０１/３０", "３２１", "ＡＲＭＡＮ ALI")
    assert (card.pan, card.cvc, card.holder) == (Pan(VISA), Cvc("321"), "ARMAN ALI")
    assert parse_cvc("３２１", Brand.VISA) == Cvc("321")


@pytest.mark.parametrize(
    "typed",
    (
        "13/30",
        "１３/30",
        "00/30",
        "1",
        "01/3",
        "ab/cd",
        "01/30/30",
        "01/1930",
        "030",
        "130",
        "12030",
        "12/7",
        "٠1/30",
        "01/30 321",
    ),
)
def test_no_expiry(typed: str) -> None:
    assert problems_of(expiry=typed) == {CardField.EXPIRY: CardProblem.EXPIRY_FORMAT}


def test_expiry_lasts_to_the_end_of_its_month() -> None:
    assert not Expiry(2026, 11).is_past(date(2026, 11, 30))
    assert Expiry(2026, 11).is_past(date(2026, 12, 1))


def test_cvc_has_the_length_of_its_brand() -> None:
    assert problems_of(cvc="1234") == {CardField.CVC: CardProblem.CVC_LENGTH_3}
    assert problems_of(number=AMEX, cvc="123") == {CardField.CVC: CardProblem.CVC_LENGTH_4}
    assert problems_of(cvc="12") == problems_of(cvc="12a") == {CardField.CVC: CardProblem.CVC_LENGTH_3}
    assert problems_of(number=AMEX, cvc="12") == {CardField.CVC: CardProblem.CVC_LENGTH_4}
    assert problems_of(number="", cvc="12")[CardField.CVC] == CardProblem.CVC_FORMAT


def test_every_problem_is_told_at_once() -> None:
    assert set(problems_of("", "", "", "")) == {field.value for field in CardField}
    assert problems_of(name="Арман") == {CardField.NAME: CardProblem.NAME_FORMAT}


@pytest.mark.parametrize("secret", (Pan(VISA), Cvc("321")))
def test_secrets_do_not_show_themselves(secret: Pan | Cvc) -> None:
    digits = secret.reveal()
    for shown in (repr(secret), str(secret), f"{secret}", f"{secret!r:>40}", "%s" % secret, repr([secret])):  # noqa: UP031
        assert digits not in shown
    for write in (pickle.dumps, copy.deepcopy, msgspec.json.encode):
        with pytest.raises(TypeError):
            write(secret)


def test_a_whole_card_does_not_show_its_secrets() -> None:
    shown = repr(parse_card(VISA, "01/30", "321", "ARMAN ALI"))
    assert VISA not in shown
    assert "321" not in shown
    assert "440563...5096" in shown


@given(st.text("0123456789", min_size=11, max_size=18))
def test_luhn_finds_every_single_wrong_digit(digits: str) -> None:
    number = digits + luhn_digit(digits)
    assert passes_luhn(number)
    for index, digit in enumerate(number):
        changed = number[:index] + str((int(digit) + 1) % 10) + number[index + 1 :]
        assert not passes_luhn(changed)


@given(st.text(max_size=30), st.text(max_size=10), st.text(max_size=6), st.text(max_size=60))
def test_nothing_typed_does_anything_but_parse_or_be_refused(number: str, expiry: str, cvc: str, name: str) -> None:
    try:
        card = parse_card(number, expiry, cvc, name)
    except InvalidCard:
        return
    assert passes_luhn(card.pan.reveal())
