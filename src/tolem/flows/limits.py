"""Limits of card attempts, against whoever tests stolen cards on a shop's page.

The checkout asks before anything is sent or stored; authentication and authorization count what was declined, once it
is recorded. Declines are counted per card, per address and per terminal. Card and address wait, longer and longer, once
they have more than is usual. A terminal never waits: while it has more declines than usual, those of its visitors wait
who had one themselves, and nobody else. An approved payment costs reading two rows and writes nothing; where it can't
be counted the payment goes on all the same. Invariant: a number or address rests as a keyed fingerprint only.
"""

import asyncio
import hmac
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import NamedTuple
from uuid import UUID

from tolem.clock import Clock
from tolem.domain.card import Pan
from tolem.domain.declines import AttemptTerms, Declines, Subject, is_public, network_of
from tolem.domain.errors import Limited
from tolem.storage import declines, keys
from tolem.storage.declines import Counted
from tolem.storage.sealing import Sealer
from tolem.storage.store import Store
from tolem.telemetry import attempts_limited_total, declines_counted_total, log
from tolem.wire.reasons import OUTAGE_CODES

PURPOSE = b"fingerprints of cards and addresses"
_VISITOR = (Subject.CARD, Subject.ADDRESS)


class Attempt(NamedTuple):
    """Whose attempt it is."""

    card: bytes
    """Fingerprint of the number."""
    ip: str
    terminal_id: UUID


class AttemptLimits:
    """One process's view of the limits; what it counts is stored, and holds for all."""

    def __init__(self, store: Store, clock: Clock, sealer: Sealer, terms: AttemptTerms | None) -> None:
        """`terms`: None, there are no limits."""
        self._store = store
        self._clock = clock
        self._key = sealer.derive(PURPOSE)
        self._terms = terms
        self._under_way: Counter[bytes] = Counter()
        """Attempts of this process whose outcome is not known yet, by card and by address."""
        self._has_warned = False

    def fingerprint(self, pan: Pan) -> bytes:
        """What stands for a card number: nobody without the server's key can tell which one it is."""
        return self._hash(Subject.CARD, pan.reveal())

    @asynccontextmanager
    async def admit(self, attempt: Attempt, order_id: UUID) -> AsyncIterator[None]:
        """Around an attempt. Raises Limited if it has to wait: nothing may be sent then."""
        if self._terms is None:
            yield
            return
        named = self._name(attempt, self._terms)
        visitor = {subject: named[subject] for subject in _VISITOR if subject in named}
        await self._check(self._terms, visitor, named.get(Subject.TERMINAL), attempt, order_id)
        self._under_way.update(visitor.values())  # nothing was awaited since the check
        try:
            yield
        finally:
            for name in visitor.values():
                self._under_way[name] -= 1
                if not self._under_way[name]:
                    del self._under_way[name]

    async def count(self, attempt: Attempt, reason_code: int) -> None:
        """An attempt was declined, or left by its payer at the bank's page; that is recorded already."""
        terms = self._terms
        if terms is None or reason_code in OUTAGE_CODES:
            return
        named = self._name(attempt, terms)
        if not named:
            return
        now = self._clock.now()
        counted = [Counted(name, terms.fade(subject), terms.memory(subject)) for subject, name in named.items()]
        try:
            rows = await declines.count(self._store, counted, now)
        except Exception as error:  # the payer's outcome is known, and is shown
            log.warning("decline_not_counted", terminal=str(attempt.terminal_id), exc_info=error)
            return
        declines_counted_total.inc()
        for row in rows:
            if row.hash != named.get(Subject.TERMINAL):
                continue
            if terms.level(Subject.TERMINAL, row, now) == terms.terminal_max:
                log.warning("terminal_declines", terminal=str(attempt.terminal_id), declines=terms.terminal_max)

    async def _check(
        self,
        terms: AttemptTerms,
        visitor: dict[Subject, bytes],
        terminal: bytes | None,
        attempt: Attempt,
        order_id: UUID,
    ) -> None:
        found = await asyncio.gather(*(self._store.find(keys.declines_of(name)) for name in visitor.values()))
        now = self._clock.now()
        known = dict(zip(visitor, found, strict=True))
        is_strict = False
        if terminal is not None and any(known.values()):
            terminals: Declines | None = await self._store.find(keys.declines_of(terminal))
            is_strict = terms.is_used_up(Subject.TERMINAL, terminals, now)
        for subject, row in known.items():
            wait = terms.wait(subject, row, now, is_strict=is_strict) if row else timedelta()
            if not wait and terms.has_room(subject, row, now, self._under_way[visitor[subject]]):
                continue
            attempts_limited_total.labels(subject).inc()
            log.info(
                "attempt_limited",
                subject=subject,
                order=str(order_id),
                terminal=str(attempt.terminal_id),
                address=network_of(attempt.ip),
                wait_seconds=round(wait.total_seconds()),
            )
            raise Limited

    def _name(self, attempt: Attempt, terms: AttemptTerms) -> dict[Subject, bytes]:
        """The fingerprints of an attempt, where there is a limit for them."""
        named: dict[Subject, bytes] = {}
        if terms.number(Subject.CARD):
            named[Subject.CARD] = attempt.card
        if terms.number(Subject.ADDRESS):
            if is_public(attempt.ip):
                named[Subject.ADDRESS] = self._hash(Subject.ADDRESS, network_of(attempt.ip))
            elif not self._has_warned:
                self._has_warned = True
                log.warning("payers_address_is_local", advice="behind a proxy, name it in trusted_proxies")
        if terms.number(Subject.TERMINAL):
            named[Subject.TERMINAL] = self._hash(Subject.TERMINAL, str(attempt.terminal_id))
        return named

    def _hash(self, subject: Subject, text: str) -> bytes:
        return hmac.digest(self._key, f"{subject}\0{text}".encode(), "sha256")
