"""A disk without room."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

FILLER = "filler"


@contextlib.contextmanager
def full_disk(folder: Path) -> Iterator[Path]:
    """Mount a file system of 64 kB at ``folder`` as long as the block; ``FILLER`` takes all of it.
    Needs root, or ``sudo`` without a password.
    """
    folder.mkdir()
    sudo = [] if os.geteuid() == 0 else ["sudo", "-n"]
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k,mode=777", "tmpfs", str(folder)]
    subprocess.run([*sudo, *mount], check=True)
    try:
        with contextlib.suppress(OSError):
            (folder / FILLER).write_bytes(bytes(1 << 20))
        yield folder
    finally:
        subprocess.run([*sudo, "umount", "--lazy", str(folder)], check=True)
