"""The file that ``payload_log_file`` names: what is kept of which model's requests, and where."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from modelyard.core.names import Name

Share = Annotated[float, Meta(ge=0, le=1)]
Path_ = Annotated[str, Meta(pattern=r"^(request|answer)(\.[^.]+)*\Z")]
"""``request`` or ``answer``, and where in each instance or prediction: ``request.customer.name``.
``*`` is any field; a number is a place in a list."""

EVENT_SCHEMES = ("http://", "https://")


class ConfigError(Exception):
    """The file cannot be used; the text says why."""


class Rules(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is kept of one model's requests.

    Attributes:
        rate: The share of requests; None for that of the file.
        only: If there are any: of the parts that these name, nothing else is kept.
        drop: Is not kept.
        mask: Is kept as ``"***"``, so that it shows that there was something.
        reference: The file of the profile with which requests and answers are compared; see
            ``docs/drift.md``. Empty for none.
    """

    rate: Share | None = None
    only: list[Path_] = []
    drop: list[Path_] = []
    mask: list[Path_] = []
    reference: str = ""


class Drift(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When windows end, and how sure an alarm has to be.

    Attributes:
        window: A window ends with so many instances,
        window_s: or after so many seconds, if there are at least ``least`` by then.
        least: With fewer instances nothing is said.
        false_alarms: The share of windows that may raise an alarm though nothing has changed.
        from_models: Whether references that models bring are compared with, for models that the
            file gives none.
    """

    window: Annotated[int, Meta(ge=50, le=100_000)] = 1000
    window_s: Annotated[float, Meta(gt=0)] = 3600.0
    least: Annotated[int, Meta(ge=50)] = 200
    false_alarms: Annotated[float, Meta(gt=0, le=0.5)] = 0.01
    from_models: bool = True


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The whole file.

    Attributes:
        url: Where records are kept: a folder, a URL that fsspec knows, such as ``s3://…``, or
            ``http://…`` and ``https://…`` for CloudEvents.
        format: Of files.
        headers: Sent with each CloudEvent, such as one that authenticates.
        namespace: What CloudEvents say as ``namespace``.
        timeout_s: How long one CloudEvent may take.
        rate: The share of requests of models that say nothing else.
        only, drop, mask: Rules for all models, in addition to their own.
        chunk_s: A file is written at the latest after so many seconds,
        chunk_mb: or when it has become so large.
        memory_mb: What the writer may hold of records that are gathered, and as much again of those
            that cannot be kept at the moment.
        keep_days: Files are removed after so many days,
        keep_mb: or when all of them take more; the oldest go first.
        drift: How requests are compared with references.
        models: Rules of models, by name.
    """

    url: Annotated[str, Meta(min_length=1)]
    format: Literal["jsonl", "parquet"] = "jsonl"
    headers: dict[str, str] = {}
    namespace: str = ""
    timeout_s: Annotated[float, Meta(gt=0, le=600)] = 5.0
    rate: Share = 0.0
    only: list[Path_] = []
    drop: list[Path_] = []
    mask: list[Path_] = []
    chunk_s: Annotated[float, Meta(gt=0, le=86_400)] = 60.0
    chunk_mb: Annotated[float, Meta(gt=0, le=256)] = 8.0
    memory_mb: Annotated[float, Meta(gt=0, le=4096)] = 32.0
    keep_days: Annotated[float, Meta(gt=0)] = 30.0
    keep_mb: Annotated[float, Meta(gt=0)] = 10_000.0
    drift: Drift = Drift()
    models: dict[Name, Rules] = {}

    @property
    def references(self) -> dict[str, str]:
        """Files of profiles, by the names of their models."""
        return {name: rules.reference for name, rules in self.models.items() if rules.reference}

    @property
    def sends_events(self) -> bool:
        """Whether records are sent over HTTP, not written to files."""
        return self.url.startswith(EVENT_SCHEMES)

    def rate_of(self, model: str) -> float:
        """Return the share of a model's requests that is kept."""
        rules = self.models.get(model)
        return self.rate if rules is None or rules.rate is None else rules.rate

    def rules_of(self, model: str) -> Rules:
        """Return all rules that hold for a model."""
        own = self.models.get(model, Rules())
        return Rules(
            rate=self.rate_of(model),
            only=[*self.only, *own.only],
            drop=[*self.drop, *own.drop],
            mask=[*self.mask, *own.mask],
            reference=own.reference,
        )


def read_config(path: Path) -> Config:
    """Return what the file says.

    Raises:
        ConfigError: It cannot be read, or says what it may not.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: {error}") from error
    try:
        config = msgspec.convert(table, Config)
    except msgspec.ValidationError as error:
        problem, _, place = str(error).rpartition(" - at ")
        where = place.strip("`").removeprefix("$.")
        raise ConfigError(
            f"{path}: {where}: {problem}" if problem else f"{path}: {place}"
        ) from error
    url, models = config.url, {}
    if "://" not in url:
        url = _beside(path, url)
    for name, rules in config.models.items():
        reference = _beside(path, rules.reference) if rules.reference else ""
        models[name] = msgspec.structs.replace(rules, reference=reference)
    return msgspec.structs.replace(config, url=url, models=models)


def _beside(path: Path, named: str) -> str:
    return str((path.parent / Path(named).expanduser()).absolute())
