"""What the charts render is what Kubernetes, old and new, and the operators accept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from jsonschema import Draft202012Validator

from tests.deploy.charts import CASE_NAMES, CASES, Manifest, helm, only, parse, render_case
from tests.deploy.test_policy import PLAIN, STACK

VERSIONS = ("1.30", "1.37")
CUSTOM: Manifest = yaml.safe_load(Path(__file__).with_name("custom_resources.yaml").read_text())


def problems_of(manifest: Manifest, version: str) -> list[str]:
    """Say what is wrong with a manifest."""
    kind = f"{manifest['apiVersion']}/{manifest['kind']}"
    if kind in CUSTOM:
        schema = {"type": "object", "additionalProperties": False, **CUSTOM[kind]}
        checker = Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)
        return [
            f"{kind}: {e.json_path}: {e.message}" for e in checker.iter_errors(manifest["spec"])
        ]
    try:
        kubernetes_validate.validate(manifest, version, strict=True)
    except kubernetes_validate.ValidationError as error:
        return [f"{kind}: {error.path}: {error.message}"]
    return []


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(("chart", "values"), CASES, ids=CASE_NAMES)
def test_charts_fit_the_schemas(chart: Path, values: Path | None, version: str) -> None:
    manifests = render_case(chart, values)
    assert manifests
    assert [text for one in manifests for text in problems_of(one, version)] == []


@pytest.mark.parametrize("version", VERSIONS)
def test_what_the_broker_is_overridden_with_fits_the_schema_of_pods(version: str) -> None:
    (chart, values), *_ = CASES
    cluster = only(render_case(chart, values), "RabbitmqCluster")
    template = cluster["spec"]["override"]["statefulSet"]["spec"]["template"]
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": template["spec"]}
    assert problems_of(pod, version) == []


@pytest.mark.parametrize("version", VERSIONS)
def test_plain_files_fit_the_schemas(version: str) -> None:
    paths = [*PLAIN, *STACK]
    manifests = [one for path in paths for one in parse(path.read_text())]
    assert [text for one in manifests for text in problems_of(one, version)] == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "x"}, "spec": {"prot": 1}},
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "x"}, "spec": {}},
        {"apiVersion": "rabbitmq.com/v1beta1", "kind": "User", "spec": {"rabbitmqCluster": "x"}},
        {"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "spec": {"triggers": []}},
    ],
    ids=lambda wrong: str(wrong["kind"]),
)
def test_the_schemas_notice(wrong: dict[str, Any]) -> None:
    assert problems_of(wrong, VERSIONS[0])


@pytest.mark.parametrize(("chart", "values"), CASES, ids=CASE_NAMES)
def test_helm_lints_strictly(chart: Path, values: Path | None) -> None:
    flags = ["--values", str(values)] if values else []
    done = helm("lint", "--strict", chart, *flags)
    assert done.returncode == 0, done.stdout + done.stderr
