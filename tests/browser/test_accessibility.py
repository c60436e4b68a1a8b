"""Every state of the payment page for every eye: axe-core finds nothing, nothing is cut off or too small to hit.

The states are those of `make screenshots`, so a new one is judged as soon as it has a picture. A page is loaded once
and then resized, from a cheap phone to a wide screen, light and dark.
"""

from importlib.resources import files
from typing import Literal

import pytest
from playwright.async_api import Page, ViewportSize
from scripts.screenshots import LOSE, serve_samples

WIDTHS = (320, 360, 768, 1280, 1920)
ZOOMED = ViewportSize(width=640, height=400)
"""What 200 % zoom leaves of a window of 1280 × 800."""
TARGET_PIXELS_MIN = 24
"""WCAG 2.2, 2.5.8; links within a sentence are excepted."""
AXE = (files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")
# Every rule, WCAG's and axe's own, or these alone; only what is wrong is written down.
JUDGE = """(rules) => axe.run(document, {
    resultTypes: ["violations"], preload: false, ...(rules.length && {runOnly: rules}),
}).then(({violations}) => violations.map(
    ({id, nodes}) => `${id}: ${nodes.map((node) => node.html.slice(0, 120)).join(" ")}`))"""
RULES: dict[Literal["light", "dark"], tuple[str, ...]] = {
    "light": (),
    "dark": ("color-contrast", "link-in-text-block"),
}
"""By scheme: a rule that looks at no colour finds in the dark what it finds in the light."""
# Wider than the window, a target too small, a word cut off, or two targets over each other.
MEASURE = """(least) => {
    const wrong = [];
    if (document.documentElement.scrollWidth > innerWidth) wrong.push("scrolls sideways");
    const isShown = (element) => element.checkVisibility({visibilityProperty: true, opacityProperty: true});
    const targets = [...document.querySelectorAll("a, button, input, summary")].filter(
        (target) => isShown(target) && !target.ariaHidden && getComputedStyle(target).display !== "inline");
    const boxes = targets.map((target) => [target, target.getBoundingClientRect()]);
    for (const [target, box] of boxes) {
        const name = target.outerHTML.slice(0, 120);
        const reach = target.closest("label")?.getBoundingClientRect() || box;
        if (Math.min(reach.width, reach.height) < least) wrong.push(`small: ${name}`);
        if (box.left < 0 || box.right > innerWidth) wrong.push(`outside: ${name}`);
        if (target.matches("button") && target.scrollWidth > target.clientWidth + 1) wrong.push(`cut: ${name}`);
        for (const [other, its] of boxes) {
            if (other === target || other.contains(target) || target.contains(other)) continue;
            const across = Math.min(box.right, its.right) - Math.max(box.left, its.left);
            const down = Math.min(box.bottom, its.bottom) - Math.max(box.top, its.top);
            if (across > 1 && down > 1) wrong.push(`over another: ${name}`);
        }
    }
    return wrong;
}"""


@pytest.mark.parametrize("language", ("kk", "ru", "en"))
async def test_every_state(page: Page, language: str) -> None:
    await page.emulate_media(reduced_motion="reduce")
    wrong: list[str] = []
    with serve_samples(languages=(language,)) as (address, names):
        assert len(names) >= 28
        for name in names:
            await open_sample(page, address, name)
            for frame in page.frames:
                await frame.evaluate(AXE)
            for width in WIDTHS:
                await page.set_viewport_size({"width": width, "height": 800})
                wrong += [f"{name} at {width}: {fault}" for fault in await measure(page)]
                for scheme, rules in RULES.items():
                    await page.emulate_media(color_scheme=scheme)
                    wrong += [f"{name} at {width}, {scheme}: {fault}" for fault in await page.evaluate(JUDGE, rules)]
            await page.set_viewport_size(ZOOMED)
            wrong += [f"{name}, zoomed: {fault}" for fault in await measure(page)]
    assert not wrong, "\n".join(wrong)


async def open_sample(page: Page, address: str, name: str) -> None:
    """The state as its payer sees it, with what stands in its frames."""
    await page.goto(f"{address}/{name}", wait_until="load")
    if name.startswith("form-lost"):
        await page.evaluate(LOSE)


async def measure(page: Page) -> list[str]:
    """What MEASURE finds in the page and its frames."""
    return [fault for frame in page.frames for fault in await frame.evaluate(MEASURE, TARGET_PIXELS_MIN)]
