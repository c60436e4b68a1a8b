"""The locked requirements: complete, hashed, and free of addresses, so that any index can serve them."""

import json
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LOCKS = ("build.txt", "dev.txt", "runtime.txt")
PIN = re.compile(r"^([a-z0-9-]+)==(\S+) \\$", re.MULTILINE)


def read_pins(lock: str) -> dict[str, str]:
    return dict(PIN.findall((ROOT / "requirements" / lock).read_text(encoding="utf-8")))


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_names_no_address_and_hashes_everything(lock: str) -> None:
    text = (ROOT / "requirements" / lock).read_text(encoding="utf-8")
    assert "://" not in text
    assert not re.search(r"^-", text, re.MULTILINE), "an option stands in the file"
    blocks = re.split(r"^(?=\w)", text, flags=re.MULTILINE)[1:]
    assert len(blocks) == len(read_pins(lock)) > 0
    assert all("--hash=sha256:" in block for block in blocks)


def test_locks_agree() -> None:
    assert read_pins("runtime.txt").items() <= read_pins("dev.txt").items()
    assert read_pins("build.txt").items() <= read_pins("dev.txt").items()


def test_every_dependency_is_locked() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = {re.split(r"[\[>=<]", requirement)[0] for requirement in project["dependencies"]}
    assert names <= read_pins("runtime.txt").keys()


def test_lighthouse_is_locked_without_addresses() -> None:
    folder = ROOT / "requirements" / "lighthouse"
    wanted = json.loads((folder / "package.json").read_text(encoding="utf-8"))["devDependencies"]
    text = (folder / "package-lock.json").read_text(encoding="utf-8")
    packages = json.loads(text)["packages"]
    assert "://" not in text
    assert (
        wanted == packages.pop("")["devDependencies"] == {"lighthouse": packages["node_modules/lighthouse"]["version"]}
    )
    assert all(package["integrity"].startswith("sha512-") for package in packages.values())
