"""Time, as it is handed to whoever needs it. Nothing below ``compose`` reads a clock by itself, so
all of it runs under a virtual one in tests.
"""

from __future__ import annotations

from collections.abc import Callable

Clock = Callable[[], float]
"""Gives seconds that never go back: ``time.monotonic``. Linux shares that clock between processes.
"""

WallClock = Callable[[], float]
"""Gives the Unix time in seconds: ``time.time``. Needed where a deadline leaves the machine."""
