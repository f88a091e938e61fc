"""``python -m tests.simulation``: explores seeds, and shortens what fails."""

from __future__ import annotations

import sys

from tests.simulation.explore import main

sys.exit(main(sys.argv[1:]))
