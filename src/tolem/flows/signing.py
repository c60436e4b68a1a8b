"""Webhook secrets: what signs a terminal's notifications, how operators give and replace them.

`Signer` is asked by the sender for every try, `WebhookSecretKeeper` by the command line and at a sandbox's start.
Invariant: secrets are stored sealed only, and at most two of a terminal sign at one time.
"""

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from msgspec.structs import replace

from tolem.clock import KAZAKHSTAN, Clock
from tolem.domain.errors import Refusal, Refused
from tolem.domain.key import (
    WEBHOOK_SECRET_BYTES,
    InvalidKey,
    WebhookSecrets,
    parse_webhook_secret,
    render_webhook_secret,
)
from tolem.domain.merchant import Terminal
from tolem.domain.message import Message
from tolem.flows.directory import Directory
from tolem.notifications.signature import render_headers
from tolem.storage import keys, queries
from tolem.storage.sealing import CannotOpen, Sealer, key_id_of
from tolem.storage.store import Decision, Store

KEEP_HOURS = 24
"""The secret before a new one signs too for this long, so that a shop can change over."""
KEEP_HOURS_MAX = 24 * 90

SHOWN_CHARS = 12
"""Of a secret that a refusal names."""


class LiveSecrets(NamedTuple):
    """What signs a terminal's notifications now."""

    current: bytes | None
    """None: nothing is signed."""
    previous: bytes | None
    previous_until: datetime | None
    """Real time."""


class Signer:
    """Signs what is sent. Secrets are read through the directory: a change counts within a second."""

    def __init__(self, directory: Directory, sealer: Sealer) -> None:
        self._directory = directory
        self._sealer = sealer

    async def sign(self, message: Message, real_now: datetime) -> Mapping[str, str]:
        """The headers of a try that begins at `real_now`. Raises CannotOpen: unsigned it must not go out."""
        stored = await self._directory.find_webhook_secrets(message.terminal_id)
        secrets = [
            self._sealer.open(sealed, owner_of(message.terminal_id)) for sealed in _list_sealed(stored, real_now)
        ]
        return render_headers(str(message.id), real_now, message.body, secrets)


class WebhookSecretKeeper:
    """What an operator may do with webhook secrets and with the server keys that seal them."""

    def __init__(self, store: Store, clock: Clock, sealer: Sealer) -> None:
        self._store = store
        self._clock = clock
        self._sealer = sealer

    @property
    def server_key_ids(self) -> tuple[str, ...]:
        """Of the configured keys; the first one seals."""
        return self._sealer.key_ids

    async def read(self, terminal_id: UUID) -> LiveSecrets:
        """The live secrets of a terminal. Raises Refused for an unknown terminal, CannotOpen."""
        if await self._store.find(keys.terminal_by_id(terminal_id)) is None:
            raise _unknown(terminal_id)
        stored = await self._store.find(keys.webhook_secrets_of(terminal_id))
        opened = [
            self._sealer.open(sealed, owner_of(terminal_id)) for sealed in _list_sealed(stored, self._clock.real_now())
        ]
        if stored is None or not opened:
            return LiveSecrets(None, None, None)
        if len(opened) == 1:
            return LiveSecrets(opened[0], None, None)
        return LiveSecrets(opened[0], opened[1], stored.previous_until)

    async def change(
        self,
        terminal_id: UUID,
        secret: str | None = None,
        keep_hours: float = KEEP_HOURS,
        *,
        ends_previous: bool = False,
    ) -> LiveSecrets:
        """A new secret for a terminal, made unless one is given; the one before signs for `keep_hours` more.

        Raises Refused, also while another one from before still signs, which a shop may use: without `ends_previous` it
        stays. The secret that a terminal has already changes nothing.
        """
        fresh = _parse(secret)
        if not 0 <= keep_hours <= KEEP_HOURS_MAX:
            raise _invalid(f"keep_hours is {keep_hours:g}, use 0 to {KEEP_HOURS_MAX}", "keep_hours")
        now = self._clock.real_now()
        until = now + timedelta(hours=keep_hours)
        owner = owner_of(terminal_id)
        sealed = self._sealer.seal(fresh, owner)

        def decide(terminal: Terminal | None, stored: WebhookSecrets | None) -> Decision[LiveSecrets]:
            if terminal is None:
                raise _unknown(terminal_id)
            before = self._open(stored.current, owner) if stored else None
            if stored is not None and before == fresh:
                return Decision(LiveSecrets(fresh, self._open(stored.previous, owner), stored.previous_until))
            if stored is not None and not ends_previous:
                self._keep_previous(stored, fresh, owner, now)
            is_kept = before is not None and until > now
            changed = WebhookSecrets(
                terminal_id=terminal_id,
                current=sealed,
                previous=stored.current if stored and is_kept else None,
                previous_until=until if is_kept else None,
                changed_at=now,
            )
            return Decision(LiveSecrets(fresh, before if is_kept else None, changed.previous_until), (changed,))

        return await self._store.change(
            (keys.terminal_by_id(terminal_id), keys.webhook_secrets_of(terminal_id)), decide
        )

    async def end_previous(self, terminal_id: UUID) -> None:
        """The older secret signs no more. Raises Refused for an unknown terminal."""
        await self._replace(terminal_id, previous=None, previous_until=None)

    async def remove(self, terminal_id: UUID) -> None:
        """Notifications of the terminal are not signed any more. Raises Refused for an unknown terminal."""
        await self._replace(terminal_id, current=None, previous=None, previous_until=None)

    async def count_by_server_key(self) -> dict[str, int]:
        """How many stored secrets each server key seals, by the key's id; those of the configuration are all named."""
        counted = Counter({key_id: 0 for key_id in self._sealer.key_ids})
        for stored in await queries.list_webhook_secrets(self._store):
            counted.update(key_id_of(sealed) for sealed in (stored.current, stored.previous) if sealed)
        return dict(counted)

    async def reseal(self) -> int:
        """Seals everything under the first server key; how many secrets were not. Raises CannotOpen, and then stops."""
        return sum(
            [await self._reseal(stored.terminal_id) for stored in await queries.list_webhook_secrets(self._store)]
        )

    async def _reseal(self, terminal_id: UUID) -> int:
        owner = owner_of(terminal_id)

        def renew(sealed: bytes | None) -> bytes | None:
            if sealed is None or key_id_of(sealed) == self._sealer.key_id:
                return sealed
            return self._sealer.seal(self._sealer.open(sealed, owner), owner)

        def decide(stored: WebhookSecrets | None) -> Decision[int]:
            if stored is None:
                return Decision(0)
            renewed = replace(stored, current=renew(stored.current), previous=renew(stored.previous))
            moved = (renewed.current != stored.current) + (renewed.previous != stored.previous)
            return Decision(moved, (renewed,) if moved else ())

        return await self._store.change((keys.webhook_secrets_of(terminal_id),), decide)

    async def _replace(self, terminal_id: UUID, **changes: None) -> None:
        now = self._clock.real_now()

        def decide(terminal: Terminal | None, stored: WebhookSecrets | None) -> Decision[None]:
            if terminal is None:
                raise _unknown(terminal_id)
            return Decision(None, (replace(stored, changed_at=now, **changes),) if stored else ())

        await self._store.change((keys.terminal_by_id(terminal_id), keys.webhook_secrets_of(terminal_id)), decide)

    def _keep_previous(self, stored: WebhookSecrets, fresh: bytes, owner: bytes, now: datetime) -> None:
        """Raises Refused if a new secret would end the previous one, which a shop may still use."""
        signing = list(_list_sealed(stored, now))
        ending = self._open(signing[1], owner) if len(signing) > 1 else None
        if ending is None or ending == fresh or stored.previous_until is None:
            return
        raise Refused(
            Refusal.WRONG_STATE,
            f"only two secrets sign at one time, and {render_webhook_secret(ending)[:SHOWN_CHARS]}… still signs for a"
            f" shop that has not changed over, until {stored.previous_until.astimezone(KAZAKHSTAN):%Y-%m-%d %H:%M:%S}"
            f" {KAZAKHSTAN}: wait until then, or end it now with --force",
            "secret",
        )

    def _open(self, sealed: bytes | None, owner: bytes) -> bytes | None:
        """None too for what can't be opened: a new secret is the way out of a lost server key."""
        try:
            return self._sealer.open(sealed, owner) if sealed else None
        except CannotOpen:
            return None


async def find_missing_keys(store: Store, sealer: Sealer) -> dict[str, list[UUID]]:
    """Server keys that stored secrets need and `sealer` has not, each with the terminals that need it."""
    missing: dict[str, list[UUID]] = {}
    for stored in await queries.list_webhook_secrets(store):
        for key_id in {key_id_of(sealed) for sealed in (stored.current, stored.previous) if sealed}:
            if key_id not in sealer.key_ids:
                missing.setdefault(key_id, []).append(stored.terminal_id)
    return missing


def owner_of(terminal_id: UUID) -> bytes:
    """What a terminal's webhook secret is bound to."""
    return b"webhook secret of terminal " + terminal_id.bytes


def _list_sealed(stored: WebhookSecrets | None, real_now: datetime) -> Iterator[bytes]:
    """Those that sign now, the newest first."""
    if stored is None or stored.current is None:
        return
    yield stored.current
    if stored.previous is not None and stored.previous_until is not None and real_now < stored.previous_until:
        yield stored.previous


def _parse(secret: str | None) -> bytes:
    if secret is None:
        return os.urandom(WEBHOOK_SECRET_BYTES)
    try:
        return parse_webhook_secret(secret)
    except InvalidKey as error:
        raise _invalid(str(error), "secret") from error


def _unknown(terminal_id: UUID) -> Refused:
    return Refused(Refusal.NOT_FOUND, f"there is no terminal {terminal_id}", "terminal")


def _invalid(message: str, field: str) -> Refused:
    return Refused(Refusal.INVALID_REQUEST, message, field)
