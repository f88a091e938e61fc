"""``python -m tests.fuzz.atheris_run TARGET …``: one target under atheris, in a process of its own.

What follows the target's name is for libFuzzer.
"""

from __future__ import annotations

import sys

import atheris

from tests.fuzz.collection import load

INSTRUMENTED = ["modelyard", "pamqp", "python_multipart", "tomllib"]


def main() -> None:
    """Fuzz until a limit is reached, or something is found."""
    name, *options = sys.argv[1:]
    with atheris.instrument_imports(include=INSTRUMENTED):
        run = load(name)
    atheris.Setup([sys.argv[0], *options], run)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
