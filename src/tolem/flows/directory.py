"""Merchants, terminals, webhook secrets and settings as last read, so that no step of a payment reads them anew.

An entry is at most a second old: what the command line changes beside a running server counts a second later.
"""

import time
from typing import Generic, TypeVar
from uuid import UUID

from tolem.domain.appearance import Logo
from tolem.domain.key import WebhookSecrets
from tolem.domain.merchant import Merchant, Terminal
from tolem.storage import keys
from tolem.storage.store import Store
from tolem.storage.tables import Setting

FRESH_SECONDS = 1.0
ENTRIES_MAX = 10_000
"""Past this the memory is emptied: unknown names come from outside."""
LOGOS_MAX = 100
"""Of at most 32 KB each."""

N = TypeVar("N")
R = TypeVar("R")


class _Memory(Generic[N, R]):
    def __init__(self) -> None:
        self._entries: dict[N, tuple[float, R | None]] = {}

    def recall(self, name: N) -> tuple[bool, R | None]:
        entry = self._entries.get(name)
        return (True, entry[1]) if entry and entry[0] > time.monotonic() else (False, None)

    def keep(self, name: N, record: R | None) -> R | None:
        if len(self._entries) >= ENTRIES_MAX:
            self._entries.clear()
        self._entries[name] = (time.monotonic() + FRESH_SECONDS, record)
        return record


class Directory:
    """Reads merchants, terminals, sealed webhook secrets and settings through a memory of a second."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._merchants = _Memory[str, Merchant]()
        self._terminals = _Memory[UUID, Terminal]()
        self._webhook_secrets = _Memory[UUID, WebhookSecrets]()
        self._settings = _Memory[str, Setting]()
        self._logos: dict[str, Logo] = {}

    async def find_merchant(self, client_id: str) -> Merchant | None:
        """The merchant that authenticates as `client_id`."""
        is_fresh, merchant = self._merchants.recall(client_id)
        if is_fresh:
            return merchant
        found = await self._store.find(keys.merchant_by_client(client_id))
        return self._merchants.keep(client_id, found)

    async def find_terminal(self, terminal_id: UUID) -> Terminal | None:
        """The terminal of that id, of any merchant."""
        is_fresh, terminal = self._terminals.recall(terminal_id)
        if is_fresh:
            return terminal
        found = await self._store.find(keys.terminal_by_id(terminal_id))
        return self._terminals.keep(terminal_id, found)

    async def find_setting(self, name: str) -> Setting | None:
        """A fact that all processes of the database share."""
        is_fresh, setting = self._settings.recall(name)
        if is_fresh:
            return setting
        return self._settings.keep(name, await self._store.find(keys.setting_by_name(name)))

    async def find_logo(self, name: str) -> Logo | None:
        """A terminal's logo; it never changes, so it is read once."""
        logo = self._logos.get(name) or await self._store.find(keys.logo_by_name(name))
        if logo is not None:
            if len(self._logos) >= LOGOS_MAX:
                self._logos.clear()
            self._logos[name] = logo
        return logo

    async def get_terminal(self, terminal_id: UUID) -> Terminal:
        """The terminal of an order that is stored. Raises LookupError if it is gone, which is our fault."""
        terminal = await self.find_terminal(terminal_id)
        if terminal is None:
            raise LookupError(f"terminal {terminal_id} is not stored")
        return terminal

    async def find_webhook_secrets(self, terminal_id: UUID) -> WebhookSecrets | None:
        """The terminal's webhook secrets, sealed."""
        is_fresh, secrets = self._webhook_secrets.recall(terminal_id)
        if is_fresh:
            return secrets
        found = await self._store.find(keys.webhook_secrets_of(terminal_id))
        return self._webhook_secrets.keep(terminal_id, found)
