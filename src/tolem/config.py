"""Configuration: flag > TOLEM_* environment > tolem.toml > default. A wrong value stops the start with a clear line."""

import ipaddress
import os
import tomllib
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from tolem.domain.declines import AttemptTerms
from tolem.domain.key import InvalidKey, parse_server_keys, parse_webhook_secret

NOT_SETTINGS = frozenset({"TOLEM_CONFIG", "TOLEM_CHROMIUM", "TOLEM_WORKER_FDS"})
"""Names of the environment that belong to the file, the tests' browser and the supervisor."""


class InvalidConfig(Exception):
    """Says in one line which setting is wrong, and what to change."""


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All settings of a process. Each is a flag of the command line, TOLEM_<NAME> in the environment, and a key of
    tolem.toml, under the same name."""

    mode: str = "sandbox"
    """`sandbox` or `production`."""
    host: str = "127.0.0.1"
    port: int = 8700
    database: str = "sqlite:///tolem.db"
    """`sqlite:///path` or `postgresql://…`."""
    public_url: str = ""
    """Address at which browsers reach this gateway (behind a proxy); empty: the request's own Host."""
    trusted_proxies: str = ""
    """Addresses, separated by commas, whose X-Forwarded-For and X-Forwarded-Proto are believed."""
    workers: int = 1
    """Processes; more than one only on PostgreSQL."""
    simulator_ledger: str = ""
    """Sandbox: the simulator's own ledger; empty: beside the database."""
    simulator_delay_seconds: float = 3.0
    """Sandbox: a slow answer takes this long."""
    simulator_late_seconds: float = 20.0
    """Sandbox: a late request is on its way for this long."""
    simulator_host: str = "127.0.0.1"
    """`tolem acquirer-simulator`: address to listen on."""
    simulator_port: int = 8702
    """`tolem acquirer-simulator`: port to listen on."""
    acquirer_url: str = ""
    """Acquirer that is a program of its own (docs/acquirers.md); empty: the sandbox's simulator in this process."""
    acquirer_secret: str = ""
    """Shared by the gateway and that program."""
    acs_url: str = ""
    """Sandbox: address at which browsers reach its access control server (docs/threeds.md); empty: acs.localhost, with
    the page's port."""
    sandbox_password: str = ""
    """Sandbox on an address beyond this machine: protects what is not for payers or shops (user `sandbox`)."""
    server_key: str = ""
    """Under which secrets rest sealed: 32 bytes in base64; several, separated by commas: the first seals, all open."""
    webhook_secret: str = ""
    """Sandbox: `whsec_…`, signs the published terminal's notifications; empty: what is stored, at first the published
    one."""
    log_format: str = "json"
    """`json` or `text`."""
    acquirer_timeout_seconds: float = 10.0
    """An exchange with the acquirer that takes longer leaves the outcome unknown."""
    recovery_margin_seconds: float = 5.0
    """Recovery waits this much longer before it takes an exchange up."""
    recovery_tries: int = 60
    """So many recovery steps for one exchange, about an hour; then it waits for `tolem resolve`."""
    attempt_limits: str = ""
    """`on` or `off`: whether declined cards and addresses have to wait; empty: on in production only."""
    card_declines_max: int = 5
    """So many declines of one card pass without a wait; 0: no limit by card."""
    address_declines_max: int = 30
    """The same of one address (IPv6: its /64)."""
    terminal_declines_max: int = 300
    """With more, every card and address that was declined waits after each decline; the others never do."""
    declines_minutes: int = 60
    """So many declines, spread over this time, fade as fast as they come."""
    attempt_wait_seconds: float = 15.0
    """The first wait; doubled by each further decline."""
    attempt_wait_seconds_max: float = 600.0
    """No wait is longer."""
    shop_port: int = 8701
    """`tolem demo`: port of the demo shop."""
    shop_database: str = "tolem-shop.db"
    """`tolem demo`: the demo shop's own SQLite file."""

    @property
    def is_sandbox(self) -> bool:
        """Simulator, published client, loopback."""
        return self.mode == "sandbox"

    @property
    def attempt_terms(self) -> AttemptTerms | None:
        """The limits of card attempts; None: there are none."""
        if self.attempt_limits == "off" or (self.is_sandbox and self.attempt_limits != "on"):
            return None
        return AttemptTerms(
            self.card_declines_max,
            self.address_declines_max,
            self.terminal_declines_max,
            timedelta(minutes=self.declines_minutes),
            timedelta(seconds=self.attempt_wait_seconds),
            timedelta(seconds=self.attempt_wait_seconds_max),
        )

    @property
    def ledger_url(self) -> str:
        """Where the simulator keeps its ledger."""
        return self.simulator_ledger or self._beside("simulator")

    @property
    def acs_book_url(self) -> str:
        """Where the sandbox's access control server keeps its challenges."""
        return self._beside("acs")

    def _beside(self, name: str) -> str:
        """On SQLite a file of its own beside the database."""
        if not self.database.startswith("sqlite:///"):
            return self.database
        path = Path(self.database.removeprefix("sqlite:///"))
        return f"sqlite:///{path.with_name(f'{path.stem}-{name}{path.suffix}')}"


def load_config(flags: Mapping[str, Any], environment: Mapping[str, str] | None = None) -> Config:
    """The settings in force. `flags`: name → value, None where the flag was not given. Raises InvalidConfig."""
    environment = os.environ if environment is None else environment
    values: dict[str, Any] = {}
    path = Path(environment.get("TOLEM_CONFIG", "tolem.toml"))
    if path.exists():
        try:
            values |= tomllib.loads(path.read_text())
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise InvalidConfig(f"{path}: {error}") from error
    elif "TOLEM_CONFIG" in environment:
        raise InvalidConfig(f"TOLEM_CONFIG names {path}, which does not exist")
    known = Config.__struct_fields__
    values |= {name: environment[key] for name in known if (key := f"TOLEM_{name.upper()}") in environment}
    values |= {name: value for name, value in flags.items() if value is not None}
    for key in environment:
        if key.startswith("TOLEM_") and key not in NOT_SETTINGS and key.removeprefix("TOLEM_").lower() not in known:
            raise InvalidConfig(f"environment: {key} is no setting; known are {', '.join(known)}")
    for name in values:
        if name not in known:
            raise InvalidConfig(f"{path}: setting {name!r} is not known; known are {', '.join(known)}")
    try:
        config = msgspec.convert(values, Config, strict=False)
    except msgspec.ValidationError as error:
        name = str(error).rpartition("$.")[2].rstrip("`")
        if flags.get(name) is not None:
            origin = f"--{name.replace('_', '-')}"
        else:
            origin = key if (key := f"TOLEM_{name.upper()}") in environment else str(path)
        raise InvalidConfig(f"{name} from {origin} has the wrong type: {str(error).partition(' - ')[0]}") from error
    _check(config)
    return config


def _check(config: Config) -> None:
    _require(config.mode in ("sandbox", "production"), f"mode is {config.mode!r}, use sandbox or production")
    for name, url in (("database", config.database), ("simulator_ledger", config.simulator_ledger)):
        is_sqlite = url.startswith("sqlite:///") and len(url) > len("sqlite:///")
        is_known = is_sqlite or url.startswith(("postgresql://", "postgres://")) or (name != "database" and not url)
        # the address may hold a password: it is not repeated
        _require(is_known, f"{name} must begin with sqlite:///path or postgresql://")
    _require(0 <= config.port <= 65535, f"port is {config.port}, use 0 to 65535")
    _require(0 <= config.shop_port <= 65535, f"shop_port is {config.shop_port}, use 0 to 65535")
    _require(config.log_format in ("json", "text"), f"log_format is {config.log_format!r}, use json or text")
    _require(0 <= config.simulator_port <= 65535, f"simulator_port is {config.simulator_port}, use 0 to 65535")
    _require(config.simulator_delay_seconds >= 0, "simulator_delay_seconds must be 0 or more")
    _require(config.simulator_late_seconds >= 0, "simulator_late_seconds must be 0 or more")
    secret = config.acquirer_secret
    _require(
        not secret or (len(secret) >= 24 and secret.isascii() and secret.isprintable() and " " not in secret),
        "acquirer_secret must have 24 or more ASCII characters and no spaces",
    )
    _require(
        _is_loopback(config.simulator_host) or bool(secret),
        f"the simulator on {config.simulator_host} would be reachable from other machines: set acquirer_secret"
        " (24 characters or more), or use --host 127.0.0.1",
    )
    _require(config.acquirer_timeout_seconds > 0, "acquirer_timeout_seconds must be above 0")
    _require(config.recovery_margin_seconds > 0, "recovery_margin_seconds must be above 0")
    _require(config.recovery_tries >= 1, "recovery_tries must be 1 or more")
    _require(config.workers >= 1, f"workers is {config.workers}, use 1 or more")
    _require(
        config.workers == 1 or not config.database.startswith("sqlite"),
        "workers above 1 need PostgreSQL: one process holds a SQLite file",
    )
    _check_limits(config)
    _check_public_url(config)
    _check_keys(config)
    for proxy in filter(None, (part.strip() for part in config.trusted_proxies.split(","))):
        try:
            ipaddress.ip_network(proxy, strict=False)
        except ValueError as error:
            raise InvalidConfig(f"trusted_proxies: {proxy!r} is no address or network") from error
    if config.is_sandbox and not _is_loopback(config.host):
        _require(
            len(config.sandbox_password) >= 12,
            f"the sandbox on {config.host} would be reachable from other machines: set sandbox_password"
            " (12 characters or more), or use --host 127.0.0.1",
        )


def _check_limits(config: Config) -> None:
    _require(config.attempt_limits in ("", "on", "off"), f"attempt_limits is {config.attempt_limits!r}, use on or off")
    for name in ("card_declines_max", "address_declines_max", "terminal_declines_max"):
        number = getattr(config, name)
        _require(0 <= number <= 1_000_000, f"{name} is {number}, use 0 (no limit) to 1000000")
    minutes = config.declines_minutes
    _require(1 <= minutes <= 60 * 24 * 7, f"declines_minutes is {minutes}, use 1 to {60 * 24 * 7} (a week)")
    first, most = config.attempt_wait_seconds, config.attempt_wait_seconds_max
    _require(
        0 < first <= most <= 86_400,
        f"attempt_wait_seconds is {first:g} and attempt_wait_seconds_max {most:g}: use more than 0, at most 86400 (a"
        " day), and the first wait not above the longest",
    )


def _check_public_url(config: Config) -> None:
    if config.acs_url:
        _require(
            _is_origin(config.acs_url), f"acs_url is {config.acs_url!r}, use an origin such as http://acs.localhost"
        )
        page, acs = urlsplit(config.public_url).hostname, urlsplit(config.acs_url).hostname
        _require(page != acs, f"acs_url has the host of public_url, {acs}: the two must be told apart by it")
    if not config.public_url:
        _require(config.is_sandbox, "production needs public_url, such as https://pay.example.kz")
        return
    is_origin = _is_origin(config.public_url)
    _require(is_origin, f"public_url is {config.public_url!r}, use an origin such as https://pay.example.kz")
    is_https = urlsplit(config.public_url).scheme == "https"
    _require(config.is_sandbox or is_https, "public_url must be https in production")


def _is_origin(url: str) -> bool:
    parts = urlsplit(url)
    return bool(parts.scheme in ("http", "https") and parts.hostname and parts.path in ("", "/") and not parts.query)


def _check_keys(config: Config) -> None:
    try:
        parse_server_keys(config.server_key)
        if config.webhook_secret:
            parse_webhook_secret(config.webhook_secret)
    except InvalidKey as error:
        raise InvalidConfig(str(error)) from error
    _require(
        config.is_sandbox or not config.webhook_secret,
        "webhook_secret is for the sandbox's published terminal; in production use tolem terminal secret",
    )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise InvalidConfig(message)
