"""Where the gateway's processor time goes: its own command line with a sampler inside.

`python -m bench.sampler PROFILE serve …`, started by bench/contenders.py for `--profile`. A timer of the process's own
processor time interrupts it every few milliseconds, and the handler notes the stack of the main thread. That costs
little, and unlike cProfile it does not make small functions look dear. Time in C code counts for the Python function
that called it; time of other threads (COMMIT) for what the loop does meanwhile.
"""

import atexit
import signal
import sys
from collections import Counter
from pathlib import Path
from types import CodeType, FrameType

import msgspec

INTERVAL_SECONDS = 0.001
"""Of processor time; the kernel rounds it up to its own tick."""
FUNCTIONS_MAX = 40
BRANCH_SHARE_MIN = 0.006
"""Smaller branches of the tree are left out."""


class Profile(msgspec.Struct, frozen=True):
    """Stacks with their number of samples; outermost first, a frame as `file:function`."""

    stacks: list[tuple[list[str], int]]


class _Branch:
    """A function below its callers."""

    def __init__(self) -> None:
        self.samples = 0
        self.callees: dict[str, _Branch] = {}


class Sampler:
    """Counts stacks from `start` to `stop`; SIGUSR1 forgets what was counted (start and warm-up)."""

    def __init__(self) -> None:
        self._stacks: Counter[tuple[CodeType, ...]] = Counter()

    def start(self) -> None:
        """Sets the timer."""
        signal.signal(signal.SIGPROF, self._note)
        signal.signal(signal.SIGUSR1, lambda signum, frame: self._stacks.clear())
        signal.setitimer(signal.ITIMER_PROF, INTERVAL_SECONDS, INTERVAL_SECONDS)

    def stop(self) -> Profile:
        """What was counted."""
        signal.setitimer(signal.ITIMER_PROF, 0)
        named: Counter[tuple[str, ...]] = Counter()
        for codes, count in self._stacks.items():
            named[tuple(_name(code) for code in reversed(codes))] += count
        return Profile([(list(stack), count) for stack, count in named.items()])

    def _note(self, signum: int, frame: FrameType | None) -> None:
        codes = []
        while frame is not None:
            codes.append(frame.f_code)
            frame = frame.f_back
        self._stacks[tuple(codes)] += 1


def render_profile(profile: Profile, cpu_us_per_payment: float) -> str:
    """The dearest functions and the tree of calls, in µs of the server's processor time per payment."""
    own: Counter[str] = Counter()
    root = _Branch()
    for stack, count in profile.stacks:
        own[stack[-1]] += count
        branch = root
        for name in stack:
            branch.samples += count
            branch = branch.callees.setdefault(name, _Branch())
        branch.samples += count
    if not root.samples:
        return "no samples"
    scale = cpu_us_per_payment / root.samples
    lines = [f"{root.samples} samples, {cpu_us_per_payment:.0f} µs of processor time per payment", "", "own time, µs"]
    lines += [f"{count * scale:8.0f}  {name}" for name, count in own.most_common(FUNCTIONS_MAX)]
    lines += ["", "with all that is called from there, µs"]
    _render_branch(_skip_trunk(root), 0, scale, root.samples * BRANCH_SHARE_MIN, lines)
    return "\n".join(lines)


def _skip_trunk(branch: _Branch) -> _Branch:
    """Below the frames that every sample has: from the loop on."""
    while len(branch.callees) == 1:
        (branch,) = branch.callees.values()
    return branch


def _render_branch(branch: _Branch, depth: int, scale: float, samples_min: float, lines: list[str]) -> None:
    for name, callee in sorted(branch.callees.items(), key=lambda item: -item[1].samples):
        if callee.samples >= samples_min:
            lines.append(f"{callee.samples * scale:8.0f}  {'  ' * depth}{name}")
            _render_branch(callee, depth + 1, scale, samples_min, lines)


def _name(code: CodeType) -> str:
    path = code.co_filename
    for root in ("/site-packages/", "/src/", "/lib/"):
        path = path.rpartition(root)[2]
    return f"{path}:{code.co_qualname}"


def main() -> None:
    """Runs the gateway's command line; writes the profile at its end."""
    target = Path(sys.argv.pop(1))
    sampler = Sampler()
    atexit.register(lambda: target.write_bytes(msgspec.json.encode(sampler.stop())))
    from tolem.cli import main as tolem

    sampler.start()
    tolem()


if __name__ == "__main__":
    main()
