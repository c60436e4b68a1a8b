"""Logs and metrics: one structured line per operation, counters for Prometheus. Never a body, never a card, no local
variables in traces, and no address of a page: such a path is a permission to pay.
"""

import logging
import os
import sys
import traceback
from typing import Any

import msgspec
import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, multiprocess
from structlog.typing import EventDict, FilteringBoundLogger, Processor

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
