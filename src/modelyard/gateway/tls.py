"""TLS: the files of a server's certificate, and their renewal while it serves."""

from __future__ import annotations

import asyncio
import logging
import ssl
from pathlib import Path
from typing import Any, NamedTuple

CHECK_S = 1.0

log = logging.getLogger(__name__)


class Tls(NamedTuple):
    """Files in PEM. ``client_ca``: whose certificates clients must show; None for no certificates.

    All methods raise OSError, or its child ssl.SSLError, if a file cannot be used.
    """

    certificate: Path
    key: Path
    client_ca: Path | None

    def make_context(self) -> ssl.SSLContext:
        """Return the context of a server."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(self.certificate, self.key)
        if self.client_ca is not None:
            context.load_verify_locations(self.client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    def read(self) -> tuple[bytes, bytes, bytes | None]:
        """Return what is in the files."""
        authority = None if self.client_ca is None else self.client_ca.read_bytes()
        return self.certificate.read_bytes(), self.key.read_bytes(), authority


class LiveContext(ssl.SSLContext):
    """Stands for ``current``, which can be replaced: a connection uses the one that is there when
    it is made. A session of one is not resumed by the next, so nobody gets in by a session that an
    authority of the past has let in.
    """

    current: ssl.SSLContext

    @classmethod
    def around(cls, context: ssl.SSLContext) -> LiveContext:
        """Return one that stands for ``context``."""
        live = cls(ssl.PROTOCOL_TLS_SERVER)
        live.current = context
        return live

    def wrap_bio(self, *arguments: Any, **named: Any) -> ssl.SSLObject:
        """Begin a connection (called by the event loop)."""
        return self.current.wrap_bio(*arguments, **named)


async def renew(tls: Tls, context: LiveContext) -> None:
    """Use files that have changed for the connections that are made from then on, until cancelled.
    Files that do not belong together, as in the midst of a renewal, change nothing.
    """
    known = None  # the first time they are loaded again: they may have changed since they were
    while True:
        await asyncio.sleep(CHECK_S)
        try:
            found = await asyncio.to_thread(tls.read)
            if found == known:
                continue
            context.current = tls.make_context()
        except OSError as error:
            log.warning("certificate_not_read", extra={"why": str(error)})
            continue
        if known is not None:
            log.info("certificate_read")
        known = found
