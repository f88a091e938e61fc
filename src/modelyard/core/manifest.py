"""``model.toml``: a model's name, its class or runtime, and the resources that it may use.

``modelyard.folder`` reads the file; this module parses and checks it. A mistake is reported with
file, line and what was expected there. The type of each key carries its description, which
``manifest_keys`` returns for the documentation.
"""

from __future__ import annotations

import tomllib
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from modelyard.core.artefacts import Runtime
from modelyard.core.calls import Calls
from modelyard.core.demand import WAIT_SHARE
from modelyard.core.manifest_checks import contradictions
from modelyard.core.manifest_errors import explain, explain_toml, line_of
from modelyard.core.names import Name, Target
from modelyard.core.signature import Signature

Seconds = Annotated[float, Meta(gt=0, le=7 * 24 * 3600)]
Count = Annotated[int, Meta(ge=1)]
Weight = Annotated[float, Meta(gt=0, le=1e9)]
Digest = Annotated[str, Meta(pattern=r"^sha256:[0-9a-f]{64}\Z")]
Variable = Annotated[str, Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]*\Z")]


class ManifestError(Exception):
    """A ``model.toml`` that cannot be used; the text starts with ``file:line:``."""


class _Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class Cache(_Table, frozen=True):
    """Whether a cached answer may be returned for the same input."""

    ttl_s: Annotated[
        float,
        Meta(
            ge=0,
            le=366 * 24 * 3600,
            description="Seconds for which an answer is cached. 0 turns caching off: use it if the "
            "answer depends on more than the input.",
        ),
    ] = 300


class Batching(_Table, frozen=True):
    """How requests are combined into calls of ``predict``."""

    max_batch_size: Annotated[Count, Meta(description="Most instances in one call.")] = 64
    batch_wait_ms: Annotated[
        float,
        Meta(
            ge=0,
            le=10_000,
            description="Milliseconds for which an idle runner may wait for a batch to fill.",
        ),
    ] = 0
    concurrency: Annotated[
        int,
        Meta(
            ge=0,
            le=10_000,
            description="Batches, or streams, that one runner has under way. For a model with an "
            "`async def predict` or a `stream`, which must set it; 0 for all others.",
        ),
    ] = 0


class Limits(_Table, frozen=True):
    """Timeouts, and how many requests may be in flight."""

    timeout_s: Annotated[
        Seconds, Meta(description="Timeout of a request that sets none itself, in seconds.")
    ] = 30
    max_in_flight: Annotated[
        Count,
        Meta(
            description="Requests that one gateway may have in flight; more are refused with 503."
        ),
    ] = 1000
    load_timeout_s: Annotated[
        Seconds, Meta(description="Seconds in which the model must load and warm up.")
    ] = 300
    piece_timeout_s: Annotated[
        Seconds,
        Meta(description="Seconds in which the next piece of a streamed answer must come."),
    ] = 30
    stream_timeout_s: Annotated[
        Seconds, Meta(description="Seconds that a streamed answer may take in all.")
    ] = 3600
    weight: Annotated[
        Weight,
        Meta(description="What a request counts for where a caller's limit counts weight."),
    ] = 1.0


class Scaling(_Table, frozen=True):
    """How many runners one pool keeps. A runner is a process with the model in it."""

    min_runners: Annotated[Count, Meta(description="Runners that are always up.")] = 1
    max_runners: Annotated[
        Count, Meta(description="Most runners that are started while requests wait.")
    ] = 1
    idle_s: Annotated[
        Seconds,
        Meta(description="Idle seconds after which a runner beyond `min_runners` is stopped."),
    ] = 60
    target_wait_s: Annotated[
        float,
        Meta(
            ge=0,
            le=7 * 24 * 3600,
            description="Seconds in which a backlog should be gone, where a cluster scales by "
            "demand. 0 for a quarter of `timeout_s`.",
        ),
    ] = 0
    scale_to_zero: Annotated[
        bool,
        Meta(
            description="Keep no runner while there are no requests (in a cluster the autoscaler "
            "keeps no worker). The first request then waits until the model is loaded."
        ),
    ] = False


class Resources(_Table, frozen=True):
    """Resources of one runner."""

    cpu: Annotated[
        str,
        Meta(
            pattern=r"^[0-9]{1,9}(\.[0-9]{1,9})?m?\Z",
            description="CPUs, in Kubernetes units. Rounded up, it is also the number of threads "
            "that numeric libraries start.",
        ),
    ] = "500m"
    memory: Annotated[
        str,
        Meta(pattern=r"^[0-9]+(Ki|Mi|Gi)\Z", description="Memory, in Kubernetes units."),
    ] = "256Mi"
    gpu: Annotated[
        int,
        Meta(ge=0, description="GPUs that each runner has to itself."),
    ] = 0
    gpu_kind: Annotated[
        str,
        Meta(
            pattern=r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?/[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?\Z",
            description="Name of the GPU resource in Kubernetes.",
        ),
    ] = "nvidia.com/gpu"
    without_gpu: Annotated[
        Literal["fail", "cpu"],
        Meta(
            description="What happens on a machine without a GPU, or if the library of a `runtime` "
            "cannot use it: the model fails, or runs on the CPU and says so in the log."
        ),
    ] = "fail"

    @property
    def threads(self) -> int:
        """Number of threads that numeric libraries should start: the CPUs, rounded up."""
        cpus = float(self.cpu[:-1]) / 1000 if self.cpu.endswith("m") else float(self.cpu)
        return max(1, -int(-cpus // 1))


class Environment(_Table, frozen=True):
    """Environment variables of the model, in addition to those inherited from the server."""

    variables: Annotated[
        dict[Variable, Annotated[str, Meta(pattern=r"^[^\0]*\Z")]],
        Meta(description="Environment variables, by name."),
    ] = {}
    secrets: Annotated[
        list[Variable],
        Meta(
            description="Environment variables whose values are kept elsewhere: each is looked up "
            "by name in the server's environment or its folder of secrets. If one is missing, the "
            "model does not load."
        ),
    ] = []


class Checks(_Table, frozen=True):
    """What is checked in addition to the inputs, which always are."""

    output: Annotated[
        Literal["always", "example", "never"],
        Meta(
            description="Which predictions are checked against the annotation of `predict`: all, "
            "only those for the example while the model loads, or none. Count, dtype and shape are "
            "always checked."
        ),
    ] = "always"


class Manifest(_Table, frozen=True, rename={"class_": "class"}):
    """One ``model.toml``."""

    name: Annotated[Name, Meta(description="The model's name, as used in requests.")]
    version: Annotated[Name, Meta(description="The version. Each version has a folder of its own.")]
    class_: Annotated[
        Annotated[str, Meta(pattern=r"^[A-Za-z_]\w*:[A-Za-z_]\w*\Z")] | None,
        Meta(
            description='Module in `src/` and class: `"model:FastIris"` for src/model.py. A model '
            "has this or `runtime`."
        ),
    ] = None
    runtime: Annotated[
        Runtime | None,
        Meta(description="What serves an artefact without a class, see `docs/runtimes.md`."),
    ] = None
    artefact: Annotated[
        str,
        Meta(
            description="The artefact that `runtime` serves, as a path in the folder. Needed where "
            "several files could be it."
        ),
    ] = ""
    allow_pickle: Annotated[
        bool,
        Meta(
            description="The runtimes of scikit-learn and MLflow may load a pickle, which can run "
            "any code. Obeyed where the server has `trusted_keys` and one of them has signed it."
        ),
    ] = False
    description: Annotated[str, Meta(description="One sentence for people who browse models.")] = ""
    default: Annotated[
        bool,
        Meta(
            description="This version answers requests that name none. If no version is marked, "
            "the highest that is up does."
        ),
    ] = False
    isolated: Annotated[
        bool,
        Meta(
            description="The model runs in a Python environment of its own, made from its "
            "`requirements.lock`."
        ),
    ] = False
    cache: Cache = Cache()
    batching: Batching = Batching()
    limits: Limits = Limits()
    scaling: Scaling = Scaling()
    resources: Resources = Resources()
    environment: Environment = Environment()
    calls: Calls = Calls()
    checks: Checks = Checks()
    signature: Signature = Signature()
    artefacts: Annotated[
        dict[str, Digest],
        Meta(
            description='Files in `assets/` and their digests, `"sha256:…"` as `sha256sum` prints. '
            "They are checked before the model loads. A digest is of one file: those in a folder "
            'are listed one by one, each with its path, `"net/config.json" = "sha256:…"`.'
        ),
    ] = {}

    @property
    def target_wait_s(self) -> float:
        """The time in which a backlog should be gone."""
        return self.scaling.target_wait_s or WAIT_SHARE * self.limits.timeout_s

    @property
    def target(self) -> Target:
        """The name and version together."""
        return Target(self.name, self.version)


def parse_manifest(text: str, *, source: str) -> Manifest:
    """Return the manifest in ``text``; ``source`` is the file's name, for messages.

    Raises:
        ManifestError: The text is not TOML, or not a manifest.
    """
    try:
        table = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # also numbers too long, tables too deep
        raise ManifestError(explain_toml(error, text=text, source=source)) from error
    try:
        manifest = msgspec.convert(table, Manifest)
    except msgspec.ValidationError as error:
        problem = explain(error, text=text, table=table, source=source, struct=Manifest)
        raise ManifestError(problem) from error
    for keys, problem in contradictions(manifest):
        raise ManifestError(f"{source}:{line_of(keys, text)}: {problem}")
    if manifest.calls.models and "ttl_s" not in table.get("cache", {}):
        return msgspec.structs.replace(manifest, cache=Cache(ttl_s=0))
    return manifest
