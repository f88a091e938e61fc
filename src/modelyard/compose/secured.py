"""Reads the certificate that the settings name."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from modelyard.gateway.tls import LiveContext, Tls
from modelyard.settings import Settings, SettingsError


class Secured(NamedTuple):
    """The files of a certificate, and the context that they were loaded into."""

    tls: Tls
    context: LiveContext


def open_tls(settings: Settings) -> Secured | None:
    """Return what a server speaks TLS with; None for plain HTTP.

    Raises:
        SettingsError: A file is missing, or cannot be used.
    """
    if not settings.tls_certificate:
        if settings.tls_key or settings.tls_client_ca:
            raise SettingsError("tls_key and tls_client_ca need tls_certificate")
        return None
    if not settings.tls_key:
        raise SettingsError("tls_certificate needs tls_key")
    authority = settings.tls_client_ca
    tls = Tls(
        Path(settings.tls_certificate),
        Path(settings.tls_key),
        Path(authority) if authority else None,
    )
    try:
        return Secured(tls, LiveContext.around(tls.make_context()))
    except OSError as error:
        names = ", ".join(str(path) for path in tls if path is not None)
        raise SettingsError(f"TLS by {names}: {error}") from error
