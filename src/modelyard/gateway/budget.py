"""What the bodies of all requests under way may take together.

Without it, clients that each stay within the limit of one body could fill the memory together.
"""

from __future__ import annotations

from modelyard.core.errors import Overloaded

SMALL_BYTES = 64 * 1024  # smaller bodies are not counted: connections bound them well enough


class Budget:
    """Bytes that are taken and given back; ``taken``: how many are out now."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self.taken = 0

    def take(self, size: int) -> int:
        """Take room for a body, and give what is to be given back.

        Raises:
            Overloaded: There is none now.
        """
        if size <= SMALL_BYTES:
            return 0
        if self.taken + size > self._max_bytes:
            raise Overloaded(
                f"the bodies of all requests under way have {self.taken} bytes; "
                f"this gateway takes {self._max_bytes}"
            )
        self.taken += size
        return size

    def give_back(self, size: int) -> None:
        """Give room back."""
        self.taken -= size
