"""What the sandbox's access control server knows of its challenges: a book of its own, apart from tolem's database.

Written by the authenticator (AReq) and by the server's pages, read for results (RReq), by any process of a sandbox. It
is opened with the first challenge. Invariant: what the server has told a browser is in its book before, and the end of
a challenge never changes. It holds no card number but the masked one.
"""

import asyncio
import base64
import hashlib
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

import msgspec
import sqlalchemy as sa
from msgspec.structs import replace
from sqlalchemy import BigInteger, Column, Integer, Text

from tolem.acquirers.base import AuthenticationRequest
from tolem.domain.authentication import Authentication, ChallengeWindow, TransStatus
from tolem.ids import Ids
from tolem.storage.columns import Choice, Flag, Id, Instant
from tolem.storage.mapping import Mapped, Schema
from tolem.storage.migrate import open_with_tables
from tolem.storage.store import Decision, Key, Store

PG_SCHEMA = "acs"
CODE = "123456"
"""What passes."""
CODE_LENGTH_MAX = 20
"""Characters of what is being typed that another language keeps."""
TRIES_MAX = 3
TIME_MAX = timedelta(minutes=5)
"""From the request to the end of a challenge that nobody finished (business time)."""
APP_SECONDS = timedelta(seconds=5)
"""After so long the payer has confirmed in the bank's app, where a card says that it is done there (business time)."""

FAILED_REASON, TRIES_REASON, TIMED_OUT_REASON = "01", "19", "14"
"""transStatusReason: not the cardholder, too many tries, out of time."""
CANCELLED, TIMED_OUT = "01", "04"
"""challengeCancel."""


class Ending(StrEnum):
    """How a challenge stands."""

    OPEN = "open"
    PASSED = "passed"
    FAILED = "failed"  # three wrong codes
    CANCELLED = "cancelled"  # by the payer


class AcsEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One challenge."""

    key: UUID
    """threeDSServerTransID."""
    id: UUID
    """acsTransID: random, so that nobody has it who was not told."""
    is_decoupled: bool
    """True: there is no page, the payer confirms in an app."""
    shop_name: str
    amount: int
    currency: str
    masked_pan: str
    language: str
    return_url: str
    """notificationURL."""
    window: ChallengeWindow
    ending: Ending = Ending.OPEN
    tries: int = 0
    """Wrong codes so far."""
    typed: str = ""
    """What stood in the field when another language was chosen; gone with the next answer."""
    at: datetime
    """Business time of the request."""

    @property
    def tries_left(self) -> int:
        """Codes that may still be typed."""
        return TRIES_MAX - self.tries

    def find_result(self, now: datetime) -> Authentication | None:
        """What is told of it at `now` (business time); None: it goes on."""
        match self.ending:
            case Ending.PASSED:
                return Authentication(TransStatus.AUTHENTICATED, cavv=make_cavv(self.key.bytes))
            case Ending.FAILED:
                return Authentication(TransStatus.NOT_AUTHENTICATED, trans_status_reason=TRIES_REASON)
            case Ending.CANCELLED:
                reason = FAILED_REASON
                return Authentication(
                    TransStatus.NOT_AUTHENTICATED, trans_status_reason=reason, challenge_cancel=CANCELLED
                )
        if self.is_decoupled and now >= self.at + APP_SECONDS:
            return Authentication(TransStatus.AUTHENTICATED, cavv=make_cavv(self.key.bytes))
        if now >= self.at + TIME_MAX:
            return Authentication(
                TransStatus.NOT_AUTHENTICATED, trans_status_reason=TIMED_OUT_REASON, challenge_cancel=TIMED_OUT
            )
        return None


metadata = sa.MetaData()

challenges = sa.Table(
    "challenges",
    metadata,
    Column("key", Id, primary_key=True, nullable=False),
    Column("id", Id, nullable=False),
    Column("is_decoupled", Flag, nullable=False),
    Column("shop_name", Text, nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("currency", Text, nullable=False),
    Column("masked_pan", Text, nullable=False),
    Column("language", Text, nullable=False),
    Column("return_url", Text, nullable=False),
    Column("window", Choice(ChallengeWindow), nullable=False),
    Column("ending", Choice(Ending), nullable=False),
    Column("tries", Integer, nullable=False),
    Column("typed", Text, nullable=False),
    Column("at", Instant, nullable=False),
    sa.CheckConstraint(f"tries BETWEEN 0 AND {TRIES_MAX}", name="challenges_tries"),
)

acs_schema = Schema(Mapped(challenges, AcsEntry, mutable=("language", "ending", "tries", "typed")), name="acs")


class AcsBook:
    """One process's hold of the book at `url`."""

    def __init__(self, url: str, instance: int, ids: Ids) -> None:
        self._url = url
        self._ids = ids
        self._instance = instance
        self._store: Store | None = None
        self._opening = asyncio.Lock()

    async def begin(self, request: AuthenticationRequest, *, is_decoupled: bool) -> AcsEntry:
        """A new challenge; of a known key: the one that there is."""
        wanted = AcsEntry(
            key=request.key,
            id=self._ids.new(),
            is_decoupled=is_decoupled,
            shop_name=request.shop_name,
            amount=request.amount,
            currency=request.currency,
            masked_pan=request.card.pan.masked,
            language=request.language,
            return_url=request.return_url,
            window=request.window,
            at=request.at,
        )

        def decide(known: AcsEntry | None) -> Decision[AcsEntry]:
            return Decision(known) if known else Decision(wanted, (wanted,))

        return await (await self._opened()).change((_key(request.key),), decide)

    async def find(self, key: UUID) -> AcsEntry | None:
        """The challenge of a key."""
        return await (await self._opened()).find(_key(key))

    async def answer(self, key: UUID, code: str | None, now: datetime) -> AcsEntry | None:
        """The payer types a code; None: cancels. What has ended stays as it ended. None: no such challenge."""

        def decide(known: AcsEntry | None) -> Decision[AcsEntry | None]:
            if known is None or known.is_decoupled or known.find_result(now) is not None:
                return Decision(known)
            if code is None:
                changed = replace(known, ending=Ending.CANCELLED)
            elif code == CODE:
                changed = replace(known, ending=Ending.PASSED)
            else:
                is_last = known.tries_left == 1
                changed = replace(known, tries=known.tries + 1, ending=Ending.FAILED if is_last else Ending.OPEN)
            changed = replace(changed, typed="")
            return Decision(changed, (changed,))

        return await (await self._opened()).change((_key(key),), decide)

    async def speak(self, key: UUID, language: str, typed: str) -> AcsEntry | None:
        """The payer chooses another language in the middle of typing. None: no such challenge."""

        def decide(known: AcsEntry | None) -> Decision[AcsEntry | None]:
            if known is None:
                return Decision(None)
            changed = replace(known, language=language, typed=typed if known.ending is Ending.OPEN else "")
            return Decision(changed, (changed,))

        return await (await self._opened()).change((_key(key),), decide)

    async def close(self) -> None:
        """Closes the book, if it was opened."""
        if self._store is not None:
            await self._store.close()

    async def _opened(self) -> Store:
        async with self._opening:
            if self._store is None:
                self._store = await open_with_tables(
                    self._url, schema=acs_schema, instance=self._instance, pg_schema=PG_SCHEMA
                )
            return self._store


def make_cavv(seed: bytes) -> str:
    """20 bytes in base64, as issuers make them; here a hash."""
    return base64.b64encode(hashlib.sha256(seed).digest()[:20]).decode()


def _key(key: UUID) -> Key[AcsEntry]:
    return Key(AcsEntry, ("key",), (key,))
