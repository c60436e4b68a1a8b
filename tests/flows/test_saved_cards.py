"""Saved cards on both databases: saved with a payment, listed, paid with, renewed, removed; and what leaves nothing."""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from msgspec.structs import replace

from tests.customer import ACCOUNT, Customer
from tests.flows.test_payment import history_of, sandbox_card
from tests.gateway import (
    APPROVED_CARD,
    LOCKED_CARD,
    ORIGIN,
    build_config,
    eventually,
    running_gateway,
    running_shop,
)
from tests.issuer import CHALLENGED_CARD, CODE, Issuer
from tests.merchant_api import assert_error, service, stranger
from tolem.bootstrap import Gateway, open_gateway
from tolem.clock import SystemClock
from tolem.config import InvalidConfig
from tolem.domain.key import ServerKey, render_server_key
from tolem.domain.saved_card import CardConsent, SavedCard
from tolem.flows.card_keys import CardKeeper
from tolem.sandbox.fixtures import TERMINAL_ID
from tolem.storage import keys, saved_cards
from tolem.storage.sealing import CannotOpen, Sealer, load_sealer
from tolem.storage.store import Store
from tolem.storage.vault import Vault


class MovedClock(SystemClock):
    """Business time that a test moves."""

    ahead = timedelta()

    def now(self) -> datetime:
        """Real time and what was added."""
        return super().now() + self.ahead


@pytest.fixture
async def gateway(database_url: str) -> AsyncIterator[Gateway]:
    async with running_gateway(database_url) as gateway:
        yield gateway


@pytest.fixture
def customer(gateway: Gateway) -> Customer:
    return Customer(gateway.app)


async def cards_of(gateway: Gateway, account: str = ACCOUNT) -> list[SavedCard]:
    merchant = await gateway.store.find(keys.merchant_by_client("test"))
    assert merchant is not None
    return await saved_cards.list_cards(gateway.store, merchant.id, account, 100)


async def consent_of(store: Store, gateway: Gateway, invoice: str) -> CardConsent | None:
    payment = (await history_of(gateway, invoice)).last_payment()
    assert payment is not None
    return await store.find(keys.card_consent_of(payment.id))


async def list_cards(gateway: Gateway, account: str = ACCOUNT) -> Any:
    return await (await service(gateway.app)).get(f"/cards/{account}")


# Saving ---------------------------------------------------------------------------------------------------------------


async def test_a_card_is_saved_with_a_payment_and_the_shop_is_told_its_id(database_url: str) -> None:
    async with running_shop() as shop, running_gateway(database_url) as gateway:
        customer = Customer(gateway.app, shop.url)
        card_id = await customer.save("100000001")
        (told,) = await shop.wait(1)
        assert told["cardId"] == str(card_id)
        (card,) = await cards_of(gateway)
        payment = (await history_of(gateway, "100000001")).successful_payment()
        assert payment is not None
        assert (card.id, card.payment_id, card.rrn) == (card_id, payment.id, payment.rrn)
        assert (card.masked_pan, str(card.expiry), card.holder) == ("440563...5096", "12/30", "ARMAN ALI")
        consent = await consent_of(gateway.store, gateway, "100000001")
        assert consent is not None
        assert consent.sealed is None


async def test_a_verification_saves_a_card_and_takes_nothing(customer: Customer, gateway: Gateway) -> None:
    card_id = await customer.save("100000001", amount=0, paymentType="cardVerification")
    assert [card.id for card in await cards_of(gateway)] == [card_id]
    payment = (await history_of(gateway, "100000001")).successful_payment()
    assert payment is not None
    assert payment.captured == payment.authorized == 0


@pytest.mark.parametrize(
    ("vouched", "wish", "fields"),
    (
        (True, {}, {}),  # no consent
        (True, {"cardSave": False}, {"save_card": "yes"}),  # the shop did not ask for it
        (False, {}, {"save_card": "yes"}),  # nobody vouches for the account
        (True, {}, {"save_card": "no"}),
    ),
)
async def test_nothing_is_saved_unless_shop_and_payer_wish_it(
    customer: Customer, gateway: Gateway, vouched: bool, wish: dict[str, Any], fields: dict[str, str]
) -> None:
    path = await customer.begin("100000001", vouched=vouched, **wish)
    assert (await customer.pay(path, **fields)).state == "approved"
    assert await cards_of(gateway) == []
    assert await consent_of(gateway.store, gateway, "100000001") is None


async def test_a_declined_card_leaves_no_number(customer: Customer, gateway: Gateway) -> None:
    path = await customer.begin("100000001")
    assert (await customer.pay(path, LOCKED_CARD, save_card="yes")).state == "declined"
    assert await cards_of(gateway) == []
    consent = await consent_of(gateway.store, gateway, "100000001")
    assert consent is not None
    assert (consent.sealed, consent.holder) == (None, "")
    left = await gateway.store.find(keys.saved_card_by_id(consent.card_id))
    assert left is not None
    assert (left.sealed, left.holder) == (None, "")
    assert_error(await list_cards(gateway), 404, "no saved cards", 1373)


async def test_a_card_is_saved_after_a_challenge(customer: Customer, gateway: Gateway) -> None:
    issuer = Issuer(customer)
    path = await customer.begin("100000001")
    page = await issuer.start(path, CHALLENGED_CARD, save_card="yes")
    assert page.state == "challenge"
    assert await cards_of(gateway) == []
    await issuer.finish(page, CODE)
    (card,) = await cards_of(gateway)
    assert card.id == await customer.card_of("100000001")


async def test_a_challenge_that_fails_saves_nothing(customer: Customer, gateway: Gateway) -> None:
    issuer = Issuer(customer)
    path = await customer.begin("100000001")
    page = await issuer.start(path, CHALLENGED_CARD, save_card="yes")
    await issuer.finish(page, "000000")

    async def is_settled() -> bool:
        consent = await consent_of(gateway.store, gateway, "100000001")
        return consent is not None and consent.sealed is None

    await eventually(is_settled)
    assert await cards_of(gateway) == []


async def test_the_worker_saves_the_card_of_a_payment_that_recovery_found_approved(database_url: str) -> None:
    async with running_gateway(database_url) as gateway:
        customer = Customer(gateway.app)
        path = await customer.begin("100000001")
        page = await customer.pay(path, sandbox_card(line="2"), save_card="yes")  # approved, the answer is lost
        outcome = page.state

        async def is_settled() -> bool:
            consent = await consent_of(gateway.store, gateway, "100000001")
            return consent is not None and consent.sealed is None

        await eventually(is_settled)
        assert len(await cards_of(gateway)) == (outcome == "approved")


async def test_one_card_has_one_record_and_is_renewed(customer: Customer, gateway: Gateway) -> None:
    first = await customer.save("100000001", expiry="11/29")
    assert await customer.save("100000002", "4405 6397 0401 5096", expiry="12/31") == first
    (card,) = await cards_of(gateway)
    assert str(card.expiry) == "12/31"
    # A wrong date that was declined renews nothing.
    path = await customer.begin("100000003")
    await customer.pay(path, LOCKED_CARD, save_card="yes")
    (card,) = await cards_of(gateway)
    assert (card.id, str(card.expiry)) == (first, "12/31")


async def test_one_card_of_two_customers_is_two_cards(gateway: Gateway, customer: Customer) -> None:
    other = Customer(gateway.app, account="customer-2")
    assert await customer.save("100000001") != await other.save("100000002")
    (mine,), (others,) = await cards_of(gateway), await cards_of(gateway, "customer-2")
    assert mine.fingerprint != others.fingerprint


# Paying ---------------------------------------------------------------------------------------------------------------


async def test_a_saved_card_pays_with_its_code_only(customer: Customer, gateway: Gateway) -> None:
    card_id = await customer.save("100000001")
    path = await customer.begin("100000002", cardSave=False)
    assert (await customer.choose(path, card_id)).state == "approved"
    assert await customer.card_of("100000002") == card_id
    payment = (await history_of(gateway, "100000002")).successful_payment()
    assert payment is not None
    assert (payment.masked_pan, payment.holder, payment.saves_card) == ("440563...5096", "ARMAN ALI", False)


async def test_a_saved_card_is_challenged_as_any_other(customer: Customer) -> None:
    issuer = Issuer(customer)
    await issuer.finish(await issuer.start(await customer.begin("100000001"), save_card="yes"), CODE)
    card_id = await customer.card_of("100000001")
    path = await customer.begin("100000002")
    page = await issuer.start(path, "", cc_exp="", cc_name="", saved_card=str(card_id))
    assert page.state == "challenge"
    await issuer.finish(page, CODE)
    assert (await customer.get(path)).state == "approved"


@pytest.mark.parametrize("cvc", ("", "12", "1234", "abc"))
async def test_a_saved_card_needs_its_code(customer: Customer, cvc: str) -> None:
    card_id = await customer.save("100000001")
    path = await customer.begin("100000002")
    page = await customer.choose(path, card_id, cvc)
    assert page.status == 422
    assert 'id="cc-csc-error"' in page.text
    assert (await customer.get(path)).state == "form"


@pytest.mark.parametrize("card", ("nobodys", "", "no-uuid"))
async def test_a_card_that_is_not_the_payers_pays_nothing(gateway: Gateway, customer: Customer, card: str) -> None:
    others = await Customer(gateway.app, account="customer-2").save("100000001")
    chosen = {"nobodys": str(uuid4()), "": str(others)}.get(card, card)
    path = await customer.begin("100000002")
    assert (await customer.choose(path, chosen)).status == 422
    assert (await history_of(gateway, "100000002")).payments == {}


async def test_the_account_of_the_pay_object_alone_opens_no_card(customer: Customer, gateway: Gateway) -> None:
    card_id = await customer.save("100000001")
    path = await customer.begin("100000002", vouched=False)
    assert (await customer.choose(path, card_id)).status == 422
    assert (await history_of(gateway, "100000002")).payments == {}


async def test_an_account_that_differs_from_the_tokens_is_refused(customer: Customer) -> None:
    token = await customer.token("100000001", accountId=ACCOUNT)
    answer = await customer.open(token, "100000001", accountId="customer-2", cardSave=True)
    assert answer.status == 400
    assert "accountId" in answer.text


async def test_a_page_of_one_customer_shows_no_card_of_the_next(customer: Customer, gateway: Gateway) -> None:
    other = Customer(gateway.app, account="customer-2")
    card_id = await other.save("100000001")
    path = await customer.begin("100000002")
    await other.begin("100000002")
    assert (await customer.choose(path, card_id)).status == 404
    assert (await history_of(gateway, "100000002")).payments == {}


async def test_an_expired_card_is_listed_and_not_offered(database_url: str) -> None:
    clock = MovedClock()
    async with running_gateway(database_url, clock=clock) as gateway:
        customer = Customer(gateway.app)
        card_id = await customer.save("100000001", expiry="12/30")
        clock.ahead = timedelta(days=365 * 8)
        path = await customer.begin("100000002")
        assert (await customer.choose(path, card_id)).status == 422
        assert [card["PaymentAvailable"] for card in (await list_cards(gateway)).json()] == [False]


# The shop's API -------------------------------------------------------------------------------------------------------


async def test_the_shop_lists_its_customers_cards(customer: Customer, gateway: Gateway) -> None:
    card_id = await customer.save("100000001")
    answer = await list_cards(gateway)
    assert answer.status == 200
    (told,) = answer.json()
    assert list(told) == [
        "ID", "TransactionId", "MerchantID", "CardHash", "CardMask", "PayerName", "Reference", "IntReference", "Token",
        "Terminal", "CreatedDate", "PaymentAvailable", "AccountID",
    ]  # fmt: skip
    payment = (await history_of(gateway, "100000001")).successful_payment()
    assert payment is not None
    assert (told["ID"], told["TransactionId"], told["Reference"]) == (str(card_id), str(payment.id), payment.rrn)
    assert (told["CardMask"], told["PayerName"], told["AccountID"]) == ("440563...5096", "ARMAN ALI", ACCOUNT)
    assert (told["Terminal"], told["PaymentAvailable"]) == (str(TERMINAL_ID), True)
    assert APPROVED_CARD not in answer.text


async def test_accounts_may_have_any_characters(gateway: Gateway) -> None:
    customer = Customer(gateway.app, account="клиент/7 a@b.kz")
    await customer.save("100000001")
    answer = await list_cards(gateway, "клиент/7 a@b.kz")
    assert [card["AccountID"] for card in answer.json()] == ["клиент/7 a@b.kz"]


async def test_the_shop_deactivates_a_card(customer: Customer, gateway: Gateway) -> None:
    card_id = await customer.save("100000001")
    shop = await service(gateway.app)
    answer = await shop.post(f"/card/deactivate/{card_id}")
    assert (answer.status, answer.json()) == (200, {"code": 0, "message": ""})
    assert_error(await shop.post(f"/card/deactivate/{card_id}"), 404, "no such saved card")
    assert_error(await shop.get(f"/cards/{ACCOUNT}"), 404, "no saved cards", 1373)
    left = await gateway.store.find(keys.saved_card_by_id(card_id))
    assert left is not None
    assert (left.sealed, left.key_id, left.holder) == (None, None, "")
    path = await customer.begin("100000002")
    assert (await customer.choose(path, card_id)).status == 422
    assert await customer.save("100000003") == card_id  # the same card keeps its id


async def test_another_merchant_finds_nothing(customer: Customer, gateway: Gateway) -> None:
    card_id = await customer.save("100000001")
    other = await stranger(gateway)
    assert_error(await other.get(f"/cards/{ACCOUNT}"), 404, "no saved cards", 1373)
    assert_error(await other.post(f"/card/deactivate/{card_id}"), 404, "no such saved card")
    assert len(await cards_of(gateway)) == 1


async def test_the_token_of_an_order_neither_lists_nor_deactivates(customer: Customer, gateway: Gateway) -> None:
    card_id = await customer.save("100000001")
    token = (await customer.token("100000002", accountId=ACCOUNT))["access_token"]
    headers = {"authorization": f"Bearer {token}"}
    assert_error(await customer.call("GET", f"/cards/{ACCOUNT}", headers=headers), 403, "one order's payment page")
    answer = await customer.call("POST", f"/card/deactivate/{card_id}", headers=headers)
    assert_error(answer, 403, "one order's payment page")
    assert len(await cards_of(gateway)) == 1


async def test_bad_calls_are_told_what_to_change(gateway: Gateway) -> None:
    shop = await service(gateway.app)
    assert_error(await shop.post("/api/card/deactivate/7"), 400, "must be a UUID")
    assert_error(await shop.get("/card/deactivate/7"), 405, "use POST")
    assert_error(await shop.post(f"/cards/{ACCOUNT}"), 405, "use GET")
    assert_error(await shop.get("/api/cards/" + "x" * 256), 400, "1 to 255")
    shop.headers = {}
    assert_error(await shop.get(f"/api/cards/{ACCOUNT}"), 401, "access token")
    assert_error(await shop.post(f"/card/deactivate/{uuid4()}"), 401, "access token")


# Removal, purge -------------------------------------------------------------------------------------------------------


async def test_what_is_left_of_removed_cards_is_purged(database_url: str) -> None:
    clock = MovedClock()
    async with running_gateway(database_url, clock=clock) as gateway:
        customer = Customer(gateway.app)
        card_id: UUID = await customer.save("100000001")
        kept = await customer.save("100000002", "5522042705066736")
        await (await service(gateway.app)).post(f"/card/deactivate/{card_id}")
        early = await saved_cards.purge_cards(gateway.store, before=clock.now() - timedelta(days=1), limit=10)
        assert early == 0
        later = clock.now() + timedelta(minutes=1)
        assert await saved_cards.purge_cards(gateway.store, before=later, limit=10) == 3  # the card and two consents
        assert await gateway.store.find(keys.saved_card_by_id(card_id)) is None
        assert [card.id for card in await cards_of(gateway)] == [kept]
        assert await customer.save("100000003") != card_id


async def test_an_attempt_that_outlives_the_record_of_its_card_saves_it_all_the_same(database_url: str) -> None:
    async with running_gateway(database_url) as gateway:
        customer, issuer = Customer(gateway.app), Issuer(Customer(gateway.app))
        page = await issuer.start(await customer.begin("100000001"), save_card="yes")
        later = SystemClock().now() + timedelta(minutes=1)
        assert await saved_cards.purge_cards(gateway.store, before=later, limit=10) == 1
        await issuer.finish(page, CODE)
        (card,) = await cards_of(gateway)
        assert card.id == await customer.card_of("100000001")


# Server keys ----------------------------------------------------------------------------------------------------------

OLD_KEY, NEW_KEY = ServerKey(b"o" * 32), ServerKey(b"n" * 32)


async def test_server_keys_are_replaced_under_saved_cards(database_url: str) -> None:
    old, new = render_server_key(OLD_KEY), render_server_key(NEW_KEY)
    async with running_gateway(database_url, server_key=old) as gateway:
        card_id = await Customer(gateway.app).save("100000001")
    with pytest.raises(InvalidConfig, match=f"saved cards are sealed .* {OLD_KEY.id}: add it to server_key"):
        await open_gateway(build_config(database_url, server_key=new))
    async with running_gateway(database_url, server_key=f"{new} {old}") as gateway:
        customer = Customer(gateway.app)
        path = await customer.begin("100000002")
        assert (await customer.choose(path, card_id)).state == "approved"
        issuer, waiting = Issuer(customer), await customer.begin("100000003")
        page = await issuer.start(waiting, save_card="yes")
        keeper = CardKeeper(gateway.store, Sealer((OLD_KEY, NEW_KEY)))
        assert await keeper.reseal() == 1  # the consent, which the new key sealed
        keeper = CardKeeper(gateway.store, Sealer((NEW_KEY, OLD_KEY)))
        assert await keeper.count_by_server_key() == {OLD_KEY.id: 3}  # a card, a consent, the key of fingerprints
        assert await keeper.reseal() == 3
        assert await keeper.reseal() == 0
        assert await keeper.count_by_server_key() == {NEW_KEY.id: 3}
        await issuer.finish(page, CODE)
        await gateway.secrets.reseal()
    async with running_gateway(database_url, server_key=new) as gateway:
        customer = Customer(gateway.app)
        path = await customer.begin("100000004")
        assert (await customer.choose(path, card_id)).state == "approved"
        assert await customer.save("100000005") == card_id  # fingerprints have not changed
        assert len(await cards_of(gateway)) == 2


async def test_what_was_removed_while_keys_are_replaced_does_not_come_back(
    customer: Customer, gateway: Gateway
) -> None:
    card_id = await customer.save("100000001")
    (read_before,) = await cards_of(gateway)
    await (await service(gateway.app)).post(f"/card/deactivate/{card_id}")
    assert not await saved_cards.swap_sealed(gateway.store, read_before, NEW_KEY.id, b"another")
    assert await cards_of(gateway) == []


async def test_a_number_opens_in_its_own_row_only(customer: Customer, gateway: Gateway, database_url: str) -> None:
    await customer.save("100000001")
    await Customer(gateway.app, account="customer-2").save("100000002", "5522042705066736")
    (mine,), (others,) = await cards_of(gateway), await cards_of(gateway, "customer-2")
    vault = Vault(gateway.store, load_sealer("", database_url, is_sandbox=True))
    assert vault.open(mine).reveal() == APPROVED_CARD
    with pytest.raises(CannotOpen, match="belongs elsewhere"):
        vault.open(replace(mine, sealed=others.sealed))


async def test_a_card_that_cannot_be_opened_is_told_of_and_another_one_pays(
    customer: Customer, gateway: Gateway
) -> None:
    card_id = await customer.save("100000001")
    (card,) = await cards_of(gateway)
    assert card.sealed is not None
    broken = card.sealed[:-1] + bytes([card.sealed[-1] ^ 1])
    assert await saved_cards.swap_sealed(gateway.store, card, card.key_id or "", broken)
    path = await customer.begin("100000002")
    page = await customer.choose(path, card_id)
    assert page.status == 422
    assert "choose another one" in page.text or "выберите другую" in page.text
    assert (await customer.pay(path, saved_card="new")).state == "approved"


# The page -------------------------------------------------------------------------------------------------------------


async def test_the_page_removes_the_payers_own_cards_only(customer: Customer, gateway: Gateway) -> None:
    other = Customer(gateway.app, account="customer-2")
    mine, others = await customer.save("100000001"), await other.save("100000002")
    path = await customer.begin("100000003")
    asked = await customer.form(f"{path}/confirm", {"card": str(mine)}, {"origin": ORIGIN})
    assert f'value="{mine}"' in asked.text.partition("</form>")[0].partition('class="notice ask"')[2]
    assert len(await cards_of(gateway)) == 1  # it was only asked
    for card in (str(others), str(uuid4()), "no-uuid", ""):
        kept = await customer.form(f"{path}/remove", {"card": card}, {"origin": ORIGIN})
        assert (kept.status, 'class="notice"' in kept.text) == (200, False)  # nothing was removed
    assert (
        await customer.form(f"{path}/remove", {"card": str(mine)}, {"origin": "https://evil.example"})
    ).status == 403
    assert len(await cards_of(gateway)) == len(await cards_of(gateway, "customer-2")) == 1
    removed = await customer.form(f"{path}/remove", {"card": str(mine)}, {"origin": ORIGIN})
    assert (removed.status, removed.state) == (200, "form")
    assert 'class="notice"' in removed.text
    assert str(mine) not in removed.text
    assert await cards_of(gateway) == []


async def test_the_page_of_an_unvouched_account_offers_nothing(customer: Customer) -> None:
    card_id = await customer.save("100000001")
    offered = await customer.get(await customer.begin("100000002"))
    assert str(card_id) in offered.text
    assert 'id="save-card"' in offered.text
    plain = await customer.get(await customer.begin("100000003", vouched=False))
    assert "saved-card" not in plain.text
    assert 'id="save-card"' not in plain.text
