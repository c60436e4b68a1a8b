"""The simulator as a real process, for tests of both sides."""

import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.forks import TolemProcess


class Program:
    """A simulator's process on a port that stays the same when it is started again."""

    def __init__(self, folder: Path, ledger: str, *options: str, **environment: str) -> None:
        """`ledger`: its address; empty: where it is by default."""
        self.folder = folder
        self.ledger = ledger
        self.log = folder / "simulator.log"
        self.port = 0
        self._options = options
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith("TOLEM_")} | environment
        self._process: TolemProcess | None = None

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def is_running(self) -> bool:
        """It has not ended."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Returns once it serves."""
        skip = self.log.stat().st_size if self.log.exists() else 0
        ledger = ("--ledger", self.ledger) if self.ledger else ()
        command = ("acquirer-simulator", "--port", str(self.port), *ledger, *self._options)
        self._process = TolemProcess(*command, cwd=self.folder, env=self.environment, log=self.log)
        deadline = time.monotonic() + 20
        while (found := re.search(rb"serves http://[^ ]+:(\d+)", self.log.read_bytes()[skip:])) is None:
            assert self._process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.02)
        self.port = int(found[1])

    def kill(self) -> None:
        """kill -9."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def stop(self) -> int:
        """SIGTERM; the exit status."""
        assert self._process is not None
        self._process.terminate()
        return self._process.wait(timeout=12)


@contextmanager
def running_program(folder: Path, ledger: str, *options: str, **environment: str) -> Iterator[Program]:
    """A simulator that serves."""
    program = Program(folder, ledger, *options, **environment)
    program.start()
    try:
        yield program
    finally:
        program.kill()
