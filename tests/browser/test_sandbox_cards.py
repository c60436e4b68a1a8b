"""The form's list of test cards: each does what its line says, at a press of its button."""

import pytest

from tests.browser.payer import Payer
from tests.browser.test_challenge import bank, type_code
from tolem.web.sandbox_cards import SANDBOX_CARDS


@pytest.mark.parametrize("card", SANDBOX_CARDS, ids=lambda card: f"{card.number}-{card.outcome}")
async def test_does_what_it_says(payer: Payer, card: tuple[str, str, str]) -> None:
    number, _, outcome = card
    await payer.buy()
    await payer.page.locator(".tests summary").click()
    await payer.page.locator(f"[data-number='{number}']").click()
    await payer.press_pay()
    if "123456" in outcome:
        await payer.sees("challenge")
        await type_code(bank(payer))
    await payer.sees("approved" if outcome.startswith("approved") else "declined", 60)
    end = "captured" if outcome.startswith("approved") else "declined"
    assert payer.demo.read_truth(payer.invoice_id).payments == [end]
