"""``python -m modelyard``: the command line, if ``modelyard`` is not on the path."""

from __future__ import annotations

from modelyard.cli import main

if __name__ == "__main__":
    main()
