"""The one place where the real parts are made and joined. Called by cli, by tests and by the benchmark."""

import asyncio
import os
import time
from collections.abc import Callable
from typing import NamedTuple
from uuid import UUID

from starlette.routing import Route
from starlette.types import ASGIApp

from tolem.acquirers.base import Acquirer, Authenticator
from tolem.acquirers.http import HttpAcquirer, check_url
from tolem.clock import Clock, SystemClock
from tolem.config import Config, InvalidConfig
from tolem.domain.key import WebhookSecrets, parse_webhook_secret, render_webhook_secret
from tolem.domain.merchant import Merchant, Terminal
from tolem.flows.access import Access
from tolem.flows.acquiring import Acquiring, Limits
from tolem.flows.authentication import Authentications
from tolem.flows.authorization import Authorizations
from tolem.flows.card_keys import CardKeeper
from tolem.flows.carried import Carried
from tolem.flows.checkout import Checkout
from tolem.flows.directory import Directory
from tolem.flows.expiry import Expiry
from tolem.flows.holds import Holds
from tolem.flows.inspection import Inspection
from tolem.flows.limits import AttemptLimits
from tolem.flows.maintenance import MaintenanceWatch, describe
from tolem.flows.opening import Openings
from tolem.flows.operations import Operations
from tolem.flows.recovery import Recovery
from tolem.flows.redelivery import Redelivery
from tolem.flows.replay import Replay
from tolem.flows.saved_cards import SavedCards
from tolem.flows.signing import KEEP_HOURS, Signer, WebhookSecretKeeper, find_missing_keys, owner_of
from tolem.flows.status import Statuses
from tolem.flows.tokens import Tokens
from tolem.flows.way_back import WayBack
from tolem.i18n import story
from tolem.i18n.translator import load_translator
from tolem.ids import Ids
from tolem.notifications.notifier import PER_HOST, Notifier
from tolem.notifications.schedule import TryResult
from tolem.notifications.sender import Sender
from tolem.notifications.takeover import note_interruptions
from tolem.notifications.terms import Terms, terms_of
from tolem.sandbox.acs import AcsServer
from tolem.sandbox.acs_book import AcsBook
from tolem.sandbox.authenticator import SandboxAuthenticator
from tolem.sandbox.controls import Controls
from tolem.sandbox.fixtures import CLIENT_ID, CLIENT_SECRET, TERMINAL_ID, WEBHOOK_SECRET, published_fixtures
from tolem.sandbox.ledger import LedgerMissing, open_ledger, open_ledger_beside
from tolem.sandbox.line import Line
from tolem.sandbox.simulator import Simulator, check_card
from tolem.shop import ShopConfig, create_app
from tolem.storage import claims, keys, queries
from tolem.storage.migrate import EXPECTED_VERSION, Stamp, is_current, migrate, read_stamp
from tolem.storage.open import open_store
from tolem.storage.schema import tolem_schema
from tolem.storage.sealed_cards import CardSealer
from tolem.storage.sealing import Sealer, load_sealer
from tolem.storage.store import Decision, Store
from tolem.storage.timekeeping import Timekeeper
from tolem.storage.vault import Vault
from tolem.telemetry import (
    Outages,
    log,
    messages_undelivered,
    operations_by_age,
    operations_given_up,
    operations_oldest_seconds,
    operations_open,
    tries_total,
)
from tolem.web.answers import origin_of
from tolem.web.api import api_routes
from tolem.web.app import Edge
from tolem.web.cards import card_routes
from tolem.web.challenge_pages import ChallengePages
from tolem.web.checkout import PageEndpoint
from tolem.web.home import production_home, sandbox_home
from tolem.web.inspector import Inspector
from tolem.web.messages import message_routes
from tolem.web.oauth import TokenEndpoint
from tolem.web.pages import Pages
from tolem.web.payform import PayformEndpoint
from tolem.web.public import Detail, Readiness, build_public
from tolem.web.return_address import RETURN_PREFIX, ReturnEndpoint
from tolem.worker import Worker

READY_SECONDS_MAX = 2.0
"""A process whose database answers or takes changes later than this is not ready."""


class Gateway(NamedTuple):
    """A running gateway: the application, and what works beside it."""

    app: ASGIApp
    store: Store
    acquirer: Acquirer
    authenticator: Authenticator
    notifier: Notifier
    acquiring: Acquiring
    worker: Worker
    sender: Sender
    timekeeper: Timekeeper | None
    """None: a clock of the caller's own is in force."""
    secrets: WebhookSecretKeeper
    controls: Controls | None
    """A sandbox's."""
    inspector: Inspector | None
    """A sandbox's."""

    def end_streams(self) -> None:
        """Ends the answers that have no end of their own; what is asked for is still answered."""
        if self.inspector is not None:
            self.inspector.close()

    async def close(self, seconds: float = 2.0) -> None:
        """Finishes what runs, stores it, closes every connection."""
        self.end_streams()
        await self.acquiring.close(seconds)
        await self.worker.stop(seconds)
        await self.sender.close()
        await self.acquirer.close()
        if self.timekeeper is not None:
            await self.timekeeper.close()
        await self.authenticator.close()
        if self.controls is not None:
            await self.controls.close()
        await self.store.close()


async def open_gateway(
    config: Config,
    *,
    clock: Clock | None = None,
    ids: Ids | None = None,
    wrap_store: Callable[[Store], Store] = lambda store: store,
    wrap_acquirer: Callable[[Acquirer], Acquirer] = lambda acquirer: acquirer,
    wrap_authenticator: Callable[[Authenticator], Authenticator] = lambda authenticator: authenticator,
) -> Gateway:
    """Makes the parts, joins them and starts the loops. Raises InvalidConfig, InvalidKey if this process must not
    start.

    `wrap_store` and the like put something in front of a real part: tests cut the power between two steps.
    """
    check_start(config)
    clock = clock or SystemClock()
    ids = ids or Ids(clock.real_ns if isinstance(clock, SystemClock) else time.time_ns)
    sealer = load_sealer(config.server_key, config.database, is_sandbox=config.is_sandbox)
    instance = ids.instance()
    store = wrap_store(await open_store(config.database, schema=tolem_schema, instance=instance))
    await check_database(store, config)
    await check_keys(store, sealer)
    timekeeper = Timekeeper(clock, store) if isinstance(clock, SystemClock) else None
    if timekeeper is not None:
        await timekeeper.open()
    freed = await claims.free_all_leases(store)
    outages = Outages()
    controls = Controls(store, clock, outages) if config.is_sandbox else None
    if controls is not None:
        await controls.open()
        clock = controls.clock
    await note_interruptions(store, ids, freed, clock.now())
    await store_fixtures(store, clock, sealer)
    secrets = WebhookSecretKeeper(store, clock, sealer)
    if config.webhook_secret:
        await use_webhook_secret(secrets, config.webhook_secret)
    acquirer = wrap_acquirer(await _open_acquirer(config, instance))
    directory = Directory(store)
    signer = Signer(directory, sealer)
    sign = controls.carrier.signing(signer.sign) if controls else signer.sign
    sender = Sender(clock, sign, sandbox=config.is_sandbox, per_host=PER_HOST)
    carrier = controls.carrier.before(sender) if controls else sender

    async def find_terms(terminal_id: UUID) -> Terms:
        return terms_of(await directory.get_terminal(terminal_id))

    notifier = Notifier(store, clock, ids, carrier, instance, find_terms, on_try=_count_try, outages=outages)
    limits = Limits(config.acquirer_timeout_seconds, config.recovery_margin_seconds, config.recovery_tries)
    acquiring = Acquiring(store, clock, ids, acquirer, notifier, limits)
    access = Access(store, directory, clock)
    operations = Operations(acquiring, directory, access)
    maintenance = MaintenanceWatch(directory, clock)
    tokens = Tokens(store, directory, clock, ids, maintenance, is_sandbox=config.is_sandbox)
    acs_book = AcsBook(config.acs_book_url, instance, ids)
    authenticator = wrap_authenticator(SandboxAuthenticator(acs_book, clock, config.acs_url))
    cards = SavedCards(store, clock, Vault(store, sealer))
    attempt_limits = AttemptLimits(store, clock, sealer, config.attempt_terms)
    authentications = Authentications(
        acquiring,
        Authorizations(acquiring, attempt_limits, cards),
        directory,
        authenticator,
        CardSealer(store, clock, sealer),
        attempt_limits,
    )
    openings = Openings(store, directory, clock, ids, maintenance, is_sandbox=config.is_sandbox)
    checkout = Checkout(
        store,
        directory,
        clock,
        ids,
        acquirer,
        acquiring,
        authentications,
        cards,
        notifier,
        attempt_limits,
        maintenance,
        is_sandbox=config.is_sandbox,
    )
    expiry = Expiry(store, directory, clock, acquiring, notifier)
    holds = Holds(store, clock, operations)
    inspection = Inspection(store, directory, clock)
    redelivery = Redelivery(store, clock, ids, notifier.wake)
    story_texts = load_translator(story.CATALOGUE)
    inspector: Inspector | None = None
    guarded: tuple[Route, ...] = ()
    if controls is not None:
        inspector = Inspector(inspection, Replay(inspection, redelivery), clock, story_texts)
        steps = (authentications.expire, expiry.step, holds.step)
        guarded = (*controls.join(notifier, steps=steps, purge=expiry.purge), *inspector.routes())
    translator = load_translator()
    pages = Pages(translator, sandbox=config.is_sandbox)
    challenge_pages = ChallengePages(translator, pages, sandbox=config.is_sandbox)
    way_back = WayBack(sealer)
    edge = Edge(
        TokenEndpoint(tokens),
        PayformEndpoint(openings, pages),
        PageEndpoint(
            checkout,
            pages,
            challenge_pages,
            way_back,
            Carried(sealer),
            origin_of(config.public_url),
            RETURN_PREFIX,
        ),
        ReturnEndpoint(checkout, way_back, challenge_pages),
        pages,
        build_public(
            lambda: _readiness(store, clock, maintenance),
            sandbox_home(translator) if config.is_sandbox else production_home(pages),
            directory,
            config.sandbox_password,
            (
                *api_routes(access, Statuses(store, access), operations),
                *card_routes(access, cards),
                *message_routes(access, inspection, redelivery, story_texts),
            ),
            guarded,
            config.public_url,
        ),
    )
    worker = Worker(Recovery(acquiring, directory), authentications, expiry, holds, cards, notifier, outages)
    worker.start()
    app = controls.watch(edge) if controls else edge
    if config.is_sandbox:
        app = AcsServer(app, acs_book, clock, translator, config.acs_url)
    return Gateway(
        app,
        store,
        acquirer,
        authenticator,
        notifier,
        acquiring,
        worker,
        sender,
        timekeeper,
        secrets,
        controls,
        inspector,
    )


def check_start(config: Config) -> None:
    """Raises InvalidConfig if a gateway must not start with these settings."""
    if not config.is_sandbox:
        raise InvalidConfig(
            "production needs an acquirer, and the only connector of this version is the sandbox's simulator"
        )
    if config.acquirer_url:
        try:
            check_url(config.acquirer_url)
        except ValueError as error:
            raise InvalidConfig(f"acquirer_url {error}") from error


async def check_database(store: Store, config: Config) -> None:
    """Has missing tables made. Raises InvalidConfig, and closes the store, for one of another mode or version."""
    try:
        stamp = await read_stamp(store)
        if stamp != Stamp(EXPECTED_VERSION, config.mode):
            stamp = await asyncio.to_thread(prepare_sandbox_database, config)
        if stamp.version != EXPECTED_VERSION:
            raise InvalidConfig("the database is of another version: run tolem migrate")
    except BaseException:
        await store.close()
        raise


async def check_keys(store: Store, sealer: Sealer) -> None:
    """Raises InvalidConfig, and closes the store, if what is stored needs a server key that is not configured."""
    if lost := await CardKeeper(store, sealer).list_missing_keys():
        await store.close()
        raise InvalidConfig(
            f"saved cards are sealed under a server key that is not configured, {lost[0]}: add it to server_key"
        )
    missing = await find_missing_keys(store, sealer)
    if missing:
        await store.close()
        key_id, terminals = next(iter(missing.items()))
        raise InvalidConfig(
            f"webhook secrets of {len(terminals)} terminals, such as {terminals[0]}, are sealed under a server key that"
            f" is not configured, {key_id}: add it to server_key, or use tolem terminal secret new"
        )


async def use_webhook_secret(secrets: WebhookSecretKeeper, secret: str) -> None:
    """The published terminal's secret is the configured one from here on.

    Another one from before signs beside it for a while, as after `tolem terminal secret new`; not so the published one,
    which everybody knows.
    """
    before = (await secrets.read(TERMINAL_ID)).current
    is_published = before == parse_webhook_secret(WEBHOOK_SECRET)
    live = await secrets.change(TERMINAL_ID, secret, 0 if is_published else KEEP_HOURS, ends_previous=True)
    if before is not None and before != live.current:
        log.info("webhook_secret_replaced", terminal=str(TERMINAL_ID), previous_until=live.previous_until)


async def read_demo_secret(gateway: Gateway) -> str | None:
    """What the published terminal's notifications are signed with now; None: with nothing."""
    live = await gateway.secrets.read(TERMINAL_ID)
    return render_webhook_secret(live.current) if live.current else None


def build_demo_shop(
    *, gateway_url: str, gateway_internal_url: str, shop_url: str, database: str, webhook_secret: str | None = None
) -> ASGIApp:
    """The demo shop, as the published client. `webhook_secret`: what it verifies, None: nothing."""
    return create_app(
        ShopConfig(
            gateway_url=gateway_url,
            gateway_internal_url=gateway_internal_url,
            shop_url=shop_url,
            client_id=CLIENT_ID,
            client_secret=CLIENT_SECRET,
            terminal_id=str(TERMINAL_ID),
            webhook_secret=webhook_secret,
            database=database,
        )
    )


def prepare_sandbox_database(config: Config) -> Stamp:
    """A sandbox makes and migrates its own tables. Raises InvalidConfig for a database of the other mode."""
    stamp = migrate(config.database, mode=config.mode)
    if stamp.mode != config.mode:
        raise InvalidConfig(f"the database is stamped {stamp.mode!r}, this process runs as {config.mode!r}")
    return stamp


async def publish(config: Config, store: Store) -> None:
    """A sandbox's database has the published client and terminal from its first day, whether it was served or not."""
    sealer = load_sealer(config.server_key, config.database, is_sandbox=True)
    await store_fixtures(store, SystemClock(), sealer)


async def store_fixtures(store: Store, clock: Clock, sealer: Sealer) -> None:
    """The published client, terminal and webhook secret, unless they are there: what was changed of them stays."""
    sealed = sealer.seal(parse_webhook_secret(WEBHOOK_SECRET), owner_of(TERMINAL_ID))
    fixtures = published_fixtures(clock.now(), os.urandom(16), sealed)

    def decide(merchant: Merchant | None, terminal: Terminal | None, secrets: WebhookSecrets | None) -> Decision[None]:
        stored = (merchant, terminal, secrets)
        return Decision(None, tuple(r for r, known in zip(fixtures, stored, strict=True) if known is None))

    await store.change(
        (
            keys.merchant_by_client(fixtures.merchant.client_id),
            keys.terminal_by_id(TERMINAL_ID),
            keys.webhook_secrets_of(TERMINAL_ID),
        ),
        decide,
    )


async def _open_acquirer(config: Config, instance: int) -> Acquirer:
    """The program at `acquirer_url`, or a simulator in this process. The card table is the same."""
    if config.acquirer_url:
        return HttpAcquirer(config.acquirer_url, config.acquirer_secret, check=check_card)
    return Line(
        Simulator(await open_ledger(config.ledger_url, instance=instance)),
        delay_seconds=config.simulator_delay_seconds,
        late_seconds=config.simulator_late_seconds,
    )


async def open_books(config: Config) -> Acquirer:
    """The acquirer's books, to be read beside a running gateway. Raises InvalidConfig if there are none."""
    if config.acquirer_url:
        return HttpAcquirer(config.acquirer_url, config.acquirer_secret, check=check_card)
    try:
        return Simulator(await open_ledger_beside(config.ledger_url, instance=Ids().instance()))
    except LedgerMissing as error:
        raise InvalidConfig(f"{error}; --acquirer an acquirer of its own") from error


async def _readiness(store: Store, clock: Clock, maintenance: MaintenanceWatch) -> Readiness:
    """Database, its version, whether it takes changes, and how much is open; also refreshes the gauges that /metrics
    shows."""
    try:
        async with asyncio.timeout(READY_SECONDS_MAX):
            current = await is_current(store)
            waiting = describe(await maintenance.read())
            undelivered = await queries.count_undelivered(store)
            unsettled = await queries.summarize_open_operations(store, clock.now())
            await store.probe()
    except TimeoutError:
        return Readiness(False, {"database": f"takes no changes within {READY_SECONDS_MAX:g} s"})
    except Exception as error:
        return Readiness(False, {"database": type(error).__name__})
    messages_undelivered.set(undelivered)
    age_seconds = int((clock.now() - unsettled.oldest_at).total_seconds()) if unsettled.oldest_at else 0
    operations_open.set(unsettled.total)
    operations_oldest_seconds.set(age_seconds)
    operations_given_up.set(unsettled.given_up)
    by_age = unsettled.ages._asdict() if unsettled.ages else {}
    for age, count in by_age.items():
        operations_by_age.labels(age).set(count)
    details: dict[str, Detail] = {
        "database": "current" if current else "of another version",
        "undelivered": undelivered,
        "open_operations": unsettled.total,
        "open_operations_by_age": by_age,
        "oldest_open_operation_seconds": age_seconds,
        "operations_waiting_for_people": unsettled.given_up,
        "maintenance": waiting,
    }
    return Readiness(current, details)


def _count_try(result: TryResult) -> None:
    is_delivered = result.status is not None and 200 <= result.status < 300
    tries_total.labels("delivered" if is_delivered else "failed").inc()
