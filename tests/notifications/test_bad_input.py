"""Whatever a shop's server does, its message ends in the right state, with words and a kind that help. Real sockets,
through the whole notifier, on both databases."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import aiohttp
import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from tests.notifications.post import GAPS, Post, running, until
from tests.notifications.shops import (
    Behaviour,
    answer,
    drip,
    find_free_port,
    flood,
    hang,
    open_shop,
    raw,
    reset_after,
    sign_nothing,
)
from tests.notifications.test_sender import TERMS, build_message, build_tls
from tolem.clock import SystemClock
from tolem.domain.message import Fault, MessageState
from tolem.notifications import guard
from tolem.notifications.sender import GARBLED_REST, Sender
from tolem.notifications.terms import DEFAULT_TERMS

WAITING, DELIVERED, DEAD = MessageState.WAITING, MessageState.DELIVERED, MessageState.DEAD
OK = b"HTTP/1.1 200 OK\r\n"
HOUR = timedelta(hours=1)


class Expected(NamedTuple):
    """What a first try comes to."""

    state: MessageState
    status: int | None = None
    fault: Fault | None = None
    words: str = ""
    """How its error begins."""
    response: bytes | None = b""
    """None: whatever came."""
    waits: timedelta = GAPS[1]
    """Until the next try, if there is one."""


ANSWERS: dict[str, tuple[Behaviour, Expected]] = {
    "accepts and says nothing": (
        hang,
        Expected(WAITING, None, Fault.TIMED_OUT, "timed out: no answer within 1.5 s"),
    ),
    "a byte at a time, headers": (
        drip(OK + b"x: "),
        Expected(WAITING, None, Fault.TIMED_OUT, "timed out: no answer within 1.5 s"),
    ),
    "a byte at a time, body": (drip(OK + b"content-length: 5000\r\n\r\n"), Expected(DELIVERED, 200, response=None)),
    "ten megabytes": (flood, Expected(DELIVERED, 200, response=b"f" * TERMS.response_bytes)),
    "ten megabytes of a failure": (
        raw(b"HTTP/1.1 500 Oops\r\n\r\n" + b"e" * 10_000_000),
        Expected(WAITING, 500, response=b"e" * TERMS.response_bytes),
    ),
    "another protocol": (
        raw(b"220 mail.shop.kz ESMTP\r\n"),
        Expected(WAITING, None, Fault.GARBLED, "the answer is not valid HTTP"),
    ),
    "zeros": (raw(b"\0" * 100), Expected(WAITING, None, Fault.GARBLED, "the answer is not valid HTTP")),
    "a status that is none": (
        raw(b"HTTP/1.1 abc Words\r\n\r\n"),
        Expected(WAITING, None, Fault.GARBLED, "the answer is not valid HTTP"),
    ),
    "more bytes than it names": (
        raw(OK + b"content-length: 1\r\n\r\nxTRAILING GARBAGE\r\n\r\n"),
        Expected(DELIVERED, 200, words=GARBLED_REST, response=b"x"),
    ),
    "another answer behind it": (
        raw(b"HTTP/1.1 500 No\r\ncontent-length: 1\r\n\r\nx" + OK + b"content-length: 1\r\n\r\ny"),
        Expected(WAITING, 500, response=b"x"),
    ),
    "a chunk that is none": (
        raw(OK + b"transfer-encoding: chunked\r\n\r\nZZZ\r\n"),
        Expected(DELIVERED, 200, words=GARBLED_REST),
    ),
    "two lengths": (
        raw(OK + b"content-length: 1\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"),
        Expected(DELIVERED, 200, words=GARBLED_REST),
    ),
    "two lengths, and to wait": (
        raw(b"HTTP/1.1 503 No\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\nretry-after: 3600\r\n\r\n"),
        Expected(WAITING, 503, words=GARBLED_REST, waits=HOUR),
    ),
    "an interim answer before it": (
        raw(b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"content-length: 1\r\n\r\nx!"),
        Expected(DELIVERED, 200, words=GARBLED_REST, response=b"x"),
    ),
    "headers that are none": (
        raw(OK + b"no header\r\n\r\n"),
        Expected(WAITING, None, Fault.GARBLED, "the answer is not valid HTTP"),
    ),
    "headers without end": (
        raw(OK + b"".join(b"x-%d: %s\r\n" % (number, b"a" * 1000) for number in range(2500))),
        Expected(WAITING, None, Fault.GARBLED, "the answer's headers are larger than 256 KB"),
    ),
    "nothing, and closed": (raw(b""), Expected(WAITING, None, Fault.CUT, "connection closed without an answer")),
    "a reset": (reset_after(), Expected(WAITING, None, Fault.CUT, "connection reset before an answer")),
    "a reset after the body": (
        reset_after(OK + b"content-length: 100\r\n\r\nsome"),
        Expected(DELIVERED, 200, response=b"some"),
    ),
    "text that is none": (answer(200, body=b"\xff\xfe\0"), Expected(DELIVERED, 200, response=b"\xff\xfe\0")),
    "a redirect": (answer(302, "location: http://127.0.0.1/"), Expected(WAITING, 302)),
    "gone": (answer(410), Expected(DEAD, 410)),
    "come back in an hour": (answer(503, "retry-after: 3600"), Expected(WAITING, 503, waits=HOUR)),
    "come back in a year": (answer(503, "retry-after: 31536000"), Expected(WAITING, 503, waits=24 * HOUR)),
    "come back at the end of time": (
        answer(429, "retry-after: Fri, 31 Dec 9999 23:59:59 GMT"),
        Expected(WAITING, 429, waits=24 * HOUR),
    ),
    "come back in the past": (
        answer(429, "retry-after: Thu, 01 Jan 1970 00:00:00 GMT"),
        Expected(WAITING, 429, waits=GAPS[1]),
    ),
    "come back some time": (answer(503, "retry-after: soon"), Expected(WAITING, 503)),
}
ADDRESSES: dict[str, Expected] = {
    "http://does-not-exist.invalid/paid": Expected(
        WAITING, None, Fault.NAME, "the name does-not-exist.invalid can't be resolved"
    ),
    "http://дүкен.invalid/": Expected(WAITING, None, Fault.NAME, "the name "),
    f"http://127.0.0.1:{find_free_port()}/": Expected(WAITING, None, Fault.REFUSED, "connection refused"),
    "http://[": Expected(WAITING, None, Fault.ADDRESS, "the address is malformed"),
    "http://shop.kz:99999/": Expected(WAITING, None, Fault.ADDRESS, "the address is malformed"),
    "ftp://127.0.0.1/": Expected(WAITING, None, Fault.ADDRESS, "the address "),
}


async def check(post: Post, expected: dict[str, Expected]) -> None:
    """Sends a message to each address, and compares what is on record."""
    messages = {url: await post.commit(await post.store_order(url)) for url in expected}
    terms = TERMS._replace(connect_seconds=1, whole_seconds=1.5)

    async def find_terms(_: object) -> Any:
        return terms

    notifier = post.notifier()
    notifier._find_terms = find_terms
    async with running(notifier):
        await until(lambda: len(post.results) == len(expected), seconds=20)
    for url, wanted in expected.items():
        message = await post.find(messages[url])
        (attempt,) = await post.list_attempts(messages[url])
        assert (message.state, attempt.status, attempt.fault) == (wanted.state, wanted.status, wanted.fault), url
        assert attempt.error.startswith(wanted.words), url
        assert bool(attempt.error) == bool(wanted.words), url
        if wanted.response is not None:
            assert attempt.response == wanted.response, url
        assert attempt.duration_ms < (15_000 if wanted.status is None else 1_500), url
        if wanted.state is WAITING:
            assert message.due_at is not None
            assert attempt.at + wanted.waits <= message.due_at <= post.clock.now() + wanted.waits * 1.1, url


async def test_answers(post: Post) -> None:
    async with AsyncExitStack() as stack:
        expected = {}
        for behaviour, wanted in ANSWERS.values():
            shop = await stack.enter_async_context(open_shop(behaviour))
            expected[shop.url] = wanted
        await check(post, expected)


async def test_addresses(post: Post) -> None:
    await check(post, ADDRESSES)


def speak_plainly(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    writer.close()


def with_tls(url: str) -> str:
    return url.replace("http://", "https://")


async def test_certificates(post: Post, tmp_path: Path) -> None:
    async with (
        open_shop(tls=build_tls(tmp_path, "127.0.0.1")[0]) as untrusted,
        open_shop(on_connection=speak_plainly) as plain,
        open_shop() as silent,
    ):
        await check(
            post,
            {
                untrusted.url: Expected(WAITING, None, Fault.CERTIFICATE, "TLS: the certificate is not accepted: self"),
                with_tls(plain.url): Expected(WAITING, None, Fault.TLS, "TLS failed: "),
                with_tls(silent.url): Expected(WAITING, None, Fault.TLS, "connected, and no TLS within 1 s"),
            },
        )
    assert untrusted.requests == plain.requests == silent.requests == []


async def test_a_long_link_arrives_whole_and_its_fragment_stays_here(post: Post) -> None:
    async with open_shop() as shop:
        path = "/" + "a" * 1900 + "?order=1&text=%D1%82%D3%A9%D0%BB%D0%B5%D0%BC"
        url = shop.url.rsplit("/", 1)[0] + path + "#part"
        assert len(url) <= guard.LINK_LENGTH_MAX
        await check(post, {url: Expected(DELIVERED, 200)})
    assert shop.requests[0].path == path


@asynccontextmanager
async def open_production_sender(tls: ssl.SSLContext) -> AsyncIterator[Sender]:
    sender = Sender(SystemClock(), sign_nothing, sandbox=False, per_host=4, tls=tls)
    yield sender
    await sender.close()


def answer_names(monkeypatch: pytest.MonkeyPatch, answers: Sequence[Sequence[str]]) -> None:
    """The name service gives these addresses, a new list each time."""
    turns = iter(answers)

    def look_up(_host: str, port: int, *_: object) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in next(turns)]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)


async def test_a_name_that_changes_its_mind_gains_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # 127.0.0.2 stands for a public address, 127.0.0.1 for one of ours.
    monkeypatch.setattr(guard, "is_public", lambda address: address == "127.0.0.2")
    answer_names(monkeypatch, [["127.0.0.2"], ["127.0.0.1"], ["127.0.0.2", "127.0.0.1"], ["127.0.0.1", "127.0.0.2"]])
    server_tls, client_tls = build_tls(tmp_path, "127.0.0.2")
    client_tls.check_hostname = False
    async with open_shop(tls=server_tls, host="127.0.0.2") as shop:
        url = shop.url.replace("127.0.0.2", "shop.kz")
        results = []
        for _ in range(4):
            async with open_production_sender(client_tls) as sender:
                results.append(await sender.send(build_message(url), DEFAULT_TERMS))
    first, *others = results
    assert (first.status, first.address) == (200, shop.url.split("/")[2])
    for result in others:
        assert (result.status, result.fault) == (None, Fault.ADDRESS)
        assert result.error == "not sent: shop.kz is 127.0.0.1, which is not public"
    assert len(shop.requests) == 1


async def test_an_open_connection_is_to_the_address_that_was_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "is_public", lambda address: address == "127.0.0.2")
    answer_names(monkeypatch, [["127.0.0.2"], ["127.0.0.1"]])
    server_tls, client_tls = build_tls(tmp_path, "127.0.0.2")
    client_tls.check_hostname = False
    async with open_shop(tls=server_tls, host="127.0.0.2") as shop, open_production_sender(client_tls) as sender:
        url = shop.url.replace("127.0.0.2", "shop.kz")
        results = [await sender.send(build_message(url), DEFAULT_TERMS) for _ in range(2)]
        assert [result.status for result in results] == [200, 200]
        assert {result.address for result in results} == {shop.url.split("/")[2]}
        assert shop._connections == 1


class RebindingResolver(AbstractResolver):
    """A name service that checks nothing, and gives another list of addresses each time."""

    def __init__(self, *answers: tuple[str, ...]) -> None:
        self.answers = list(answers)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return [
            ResolveResult(hostname=host, host=address, port=port, family=socket.AF_INET, proto=0, flags=0)
            for address in self.answers.pop(0)
        ]

    async def close(self) -> None:
        """Nothing is open."""


async def test_the_connector_itself_connects_to_no_address_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Even past the check of the name: public, then private; private beside a public one where nobody listens.
    monkeypatch.setattr(guard, "is_public", lambda address: address in ("127.0.0.2", "127.0.0.3"))
    server_tls, client_tls = build_tls(tmp_path, "127.0.0.2")
    client_tls.check_hostname = False
    resolver = RebindingResolver(("127.0.0.2",), ("127.0.0.1",), ("127.0.0.3", "127.0.0.1"))
    results = []

    async def knock(url: str) -> None:
        async with open_production_sender(client_tls) as sender:
            connector = sender._session.connector
            assert isinstance(connector, aiohttp.TCPConnector)
            connector._resolver = resolver
            results.append(await sender.send(build_message(url), DEFAULT_TERMS))

    async with (
        open_shop(tls=server_tls, host="0.0.0.0") as everywhere,  # noqa: S104 - all of 127/8
        open_shop(tls=server_tls) as inside,
    ):
        for shop in (everywhere, everywhere, inside):
            await knock(f"https://shop.kz:{urlsplit(shop.url).port}/")
        assert (everywhere._connections, inside._connections) == (1, 0)
    assert [result.status for result in results] == [200, None, None]
    assert results[1].error == "not sent: the address 127.0.0.1 is not public"
    assert resolver.answers == []
