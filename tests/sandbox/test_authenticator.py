"""What the sandbox's issuer answers, by card."""

import base64
from datetime import UTC, datetime

import pytest
from msgspec.structs import replace

from tolem.acquirers.base import AuthenticationRequest, Authenticator
from tolem.domain.authentication import TransStatus
from tolem.domain.card import Card, Cvc, Expiry, Pan
from tolem.sandbox.authenticator import SandboxAuthenticator
from tolem.sandbox.cards import build_number
from tolem.sandbox.fixtures import TERMINAL_ID

AUTHENTICATOR: Authenticator = SandboxAuthenticator()


def request_with(number: str) -> AuthenticationRequest:
    return AuthenticationRequest(
        terminal_id=TERMINAL_ID,
        amount=80000,
        currency="KZT",
        card=Card(Pan(number), Expiry(2030, 1), Cvc("123"), "A B"),
        at=datetime(2026, 11, 24, tzinfo=UTC),
    )


@pytest.mark.parametrize(
    ("number", "status", "eci"),
    (
        (build_number(0, "0"), TransStatus.AUTHENTICATED, "05"),
        (build_number(0, "2"), TransStatus.ATTEMPTED, "06"),
        (build_number(0, "3"), TransStatus.NOT_ENROLLED, "07"),
        (build_number(484, "2", "1"), TransStatus.ATTEMPTED, "06"),
        ("4405639704015096", TransStatus.AUTHENTICATED, "05"),
        ("5522042705066736", TransStatus.AUTHENTICATED, "02"),
        ("377514500004820", TransStatus.AUTHENTICATED, "05"),
        ("4003032704547597", TransStatus.AUTHENTICATED, "05"),
        ("4111111111111111", TransStatus.NOT_ENROLLED, "07"),
        ("5555555555554444", TransStatus.NOT_ENROLLED, "00"),
    ),
)
async def test_answer_by_card(number: str, status: TransStatus, eci: str) -> None:
    answer = await AUTHENTICATOR.authenticate(request_with(number))
    assert (answer.trans_status, answer.eci) == (status, eci)
    assert answer.is_authenticated == (status is TransStatus.AUTHENTICATED)
    assert bool(answer.cavv) == (status is not TransStatus.NOT_ENROLLED)


async def test_card_and_amount_decide() -> None:
    request = request_with(build_number(0))
    first = await AUTHENTICATOR.authenticate(request)
    assert first == await AUTHENTICATOR.authenticate(replace(request, at=datetime(2027, 1, 1, tzinfo=UTC)))
    assert first.cavv != (await AUTHENTICATOR.authenticate(replace(request, amount=80001))).cavv
    assert len(base64.b64decode(first.cavv)) == 20
