"""The bank's spellings of closed sets of names: languages and card schemes (docs/protocol.md §5).

Called where something is told to a shop. What a shop may write in a pay object is wire/pay_object.py's.
"""

from tolem.domain.card import Brand

LANGUAGES = {"ru": "RUS", "kk": "KAZ", "en": "ENG"}

LANGUAGE_UNSAID = "RUS"
"""The bank's page is Russian unless it is asked for something else."""

BRANDS = {
    Brand.VISA: "VISA",
    Brand.MASTERCARD: "MasterCard",
    Brand.AMEX: "AMEX",
    Brand.UNIONPAY: "UNIONPAY",
    Brand.MIR: "MIR",
    Brand.MAESTRO: "MAESTRO",
    Brand.ALTYN: "ALTYN",
    Brand.JCB: "JCB",
    Brand.DINERS: "DINERS",
    Brand.DISCOVER: "DISCOVER",
}
"""`VISA` is the documentation's, `MasterCard` was seen in shops' logs, the others are tolem's choice."""


def render_language(language: str) -> str:
    """`ru`, `kk`, `en` or empty → `RUS`, `KAZ`, `ENG`."""
    return LANGUAGES.get(language, LANGUAGE_UNSAID)


def render_brand(brand: Brand) -> str:
    """A card scheme → `cardType`."""
    return BRANDS[brand]
