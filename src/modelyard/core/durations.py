"""Times as people write them: ``90s``, ``30m``, ``24h``, ``7d``."""

from __future__ import annotations

import re

PATTERN = r"^(\d{1,9})([smhd])$"
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def duration_s(text: str) -> float | None:
    """Return the seconds that such a text means; None if it is none."""
    found = re.match(PATTERN, text)
    return None if found is None else float(found[1]) * _UNITS_S[found[2]]
