"""One try against real sockets: whatever a shop does, it ends in time, in the right state and in words that help."""

import asyncio
import ipaddress
import socket
import ssl
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest
import structlog
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from standardwebhooks.webhooks import Webhook

from tests.notifications.shops import (
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
from tolem import __version__
from tolem.clock import SystemClock
from tolem.domain.message import Fault, Message, MessageKind, MessageState
from tolem.notifications.guard import host_of
from tolem.notifications.schedule import TryResult
from tolem.notifications.sender import Sender
from tolem.notifications.signature import render_headers
from tolem.notifications.terms import DEFAULT_TERMS
from tolem.storage.sealing import CannotOpen

NOW = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)
TERMS = DEFAULT_TERMS._replace(connect_seconds=0.3, whole_seconds=0.6)
BODY = '{"code":"ok","description":"Төлем"}'.encode()


def build_message(url: str) -> Message:
    return Message(
        id=UUID(int=9),
        order_id=UUID(int=1),
        round_id=UUID(int=3),
        terminal_id=UUID(int=2),
        payment_id=UUID(int=4),
        kind=MessageKind.SUCCESS,
        url=url,
        host=host_of(url),
        body=BODY,
        state=MessageState.SENDING,
        tries=0,
        due_at=NOW,
        lease_owner=7,
        leased_until=NOW,
        created_at=NOW,
    )


@pytest.fixture
async def sender() -> AsyncIterator[Sender]:
    sender = Sender(SystemClock(), sign_nothing, sandbox=True, per_host=4)
    yield sender
    await sender.close()


@pytest.fixture
async def production_sender() -> AsyncIterator[Sender]:
    sender = Sender(SystemClock(), sign_nothing, sandbox=False, per_host=4)
    yield sender
    await sender.close()


async def test_the_request_is_the_stored_bytes_with_their_headers(
    sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    async with open_shop(answer(200, "set-cookie: a=b", body=b"thanks")) as shop:
        first = await sender.send(build_message(shop.url), TERMS)
        second = await sender.send(build_message(shop.url), TERMS)
    assert first._replace(duration_ms=0, address="", headers="") == TryResult(200, "", b"thanks", 0, None)
    assert second.is_delivered
    request, again = shop.requests
    assert (request.path, request.body) == ("/paid?order=1", BODY)
    assert abs(int(request.headers.pop("webhook-timestamp")) - time.time()) < 60
    assert request.headers == {
        "host": shop.url.split("/")[2],
        "content-type": "application/json",
        "content-length": str(len(BODY)),
        "user-agent": f"tolem/{__version__}",
        "webhook-id": str(UUID(int=9)),
        "accept": "*/*",
        "accept-encoding": "identity",
    }
    assert again.headers.keys() - {"webhook-timestamp"} == request.headers.keys()  # no cookie
    shown = dict(line.split(": ", 1) for line in first.headers.splitlines())
    assert shown == request.headers | {"webhook-timestamp": shown["webhook-timestamp"]}
    assert first.address == second.address == shop.url.split("/")[2]
    assert again.connection == request.connection  # kept open


class LateClock(SystemClock):
    """Its real time is ahead of its business time, as if the sandbox's time had been moved the other way."""

    late = timedelta(0)

    def real_now(self) -> datetime:
        return super().real_now() + self.late


async def test_every_try_is_signed_with_its_own_time() -> None:
    clock = LateClock()
    secret = b"a webhook secret of 32 bytes....."

    async def sign(message: Message, real_now: datetime) -> dict[str, str]:
        return render_headers(str(message.id), real_now, message.body, [secret])

    sender = Sender(clock, sign, sandbox=True, per_host=4)
    async with open_shop(answer(500)) as shop:
        result = await sender.send(build_message(shop.url), TERMS)
        clock.late = timedelta(minutes=1)
        await sender.send(build_message(shop.url), TERMS)
    await sender.close()
    for request in shop.requests:
        assert Webhook(secret).verify(request.body, request.headers)["code"] == "ok"
    first, second = (int(request.headers["webhook-timestamp"]) for request in shop.requests)
    assert second - first in (60, 61)
    assert shop.requests[0].headers["webhook-signature"] != shop.requests[1].headers["webhook-signature"]
    assert f"webhook-signature: {shop.requests[0].headers['webhook-signature']}" in result.headers


async def test_what_cannot_be_signed_is_not_sent() -> None:
    async def fail(message: Message, real_now: datetime) -> dict[str, str]:
        raise CannotOpen("it is sealed under server key 0123456789abcdef, which is not among the configured ones")

    sender = Sender(SystemClock(), fail, sandbox=True, per_host=4)
    async with open_shop() as shop:
        result = await sender.send(build_message(shop.url), TERMS)
    await sender.close()
    assert shop.requests == []
    assert (result.status, result.fault) == (None, Fault.OTHER)
    assert "not sent" in result.error
    assert "server key 0123456789abcdef" in result.error


async def test_a_redirect_is_not_followed(sender: Sender) -> None:
    async with open_shop() as other, open_shop(answer(307, f"location: {other.url}")) as shop:
        result = await sender.send(build_message(shop.url), TERMS)
    assert (result.status, result.is_delivered, other.requests) == (307, False, [])


@pytest.mark.parametrize(
    ("header", "wait"), (("retry-after: 120", timedelta(seconds=120)), ("x: y", None), ("retry-after: later", None))
)
async def test_retry_after_is_read(sender: Sender, header: str, wait: timedelta | None) -> None:
    async with open_shop(answer(503, header)) as shop:
        result = await sender.send(build_message(shop.url), TERMS)
    assert (result.status, result.retry_after) == (503, wait)


async def test_a_shop_that_never_answers(sender: Sender) -> None:
    async with open_shop(hang) as shop:
        result = await sender.send(build_message(shop.url), TERMS)
    assert (result.status, result.error) == (None, "timed out: no answer within 0.6 s")
    assert 590 <= result.duration_ms < 1500


async def test_a_shop_that_never_ends_its_headers(sender: Sender) -> None:
    async with open_shop(drip(b"HTTP/1.1 200 OK\r\nx: ")) as shop:
        result = await sender.send(build_message(shop.url), TERMS)
    assert result.error == "timed out: no answer within 0.6 s"


async def test_a_slow_body_does_not_unsay_the_status(sender: Sender) -> None:
    async with open_shop(drip(b"HTTP/1.1 200 OK\r\ncontent-length: 5000\r\n\r\n")) as shop:
        result = await sender.send(build_message(shop.url), TERMS)
    assert result.is_delivered
    assert set(result.response) == {ord("a")}
    assert result.duration_ms < 500  # the status came at once


async def test_ten_megabytes_are_cut(sender: Sender) -> None:
    async with open_shop(flood) as shop:
        result = await sender.send(build_message(shop.url), TERMS)
    assert (result.status, result.response) == (200, b"f" * TERMS.response_bytes)


@pytest.mark.parametrize("size", (TERMS.response_bytes, TERMS.response_bytes + 1))
async def test_what_is_kept_of_an_answer(sender: Sender, size: int) -> None:
    async with open_shop(answer(500, body=b"e" * size)) as shop:
        result = await sender.send(build_message(shop.url), TERMS)
    assert result.response == b"e" * TERMS.response_bytes


async def test_a_reset_instead_of_an_answer(sender: Sender) -> None:
    async with open_shop(reset_after()) as shop:
        result = await sender.send(build_message(shop.url), TERMS)
    assert (result.status, result.error) == (None, "connection reset before an answer")
    assert shop.bodies == [BODY]


async def test_a_reset_in_the_middle_of_the_answer(sender: Sender) -> None:
    async with open_shop(reset_after(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nsome")) as shop:
        result = await sender.send(build_message(shop.url), TERMS)
    assert (result.status, result.error, result.response) == (200, "", b"some")


@pytest.mark.parametrize(
    ("data", "words"),
    (
        (b"", "connection closed without an answer"),
        (b"SSH-2.0-OpenSSH\r\n", "the answer is not valid HTTP"),
        (b"\x00\xff\r\n\r\n", "the answer is not valid HTTP"),
        (b"HTTP/1.1 200 OK\r\nx: " + b"y" * 300_000 + b"\r\n\r\n", "the answer's headers are larger than 256 KB"),
    ),
)
async def test_no_http(sender: Sender, data: bytes, words: str) -> None:
    async with open_shop(raw(data)) as shop:
        result = await sender.send(build_message(shop.url), TERMS)
    assert (result.status, result.error) == (None, words)


async def test_a_compressed_bomb_is_not_unpacked(sender: Sender) -> None:
    async with open_shop(answer(200, "content-encoding: gzip", body=b"no gzip")) as shop:
        result = await sender.send(build_message(shop.url), TERMS)
    assert (result.status, result.response) == (200, b"no gzip")


async def test_nobody_listens(sender: Sender) -> None:
    url = f"http://127.0.0.1:{find_free_port()}/"
    result = await sender.send(build_message(url), TERMS)
    assert (result.error, result.address) == ("connection refused", url.split("/")[2])


async def test_a_name_that_does_not_exist(sender: Sender) -> None:
    result = await sender.send(build_message("http://does-not-exist.invalid/"), TERMS)
    assert result.error.startswith("the name does-not-exist.invalid can't be resolved: ")
    assert result.address == ""


async def test_a_name_whose_servers_are_dead_does_not_hold_up_the_try(
    sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    def look_up(*_: object) -> None:
        time.sleep(0.5)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    result = await sender.send(build_message("http://shop.kz/"), TERMS)
    assert result.error == "no connection within 0.3 s"


@pytest.mark.parametrize("url", ("http://[", "http://shop.kz:99999/", "", "ftp://127.0.0.1/"))
async def test_an_address_that_is_none(sender: Sender, url: str) -> None:
    result = await sender.send(build_message(url), TERMS)
    assert result.status is None
    assert result.error


async def test_an_idle_connection_that_the_shop_closes_is_no_failed_try(sender: Sender) -> None:
    # The second request arrives on a connection whose end is already on its way: the try goes on over a new one.
    async with open_shop(answer(200), raw(b""), answer(200)) as shop:
        assert (await sender.send(build_message(shop.url), TERMS)).is_delivered
        assert (await sender.send(build_message(shop.url), TERMS)).is_delivered
    assert [request.connection for request in shop.requests] == [1, 1, 2]


@pytest.mark.parametrize(
    ("url", "words"),
    (
        ("http://shop.kz/", "not sent: only https addresses are notified"),
        ("https://127.0.0.1/", "not sent: the address 127.0.0.1 is not public"),
        ("https://[::ffff:10.0.0.1]/", "not sent: the address ::ffff:a00:1 is not public"),
        ("https://localhost/", "not sent: localhost is "),
    ),
)
async def test_in_production_only_https_to_public_addresses(production_sender: Sender, url: str, words: str) -> None:
    assert (await production_sender.send(build_message(url), DEFAULT_TERMS)).error.startswith(words)


async def test_in_production_the_address_connected_to_counts(
    production_sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Even if every check of the name were passed, as with an answer that changes: no connection is made.
    monkeypatch.setattr("tolem.notifications.guard.Resolver._look_up", look_up_loopback)
    production_sender._session.connector._resolver._public_only = False  # type: ignore[union-attr]
    async with open_shop() as shop:
        port = shop.url.split(":")[2].split("/")[0]
        result = await production_sender.send(build_message(f"https://shop.kz:{port}/"), TERMS)
    assert result.error == "not sent: the address 127.0.0.1 is not public"
    assert shop._connections == 0


async def look_up_loopback(*_: object) -> list[tuple[int, int, int, str, tuple[str, int]]]:
    return [(2, 1, 6, "", ("127.0.0.1", 443))]


async def test_a_certificate_that_is_not_trusted(sender: Sender, tmp_path: Path) -> None:
    async with open_shop(tls=build_tls(tmp_path, "127.0.0.1")[0]) as shop:
        result = await sender.send(build_message(shop.url), TERMS)
    assert result.error.startswith("TLS: the certificate is not accepted: self")
    assert shop.requests == []


async def test_tls_is_spoken_where_the_certificate_is_trusted(tmp_path: Path) -> None:
    server, client = build_tls(tmp_path, "127.0.0.1")
    sender = Sender(SystemClock(), sign_nothing, sandbox=True, per_host=4, tls=client)
    async with open_shop(tls=server) as shop:
        assert (await sender.send(build_message(shop.url), TERMS)).is_delivered
        url = shop.url.replace("127.0.0.1", "localhost")
        assert "doesn't match" in (words := (await sender.send(build_message(url), TERMS)).error) or "mismatch" in words
    await sender.close()


async def test_no_tls_where_tls_is_expected(sender: Sender) -> None:
    async def speak_plainly(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(speak_plainly, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    result = await sender.send(build_message(f"https://127.0.0.1:{port}/"), TERMS)
    server.close()
    await server.wait_closed()
    assert result.error.startswith("TLS failed: ")


async def test_a_fault_of_ours_is_a_failed_try_and_a_line(sender: Sender, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = structlog.testing.CapturingLogger()
    monkeypatch.setattr("tolem.notifications.sender.log", structlog.wrap_logger(lines, processors=[]))

    async def fail(url: str, **_: object) -> None:
        raise RuntimeError(url)

    monkeypatch.setattr(sender._session, "post", fail)
    result = await sender.send(build_message("http://shop.kz/?order=1"), TERMS)
    assert (result.status, result.error) == (None, "could not be sent: RuntimeError")
    assert "notification_fault" in str(lines.calls)
    assert "order=1" not in str(lines.calls)


async def test_neither_body_nor_query_is_logged(sender: Sender, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = structlog.testing.CapturingLogger()
    monkeypatch.setattr("tolem.notifications.sender.log", structlog.wrap_logger(lines, processors=[]))
    async with open_shop(reset_after(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nsome")) as shop:
        await sender.send(build_message(shop.url), TERMS)
    await sender.send(build_message("http://[?order=1"), TERMS)
    output = str(lines.calls)
    assert "notification_answer_cut" in output
    assert "order=1" not in output
    assert "Төлем" not in output


def build_tls(folder: Path, name: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's context with a certificate of its own making, and a client's that trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    real_now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(real_now - timedelta(days=1))
        .not_valid_after(real_now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(name))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "shop.pem").write_bytes(pem + secret)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(folder / "shop.pem")
    client = ssl.create_default_context(cadata=pem.decode())
    return server, client
