"""The object that a shop's page gives to `halyk.pay()`, and where that library is (docs/protocol.md §4).

Built on the shop's server from the order and its token, handed to the page as JSON. Invariant: it holds only what a
browser may see: the secret_hash and the client's secret are never in it.
"""

from tolem.merchant.order import OrderRequest, Token

DESCRIPTION_BYTES_MAX = 125

_LANGUAGES = {"ru": "rus", "kk": "kaz", "en": "eng"}


def build_pay_object(
    order: OrderRequest,
    token: Token,
    back_link: str,
    failure_back_link: str = "",
    language: str = "ru",
    description: str = "",
    *,
    phone: str = "",
    email: str = "",
    name: str = "",
    data: str = "",
    auto_back_link: bool = False,
    card_save: bool = False,
) -> dict[str, object]:
    """Everything `halyk.pay()` needs, ready for json.dumps: a whole amount is an int, another one is decimal text.

    back_link, failure_back_link: where the browser returns, http or https; an empty failure_back_link is back_link.
    Returning proves nothing: the page behind them asks the shop's own records. language: `ru`, `kk` or `en`.
    description: what the payer sees, at most 125 bytes of UTF-8 (62 Cyrillic letters). phone: `77777777777`. name:
    Latin letters, as on a card. data: the shop's own text, given back in the notification. auto_back_link: return
    without a click. card_save: offer to save the card (needs the order's account_id).
    Raises ValueError for a language, link or description that the page would refuse.
    """
    if language not in _LANGUAGES:
        raise ValueError(f"language {language!r} is not one of {', '.join(_LANGUAGES)}")
    if len(description.encode()) > DESCRIPTION_BYTES_MAX:
        raise ValueError(
            f"description has {len(description.encode())} bytes of UTF-8, at most {DESCRIPTION_BYTES_MAX} fit"
        )
    for link in (back_link, failure_back_link or back_link):
        if not link.startswith(("http://", "https://")):
            raise ValueError(f"{link[:64]!r} is no link to return to: it starts with neither http:// nor https://")
    amount = order.amount_text
    built: dict[str, object] = {
        "invoiceId": order.invoice_id,
        "backLink": back_link,
        "failureBackLink": failure_back_link or back_link,
        "postLink": order.post_link,
        "failurePostLink": order.failure_post_link,
        "language": _LANGUAGES[language],
        "description": description,
        "accountId": order.account_id,
        "terminal": token.terminal_id,
        "amount": int(amount) if amount.isdecimal() else amount,
        "currency": order.currency,
    }
    optional: dict[str, object] = {"phone": phone, "email": email, "name": name, "data": data}
    optional |= {"autoBackLink": auto_back_link, "cardSave": card_save}
    built |= {field: value for field, value in optional.items() if value}
    built["auth"] = token.as_auth()
    return built


def script_url(base_url: str) -> str:
    """The address of the library with `halyk.pay()`, for the page's <script src>; base_url as the browser sees it."""
    return f"{base_url.rstrip('/')}/payform/payment-api.js"
