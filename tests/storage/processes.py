"""Starts tests/storage/child.py, and never leaves one behind."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent.parent


@contextmanager
def child(what: str, url: str) -> Iterator[subprocess.Popen[str]]:
    """A child whose store is open."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.storage.child", what, url],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": f"{REPOSITORY / 'src'}:{REPOSITORY}"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        yield process
    finally:
        process.kill()
        process.communicate()
