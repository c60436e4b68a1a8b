"""docs/inspector.md: its commands and requests are run as they stand, and its tables name what the code has."""

import json
import re
import shlex
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.test_cli import invoke, serving
from tests.test_cli_messages import receiving
from tests.test_cli_money import Shop
from tolem.domain.message import Fault, MessageState
from tolem.flows.replay import Way
from tolem.sandbox.cards import build_number
from tolem.sandbox.fixtures import CLIENT_ID, CLIENT_SECRET
from tolem.wire.messages import LIMIT_DEFAULT, LIMIT_MAX, parse_query

ROOT = Path(__file__).parent.parent
GUIDE = (ROOT / "docs" / "inspector.md").read_text()
ADDRESS = "http://127.0.0.1:8700"
INVOICE = "000000001"


class Place(NamedTuple):
    """A gateway with an order whose shop is in trouble."""

    folder: Path
    port: int
    message_id: str
    token: str


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("guide")
    with receiving() as receiver, serving(folder) as (_, port):
        shop = Shop(port)
        receiver.status = 410
        shop.pay(INVOICE, build_number(0), receiver.url)
        deadline = time.monotonic() + 30
        while not receiver.ids:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        client = {"grant_type": "client_credentials", "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}
        token = json.loads(shop.post("/oauth2/token", client)[1])["access_token"]
        receiver.status = 200
        yield Place(folder, port, receiver.ids[0], token)


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", GUIDE, re.DOTALL)


def request(words: list[str], place: Place) -> Any:
    """What a curl command with -s, -X and -H asks for."""
    options, method, headers = iter(words[1:]), "GET", {}
    for word in options:
        match word:
            case "-s":
                pass
            case "-X":
                method = next(options)
            case "-H":
                name, _, value = next(options).partition(": ")
                headers[name] = value
            case _:
                url = word.replace(ADDRESS, f"http://127.0.0.1:{place.port}")
    asked = urllib.request.Request(url, headers=headers, method=method)  # noqa: S310 - our own example
    with urllib.request.urlopen(asked, timeout=30) as answer:  # noqa: S310 - see above
        return json.load(answer)


def test_commands_and_requests(place: Place) -> None:
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    assert len(lines) == 14
    for line in lines:
        words = shlex.split(line.replace("$ID", place.message_id).replace("$TOKEN", place.token))
        if words[0] == "curl":
            assert request(words, place) != [], line
            continue
        assert words[0] == "tolem"
        done = invoke(*words[1:], cwd=place.folder)
        assert done.exit_code == 0, line + done.output
        assert done.stdout


def test_the_answer_has_the_fields_that_are_shown(place: Place) -> None:
    (shown,) = [json.loads(block) for block in blocks("json")]
    told = request(["curl", "-H", f"Authorization: Bearer {place.token}", f"{ADDRESS}/api/messages"], place)
    assert list(told) == list(shown)
    assert list(told["messages"][0]) == list(shown["messages"][0])
    assert list(told["messages"][0]["last_try"]) == list(shown["messages"][0]["last_try"])


def first_column(heading: str) -> list[str]:
    """The names in the first column of the table under that heading."""
    _, _, rest = GUIDE.partition(f"| {heading} |")
    table = rest.split("\n\n")[0].splitlines()[2:]
    return [name for row in table for name in re.findall(r"`([^`]+)`", row.split("|")[1])]


def test_tables_name_what_there_is() -> None:
    assert first_column("state") == list(MessageState)
    assert first_column("`fault`") == list(Fault)
    fields = first_column("query field")
    assert parse_query(dict.fromkeys(fields, "")).limit == LIMIT_DEFAULT
    assert f"| 1 to {LIMIT_MAX}; {LIMIT_DEFAULT} if left out |" in GUIDE
    page = (ROOT / "src" / "tolem" / "web" / "templates" / "sandbox.html").read_text()
    buttons = dict(re.findall(r'data-way="(\w+)">([^<]+)<', page))
    assert set(buttons) == set(Way)
    for words in (*buttons.values(), *re.findall(r'data-advance="\d+">([^<]+)<', page)):
        assert words in GUIDE, words
