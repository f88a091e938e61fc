"""``model.toml``: its defaults, and what is said about each kind of mistake."""

from __future__ import annotations

import pytest

from modelyard.core.manifest import (
    Batching,
    Cache,
    Checks,
    Environment,
    Limits,
    Manifest,
    ManifestError,
    Resources,
    Scaling,
    parse_manifest,
)
from modelyard.core.manifest_keys import keys
from modelyard.core.names import Target

REQUIRED = 'name = "iris"\nversion = "1"\nclass = "model:Iris"\n'
DIGEST = "sha256:" + "0" * 64


def test_the_defaults_are_those_of_the_design() -> None:
    assert parse_manifest(REQUIRED, source="model.toml") == Manifest(
        name="iris",
        version="1",
        class_="model:Iris",
        description="",
        default=False,
        isolated=False,
        cache=Cache(ttl_s=300),
        batching=Batching(max_batch_size=64, batch_wait_ms=0),
        limits=Limits(timeout_s=30, max_in_flight=1000, load_timeout_s=300),
        scaling=Scaling(min_runners=1, max_runners=1, scale_to_zero=False),
        resources=Resources(cpu="500m", memory="256Mi", gpu=0, gpu_kind="nvidia.com/gpu"),
        environment=Environment(variables={}, secrets=[]),
        checks=Checks(output="always"),
        artefacts={},
    )


def test_everything_can_be_said() -> None:
    text = f"""\
name = "iris"
version = "2.0-rc1"
class = "model:Iris"
description = "Flowers."
default = true
isolated = true
[cache]
ttl_s = 0
[batching]
max_batch_size = 8
batch_wait_ms = 2.5
[limits]
timeout_s = 1.5
max_in_flight = 10
load_timeout_s = 60
[scaling]
min_runners = 2
max_runners = 4
scale_to_zero = true
[resources]
cpu = "1.5"
memory = "1Gi"
gpu = 2
gpu_kind = "amd.com/gpu"
[environment]
secrets = ["API_TOKEN"]
[environment.variables]
HF_HOME = "/cache"
[checks]
output = "example"
[artefacts]
"iris.onnx" = "{DIGEST}"
"""
    manifest = parse_manifest(text, source="model.toml")
    assert manifest == Manifest(
        name="iris",
        version="2.0-rc1",
        class_="model:Iris",
        description="Flowers.",
        default=True,
        isolated=True,
        cache=Cache(ttl_s=0),
        batching=Batching(max_batch_size=8, batch_wait_ms=2.5),
        limits=Limits(timeout_s=1.5, max_in_flight=10, load_timeout_s=60),
        scaling=Scaling(min_runners=2, max_runners=4, scale_to_zero=True),
        resources=Resources(cpu="1.5", memory="1Gi", gpu=2, gpu_kind="amd.com/gpu"),
        environment=Environment(variables={"HF_HOME": "/cache"}, secrets=["API_TOKEN"]),
        checks=Checks(output="example"),
        artefacts={"iris.onnx": DIGEST},
    )
    assert manifest.target == Target("iris", "2.0-rc1")


@pytest.mark.parametrize(
    ("text", "start", "expected"),
    [
        ("", "model.toml:1: name: ", "missing required field `name`"),
        ('name = "iris"\nversion = "1"\n', "model.toml:1: class: ", '"model:FastIris"'),
        ('name = "Iris"\n', "model.toml:1: name: ", "expected lower-case letters"),
        ('name = "iris"\nversion = 1\n', "model.toml:2: version: ", "as a string"),
        (
            REQUIRED.replace("model:Iris", "Iris"),
            "model.toml:3: class: ",
            'expected "module:Class", for example "model:FastIris" for src/model.py',
        ),
        (REQUIRED + "cpus = 2\n", "model.toml:4: cpus: ", "expected one of: name, version, class"),
        (REQUIRED + "\n[caches]\n", "model.toml:5: caches: ", "expected one of: name, version"),
        (REQUIRED + "[cache]\nttl = 1\n", "model.toml:5: cache.ttl: ", "expected one of: ttl_s"),
        (REQUIRED + "[cache]\nttl_s = -1\n", "model.toml:5: cache.ttl_s: ", ">= 0"),
        (REQUIRED + "[cache]\nttl_s = nan\n", "model.toml:5: cache.ttl_s: ", ">= 0"),
        (REQUIRED + "cache = 5\n", "model.toml:4: cache: ", "Expected `object`, got `int`"),
        (
            REQUIRED + "[batching]\n# large\nmax_batch_size = 0\n",
            "model.toml:6: batching.max_batch_size: ",
            "Expected `int` >= 1",
        ),
        (REQUIRED + '[limits]\n"timeout_s" = "1"\n', "model.toml:5: limits.timeout_s: ", "`float`"),
        (REQUIRED + "[limits]\ntimeout_s = 0\n", "model.toml:5: limits.timeout_s: ", "> 0"),
        (
            REQUIRED + "[scaling]\nmin_runners = 3\nmax_runners = 2\n",
            "model.toml:6: max_runners: ",
            "expected at least min_runners",
        ),
        (
            REQUIRED + "[scaling]\nmin_runners = 3\n",
            "model.toml:4: max_runners: ",
            "expected at least min_runners",
        ),
        (
            REQUIRED + f'[resources]\ncpu = "{"9" * 400}"\n',
            "model.toml:5: resources.cpu: ",
            '"500m" or "2"',
        ),
        (REQUIRED + '[resources]\ncpu = "two"\n', "model.toml:5: resources.cpu: ", '"500m" or "2"'),
        (
            REQUIRED + '[resources]\nmemory = "1GB"\n',
            "model.toml:5: resources.memory: ",
            '"256Mi" or "1Gi"',
        ),
        (
            REQUIRED + '[artefacts]\n"a.onnx" = "md5:0"\n',
            "model.toml:5: artefacts",
            'expected "sha256:" and 64 hexadecimal digits',
        ),
        (REQUIRED + "[resources]\ngpu = -1\n", "model.toml:5: resources.gpu: ", ">= 0"),
        (
            REQUIRED + '[resources]\ngpu_kind = "gpu"\n',
            "model.toml:5: resources.gpu_kind: ",
            '"nvidia.com/gpu"',
        ),
        (
            REQUIRED + "[environment.variables]\nA = 1\n",
            "model.toml:4: environment.variables: ",
            "and a value in quotes",
        ),
        (
            REQUIRED + '[environment]\nvariables = {"A B" = "1"}\n',
            "model.toml:5: environment.variables: ",
            "expected letters, digits and '_', for example HF_HOME",
        ),
        (
            REQUIRED + '[environment]\nsecrets = ["A-B"]\n',
            "model.toml:5: environment.secrets: ",
            "expected letters, digits and '_', for example HF_HOME",
        ),
        (
            REQUIRED + '[environment]\nsecrets = ["B"]\n[environment.variables]\nB = ""\n',
            "model.toml:7: environment: ",
            "B is both a variable and a secret",
        ),
        (
            REQUIRED + '[checks]\noutput = "sometimes"\n',
            "model.toml:5: checks.output: ",
            'expected "always", "example" or "never"',
        ),
        (
            REQUIRED + 'runtime = "onnx"\n',
            "model.toml:4: runtime: ",
            "class is there too; a model has one of them",
        ),
        (
            REQUIRED.replace('class = "model:Iris"', 'runtime = "keras"'),
            "model.toml:3: runtime: ",
            'expected "onnx", "sklearn", "xgboost", "lightgbm", "torch" or "mlflow"',
        ),
        (REQUIRED + 'artefact = "a.onnx"\n', "model.toml:4: artefact: ", "belongs to a runtime"),
        (REQUIRED + '[signature]\ngives = "labels"\n', "model.toml:4: signature: ", "a class has"),
        (
            REQUIRED + "[signature]\nshape = [4]\n",
            "model.toml:5: signature.shape: ",
            "expected one of: inputs, outputs, gives, example",
        ),
        (
            REQUIRED + '[signature]\ninputs = [{dtype = "float"}]\n',
            "model.toml:5: signature.inputs.dtype: ",
            'expected "bool", "int8"',
        ),
        (
            REQUIRED + '[signature]\ninputs = [{dtype = "str", size = 3}]\n',
            "model.toml:5: signature.inputs.size: ",
            "expected one of: dtype, name, shape",
        ),
        (REQUIRED + "[checks]\ninput = 1\n", "model.toml:5: checks.input: ", "one of: output"),
        (
            REQUIRED + '[artefacts]\n"a.onnx" = "' + DIGEST + '"\ntimeout_s = 30\n',
            "model.toml:6: artefacts.timeout_s: ",
            "Expected `str`, got `int`; timeout_s belongs under [limits]",
        ),
        (
            REQUIRED + '[artefacts]\ncpu = "2"\n',
            "model.toml:5: artefacts.cpu: ",
            "cpu belongs under [resources]",
        ),
        (
            REQUIRED + "[environment.variables]\nmax_runners = 2\n",
            "model.toml:5: environment.variables.max_runners: ",
            "max_runners belongs under [scaling]",
        ),
        (
            REQUIRED + "[cache]\nmax_runners = 2\n",
            "model.toml:5: cache.max_runners: ",
            "expected one of: ttl_s; max_runners belongs under [scaling]",
        ),
        (
            REQUIRED + "timeout_s = 2\n",
            "model.toml:4: timeout_s: ",
            "; timeout_s belongs under [limits]",
        ),
        (
            REQUIRED + "[cache]\ndefault = true\n",
            "model.toml:5: cache.default: ",
            "default belongs at the top, above the first [table]",
        ),
        (
            REQUIRED + "[cache]\nttl_s = 5\n[limits]\n[cache]\n",
            "model.toml:7: ",
            "[cache] is there already, on line 4: put its keys under that one",
        ),
        (REQUIRED + "default = 1\n", "model.toml:4: default: ", "Expected `bool`, got `int`"),
        (REQUIRED + '"" = 1\n', "model.toml:1: : ", "expected one of: name, version"),
        (REQUIRED + '"a - at b" = 1\n', "model.toml:4: a - at b: ", "expected one of: name"),
        (REQUIRED + '"a`b" = 1\n', "model.toml:1: a: ", "expected one of: name, version"),
        (REQUIRED + "x = \n", "model.toml:4: not TOML: ", "Invalid value"),
        (REQUIRED + 'name = "again"\n', "model.toml:4: not TOML: ", "Cannot overwrite a value"),
        (REQUIRED + f"x = {'9' * 5000}", "model.toml:4: not TOML: ", "4300 digits"),
        (REQUIRED + f"x = {'[' * 5000}", "model.toml:4: not TOML: ", ""),
        (REQUIRED + 'x = "', "model.toml:4: not TOML: ", "Unterminated string"),
    ],
)
def test_a_mistake_names_its_line_and_what_was_expected(
    text: str, start: str, expected: str
) -> None:
    with pytest.raises(ManifestError) as caught:
        parse_manifest(text, source="model.toml")
    assert str(caught.value).startswith(start)
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    ("cpu", "threads"),
    [("1m", 1), ("500m", 1), ("1000m", 1), ("1001m", 2), ("0", 1), ("1.5", 2), ("4", 4)],
)
def test_threads_are_the_cpus_rounded_up(cpu: str, threads: int) -> None:
    assert Resources(cpu=cpu).threads == threads


def test_every_key_is_described_with_its_default() -> None:
    found = {(key.table, key.name): key for key in keys()}
    assert len(found) == 38
    assert all(len(key.meaning) > 10 for key in found.values())
    assert found["", "name"].default is None
    assert found["cache", "ttl_s"].default == "300"
    assert found["resources", "gpu_kind"].default == '"nvidia.com/gpu"'
    assert found["environment", "secrets"].default == "[]"
    assert found["", "runtime"].default == "null"
    assert found["checks", "output"].meaning.startswith("Which predictions are checked")
