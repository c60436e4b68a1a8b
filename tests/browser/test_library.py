"""payment-api.js in pages of other shops: of another origin, under a policy, in an old encoding; and its old copies.

The library and the page come from the gateway that the demo started.
"""

import json
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from playwright.async_api import Request

from tests.browser.demo import PAID_ONCE
from tests.browser.other_shop import OtherShop
from tests.browser.payer import Payer
from tests.wire.test_lzstring import compress, utf16_units


async def open_shop(
    payer: Payer,
    shop: OtherShop,
    wish: dict[str, Any],
    headers: dict[str, str] | None = None,
    *,
    in_head: bool = False,
    head: str = "",
) -> None:
    """Opens the other shop's page, which calls halyk.pay() twice on a click, or while its head is read."""
    call = f"halyk.pay({json.dumps(wish, ensure_ascii=False)});" * 2
    library = f'<script src="{payer.demo.url}/payform/payment-api.js"></script>'
    if in_head:
        shop.page = f"<!doctype html><head>{head}{library}<script>{call}</script>"
    else:
        shop.page = (
            f"<!doctype html><head>{head}</head><body>{library}<button>pay</button>"
            f"<script>document.querySelector('button').onclick = () => {{ {call} }};</script>"
        )
    shop.headers = headers or {}
    payer.witness.leave_out(shop.url)
    await payer.page.goto(f"{shop.url}/checkout", wait_until="commit")
    if not in_head:
        await payer.page.locator("button").click()


def payform_requests(requests: list[Request]) -> list[Request]:
    """What reached the address that pay objects go to."""
    return [request for request in requests if urlsplit(request.url).path == "/payform/"]


async def order_elsewhere(payer: Payer) -> dict[str, Any]:
    """An order whose token the shop of this module uses; its links are the demo shop's."""
    await payer.order()
    return await payer.pay_object() | {"description": "Чай «Утро»"}


@pytest.mark.parametrize(
    ("policies", "in_head"),
    (
        ({}, False),
        ({}, True),
        ({"content-security-policy-report-only": "form-action 'none'"}, False),
        ({"content-security-policy": "form-action {gateway}/payform/"}, False),
    ),
    ids=("none", "none-in-head", "report-only", "path"),
)
async def test_object_is_posted(payer: Payer, other_shop: OtherShop, policies: dict[str, str], in_head: bool) -> None:
    wish = await order_elsewhere(payer)
    headers = {name: policy.format(gateway=payer.demo.url) for name, policy in policies.items()}
    await open_shop(payer, other_shop, wish, headers, in_head=in_head, head='<base target="_blank">')
    await payer.sees("form")
    assert await payer.page.locator("main").get_by_text("Чай «Утро»").count() == 1
    (request,) = payform_requests(payer.witness.requests)
    assert (request.method, urlsplit(request.url).query) == ("POST", "")
    if "content-security-policy-report-only" in headers:
        payer.witness.forgive("report-only", is_certain=False)


@pytest.mark.parametrize(
    ("policy", "in_head"),
    (
        ("form-action 'self'", False),
        ("form-action 'self'", True),
        ("form-action 'none'", False),
        ("form-action 'none', form-action 'self'", False),
    ),
    ids=("self", "self-in-head", "none", "two-policies"),
)
async def test_object_goes_into_the_address_where_a_policy_blocks_the_form(
    payer: Payer, other_shop: OtherShop, policy: str, in_head: bool
) -> None:
    wish = await order_elsewhere(payer)
    await open_shop(payer, other_shop, wish, {"content-security-policy": policy}, in_head=in_head)
    await payer.sees("form")
    assert await payer.page.locator("main").get_by_text("Чай «Утро»").count() == 1
    (request,) = payform_requests(payer.witness.requests)
    assert (request.method, urlsplit(request.url).query.partition("=")[0]) == ("GET", "params")
    assert urlsplit(payer.page.url).query == "", "the page's own address carries nothing"
    payer.witness.forgive("form-action")


async def test_back_from_the_page_and_again(payer: Payer, other_shop: OtherShop) -> None:
    wish = await order_elsewhere(payer)
    await open_shop(payer, other_shop, wish, {"content-security-policy": "form-action 'self'"})
    await payer.sees("form")
    await payer.page.go_back()
    await payer.page.locator("button").click()
    await payer.sees("form")
    await payer.pay()
    await payer.sees("approved")
    await payer.sees_truth(PAID_ONCE)
    payer.witness.forgive("form-action")


async def test_address_of_an_old_copy(payer: Payer) -> None:
    """The bank's encoding, made here: key=value&…, each value URI-encoded, `auth` inside its value, then LZString."""
    wish = await order_elsewhere(payer)
    params = compress(utf16_units(encode(wish)))
    await payer.page.goto(f"{payer.demo.url}/payform/?params={params}&oid={wish['invoiceId']}")
    await payer.sees("form")
    assert urlsplit(payer.page.url).query == ""
    await payer.pay()
    await payer.sees("approved")
    await payer.return_to_shop()
    await payer.sees_order("paid")
    await payer.sees_truth(PAID_ONCE)


def encode(value: object) -> str:
    """As the bank's library writes a value into its address."""
    if isinstance(value, dict):
        return "&".join(f"{key}={quote(encode(item), safe='')}" for key, item in value.items())
    return "" if value is None else str(value)
