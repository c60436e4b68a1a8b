"""`tolem scripts` beside a running gateway: the same, changed, out of reach."""

import json
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from tests.gateway import Caller
from tests.test_cli import free_port, serving
from tolem.cli_scripts import scripts
from tolem.web.assets import integrity_of


def post(url: str, fields: dict[str, str]) -> Any:
    """Posts a form, and follows its redirect."""
    body = urllib.parse.urlencode(fields).encode()
    return urllib.request.urlopen(urllib.request.Request(url, body), timeout=10)  # noqa: S310 - loopback


def open_page(base: str) -> str:
    """The address of an order's page."""
    caller = Caller(None)
    with post(f"{base}/oauth2/token", caller.token_fields("000000001")) as answer:
        token = json.loads(answer.read())
    with post(f"{base}/payform/", {"params": caller.params(token, "000000001")}) as answer:
        assert answer.status == 200
        address: str = answer.url
        return address


def ask(*arguments: str, status: int = 0) -> str:
    """What `tolem scripts` says, standard error too."""
    done = CliRunner().invoke(scripts, arguments)
    assert done.exit_code == status, done.output
    return done.output


def test_a_running_gateway(tmp_path: Path) -> None:
    text = ask()
    assert "card form" in text
    assert "script-src 'self'" in text
    approved, other = tmp_path / "approved.json", tmp_path / "other.json"
    approved.write_text(ask("--json"))
    inventory = json.loads(approved.read_text())
    (page_js,) = [source for source in inventory["sources"] if source["name"] == "page.js"]
    page_js["integrity"] = integrity_of(b"another version")
    inventory["pages"][0]["headers"]["referrer-policy"] = "no-referrer"
    other.write_text(json.dumps(inventory))
    with serving(tmp_path) as (_, port):
        base = f"http://127.0.0.1:{port}"
        page = open_page(base)
        assert ask("--check", base, "--against", str(approved), "--page", page) == "as in the inventory\n"
        told = json.loads(ask("--check", base, "--json"))
        assert told == {"url": base, "is_same": True, "differences": []}
        assert "is the page open still?" in ask("--check", base, "--page", f"{base}/pay/gone", status=2)
        differences = ask("--check", base, "--against", str(other), status=1).splitlines()
        assert sum("has the integrity" in line for line in differences) == 2  # of two pages that load it
        assert any("its content is sha256-" in line for line in differences)
        assert "/payform/: header referrer-policy is 'same-origin', not 'no-referrer'" in differences
        assert differences[-1] == "something differs"


def test_what_cannot_be_looked_at(tmp_path: Path) -> None:
    assert "can't be looked at" in ask("--check", f"http://127.0.0.1:{free_port()}", status=2)
    assert "is no address" in ask("--check", "pay.example.kz", status=2)
    broken = tmp_path / "broken.json"
    broken.write_text("{}")
    assert "is no inventory" in ask("--against", str(broken), status=2)
    assert "go with --check" in ask("--page", "https://pay.example.kz/pay/x", status=2)
