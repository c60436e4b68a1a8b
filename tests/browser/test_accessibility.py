"""Every state of the payment page for every eye: axe-core finds nothing, nothing is cut off or too small to hit.

The states are those of `make screenshots`, so a new one is judged as soon as it has a picture. A page is loaded once
and then resized, from a cheap phone to a wide screen, light and dark.
"""

import os
from importlib.resources import files

import pytest
from playwright.async_api import Page, ViewportSize
from scripts.screenshots import FRAMED, LOSE, serve_samples

LANGUAGES = ("kk", "ru", "en")
STATES_MIN = 36
WIDTHS = (320, 360, 640, 768, 1280, 1920)
AXE_WIDTHS = (320, 640, 1280)
DARK_WIDTHS = (320, 1280)
ZOOMED = ViewportSize(width=640, height=400)
"""What 200 % zoom leaves of a window of 1280 × 800."""
TARGET_PIXELS_MIN = 24
"""WCAG 2.2, 2.5.8; links within a sentence are excepted."""
EVERY_COMBINATION = bool(os.environ.get("TOLEM_EVERY_COMBINATION"))
AXE = (files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")
# Every rule, WCAG's and axe's own, or these alone; only what is wrong is written down.
RUN = """(rules) => axe.run(document, {
    resultTypes: ["violations"], preload: false, ...(rules.length && {runOnly: rules}),
}).then(({violations}) => violations.map(
    ({id, nodes}) => `${id}: ${nodes.map((node) => node.html.slice(0, 120)).join(" ")}`))"""
COLOUR_RULES = ("color-contrast", "link-in-text-block")
"""A rule that looks at no colour finds in the dark what it finds in the light."""
LAYOUT_RULES = (*COLOUR_RULES, "target-size", "scrollable-region-focusable")
"""And one that looks at neither colour nor place finds at every width the same."""
# Wider than the window, a target too small, a word cut off, two targets over each other, or what moves for somebody who
# asked for no motion.
MEASURE = """(least) => {
    const wrong = [];
    if (document.documentElement.scrollWidth > innerWidth) wrong.push("scrolls sideways");
    for (const motion of document.getAnimations()) {
        if (motion.effect.getComputedTiming().duration < 5000) wrong.push("moves");
    }
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


@pytest.mark.timeout(300)  # a second of computing for each state, on a machine that others use
@pytest.mark.parametrize("turn", range(len(LANGUAGES)), ids=LANGUAGES)
async def test_every_state(page: Page, turn: int) -> None:
    """In this language at the narrowest width, where whatever does not fit shows. The other widths, the dark and
    axe-core's rules take turns: each state has them in one of the languages. `make accessibility` tries each with
    each."""
    await page.emulate_media(reduced_motion="reduce")
    wrong: list[str] = []
    with serve_samples(languages=(LANGUAGES[turn],)) as (address, names):
        assert len(names) >= STATES_MIN
        for number, name in enumerate(names):
            is_thorough = EVERY_COMBINATION or number % len(LANGUAGES) == turn
            await open_sample(page, address, name)
            for frame in page.frames if is_thorough else ():
                await frame.evaluate(AXE)
            for width in WIDTHS if is_thorough else WIDTHS[:1]:
                wrong += [f"{name} at {width}: {fault}" for fault in await judge(page, width, is_thorough=is_thorough)]
    assert not wrong, "\n".join(wrong)


async def judge(page: Page, width: int, *, is_thorough: bool) -> list[str]:
    """What is wrong with the page at this width, in the light, and if need be in the dark."""
    await page.set_viewport_size(ZOOMED if width == ZOOMED["width"] else {"width": width, "height": 800})
    await page.emulate_media(color_scheme="light")
    wrong = [fault for frame in page.frames for fault in await frame.evaluate(MEASURE, TARGET_PIXELS_MIN)]
    is_whole = EVERY_COMBINATION or width == WIDTHS[0]
    if EVERY_COMBINATION or (is_thorough and width in AXE_WIDTHS):
        wrong += await page.evaluate(RUN, [] if is_whole else LAYOUT_RULES)
    if EVERY_COMBINATION or (is_thorough and width in DARK_WIDTHS):
        await page.emulate_media(color_scheme="dark")
        wrong += [f"dark: {fault}" for fault in await page.evaluate(RUN, COLOUR_RULES)]
    return wrong


async def open_sample(page: Page, address: str, name: str) -> None:
    """The state as its payer sees it, with what stands in its frames."""
    await page.goto(f"{address}/{name}", wait_until="load")
    if name.startswith("form-lost"):
        await page.evaluate(LOSE)
    if name.startswith(FRAMED):
        await page.frame_locator("iframe").locator("main").wait_for(state="attached")
