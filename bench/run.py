"""The performance report (`make bench`): complete payments per second beside a floor, in one run.

Measures in turns, floor and gateway one after the other, so that a noisy minute hits both. Exit status 0; 1 if the
gateway on SQLite is below the limit of the foundation; 2 if a contender did not start or gave a wrong answer.
"""

import argparse
import asyncio
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from itertools import count
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))  # run as a file: bench and tests are packages of this repository, not installed

import msgspec  # noqa: E402

from bench import notifications  # noqa: E402
from bench.client import WrongAnswer  # noqa: E402
from bench.contenders import DidNotStart, Running, run_floor, run_postgresql, run_sqlite  # noqa: E402
from bench.exchanges import format_invoice  # noqa: E402
from bench.floor import HEADERS_OF_SERVER, CannedAnswer  # noqa: E402
from bench.load import Client, Sample, Spec, capture_answers  # noqa: E402
from bench.machine import describe_machine  # noqa: E402
from bench.sampler import Profile, render_profile  # noqa: E402

RATIO_MIN = 0.4
"""On SQLite, with the default client. Below it the foundation has a mistake."""
TURNS = 2
"""Each contender is measured so many times; the floor before each of them."""
WARMUP_SECONDS = 1.5
INVOICES_PER_TURN = 10_000_000
EXTRA_SECONDS_MAX = 60
"""Of a load process beyond what it measures."""
LOG_SHOWN = 1500
"""Characters of a contender's log after a wrong answer."""

GATEWAYS: dict[str, Callable[[Path, Path | None], AbstractContextManager[Running]]] = {
    "sqlite": run_sqlite,
    "postgresql": run_postgresql,
}


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the report: all turns of a contender."""

    name: str
    payments_per_second: float
    ratio: float
    """To the floor in the turns right before its own."""
    p50_ms: float
    p99_ms: float
    server_cpu_us: float | None
    """Processor time per payment of the gateway's or floor's process."""
    database_cpu_us: float | None
    """Of a database server beside it."""
    load_cpu_us: float
    """Of the load generator, which shares the machine."""
    notifications_per_second: float
    turns: list[float]
    """Payments per second of each turn."""


def main() -> int:
    """Runs the benchmark that the command line asks for."""
    options = _parse_options()
    with tempfile.TemporaryDirectory(prefix="tolem-bench-") as name:
        try:
            if options.only == "notifications":
                return notifications.report(Path(name), options.messages, options.seconds)
            if options.profile:
                return _profile(Path(name), options)
            return _report(Path(name), options)
        except (DidNotStart, WrongAnswer) as problem:
            print(problem, file=sys.stderr)
            return 2


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description="complete payments per second beside a floor")
    parser.add_argument("--seconds", type=float, default=8.0, help="measured for each contender (8)")
    parser.add_argument("--callers", type=int, default=16, help="payments at one time (16)")
    parser.add_argument(
        "--client",
        type=Client,
        choices=tuple(Client),
        default=Client.AIOHTTP,
        help="who plays shops and browsers: aiohttp's client (the default) or lean, bytes on a socket",
    )
    parser.add_argument(
        "--only", choices=(*GATEWAYS, "notifications"), help="one database instead of both; or notifications instead"
    )
    parser.add_argument(
        "--messages", type=int, default=100_000, help="backlog that is delivered, with --only notifications (100000)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="the figures for a program")
    parser.add_argument(
        "--profile", action="store_true", help="show where the gateway's time goes, and measure nothing"
    )
    return parser.parse_args()


def _report(folder: Path, options: argparse.Namespace) -> int:
    machine = describe_machine(folder)
    names = [options.only] if options.only else list(GATEWAYS)
    samples: dict[str, list[Sample]] = {name: [] for name in ("floor", *names)}
    with ExitStack() as stack:
        gateways = [stack.enter_context(GATEWAYS[name](folder, None)) for name in names]
        answers = _capture(gateways[0], folder / "answers.json")
        floor = stack.enter_context(run_floor(folder, folder / "answers.json"))
        invoices = count(1, INVOICES_PER_TURN)
        for _ in range(TURNS):
            for gateway in gateways:
                for contender in (floor, gateway):
                    print(f"{contender.name} …", file=sys.stderr, flush=True)
                    seconds = options.seconds / TURNS / (len(gateways) if contender is floor else 1)
                    samples[contender.name].append(_measure(contender, seconds, options, next(invoices)))
    floors = samples["floor"]
    lines = [_summarize("floor", floors, _rate(floors))]
    for position, name in enumerate(names):
        lines.append(_summarize(name, samples[name], _rate(floors[position :: len(names)])))
    sizes = {name: len(answer.body) for name, answer in answers.items()}
    print(_render(lines, machine, sizes, options))
    if options.json:
        report = {
            "client": options.client, "callers": options.callers, "seconds": options.seconds, "machine": machine,
            "answer_bytes": sizes, "lines": lines,
        }  # fmt: skip
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")
    ratio = next((line.ratio for line in lines if line.name == "sqlite"), None)
    if ratio is not None and ratio < RATIO_MIN and options.client is Client.AIOHTTP:
        print(
            f"\nThe gateway on SQLite reaches {ratio:.2f} of the floor, and {RATIO_MIN} is the least: the foundation"
            " has a mistake. `make bench ARGS=--profile` shows where the time goes.",
            file=sys.stderr,
        )
        return 1
    return 0


def _profile(folder: Path, options: argparse.Namespace) -> int:
    name = options.only or "sqlite"
    target = folder / "profile.json"
    with GATEWAYS[name](folder, target) as gateway:
        _measure(gateway, WARMUP_SECONDS, options, 1)
        os.kill(gateway.server_pids[0], signal.SIGUSR1)  # the sampler forgets start and warm-up
        sample = _measure(gateway, options.seconds, options, 1 + INVOICES_PER_TURN)
    profile = msgspec.json.decode(target.read_bytes(), type=Profile)
    line = _summarize(name, [sample], 0.0)
    print(f"{name}: {line.payments_per_second:.0f} payments/s while it was sampled")
    print(render_profile(profile, line.server_cpu_us or 0.0))
    return 0


def _capture(gateway: Running, target: Path) -> dict[str, CannedAnswer]:
    """Real answers of the gateway, for the floor to replay."""
    captured = asyncio.run(capture_answers(gateway.port, format_invoice(INVOICES_PER_TURN * 1_000_000)))
    answers = {
        name: CannedAnswer(
            answer.status, [pair for pair in answer.headers if pair[0] not in HEADERS_OF_SERVER], answer.body
        )
        for name, answer in captured.items()
    }
    target.write_bytes(msgspec.json.encode(answers))
    return answers


def _measure(contender: Running, seconds: float, options: argparse.Namespace, first_invoice: int) -> Sample:
    """One turn, by a load process of its own. Raises WrongAnswer."""
    spec = Spec(
        port=contender.port,
        client=options.client,
        callers=options.callers,
        warmup_seconds=WARMUP_SECONDS,
        seconds=seconds,
        first_invoice=first_invoice,
        is_notified=contender.name != "floor",
        server_pids=contender.server_pids,
        database_pids=contender.database_pids,
    )
    try:
        done = subprocess.run(
            [sys.executable, "-m", "bench.load", msgspec.json.encode(spec).decode()],
            cwd=ROOT,
            capture_output=True,
            timeout=WARMUP_SECONDS + seconds + EXTRA_SECONDS_MAX,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise WrongAnswer(f"{contender.name}: the load did not end in {error.timeout:g} s") from error
    if done.returncode != 0:
        problem = done.stderr.decode(errors="replace").strip()
        logged = contender.log.read_text(errors="replace")[-LOG_SHOWN:]
        raise WrongAnswer(f"{contender.name}: {problem}\nThe end of its log:\n{logged}")
    return msgspec.json.decode(done.stdout, type=Sample)


def _rate(samples: list[Sample]) -> float:
    return sum(sample.payments for sample in samples) / sum(sample.seconds for sample in samples)


def _summarize(name: str, samples: list[Sample], floor_rate: float) -> Line:
    payments = sum(sample.payments for sample in samples)
    if payments == 0:
        raise WrongAnswer(f"{name}: no payment was complete in the time measured")
    latencies = sorted(latency for sample in samples for latency in sample.latencies_ms)
    rate = _rate(samples)

    def per_payment(seconds: list[float | None]) -> float | None:
        known = [value for value in seconds if value is not None]
        return sum(known) / payments * 1e6 if len(known) == len(seconds) else None

    return Line(
        name=name,
        payments_per_second=rate,
        ratio=rate / floor_rate if floor_rate else 0.0,
        p50_ms=latencies[len(latencies) // 2],
        p99_ms=latencies[int(len(latencies) * 0.99)],
        server_cpu_us=per_payment([sample.server_cpu_seconds for sample in samples]),
        database_cpu_us=per_payment([sample.database_cpu_seconds for sample in samples]),
        load_cpu_us=sum(sample.load_cpu_seconds for sample in samples) / payments * 1e6,
        notifications_per_second=sum(s.notifications for s in samples) / sum(s.seconds for s in samples),
        turns=[sample.payments / sample.seconds for sample in samples],
    )


def _render(
    lines: list[Line], machine: dict[str, str | int | float], sizes: dict[str, int], options: argparse.Namespace
) -> str:
    text = [
        "",
        f"Complete payments, {options.callers} callers ({options.client}), {options.seconds:g} s each in {TURNS} turns",
        "",
        f"{'':12} payments/s  of floor  p50 ms  p99 ms  CPU µs/payment: server  database    load  notified/s  turns",
    ]
    for line in lines:
        text.append(
            f"{line.name:12} {line.payments_per_second:10.0f}  {line.ratio:8.2f}"
            f"  {line.p50_ms:6.1f}  {line.p99_ms:6.1f}"
            f"  {_microseconds(line.server_cpu_us):>22}  {_microseconds(line.database_cpu_us):>8}"
            f"  {line.load_cpu_us:6.0f}  {line.notifications_per_second:10.0f}"
            f"  {' '.join(f'{rate:.0f}' for rate in line.turns)}"
        )
    text += [
        "",
        "A payment: token, pay object, page, card, result page; all durable, and its postLink received and answered.",
        "The floor: a bare Starlette + uvicorn application, one process, that answers the same five exchanges with the",
        f"gateway's own bytes ({', '.join(f'{name} {size}' for name, size in sizes.items())}); it parses no body,",
        "stores nothing and sends no notification. Load generator and database server share the machine; a ratio is",
        f"to the floor's turns right before, under the same load ({options.client}); under another load it is another.",
        "",
        ", ".join(f"{name} {value}" for name, value in machine.items()),
    ]
    return "\n".join(text)


def _microseconds(value: float | None) -> str:
    return "-" if not value else f"{value:.0f}"


if __name__ == "__main__":
    sys.exit(main())
