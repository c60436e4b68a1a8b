"""Merchants and terminals: added, listed and changed from the command line, beside a running server or without one."""

import os
import re
import secrets
from collections.abc import Sequence
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
from msgspec.structs import replace

from tolem.clock import Clock
from tolem.domain.appearance import InvalidAppearance, Logo, parse_colours, parse_logo
from tolem.domain.errors import Refusal, Refused
from tolem.domain.frame import InvalidFrameHost, parse_frame_host
from tolem.domain.merchant import SECRET_LENGTH_MIN, Merchant, Terminal, hash_secret
from tolem.domain.money import InvalidAmount, parse_currency
from tolem.ids import Ids
from tolem.notifications.terms import WHOLE_SECONDS_MAX
from tolem.storage import keys, queries
from tolem.storage.store import Decision, Key, Store

ATTEMPTS_MAX = 10
ROUND_MINUTES_MAX = 24 * 60
EXTENSION_MINUTES_MAX = 60
HOLD_DAYS_MAX = 30
NOTIFY_TRIES_MAX = 20
NOTIFY_GAP_SECONDS_MAX = 7 * 86_400
NOTIFY_JITTER_PERCENT_MAX = 50
NOTIFY_RETRY_AFTER_SECONDS_MAX = 7 * 86_400
NOTIFY_RESPONSE_BYTES_MAX = 16_384
TOLD = ("capture", "void", "refund")

_CLIENT_ID = re.compile(r"[A-Za-z0-9._-]{3,64}")
_HOST = re.compile(r"[a-z0-9.-]{1,253}|\[[0-9a-f:.]+\]")


class NewSecret(NamedTuple):
    """A client and its secret, which is told once."""

    merchant: Merchant
    secret: str


class Administration:
    """What an operator may change."""

    def __init__(self, store: Store, clock: Clock, ids: Ids) -> None:
        self._store = store
        self._clock = clock
        self._ids = ids

    async def add_merchant(
        self, client_id: str, name: str, secret: str | None = None, *, expires_in_text: bool = False
    ) -> NewSecret:
        """A new merchant; a secret is made unless one is given. Raises Refused for a client id that is taken."""
        if not _CLIENT_ID.fullmatch(client_id):
            raise _invalid("client id: 3 to 64 letters, digits, dots, dashes or underscores", "client_id")
        secret = _check_secret(secret)
        salt = os.urandom(16)
        merchant = Merchant(
            id=self._ids.new(),
            client_id=client_id,
            name=_check_name(name),
            secret_salt=salt,
            secret_hash=hash_secret(salt, secret),
            expires_in_text=expires_in_text,
            created_at=self._clock.now(),
        )

        def decide(stored: Merchant | None) -> Decision[None]:
            if stored is not None:
                raise _invalid(f"client {client_id!r} exists already", "client_id")
            return Decision(None, (merchant,))

        await self._store.change((keys.merchant_by_client(client_id),), decide)
        return NewSecret(merchant, secret)

    async def rotate_secret(self, client_id: str, secret: str | None = None) -> NewSecret:
        """A new secret for a merchant; the old one ends within a second. Raises Refused if there is no such client."""
        secret = _check_secret(secret)
        salt = os.urandom(16)

        def decide(stored: Merchant | None) -> Decision[Merchant]:
            merchant = replace(_known(stored, client_id), secret_salt=salt, secret_hash=hash_secret(salt, secret))
            return Decision(merchant, (merchant,))

        return NewSecret(await self._store.change((keys.merchant_by_client(client_id),), decide), secret)

    async def change_merchant(self, client_id: str, **changes: Any) -> Merchant:
        """Changes `name`, `expires_in_text`, `order_token_powers`; what is None stays."""
        wanted = {name: value for name, value in changes.items() if value is not None}
        if "name" in wanted:
            wanted["name"] = _check_name(wanted["name"])

        def decide(stored: Merchant | None) -> Decision[Merchant]:
            merchant = replace(_known(stored, client_id), **wanted)
            return Decision(merchant, (merchant,))

        return await self._store.change((keys.merchant_by_client(client_id),), decide)

    async def list_merchants(self) -> list[Merchant]:
        """All of them, oldest first."""
        return await queries.list_merchants(self._store)

    async def list_terminals(self) -> list[Terminal]:
        """All of them, oldest first."""
        return await queries.list_terminals(self._store)

    async def add_terminal(
        self, client_id: str, name: str, terminal_id: UUID | None = None, **settings: Any
    ) -> Terminal:
        """A new terminal of a merchant; `settings` as in change_terminal, what is None keeps its default. Raises
        Refused."""
        stored = await self._store.find(keys.merchant_by_client(client_id))
        merchant = _known(stored, client_id)
        logo = _parse_logo(settings)
        terminal = Terminal(
            id=terminal_id or self._ids.new(),
            merchant_id=merchant.id,
            name=_check_name(name),
            created_at=self._clock.now(),
            **_check_settings(settings, ""),
        )
        _check_timeouts(terminal)

        def decide(known: Terminal | None, *logos: Logo | None) -> Decision[None]:
            if known is not None:
                raise _invalid(f"terminal {terminal.id} exists already", "terminal")
            return Decision(None, (terminal, *_new(logo, logos)))

        await self._store.change((keys.terminal_by_id(terminal.id), *_logo_keys(logo)), decide)
        return terminal

    async def change_terminal(self, terminal_id: UUID, **settings: Any) -> Terminal:
        """Changes settings of a terminal: fields of Terminal, and `logo` as the bytes of its file; what is None stays,
        empty bytes and an empty `colour` take away. Raises Refused."""
        logo = _parse_logo(settings)

        def decide(stored: Terminal | None, *logos: Logo | None) -> Decision[Terminal]:
            if stored is None:
                raise Refused(Refusal.NOT_FOUND, f"there is no terminal {terminal_id}", "terminal")
            terminal = replace(stored, **_check_settings(settings, stored.colour))
            _check_timeouts(terminal)
            return Decision(terminal, (terminal, *_new(logo, logos)))

        return await self._store.change((keys.terminal_by_id(terminal_id), *_logo_keys(logo)), decide)


def describe(record: msgspec.Struct) -> dict[str, Any]:
    """A merchant or terminal for people: without what is secret."""
    values = msgspec.structs.asdict(record)
    return {name: value for name, value in values.items() if not name.startswith("secret_")}


def _parse_logo(settings: dict[str, Any]) -> Logo | None:
    """Takes the logo's file out of the settings and leaves its name there; None: there is nothing to store."""
    body = settings.get("logo")
    if not body:
        settings["logo"] = None if body is None else ""
        return None
    try:
        logo = parse_logo(body)
    except InvalidAppearance as error:
        raise _invalid(str(error), "logo") from error
    settings["logo"] = logo.name
    return logo


def _logo_keys(logo: Logo | None) -> tuple[Key[Logo], ...]:
    return (keys.logo_by_name(logo.name),) if logo else ()


def _new(logo: Logo | None, stored: Sequence[Logo | None]) -> tuple[Logo, ...]:
    """The same picture may be stored already."""
    return (logo,) if logo and stored == (None,) else ()


def _check_settings(settings: dict[str, Any], colour: str) -> dict[str, Any]:
    """`colour`: the one that is set already."""
    wanted = {name: value for name, value in settings.items() if value is not None}
    if "name" in wanted:
        wanted["name"] = _check_name(wanted["name"])
    if "currencies" in wanted:
        try:
            wanted["currencies"] = tuple(dict.fromkeys(parse_currency(code) for code in wanted["currencies"]))
        except InvalidAmount as error:
            raise _invalid(str(error), "currencies") from error
        if not wanted["currencies"]:
            raise _invalid("currencies: name one at least", "currencies")
    for host in wanted.get("link_hosts", ()):
        if not _HOST.fullmatch(host):
            raise _invalid(f"link host {host!r}: a host name in lower case, without scheme, port or path", "link_hosts")
    if "frame_hosts" in wanted:
        try:
            wanted["frame_hosts"] = tuple(dict.fromkeys(parse_frame_host(host) for host in wanted["frame_hosts"]))
        except InvalidFrameHost as error:
            raise _invalid(str(error), "frame_hosts") from error
    _check_range(wanted, "attempts_max", 1, ATTEMPTS_MAX)
    _check_range(wanted, "round_minutes", 1, ROUND_MINUTES_MAX)
    _check_range(wanted, "extension_minutes", 0, EXTENSION_MINUTES_MAX)
    _check_range(wanted, "hold_days", 1, HOLD_DAYS_MAX)
    for told in wanted.get("tells", ()):
        if told not in TOLD:
            raise _invalid(f"tells: {told!r} is none of {', '.join(TOLD)}", "tells")
    if "notify_gaps" in wanted:
        _check_gaps(wanted["notify_gaps"])
    _check_range(wanted, "notify_jitter_percent", 0, NOTIFY_JITTER_PERCENT_MAX)
    _check_range(wanted, "notify_connect_seconds", 1, WHOLE_SECONDS_MAX)
    _check_range(wanted, "notify_whole_seconds", 1, WHOLE_SECONDS_MAX)
    _check_range(wanted, "notify_retry_after_max_seconds", 0, NOTIFY_RETRY_AFTER_SECONDS_MAX)
    _check_range(wanted, "notify_response_bytes", 0, NOTIFY_RESPONSE_BYTES_MAX)
    return wanted | _check_colours(wanted, colour)


def _check_colours(wanted: dict[str, Any], colour: str) -> dict[str, str]:
    """Both colours, if either is to change: they are readable together or not at all."""
    if "colour" not in wanted and "text_colour" not in wanted:
        return {}
    ground, text = wanted.get("colour", colour), wanted.get("text_colour", "")
    if not ground:
        if text:
            raise _invalid("text_colour: it goes with a colour, and none is set", "text_colour")
        return {"colour": "", "text_colour": ""}
    try:
        colours = parse_colours(ground, text)
    except InvalidAppearance as error:
        raise _invalid(str(error), "colour") from error
    return {"colour": colours.ground, "text_colour": colours.text}


def _check_gaps(gaps: tuple[int, ...]) -> None:
    if not 1 <= len(gaps) <= NOTIFY_TRIES_MAX:
        raise _invalid(f"notify_gaps: {len(gaps)} tries, use 1 to {NOTIFY_TRIES_MAX}", "notify_gaps")
    if gaps[0] != 0:
        raise _invalid("notify_gaps: the first is 0, since the first try follows the payment at once", "notify_gaps")
    for gap in gaps:
        if not 0 <= gap <= NOTIFY_GAP_SECONDS_MAX:
            raise _invalid(f"notify_gaps: {gap} seconds, use 0 to {NOTIFY_GAP_SECONDS_MAX}", "notify_gaps")


def _check_timeouts(terminal: Terminal) -> None:
    if terminal.notify_connect_seconds > terminal.notify_whole_seconds:
        raise _invalid(
            f"notify_connect_seconds is {terminal.notify_connect_seconds}, use at most notify_whole_seconds,"
            f" which is {terminal.notify_whole_seconds}",
            "notify_connect_seconds",
        )


def _check_range(wanted: dict[str, Any], name: str, least: int, most: int) -> None:
    if name in wanted and not least <= wanted[name] <= most:
        raise _invalid(f"{name} is {wanted[name]}, use {least} to {most}", name)


def _check_name(name: str) -> str:
    name = name.strip()
    if not 1 <= len(name) <= 100 or not name.isprintable():
        raise _invalid("name: 1 to 100 printable characters, shown to payers", "name")
    return name


def _check_secret(secret: str | None) -> str:
    if secret is None:
        return secrets.token_urlsafe(27)
    if len(secret) < SECRET_LENGTH_MIN or not secret.isascii() or not secret.isprintable():
        raise _invalid(
            f"secret: {SECRET_LENGTH_MIN} or more printable ASCII characters, made by a machine; or leave it out",
            "secret",
        )
    return secret


def _known(merchant: Merchant | None, client_id: str) -> Merchant:
    if merchant is None:
        raise Refused(Refusal.NOT_FOUND, f"there is no client {client_id!r}", "client_id")
    return merchant


def _invalid(message: str, field: str) -> Refused:
    return Refused(Refusal.INVALID_REQUEST, message, field)
