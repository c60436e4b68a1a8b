"""Lighthouse's judgement of the card form on a phone: `make lighthouse`.

Installs the Lighthouse that requirements/lighthouse locks (with npm, once, into test-output), opens an order of a demo
that it starts, and looks at its page several times: a busy machine slows single looks down, so the median counts.
Every report stays in test-output/lighthouse. Ends with 1 unless all categories reach 100.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from statistics import median_low
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

from scripts.browser import find_browser
from tests.browser.demo import Demo, running_demo

from tolem.shop.goods import GOODS

ROOT = Path(__file__).resolve().parent.parent
LOCKED = ROOT / "requirements" / "lighthouse"
OUTPUT = ROOT / "test-output" / "lighthouse"
PROGRAM = OUTPUT / "node_modules" / "lighthouse" / "cli" / "index.js"
CATEGORIES = ("performance", "accessibility", "best-practices")
BROWSER_FLAGS = "--headless=new --no-sandbox --disable-background-networking"
INSTALL_SECONDS_MAX = 600
LOOK_SECONDS_MAX = 180


def install() -> None:
    """Brings what the lock names, if it is not there yet."""
    lock = OUTPUT / "package-lock.json"
    if PROGRAM.exists() and lock.read_bytes() == (LOCKED / lock.name).read_bytes():
        return
    if shutil.which("npm") is None:
        raise SystemExit("lighthouse: npm was not found (on Debian: the package npm)")
    print(f"lighthouse: installing into {OUTPUT} (once)", flush=True)
    OUTPUT.mkdir(parents=True, exist_ok=True)
    for path in LOCKED.iterdir():
        shutil.copy(path, OUTPUT)
    command = ("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
    subprocess.run(command, cwd=OUTPUT, check=True, timeout=INSTALL_SECONDS_MAX)


def open_page(demo: Demo) -> str:
    """Buys in the demo shop; gives the address of the payment page."""
    good = {"good": GOODS[0].key}
    with urlopen(f"{demo.shop_url}/orders", urlencode(good).encode()) as order:  # noqa: S310 - an address of this machine
        (wish,) = re.findall(r'id="pay-object">(.*?)</script>', order.read().decode(), re.DOTALL)
    with urlopen(f"{demo.url}/payform/", urlencode({"params": wish}).encode()) as page:  # noqa: S310 - the same
        return str(page.url)


def look(address: str, browser: Path, number: int) -> dict[str, Any]:
    """One report, as Lighthouse writes it."""
    path = OUTPUT / f"report-{number}.json"
    command = ["node", str(PROGRAM), address, "--quiet", "--no-enable-error-reporting", "--output=json"]
    command += [f"--output-path={path}", f"--only-categories={','.join(CATEGORIES)}"]
    command += [f"--chrome-flags={BROWSER_FLAGS}"]
    environment = os.environ | {"CHROME_PATH": str(browser)}
    subprocess.run(command, env=environment, check=True, timeout=LOOK_SECONDS_MAX)
    report: dict[str, Any] = json.loads(path.read_bytes())
    if problem := report.get("runtimeError"):
        raise SystemExit(f"lighthouse: {problem['message']}")
    return report


def list_shortcomings(report: dict[str, Any]) -> list[str]:
    """What takes points away, as `category: audit, value`."""
    return [
        f"{name}: {audit['title']} ({audit.get('displayValue') or audit['score']})"
        for name in CATEGORIES
        for part in report["categories"][name]["auditRefs"]
        if part["weight"] and (audit := report["audits"][part["id"]])["score"] not in (None, 1)
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--looks", type=int, default=3, help="how often it looks")
    looks = parser.parse_args().looks
    browser = find_browser()
    if browser is None:
        raise SystemExit("no browser: run `python scripts/browser.py` first")
    install()
    with TemporaryDirectory() as folder, running_demo(Path(folder)) as demo:
        reports = [look(open_page(demo), browser, number) for number in range(1, looks + 1)]
    scores = {name: [round(100 * report["categories"][name]["score"]) for report in reports] for name in CATEGORIES}
    for name, each in scores.items():
        print(f"{name:<15} {median_low(each):>3}  of {', '.join(map(str, each))}")
    shortcomings = sorted({text for report in reports for text in list_shortcomings(report)})
    print("\n".join(shortcomings))
    return 0 if all(median_low(each) == 100 for each in scores.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
