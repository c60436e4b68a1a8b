"""What the store asks of a database engine. sqlite.py and postgresql.py are the two."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeVar

from tolem.storage.batch import Fetch
from tolem.storage.statements import Query, Row, Rows

T = TypeVar("T")


class Engine(Protocol):
    """One connection for the writer, used by one batch at a time, and one for reading."""

    dialect: str
    """`sqlite` or `postgresql`."""
    is_shared: bool
    """True: others may write while the writer's transaction is open, so what must not change has to be locked."""

    is_lost: bool
    """True after `settle`: the connection broke, which is no fault of the changes."""

    async def open(self) -> None:
        """Connects. Raises DatabaseInUse or the driver's error."""
        ...

    async def begin(self, patience_seconds: float) -> None:
        """Starts a transaction, connecting again if need be. Raises Unavailable after `patience_seconds`."""
        ...

    async def fetch(self, queries: Sequence[Query]) -> list[list[Row]]:
        """Runs statements one after the other, in one round trip; a later one sees what happened while an earlier one
        waited for its locks. The first call may have none."""
        ...

    async def commit(self, writes: Sequence[Rows], witness: Query | None = None, *, wakes: bool = False) -> None:
        """Writes and commits; returns once all is on disk. `witness` finds a row that these writes make. `wakes`: those
        who listen are called once it is committed."""
        ...

    async def release(self) -> None:
        """Ends a transaction that has written nothing."""
        ...

    async def settle(self, error: Exception) -> bool:
        """After `error` in a transaction: ends it. True: it is stored all the same. Raises Uncertain."""
        ...

    def is_transient(self, error: Exception) -> bool:
        """True: the same change may well succeed if it is run again."""
        ...

    async def read(self, work: Callable[[Fetch], Awaitable[T]]) -> T:
        """Runs `work` on the reading connection, all its queries on one state of the database."""
        ...

    def listen(self, on_wake: Callable[[], None]) -> None:
        """Calls `on_wake` after every commit that wakes, of any process that can be heard, and when one may have been
        missed."""
        ...

    async def close(self) -> None:
        """Disconnects."""
        ...
