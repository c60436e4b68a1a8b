"""The simulator on a real ledger, on both databases: what it answers, and that it keeps its three promises."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from uuid import UUID

import pytest
from msgspec.structs import replace

from tolem.acquirers.base import Acquirer, AcquirerAnswer, AcquirerRequest, Verdict
from tolem.domain.card import Card, CardField, CardProblem, Cvc, Expiry, Pan, TypedCard
from tolem.domain.payment import OperationKind
from tolem.ids import Ids
from tolem.sandbox.cards import LOCKED_CODE, build_number
from tolem.sandbox.fixtures import TERMINAL_ID
from tolem.sandbox.ledger import Cursor, LedgerEntry, open_ledger, read_page
from tolem.sandbox.simulator import (
    DECLINED_BY_ISSUER,
    HELD_FOR_EVER,
    INVALID_AMOUNT,
    INVALID_TRANSACTION,
    ISSUER_NAME,
    MAY_BE_HELD,
    NEVER_HEARD_OF,
    NO_ACTION,
    NO_SUCH_CARD,
    NOT_FOUND,
    Simulator,
    approval_code,
    check_card,
    fraction,
)
from tolem.storage.store import Key, Store

AT = datetime(2026, 11, 24, 4, 42, 51, 960781, tzinfo=UTC)
IDS = Ids()
APPROVED_CARD = build_number(0)
AMOUNT = 80000


def card(number: str = APPROVED_CARD, expiry: Expiry | None = None, cvc: str = "123") -> Card:
    return Card(Pan(number), expiry or Expiry(2030, 1), Cvc(cvc), "A B")


def ask(
    kind: OperationKind,
    *,
    of: UUID | None = None,
    number: str | None = None,
    amount: int = AMOUNT,
    terminal_id: UUID = TERMINAL_ID,
) -> AcquirerRequest:
    return AcquirerRequest(
        key=IDS.new(),
        kind=kind,
        terminal_id=terminal_id,
        amount=amount,
        currency="KZT",
        stan="123456",
        rrn="632804123456",
        at=AT,
        card=card(number) if number else None,
        original_key=of,
    )


def authorize(number: str = APPROVED_CARD) -> AcquirerRequest:
    return ask(OperationKind.AUTHORIZE, number=number)


def purchase(number: str = APPROVED_CARD) -> AcquirerRequest:
    return ask(OperationKind.PURCHASE, number=number)


async def find(store: Store, key: UUID) -> LedgerEntry | None:
    wanted: Key[LedgerEntry] = Key(LedgerEntry, ("key",), (key,))
    return await store.find(wanted)


async def stored(store: Store, key: UUID) -> LedgerEntry:
    entry = await find(store, key)
    assert entry is not None
    return entry


@pytest.fixture
async def ledger(database_url: str) -> AsyncIterator[Store]:
    store = await open_ledger(database_url, instance=1)
    yield store
    await store.close()


@pytest.fixture
def simulator(ledger: Store) -> Simulator:
    return Simulator(ledger)


@pytest.mark.parametrize("kind", (OperationKind.AUTHORIZE, OperationKind.PURCHASE))
async def test_approval_is_in_the_ledger(simulator: Simulator, ledger: Store, kind: OperationKind) -> None:
    acquirer: Acquirer = simulator
    request = ask(kind, number=APPROVED_CARD)
    assert await acquirer.send(request) == AcquirerAnswer(
        key=request.key,
        verdict=Verdict.APPROVED,
        amount=AMOUNT,
        currency="KZT",
        approval_code=approval_code(request.key),
        rrn="632804123456",
        issuer_name=ISSUER_NAME,
    )
    entry = await stored(ledger, request.key)
    is_purchase = kind is OperationKind.PURCHASE
    assert (entry.kind, entry.verdict, entry.at, entry.masked_pan) == (kind, Verdict.APPROVED, AT, "440043...0007")
    assert (entry.held, entry.taken) == ((0, AMOUNT) if is_purchase else (AMOUNT, 0))


@pytest.mark.parametrize(
    ("number", "reason_code"),
    (
        (build_number(484), 484),
        ("4003032704547597", LOCKED_CODE),
        ("4111111111111111", NO_SUCH_CARD),
    ),
)
async def test_decline(simulator: Simulator, ledger: Store, number: str, reason_code: int) -> None:
    request = purchase(number)
    answer = await simulator.send(request)
    assert (answer.verdict, answer.reason_code, answer.amount) == (Verdict.DECLINED, reason_code, 0)
    assert answer.approval_code == ""
    entry = await stored(ledger, request.key)
    assert (entry.reason_code, entry.held, entry.taken) == (reason_code, 0, 0)


async def test_same_key_is_the_same_exchange(simulator: Simulator, ledger: Store) -> None:
    request = authorize()
    first = await simulator.send(request)
    assert await simulator.send(request) == first
    assert await simulator.send(replace(request, card=card(build_number(484)), amount=1)) == first
    assert (await stored(ledger, request.key)).amount == AMOUNT


async def test_same_key_at_once(simulator: Simulator, ledger: Store) -> None:
    request = purchase()
    answers = await asyncio.gather(*(simulator.send(request) for _ in range(20)))
    assert len(set(map(repr, answers))) == 1
    assert (await stored(ledger, request.key)).taken == AMOUNT


async def test_reversal_undoes_what_was_approved(simulator: Simulator, ledger: Store) -> None:
    original = purchase()
    await simulator.send(original)
    reversal = ask(OperationKind.REVERSAL, of=original.key)
    assert (await simulator.send(reversal)).verdict is Verdict.APPROVED
    assert (await simulator.send(reversal)).verdict is Verdict.APPROVED
    again = ask(OperationKind.REVERSAL, of=original.key)
    assert (await simulator.send(again)).verdict is Verdict.APPROVED
    entry = await stored(ledger, original.key)
    assert (entry.reversed_at, entry.taken, entry.held) == (AT, 0, 0)
    late = await simulator.send(original)
    assert (late.verdict, late.reason_code) == (Verdict.DECLINED, NO_ACTION)


@pytest.mark.parametrize("kind", (OperationKind.AUTHORIZE, OperationKind.PURCHASE))
async def test_reversal_before_its_original(simulator: Simulator, ledger: Store, kind: OperationKind) -> None:
    original = ask(kind, number=APPROVED_CARD)
    reversal = ask(OperationKind.REVERSAL, of=original.key)
    assert (await simulator.send(reversal)).verdict is Verdict.APPROVED
    late = await simulator.send(original)
    assert (late.key, late.verdict, late.reason_code) == (original.key, Verdict.DECLINED, NO_ACTION)
    inquiry = await simulator.send(ask(OperationKind.INQUIRY, of=original.key))
    assert (inquiry.verdict, inquiry.reason_code) == (Verdict.DECLINED, NO_ACTION)
    entry = await stored(ledger, original.key)
    assert (entry.held, entry.taken) == (0, 0)


async def test_reversal_and_original_at_once_leave_no_money(simulator: Simulator, ledger: Store) -> None:
    for _ in range(10):
        original = purchase()
        reversals = [ask(OperationKind.REVERSAL, of=original.key) for _ in range(2)]
        _, *answers = await asyncio.gather(*(simulator.send(request) for request in (original, *reversals)))
        assert {answer.verdict for answer in answers} == {Verdict.APPROVED}
        assert (await stored(ledger, original.key)).taken == 0
        inquiry = await simulator.send(ask(OperationKind.INQUIRY, of=original.key))
        assert inquiry.verdict is Verdict.DECLINED


async def test_two_processes_agree_on_a_race(postgres_url: str) -> None:
    stores = [await open_ledger(postgres_url, instance=instance) for instance in (1, 2)]
    one, two = map(Simulator, stores)
    for _ in range(20):
        original = purchase()
        reversal = ask(OperationKind.REVERSAL, of=original.key)
        answers = await asyncio.gather(one.send(original), two.send(reversal), two.send(original))
        assert answers[1].verdict is Verdict.APPROVED
        assert (await one.send(original)).verdict is Verdict.DECLINED
        assert (await stored(stores[0], original.key)).taken == 0
    for simulator in (one, two):
        await simulator.close()


async def test_reversal_of_a_decline_is_confirmed(simulator: Simulator) -> None:
    original = authorize(build_number(484))
    await simulator.send(original)
    assert (await simulator.send(ask(OperationKind.REVERSAL, of=original.key))).verdict is Verdict.APPROVED
    inquiry = await simulator.send(ask(OperationKind.INQUIRY, of=original.key))
    assert (inquiry.verdict, inquiry.reason_code) == (Verdict.DECLINED, 484)


async def test_reversal_is_no_refund(simulator: Simulator, ledger: Store) -> None:
    held, bought = authorize(), purchase()
    await simulator.send(held)
    await simulator.send(bought)
    await simulator.send(ask(OperationKind.CAPTURE, of=held.key))
    await simulator.send(ask(OperationKind.REFUND, of=bought.key, amount=1))
    for original in (held, bought):
        answer = await simulator.send(ask(OperationKind.REVERSAL, of=original.key))
        assert (answer.verdict, answer.reason_code) == (Verdict.DECLINED, INVALID_TRANSACTION)
        assert (await stored(ledger, original.key)).reversed_at is None


@pytest.mark.parametrize(
    ("number", "verdict", "reason_code", "amount"),
    (
        (APPROVED_CARD, Verdict.APPROVED, 0, AMOUNT),
        (build_number(484), Verdict.DECLINED, 484, 0),
        (None, Verdict.NOT_FOUND, NOT_FOUND, 0),
    ),
)
async def test_inquiry(
    simulator: Simulator, ledger: Store, number: str | None, verdict: Verdict, reason_code: int, amount: int
) -> None:
    key = IDS.new()
    if number:
        await simulator.send(replace(authorize(number), key=key))
    inquiry = ask(OperationKind.INQUIRY, of=key)
    answer = await simulator.send(inquiry)
    assert (answer.key, answer.verdict, answer.reason_code, answer.amount) == (
        inquiry.key,
        verdict,
        reason_code,
        amount,
    )
    assert await find(ledger, inquiry.key) is None


async def test_capture_and_refund_stay_within_totals(simulator: Simulator, ledger: Store) -> None:
    hold = authorize()
    await simulator.send(hold)

    async def reason(kind: OperationKind, amount: int) -> int:
        return (await simulator.send(ask(kind, of=hold.key, amount=amount))).reason_code

    assert await reason(OperationKind.REFUND, 1) == INVALID_AMOUNT
    assert await reason(OperationKind.CAPTURE, AMOUNT + 1) == INVALID_AMOUNT
    assert await reason(OperationKind.CAPTURE, 0) == INVALID_AMOUNT
    assert await reason(OperationKind.CAPTURE, 50000) == 0
    assert await reason(OperationKind.CAPTURE, 1) == INVALID_TRANSACTION
    assert await reason(OperationKind.VOID, AMOUNT) == INVALID_TRANSACTION
    assert await reason(OperationKind.REFUND, 20000) == 0
    assert await reason(OperationKind.REFUND, 30001) == INVALID_AMOUNT
    assert await reason(OperationKind.REFUND, 30000) == 0
    assert await reason(OperationKind.REFUND, 1) == INVALID_AMOUNT
    entry = await stored(ledger, hold.key)
    assert (entry.captured, entry.refunded, entry.held, entry.taken) == (50000, 50000, 0, 0)


async def test_refunds_at_once_never_exceed_what_was_taken(simulator: Simulator, ledger: Store) -> None:
    bought = purchase()
    await simulator.send(bought)
    answers = await asyncio.gather(
        *(simulator.send(ask(OperationKind.REFUND, of=bought.key, amount=30000)) for _ in range(5))
    )
    assert sorted(answer.reason_code for answer in answers) == [0, 0, *[INVALID_AMOUNT] * 3]
    assert (await stored(ledger, bought.key)).taken == 20000


async def test_void_releases_the_hold_once(simulator: Simulator, ledger: Store) -> None:
    hold = authorize()
    await simulator.send(hold)
    void = ask(OperationKind.VOID, of=hold.key)
    assert (await simulator.send(void)).verdict is Verdict.APPROVED
    assert (await simulator.send(void)).verdict is Verdict.APPROVED
    for kind in (OperationKind.VOID, OperationKind.CAPTURE, OperationKind.REFUND):
        assert (await simulator.send(ask(kind, of=hold.key))).reason_code == INVALID_TRANSACTION
    entry = await stored(ledger, hold.key)
    assert (entry.voided_at, entry.held) == (AT, 0)


@pytest.mark.parametrize("kind", (OperationKind.CAPTURE, OperationKind.VOID, OperationKind.REFUND))
async def test_follow_up_of_nothing(simulator: Simulator, kind: OperationKind) -> None:
    hold = authorize()
    await simulator.send(hold)
    assert (await simulator.send(ask(kind, of=IDS.new()))).reason_code == NOT_FOUND
    assert (await simulator.send(ask(kind, of=hold.key, terminal_id=IDS.new()))).reason_code == NOT_FOUND


async def test_verification_takes_nothing(simulator: Simulator, ledger: Store) -> None:
    request = replace(authorize(), amount=0)
    answer = await simulator.send(request)
    assert (answer.verdict, answer.amount) == (Verdict.APPROVED, 0)
    assert (await stored(ledger, request.key)).held == 0


async def test_restart_keeps_the_ledger(database_url: str) -> None:
    approved, reversed_one, unseen = purchase(), purchase(), purchase()
    first = Simulator(await open_ledger(database_url, instance=1))
    answer = await first.send(approved)
    await first.send(reversed_one)
    for original in (reversed_one, unseen):
        await first.send(ask(OperationKind.REVERSAL, of=original.key))
    await first.close()

    second = Simulator(await open_ledger(database_url, instance=2))
    assert await second.send(approved) == answer
    assert (await second.send(ask(OperationKind.INQUIRY, of=approved.key))).verdict is Verdict.APPROVED
    for original in (reversed_one, unseen):
        assert (await second.send(original)).verdict is Verdict.DECLINED
    await second.close()


@pytest.mark.parametrize(
    "request_",
    (
        ask(OperationKind.AUTHORIZE),
        ask(OperationKind.PURCHASE),
        ask(OperationKind.REVERSAL),
        ask(OperationKind.INQUIRY),
        ask(OperationKind.REFUND),
    ),
    ids=lambda request: request.kind.value,
)
async def test_request_that_lacks_its_subject(simulator: Simulator, request_: AcquirerRequest) -> None:
    with pytest.raises(ValueError, match=r"has no card|names no original"):
        await simulator.send(request_)


@pytest.mark.parametrize("kind", (OperationKind.AUTHORIZE, OperationKind.PURCHASE))
async def test_doubt_that_an_inquiry_ends(simulator: Simulator, ledger: Store, kind: OperationKind) -> None:
    request = ask(kind, number=build_number(454))
    for _ in range(2):
        answer = await simulator.send(request)
        assert (answer.verdict, answer.reason_code, answer.amount) == (Verdict.UNKNOWN, MAY_BE_HELD, 0)
    entry = await stored(ledger, request.key)
    assert entry.held + entry.taken == AMOUNT
    inquiry = await simulator.send(ask(OperationKind.INQUIRY, of=request.key))
    assert (inquiry.verdict, inquiry.amount, inquiry.approval_code) == (
        Verdict.APPROVED,
        AMOUNT,
        approval_code(request.key),
    )
    if kind is OperationKind.AUTHORIZE:
        assert (await simulator.send(ask(OperationKind.CAPTURE, of=request.key))).verdict is Verdict.APPROVED


async def test_doubt_about_what_never_happened(simulator: Simulator, ledger: Store) -> None:
    request = purchase(build_number(459))
    answer = await simulator.send(request)
    assert (answer.verdict, answer.reason_code) == (Verdict.UNKNOWN, NEVER_HEARD_OF)
    assert await find(ledger, request.key) is None
    assert (await simulator.send(ask(OperationKind.INQUIRY, of=request.key))).verdict is Verdict.NOT_FOUND
    assert (await simulator.send(ask(OperationKind.REVERSAL, of=request.key))).verdict is Verdict.APPROVED
    assert (await simulator.send(request)).verdict is Verdict.DECLINED


async def test_doubt_that_only_a_reversal_ends(simulator: Simulator, ledger: Store) -> None:
    request = purchase(build_number(460))
    inquiry = ask(OperationKind.INQUIRY, of=request.key)
    for question in (request, inquiry, request, inquiry):
        answer = await simulator.send(question)
        assert (answer.key, answer.verdict, answer.reason_code) == (question.key, Verdict.UNKNOWN, HELD_FOR_EVER)
    assert (await stored(ledger, request.key)).taken == AMOUNT
    assert (await simulator.send(ask(OperationKind.REVERSAL, of=request.key))).verdict is Verdict.APPROVED
    assert (await stored(ledger, request.key)).taken == 0
    for question in (request, inquiry):
        answer = await simulator.send(question)
        assert (answer.verdict, answer.reason_code) == (Verdict.DECLINED, NO_ACTION)


@pytest.mark.parametrize("kind", (OperationKind.CAPTURE, OperationKind.VOID, OperationKind.REFUND))
@pytest.mark.parametrize("hundredths", (0, 54, 58, 66, 45))
async def test_fraction_chooses_a_follow_ups_outcome(
    simulator: Simulator, ledger: Store, kind: OperationKind, hundredths: int
) -> None:
    amount = 50000 + hundredths
    original = purchase() if kind is OperationKind.REFUND else authorize()
    if kind is OperationKind.VOID:  # the hold's amount counts, whatever the void says
        original = replace(original, amount=amount)
    await simulator.send(original)
    request = ask(kind, of=original.key, amount=70000 if kind is OperationKind.VOID else amount)
    expected = {54: (Verdict.UNKNOWN, MAY_BE_HELD), 66: (Verdict.DECLINED, DECLINED_BY_ISSUER)}
    for _ in range(2):
        answer = await simulator.send(request)
        assert (answer.verdict, answer.reason_code) == expected.get(hundredths, (Verdict.APPROVED, 0))
    inquiry = await simulator.send(ask(OperationKind.INQUIRY, of=request.key))
    truth = Verdict.DECLINED if hundredths == 66 else Verdict.APPROVED
    assert inquiry.verdict is truth
    entry = await stored(ledger, original.key)
    is_moved = bool(entry.voided_at or entry.refunded or (entry.captured and kind is OperationKind.CAPTURE))
    assert is_moved == (truth is Verdict.APPROVED)


@pytest.mark.parametrize(
    ("amount", "currency", "hundredths"),
    (
        (80054, "KZT", 54),
        (54, "KZT", 54),
        (80000, "KZT", 0),
        (5454, "JPY", 0),
        (1540, "KWD", 54),
        (1545, "KWD", 0),
    ),
)
def test_fraction(amount: int, currency: str, hundredths: int) -> None:
    assert fraction(amount, currency) == hundredths


async def test_pages_of_the_book(simulator: Simulator, ledger: Store) -> None:
    later = AT + timedelta(seconds=1)
    requests = [replace(authorize(), at=at) for at in (AT, AT, AT, later, later)]
    for request in reversed(requests):
        await simulator.send(request)
    until = later + timedelta(seconds=1)
    after: Cursor | None = None
    keys: list[UUID] = []
    sizes = []
    while True:
        page = await read_page(ledger, AT, until, after, size=2)
        keys += [entry.key for entry in page.entries]
        sizes.append(len(page.entries))
        if (after := page.next) is None:
            break
    assert keys == [request.key for request in requests]
    assert sizes == [2, 2, 1]
    assert [line.key for line in await simulator.statement(later, until)] == [r.key for r in requests[3:]]
    assert await simulator.statement(AT - timedelta(days=1), AT) == []


TODAY = date(2026, 11, 24)
NOT_SANDBOX = {CardField.NUMBER: CardProblem.NUMBER_NOT_SANDBOX}
PAST = {CardField.EXPIRY: CardProblem.EXPIRY_PAST}


@pytest.mark.parametrize(
    ("typed", "problems"),
    (
        (card(), {}),
        (card(expiry=Expiry(2026, 11)), {}),
        (card(expiry=Expiry(2026, 10)), PAST),
        (card("4111111111111111"), NOT_SANDBOX),
        (card(build_number(0, authentication="1")), {}),
        (card(build_number(0, authentication="9")), NOT_SANDBOX),
        (card(build_number(454)), {}),
        (card(build_number(474)), NOT_SANDBOX),
        (card("4405639704015096", Expiry(2025, 1), "815"), {}),
        (card("4405639704015096", Expiry(2025, 1), "321"), PAST),
        (card("4405639704015096", Expiry(2025, 2), "815"), PAST),
        (card("4405639704015096", Expiry(2029, 5), "000"), {}),
        (card("377514500004820", Expiry(2025, 1), "4169"), {}),
        (card("4003032704547597", Expiry(2020, 9), "170"), {}),
        (card("5578342710750560", Expiry(2020, 9), "254"), {}),
        (card("5578342710750560", Expiry(2020, 9), "170"), PAST),
        (card("4111111111111111", Expiry(2020, 9)), NOT_SANDBOX | PAST),
        (TypedCard(Pan("4003032704547597"), Expiry(2020, 9), None), {}),
        (TypedCard(Pan("4405639704015096"), Expiry(2020, 9), None), PAST),
        (TypedCard(Pan("4111111111111111"), None, None), NOT_SANDBOX),
        (TypedCard(None, Expiry(2020, 9), Cvc("170")), {}),
        (TypedCard(None, Expiry(2020, 9), Cvc("171")), PAST),
        (TypedCard(None, Expiry(2020, 8), None), PAST),
        (TypedCard(None, None, None), {}),
    ),
    ids=str,
)
def test_check(typed: TypedCard, problems: dict[CardField, CardProblem]) -> None:
    assert check_card(typed, TODAY) == problems
