"""What one step of a loop works on side by side (`worker`): nobody's failure keeps another waiting."""

from collections.abc import Iterable
from uuid import UUID

from tolem.domain.errors import Overloaded, Uncertain
from tolem.telemetry import log


def tell_failures(event: str, subject: str, results: Iterable[tuple[UUID, object]]) -> None:
    """Logs each exception among the results, by the id it belongs to (`subject` is its name in the log). Raises
    the last Overloaded or Uncertain, after that: a database that is away is the whole loop's trouble, and told by it.
    """
    away: Overloaded | Uncertain | None = None
    for id_, result in results:
        if isinstance(result, Overloaded | Uncertain):
            away = result
        elif isinstance(result, Exception):
            log.error(event, exc_info=result, **{subject: str(id_)})
    if away is not None:
        raise away
