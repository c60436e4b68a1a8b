"""What makes hundreds of starts fit into a minute. Nothing that is tested here is replaced.

Called before a gateway is opened; victims are forked from a process that has imported this.
"""

from collections.abc import Callable

from tests.shared_pages import share_pages
from tolem import worker

STEP_SECONDS = 0.02
"""The worker's loops: nobody waits a second for what is due now."""


def quicken(set_attribute: Callable[[object, str, object], None]) -> None:
    """`set_attribute`: setattr, or a test's monkeypatch."""
    set_attribute(worker, "STEP_SECONDS", STEP_SECONDS)
    share_pages(set_attribute)
