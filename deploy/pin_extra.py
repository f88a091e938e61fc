"""``python deploy/pin_extra.py FILE NAME EXTRA``: pin a package with its extra as well.

A lock names each package once, without extras. pip, told to require hashes, also wants a pin of
what others ask for with an extra, as ``pydantic[email]``.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path


def pin_extra(text: str, name: str, extra: str) -> str:
    """Return a lock in which ``name`` is pinned a second time, with ``extra``."""
    pinned = f"{name}[{extra}]=="
    block = re.search(rf"^{re.escape(name)}==.*\n(?: +(?:--hash|#).*\n)+", text, re.MULTILINE)
    if block is None or pinned in text:
        return text
    again = block[0].replace(f"{name}==", pinned, 1)
    return text.replace(block[0], block[0] + again, 1)


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(pin_extra(path.read_text(), *sys.argv[2:4]))
