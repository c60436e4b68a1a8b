"""The rooms of src/tolem and who may import whom (ARCHITECTURE.md), read from the source without running it.

A room is the first name below `tolem`: a package such as `storage`, or a module such as `clock`. An import
counts wherever it stands, inside a function or under TYPE_CHECKING too: what a file knows about is what it
depends on.
"""

import ast
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "tolem"
LINES_MAX = 500
FORBIDDEN_NAMES = frozenset({"utils", "util", "helpers", "helper", "common", "services", "misc"})

# Beside the domain: time, ids, logs and metrics are open to every room of the server but the domain itself.
BESIDE = ("clock", "ids", "telemetry")
BELOW_FLOWS = ("domain", "wire", "storage", "acquirers", "notifications", *BESIDE)

# room → what of tolem it may import besides itself. "storage.queries" opens that module only.
MAY_IMPORT: dict[str, tuple[str, ...]] = {
    "__init__": (),
    "domain": (),
    "clock": ("domain",),
    "ids": ("domain", "clock"),
    "telemetry": ("domain", "clock"),
    "i18n": ("domain",),
    "server": ("telemetry",),
    "wire": ("domain", *BESIDE),
    "storage": ("domain", *BESIDE),
    "acquirers": ("domain", *BESIDE),
    "notifications": ("domain", "wire", "storage", *BESIDE),
    "flows": BELOW_FLOWS,
    "web": ("domain", "wire", "storage.queries", "flows", "i18n", *BESIDE),
    "worker": (*BELOW_FLOWS, "flows", "config"),
    "config": ("domain", *BESIDE),
    "sandbox": ("domain", "acquirers.base", "acquirers.messages", "notifications", "storage", "i18n", *BESIDE),
    "bootstrap": (*BELOW_FLOWS, "flows", "web", "worker", "config", "sandbox", "shop", "i18n"),
    "console": ("domain", "storage", "config", "server", "sandbox.clock", "sandbox.state", *BESIDE),
    "cli_commands": (),
    "cli_controls": ("domain", "storage", "config", "console", "sandbox", *BESIDE),
    "cli_money": (*BELOW_FLOWS, "flows", "config", "console", "bootstrap"),
    "cli_messages": ("domain", "wire", "storage", "flows", "i18n", "console", *BESIDE),
    "cli_keys": ("domain", "storage", "flows", "console", *BESIDE),
    "cli_sandbox": (*BELOW_FLOWS, "flows", "config", "console", "server", "sandbox"),
    "cli_scripts": ("web",),
    "cli_maintenance": ("domain", "storage", "flows", "console", *BESIDE),
    "cli": (
        *(*BELOW_FLOWS, "flows", "web", "worker", "config", "bootstrap", "server", "shop", "i18n"),
        *("console", "cli_commands"),
    ),
    "__main__": ("cli",),
    "merchant": (),
    "shop": ("merchant",),
}

# room → the only packages from outside that it may import. A room without a line may import any.
ONLY_PACKAGES: dict[str, frozenset[str]] = {
    "domain": frozenset({"msgspec"}),
    "merchant": frozenset({"aiohttp"}),  # what a shop installs
    "shop": frozenset({"starlette", "uvicorn", "jinja2"}),
}

# Standard modules that read a clock, draw random numbers or reach outside.
IMPURE = frozenset(
    {"asyncio", "io", "logging", "os", "pathlib", "random", "secrets", "socket", "sqlite3", "subprocess"}
    | {"tempfile", "threading", "time"}
)

# import → why nobody may have it.
NEVER: dict[str, str] = {
    "starlette.middleware.base": "BaseHTTPMiddleware breaks cancellation and is slow; write plain ASGI",
}


class Import(NamedTuple):
    line: int
    name: str  # dotted and absolute; of `from a import b` it is a.b


def find_faults(source: Path) -> list[str]:
    """Every breach of the rules above in the package at `source`, one line each."""
    faults: list[str] = []
    for path in sorted(source.rglob("*.py")):
        where = path.relative_to(source)
        text = path.read_text(encoding="utf-8")
        tree = ast.parse(text, str(path))
        room = where.parts[0].removesuffix(".py")
        faults += [f"{where}: {fault}" for fault in _check_file(where, text, tree)]
        if room not in MAY_IMPORT:
            faults.append(f"{where}: {room} is no room; give it a line in {Path(__file__).name}")
            continue
        for found in _list_imports(where, tree):
            if fault := _check_import(room, found.name):
                faults.append(f"{where}:{found.line}: {fault}")
    return faults


def test_rooms_of_tolem() -> None:
    assert (SOURCE / "__init__.py").exists()
    assert find_faults(SOURCE) == []


@pytest.mark.parametrize(
    ("file", "line", "fault"),
    (
        ("domain/money.py", "from tolem.clock import Clock", "domain may not import tolem.clock.Clock"),
        ("domain/money.py", "from .. import ids", "domain may not import tolem.ids"),
        ("domain/money.py", "import sqlalchemy", "domain may not import sqlalchemy"),
        ("domain/money.py", "import time", "domain may not import time"),
        ("wire/token.py", "import tolem.storage.schema", "wire may not import tolem.storage.schema"),
        ("storage/store.py", "from tolem.flows import tokens", "storage may not import tolem.flows.tokens"),
        (
            "notifications/sender.py",
            "def f():\n    from ..web import app",
            "notifications may not import tolem.web.app",
        ),
        ("flows/tokens.py", "from tolem import i18n", "flows may not import tolem.i18n"),
        ("flows/tokens.py", "from tolem.sandbox.cards import CARDS", "flows may not import tolem.sandbox.cards.CARDS"),
        ("web/page.py", "from tolem.storage import Store", "web may not import tolem.storage.Store"),
        ("web/page.py", "from tolem.storage.writer import Writer", "web may not import tolem.storage.writer.Writer"),
        ("web/page.py", "from tolem.acquirers import base", "web may not import tolem.acquirers.base"),
        ("web/app.py", "from starlette.middleware.base import X", "nobody may import starlette.middleware.base.X"),
        ("sandbox/ledger.py", "from tolem.acquirers import iso", "sandbox may not import tolem.acquirers.iso"),
        ("sandbox/ledger.py", "from tolem.wire import codes", "sandbox may not import tolem.wire.codes"),
        ("cli.py", "from tolem.sandbox import cards", "cli may not import tolem.sandbox.cards"),
        ("merchant/client.py", "from tolem.domain import money", "merchant may not import tolem.domain.money"),
        ("merchant/client.py", "import msgspec", "merchant may not import msgspec"),
        ("shop/app.py", "import aiohttp", "shop may not import aiohttp"),
        ("storage/utils.py", "", "no package or module is named utils"),
        ("helpers/money.py", "", "no package or module is named helpers"),
        ("payments.py", "", "payments is no room"),
        ("wire/token.py", "\n" * LINES_MAX, "lines; look for the noun that wants out"),
    ),
)
def test_breach_is_found(tmp_path: Path, file: str, line: str, fault: str) -> None:
    _write(tmp_path / file, f'"""What it is."""\n{line}\n')
    assert any(fault in found for found in find_faults(tmp_path)), find_faults(tmp_path)


def test_missing_docstring_is_found(tmp_path: Path) -> None:
    _write(tmp_path / "clock.py", "import time\n")
    assert find_faults(tmp_path) == ["clock.py: no docstring"]


@pytest.mark.parametrize(
    ("file", "line"),
    (
        ("__init__.py", '__version__ = "1"'),
        (
            "domain/money.py",
            "import decimal, msgspec\nfrom . import errors\nfrom tolem.domain.errors import X",
        ),
        (
            "storage/writer.py",
            "from tolem.domain import order\nfrom tolem.clock import Clock\nimport psycopg",
        ),
        ("web/page.py", "from tolem.storage import queries\nfrom tolem.storage.queries import find_page"),
        (
            "web/page.py",
            "from tolem.flows import checkout\nfrom tolem import __version__\nfrom tolem.i18n import N",
        ),
        (
            "sandbox/simulator.py",
            "from tolem.acquirers.base import Acquirer\nfrom tolem.storage import Store",
        ),
        ("bootstrap.py", "from tolem.sandbox import simulator\nfrom tolem import web"),
        ("merchant/client.py", "import aiohttp\nfrom .postlink import verify\nimport json"),
        ("shop/app.py", "from tolem.merchant import Client\nfrom starlette.applications import Starlette"),
    ),
)
def test_allowed_import_is_no_breach(tmp_path: Path, file: str, line: str) -> None:
    _write(tmp_path / file, f'"""What it is."""\n{line}\n')
    assert find_faults(tmp_path) == []


def _check_file(where: Path, text: str, tree: ast.Module) -> list[str]:
    faults = [
        f"no package or module is named {name}; name the noun it holds"
        for name in (part.removesuffix(".py") for part in where.parts)
        if name in FORBIDDEN_NAMES
    ]
    if not ast.get_docstring(tree):
        faults.append("no docstring")
    if (lines := text.count("\n")) > LINES_MAX:
        faults.append(f"{lines} lines; look for the noun that wants out")
    return faults


def _check_import(room: str, name: str) -> str | None:
    for never, reason in NEVER.items():
        if _is_within(name, never):
            return f"nobody may import {name}: {reason}"
    top, _, inside = name.partition(".")
    if top == "tolem":
        if inside in ("", "__version__") or any(_is_within(inside, known) for known in (room, *MAY_IMPORT[room])):
            return None
        return f"{room} may not import {name}"
    if top in sys.stdlib_module_names:
        return f"{room} may not import {name}" if room == "domain" and top in IMPURE else None
    if room in ONLY_PACKAGES and top not in ONLY_PACKAGES[room]:
        return f"{room} may not import {top}"
    return None


def _is_within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def _list_imports(where: Path, tree: ast.Module) -> list[Import]:
    package = ("tolem", *where.parts[:-1])
    imports: list[Import] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imports += [Import(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parts = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*parts, *((node.module,) if node.module else ())))
            imports += [Import(node.lineno, f"{module}.{alias.name}") for alias in node.names]
    return imports


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
