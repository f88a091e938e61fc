"""Values: each is explained, each does something, and wrong ones are refused by name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from bench.simulate.demand import staff
from modelyard.core.manifest import Manifest as ModelManifest
from modelyard.core.manifest import parse_manifest
from tests.deploy.charts import MODEL, PLATFORM, Manifest, helm, only, render
from tests.support.server import ROOT


@pytest.mark.parametrize("chart", [PLATFORM, MODEL], ids=lambda chart: chart.name)
def test_every_value_is_explained_and_known_to_the_schema(chart: Path) -> None:
    lines = (chart / "values.yaml").read_text().splitlines()
    keys = [number for number, line in enumerate(lines) if re.match(r" *[A-Za-z]+:", line)]
    bare = [lines[number] for number in keys if not lines[number - 1].lstrip().startswith("#")]
    assert bare == []
    schema = yaml.safe_load((chart / "values.schema.json").read_text())
    assert _paths(yaml.safe_load("\n".join(lines))) == _schema_paths(schema)


def _toml(line: str) -> str:
    """Give what sets ``model`` to a manifest with this in it."""
    return f'model=name = "iris"\nversion = "1"\n{line}'.replace(",", r"\,")


@pytest.mark.parametrize(
    ("chart", "arguments", "message"),
    [
        (PLATFORM, "gateway.replicaz=2", "additional properties 'replicaz' not allowed"),
        (PLATFORM, "gateway.replicas=0", "at '/gateway/replicas': minimum: got 0, want 1"),
        (PLATFORM, "gateway.settings.logLevel=loud", "at '/gateway/settings/logLevel'"),
        (PLATFORM, "gateway.resources.limits.memory=1GB", "at '/gateway/resources/limits/memory'"),
        (PLATFORM, "image.tag=latest", "at '/image/tag'"),
        (PLATFORM, "image.digest=sha256:short", "at '/image/digest'"),
        (PLATFORM, "redis.image=redis", "at '/redis/image'"),
        (PLATFORM, "rabbitmq.replicas=2", "at '/rabbitmq/replicas'"),
        (PLATFORM, "rabbitmq.enabled=false", "at '/broker/existingSecret'"),
        (PLATFORM, "httpRoute.enabled=true", "at '/httpRoute/parentRefs'"),
        (PLATFORM, "httpRoute.timeouts.request=60", "at '/httpRoute/timeouts/request'"),
        (PLATFORM, "httpRoute.timeouts.total=60s", "additional properties 'total' not allowed"),
        (PLATFORM, "service.port=http", "at '/service/port': got string, want integer"),
        (
            PLATFORM,
            "gateway.resources.limits.memory=1Gi",
            "gateway.resources: limits.memory is not",
        ),
        (
            PLATFORM,
            "rabbitmq.resources.requests.memory=1Gi",
            "rabbitmq.resources: limits.memory is",
        ),
        (PLATFORM, "rabbitmq.storage=512Mi", "rabbitmq.storage: expected 1Gi or more"),
        (PLATFORM, "autoscaling.minReplicas=11", "minReplicas is more than maxReplicas"),
        (MODEL, "autoscaling.minReplicas=11", "minReplicas is more than maxReplicas"),
        (
            MODEL,
            "autoscaling.by=queue,autoscaling.minReplicas=11",
            "minReplicas is more than maxReplicas",
        ),
        (MODEL, "model=", "at '/model'"),
        (MODEL, "model=name", "model: not TOML"),
        (MODEL, 'model=name = "Iris"', "model: name: expected lower-case letters"),
        (MODEL, 'model=name = "iris"', "model: version: expected"),
        (MODEL, 'model=name = "iris"\nversion = 1', "model: version: expected"),
        (MODEL, _toml('resources = "2"'), "model: resources: expected a table"),
        (MODEL, _toml('[resources]\nmemory = "512M"'), "model: [resources] memory: expected Kub"),
        (MODEL, _toml("[resources]\nmemory = 512"), "model: [resources] memory: expected Kub"),
        (MODEL, _toml('[resources]\ncpu = "half"'), "model: [resources] cpu: expected Kub"),
        (MODEL, _toml("[resources]\ngpu = -1"), "model: [resources] gpu: expected a whole number"),
        (MODEL, _toml("[resources]\ngpu = 0.5"), "model: [resources] gpu: expected a whole numb"),
        (MODEL, _toml('[resources]\ngpu_kind = "gpu"'), "model: [resources] gpu_kind: expected a"),
        (MODEL, _toml('[environment]\nsecrets = "A"'), "model: [environment] secrets: expected a"),
        (MODEL, _toml('[environment]\nsecrets = ["A"]'), "where is A? Set worker.secrets.A.name"),
        (MODEL, "worker.secrets.A.name=a,worker.secrets.A.key=b", "model.toml does not name it"),
        (MODEL, "worker.secrets.amqp_url.name=a", "invalid propertyName 'amqp_url'"),
        (MODEL, "worker.secrets.A.name=a", "missing property 'key'"),
        (MODEL, _toml('[limits]\ntimeout_s = "abc"'), "model: [limits] timeout_s: expected a num"),
        (MODEL, _toml("[limits]\ntimeout_s = 0"), "model: [limits] timeout_s: expected a num"),
        (MODEL, _toml("[limits]\nload_timeout_s = -1"), "model: [limits] load_timeout_s: expect"),
        (MODEL, _toml('[scaling]\nmax_runners = "2"'), "model: [scaling] max_runners: expected a"),
        (MODEL, _toml("[scaling]\nscale_to_zero = 1"), "model: [scaling] scale_to_zero: expected"),
        (PLATFORM, "rabbitmq.probeSeconds=0", "at '/rabbitmq/probeSeconds'"),
        (PLATFORM, "networkPolicy.dns.ports={0}", "at '/networkPolicy/dns/ports/0'"),
        (
            MODEL,
            "autoscaling.by=demand,autoscaling.minReplicas=11",
            "minReplicas is more than maxReplicas",
        ),
        (MODEL, "autoscaling.by=memory", "must be one of 'cpu', 'demand', 'queue', 'none'"),
        (MODEL, "autoscaling.demand.service=gateway.platform", "at '/autoscaling/demand/service'"),
        (MODEL, "worker.loadAttempts=-1", "at '/worker/loadAttempts'"),
        (MODEL, "broker.cluster=", "at '/broker/existingSecret'"),
        (MODEL, "artefact.claim=a,artefact.image=b", "the model has one place: registry.digest,"),
        (MODEL, "artefact.mountPath=/etc", "at '/artefact/mountPath'"),
        (MODEL, "broker.queueType=stream", "must be one of 'quorum', 'classic'"),
    ],
)
def test_wrong_values_are_refused_by_name(chart: Path, arguments: str, message: str) -> None:
    flag = "--set-string" if arguments.startswith("model") else "--set"
    done = helm("template", "x", chart, flag, arguments)
    assert done.returncode != 0
    assert message in done.stderr


def test_a_pod_has_what_the_model_asks_for() -> None:
    manifests = render(MODEL, "--values", MODEL / "ci" / "gpu-values.yaml", release="big")
    pod = only(manifests, "Deployment")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["resources"]["limits"]["amd.com/gpu"] == 2 * 3
    (secrets,) = (one for one in pod["volumes"] if one["name"] == "secrets")
    hub = {"name": "hub", "items": [{"key": "token", "path": "HUB_TOKEN"}]}
    assert {"secret": hub} in secrets["projected"]["sources"]
    assert (pod["runtimeClassName"], pod["nodeSelector"]) == ("fast", {"pool": "gpu"})
    assert pod["tolerations"] == [{"key": "gpu", "operator": "Exists"}]
    claim = {"name": "weights", "persistentVolumeClaim": {"claimName": "big-weights"}}
    assert claim in pod["volumes"]
    mount = {"name": "weights", "mountPath": "/weights", "readOnly": True}
    assert mount in container["volumeMounts"]
    assert only(manifests, "ConfigMap", "big-labels")["metadata"]["namespace"] == "modelyard"


@pytest.mark.parametrize(
    ("values", "volume"),
    [
        (
            "artefact.claim=weights",
            {"persistentVolumeClaim": {"claimName": "weights", "readOnly": True}},
        ),
        (
            "artefact.image=registry.example/iris@sha256:0f,artefact.pullPolicy=Always",
            {"image": {"reference": "registry.example/iris@sha256:0f", "pullPolicy": "Always"}},
        ),
    ],
)
def test_the_model_comes_from_where_values_say(values: str, volume: Manifest) -> None:
    where = "artefact.path=iris/1,artefact.mountPath=/opt/model/assets"
    pod = only(render(MODEL, "--set", f"{values},{where}"), "Deployment")["spec"]["template"][
        "spec"
    ]
    (container,) = pod["containers"]
    assert container["args"] == ["worker", "/opt/model"]
    assert {"name": "artefact", **volume} in pod["volumes"]
    mount = {"mountPath": "/opt/model/assets", "subPath": "iris/1", "readOnly": True}
    assert {"name": "artefact", **mount} in container["volumeMounts"]


def test_a_model_that_asks_for_no_device_gets_none() -> None:
    pod = only(render(MODEL), "Deployment")["spec"]["template"]["spec"]
    assert set(pod["containers"][0]["resources"]["limits"]) == {"memory"}


MANIFESTS = sorted((ROOT / "models").glob("*/model.toml"))


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.parent.name)
def test_a_release_follows_from_model_toml(path: Path) -> None:
    read = parse_manifest(path.read_text(), source=str(path))
    manifests = render(MODEL, "--set-file", f"model={path}", release="iris")
    deployment = only(manifests, "Deployment")
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    variables = {one["name"]: one.get("value") for one in container["env"]}
    requested = container["resources"]["requests"]
    name = path.parent.name.replace("_", "-")
    assert container["image"] == f"ghcr.io/modelyard/modelyard-model-{name}:0.1.0"
    assert variables["MODELYARD_DRAIN_S"] == f"{read.limits.timeout_s:g}"
    assert pod["terminationGracePeriodSeconds"] == read.limits.timeout_s + 15
    assert deployment["spec"]["progressDeadlineSeconds"] > read.limits.load_timeout_s
    assert requested == {"cpu": _plus(read, "cpu"), "memory": _plus(read, "memory")}
    queues = [one["spec"]["name"] for one in manifests if one["kind"] == "Queue"]
    queue = f"infer.{read.name}:{read.version}"
    assert queues == [queue, f"{queue}:high", f"{queue}:low"]


def test_what_is_not_round_is_rounded_up() -> None:
    manifests = render(MODEL, "--values", MODEL / "ci" / "queue-values.yaml")
    pod = only(manifests, "Deployment")["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] == 3 + 15  # 2.5 s
    # Three runners of 1.5 CPU and 1 GiB, and the worker's 100m and 128 MiB.
    assert pod["containers"][0]["resources"]["requests"] == {"cpu": "4600m", "memory": "3200Mi"}


def test_a_large_number_stays_a_whole_number() -> None:
    values = PLATFORM / "ci" / "production-values.yaml"
    large = render(PLATFORM, "--values", values, "--set", "redis.maxMemoryMiB=1048576")
    lengths = [one["spec"]["definition"]["max-length"] for one in large if one["kind"] == "Policy"]
    assert lengths == [1_000_000, 1_000_000]
    settings = only(large, "ConfigMap", "modelyard-redis")["data"]["redis.conf"]
    assert "\nmaxmemory 1048576mb\n" in settings


@pytest.mark.parametrize(
    ("storage", "limit"), [("1Gi", "102MiB"), ("2048Mi", "204MiB"), ("1Ti", "1024MiB")]
)
def test_a_new_volume_raises_no_alarm(storage: str, limit: str) -> None:
    broker = only(render(PLATFORM, "--set", f"rabbitmq.storage={storage}"), "RabbitmqCluster")
    settings = broker["spec"]["rabbitmq"]["additionalConfig"].splitlines()
    assert f"disk_free_limit.absolute = {limit}" in settings


def test_scaling_to_zero_is_the_models_choice() -> None:
    zero = render(MODEL, "--values", MODEL / "ci" / "queue-values.yaml")
    assert only(zero, "ScaledObject")["spec"]["minReplicaCount"] == 0
    kept = render(MODEL, "--set", "autoscaling.by=queue")
    assert only(kept, "ScaledObject")["spec"]["minReplicaCount"] == 2
    assert not [one for one in kept if one["kind"] == "HorizontalPodAutoscaler"]


@pytest.mark.parametrize(("chosen", "target"), [("{}", "3"), ('{"target": 2.5}', "2.5")])
def test_keda_adds_up_what_each_gateway_would_keep_busy(chosen: str, target: str) -> None:
    model = _toml("[scaling]\nmax_runners = 3")
    flags = ("--set", "autoscaling.by=demand", "--set-json", f"autoscaling.demand={chosen}")
    rendered = render(MODEL, "--set-string", model, *flags)
    spec = only(rendered, "ScaledObject")["spec"]
    (trigger,) = spec["triggers"]
    assert trigger["type"] == "metrics-api"
    asked = trigger["metadata"]
    platform = render(PLATFORM)
    service, gateway = only(platform, "Service", "modelyard-gateway"), _gateway(platform)
    # Its pods, at their own port: the Service's would be that of a pod drawn at random.
    host = f"{service['metadata']['name']}.{service['metadata']['namespace']}.svc"
    port = gateway["ports"][0]["containerPort"]
    assert asked["url"] == f"http://{host}:{port}/models/iris/versions/1/demand"
    assert (asked["aggregateFromKubeServiceEndpoints"], asked["aggregationType"]) == ("true", "sum")
    assert asked["valueLocation"] == "runners"
    staffed = spec["advanced"]["scalingModifiers"]
    assert (staffed["target"], staffed["metricType"]) == (target, "AverageValue")
    assert trigger["name"] in staffed["formula"]
    for demand in (0.0, 0.001, 0.5, 3.0, 40.0):  # Python reads the formula as KEDA's language does
        given = eval(staffed["formula"], {"demand": demand, "min": min})
        assert given == pytest.approx(staff(demand)), "what was simulated is another formula"
    # It looks by itself: no user of the broker, and no autoscaler beside it.
    kinds = {one["kind"] for one in rendered}
    assert not kinds & {"HorizontalPodAutoscaler", "TriggerAuthentication"}
    assert [one["metadata"]["name"] for one in rendered if one["kind"] == "User"] == ["modelyard"]


def test_a_release_can_be_switched_to_keda() -> None:
    """Helm makes what is new before it removes what is not any more, and KEDA looks for others."""
    before, after = (
        render(MODEL, "--set", f"autoscaling.by={signal}") for signal in ("cpu", "demand")
    )
    scaler = only(before, "HorizontalPodAutoscaler")
    target = only(after, "ScaledObject")["spec"]["scaleTargetRef"]["name"]
    assert scaler["spec"]["scaleTargetRef"]["name"] == target
    assert scaler["metadata"]["annotations"] == {"validations.keda.sh/hpa-ownership": "false"}


def test_demand_scales_to_zero_too() -> None:
    rendered = render(MODEL, "--values", MODEL / "ci" / "demand-values.yaml")
    assert only(rendered, "ScaledObject")["spec"]["minReplicaCount"] == 0


def _gateway(platform: list[Manifest]) -> Manifest:
    deployment = only(platform, "Deployment", "modelyard-gateway")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    return dict(container)


def test_a_worker_is_told_what_it_should_be_and_when_to_give_up() -> None:
    rendered = render(MODEL, "--values", MODEL / "ci" / "queue-values.yaml")
    (container,) = only(rendered, "Deployment")["spec"]["template"]["spec"]["containers"]
    told = {one["name"]: one["value"] for one in container["env"]}
    assert told["MODELYARD_EXPECTED_MODEL"] == "odd.name_of-a-model/2026.11-rc_1"
    assert told["MODELYARD_LOAD_ATTEMPTS"] == "3"


def test_a_worker_reaches_the_files_of_jobs_as_gateways_do() -> None:
    at = "secret=files,{0}.endpointUrl=https://minio.example.com,{0}.port=9000"
    artefacts = "access.databaseSecret=db,registry.artefactsUrl=s3://acme/all"
    platform = render(PLATFORM, "--set", f"{artefacts},registry.{at.format('registry')}")
    worker = render(MODEL, "--set", f"jobs.filesUrl=s3://acme/all/jobs,jobs.{at.format('jobs')}")
    told = {}
    for manifests, name in ((platform, "modelyard-gateway"), (worker, "")):
        pod = only(manifests, "Deployment", name)["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        env = {one["name"]: one.get("value") for one in container["env"]}
        (secrets,) = (one for one in pod["volumes"] if one["name"] == "secrets")
        items = [{"key": "credentials", "path": "credentials"}]
        assert {"secret": {"name": "files", "items": items}} in secrets["projected"]["sources"]
        policy = only(manifests, "NetworkPolicy", name)
        assert [{"port": 9000}] in [rule["ports"] for rule in policy["spec"]["egress"]]
        told[name] = env
    for variable in ("AWS_ENDPOINT_URL", "AWS_SHARED_CREDENTIALS_FILE"):
        assert told[""][variable] == told["modelyard-gateway"][variable]
    files = f"{told['modelyard-gateway']['MODELYARD_ARTEFACTS_URL']}/jobs"
    assert told[""]["MODELYARD_JOB_FILES_URL"] == files


def test_the_broker_is_one_that_its_operator_starts() -> None:
    image = yaml.safe_load((PLATFORM / "values.yaml").read_text())["rabbitmq"]["image"]
    found = re.search(r"/rabbitmq:(\d+)\.(\d+)\.(\d+)-management@sha256:", image)
    assert found
    assert tuple(map(int, found.groups())) >= (4, 2, 4)  # else it never passes the start-up probe
    compose = (ROOT / "compose.yaml").read_text()
    assert f"/rabbitmq:{'.'.join(found.groups())}-alpine" in compose


LEGACY = r"rabbitmq.annotations.rabbitmq\.com/legacy-startup-probe=true"


def test_an_older_broker_starts_by_an_annotation() -> None:
    broker = only(render(PLATFORM, "--set-string", LEGACY), "RabbitmqCluster")
    assert broker["metadata"]["annotations"] == {"rabbitmq.com/legacy-startup-probe": "true"}
    assert "startupProbe" not in _rabbitmq(broker)  # the operator's own is another one then
    assert "startupProbe" in _rabbitmq(only(render(PLATFORM), "RabbitmqCluster"))


@pytest.mark.parametrize("seconds", [1, 2, 7, 30])
def test_a_broker_that_is_up_is_soon_found_and_one_that_is_not_is_waited_for(seconds: int) -> None:
    rendered = render(PLATFORM, "--set", f"rabbitmq.probeSeconds={seconds}")
    container = _rabbitmq(only(rendered, "RabbitmqCluster"))
    for name, patience in (("startupProbe", 300), ("readinessProbe", 30)):
        probe = container[name]
        assert (probe["periodSeconds"], probe.get("initialDelaySeconds", 0)) == (seconds, 0)
        assert patience - seconds < probe["failureThreshold"] * seconds <= patience


def test_a_broker_of_one_node_does_not_wait_for_others() -> None:
    values = PLATFORM / "ci" / "kind-values.yaml"
    small = only(render(PLATFORM, "--values", values), "RabbitmqCluster")["spec"]
    assert (small["replicas"], small["delayStartSeconds"]) == (1, 5)


def _rabbitmq(broker: Manifest) -> Manifest:
    pod = broker["spec"]["override"]["statefulSet"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    return dict(container)


def test_the_example_in_the_values_is_a_manifest() -> None:
    text = yaml.safe_load((MODEL / "values.yaml").read_text())["model"]
    assert parse_manifest(text, source="values.yaml").name == "fast_iris_model"


def test_both_charts_test_with_the_same_script() -> None:
    one, other = (chart / "files" / "predict.py" for chart in (PLATFORM, MODEL))
    assert one.read_text() == other.read_text()


def _plus(manifest: ModelManifest, what: str) -> str:
    """What one runner asks for, and the worker's own 100m and 128 MiB."""
    if what == "cpu":
        cpu = manifest.resources.cpu
        own = float(cpu.removesuffix("m")) if cpu.endswith("m") else float(cpu) * 1000
        return f"{own + 100:g}m"
    return f"{int(manifest.resources.memory.removesuffix('Mi')) + 128}Mi"


def _paths(values: Any, at: str = "") -> set[str]:
    if not isinstance(values, dict) or not values:
        return {at}
    return {path for key, value in values.items() for path in _paths(value, f"{at}/{key}")}


def _schema_paths(schema: Any, at: str = "") -> set[str]:
    if "properties" not in schema:
        return {at}
    found = {p for k, v in schema["properties"].items() for p in _schema_paths(v, f"{at}/{k}")}
    return {path for path in found if not path.endswith("/limits/cpu")}  # allowed, not set
