"""Clocks, passed in by constructors. Nothing below ``compose`` reads the system clock by itself, so
all of it runs under a virtual clock in tests.
"""

from __future__ import annotations

from collections.abc import Callable

Clock = Callable[[], float]
"""Returns seconds that never go backwards: ``time.monotonic``. On Linux all processes share it."""

WallClock = Callable[[], float]
"""Returns the Unix time in seconds: ``time.time``. Needed for deadlines that leave the machine."""
