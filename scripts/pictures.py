"""The pictures of the documentation, made of those that `make screenshots` took: `make pictures`, into docs/images.

So they show what payers see now. The demo shop, the inspector and the widget over a shop are not among the samples:
their pictures are taken by hand.
"""

import sys
from base64 import b64encode
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright
from scripts.browser import find_browser
from scripts.screenshots import OUTPUT

IMAGES = Path(__file__).resolve().parent.parent / "docs" / "images"
COPIES = {"page": "form-branded-en-light-desktop", "page-phone": "form-ru-light-phone"}
ROWS = {
    "payment-page-states": (
        "form-en-light-phone",
        "form-errors-en-light-phone",
        "challenge-en-light-phone",
        "approved-en-light-phone",
    ),
    "payment-page-languages": (
        "form-branded-kk-light-phone",
        "declined-ru-dark-phone",
        "approved-branded-kk-dark-phone",
    ),
    "saved-cards": (
        "form-saved-ru-light-phone",
        "form-saved-kk-dark-phone",
        "form-saved-en-light-phone",
    ),
}
"""Pictures that stand side by side."""
COLUMN = 280
GAP = 8


def draw_row(browser: Browser, names: tuple[str, ...]) -> bytes:
    """A PNG of the pictures, each COLUMN pixels wide, on nothing."""
    pngs = [b64encode((OUTPUT / f"{name}.png").read_bytes()).decode() for name in names]
    pictures = "".join(f'<img width="{COLUMN}" src="data:image/png;base64,{png}">' for png in pngs)
    width = (COLUMN + GAP) * len(names) - GAP
    page = browser.new_page(viewport={"width": width, "height": 10})
    page.set_content(f'<body style="margin:0;display:flex;align-items:start;gap:{GAP}px">{pictures}', wait_until="load")
    picture = page.screenshot(full_page=True, omit_background=True)
    page.close()
    return picture


def main() -> int:
    missing = [
        name for row in (*ROWS.values(), COPIES.values()) for name in row if not (OUTPUT / f"{name}.png").exists()
    ]
    if missing:
        raise SystemExit(f"no {missing[0]}.png in {OUTPUT}: run `make screenshots` first")
    executable = find_browser()
    if executable is None:
        raise SystemExit("no browser: run `python scripts/browser.py` first")
    for image, name in COPIES.items():
        (IMAGES / f"{image}.png").write_bytes((OUTPUT / f"{name}.png").read_bytes())
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=executable, args=["--no-sandbox", "--disable-background-networking"]
        )
        for image, names in ROWS.items():
            (IMAGES / f"{image}.png").write_bytes(draw_row(browser, names))
        browser.close()
    print(f"{len(COPIES) + len(ROWS)} pictures in {IMAGES}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
