"""The connector against servers that break every rule: each is an unknown outcome, bounded in memory, sent once."""

import asyncio
import json
import resource
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import aiohttp
import pytest
from msgspec.structs import replace
from structlog.testing import capture_logs

from tolem.acquirers.base import AcquirerAnswer, AcquirerRequest, AnswerGarbled, Verdict
from tolem.acquirers.http import HttpAcquirer, check_url
from tolem.acquirers.messages import (
    ANSWER_BYTES_MAX,
    InvalidRequest,
    encode_answer,
    encode_request,
    parse_answer,
    parse_request,
)
from tolem.domain.authentication import Authentication, TransStatus
from tolem.domain.card import Card, Cvc, Expiry, Pan
from tolem.domain.payment import OperationKind

KEY = UUID("019abcde-0000-7000-8000-000000000001")
PAN, CVC = "4405639704015096", "815"
AT = datetime(2026, 11, 24, 4, 42, 51, 960781, tzinfo=UTC)
REQUEST = AcquirerRequest(
    key=KEY,
    kind=OperationKind.PURCHASE,
    terminal_id=UUID("67e34d63-102f-4bd1-898e-370781d0074d"),
    amount=80000,
    currency="KZT",
    stan="123456",
    rrn="632804123456",
    at=AT,
    card=Card(Pan(PAN), Expiry(2027, 1), Cvc(CVC), "ARMAN ALI"),
    authentication=Authentication(TransStatus.AUTHENTICATED, "05", "AAABBBCCC"),
)
ANSWER = AcquirerAnswer(
    key=KEY, verdict=Verdict.APPROVED, amount=80000, currency="KZT", approval_code="123456", rrn="632804123456"
)
GOOD: dict[str, Any] = json.loads(encode_answer(ANSWER))

Handle = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def http(body: bytes, status: str = "200 OK", *headers: str) -> bytes:
    head = "\r\n".join((f"HTTP/1.1 {status}", f"content-length: {len(body)}", *headers))
    return head.encode() + b"\r\n\r\n" + body


class Server:
    """A server on a port of this machine that does what `handle` says with every request."""

    def __init__(self, handle: Handle) -> None:
        self._handle = handle
        self._server: asyncio.Server
        self._writers: set[asyncio.StreamWriter] = set()
        self.port = 0
        self.requests: list[bytes] = []
        self.connections = 0

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
                self.requests.append(head + await reader.readexactly(length))
                await self._handle(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            return  # the client went away, as it should
        finally:
            self._writers.discard(writer)
            writer.close()


@asynccontextmanager
async def talking_to(handle: Handle, secret: str = "") -> AsyncIterator[tuple[HttpAcquirer, Server]]:
    server = Server(handle)
    await server.start()
    acquirer = HttpAcquirer(f"http://127.0.0.1:{server.port}", secret, check=lambda card, today: {})
    try:
        yield acquirer, server
    finally:
        await acquirer.close()
        await server.stop()


def answering(*pieces: bytes, pause: float = 0.0, then: str = "stay") -> Handle:
    """Writes the pieces; then the connection stays, is closed, or is reset."""

    async def handle(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause)
        if then == "close":
            writer.close()
        elif then == "reset":
            writer.transport.abort()

    return handle


def told(**changes: Any) -> bytes:
    return json.dumps(GOOD | changes).encode()


def without(name: str) -> bytes:
    return json.dumps({key: value for key, value in GOOD.items() if key != name}).encode()


async def test_good_answer_over_one_connection() -> None:
    async with talking_to(answering(http(told()))) as (acquirer, server):
        assert [await acquirer.send(REQUEST) for _ in range(3)] == [ANSWER] * 3
        assert (server.connections, len(server.requests)) == (1, 3)
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /v1/exchange HTTP/1.1\r\n")
    assert PAN.encode() not in head
    assert b"authorization" not in head.lower()
    assert parse_request(body) == REQUEST


async def test_secret_goes_in_the_header() -> None:
    async with talking_to(answering(http(told())), "x" * 24) as (acquirer, server):
        await acquirer.send(REQUEST)
    assert b"authorization: bearer " + b"x" * 24 in server.requests[0].lower()


@pytest.mark.parametrize(
    "answer",
    (
        http(told(key="019abcde-0000-7000-8000-000000000002")),
        http(told(verdict="perhaps")),
        http(told(verdict=None)),
        http(told(reason_code=484)),
        http(told(verdict="declined")),
        http(told(verdict="declined", reason_code=99999)),
        http(told(reason_code=-1)),
        http(told(amount="80000")),
        http(told(amount=80000.0)),
        http(told(amount=-1)),
        http(told(amount=10**15)),
        http(told(amount=True)),
        http(told(currency="tenge")),
        http(told(rrn="x")),
        http(told(approval_code="1234567")),
        http(told(issuer_name="x" * 101)),
        http(told(surprise=1)),
        *(http(without(name)) for name in GOOD),
        http(told()[:-1]),
        http(told()[:30]),
        http(told() + b"}"),
        http(b""),
        http(b"null"),
        http(b"[]"),
        http(b"[" * 60_000),
        http(b'{"surprise":' + b"[" * 60_000),
        http(b"\xff\xfe\x00"),
        http(b"<html>504 Gateway Time-out</html>"),
        http(told(), "500 Internal Server Error"),
        http(told(), "503 Service Unavailable"),
        http(b"", "204 No Content"),
        http(told(), "201 Created"),
        http(b"", "302 Found", "location: http://127.0.0.1:9/"),
        http(b"x" * (ANSWER_BYTES_MAX + 1)),
        http(told(), "200 OK", "content-encoding: gzip"),
        b"HTTP/1.1 200 OK\r\ncontent-length: -5\r\n\r\n" + told(),
        b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx-long: " + b"x" * 100_000 + b"\r\n\r\n",
    ),
    ids=lambda answer: answer.partition(b"\r\n\r\n")[2][:40].decode("latin-1"),
)  # fmt: skip
async def test_what_is_no_answer_raises(answer: bytes) -> None:
    async with talking_to(answering(answer, then="close")) as (acquirer, server):
        if b"gzip" in answer:  # what it says of itself does not count: it was not asked for, the body is JSON
            assert await acquirer.send(REQUEST) == ANSWER
        else:
            with pytest.raises((AnswerGarbled, aiohttp.ClientError)) as raised:
                await acquirer.send(REQUEST)
            assert PAN not in str(raised.value)
        assert len(server.requests) == 1


@pytest.mark.parametrize(
    "handle",
    (
        answering(then="close"),
        answering(then="reset"),
        answering(http(told())[:40], then="close"),
        answering(http(told())[:-10], then="close"),
        answering(http(told())[:-10], then="reset"),
        answering(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{\"key", then="close"),
    ),
)  # fmt: skip
async def test_connection_that_ends_early_is_not_tried_again(handle: Handle) -> None:
    async with talking_to(handle) as (acquirer, server):
        with pytest.raises((aiohttp.ClientError, OSError)):
            await acquirer.send(REQUEST)
        assert len(server.requests) == 1


@pytest.mark.parametrize(
    "handle",
    (
        answering(),
        answering(*(bytes((byte,)) for byte in http(told())), pause=0.05),
        answering(b"HTTP/1.1 100 Continue\r\n\r\n"),
        answering(b"HTTP/1.1 200 OK\r\ncontent-length: 300\r\n\r\n", b"{"),
    ),
    ids=("silent", "slow drip", "continue", "body never ends"),
)
async def test_callers_deadline_ends_it_and_its_connection(handle: Handle) -> None:
    async with talking_to(handle) as (acquirer, server):
        for _ in range(2):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.15):
                    await acquirer.send(REQUEST)
        assert server.connections == 2  # never a second question on a connection that owes an answer


async def test_ten_megabytes_cost_nothing() -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        for _ in range(100):
            writer.write(b"%x\r\n" % 100_000 + b" " * 100_000 + b"\r\n")
            await writer.drain()

    async with talking_to(handle) as (acquirer, _):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for _ in range(10):
            with pytest.raises(AnswerGarbled, match="larger"):
                await acquirer.send(REQUEST)
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 8 * 1024  # KiB


async def test_refused_and_down_and_back_up() -> None:
    async with talking_to(answering(http(told()))) as (acquirer, server):
        assert await acquirer.send(REQUEST) == ANSWER
        await server.stop()
        for _ in range(2):
            with pytest.raises((aiohttp.ClientError, OSError)):
                await acquirer.send(REQUEST)
        await server.start()
        assert await acquirer.send(REQUEST) == ANSWER
        assert server.connections == 2


async def test_answers_do_not_meet_others_exchanges() -> None:
    other = replace(REQUEST, key=UUID("019abcde-0000-7000-8000-000000000009"))

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        key = json.loads(server.requests[-1].partition(b"\r\n\r\n")[2])["key"]
        if key == str(KEY):
            await asyncio.sleep(0.1)  # its caller gives up before
        writer.write(http(told(key=key)))

    async with talking_to(handle) as (acquirer, server):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await acquirer.send(REQUEST)
        assert (await acquirer.send(other)).key == other.key


async def test_statement_that_is_broken() -> None:
    line = {
        "key": str(KEY), "kind": "purchase", "original_key": None, "terminal_id": str(REQUEST.terminal_id),
        "amount": 1, "currency": "KZT", "rrn": "632804123456", "is_approved": True, "is_undone": False,
        "at": AT.isoformat(),
    }  # fmt: skip
    early, late = AT - timedelta(hours=1), AT + timedelta(hours=1)
    before = line | {"at": (AT - timedelta(minutes=1)).isoformat()}
    for page in (
        {"lines": [line], "next": "again"},  # the same page for ever
        {"lines": [], "next": "x"},
        {"lines": [line, before], "next": ""},
        {"lines": [line | {"at": (AT + timedelta(days=1)).isoformat()}], "next": ""},
        {"lines": [line | {"at": AT.replace(tzinfo=None).isoformat()}], "next": ""},
        {"lines": [line | {"kind": "gift"}], "next": ""},
        {"lines": [{}], "next": ""},
        {"lines": [line]},
    ):
        async with talking_to(answering(http(json.dumps(page).encode()))) as (acquirer, server):
            with pytest.raises(AnswerGarbled):
                await acquirer.statement(early, late)
            assert len(server.requests) <= 2
    async with talking_to(answering(http(json.dumps({"lines": [line], "next": ""}).encode()))) as (acquirer, server):
        (read,) = await acquirer.statement(early, late)
        assert (read.key, read.at, read.kind) == (KEY, AT, OperationKind.PURCHASE)


async def test_nothing_of_a_card_is_logged(capfd: pytest.CaptureFixture[str]) -> None:
    with capture_logs() as logs:
        async with talking_to(answering(http(told(verdict="x")), then="close")) as (acquirer, _):
            with pytest.raises(AnswerGarbled):
                await acquirer.send(REQUEST)
    output = "".join(capfd.readouterr()) + repr(logs)
    assert PAN not in output
    assert CVC not in output


@pytest.mark.parametrize(
    ("url", "is_allowed"),
    (
        ("https://acquirer.example", True),
        ("https://acquirer.example:8443/", True),
        ("http://127.0.0.1:8702", True),
        ("http://[::1]:8702", True),
        ("http://localhost:8702", True),
        ("http://acquirer.example", False),
        ("http://10.0.0.1:8702", False),
        ("http://127.0.0.1.example", False),
        ("https://user:password@acquirer.example", False),
        ("https://acquirer.example/?x=1", False),
        ("https://acquirer.example/path", False),
        ("ftp://acquirer.example", False),
        ("acquirer.example:8702", False),
        ("", False),
    ),
)
def test_cards_travel_encrypted_or_not_at_all(url: str, is_allowed: bool) -> None:
    if is_allowed:
        check_url(url)
    else:
        with pytest.raises(ValueError, match="must be"):
            check_url(url)


@pytest.mark.parametrize(
    ("changes", "words"),
    (
        ({"amount": -1}, r"\$\.amount"),
        ({"currency": "ZZZ"}, "currency"),
        ({"kind": "gift"}, r"\$\.kind"),
        ({"card": None}, "needs a card"),
        ({"kind": "refund"}, "needs original_key"),
        ({"kind": "refund", "original_key": str(KEY)}, "takes no card"),
        ({"at": "2026-11-24T00:00:00"}, r"\$\.at"),
        ({"stan": "1"}, r"\$\.stan"),
        ({"key": "x"}, r"\$\.key"),
        ({"more": 1}, "no request"),
        ({"card": {"pan": PAN + "x", "expiry_year": 2027, "expiry_month": 1, "cvc": CVC, "holder": ""}}, r"card\.pan"),
        ({"card": {"pan": PAN, "expiry_year": 2027, "expiry_month": 13, "cvc": CVC, "holder": ""}}, "expiry_month"),
    ),
)
def test_request_that_is_none(changes: dict[str, Any], words: str) -> None:
    body = json.loads(encode_request(REQUEST)) | changes
    with pytest.raises(InvalidRequest, match=words) as raised:
        parse_request(json.dumps(body).encode())
    assert PAN not in str(raised.value)


def test_messages_come_back_as_they_were() -> None:
    follow_up = replace(
        REQUEST, kind=OperationKind.REFUND, card=None, authentication=None, original_key=KEY, currency="USD"
    )
    for request in (REQUEST, follow_up):
        assert parse_request(encode_request(request)) == request
    declined = replace(ANSWER, verdict=Verdict.DECLINED, reason_code=484, amount=0, approval_code="")
    for answer in (ANSWER, declined):
        assert parse_answer(encode_answer(answer), KEY) == answer
