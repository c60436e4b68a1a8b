"""Whole payments with known card numbers leave no number, security code, secret, token or page address anywhere.

A real `tolem serve` on a real port, its log in a file. Payers type cards well and badly, shops ask with right and wrong
secrets, the database fails in the middle of a payment; then everything is searched that was written or sent.
"""

import asyncio
import json
import os
import re
import sqlite3
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import aiohttp
import psycopg
import pytest

from tests.forks import TolemProcess
from tests.gateway import APPROVED_CARD, ORIGIN, Answer, Caller, eventually
from tests.issuer import CHALLENGED_CARD, CODE, Issuer
from tests.notifications.shops import Shop, open_shop
from tests.postgres import PostgresServer
from tests.simulation.search import Cell, Secrets, read_cells, read_sqlite_cells
from tolem.sandbox.cards import build_number
from tolem.sandbox.fixtures import CLIENT_ID, CLIENT_SECRET, WEBHOOK_SECRET

AMEX = "377514500004820"
SLOW = build_number(0, line="1")
DECLINED = build_number(484)
STRANGERS = ("4111111111111111", "5555555555554444")
"""Numbers of no sandbox: they look like people's real ones."""
WRONG_SECRET = "vT3kQ9mW2xZ7bN4cR8dL1fH6"
OPEN_INVOICE = "000000012"
SECRET_HASH = "JDKCNDDGGDTPSKJD"
HOLDER = "ARMAN ALI"
TEST_CARDS = re.compile('<details class="tests">.*?</details>', re.DOTALL)
START_SECONDS = 30


class Exchange(NamedTuple):
    """What a browser or a shop's server asked, and all that it got."""

    path: str
    answer: Answer

    @property
    def text(self) -> str:
        """Head and body, without the sandbox's list of published cards, which every payer gets."""
        return "\n".join((*self.answer.headers.values(), TEST_CARDS.sub("", self.answer.text)))


class Visitor(Caller):
    """Shop's server and payer's browser over a real connection. Keeps every answer and knows every secret."""

    def __init__(self, session: aiohttp.ClientSession, url: str, post_link: str, secrets: Secrets) -> None:
        super().__init__(None, post_link)
        self.exchanges: list[Exchange] = []
        self.secrets = secrets
        self._session = session
        self._url = url

    async def call(
        self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None, *, chunks: int = 1
    ) -> Answer:
        """One exchange."""
        async with self._session.request(
            method, self._url + path, data=body, headers=headers, allow_redirects=False
        ) as response:
            head = {name.lower(): value for name, value in response.headers.items()}
            answer = Answer(response.status, head, await response.read())
        self.exchanges.append(Exchange(path, answer))
        if "/oauth2/token" in path and answer.status == 200:
            self.secrets.words.add(answer.json()["access_token"])
        if match := re.fullmatch("/pay/([^/]+)", answer.headers.get("location", "")):
            self.secrets.words.add(match[1])
        return answer

    async def type_card(self, path: str, number: str, cvc: str, **fields: str) -> Answer:
        """Types a card and looks at what comes."""
        self.secrets.pans.add(re.sub("[^0-9]", "", number))
        self.secrets.cvcs.add(cvc)
        return await self.pay(path, number, cc_csc=cvc, **fields)

    async def wait_for(self, path: str, state: str) -> None:
        """Reloads until the page shows it."""

        async def shows() -> bool:
            return (await self.get(path)).state == state

        await eventually(shows, 20)


async def test_nothing_secret_is_left(database_url: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    secrets = Secrets()
    secrets.words |= {CLIENT_SECRET, WRONG_SECRET, b64encode(f"{CLIENT_ID}:{CLIENT_SECRET}".encode()).decode()}
    secrets.words |= {WEBHOOK_SECRET, b64decode(WEBHOOK_SECRET.removeprefix("whsec_")).decode()}
    log_path = tmp_path / "server.log"
    async with (
        open_shop() as shop,
        serving(database_url, tmp_path, log_path) as url,
        aiohttp.ClientSession() as session,
    ):
        visitor = Visitor(session, url, shop.url, secrets)
        await pay_well(visitor)
        await type_badly(visitor)
        await ask_badly(visitor)
        await meet_faults(visitor, database_url)
        await confirm(visitor, database_url)
        await keep_cards(visitor)
        # A challenge is open: its card is at rest now.
        cells = list(read_database(database_url))
        files = list(read_files(database_url, request))
        assert sum(cell.place == "sealed_cards.sealed" and cell.text != "None" for cell in cells) == 1
        await finish_confirming(visitor)
        metrics = (await visitor.get("/metrics")).text
        cells += list(read_database(database_url))
        files += list(read_files(database_url, request))
    files += list(read_files(database_url, request))  # once more after a clean end
    log = log_path.read_text()

    assert_seen(cells, files, log, visitor, shop)
    leaks = [f"database {cell.place}: {found}" for cell in cells if (found := secrets.find_in(cell.text))]
    leaks += [f"{path}: {found}" for path, data in files if (found := secrets.find_in_bytes(data))]
    leaks += [f"log: {line} {found}" for line in log.splitlines() if (found := secrets.find_in(line))]
    leaks += [
        f"log: {line}" for line in log.splitlines() if any(w in line for w in ("/pay/", "/3ds/", SECRET_HASH, HOLDER))
    ]
    leaks += [f"postLink: {found}" for got in shop.requests if (found := secrets.find_in(str(got)))]
    leaks += list(find_in_answers(visitor))
    leaks += [f"metrics: {found}" for found in secrets.find_in(re.sub(r" \S+$", "", metrics, flags=re.MULTILINE))]
    assert not leaks, "\n".join(leaks)


@pytest.mark.parametrize(
    "text",
    (
        "card 4405639704015096 declined",
        "4405 6397 0401 5096",
        "440563970401",
        "6397-0401-5096",
        '{"cvc":"973"}',
        "cvc 973",
        "cc-csc=973&cc-name=",
        "Bearer DCEB8O_ZM5U7SO_T_U5EJQ",
    ),
)
def test_the_search_finds(text: str) -> None:
    secrets = Secrets()
    secrets.pans.add(APPROVED_CARD)
    secrets.cvcs.add("973")
    secrets.words.add("DCEB8O_ZM5U7SO_T_U5EJQ")
    assert secrets.find_in(text)
    assert not secrets.find_in('440563...5096 12:00:00.973Z {"milliseconds":973} 01a20be9-973f-7a10-b1d3-000000009730')


async def pay_well(visitor: Visitor) -> None:
    """Approved, declined, another card, slow beyond the limit, two kinds of brands."""
    path = await visitor.page("000000001")
    assert (await visitor.type_card(path, "4405 6397 0401 5096", "973")).state == "approved"
    path = await visitor.page("000000002")
    assert (await visitor.type_card(path, "4003-0327-0454-7597", "864")).state == "declined"
    assert (await visitor.type_card(path, AMEX, "9736")).state == "approved"
    path = await visitor.page("000000003")
    await visitor.type_card(path, DECLINED, "872")
    await visitor.form(f"{path}/leave", {}, {"origin": ORIGIN})
    assert (await visitor.get(path)).state == "failed"
    path = await visitor.page("000000004")
    assert (await visitor.type_card(path, SLOW, "751")).state in ("checking", "approved")
    await visitor.get(f"{path}/state")
    await visitor.wait_for(path, "approved")


async def type_badly(visitor: Visitor) -> None:
    """Whatever can be wrong with a card form."""
    path = await visitor.page("000000005")
    assert (await visitor.type_card(path, "4405639704015097", "973")).status == 422  # check digit
    assert (await visitor.type_card(path, APPROVED_CARD, "973", cc_exp="01/20")).status == 422
    for stranger in STRANGERS:
        assert (await visitor.type_card(path, stranger, "985")).status == 422
    # The number in every other field, and the code where it does not belong.
    for field in ("cc_exp", "cc_name"):
        assert (await visitor.type_card(path, APPROVED_CARD, "973", **{field: APPROVED_CARD})).status == 422
        assert (await visitor.type_card(path, APPROVED_CARD, "973", **{field: "973"})).status == 422
    assert (await visitor.submit(path, APPROVED_CARD, cc_csc=APPROVED_CARD)).status == 422
    card = {"cc-number": APPROVED_CARD, "cc-exp": "12/30", "cc-csc": "973", "cc-name": HOLDER}
    assert (await visitor.form(path, card, {"origin": "https://elsewhere.example"})).status == 403
    assert (await visitor.form(path, card | {"more": "x" * 20_000}, {"origin": ORIGIN})).status == 413
    as_json = {"origin": ORIGIN, "content-type": "application/json"}
    assert (await visitor.call("POST", path, json.dumps(card).encode(), as_json)).status == 400
    assert (await visitor.form("/pay/nobodys", card, {"origin": ORIGIN})).status in (303, 404)
    await visitor.get(f"{path}?cc-number={APPROVED_CARD}&cc-csc=973")
    await visitor.call("PUT", path, b"cc-csc=973")


async def ask_badly(visitor: Visitor) -> None:
    """Tokens that are refused, and tokens in addresses."""
    assert (await visitor.request_token("000000006", client_secret=WRONG_SECRET)).status == 401
    assert (await visitor.request_token("000000006", amount="NaN")).status == 400
    basic = {"authorization": "Basic " + b64encode(f"{CLIENT_ID}:{CLIENT_SECRET}".encode()).decode()}
    fields = visitor.token_fields("000000006", client_id="", client_secret="")
    await visitor.form("/oauth2/token", fields, basic)
    token = await visitor.token("000000006")
    address = quote(json.dumps({"auth": token}))
    assert (await visitor.get(f"/payform/?params={address}")).status == 400
    assert (await visitor.open(token, "000000006", amount=999)).status == 400
    assert (await visitor.open(token["access_token"], "000000006")).status == 303  # the bare token
    assert (await visitor.open(token["access_token"][:-1], "000000006")).status == 400


async def meet_faults(visitor: Visitor, database_url: str) -> None:
    """The database refuses a row in the middle of a payment: traces are logged, and recovery ends it."""
    path = await visitor.page("000000007")
    with poisoned(database_url, "payments"):
        assert (await visitor.type_card(path, APPROVED_CARD, "973")).status == 500
    with poisoned(database_url, "events"):
        assert (await visitor.type_card(path, APPROVED_CARD, "973")).status == 500
    await visitor.wait_for(path, "approved")
    assert (await visitor.get("/readyz")).status == 200


async def confirm(visitor: Visitor, database_url: str) -> None:
    """Challenges that are passed, failed, cancelled, cut off by a failing database, and one that is left open."""
    issuer = Issuer(visitor)
    for invoice, cvc, code, state in (
        ("000000008", "839", CODE, "approved"),
        ("000000009", "847", "000000", "declined"),
    ):
        path = await visitor.page(invoice)
        page = await start_confirming(visitor, path, cvc)
        await issuer.finish(page, code)
        await visitor.wait_for(path, state)
    assert (await visitor.form(f"{path}/abandon", {}, {"origin": ORIGIN})).status == 303
    path = await visitor.page("000000010")
    page = await start_confirming(visitor, path, "856")
    await visitor.form(f"{path}/abandon", {}, {"origin": ORIGIN})
    await issuer.finish(page, CODE)
    assert (await visitor.get(path)).state == "declined"
    path = await visitor.page("000000011")
    page = await start_confirming(visitor, path, "865")
    with poisoned(database_url, "operations"):
        assert (await visitor.get(path)).status == 200
        asked = await issuer.arrive(page)
        assert (await issuer.come_back(await issuer.answer(asked))).status == 500
        assert (await visitor.get(path)).status == 500
    await visitor.wait_for(path, "approved")
    # Its payer wishes to save the card: its number waits for the outcome in two places.
    await start_confirming(visitor, await customers_page(visitor, OPEN_INVOICE), "874", save_card="yes")


async def keep_cards(visitor: Visitor) -> None:
    """Cards that are saved, paid with and removed, and one that is declined."""
    page = await visitor.type_card(await customers_page(visitor, "000000020"), APPROVED_CARD, "958", save_card="yes")
    assert page.state == "approved"
    page = await visitor.type_card(await customers_page(visitor, "000000021"), AMEX, "9587", save_card="yes")
    assert page.state == "approved"
    page = await visitor.type_card(await customers_page(visitor, "000000022"), DECLINED, "962", save_card="yes")
    assert page.state == "declined"
    path = await customers_page(visitor, "000000023")
    amex, visa = re.findall('id="card-([0-9a-f-]{36})"', (await visitor.get(path)).text)
    visitor.secrets.cvcs.add("967")
    assert (await visitor.pay(path, "", cc_csc="967", saved_card=visa)).state == "approved"
    path = await customers_page(visitor, "000000024")
    assert amex not in (await visitor.form(f"{path}/remove", {"card": amex}, {"origin": ORIGIN})).text


async def customers_page(visitor: Visitor, invoice: str) -> str:
    """The path of a page whose payer's account the shop vouches for."""
    token = await visitor.token(invoice, accountId="customer-1")
    return (await visitor.open(token, invoice, accountId="customer-1", cardSave=True)).headers["location"]


async def start_confirming(visitor: Visitor, path: str, cvc: str, **fields: str) -> Answer:
    """Types a card that is challenged; the page that leads to the issuer."""
    visitor.secrets.pans.add(CHALLENGED_CARD)
    visitor.secrets.cvcs.add(cvc)
    page = await Issuer(visitor).start(path, CHALLENGED_CARD, cc_csc=cvc, **fields)
    assert page.state == "challenge"
    return page


async def finish_confirming(visitor: Visitor) -> None:
    """The one that was left open: from the page that its payer still has."""
    path = next(
        exchange.path
        for exchange in reversed(visitor.exchanges)
        if exchange.path.startswith("/pay/") and 'data-step="challenge"' in exchange.text
    )
    await Issuer(visitor).finish(await visitor.get(path), CODE)
    await visitor.wait_for(path, "approved")


def assert_seen(cells: list[Cell], files: list[tuple[str, bytes]], log: str, visitor: Visitor, shop: Shop) -> None:
    """The search looked where payments are: what may be there was found in each place."""
    places = {cell.place for cell in cells}
    assert {"payments.masked_pan", "ledger.masked_pan", "messages.body", "access_tokens.hash"} <= places
    assert {"webhook_secrets.current", "saved_cards.fingerprint", "vault_keys.sealed"} <= places
    numbers = {cell.text for cell in cells if cell.place == "saved_cards.sealed"}
    assert len(numbers) == 3  # a card that is kept, the one whose payer was with the issuer, and none of the others
    assert sum(cell.place == "card_consents.sealed" and cell.text != "None" for cell in cells) == 1
    assert {"sealed_cards.sealed", "card_keys.sealed", "challenges.masked_pan", "authentications.data"} <= places
    sealed = {cell.text for cell in cells if cell.place == "sealed_cards.sealed"}
    assert len(sealed) == 2  # one while its challenge was open, and none of the others
    assert "None" in sealed
    assert any(cell.text == "440563...5096" for cell in cells)
    assert any(SECRET_HASH.encode() in data for _, data in files)
    assert '"event":"payment"' in log
    assert "Traceback" in log
    assert any("5096" in exchange.text for exchange in visitor.exchanges)
    assert any(b"440563...5096" in request.body for request in shop.requests)
    assert all("webhook-signature" in request.headers for request in shop.requests)
    assert len(visitor.secrets.words) > 15


def find_in_answers(visitor: Visitor) -> Iterator[str]:
    """A page's address is on the page itself, in the redirect to it and on the way back to it from the issuer, a token
    in its own answer; else nowhere."""
    for path, answer in visitor.exchanges:
        exchange = Exchange(path, answer)
        if path == "/metrics":
            continue
        text = exchange.text
        allowed = [word for word in visitor.secrets.words if word in path.split("?")[0]]
        if "/oauth2/token" in path and answer.status == 200:
            allowed.append(answer.json()["access_token"])
        if location := answer.headers.get("location"):
            allowed.append(location.removeprefix("/pay/"))
        if path.startswith("/3ds/") and (back := re.search('data-path="/pay/([^"]+)"', text)):
            allowed.append(back[1])
        for found in visitor.secrets.find_in(text, allowed):
            yield f"answer to {path}: {found}"
        if SECRET_HASH in text:
            yield f"answer to {path}: secret_hash"


@asynccontextmanager
async def serving(database_url: str, folder: Path, log_path: Path) -> AsyncIterator[str]:
    """`tolem serve`; its address. Ends it as operators do."""
    command = ("serve", "--port", "0", "--public-url", ORIGIN, "--database", database_url)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TOLEM_")}
    environment |= {"TOLEM_ACQUIRER_TIMEOUT_SECONDS": "1", "TOLEM_RECOVERY_MARGIN_SECONDS": "0.2"}
    server = TolemProcess(*command, cwd=folder, env=environment, log=log_path)
    try:
        async with asyncio.timeout(START_SECONDS):
            while not (found := re.search(r"serves (http://\S+)", log_path.read_text())):  # noqa: ASYNC240
                assert server.poll() is None, log_path.read_text()  # noqa: ASYNC240
                await asyncio.sleep(0.05)
        yield found[1]
    finally:
        server.terminate()
        status = await asyncio.to_thread(server.wait)
    assert status == 0


@contextmanager
def poisoned(database_url: str, table: str) -> Iterator[None]:
    """New rows of a table are refused."""
    if database_url.startswith("sqlite"):
        with closing(sqlite3.connect(sqlite_file(database_url), timeout=10, isolation_level=None)) as connection:
            raising = "BEGIN SELECT RAISE(ABORT, 'poison'); END"
            connection.execute(f"CREATE TRIGGER poison BEFORE INSERT ON {table} {raising}")
            yield
            connection.execute("DROP TRIGGER poison")
    else:
        with psycopg.connect(database_url, autocommit=True) as connection:
            connection.execute(f"ALTER TABLE {table} ADD CONSTRAINT poison CHECK (false) NOT VALID")
            yield
            connection.execute(f"ALTER TABLE {table} DROP CONSTRAINT poison")


def read_database(database_url: str) -> Iterator[Cell]:
    """Every value that is stored, tolem's and the acquirer's."""
    if database_url.startswith("sqlite"):
        path = sqlite_file(database_url)
        yield from read_sqlite_cells(path)
        yield from read_sqlite_cells(path.with_name("tolem-simulator.db"))
        yield from read_sqlite_cells(path.with_name("tolem-acs.db"))
    else:
        with psycopg.connect(database_url) as connection:
            yield from read_cells(connection)


def read_files(database_url: str, request: pytest.FixtureRequest) -> Iterator[tuple[str, bytes]]:
    """The files in which it rests, with what is deleted or not written back yet; PostgreSQL's log too."""
    if database_url.startswith("sqlite"):
        paths = list(sqlite_file(database_url).parent.glob("tolem*"))
    else:
        server: PostgresServer = request.getfixturevalue("postgres_server")
        with psycopg.connect(database_url, autocommit=True) as connection:
            connection.execute("CHECKPOINT")
            row = connection.execute("SELECT oid FROM pg_database WHERE datname = current_database()").fetchone()
        assert row is not None
        data = server.data
        paths = [*(data / "base" / str(row[0])).iterdir(), *(data / "pg_wal").iterdir(), server.folder / "server.log"]
    for path in paths:
        if path.is_file():
            yield str(path), path.read_bytes()


def sqlite_file(database_url: str) -> Path:
    """The file of an address."""
    return Path(database_url.removeprefix("sqlite:///"))
