"""Turns the shop's records into its pages: templates with the words, prices and pictures they need.

Called by the app. Invariant: everything that came from outside is escaped, in HTML and in the pay object's JSON.
"""

import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from functools import partial

import jinja2
from starlette.requests import Request
from starlette.responses import HTMLResponse

from tolem.merchant import Token, build_pay_object, script_url
from tolem.merchant.order import OrderRequest
from tolem.shop.config import ShopConfig
from tolem.shop.goods import find_good
from tolem.shop.orders import ShopOrder, ToldOperation, find_standing
from tolem.shop.texts import (
    LANGUAGE_NAMES,
    LANGUAGES,
    MAYBE_HELD,
    TEXTS,
    choose_language,
    explain,
    render_price,
    render_time,
    translate,
)

NOTIFICATION_PATH = "/notifications/epay"


class Pages:
    """The templates, loaded."""

    def __init__(self, config: ShopConfig) -> None:
        self._config = config
        self._templates = jinja2.Environment(
            loader=jinja2.PackageLoader("tolem.shop"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.policies["json.dumps_kwargs"] = {"ensure_ascii": False}
        self._templates.filters |= {"price": render_price, "time": render_time, "pretty": render_pretty}

    def render(
        self,
        template: str,
        request: Request,
        values: Mapping[str, object],
        *,
        language: str = "",
        status: int = 200,
    ) -> HTMLResponse:
        """One page; language: used where the address has no ?lang, empty: the browser's."""
        asked = request.query_params.get("lang")
        if asked not in LANGUAGES:
            asked = language
        chosen = choose_language(asked, request.headers.get("accept-language", ""))
        words = {name: translate(pair, chosen) for name, pair in TEXTS.items()}
        page = self._templates.get_template(template).render(
            t=words.__getitem__,
            tr=partial(translate, language=chosen),
            explain=partial(explain, language=chosen),
            language=chosen,
            languages=[(code, name) for code, name in LANGUAGE_NAMES.items() if code != chosen],
            # A link that keeps the language only where the visitor chose it by hand.
            lang_query=f"?lang={chosen}" if request.query_params.get("lang") in LANGUAGES else "",
            path=request.url.path,
            gateway_url=self._config.gateway_url,
            **values,
        )
        # Orders change, and their pages carry a token: never out of a cache.
        return HTMLResponse(page, status, headers={"Cache-Control": "no-store", "Vary": "Accept-Language"})

    def order_values(self, order: ShopOrder, operations: Sequence[ToldOperation] = ()) -> dict[str, object]:
        """What the order's templates need, the pay object too if the order has a token."""
        return {
            "order": order,
            "standing": find_standing(order, operations),
            "operations": operations,
            "good": find_good(order.good),
            "maybe_held": order.reason_code in MAYBE_HELD,
            "pay_object": self._build_pay_object(order) if order.access_token else None,
            "script_url": script_url(self._config.gateway_url),
            "notification_url": self._config.link(NOTIFICATION_PATH),
        }

    def _build_pay_object(self, order: ShopOrder) -> dict[str, object]:
        good = find_good(order.good)
        token = Token(
            access_token=order.access_token,
            terminal_id=self._config.terminal_id,
            expires_in=order.token_seconds,
        )
        return build_pay_object(
            build_order_request(order, self._config),
            token,
            back_link=self._config.link(f"/orders/{order.invoice_id}/return"),
            language=order.language,
            description=translate(good.name, order.language) if good else order.good,
            card_save=True,
        )


def build_order_request(order: ShopOrder, config: ShopConfig) -> OrderRequest:
    """The order as the gateway is told about it."""
    return OrderRequest(
        invoice_id=order.invoice_id,
        amount=order.amount,
        currency=order.currency,
        secret_hash=order.secret_hash,
        post_link=config.link(NOTIFICATION_PATH),
        account_id=order.account_id,
    )


def render_pretty(payload: Mapping[str, object]) -> str:
    """A JSON object, a field a line; a Decimal as the number it came as."""
    lines = [f"  {json.dumps(name, ensure_ascii=False)}: {_json(value)}" for name, value in payload.items()]
    return "{\n" + ",\n".join(lines) + "\n}"


def _json(value: object) -> str:
    if isinstance(value, Decimal):
        return str(value)
    return json.dumps(value, ensure_ascii=False, default=str)
