"""How many tries may run at one time, in all and to one host: a slow address keeps only its own messages waiting.

The durable loop claims for a host when at least half of its slots are free, and then no more than there are: so a claim
takes several messages at once, and what it takes can begin.
"""


class Slots:
    """Counts running tries. Holds an entry only for hosts that have one, so its size is bounded by `total`."""

    def __init__(self, total: int, per_host: int) -> None:
        self.free = total
        """Tries that may still begin."""
        self._worth_a_claim = max(1, total // 8)
        self._per_host = per_host
        self._taken: dict[str, int] = {}

    def take(self, host: str) -> bool:
        """Takes a slot of the host; False if it has none left."""
        taken = self._taken.get(host, 0)
        if self.free == 0 or taken >= self._per_host:
            return False
        self.free -= 1
        self._taken[host] = taken + 1
        return True

    def give_back(self, host: str) -> None:
        """A try has ended."""
        self.free += 1
        taken = self._taken[host] - 1
        if taken:
            self._taken[host] = taken
        else:
            del self._taken[host]

    def busy_hosts(self) -> tuple[str, ...]:
        """Hosts that nothing is claimed for."""
        return tuple(host for host in self._taken if self._is_busy(host))

    def free_per_host(self) -> int:
        """What may be claimed for any one of the other hosts."""
        return self._per_host - max((taken for taken in self._taken.values() if taken * 2 <= self._per_host), default=0)

    def may_claim(self, host: str) -> bool:
        """A claim for the host is worth its cost now."""
        return self.free >= self._worth_a_claim and not self._is_busy(host)

    def _is_busy(self, host: str) -> bool:
        return self._taken.get(host, 0) * 2 > self._per_host
