"""Signs callbacks as Standard Webhooks wants it (https://www.standardwebhooks.com), 2023-12.

Each owner has a secret of its own, made of the server's: who can check its callbacks can make none
for others.
"""

from __future__ import annotations

import hmac
from base64 import b64decode, b64encode
from binascii import Error
from collections.abc import Iterable
from hashlib import sha256

PREFIX = "whsec_"
LEAST_BYTES, MOST_BYTES = 24, 64
_PURPOSE = b"modelyard callbacks of "


class Signer:
    """Signs callbacks.

    Args:
        secrets: The server's, the newest first; each ``whsec_`` and 24 to 64 bytes in base64. A
            callback has a signature for each, so that a new one can take the place of an old one.

    Raises:
        ValueError: One is no secret.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        self._secrets = [_bytes_of(secret) for secret in secrets]

    def secrets_of(self, tenant: str) -> list[str]:
        """Return the secrets with which a tenant checks callbacks."""
        return [PREFIX + b64encode(key).decode() for key in self._keys_of(tenant)]

    def headers(self, delivery_id: str, body: str, tenant: str, now: float) -> dict[str, str]:
        """Return the headers of a callback. ``now``: Unix time, in seconds."""
        moment = str(int(now))
        signed = f"{delivery_id}.{moment}.{body}".encode()
        signatures = [
            "v1," + b64encode(hmac.digest(key, signed, sha256)).decode()
            for key in self._keys_of(tenant)
        ]
        return {
            "webhook-id": delivery_id,
            "webhook-timestamp": moment,
            "webhook-signature": " ".join(signatures),
        }

    def _keys_of(self, tenant: str) -> list[bytes]:
        whose = _PURPOSE + tenant.encode()
        return [hmac.digest(secret, whose, sha256) for secret in self._secrets]


def _bytes_of(secret: str) -> bytes:
    try:
        found = b64decode(secret.removeprefix(PREFIX), validate=True)
    except Error:
        found = b""
    if not secret.startswith(PREFIX) or not LEAST_BYTES <= len(found) <= MOST_BYTES:
        raise ValueError(
            f"a secret is {PREFIX} and {LEAST_BYTES} to {MOST_BYTES} random bytes in base64"
        )
    return found
