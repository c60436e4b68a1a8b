"""The machine under the figures: what it is, and how much processor time processes have used.

Called by bench/run.py and bench/load.py. Processor time is read from Linux' /proc; elsewhere it is unknown (None).
"""

import os
import platform
import sqlite3
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

PROC = Path("/proc")
FSYNC_TRIES = 50
PACKAGES = ("uvicorn", "uvloop", "httptools", "starlette", "psycopg")


def cpu_seconds(pids: Sequence[int]) -> float | None:
    """Processor time of these processes, their children and what ended below them; None where /proc tells nothing."""
    if not (PROC / "self" / "stat").exists():
        return None
    ticks = 0
    wanted = set(pids)
    for pid, parent, used in _list_processes():
        if pid in wanted or parent in wanted:
            ticks += used
    return ticks / os.sysconf("SC_CLK_TCK")


def describe_machine(folder: Path) -> dict[str, str | int | float]:
    """Cores, versions, and what one fsync costs where the databases lie."""
    return {
        "cores": os.cpu_count() or 0,
        "cpu": _cpu_model(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        **{package: version(package) for package in PACKAGES},
        "fsync_ms": round(measure_fsync(folder) * 1000, 2),
    }


def measure_fsync(folder: Path) -> float:
    """Median seconds of appending 4 KB to a file in `folder` and waiting for the disk."""
    path = folder / "fsync"
    took = []
    with path.open("wb", buffering=0) as file:
        for _ in range(FSYNC_TRIES):
            file.write(b"\0" * 4096)
            start = time.perf_counter()
            os.fsync(file.fileno())
            took.append(time.perf_counter() - start)
    path.unlink()
    return sorted(took)[len(took) // 2]


def _list_processes() -> list[tuple[int, int, int]]:
    """(pid, parent's pid, ticks) of all that run now; ticks count the waited-for children too."""
    found = []
    for folder in PROC.iterdir():
        if not folder.name.isdigit():
            continue
        try:
            stat = (folder / "stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended while we looked
        # The program's name stands in parentheses and may hold spaces: count from the last one.
        fields = stat[stat.rindex(")") + 2 :].split()
        found.append((int(folder.name), int(fields[1]), sum(map(int, fields[11:15]))))
    return found


def _cpu_model() -> str:
    info = PROC / "cpuinfo"
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()
