"""Finds the Chromium that the browser tests drive, and brings one where there is none.

Run as a program (`make test` does so) it installs what is missing and prints where the browser is; the
browser tests import `find_browser`. Invariant: an installed browser is never replaced, and nothing is
downloaded when one is found.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

BROWSER_VARIABLE = "TOLEM_CHROMIUM"  # a path to the browser, before anything that would be found
NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome", "chrome")
PLACES = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
)
# Inter and Liberation (which stands in for Arial) have all Russian and Kazakh letters and the tenge sign.
DEBIAN_PACKAGES = ("chromium", "fonts-inter", "fonts-liberation")
INSTALL_SECONDS_MAX = 600


def find_browser() -> Path | None:
    """The browser to drive, or None. TOLEM_CHROMIUM naming no program is an error, not a miss."""
    if named := os.environ.get(BROWSER_VARIABLE):
        if found := shutil.which(named):
            return Path(found)
        raise SystemExit(f"{BROWSER_VARIABLE}={named} is not a program")
    for candidate in (*NAMES, *PLACES, *_list_playwright_browsers()):
        if found := shutil.which(candidate):
            return Path(found)
    return None


def main() -> int:
    browser = find_browser()
    for install in (_install_debian_package, _install_playwright_browser):
        if browser is not None:
            break
        install()
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
    print("browser: installing Playwright's own Chromium (once, ~150 MB)", flush=True)
    _run(sys.executable, "-m", "playwright", "install", "chromium")


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


def _list_playwright_browsers() -> list[str]:
    """Where `playwright install chromium` puts it, newest first."""
    if sys.platform == "darwin":
        cache, pattern = (
            Path.home() / "Library/Caches/ms-playwright",
            "chromium-*/chrome-mac*/*.app/Contents/MacOS/*",
        )
    else:
        cache, pattern = Path.home() / ".cache/ms-playwright", "chromium-*/chrome-linux*/chrome"
    cache = Path(os.environ.get("PLAYWRIGHT_BROWSERS_PATH") or cache)
    return sorted((str(path) for path in cache.glob(pattern)), reverse=True)


if __name__ == "__main__":
    sys.exit(main())
