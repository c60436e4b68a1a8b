"""A shop's customer at the page: the shop's server vouches for the account, the payer saves and chooses cards."""

from typing import Any
from uuid import UUID

from tests.gateway import APPROVED_CARD, Answer, PatientCaller

ACCOUNT = "customer-1"


class Customer(PatientCaller):
    """Shop's server and payer's browser at once, of one account."""

    def __init__(self, app: Any, post_link: str = "", account: str = ACCOUNT, **token: str) -> None:
        """`token`: other fields of the token request, such as those of another client."""
        super().__init__(app, post_link)
        self.account = account
        self._token = token

    async def begin(self, invoice: str, *, vouched: bool = True, **wish: Any) -> str:
        """The path of a page that offers saving."""
        fields = self._token | ({"accountId": self.account} if vouched else {})
        fields |= {name: str(value) for name, value in wish.items() if name in ("amount", "currency", "terminal")}
        wish = {"terminal": self._token["terminal"]} | wish if "terminal" in self._token else wish
        wish = {"accountId": self.account, "cardSave": True} | wish
        answer = await self.open(await self.token(invoice, **fields), invoice, **wish)
        assert answer.status == 303, answer.text
        return answer.headers["location"]

    async def save(self, invoice: str, number: str = APPROVED_CARD, *, expiry: str = "12/30", **wish: Any) -> UUID:
        """Pays and saves the card; its id as the shop is told it by the status."""
        path = await self.begin(invoice, **wish)
        page = await self.pay(path, number, cc_exp=expiry, save_card="yes")
        assert page.state == "approved", page.text
        return await self.card_of(invoice)

    async def card_of(self, invoice: str) -> UUID:
        """`cardID` of the order's status."""
        token = (await self.token(invoice, **self._token))["access_token"]
        path = f"/check-status/payment/transaction/{invoice}"
        answer = await self.call("GET", path, headers={"authorization": f"Bearer {token}"})
        return UUID(answer.json()["transaction"]["cardID"])

    async def choose(self, path: str, card: UUID | str, cvc: str = "123", **fields: str) -> Answer:
        """Pays with a saved card: only the code is typed."""
        return await self.pay(path, "", cc_exp="", cc_name="", cc_csc=cvc, saved_card=str(card), **fields)
