"""One record of the payload log, made of what the gateway handed over."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Protocol

import msgspec

from modelyard.payloads.config import Config
from modelyard.payloads.frames import Handed
from modelyard.payloads.writer.decoding import Rows, UnreadableError, decode_input, decode_output
from modelyard.payloads.writer.masking import Masking

NOTHING = msgspec.Raw(b"null")


class Record(msgspec.Struct):
    """What is kept of one request; a line of JSON Lines.

    ``request`` and ``answer`` are JSON; ``left_out`` says why one is null where it might not be.
    """

    time: str
    request_id: str
    model: str
    version: str
    key: str
    owner: str
    status: str
    latency_s: float
    cache: str
    form: str
    left_out: str
    request: msgspec.Raw
    answer: msgspec.Raw


class Decoded(msgspec.Struct):
    """All of a request and its answer, to be looked at and not kept."""

    instances: Rows
    predictions: Rows


class Watching(Protocol):
    """Sees what is not yet masked, of models that have a reference."""

    def knows(self, handed: Handed) -> bool:
        """Return whether there is a reference for it."""
        ...

    def look(self, handed: Handed, decoded: Decoded) -> None:
        """See a request that was answered, and its answer."""
        ...


class Recorder:
    """Makes records.

    Args:
        config: The rules.

    Attributes:
        config: As given.
        watching: Looks for drift; None as long as there is no reference.
    """

    def __init__(self, config: Config) -> None:
        self.watching: Watching | None = None
        self.config = config
        self._masking: dict[str, tuple[Masking, Masking]] = {}

    def record(self, handed: Handed) -> Record:
        """Return the record of a request, without whatever may not be kept."""
        masking = self._masking.get(handed.model)
        if masking is None:
            rules = self.config.rules_of(handed.model)
            masking = Masking(rules, "request"), Masking(rules, "answer")
            self._masking[handed.model] = masking
        ours, theirs = masking
        left_out = "too large" if handed.is_too_large else ""
        watching = self.watching
        is_read = watching is not None and watching.knows(handed)
        decoded = Decoded(Rows(None), Rows(None))
        try:
            if handed.input and (is_read or not ours.drops_all):
                decoded.instances = decode_input(bytes(handed.input), handed.form)
            if handed.output and (is_read or not theirs.drops_all):
                decoded.predictions = decode_output(bytes(handed.output), handed.form)
        except UnreadableError:  # what cannot be read cannot be masked
            left_out = "unreadable"
        if is_read and watching is not None:
            watching.look(handed, decoded)
        return Record(
            time=datetime.fromtimestamp(handed.at, UTC).isoformat(timespec="microseconds"),
            request_id=handed.id,
            model=handed.model,
            version=handed.version,
            key=handed.key,
            owner=handed.owner,
            status=handed.code,
            latency_s=round(handed.latency_s, 6),
            cache=handed.cache_use,
            form=handed.form,
            left_out=left_out,
            request=_json(ours.apply(decoded.instances.values, name=decoded.instances.name)),
            answer=_json(theirs.apply(decoded.predictions.values, name=decoded.predictions.name)),
        )


def _json(value: Any) -> msgspec.Raw:
    return NOTHING if value is None else msgspec.Raw(msgspec.json.encode(value))
