"""API keys as text: ``mdy_`` and 36 letters and digits, the last six of them a checksum.

Prefix and checksum let scanners of source code find a key that leaked, and tell it from anything
else. A key holds 178 random bits, so its SHA-256 cannot be turned back, and only that is kept.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import string
import zlib

PREFIX = "mdy_"
_ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
_RANDOM, _CHECKSUM = 30, 6  # letters
_KEY = re.compile(rf"{PREFIX}([0-9A-Za-z]{{{_RANDOM}}})([0-9A-Za-z]{{{_CHECKSUM}}})")

SHOWN = len(PREFIX) + 6
"""So many letters of a key are kept with its digest, to recognise it by."""


def new_key() -> str:
    """Return a new key."""
    text = "".join(secrets.choice(_ALPHABET) for _ in range(_RANDOM))
    return f"{PREFIX}{text}{_checksum(text)}"


def is_key(text: str) -> bool:
    """Return whether ``text`` is a key without a typing error."""
    found = _KEY.fullmatch(text)
    return found is not None and found[2] == _checksum(found[1])


def digest_of(key: str) -> str:
    """Return what is kept of a key: its SHA-256, in hexadecimal."""
    return hashlib.sha256(key.encode()).hexdigest()


def _checksum(text: str) -> str:
    rest, letters = zlib.crc32(text.encode()), ""
    for _ in range(_CHECKSUM):
        rest, number = divmod(rest, len(_ALPHABET))
        letters = _ALPHABET[number] + letters
    return letters
