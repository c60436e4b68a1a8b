"""Reads a shop's answer so that its status counts once it has come whole with its headers, whatever bytes follow.

The library's parser judges all bytes that arrive together, and throws a status away for what is wrong behind it.
`AnswerReader` hands it the headers alone first, and where it refuses even those for what they say of the body, takes
the status itself. Made by the sender's connector, one for each connection.
"""

import re
from typing import Any

from aiohttp import ClientPayloadError, HttpVersion11
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import RawResponseMessage
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.streams import EMPTY_PAYLOAD
from multidict import CIMultiDict, CIMultiDictProxy

HEAD_BYTES_MAX = 256 * 1024
"""Of an answer's status line and headers."""
HEADERS_MAX = 4096

_HEAD_END = re.compile(rb"\r?\n\r?\n")
_END_BYTES = 4
_HEAD = re.compile(
    rb"HTTP/1\.[01] ([1-5][0-9][0-9])(?: [^\r\n]*)?\r\n((?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[^\r\n]*\r\n)*)\r\n"
)


class HeadTooLarge(HttpProcessingError):
    """More headers than are read."""


class AnswerReader(ResponseHandler):
    """As the library's. `expect` comes before each request, `is_garbled` tells of the answer after it."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._head: bytearray | None = None
        """What has come of the answer's head; None: it is over."""
        self._answer_payload: Any = None
        self.is_garbled = False
        """What followed the answer's headers is not HTTP."""

    def expect(self) -> None:
        """A new answer begins."""
        self._head, self._answer_payload, self.is_garbled = bytearray(), None, False

    def data_received(self, data: bytes) -> None:
        """As the library's."""
        while self._head is not None and data:
            sought_from = max(0, len(self._head) - _END_BYTES)
            known = len(self._head)
            self._head += data
            end = _HEAD_END.search(self._head, sought_from)
            if (end.end() if end else len(self._head)) > HEAD_BYTES_MAX:
                self._refuse_head()
                return
            if end is None:
                break
            part, data = data[: end.end() - known], data[end.end() - known :]
            del self._head[end.end() :]
            super().data_received(part)
            if self._exception is not None:
                return
            if not self._head.startswith((b"HTTP/1.1 1", b"HTTP/1.0 1")):
                self._head = None
                break
            self._head, self._answer_payload = bytearray(), None  # an interim answer: another head follows
        if data and self._exception is None:
            super().data_received(data)

    def feed_data(self, data: Any, size: int = 0) -> None:
        """As the library's: the parser has read a head."""
        self._answer_payload = data[1]
        super().feed_data(data, size)

    def set_exception(self, exc: BaseException, *cause: BaseException) -> None:
        """As the library's. What is wrong behind a head costs the body only."""
        if isinstance(exc, HttpProcessingError) and not isinstance(exc, HeadTooLarge):
            if self._answer_payload is None and self._head and (head := _HEAD.fullmatch(self._head)):
                self.feed_data((_read_head(head), EMPTY_PAYLOAD))
            if payload := self._answer_payload:
                self.is_garbled = True
                if payload is not EMPTY_PAYLOAD and not payload.is_eof():
                    payload.set_exception(ClientPayloadError("what followed the headers is not HTTP"))
        super().set_exception(exc, *cause)

    def _refuse_head(self) -> None:
        if self.transport is not None:
            self.transport.close()
        self.set_exception(HeadTooLarge())


def _read_head(head: re.Match[bytes]) -> RawResponseMessage:
    lines = [line.partition(b":") for line in head[2].split(b"\r\n") if line]
    raw = tuple((name, value.strip(b" \t")) for name, _, value in lines)
    headers = CIMultiDict((name.decode("ascii"), value.decode("utf-8", "surrogateescape")) for name, value in raw)
    return RawResponseMessage(
        version=HttpVersion11,
        code=int(head[1]),
        reason="",
        headers=CIMultiDictProxy(headers),
        raw_headers=raw,
        should_close=True,
        compression=None,
        upgrade=False,
        chunked=False,
    )
