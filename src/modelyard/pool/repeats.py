"""What a load says that fails, so that the log has it once and not at each retry."""

from __future__ import annotations

import re

from modelyard.pool.output import Line

MOST_LINES = 1000  # that are remembered of one load

_ADDRESS = re.compile(r"\b0x[0-9a-fA-F]+")  # of an object, as in its repr; another in each process


class Repeats:
    """Compares what a slot's runners say while they load."""

    def __init__(self) -> None:
        self._last: set[str] = set()  # said by the last load, which failed
        self._now: set[str] = set()
        self._how = ""

    def is_news(self, line: Line) -> bool:
        """Return whether the last load that failed did not say this."""
        text = _ADDRESS.sub("0x", f"{line.text}\n{line.trace}")
        if len(self._now) < MOST_LINES:
            self._now.add(text)
        return text not in self._last

    def failed(self, how: str) -> bool:
        """Note that the load has failed; return whether that is as the last one did."""
        how = _ADDRESS.sub("0x", how)
        is_same, self._how = how == self._how, how
        self._last, self._now = self._now, set()
        return is_same

    def forget(self) -> None:
        """Note that a load has succeeded."""
        self._last, self._now, self._how = set(), set(), ""
