"""Finds the Chromium that the browser tests drive, and brings one where there is none.

Run as a program (`make test` does so) it installs what is missing and prints where the browser is; the
browser tests import `find_browser`. The headless shell comes first: the same Chromium without a window's
machinery, it takes half of the computing time. Invariant: an installed browser is never replaced, and
nothing is downloaded when a headless shell is found, or when another browser is and none can be had.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

BROWSER_VARIABLE = "TOLEM_CHROMIUM"  # a path to the browser, before anything that would be found
SHELL_NAMES = ("chromium-headless-shell", "chrome-headless-shell")
NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome", "chrome")
PLACES = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
)
# Inter and Liberation (which stands in for Arial) have all Russian and Kazakh letters and the tenge sign.
DEBIAN_PACKAGES = ("chromium-headless-shell", "fonts-inter", "fonts-liberation")
OF_PLAYWRIGHT = (
    "chromium-*/chrome-mac*/*.app/Contents/MacOS/*" if sys.platform == "darwin" else "chromium-*/chrome-linux*/chrome"
)
SHELL_OF_PLAYWRIGHT = "chromium_headless_shell-*/*/*headless*shell"
INSTALL_SECONDS_MAX = 600


def find_browser() -> Path | None:
    """The browser to drive, or None. TOLEM_CHROMIUM naming no program is an error, not a miss."""
    if named := os.environ.get(BROWSER_VARIABLE):
        if found := shutil.which(named):
            return Path(found)
        raise SystemExit(f"{BROWSER_VARIABLE}={named} is not a program")
    for candidate in (*_list_shells(), *NAMES, *PLACES, *_list_playwright_browsers(OF_PLAYWRIGHT)):
        if found := shutil.which(candidate):
            return Path(found)
    return None


def main() -> int:
    if BROWSER_VARIABLE not in os.environ and not any(map(shutil.which, _list_shells())):
        _install_debian_package()
    if find_browser() is None:
        _install_playwright_browser()
    browser = find_browser()
    if browser is None:
        print(
            "browser: no Chromium or Chrome found, and none could be installed.\n"
            f"Install one, or set {BROWSER_VARIABLE} to its path, and try again.",
            file=sys.stderr,
        )
        return 1
    print(f"browser: {browser}", flush=True)
    return 0


def _install_debian_package() -> None:
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        return
    print(f"browser: installing {', '.join(DEBIAN_PACKAGES)} with apt-get (once, ~100 MB)", flush=True)
    if _run("apt-get", "-q", "update"):
        _run("apt-get", "-q", "install", "-y", "--no-install-recommends", *DEBIAN_PACKAGES)


def _install_playwright_browser() -> None:
    print("browser: installing Playwright's own headless Chromium (once, ~100 MB)", flush=True)
    _run(sys.executable, "-m", "playwright", "install", "chromium-headless-shell")


def _run(*command: str) -> bool:
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, timeout=INSTALL_SECONDS_MAX, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as problem:
        print(f"browser: {' '.join(command)}: {problem}", file=sys.stderr)
        return False
    if done.returncode != 0:
        print(f"browser: {' '.join(command)} ended with {done.returncode}", file=sys.stderr)
    return done.returncode == 0


def _list_shells() -> list[str]:
    return [*SHELL_NAMES, *_list_playwright_browsers(SHELL_OF_PLAYWRIGHT)]


def _list_playwright_browsers(pattern: str) -> list[str]:
    """Where `playwright install` puts them, newest first."""
    own = "Library/Caches" if sys.platform == "darwin" else ".cache"
    cache = Path(os.environ.get("PLAYWRIGHT_BROWSERS_PATH") or Path.home() / own / "ms-playwright")
    return sorted((str(path) for path in cache.glob(pattern)), reverse=True)


if __name__ == "__main__":
    sys.exit(main())
