"""docs/sandbox.md: its commands, requests and code are run as they stand, and its numbers are the code's."""

import json
import re
import shlex
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.test_cli import invoke, serving
from tolem.sandbox import faults, routes, time_machine
from tolem.sandbox.faults import Corruption, FaultKind
from tolem.storage.migrate import migrate

GUIDE = (Path(__file__).parents[2] / "docs" / "sandbox.md").read_text()
ADDRESS = "http://127.0.0.1:8700"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, int]]:
    """One that all examples talk to; its folder and port."""
    folder = tmp_path_factory.mktemp("guide")
    migrate(f"sqlite:///{folder}/tolem.db", mode="sandbox")
    with serving(folder) as (_, port):
        yield folder, port


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", GUIDE, re.DOTALL)


def request(words: list[str], port: int) -> Any:
    """What a curl command with -X, -H and -d asks for."""
    options, method, headers, data = iter(words[1:]), "GET", {}, None
    for word in options:
        match word:
            case "-X":
                method = next(options)
            case "-H":
                name, _, value = next(options).partition(": ")
                headers[name] = value
            case "-d":
                data = next(options).encode()
            case _:
                url = word.replace(ADDRESS, f"http://127.0.0.1:{port}")
    asked = urllib.request.Request(url, data, headers, method=method)  # noqa: S310 - our own example
    with urllib.request.urlopen(asked, timeout=30) as answer:  # noqa: S310 - see above
        return json.load(answer)


def test_commands_and_requests(gateway: tuple[Path, int]) -> None:
    folder, port = gateway
    lines = [line for block in blocks("sh") for line in block.splitlines() if not line.endswith("&")]
    assert len(lines) == 15
    for line in lines:
        words = shlex.split(line)
        if words[0] == "curl":
            assert request(words, port) is not None, line
        else:
            assert words[0] == "tolem"
            done = invoke(*words[1:], cwd=folder, TOLEM_PORT=str(port))
            assert done.exit_code == 0, line + done.output


def test_the_answer_has_the_fields_that_are_shown(gateway: tuple[Path, int]) -> None:
    (shown,) = blocks("json")
    post = ["curl", "-X", "POST", f"{ADDRESS}/sandbox/clock", "-H", "content-type: application/json", "-d"]
    assert list(json.loads(shown)) == list(request([*post, '{"advance_seconds": 0}'], gateway[1]))


def test_the_code(gateway: tuple[Path, int]) -> None:
    (code,) = blocks("python")
    code = code.replace(ADDRESS, f"http://127.0.0.1:{gateway[1]}")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "words",
    (
        f"0 to {time_machine.ADVANCE_MAX.total_seconds():.0f} ({time_machine.ADVANCE_MAX.days} days)",
        f"{time_machine.AHEAD_MAX.days} days ahead is the end",
        f"1 to {routes.WAIT_SECONDS_MAX}; {routes.WAIT_SECONDS} if left out",
        f"1 to {faults.SECONDS_MAX}, on the moved clock | {faults.SECONDS} |",
        f"2 to {faults.TIMES_MAX} | {faults.TIMES} |",
        f"tries of a message, 1 to {faults.TRIES_MAX} | 1 |",
        f"At most {faults.FAULTS_MAX} at one time",
        *(f"| `{kind}` |" for kind in FaultKind),
        *(f"`{how}`" for how in Corruption),
    ),
)
def test_the_numbers_and_names_are_the_codes(words: str) -> None:
    assert words in GUIDE
