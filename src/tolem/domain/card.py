"""The payment card: number, expiry, security code, brand.

What is secret shows itself masked everywhere but by `reveal`. PAN and CVC exist in clear only in memory, inside Pan and
Cvc: their repr, str and format are masked, and they cannot be pickled or encoded as JSON.
Called by the checkout flow; connectors are the only ones that reveal.
"""

import re
import unicodedata
from collections.abc import Callable, Mapping
from datetime import date
from enum import StrEnum
from typing import NoReturn

import msgspec


class Brand(StrEnum):
    """Card scheme, by the first digits of the number."""

    VISA = "VISA"
    MASTERCARD = "MASTERCARD"
    AMEX = "AMEX"
    UNIONPAY = "UNIONPAY"
    MIR = "MIR"
    MAESTRO = "MAESTRO"
    ALTYN = "ALTYN"
    JCB = "JCB"
    DINERS = "DINERS"
    DISCOVER = "DISCOVER"


class BrandRule(msgspec.Struct, frozen=True):
    """What the cards of a brand look like."""

    brand: Brand
    name: str
    """As the scheme writes itself."""
    prefixes: tuple[tuple[int, int], ...]
    """Inclusive ranges of leading digits; both ends have the same number of digits."""
    lengths: tuple[int, ...]
    cvc_length: int = 3
    gaps: tuple[int, ...] = (4, 8, 12, 16)
    """After how many digits the printed number has a space."""


_LONG = (16, 17, 18, 19)
BRAND_RULES = (
    BrandRule(Brand.VISA, "Visa", ((4, 4),), (13, 16, 19)),
    BrandRule(Brand.MASTERCARD, "Mastercard", ((51, 55), (2221, 2720)), (16,)),
    BrandRule(Brand.AMEX, "American Express", ((34, 34), (37, 37)), (15,), 4, (4, 10)),
    BrandRule(Brand.UNIONPAY, "UnionPay", ((62, 62), (81, 81)), _LONG),
    BrandRule(Brand.MIR, "Мир", ((2200, 2204),), _LONG),
    # Local cards: 9 and the country's number in ISO 3166 (ISO/IEC 7812-1), which for Kazakhstan is 398.
    BrandRule(Brand.ALTYN, "AltyN", ((9398, 9398),), _LONG),
    BrandRule(Brand.JCB, "JCB", ((3528, 3589),), _LONG),
    BrandRule(Brand.DINERS, "Diners Club", ((300, 305), (3095, 3095), (36, 36), (38, 39)), (14, *_LONG), 3, (4, 10)),
    BrandRule(Brand.DISCOVER, "Discover", ((6011, 6011), (644, 649), (65, 65)), _LONG),
    BrandRule(Brand.MAESTRO, "Maestro", ((50, 50), (56, 58), (60, 61), (63, 69)), (12, 13, 14, 15, *_LONG)),
)
"""First match counts."""
BRAND_NAMES = {rule.brand: rule.name for rule in BRAND_RULES}


class _Secret:
    """Digits that never print themselves."""

    __slots__ = ("_digits",)

    def __init__(self, digits: str) -> None:
        self._digits = digits

    def reveal(self) -> str:
        """The digits in clear: for the connector's message and nothing else."""
        return self._digits

    @property
    def masked(self) -> str:
        """What may be shown."""
        return "***"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.masked})"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return repr(self)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, type(self)) and other._digits == self._digits

    def __hash__(self) -> int:
        return hash((type(self), self._digits))

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"{type(self).__name__} is never written anywhere")


class Pan(_Secret):
    """Primary account number, ISO/IEC 7812; digits only."""

    @property
    def bin(self) -> str:
        """The first six digits: whose card it is."""
        return self._digits[:6]

    @property
    def masked(self) -> str:
        """First six and last four digits: `440043...0128`."""
        return f"{self._digits[:6]}...{self._digits[-4:]}"

    @property
    def brand(self) -> Brand:
        """The scheme. Raises ValueError if there is none, which parse_card never lets through."""
        rule = find_brand_rule(self._digits)
        if rule is None:
            raise ValueError("no card scheme has such numbers")
        return rule.brand


class Cvc(_Secret):
    """Card verification code, 3 or 4 digits. Never stored."""


class Expiry(msgspec.Struct, frozen=True, order=True):
    """Last month in which the card is valid."""

    year: int
    """Four digits."""
    month: int
    """1–12."""

    def is_past(self, today: date) -> bool:
        """True once its month is over."""
        return (self.year, self.month) < (today.year, today.month)

    def __str__(self) -> str:
        return f"{self.month:02d}/{self.year % 100:02d}"


class TypedCard(msgspec.Struct, frozen=True):
    """What could be read of what a payer typed; None: a field that has to be mended. Lives in memory only."""

    pan: Pan | None
    expiry: Expiry | None
    cvc: Cvc | None


class Card(TypedCard, frozen=True):
    """What a payer typed, checked for form. Lives in memory only."""

    pan: Pan
    expiry: Expiry
    cvc: Cvc
    holder: str
    """Name as on the card; may be empty."""


# Spaces, dashes, and marks without width that come along when a number is copied out of a message.
_BETWEEN_DIGITS = re.compile(r"[\s\u00ad\u200b-\u200f\u2010-\u2015\u202a-\u202e\u2060-\u2069\ufeff-]")
_EXPIRY = re.compile(
    r"(?P<month>[0-9]{1,2}(?=[^0-9])|[0-9]{2})\s*[/\-\u2010-\u2015.]?\s*(?:20)?(?P<year>[0-9]{2})"
    r"|20(?P<year2>[0-9]{2})\s*[/\-\u2010-\u2015. ]\s*(?P<month2>[0-9]{1,2})",
    re.ASCII,
)
_AROUND_DATE = re.compile(r"^\D+|\D+$")  # `exp 12/27 г.`
_DATE_IN_TEXT = re.compile(r"\b[0-9]{1,2}\s?/\s?(?:20)?[0-9]{2}\b", re.ASCII)
_NUMBER_IN_TEXT = re.compile(r"[0-9]{12,}")


class CardProblem(StrEnum):
    """What is wrong with one field of the card form; the page has a text for each, in every language."""

    NUMBER_MISSING = "number_missing"
    NUMBER_LETTERS = "number_letters"  # something that is no digit, space or dash
    NUMBER_SHORT = "number_short"
    NUMBER_LONG = "number_long"
    NUMBER_CHECK = "number_check"  # Luhn digit does not fit
    NUMBER_BRAND = "number_brand"  # no scheme that is accepted here
    NUMBER_GONE = "number_gone"  # a saved card that was removed or has expired meanwhile
    NUMBER_NOT_SANDBOX = "number_not_sandbox"  # a sandbox takes only the cards of its table
    EXPIRY_MISSING = "expiry_missing"
    EXPIRY_FORMAT = "expiry_format"
    EXPIRY_PAST = "expiry_past"
    CVC_MISSING = "cvc_missing"
    CVC_FORMAT = "cvc_format"  # not 3 or 4 digits, and the brand is not known
    CVC_LENGTH_3 = "cvc_length_3"  # not the brand's 3 digits
    CVC_LENGTH_4 = "cvc_length_4"
    NAME_MISSING = "name_missing"
    NAME_FORMAT = "name_format"


class CardField(StrEnum):
    """Fields of the card form; the values are the HTML autocomplete tokens, a stable contract."""

    NUMBER = "cc-number"
    EXPIRY = "cc-exp"
    CVC = "cc-csc"
    NAME = "cc-name"


class InvalidCard(ValueError):
    """What was typed is no card: one problem for each culprit field. Never holds what was typed."""

    def __init__(self, problems: Mapping[CardField, CardProblem]) -> None:
        super().__init__(", ".join(problems.values()))
        self.problems = dict(problems)


def passes_luhn(digits: str) -> bool:
    """The check digit of ISO/IEC 7812-1 annex B fits."""
    total = sum(ord(c) - 48 for c in digits[-1::-2])
    return (total + sum((0, 2, 4, 6, 8, 1, 3, 5, 7, 9)[ord(c) - 48] for c in digits[-2::-2])) % 10 == 0


def luhn_digit(digits: str) -> str:
    """The digit that completes `digits` to a number that passes."""
    return next(str(d) for d in range(10) if passes_luhn(digits + str(d)))


def find_brand_rule(digits: str) -> BrandRule | None:
    """The brand whose numbers begin like `digits`, None if there is none."""
    for rule in BRAND_RULES:
        for low, high in rule.prefixes:
            width = len(str(low))
            if len(digits) >= width and low <= int(digits[:width]) <= high:
                return rule
    return None


def clean_number(typed: str) -> str:
    """A typed number without what stands between its digits. Of a text, as it is copied out of a message, the one
    number in it that can be a card's: `Card: 4405 6397 0401 5096 exp 12/30`."""
    text = _plain(typed)
    digits = _BETWEEN_DIGITS.sub("", text)
    if digits.isdigit():
        return digits
    match _NUMBER_IN_TEXT.findall(_BETWEEN_DIGITS.sub("", _DATE_IN_TEXT.sub("/", text, count=1))):
        case [number] if not _number_problem(number, find_brand_rule(number)):
            return str(number)
    return digits


CardCheck = Callable[[TypedCard], Mapping[CardField, CardProblem]]


def parse_card(number: str, expiry: str, cvc: str, holder: str, *, check: CardCheck = lambda card: {}) -> Card:
    """The four fields as typed → a Card. Raises InvalidCard with every problem at once.

    Whether the card has expired or is welcome is no question of form: `check` says it (`Acquirer.check`), of the fields
    that could be read.
    """
    problems: dict[CardField, CardProblem] = {}
    expiry, cvc, holder = _plain(expiry), _plain(cvc), _plain(holder)
    digits = clean_number(number)
    rule = find_brand_rule(digits) if digits.isascii() and digits.isdigit() else None
    if problem := _number_problem(digits, rule):
        problems[CardField.NUMBER] = problem
    parsed_expiry = _parse_expiry(expiry)
    if parsed_expiry is None:
        missing = not expiry.strip()
        problems[CardField.EXPIRY] = CardProblem.EXPIRY_MISSING if missing else CardProblem.EXPIRY_FORMAT
    code = cvc.strip()
    if problem := _cvc_problem(code, rule):
        problems[CardField.CVC] = problem
    name = " ".join(holder.split())
    if problem := _name_problem(name):
        problems[CardField.NAME] = problem
    pan = None if CardField.NUMBER in problems else Pan(digits)
    read = TypedCard(pan, parsed_expiry, None if CardField.CVC in problems else Cvc(code))
    problems |= check(read)
    if problems or parsed_expiry is None:
        raise InvalidCard(problems)
    return Card(Pan(digits), parsed_expiry, Cvc(code), name)


def parse_cvc(text: str, brand: Brand) -> Cvc:
    """The code that a payer types for a saved card. Raises InvalidCard."""
    code = _plain(text).strip()
    rule = next(rule for rule in BRAND_RULES if rule.brand is brand)
    if problem := _cvc_problem(code, rule):
        raise InvalidCard({CardField.CVC: problem})
    return Cvc(code)


def _plain(typed: str) -> str:
    """Full-width digits and letters, as keyboards of East Asia have them, → the usual ones."""
    return unicodedata.normalize("NFKC", typed)


def _number_problem(digits: str, rule: BrandRule | None) -> CardProblem | None:
    if not digits:
        return CardProblem.NUMBER_MISSING
    if not (digits.isascii() and digits.isdigit()):
        return CardProblem.NUMBER_LETTERS
    if len(digits) > 19 or (rule and len(digits) > max(rule.lengths)):
        return CardProblem.NUMBER_LONG
    if len(digits) < 12 or (rule and len(digits) not in rule.lengths):
        return CardProblem.NUMBER_SHORT
    if not passes_luhn(digits):
        return CardProblem.NUMBER_CHECK
    return CardProblem.NUMBER_BRAND if rule is None else None


def _parse_expiry(text: str) -> Expiry | None:
    """`01/27`, `1/27`, `01/2027`, `0127`, `012027`, `2027-01`, with spaces, dots or dashes as people type them, and
    words around. Not `127`: three digits in this field may be the security code."""
    match = _EXPIRY.fullmatch(_AROUND_DATE.sub("", text))
    if match is None:
        return None
    month = int(match["month"] or match["month2"])
    year = 2000 + int(match["year"] or match["year2"])
    return Expiry(year, month) if 1 <= month <= 12 else None


def _cvc_problem(code: str, rule: BrandRule | None) -> CardProblem | None:
    if not code:
        return CardProblem.CVC_MISSING
    if code.isascii() and code.isdigit() and len(code) in ((rule.cvc_length,) if rule else (3, 4)):
        return None
    if rule is None:
        return CardProblem.CVC_FORMAT
    return CardProblem.CVC_LENGTH_4 if rule.cvc_length == 4 else CardProblem.CVC_LENGTH_3


def _name_problem(name: str) -> CardProblem | None:
    """Latin letters as embossed (ISO/IEC 7813: at most 26 characters; some issuers print up to 45)."""
    if not name:
        return CardProblem.NAME_MISSING
    if len(name) > 45 or not re.fullmatch(r"[A-Za-z][A-Za-z .'\-/]*", name, re.ASCII):
        return CardProblem.NAME_FORMAT
    return None
