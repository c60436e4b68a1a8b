"""Logs and metrics: one structured line per operation, counters for Prometheus. Never a body, never a card, no local
variables in traces, and no address of a page: such a path is a permission to pay.
"""

import logging
import os
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

import msgspec
import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, multiprocess
from structlog.typing import EventDict, FilteringBoundLogger, Processor

from tolem.domain.errors import Overloaded, Uncertain

log: FilteringBoundLogger = structlog.get_logger("tolem")

requests_seconds = Histogram(
    "tolem_request_seconds",
    "Time to answer, by route",
    ("route",),
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5),
)
tokens_total = Counter("tolem_tokens_total", "Token requests, by result", ("result",))
payments_total = Counter("tolem_payments_total", "Card attempts, by the status they came to", ("status",))
attempts_limited_total = Counter(
    "tolem_attempts_limited_total", "Card attempts that had to wait, by whose declines: card, address", ("subject",)
)
declines_counted_total = Counter("tolem_declines_counted_total", "Declines that count for the limits of attempts")
operations_total = Counter("tolem_operations_total", "Captures, voids, refunds, by outcome", ("kind", "outcome"))
recoveries_total = Counter("tolem_recoveries_total", "Recovery steps, by the status they led to", ("status",))
tries_total = Counter("tolem_notification_tries_total", "Tries to deliver a notification, by result", ("result",))
faults_total = Counter("tolem_faults_total", "Unexpected faults answered with an incident number")
messages_undelivered = Gauge(
    "tolem_messages_undelivered", "Notifications not delivered yet", multiprocess_mode="livemostrecent"
)
operations_open = Gauge(
    "tolem_operations_open", "Acquirer operations without a known outcome", multiprocess_mode="livemostrecent"
)
operations_oldest_seconds = Gauge(
    "tolem_operations_oldest_seconds",
    "Age of the oldest operation without a known outcome",
    multiprocess_mode="livemostrecent",
)
operations_by_age = Gauge(
    "tolem_operations_open_by_age",
    "Acquirer operations without a known outcome: under_a_minute, up_to_an_hour, over_an_hour, given_up",
    ("age",),
    multiprocess_mode="livemostrecent",
)
operations_given_up = Gauge(
    "tolem_operations_given_up", "Operations that wait for tolem resolve", multiprocess_mode="livemostrecent"
)


STILL_SECONDS = 60.0
STILL_SECONDS_MAX = 3600.0
"""An outage that lasts is a line after so long, then after twice that, and so on up to an hour."""
OVER_SECONDS = 10.0
"""So long nothing of it may fail before it counts as over: what comes and goes is one outage."""


class _Outage:
    def __init__(self, now: float) -> None:
        self.began_at = self.failed_at = now
        self.failures = 0
        self.still_seconds = STILL_SECONDS
        self.tell_at = now + STILL_SECONDS
        self.loops: dict[str, bool] = {}
        """Whoever was hit → whether it still is."""


class Outages:
    """What the loops of a process fail at, told once with its trace, seldom while it lasts, and once when it is over.

    A database that is away stops all loops, and is one outage; anything else is one of its loop and kind.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._open: dict[tuple[str, str], _Outage] = {}

    def failed(self, loop: str, error: Exception) -> None:
        """A step of that loop raised."""
        now, kind = self._now(), type(error).__name__
        of = ("database", "") if isinstance(error, Overloaded | Uncertain) else (loop, kind)
        outage = self._open.get(of)
        if outage is None:
            outage = self._open[of] = _Outage(now)
            log.error("outage_began", of=of[0], loop=loop, exc_info=error)
        outage.failures += 1
        outage.failed_at = now
        outage.loops[loop] = True
        if now >= outage.tell_at:
            outage.still_seconds = min(outage.still_seconds * 2, STILL_SECONDS_MAX)
            outage.tell_at = now + outage.still_seconds
            log.warning(
                "outage_lasts",
                of=of[0],
                cause=kind,
                seconds=round(now - outage.began_at),
                failures=outage.failures,
                loops=sorted(name for name, is_hit in outage.loops.items() if is_hit),
            )

    def succeeded(self, loop: str) -> None:
        """A step of that loop went well."""
        for of, outage in tuple(self._open.items()):
            if loop not in outage.loops:
                continue
            outage.loops[loop] = False
            if not any(outage.loops.values()) and self._now() - outage.failed_at >= OVER_SECONDS:
                del self._open[of]
                seconds = round(outage.failed_at - outage.began_at)
                log.warning("outage_over", of=of[0], seconds=seconds, failures=outage.failures)


def configure_logging(log_format: str) -> None:
    """`json`: a line of JSON for machines; `text`: a line for people. To standard error."""
    shared: list[Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.ExceptionRenderer(_render_trace),
    ]
    renderer: Processor = (
        structlog.processors.JSONRenderer(serializer=_to_json)  # bytes: the fast way out
        if log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=(
            structlog.BytesLoggerFactory(sys.stderr.buffer)
            if log_format == "json"
            else structlog.PrintLoggerFactory(sys.stderr)
        ),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer, _to_text],
        )
    )
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)


def render_metrics() -> bytes:
    """The text that Prometheus scrapes, of all processes if there are several."""
    registry = CollectorRegistry()
    if multiprocess_enabled():
        multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # the library's gap
        return generate_latest(registry)
    return generate_latest()


def multiprocess_enabled() -> bool:
    """Several processes share one set of metrics (prometheus_client's own switch)."""
    return "PROMETHEUS_MULTIPROC_DIR" in os.environ


def _render_trace(exc_info: Any) -> str:
    """File, line and function of each frame: never what the variables held."""
    return "".join(traceback.format_exception(*exc_info))


def _to_json(event: EventDict, **_: Any) -> bytes:
    return msgspec.json.encode(event, enc_hook=str)


def _to_text(_logger: Any, _name: str, line: Any) -> str:
    """For the standard library's handlers, which write text."""
    return line.decode() if isinstance(line, bytes) else str(line)
