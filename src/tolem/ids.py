"""The one source of identity: time-ordered ids, secrets for addresses and tokens, trace numbers."""

import base64
import hashlib
import os
import secrets
import time
from collections.abc import Callable
from datetime import datetime
from uuid import UUID

BLOCK_BYTES = 4096


class Ids:
    """Makes every id of a process. Tests may give another one with the same methods."""

    def __init__(self, time_ns: Callable[[], int] = time.time_ns) -> None:
        """`time_ns`: nanoseconds since 1970. Processes that share a database take its time: what belongs together is
        put in order by its ids."""
        self._time_ns = time_ns
        self._last = 0
        self._drawn = b""
        self._used = 0
        # A forked child must not hand out what its parent will.
        os.register_at_fork(after_in_child=self._forget)

    def new(self) -> UUID:
        """A UUIDv7 (RFC 9562): milliseconds, 12 bits of sub-millisecond time, strictly growing within the process."""
        ticks = self._time_ns() * 4096 // 1_000_000
        self._last = ticks = max(ticks, self._last + 1)
        value = (ticks >> 12) << 80 | 7 << 76 | (ticks & 0xFFF) << 64 | 2 << 62
        return UUID(int=value | int.from_bytes(self._random(8), "big") & ((1 << 62) - 1))

    def card(self) -> UUID:
        """A random UUID (version 4) for a card: shops keep it for years, so it tells no time."""
        return UUID(bytes=self._random(16), version=4)

    def secret(self) -> str:
        """128 random bits as 22 characters of A–Z a–z 0–9 - _: access tokens and page addresses."""
        return base64.urlsafe_b64encode(self._random(16)).rstrip(b"=").decode()

    def stan(self) -> str:
        """System trace audit number, ISO 8583 field 11."""
        return f"{secrets.randbelow(999_999) + 1:06d}"

    def instance(self) -> int:
        """The name of a running process, for leases: 31 random bits, never 0."""
        return secrets.randbelow(2**31 - 1) + 1

    def _random(self, size: int) -> bytes:
        """Bytes of the system's random source, drawn in blocks: a payment needs ten times some, each a system call."""
        if self._used + size > len(self._drawn):
            self._drawn = os.urandom(BLOCK_BYTES)
            self._used = 0
        self._used += size
        return self._drawn[self._used - size : self._used]

    def _forget(self) -> None:
        self._drawn, self._used = b"", 0


def rrn(at: datetime, stan: str) -> str:
    """Retrieval reference number, ISO 8583 field 37: last digit of the year, day of the year, hour, trace number."""
    return f"{at.year % 10}{at.timetuple().tm_yday:03d}{at.hour:02d}{stan}"


def hash_secret_address(secret: str) -> bytes:
    """What is stored of an access token or page id: SHA-256 (the secret has 128 bits of its own)."""
    return hashlib.sha256(secret.encode()).digest()
