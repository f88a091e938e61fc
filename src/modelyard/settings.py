"""Settings: flags over environment over secrets over one TOML file over these defaults.

With ``settings_sources.py`` the only reader of the environment and of settings files. Every setting
has the same name everywhere: ``port`` here and in the file, ``MODELYARD_PORT`` in the environment,
``--port``, and a file called ``port`` in the folder of secrets, which is how Kubernetes hands them
over.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from modelyard.core.manifest import Seconds
from modelyard.settings_sources import (
    PREFIX,
    SECRETS_VARIABLE,
    SettingsError,
    gather,
    parts_of,
    state_of_user,
    with_user,
)

__all__ = ["PREFIX", "SECRETS_VARIABLE", "SettingsError", "parts_of"]  # which have their home there

API_KEY_VARIABLE = "MODELYARD_API_KEY"
_SQLITE = "modelyard.db"
_ORIGIN = r"(\*|https?://[^/,\s]+/?)"
_ORIGINS = rf"^({_ORIGIN}(\s*,\s*{_ORIGIN})*)?\Z"
_PAGE = r"\s*(docs|metrics|models)\s*"
_PROXY_RULE = r"\s*[^=,\s]+=[^=,\s]+\s*"
_Identities = Annotated[str, msgspec.Meta(pattern=r"^([^,=]+=https://[^,]+(,|\Z))*\Z")]
_Header = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9-]*\Z")]


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The settings of a process.

    Attributes:
        host: The address to listen on.
        port: The port to listen on; 0 takes a free one and says which.
        grpc_port: The port for gRPC; 0 takes a free one and logs which. Without it there is no
            gRPC. It needs the extra ``modelyard[grpc]``.
        mcp: Whether models are tools for agents, by the Model Context Protocol, at ``/mcp``. It
            needs the extra ``modelyard[mcp]``.
        auth: Who may ask. ``none``: everybody. ``keys``: who sends a key of ``keys_file``, or else
            of the store. Empty: everybody, if ``host`` is a loopback address; elsewhere ``serve``
            and ``gateway`` do not start.
        tls_certificate: A file with the certificate, and those between it and its authority, in
            PEM; then HTTP and gRPC speak TLS alone. It is read again when it changes.
        tls_key: A file with its key.
        tls_client_ca: A file with authorities: clients must show a certificate of one of them. It
            is read again when it changes.
        keys_file: A TOML file of keys, which is read again when it changes.
        tokens_file: A TOML file of identity providers whose tokens are taken as keys are; see
            ``docs/access.md``. It needs the extra ``modelyard[tokens]``.
        trusted_proxies: Networks of the proxies before us, separated by commas, as ``10.0.0.0/8``;
            empty for none. Theirs is what ``X-Forwarded-For`` says of a client's address, and what
            the next three settings name. From any other address those headers mean nothing.
        proxy_owner_header: The header in which such a proxy names the caller that it has
            authenticated; then that caller needs no key. Empty for none.
        proxy_scopes_header: The header in which it lists what the caller may, or the caller's
            groups; words with commas or spaces between them. ``modelyard:predict:iris*`` is a
            scope; other words mean what ``proxy_rules`` says.
        proxy_rules: The scopes of such words: ``ml-team=predict:*,ml-team=read``. The word ``*`` is
            for every caller that a proxy names.
        database_url: ``sqlite:///…`` or ``postgresql://…``; empty for SQLite in ``state_folder``.
        state_folder: Where what must last is kept; empty for ``modelyard`` in the user's folder for
            state.
        gateways: How many gateways divide the limits of keys between them, where no Redis lets them
            do so by demand.
        artefacts_url: Where the registry keeps artefacts: a folder, or ``s3://…``, ``gs://…``,
            ``az://…`` with the extra ``modelyard[s3]``, ``[gcs]`` or ``[azure]``. Empty for a
            folder in ``state_folder``, if the store is there too.
        job_expires_s: No job is begun later than after so many seconds.
        job_max_attempts: How often an attempt at a job may fail, unless the job says otherwise.
        job_cancel_grace_s: How long a model may go on with a job that was cancelled while it ran,
            before its runner is ended.
        job_keep_s: How long jobs and their results are kept after their end, in seconds.
        job_keep_mb: What finished jobs of one model may take, in MB; the oldest go first.
        max_bulk_mb: The largest file that is sent for a bulk run, in MB.
        bulk_input_urls: What URLs of inputs of bulk runs may begin with, separated by commas.
        bulk_output_urls: The same for their outputs.
        job_files_url: Where inputs and results of jobs are kept that are too large for a message: a
            folder, or a URL as ``artefacts_url`` has it; the same for gateways and workers. Empty
            for ``jobs`` beside the artefacts; of ``serve`` also for a folder in ``state_folder``.
        job_inline_bytes: Larger inputs and results of jobs are kept there.
        max_job_mb: The largest input, and the largest result, of a job that is kept there, in MB.
        job_link_s: How long a signed URL of a large result can be used, in seconds; 0 for no URLs.
        callback_secrets: The secrets that sign callbacks of jobs, the newest first, separated by
            commas: each ``whsec_`` and 24 to 64 random bytes in base64. None: no callbacks.
        callback_networks: Networks that are not public and may be sent callbacks all the same, as
            ``10.0.0.0/8``, separated by commas; there also without TLS.
        registry_url: A gateway whose registry commands and workers use, instead of the store.
        max_artefact_mb: The largest artefact that the registry takes over HTTP, in MB.
        model_cache_mb: What models that were fetched from the registry may take on disk, in MB.
        model_cache_folder: Where those are kept; empty for ``modelyard/models`` in the user's
            folder for caches.
        trusted_keys: Files of public keys in PEM, separated by commas. With these, or
            ``trusted_identities``, only models are loaded that one of them has signed. It needs the
            extra ``modelyard[signing]``.
        trusted_identities: Who is trusted at Sigstore, each ``NAME=ISSUER``, separated by commas.
        open_pages: Pages that need no key, separated by commas, of ``docs``, ``metrics`` and
            ``models``.
        console: Whether a gateway has the console, at ``/console``; see ``docs/console.md``.
        prometheus_url: A Prometheus that scrapes gateways and workers; the console takes the last
            hour from there. Empty for what this gateway remembers itself.
        traces: Where traces of requests go: ``otlp`` to a collector, ``console`` to the terminal.
            See ``docs/traces.md``. It needs the extra ``modelyard[traces]``.
        traces_url: The collector's, as ``http://localhost:4318``; empty for what OpenTelemetry's
            own variables say, as ``OTEL_EXPORTER_OTLP_ENDPOINT``.
        traces_rate: The share of requests that are traced, of those whose caller does not say so.
        traces_slow_s: Requests that take longer are traced afterwards; 0 for none.
        payload_log_file: A TOML file: which requests are kept, where. See ``docs/payload-log.md``.
        log_format: ``json`` for machines, ``text`` for people; ``auto`` is ``text`` on a terminal
            and ``json`` elsewhere.
        log_level: The least severe level that is logged.
        access_log: Whether every request is logged.
        max_body_bytes: Larger request bodies are refused with 413, also after inflation.
        max_bodies_bytes: Upper bound on the bodies of all requests in progress; more are refused
            with 503.
        body_timeout_s: How long a client may take to send a body.
        header_timeout_s: How long a client may take to send the headers.
        max_timeout_s: Upper bound on the timeout of any request.
        cache_bytes: Size of the memory cache; 0 turns caching off.
        drain_s: How long a stopping process waits for its requests in flight.
        cors_origins: Origins that CORS allows, separated by commas; ``*`` for any, empty for none.
        amqp_url: The broker of a gateway or worker; several, with commas, are tried in turn.
        amqp_username: The broker's user, where ``amqp_url`` names none.
        amqp_password: That user's password.
        redis_url: The cache that gateways share; empty for none.
        redis_username: The cache's user, where ``redis_url`` names none.
        redis_password: That user's password.
        queue_type: Of the models' queues; ``quorum`` where the broker has three nodes or more.
        unload_after_s: How long ``serve --registry`` keeps a version that nothing names any more.
        forget_model_s: How long a gateway remembers a version that no worker announces any more;
            one that sleeps is always remembered.
        expected_model: ``name/version`` that a worker must find in its folder; empty for any.
        sticky_header: The header by which routes with ``sticky = "header"`` know a caller again.
        default_versions: Versions that answer requests which name none, by model:
            ``iris=2,sentiment=1``. They go before what ``model.toml`` says.
        load_attempts: After so many failed loads in a row a worker that never served ends, with the
            reason as its last line; 0 tries for ever.
        gateway_url: The gateway by which models call others (``[calls]``); ``serve`` is its own.
        call_key: The key that they send there.
        show_model_errors: Whether callers are told what a model's exceptions say. They may hold
            paths and secrets; the log has them in any case.
        gpus: The devices that runners may be given, separated by commas: numbers as `nvidia-smi -L`
            counts, or names. ``auto`` looks for them; empty for none.
        make_environments: Whether ``isolated`` models get a Python environment of their own; false
            where all of the server's is for one model, as in its image.
        environments_folder: Where those environments are kept; empty for ``modelyard/environments``
            in the user's folder for caches.
    """

    host: str = "127.0.0.1"
    port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 8000
    grpc_port: Annotated[int, msgspec.Meta(ge=0, le=65535)] | None = None
    mcp: bool = False
    auth: Literal["", "none", "keys"] = ""
    tls_certificate: str = ""
    tls_key: str = ""
    tls_client_ca: str = ""
    keys_file: str = ""
    tokens_file: str = ""
    trusted_proxies: str = ""
    proxy_owner_header: _Header = ""
    proxy_scopes_header: _Header = ""
    proxy_rules: Annotated[str, msgspec.Meta(pattern=rf"^({_PROXY_RULE}(,{_PROXY_RULE})*)?\Z")] = ""
    database_url: str = ""
    state_folder: str = ""
    gateways: Annotated[int, msgspec.Meta(ge=1)] = 1
    artefacts_url: str = ""
    job_expires_s: Seconds = 7 * 86_400
    job_max_attempts: Annotated[int, msgspec.Meta(ge=1, le=100)] = 5
    job_cancel_grace_s: Seconds = 10
    job_keep_s: Annotated[float, msgspec.Meta(gt=0)] = 7 * 86_400
    job_keep_mb: Annotated[int, msgspec.Meta(ge=1)] = 10_000
    max_bulk_mb: Annotated[int, msgspec.Meta(ge=1)] = 20_000
    bulk_input_urls: str = ""
    bulk_output_urls: str = ""
    job_files_url: str = ""
    job_inline_bytes: Annotated[int, msgspec.Meta(ge=1024, le=8 * 1024 * 1024)] = 1024 * 1024
    max_job_mb: Annotated[int, msgspec.Meta(ge=1, le=2000)] = 100
    job_link_s: Annotated[int, msgspec.Meta(ge=0, le=7 * 86_400)] = 300
    callback_secrets: str = ""
    callback_networks: str = ""
    registry_url: str = ""
    max_artefact_mb: Annotated[int, msgspec.Meta(ge=1)] = 20_000
    model_cache_mb: Annotated[int, msgspec.Meta(ge=1)] = 20_000
    model_cache_folder: str = ""
    trusted_keys: str = ""
    trusted_identities: _Identities = ""
    open_pages: Annotated[str, msgspec.Meta(pattern=rf"^({_PAGE}(,{_PAGE})*)?\Z")] = ""
    console: bool = True
    prometheus_url: Annotated[str, msgspec.Meta(pattern=r"^(https?://\S+)?\Z")] = ""
    traces: Literal["off", "otlp", "console"] = "off"
    traces_url: Annotated[str, msgspec.Meta(pattern=r"^(https?://\S+)?\Z")] = ""
    traces_rate: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.01
    traces_slow_s: Annotated[float, msgspec.Meta(ge=0)] = 0
    payload_log_file: str = ""
    log_format: Literal["auto", "json", "text"] = "auto"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    access_log: bool = False
    max_body_bytes: Annotated[int, msgspec.Meta(ge=1024)] = 8 * 1024 * 1024
    max_bodies_bytes: Annotated[int, msgspec.Meta(ge=1024)] = 256 * 1024 * 1024
    body_timeout_s: Seconds = 30
    header_timeout_s: Seconds = 10
    max_timeout_s: Seconds = 300
    cache_bytes: Annotated[int, msgspec.Meta(ge=0)] = 16 * 1024 * 1024
    drain_s: Seconds = 30
    cors_origins: Annotated[str, msgspec.Meta(pattern=_ORIGINS)] = ""
    amqp_url: str = "amqp://guest:guest@127.0.0.1:5672/"
    amqp_username: str = ""
    amqp_password: str = ""
    redis_url: str = ""
    redis_username: str = ""
    redis_password: str = ""
    queue_type: Literal["classic", "quorum"] = "classic"
    unload_after_s: Annotated[float, msgspec.Meta(ge=0)] = 300
    forget_model_s: Annotated[float, msgspec.Meta(gt=0)] = 3600
    expected_model: str = ""
    sticky_header: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9-]*\Z")] = ""
    default_versions: Annotated[
        str, msgspec.Meta(pattern=r"^(\s*[a-z0-9][a-z0-9._-]*=[a-z0-9][a-z0-9._-]*\s*(,|\Z))*\Z")
    ] = ""
    load_attempts: Annotated[int, msgspec.Meta(ge=0)] = 0
    gateway_url: str = ""
    call_key: str = ""
    show_model_errors: bool = False
    gpus: str = "auto"
    make_environments: bool = True
    environments_folder: str = ""

    @property
    def versions_by_default(self) -> dict[str, str]:
        """``default_versions`` by the names of their models."""
        return dict(pair.split("=", 1) for pair in parts_of(self.default_versions))

    @property
    def keeps_keys_in_store(self) -> bool:
        """Whether the keys are in the store: in no file, and not replaced by tokens, or by what
        proxies say, alone.
        """
        others = self.tokens_file or self.proxy_owner_header
        is_elsewhere = self.keys_file or (others and not self.database_url)
        return self.auth == "keys" and not is_elsewhere

    @property
    def store_url(self) -> str:
        """``database_url``, or that of SQLite in the folder for state."""
        if self.database_url:
            return self.database_url
        return f"sqlite:///{self.state / _SQLITE}"

    @property
    def has_store(self) -> bool:
        """Whether there is a store: another one, or SQLite whose file is there."""
        return bool(self.database_url) or (self.state / _SQLITE).is_file()

    @property
    def state(self) -> Path:
        """The folder for what must last."""
        return Path(self.state_folder or state_of_user() / "modelyard").absolute()

    @property
    def devices(self) -> list[str] | None:
        """What ``gpus`` names; None to look for them."""
        return None if self.gpus == "auto" else parts_of(self.gpus)

    @property
    def broker_url(self) -> str:
        """``amqp_url`` with the user in it."""
        return with_user(self.amqp_url, self.amqp_username, self.amqp_password)

    @property
    def cache_url(self) -> str:
        """``redis_url`` with the user in it."""
        return with_user(self.redis_url, self.redis_username, self.redis_password)


def load_settings(
    flags: Mapping[str, Any], *, environment: Mapping[str, str] | None = None
) -> Settings:
    """Return the settings of this process.

    Args:
        flags: What the command line says; None stands for not given.
        environment: ``os.environ`` unless given.

    Raises:
        SettingsError: A value or a name is wrong.
    """
    environment = os.environ if environment is None else environment
    return convert(*gather(flags, environment, setting_names()))


def setting_names() -> set[str]:
    """Return the names of all settings."""
    return {field.name for field in msgspec.structs.fields(Settings)}


def convert(values: dict[str, Any], origin: dict[str, str]) -> Settings:
    """Return settings from what ``settings_sources.gather`` found.

    Raises:
        SettingsError: A value is wrong.
    """
    try:
        return msgspec.convert(values, Settings, strict=False)
    except msgspec.ValidationError as error:
        problem, _, place = str(error).rpartition(" - at ")
        name = place.strip("`").removeprefix("$.")
        raise SettingsError(f"{origin.get(name, name)}: {problem}") from error
