"""The notification benchmark: what a dead and a slow address cost the others, and how fast a backlog is delivered.

`make bench ARGS="--only notifications"`. Both are measured in turns, with and without, in one run; a figure without its
rival is no figure.
"""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec
from tests.postgres import start_postgres

from bench.addresses import SLOW_SECONDS, Behaviour, Received
from bench.contenders import POSTGRES_SETTINGS, ROOT, DidNotStart
from bench.deliverer import Sample, Spec
from bench.machine import describe_machine

ADDRESSES = 100
PER_SECOND = 200.0
"""Messages that are committed and sent; two a second to each address."""
DEAD_BACKLOG = 20_000
"""Messages of the dead address that are due when it begins; without it they are stored, too, and due in a year."""
TURNS = 2
SENT_ALONE = 10_000
"""Messages that the sender sends by itself, to learn its full speed."""
P99_FACTOR_MAX, P99_MS_MAX = 1.5, 10.0
"""A dead and a slow address may not make the others' p99 longer than both of these say."""
RSS_MB_MAX = 40.0
"""A backlog may not take more memory than this while it is delivered."""
EXTRA_SECONDS_MAX = 600


class Latency(NamedTuple):
    """Commit to arrival, of the healthy addresses."""

    messages: int
    p50_ms: float
    p99_ms: float
    max_ms: float


class _Shops:
    """The process of bench/addresses.py."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process
        self.ports: list[int] = msgspec.json.decode(self._read(), type=list[int])

    def begin(self, *behaviours: Behaviour) -> Received:
        """The first addresses behave like that from now on, the others are healthy; what came until now."""
        all_of_them = [*behaviours, *[Behaviour.HEALTHY] * (ADDRESSES - len(behaviours))]
        assert self._process.stdin is not None
        self._process.stdin.write(msgspec.json.encode(all_of_them) + b"\n")
        self._process.stdin.flush()
        return msgspec.json.decode(self._read(), type=Received)

    def _read(self) -> bytes:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise DidNotStart("the shops of the benchmark have ended")
        return line


def report(folder: Path, messages: int, seconds: float) -> int:
    """Measures and prints. 1 if the others feel the dead and the slow address, or memory grows; otherwise 0."""
    faults: list[str] = []
    text = [
        "",
        f"Notifications: {ADDRESSES} addresses, {PER_SECOND:g} messages/s, {seconds:g} s each in {TURNS} turns."
        " From the commit to the arrival",
        f"at {ADDRESSES - 2} of them, without and with one dead address ({DEAD_BACKLOG:,} of its messages are due)"
        f" and one that takes {SLOW_SECONDS:g} s",
        "",
        f"{'':12} {'':8} {'messages':>9} {'p50 ms':>8} {'p99 ms':>8} {'max ms':>8}",
    ]
    drains = []
    with _run_shops() as shops:
        alone = _deliver(Spec(database="", ports=shops.ports, backlog=SENT_ALONE))
        for name in ("sqlite", "postgresql"):
            without, with_both = _compare(name, shops, folder, seconds)
            for label, latency in (("without", without), ("with", with_both)):
                text.append(
                    f"{name:12} {label:8} {latency.messages:9} {latency.p50_ms:8.2f} {latency.p99_ms:8.2f}"
                    f" {latency.max_ms:8.1f}"
                )
            if with_both.p99_ms > max(without.p99_ms * P99_FACTOR_MAX, without.p99_ms + P99_MS_MAX):
                faults.append(f"{name}: a dead and a slow address cost the others {with_both.p99_ms:.1f} ms (p99)")
            print(f"{name}: {messages:,} waiting messages …", file=sys.stderr, flush=True)
            shops.begin()
            with _database(name, folder, "drain") as database:
                drains.append((name, _deliver(Spec(
                    database=database, ports=[], backlog_ports=shops.ports, backlog=messages
                ))))  # fmt: skip
    text += [
        "",
        f"{messages:,} waiting messages to {ADDRESSES} addresses; the sender alone, without a store:"
        f" {alone.delivered / alone.seconds:.0f}/s, {alone.cpu_us:.0f} µs each",
        "",
        f"{'':12} {'per s':>7} {'of alone':>8} {'CPU µs':>7}  RSS in MB and rate per s, tenth by tenth",
    ]
    for name, drain in drains:
        rate = drain.delivered / drain.seconds
        text += [
            f"{name:12} {rate:7.0f} {rate * alone.seconds / alone.delivered:8.2f} {drain.cpu_us:7.0f}"
            f"  {' '.join(f'{mb:5.0f}' for mb in drain.rss_mb)}",
            f"{'':36}        {' '.join(f'{tenth:5.0f}' for tenth in drain.rates)}",
        ]
        if max(drain.rss_mb) - drain.rss_mb[0] > RSS_MB_MAX:
            faults.append(f"{name}: memory grows from {drain.rss_mb[0]:.0f} to {max(drain.rss_mb):.0f} MB")
    text += ["", ", ".join(f"{name} {value}" for name, value in describe_machine(folder).items())]
    print("\n".join(text))
    for fault in faults:
        print(fault, file=sys.stderr)
    return 1 if faults else 0


def _compare(name: str, shops: _Shops, folder: Path, seconds: float) -> tuple[Latency, Latency]:
    """Latencies of the healthy without and with the two others, each over all turns."""
    samples: tuple[list[float], list[float]] = ([], [])
    for turn in range(TURNS):
        for found, behaviours in zip(samples, ((), (Behaviour.DEAD, Behaviour.SLOW)), strict=True):
            print(f"{name}: {'with' if behaviours else 'without'} …", file=sys.stderr, flush=True)
            ports = shops.ports if behaviours else shops.ports[2:]
            shops.begin(*behaviours)
            with _database(name, folder, f"{turn}{len(behaviours)}") as database:
                _deliver(
                    Spec(
                        database=database,
                        ports=ports,
                        backlog_ports=shops.ports[:1],
                        backlog=DEAD_BACKLOG,
                        backlog_due_in_days=0
                        if behaviours
                        else 365,  # stored as well, so that only their being due counts
                        per_second=PER_SECOND * len(ports) / ADDRESSES,
                        seconds=seconds / TURNS,
                    )
                )
            found += shops.begin().latencies_ms
    return _summarize(samples[0]), _summarize(samples[1])


def _summarize(latencies_ms: list[float]) -> Latency:
    ordered = sorted(latencies_ms)
    if not ordered:
        raise DidNotStart("no message arrived")
    return Latency(len(ordered), ordered[len(ordered) // 2], ordered[int(len(ordered) * 0.99)], ordered[-1])


def _deliver(spec: Spec) -> Sample:
    done = subprocess.run(
        [sys.executable, "-m", "bench.deliverer", msgspec.json.encode(spec).decode()],
        cwd=ROOT,
        capture_output=True,
        timeout=spec.seconds + EXTRA_SECONDS_MAX,
        check=False,
    )
    if done.returncode != 0:
        raise DidNotStart(f"the deliverer failed:\n{done.stderr.decode(errors='replace')[-2000:]}")
    return msgspec.json.decode(done.stdout, type=Sample)


@contextmanager
def _run_shops() -> Iterator[_Shops]:
    with subprocess.Popen(
        [sys.executable, "-m", "bench.addresses", str(ADDRESSES)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        try:
            yield _Shops(process)
        finally:
            process.terminate()


@contextmanager
def _database(name: str, folder: Path, turn: str) -> Iterator[str]:
    """An empty database, on a disk that is waited for."""
    if name == "sqlite":
        path = folder / f"notifications-{turn}.db"
        yield f"sqlite:///{path}"
        for file in path.parent.glob(f"{path.name}*"):
            file.unlink()
        return
    with start_postgres(POSTGRES_SETTINGS) as server:
        yield server.url(server.create_database())
