"""The file of keys: it cannot be read, or it is a keyring."""

from __future__ import annotations

import tempfile
from pathlib import Path

from modelyard.access.source import FileKeys, SourceError

_folder = tempfile.TemporaryDirectory(prefix="modelyard-fuzz-")


def run(data: bytes) -> None:
    path = Path(_folder.name) / "keys.toml"
    path.write_bytes(data)
    source = FileKeys(path, has_book=False)
    try:
        keyring = source.read()
    except SourceError as error:
        assert str(error).startswith(str(path))
        return
    assert keyring is not None or not data
    assert source.read() is None
