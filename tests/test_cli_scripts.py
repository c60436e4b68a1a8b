"""`tolem scripts` beside a running gateway: the same, changed, out of reach."""

import json
import subprocess
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import msgspec

from tests.gateway import Caller
from tests.test_cli import COMMAND, environment, free_port, run, serving
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


def test_a_gateway_that_serves_its_inventory(tmp_path: Path) -> None:
    (tmp_path / "inventory.json").write_text(run("scripts", "--json", cwd=tmp_path))
    text = run("scripts", cwd=tmp_path)
    assert "card form" in text
    assert "script-src 'self'" in text
    with serving(tmp_path) as (_, port):
        base = f"http://127.0.0.1:{port}"
        page = open_page(base)
        arguments = ("scripts", "--check", base, "--against", "inventory.json", "--page", page)
        assert run(*arguments, cwd=tmp_path) == "as in the inventory\n"
        told = json.loads(run("scripts", "--check", base, "--json", cwd=tmp_path))
        assert told == {"url": base, "is_same": True, "differences": []}
        error = run("scripts", "--check", base, "--page", f"{base}/pay/gone", cwd=tmp_path, status=2)
        assert "is the page open still?" in error


def test_a_gateway_that_serves_something_else(tmp_path: Path) -> None:
    inventory = json.loads(run("scripts", "--json", cwd=tmp_path))
    scripts = [source for source in inventory["sources"] if source["name"] == "page.js"]
    scripts[0]["integrity"] = integrity_of(b"another version")
    inventory["pages"][0]["headers"]["referrer-policy"] = "no-referrer"
    (tmp_path / "approved.json").write_bytes(msgspec.json.encode(inventory))
    with serving(tmp_path) as (_, port):
        base = f"http://127.0.0.1:{port}"
        done = list_differences(base, tmp_path)
        assert sum("has the integrity" in line for line in done) == 2  # of two pages that load it
        assert any("its content is sha256-" in line for line in done)
        assert "/payform/: header referrer-policy is 'same-origin', not 'no-referrer'" in done


def list_differences(base: str, cwd: Path) -> list[str]:
    """What is told of the differences from approved.json."""
    done = subprocess.run(
        [*COMMAND, "scripts", "--check", base, "--against", "approved.json"],
        cwd=cwd,
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    return done.stdout.splitlines()


def test_what_cannot_be_looked_at(tmp_path: Path) -> None:
    assert "can't be looked at" in run("scripts", "--check", f"http://127.0.0.1:{free_port()}", cwd=tmp_path, status=2)
    assert "is no address" in run("scripts", "--check", "pay.example.kz", cwd=tmp_path, status=2)
    (tmp_path / "broken.json").write_text("{}")
    assert "is no inventory" in run("scripts", "--against", "broken.json", cwd=tmp_path, status=2)
    assert "go with --check" in run("scripts", "--page", "https://pay.example.kz/pay/x", cwd=tmp_path, status=2)
