"""Upper bound, in bytes, on the bodies of all requests in progress.

Without it, clients that each stay within the limit for one body could exhaust the memory together.
"""

from __future__ import annotations

from modelyard.core.errors import Overloaded

SMALL_BYTES = 64 * 1024  # smaller bodies are not counted: the number of connections bounds them


class Budget:
    """Bytes that are taken and given back; ``taken``: bytes in use now."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self.taken = 0

    def take(self, size: int) -> int:
        """Take room for a body, and return the number of bytes to give back.

        Raises:
            Overloaded: There is no room now.
        """
        if size <= SMALL_BYTES:
            return 0
        if self.taken + size > self._max_bytes:
            raise Overloaded(
                f"the bodies of all requests in progress take {self.taken} bytes, "
                f"and this gateway's limit is {self._max_bytes}"
            )
        self.taken += size
        return size

    def give_back(self, size: int) -> None:
        """Give room back."""
        self.taken -= size


class Reserved:
    """What one connection has taken of a budget.

    Args:
        budget: None if bodies are not counted.
    """

    __slots__ = ("_budget", "taken")

    def __init__(self, budget: Budget | None) -> None:
        self._budget = budget
        self.taken = 0

    def take(self, size: int) -> None:
        """Take ``size`` bytes more.

        Raises:
            Overloaded: There is no room now.
        """
        if self._budget is not None:
            self.taken += self._budget.take(size)

    def give_back(self) -> None:
        """Give all of it back."""
        if self.taken and self._budget is not None:
            self._budget.give_back(self.taken)
            self.taken = 0
