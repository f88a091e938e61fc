"""What a request cost when it was last written down: ``bench/baseline.json``.

All costs are shares of what the bare echo costs in the same run, so that they mean something on
another machine. ``python -m bench.costs`` compares with it, and writes it.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

FILE = Path(__file__).with_name("baseline.json")


class Baseline(msgspec.Struct, frozen=True):
    """Costs of a request.

    Attributes:
        about: When and where they were measured.
        instructions: Of the interpreter in the gateway, by case; of the echo's with equal heads.
        gateway: Processor time of the gateway alone, in one process, by case; of the same.
        processor: Processor time of all processes, by shape and case; of the echo's in that case.
    """

    about: dict[str, str]
    instructions: dict[str, float]
    gateway: dict[str, float]
    processor: dict[str, float]

    @classmethod
    def load(cls, file: Path = FILE) -> Baseline:
        """Read it."""
        return msgspec.json.decode(file.read_bytes(), type=cls)

    def save(self, file: Path = FILE) -> None:
        """Write it, one figure a line."""
        file.write_bytes(msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n")
