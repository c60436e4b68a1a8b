"""What JSON allows and nobody means: a field that stands twice in an object. Called where bodies are read. Pure."""

import json
from collections.abc import Sequence
from typing import Any


def find_repeated_field(body: bytes | bytearray) -> str | None:
    """The first field that an object of this valid JSON has twice; None: there is none."""
    repeated: list[str] = []

    def look(pairs: Sequence[tuple[str, Any]]) -> None:
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                repeated.append(name)
            seen.add(name)

    json.loads(body, object_pairs_hook=look)
    return repeated[0] if repeated else None
