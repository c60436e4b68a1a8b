"""The simulator as a real process: its faults on a real connection, its door, its stop, and kill -9."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import aiohttp
import pytest
from msgspec.structs import replace

from tests.acquirers.programs import Program, running_program
from tests.sandbox.test_line import AT, IDS, ask
from tolem.acquirers.base import AcquirerRequest, AnswerGarbled, StatementLine, Verdict
from tolem.acquirers.http import HttpAcquirer
from tolem.acquirers.messages import EXCHANGE_PATH, REQUEST_BYTES_MAX, encode_request
from tolem.domain.payment import OperationKind
from tolem.sandbox.simulator import check_card

SECRET = "a-shared-secret-of-24-and-more"
LATE_SECONDS = 0.5


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """One that all tests share which do not stop it."""
    folder = tmp_path_factory.mktemp("program")
    options = ("--late-seconds", str(LATE_SECONDS), "--delay-seconds", "0.1")
    with running_program(folder, "sqlite:///simulator.db", *options, TOLEM_ACQUIRER_SECRET=SECRET) as running:
        yield running


@pytest.fixture
async def acquirer(program: Program) -> AsyncIterator[HttpAcquirer]:
    connector = HttpAcquirer(program.url, SECRET, check=check_card)
    yield connector
    await connector.close()


async def inquire(acquirer: HttpAcquirer, key: UUID) -> Verdict:
    return (await acquirer.send(ask(OperationKind.INQUIRY, of=key))).verdict


async def hears_nothing(acquirer: HttpAcquirer, request: AcquirerRequest, seconds: float = 0.2) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(seconds):
            await acquirer.send(request)


async def book(acquirer: HttpAcquirer) -> list[StatementLine]:
    return await acquirer.statement(datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC))


async def test_slow_answer(acquirer: HttpAcquirer) -> None:
    started = time.monotonic()
    assert (await acquirer.send(ask(OperationKind.PURCHASE, line="1"))).verdict is Verdict.APPROVED
    assert time.monotonic() - started >= 0.1


@pytest.mark.parametrize(("line", "verdict"), (("2", Verdict.APPROVED), ("3", Verdict.NOT_FOUND)))
async def test_connection_is_cut(acquirer: HttpAcquirer, line: str, verdict: Verdict) -> None:
    request = ask(OperationKind.PURCHASE, line=line)
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await acquirer.send(request)
    assert await inquire(acquirer, request.key) is verdict


async def test_garbled_answer(acquirer: HttpAcquirer) -> None:
    request = ask(OperationKind.PURCHASE, line="4")
    with pytest.raises(AnswerGarbled):
        await acquirer.send(request)
    assert await inquire(acquirer, request.key) is Verdict.APPROVED


async def test_late_request(acquirer: HttpAcquirer) -> None:
    late, reversed_one = ask(OperationKind.PURCHASE, line="5"), ask(OperationKind.PURCHASE, line="5")
    await asyncio.gather(*(hears_nothing(acquirer, request) for request in (late, reversed_one)))
    assert await inquire(acquirer, late.key) is Verdict.NOT_FOUND
    assert (await acquirer.send(ask(OperationKind.REVERSAL, of=reversed_one.key))).verdict is Verdict.APPROVED
    deadline = time.monotonic() + 30
    while await inquire(acquirer, late.key) is Verdict.NOT_FOUND:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)
    assert await inquire(acquirer, late.key) is Verdict.APPROVED
    assert await inquire(acquirer, reversed_one.key) is Verdict.DECLINED


async def test_refund_whose_answer_is_lost(acquirer: HttpAcquirer) -> None:
    bought = ask(OperationKind.PURCHASE)
    await acquirer.send(bought)
    refund = ask(OperationKind.REFUND, of=bought.key, amount=1058)
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await acquirer.send(refund)
    assert await inquire(acquirer, refund.key) is Verdict.APPROVED


async def test_door(program: Program) -> None:
    body = encode_request(ask(OperationKind.PURCHASE))
    async with aiohttp.ClientSession() as session:
        for given in (None, "Bearer", "Bearer x", f"Bearer {SECRET}x", f"Basic {SECRET}", "Bearer \u00e9"):
            headers = {"authorization": given} if given else None
            async with session.post(program.url + EXCHANGE_PATH, data=body, headers=headers) as answer:
                assert answer.status == 401
            async with session.get(program.url + "/v1/statement", headers=headers) as answer:
                assert answer.status == 401
        async with session.get(program.url + "/healthz") as answer:
            assert (answer.status, await answer.json()) == (200, {"status": "ok"})
    connector = HttpAcquirer(program.url, check=check_card)
    with pytest.raises(AnswerGarbled, match="401"):
        await connector.send(ask(OperationKind.PURCHASE))
    await connector.close()


async def test_bad_requests_leave_no_trace(program: Program, acquirer: HttpAcquirer) -> None:
    before = len(await book(acquirer))
    headers = {"authorization": f"Bearer {SECRET}"}
    good = encode_request(ask(OperationKind.PURCHASE))

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b" " * 1024

    async with aiohttp.ClientSession(headers=headers) as session:
        for body, status in (
            (b"", 400),
            (good[:-5], 400),
            (b"[" * 8000, 400),
            (good.replace(b"purchase", b"gift"), 400),
            (good.replace(b"4400430", b"x400430"), 400),
            (b" " * (REQUEST_BYTES_MAX + 1), 413),
            (chunks(), 413),
        ):
            async with session.post(program.url + EXCHANGE_PATH, data=body) as answer:
                assert answer.status == status, body
                assert "440043" not in await answer.text()
        async with session.get(program.url + EXCHANGE_PATH) as answer:
            assert answer.status == 405
        async with session.get(program.url + "/") as answer:
            assert answer.status == 404
        for query in ("", "?since=x&until=y", "?since=2026-01-01T00:00:00&until=2026-01-02T00:00:00Z"):
            async with session.get(program.url + "/v1/statement" + query) as answer:
                assert answer.status == 400
        whole = "?since=2026-01-01T00:00:00Z&until=2027-01-01T00:00:00Z"
        async with session.get(program.url + "/v1/statement" + whole + "&after=nowhere") as answer:
            assert answer.status == 400
    assert len(await book(acquirer)) == before


async def test_no_card_number_anywhere(program: Program, acquirer: HttpAcquirer) -> None:
    requests = [ask(OperationKind.PURCHASE, line=line) for line in "0124"]
    await asyncio.gather(*map(acquirer.send, requests), return_exceptions=True)
    numbers = [request.card.pan.reveal().encode() for request in requests if request.card]
    assert len(numbers) == 4
    for path in program.folder.iterdir():
        content = path.read_bytes()
        assert not any(number in content for number in numbers), path
    log = program.log.read_text()
    assert "Traceback" not in log
    assert "ASGI" not in log


async def test_kill_and_start_again(tmp_path: Path) -> None:
    with running_program(tmp_path, f"sqlite:///{tmp_path / 'book.db'}") as program:
        acquirer = HttpAcquirer(program.url, check=check_card)
        known: dict[UUID, Verdict] = {}
        asked: list[UUID] = []

        async def buy() -> None:
            while True:
                request = ask(OperationKind.PURCHASE)
                asked.append(request.key)
                try:
                    known[request.key] = (await acquirer.send(request)).verdict
                except (aiohttp.ClientError, OSError):
                    return

        buyers = [asyncio.create_task(buy()) for _ in range(8)]
        while len(known) < 40:  # noqa: ASYNC110 - what it waits for happens in another process
            await asyncio.sleep(0.01)
        program.kill()
        await asyncio.gather(*buyers)
        with pytest.raises((aiohttp.ClientError, OSError)):
            await acquirer.send(ask(OperationKind.PURCHASE))
        program.start()
        lines = {line.key for line in await book(acquirer)}
        assert known.keys() <= lines <= set(asked)
        for key in known:
            assert await inquire(acquirer, key) is Verdict.APPROVED
        for key in set(asked) - lines:
            assert (await acquirer.send(ask(OperationKind.REVERSAL, of=key))).verdict is Verdict.APPROVED
        await acquirer.close()


async def test_stop_ends_what_is_held_open(tmp_path: Path) -> None:
    with running_program(tmp_path, "sqlite:///simulator.db") as program:
        acquirer = HttpAcquirer(program.url, check=check_card)
        await acquirer.send(ask(OperationKind.PURCHASE))
        held = asyncio.create_task(acquirer.send(ask(OperationKind.PURCHASE, line="5")))
        await asyncio.sleep(0.2)
        started = time.monotonic()
        assert await asyncio.to_thread(program.stop) == 0
        assert time.monotonic() - started < 4
        with pytest.raises((aiohttp.ClientError, OSError)):
            await held
        await acquirer.close()
        assert "Traceback" not in program.log.read_text()


async def test_two_gateways_share_one(acquirer: HttpAcquirer, program: Program) -> None:
    other = HttpAcquirer(program.url, SECRET, check=check_card)
    bought = ask(OperationKind.PURCHASE)
    await acquirer.send(bought)
    refunds = [ask(OperationKind.REFUND, of=bought.key, amount=30000) for _ in range(6)]
    answers = await asyncio.gather(*((acquirer, other)[n % 2].send(refund) for n, refund in enumerate(refunds)))
    assert [answer.verdict for answer in answers].count(Verdict.APPROVED) == 2
    await other.close()


async def test_statement_over_many_pages(acquirer: HttpAcquirer) -> None:
    since = AT + timedelta(days=300)
    keys = []
    for number in range(3):
        batch = [_at(ask(OperationKind.PURCHASE), since + timedelta(seconds=number)) for _ in range(70)]
        await asyncio.gather(*map(acquirer.send, batch))
        keys += [request.key for request in batch]
    lines = await acquirer.statement(since, since + timedelta(days=1))
    assert [line.key for line in lines] == sorted(keys)


def _at(request: AcquirerRequest, at: datetime) -> AcquirerRequest:
    return replace(request, at=at, key=IDS.new())


def test_log_is_json_without_bodies(program: Program) -> None:
    entries = [json.loads(line) for line in program.log.read_text().splitlines() if line.startswith("{")]
    assert {entry["event"] for entry in entries} <= {"exchange", "late_request"}
