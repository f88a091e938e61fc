"""``model.toml``: what a model is called, where its class is, and what it may use.

Reading the file is ``modelyard.folder``'s work; here is its meaning. A mistake is reported with
file, line and what was expected there.
"""

from __future__ import annotations

import re
import tomllib
from typing import Annotated

import msgspec

from modelyard.core.names import Name, Target

Seconds = Annotated[float, msgspec.Meta(gt=0, le=7 * 24 * 3600)]
Count = Annotated[int, msgspec.Meta(ge=1)]
Digest = Annotated[str, msgspec.Meta(pattern=r"^sha256:[0-9a-f]{64}\Z")]


class ManifestError(Exception):
    """A ``model.toml`` that cannot be used; the text starts with ``file:line:``."""


class _Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class Cache(_Table, frozen=True):
    """``ttl_s``: seconds that an answer is kept; 0 means that it is no function of the input."""

    ttl_s: Annotated[float, msgspec.Meta(ge=0, le=366 * 24 * 3600)] = 300


class Batching(_Table, frozen=True):
    """``max_batch_size`` in instances; ``batch_wait_ms``: how long a batch may wait to fill."""

    max_batch_size: Count = 64
    batch_wait_ms: Annotated[float, msgspec.Meta(ge=0, le=10_000)] = 0


class Limits(_Table, frozen=True):
    """``timeout_s``: a request's time unless it says less; ``max_in_flight``: how many requests one
    gateway may have under way.

    ``load_timeout_s``: how long the model may take to load and warm up.
    """

    timeout_s: Seconds = 30
    max_in_flight: Count = 1000
    load_timeout_s: Seconds = 300


class Scaling(_Table, frozen=True):
    """How many runners one pool keeps.

    ``idle_s``: a runner over ``min_runners`` that had nothing to do for so long is ended.
    ``scale_to_zero``: none while nobody asks; in a cluster no worker, by its autoscaler.
    """

    min_runners: Count = 1
    max_runners: Count = 1
    idle_s: Seconds = 60
    scale_to_zero: bool = False


class Resources(_Table, frozen=True):
    """What one runner needs, in Kubernetes' units."""

    cpu: Annotated[str, msgspec.Meta(pattern=r"^[0-9]+(\.[0-9]+)?m?\Z")] = "500m"
    memory: Annotated[str, msgspec.Meta(pattern=r"^[0-9]+(Ki|Mi|Gi)\Z")] = "256Mi"

    @property
    def threads(self) -> int:
        """How many threads numeric libraries should start: the CPUs, rounded up."""
        cpus = float(self.cpu[:-1]) / 1000 if self.cpu.endswith("m") else float(self.cpu)
        return max(1, -int(-cpus // 1))


class Manifest(_Table, frozen=True, rename={"class_": "class"}):
    """One ``model.toml``."""

    name: Name
    version: Name
    class_: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z_]\w*:[A-Za-z_]\w*\Z")]
    description: str = ""
    cache: Cache = Cache()
    batching: Batching = Batching()
    limits: Limits = Limits()
    scaling: Scaling = Scaling()
    resources: Resources = Resources()
    artefacts: dict[str, Digest] = {}

    @property
    def target(self) -> Target:
        """The name and version together."""
        return Target(self.name, self.version)


_EXPLAIN = {
    "class": 'expected "module:Class", for example "model:FastIris" for src/model.py',
    "name": "expected lower-case letters, digits, '.', '_' and '-', at most 64",
    "version": "expected lower-case letters, digits, '.', '_' and '-', at most 64, as a string",
    "cpu": 'expected Kubernetes units, for example "500m" or "2"',
    "memory": 'expected Kubernetes units, for example "256Mi" or "1Gi"',
    "artefacts": 'expected "sha256:" and 64 hexadecimal digits (see `sha256sum`)',
}


def parse_manifest(text: str, *, source: str) -> Manifest:
    """Give the manifest in ``text``; ``source`` is the file's name, for messages.

    Raises:
        ManifestError: The text is not TOML, or not a manifest.
    """
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        where = re.search(r"at line (\d+)", str(error))
        line = where[1] if where else len(text.splitlines()) or 1
        raise ManifestError(f"{source}:{line}: not TOML: {error}") from error
    try:
        manifest = msgspec.convert(table, Manifest)
    except msgspec.ValidationError as error:
        raise ManifestError(_explain(str(error), text=text, source=source)) from error
    if manifest.scaling.max_runners < manifest.scaling.min_runners:
        line = _line_of(["scaling", "max_runners"], text)
        raise ManifestError(f"{source}:{line}: max_runners: expected at least min_runners")
    return manifest


def _explain(message: str, *, text: str, source: str) -> str:
    """Turn msgspec's ``… - at `$.a.b` `` into ``file:line: a.b: …; expected …``."""
    problem, _, path = message.rpartition(" - at ")
    problem, path = (problem, path) if problem else (path, "")
    keys = re.findall(r"\.(\w+)|\[\.\.\.\]", path.strip("`"))
    if named := re.search(r"field `([^`]+)`", problem):
        keys.append(named[1])
    if "unknown field" in problem:
        problem += "; expected one of: " + ", ".join(_fields_at(keys[:-1]))
    elif explanation := next((_EXPLAIN[key] for key in reversed(keys) if key in _EXPLAIN), None):
        problem = f"{problem}; {explanation}"
    place = ".".join(key for key in keys if key)
    return f"{source}:{_line_of(keys, text)}: {place}: {problem}"


def _fields_at(keys: list[str]) -> list[str]:
    struct: type = Manifest
    for key in keys:
        struct = {field.encode_name: field.type for field in msgspec.structs.fields(struct)}[key]
    return [field.encode_name for field in msgspec.structs.fields(struct)]


def _line_of(keys: list[str], text: str) -> int:
    """Find the line on which ``keys`` stand: the key, else its table, else the first line."""
    table, found = "", 1
    wanted = [key for key in keys if key]
    for number, line in enumerate(text.splitlines(), start=1):
        if header := re.match(r"\s*\[\s*([\w.]+)\s*\]", line):
            table = header[1]
            if wanted[:1] == [table]:
                found = number
        elif key := re.match(r"""\s*["']?([\w.-]+)["']?\s*=""", line):
            path = ([table] if table else []) + [key[1]]
            if path == wanted:
                return number
            is_bad_digest = not re.search(r'"sha256:[0-9a-f]{64}"', line)
            if wanted == [table] == ["artefacts"] and is_bad_digest:
                return number
            if path == wanted[:1]:  # an inline table: cache = {ttl_s = -1}
                found = number
    return found
