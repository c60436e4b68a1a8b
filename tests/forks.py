"""Processes forked from one that has imported and made what they all need: a run of all tests starts hundreds, and a
fork takes a tenth of a new interpreter's time.

Each worker of the tests has one such parent, the standard library's fork server. It outlives no test run, and neither
do its children.
"""

import multiprocessing
import os
import signal
import sys
import threading
from functools import cache
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerContext
from pathlib import Path
from subprocess import TimeoutExpired

PARENT = "tests.forked_parent"


@cache
def fork_context() -> ForkServerContext:
    """Makes processes by forking. A target's own module should be one of those that the parent imports."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([PARENT])
    return context


class TolemProcess:
    """`tolem …` as a process of its own, with what subprocess.Popen tells of one."""

    def __init__(self, *arguments: str, cwd: Path, env: dict[str, str], log: Path) -> None:
        """Starts it. `env` is all of its environment; its standard error is appended to `log`."""
        log.touch()
        self._process = fork_context().Process(target=_run, args=(arguments, cwd, env, log), daemon=True)
        self._process.start()
        assert self._process.pid is not None
        self.pid: int = self._process.pid

    def poll(self) -> int | None:
        """Exit status; -9 after SIGKILL; None: it runs."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Exit status, once it has ended."""
        self._process.join(timeout)
        status = self._process.exitcode
        if status is None:
            raise TimeoutExpired("tolem", timeout or 0)
        return status

    def send_signal(self, number: int) -> None:
        """To a process that has ended: nothing happens."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)


def _run(arguments: tuple[str, ...], cwd: Path, env: dict[str, str], log: Path) -> None:
    """The process: as after `python -m tolem.cli`."""
    from tests.gateway import PRODUCT_STEP_SECONDS
    from tolem import worker
    from tolem.cli import main

    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(os.open(log, os.O_WRONLY | os.O_APPEND), 2)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    worker.STEP_SECONDS = PRODUCT_STEP_SECONDS
    threading.Thread(target=_end_with_the_tests, daemon=True).start()
    sys.argv = ["tolem", *arguments]
    main(arguments, prog_name="tolem")


def _end_with_the_tests() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os.kill(os.getpid(), signal.SIGKILL)
