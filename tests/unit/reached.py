"""``python -m tests.unit.reached``: how much of each package was reached, as ``coverage`` noted it.

Fails if less than ``LEAST_PERCENT`` of the lines or of the branches of a package was.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from coverage import Coverage

ROOT = Path(__file__).parents[2] / "src" / "modelyard"
PACKAGES = ("pool", "dispatch", "transports/amqp", "gateway")
LEAST_PERCENT = 90.0


class Count(NamedTuple):
    """How many lines or branches there are, and how many of them were reached."""

    all: int = 0
    reached: int = 0

    @property
    def percent(self) -> float:
        return 100 * self.reached / self.all if self.all else 100.0

    def plus(self, count: int, missed: int) -> Count:
        return Count(self.all + count, self.reached + count - missed)


class Reached(NamedTuple):
    """Of one package."""

    package: str
    lines: Count
    branches: Count

    @property
    def is_enough(self) -> bool:
        return min(self.lines.percent, self.branches.percent) >= LEAST_PERCENT


def measure(coverage: Coverage) -> Iterator[Reached]:
    """Give what was reached of each package."""
    for package in PACKAGES:
        lines = branches = Count()
        for path in sorted((ROOT / package).glob("*.py")):
            _, statements, _, missing, _ = coverage.analysis2(str(path))
            lines = lines.plus(len(statements), len(missing))
            for exits, taken in coverage.branch_stats(str(path)).values():
                branches = branches.plus(exits, exits - taken)
        yield Reached(package, lines, branches)


def main() -> int:
    coverage = Coverage()
    coverage.load()
    found = list(measure(coverage))
    print(f"\n{'package':<18}{'lines':>8}{'branches':>10}")
    for package, lines, branches in found:
        print(f"{package:<18}{lines.percent:>6.1f} %{branches.percent:>8.1f} %")
    if lacking := [one.package for one in found if not one.is_enough]:
        print(f"less than {LEAST_PERCENT:g} % of: {', '.join(lacking)}", file=sys.stderr)
    return bool(lacking)


if __name__ == "__main__":
    sys.exit(main())
