"""Clocks, passed to constructors. ``core``, ``dispatch``, ``pool``, ``transports`` and ``caches``
never read the system clock themselves, so tests run them under a virtual clock.
"""

from __future__ import annotations

from collections.abc import Callable

Clock = Callable[[], float]
"""Returns seconds that never go backwards: ``time.monotonic``. On Linux all processes share it."""

WallClock = Callable[[], float]
"""Returns the Unix time in seconds: ``time.time``. Needed for deadlines that leave the machine."""
