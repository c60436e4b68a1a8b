"""What the sandbox's issuer answers, by card, and what its book keeps of a challenge."""

import base64
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from tests.simulation.clock import MovableClock
from tolem.acquirers.base import AuthenticationRequest, Authenticator
from tolem.domain.authentication import (
    Authentication,
    Browser,
    Challenge,
    ChallengeWindow,
    TransStatus,
    eci_of,
)
from tolem.domain.card import Card, Cvc, Expiry, Pan
from tolem.ids import Ids
from tolem.sandbox.acs_book import TIME_MAX, AcsBook
from tolem.sandbox.authenticator import SandboxAuthenticator
from tolem.sandbox.cards import build_number
from tolem.sandbox.fixtures import TERMINAL_ID

IDS = Ids()
RETURN_URL = "http://localhost:8700/3ds/nonce"


@pytest.fixture
def clock() -> MovableClock:
    return MovableClock()


@pytest.fixture
async def book(database_url: str) -> AsyncIterator[AcsBook]:
    opened = AcsBook(database_url, 7, IDS)
    yield opened
    await opened.close()


def card_of(number: str) -> Card:
    return Card(Pan(number), Expiry(2030, 1), Cvc("123"), "A B")


def request_with(number: str, **changes: Any) -> AuthenticationRequest:
    request = AuthenticationRequest(
        key=IDS.new(),
        terminal_id=TERMINAL_ID,
        shop_name="Shop",
        amount=80000,
        currency="KZT",
        card=card_of(number),
        browser=Browser(),
        window=ChallengeWindow.W500X600,
        language="kk",
        return_url=RETURN_URL,
        at=datetime.now(UTC),
    )
    return replace(request, **changes)


def bookless() -> Authenticator:
    """For cards that need no payer: the book is never opened."""
    return SandboxAuthenticator(AcsBook("sqlite:////nowhere/acs.db", 7, IDS), MovableClock())


def decode(text: str) -> Any:
    return json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))


@pytest.mark.parametrize(
    ("number", "status", "eci"),
    (
        (build_number(0, "0"), TransStatus.AUTHENTICATED, "05"),
        (build_number(0, "2"), TransStatus.ATTEMPTED, "06"),
        (build_number(0, "3"), TransStatus.UNAVAILABLE, "07"),
        (build_number(0, "4"), TransStatus.REJECTED, ""),
        (build_number(0, "5"), TransStatus.UNAVAILABLE, "07"),
        (build_number(0, "6"), TransStatus.AUTHENTICATED, "05"),
        (build_number(0, "8"), TransStatus.INFORMATION, "07"),
        (build_number(484, "2", "1"), TransStatus.ATTEMPTED, "06"),
        ("4405639704015096", TransStatus.AUTHENTICATED, "05"),
        ("5522042705066736", TransStatus.AUTHENTICATED, "02"),
        ("377514500004820", TransStatus.AUTHENTICATED, "05"),
        ("4003032704547597", TransStatus.AUTHENTICATED, "05"),
        ("4111111111111111", TransStatus.UNAVAILABLE, "07"),
        ("5555555555554444", TransStatus.UNAVAILABLE, "00"),
    ),
)
async def test_answer_by_card(number: str, status: TransStatus, eci: str) -> None:
    answer = await bookless().authenticate(request_with(number))
    assert isinstance(answer, Authentication)
    assert (answer.trans_status, eci_of(answer, Pan(number).brand)) == (status, eci)
    assert answer.is_authenticated == (status is TransStatus.AUTHENTICATED)
    assert bool(answer.cavv) == (status in (TransStatus.AUTHENTICATED, TransStatus.ATTEMPTED))


@pytest.mark.parametrize(("digit", "is_not_enrolled"), (("3", True), ("5", False)))
async def test_a_card_that_takes_no_part_is_no_failure(digit: str, is_not_enrolled: bool) -> None:
    answer = await bookless().authenticate(request_with(build_number(0, digit)))
    assert isinstance(answer, Authentication)
    assert answer.is_not_enrolled is is_not_enrolled


async def test_card_and_amount_decide() -> None:
    request, issuer = request_with(build_number(0)), bookless()
    first = await issuer.authenticate(request)
    assert first == await issuer.authenticate(replace(request, at=datetime(2027, 1, 1, tzinfo=UTC), key=IDS.new()))
    other = await issuer.authenticate(replace(request, amount=80001))
    assert isinstance(first, Authentication)
    assert isinstance(other, Authentication)
    assert first.cavv != other.cavv
    assert len(base64.b64decode(first.cavv)) == 20


@pytest.mark.parametrize("digit", ("0", "1", "2", "3", "4", "5", "6", "7", "8"))
def test_some_cards_are_looked_at_first(digit: str) -> None:
    key = IDS.new()
    step = bookless().find_device_step(card_of(build_number(0, digit)), key, RETURN_URL)
    if digit not in ("1", "6"):
        assert step is None
        return
    assert step is not None
    assert step.url == "http://acs.localhost:8700/device"
    assert decode(step.data) == {"threeDSServerTransID": str(key), "threeDSMethodNotificationURL": RETURN_URL}


@pytest.mark.parametrize(
    ("return_url", "acs_url", "url"),
    (
        ("http://localhost:8700/3ds/x", "", "http://acs.localhost:8700/device"),
        ("http://127.0.0.1/3ds/x", "", "http://acs.localhost/device"),
        ("https://pay.example.kz/3ds/x", "https://bank.example.kz/", "https://bank.example.kz/device"),
    ),
)
def test_where_the_access_control_server_is(return_url: str, acs_url: str, url: str) -> None:
    issuer = SandboxAuthenticator(AcsBook("sqlite:////nowhere/acs.db", 7, IDS), MovableClock(), acs_url)
    step = issuer.find_device_step(card_of(build_number(0, "6")), IDS.new(), return_url)
    assert step is not None
    assert step.url == url


async def test_a_challenge_and_its_result(book: AcsBook, clock: MovableClock) -> None:
    issuer = SandboxAuthenticator(book, clock)
    request = request_with(build_number(0, "1"))
    challenge = await issuer.authenticate(request)
    assert isinstance(challenge, Challenge)
    assert challenge.url == "http://acs.localhost:8700/challenge"
    assert decode(challenge.creq) == {
        "threeDSServerTransID": str(request.key),
        "acsTransID": challenge.reference,
        "challengeWindowSize": "03",
        "messageType": "CReq",
        "messageVersion": "2.2.0",
    }
    assert await issuer.find_result(request.key, challenge.reference) is None
    again = await issuer.authenticate(replace(request, return_url="http://elsewhere.test/"))
    assert again == challenge  # the same key is the same challenge
    await book.answer(request.key, "123456", clock.now())
    result = await issuer.find_result(request.key, challenge.reference)
    assert result is not None
    assert result.is_authenticated
    assert len(base64.b64decode(result.cavv)) == 20
    assert await issuer.find_result(request.key, "another") is None
    assert await issuer.find_result(IDS.new(), challenge.reference) is None


async def test_nobody_guesses_a_transaction_of_the_issuer(tmp_path: Path) -> None:
    request = request_with(build_number(0, "1"))
    books = [AcsBook(f"sqlite:///{tmp_path}/{name}.db", 7, IDS) for name in ("one", "other")]
    entries = [await book.begin(request, is_decoupled=False) for book in books]
    assert entries[0].key == entries[1].key
    assert entries[0].id != entries[1].id
    for book in books:
        await book.close()


async def test_what_has_ended_stays_as_it_ended(book: AcsBook, clock: MovableClock) -> None:
    request = request_with(build_number(0, "1"))
    entry = await book.begin(request, is_decoupled=False)
    for wrong, left in (("1", 2), ("", 1), ("12345", 0)):
        answered = await book.answer(entry.key, wrong, clock.now())
        assert answered is not None
        assert answered.tries_left == left
    assert answered is not None
    result = answered.find_result(clock.now())
    assert result == Authentication(TransStatus.NOT_AUTHENTICATED, trans_status_reason="19")
    codes: tuple[str | None, ...] = ("123456", None)
    for code in codes:
        again = await book.answer(entry.key, code, clock.now())
        assert again is not None
        assert again.find_result(clock.now()) == result
    assert await book.answer(IDS.new(), "123456", clock.now()) is None


async def test_cancelled_and_timed_out(book: AcsBook, clock: MovableClock) -> None:
    cancelled = await book.begin(request_with(build_number(0, "1")), is_decoupled=False)
    ended = await book.answer(cancelled.key, None, clock.now())
    assert ended is not None
    assert ended.find_result(clock.now()) == Authentication(
        TransStatus.NOT_AUTHENTICATED, trans_status_reason="01", challenge_cancel="01"
    )
    late = await book.begin(request_with(build_number(0, "1")), is_decoupled=False)
    clock.advance_to(late.at + TIME_MAX - timedelta(seconds=1))
    assert late.find_result(clock.now()) is None
    clock.advance_to(late.at + TIME_MAX)
    answered = await book.answer(late.key, "123456", clock.now())
    assert answered is not None
    assert answered.find_result(clock.now()) == Authentication(
        TransStatus.NOT_AUTHENTICATED, trans_status_reason="14", challenge_cancel="04"
    )


async def test_the_book_outlives_a_process_and_holds_no_card(database_url: str, clock: MovableClock) -> None:
    first = AcsBook(database_url, 7, IDS)
    request = request_with(build_number(0, "1"))
    entry = await first.begin(request, is_decoupled=False)
    await first.close()
    assert request.card.pan.reveal() not in str(entry)
    second = AcsBook(database_url, 8, IDS)
    assert await second.find(request.key) == entry
    await second.close()
