"""What a model's page shows: one version of it, where its time goes, and how to ask it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from modelyard.console.figures import duration, rate
from modelyard.console.interfaces import Sources
from modelyard.console.overview import Served
from modelyard.core.messages import Schema
from modelyard.telemetry.history import Window
from modelyard.telemetry.prometheus import Lately
from modelyard.telemetry.readings import QUEUED, SECONDS

LONGEST_SHOWN = 20_000  # characters of a schema or an example
LONGEST_EXAMPLE = 100_000  # characters; a longer one is not even read
BAR_WIDTH = 1000
LONG_WAIT_S = 0.005  # below that a runner was free, and what is measured is the way to it


class Part(NamedTuple):
    """A part of a request's time; ``start`` and ``width``: of a bar that is ``BAR_WIDTH`` wide."""

    kind: str
    name: str
    seconds: float
    start: float
    width: float


class Split(NamedTuple):
    """Where a request's time goes: its parts, and what follows from them."""

    parts: list[Part]
    sentence: str


class Described(NamedTuple):
    """What a version takes and gives.

    Attributes:
        input: Its JSON Schema, decoded; None before it was loaded.
        output: Likewise.
        example: A list of instances; None if there is none.
        shown: The three as text, cut where they are long.
    """

    input: Mapping[str, Any] | None
    output: Mapping[str, Any] | None
    example: Any
    shown: dict[str, str]


def split_of(sources: Sources, lately: Window, one: Served) -> Split:
    """Return where the time of requests went that reached the model."""
    measured = _measured_here(lately)
    if sources.workers is not None:
        if sources.prometheus is None:
            said = "Workers measure how long requests wait and run: name a Prometheus that scrapes "
            return Split([], f"{said}them in the setting prometheus_url.")
        measured = sources.prometheus.lately(one.target) or Lately(*(None,) * 5)
    queue_s, model_s = measured.queue_s, measured.model_s
    if queue_s is None or model_s is None:
        return Split([], f"{_who_answered(lately)} in the last minutes.")
    rest_s = max(0.0, (measured.mean_s or 0.0) - queue_s - model_s)
    parts = parts_of(queue_s=queue_s, model_s=model_s, rest_s=rest_s)
    return Split(parts, _sentence(measured, one, queue_s=queue_s, model_s=model_s, rest_s=rest_s))


def _who_answered(lately: Window) -> str:
    """Say what has become of requests of which none reached a runner."""
    if not lately.requests:
        return "Nobody has asked"
    if lately.failed:
        return "No request has reached a runner: all failed before, or the cache answered them"
    return "The cache answered all requests"


def _measured_here(lately: Window) -> Lately:
    """Return what this process measured; the mean is that of requests that reached the model."""
    ran = lately.sums[QUEUED]
    return Lately(
        rate=lately.rate,
        queue_s=lately.queue_s,
        model_s=lately.model_s,
        batch_size=lately.batch_size,
        mean_s=lately.sums[SECONDS] / ran if ran else None,
    )


def parts_of(*, queue_s: float, model_s: float, rest_s: float) -> list[Part]:
    """Return the parts of a bar."""
    total, start, parts = queue_s + model_s + rest_s, 0.0, []
    named = (
        ("queue", "waits for a runner", queue_s),
        ("model", "in predict", model_s),
        ("rest", "the rest: HTTP, checks, batching", rest_s),
    )
    for kind, name, seconds in named:
        width = BAR_WIDTH * seconds / total if total else 0.0
        parts.append(Part(kind, name, seconds, round(start, 1), round(width, 1)))
        start += width
    return parts


def describe(schema: Schema | None, name: str) -> Described:
    """Return what a version takes and gives. ``name``: of the model."""
    if schema is None:
        return Described(None, None, None, {})
    given, gives = msgspec.json.decode(schema.input), msgspec.json.decode(schema.output)
    is_long = len(schema.example) > LONGEST_EXAMPLE
    example = None if is_long else msgspec.json.decode(schema.example)
    shown = {
        name: _pretty(value)
        for name, value in (("input", given), ("output", gives), ("example", example))
        if value is not None
    }
    if is_long:
        size = f"{len(schema.example):,} characters"
        shown["example"] = f"It has {size}: GET /models/{name}/example has it in full."
    return Described(given, gives, example, shown)


def decode_schema(schema: Schema | None) -> Mapping[str, Any] | None:
    """Return the schema of a version's input; None before it was loaded."""
    return None if schema is None else msgspec.json.decode(schema.input)


def _sentence(lately: Lately, one: Served, *, queue_s: float, model_s: float, rest_s: float) -> str:
    size, runners = lately.batch_size or 0.0, one.known.runners_ready
    batch = "one instance" if size < 1.05 else f"{size:.1f} instances on average"
    if queue_s > model_s and queue_s >= LONG_WAIT_S:
        are = "runner is" if runners == 1 else "runners are"
        return (
            f"Requests wait {duration(queue_s)} for a runner, longer than the {duration(model_s)} "
            f"that predict takes: {runners} {are} too few for {rate(lately.rate)} requests per "
            "second. More runners (max_runners) or larger batches (max_batch_size) shorten it."
        )
    if model_s < queue_s + rest_s:
        return f"The model is quick: predict takes {duration(model_s)} of it for {batch}."
    return f"Most of the time is the model's own: predict takes {duration(model_s)} for {batch}."


def _pretty(value: object) -> str:
    text = json.dumps(value, indent=2, ensure_ascii=False)
    if len(text) > LONGEST_SHOWN:
        return f"{text[:LONGEST_SHOWN]}\n… {len(text) - LONGEST_SHOWN:,} more characters"
    return text


def as_text(instances: list[object]) -> str:
    """Return instances as JSON to edit; nothing if they are too long for that."""
    text = json.dumps(instances, indent=1, ensure_ascii=False)
    return text if len(text) <= LONGEST_SHOWN else ""
