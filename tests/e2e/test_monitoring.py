"""Rules and dashboards against a real Prometheus that scrapes a gateway, workers and a broker."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.conftest import TRICK
from tests.support.broker import Broker
from tests.support.ports import free_port
from tests.support.prometheus import SHIPPED, Prometheus, pod
from tests.support.releases import run
from tests.support.server import MODELYARD, ROOT, Member, wait_until

STACK = SHIPPED.parent
MONITORING = STACK.parent
RULES = [
    (rule.get("alert") or rule["record"], rule["expr"])
    for path in (SHIPPED / "rules").glob("*.yml")
    for group in yaml.safe_load(path.read_text())["groups"]
    for rule in group["rules"]
]
ALERTS = {name: expression for name, expression in RULES if name.startswith("Modelyard")}
RECORDS = [(name, expression) for name, expression in RULES if name not in ALERTS]
DASHBOARDS = {
    path.stem: json.loads(path.read_text())
    for path in (STACK / "grafana" / "dashboards").glob("*.json")
}
PANELS = [
    pytest.param(target["expr"], id=f"{name}: {panel['title']}: {target['legendFormat']}")
    for name, dashboard in DASHBOARDS.items()
    for panel in dashboard["panels"]
    for target in panel.get("targets", [])
]
CHOSEN = {"$model": "fast_iris_model", "$version": "1", "$__rate_interval": "1m"}


def start(stack: ExitStack, broker: Broker, *command: str | Path, **more: str) -> Member:
    """Start a process of the cluster. There is no Redis where its gateway looks for one."""
    redis = f"redis://127.0.0.1:{free_port()}/0"
    settings = {"MODELYARD_AMQP_URL": broker.url, "MODELYARD_REDIS_URL": redis, **more}
    return stack.enter_context(Member(*command, settings=settings))


def broken(folder: Path) -> Path:
    """Give a model that cannot load."""
    shutil.copytree(TRICK, folder)
    manifest = folder / "model.toml"
    manifest.write_text(manifest.read_text().replace('"trick_model"', '"broken_model"'))
    (folder / "src" / "model.py").write_text("raise RuntimeError('never loads')")
    return folder


def watch_drift(folder: Path) -> Path:
    """Write a payload log's settings, and a reference that the requests are compared with."""
    sample = folder / "sample.jsonl"
    rows = [[5.1, 3.5, 1.4, number / 1000] for number in range(200)]
    sample.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    made = [MODELYARD, "drift", "profile", str(sample), "-o", str(folder / "reference.json")]
    subprocess.run(made, check=True)
    settings = folder / "payload-log.toml"
    settings.write_text(
        'url = "payloads"\nrate = 1.0\nchunk_s = 0.1\n[drift]\nwindow = 50\nleast = 50\n'
        '[models.fast_iris_model]\nreference = "reference.json"\n'
    )
    return settings


def load(gateway: Member, stop: threading.Event) -> None:
    """Ask all the while, well and badly, so that every metric has something to tell."""
    for number in count(1):
        gateway.predict("fast_iris_model", [[5.1, 3.5, 1.4, number / 1000]])
        gateway.predict("fast_iris_model", [[5.1, 3.5, 1.4, 0.2]])
        gateway.predict("fast_iris_model", [[5.1, 3.5]])
        gateway.predict("broken_model", [{"nonce": 1}])
        gateway.predict("no_such_model", [1])
        flower = {"model_name": "fast_iris_model", "input_data": [[5.1, 3.5, 1.4, 0.2]]}
        gateway.http.post("/predict", json=flower, headers={"prefer": "respond-async"})
        hasty = [[5.1, 3.5, 1.5, number / 1000]]
        gateway.predict("fast_iris_model", hasty, timeout_s=0.0001)
        if stop.wait(0.1):
            return


@pytest.fixture(scope="module")
def prometheus(watched: tuple[Member, Prometheus]) -> Prometheus:
    return watched[1]


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Member, Prometheus]]:
    """A gateway, and a Prometheus that has seen its cluster under load, and what fails in it."""
    folder = tmp_path_factory.mktemp("monitoring")
    with ExitStack() as stack:
        (folder / "broker").mkdir()
        broker = stack.enter_context(Broker(folder / "broker", has_metrics=True))
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        kept = {"MODELYARD_STATE_FOLDER": str(folder / "state")}
        run(kept, "store", "upgrade")
        kept["MODELYARD_PAYLOAD_LOG_FILE"] = str(watch_drift(folder))
        gateway = start(stack, broker, "gateway", MODELYARD_PROMETHEUS_URL=url, **kept)
        models = [ROOT / "models" / "fast_iris_model", broken(folder / "broken_model")]
        workers = [start(stack, broker, "worker", model) for model in models]
        pods = [
            pod(
                member.url.removeprefix("http://"),
                name=f"pod-{number}",
                port_name="http",
                labels={"part_of": "modelyard", "component": "worker" if number else "gateway"},
            )
            for number, member in enumerate([gateway, *workers])
        ]
        address = f"127.0.0.1:{broker.metrics_port}"
        labels = {"part_of": "rabbitmq", "component": "rabbitmq"}
        pods.append(pod(address, name="broker-0", port_name="prometheus", labels=labels))
        # Ports without metrics, which are left alone.
        labels = {"part_of": "modelyard", "component": "redis"}
        pods.append(pod("127.0.0.1:1", name="redis", port_name="redis", labels=labels))
        pods.append(pod("127.0.0.1:1", name="other", port_name="http", labels={}))
        stop = threading.Event()
        thread = threading.Thread(target=load, args=(gateway, stop))
        thread.start()
        try:
            with Prometheus(folder, pods, port=port) as prometheus:
                yield gateway, prometheus
        finally:
            stop.set()
            thread.join()


def gives_data(prometheus: Prometheus, expression: str) -> bool:
    """Wait until an expression has a value that is a number."""
    for name, value in CHOSEN.items():
        expression = expression.replace(name, value)
    return bool(wait_until(lambda: prometheus.evaluate(expression), what=expression))


def test_every_pod_is_scraped(prometheus: Prometheus) -> None:
    def targets() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = prometheus.ask("targets", state="active")["activeTargets"]
        return found if all(target["health"] == "up" for target in found) else []

    labels = [target["labels"] for target in wait_until(targets, what="all targets up")]
    seen = sorted((one["job"], one["pod"], one.get("component")) for one in labels)
    assert seen == [
        ("modelyard", "pod-0", "gateway"),
        *(("modelyard", f"pod-{number}", "worker") for number in (1, 2)),
        ("rabbitmq", "broker-0", None),
        ("rabbitmq-queues", "broker-0", None),
    ]


def test_the_console_has_the_hour_of_all_gateways_from_there(
    watched: tuple[Member, Prometheus],
) -> None:
    gateway, _ = watched

    def is_there(path: str) -> bool:
        found: dict[str, Any] = gateway.http.get(f"/console{path}").json()
        lines = found.get("1", found)
        is_whole = len(lines["at"]) == 121  # an hour: this gateway has not been here so long
        return is_whole and all(lines[name][-1] is not None for name in ("rate", "p50", "p99"))

    for path in ("/history", "/models/fast_iris_model/history"):
        wait_until(partial(is_there, path), what="an hour")
    page = "/console/models/fast_iris_model"
    wait_until(lambda: "waits for a runner" in gateway.http.get(page).text, what="its time")
    assert "of all gateways" in gateway.http.get(page).text
    faults = gateway.http.get("/console/faults").text
    assert "RuntimeError" in faults  # of the worker that does not load
    assert "redelivered" in faults


def test_only_the_queues_of_models_are_kept(prometheus: Prometheus) -> None:
    assert gives_data(prometheus, "rabbitmq_detailed_queue_messages_ready")
    kept = {one["queue"] for one in prometheus.evaluate("rabbitmq_detailed_queue_messages_ready")}
    assert kept
    assert all(queue.startswith("infer.") for queue in kept)


@pytest.mark.parametrize(("name", "expression"), RECORDS)
def test_a_recording_rule_gives_data(prometheus: Prometheus, name: str, expression: str) -> None:
    assert gives_data(prometheus, expression)
    assert gives_data(prometheus, name)


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_has_data_to_judge(prometheus: Prometheus, name: str) -> None:
    """What is compared must be there, whether the alert fires or not."""
    if gone := re.fullmatch(r"absent\((.+)\)", ALERTS[name]):
        judged = gone[1]
    else:
        judged = re.sub(r"(?<=\s)(>|<|==)(?=\s)", r"\1 bool", ALERTS[name])
        assert judged != ALERTS[name]
    assert gives_data(prometheus, judged)


@pytest.mark.parametrize(
    ("name", "label", "culprit"),
    [
        ("ModelyardNoReadyRunner", "model", "broken_model"),
        ("ModelyardCacheBreakerOpen", "pod", "pod-0"),
    ],
)
def test_an_alert_notices_what_is_wrong_here(
    prometheus: Prometheus, name: str, label: str, culprit: str
) -> None:
    def noticed() -> list[dict[str, str]]:
        labels = [alert["labels"] for alert in prometheus.ask("alerts")["alerts"]]
        return [one for one in labels if one["alertname"] == name]

    assert [labels[label] for labels in wait_until(noticed, what=name)] == [culprit]


@pytest.mark.parametrize("expression", PANELS)
def test_a_panel_gives_data(prometheus: Prometheus, expression: str) -> None:
    assert gives_data(prometheus, expression)


def test_the_choices_of_the_dashboards_give_data(prometheus: Prometheus) -> None:
    queries = [
        variable["query"]["query"]
        for dashboard in DASHBOARDS.values()
        for variable in dashboard["templating"]["list"]
        if variable["type"] == "query"
    ]
    assert len(queries) == 2
    for query in queries:
        found = re.fullmatch(r"label_values\((.+), (\w+)\)", query)
        assert found
        assert gives_data(prometheus, f'{found[1]}{{{found[2]}!=""}}'.replace("}{", ", "))


def test_rules_are_evaluated_without_errors(prometheus: Prometheus) -> None:
    def evaluated() -> list[str]:
        rules = [rule for group in prometheus.ask("rules")["groups"] for rule in group["rules"]]
        return [rule["name"] for rule in rules if rule["health"] == "ok"]

    names = sorted(name for name, _ in RULES)
    wait_until(lambda: sorted(evaluated()) == names, what="all rules to be evaluated")
    subprocess.run(["promtool", "check", "config", prometheus.config], check=True)


def test_the_rules_pass_their_tests() -> None:
    files = sorted(map(str, (SHIPPED / "tests").glob("*.yml")))
    done = subprocess.run(
        ["promtool", "test", "rules", *files], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_is_tested_both_ways_and_has_a_runbook(name: str) -> None:
    cases = [
        bool(case.get("exp_alerts"))
        for path in (SHIPPED / "tests").glob("*.yml")
        for test in yaml.safe_load(path.read_text())["tests"]
        for case in test["alert_rule_test"]
        if case["alertname"] == name
    ]
    assert set(cases) == {True, False}
    assert f"### {name}\n" in (ROOT / "docs" / "monitoring.md").read_text()


def test_what_is_made_from_other_files_is_up_to_date(tmp_path: Path) -> None:
    render = MONITORING / "dashboards" / "render.py"
    subprocess.run([sys.executable, render, tmp_path], check=True)
    drawn = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*.*"))
    assert len(drawn) == 4
    for path in drawn:
        assert (MONITORING / path).read_text() == (tmp_path / path).read_text(), "make monitoring"
    rules = yaml.safe_load_all((MONITORING / "operator" / "rules.yaml").read_text())
    groups = [group for one in rules for group in one["spec"]["groups"]]
    assert sum(len(group["rules"]) for group in groups) == len(RULES)


def test_all_of_it_reaches_the_cluster() -> None:
    kustomization = yaml.safe_load((STACK / "kustomization.yaml").read_text())
    named = [file for one in kustomization["configMapGenerator"] for file in one["files"]]
    kinds = ["prometheus/*.yml", "prometheus/rules/*", "grafana/**/*.yml", "grafana/**/*.json"]
    there = [str(path.relative_to(STACK)) for kind in kinds for path in STACK.glob(kind)]
    assert sorted(named) == sorted(there)
    mounted = {
        item["path"]
        for document in yaml.safe_load_all((STACK / "prometheus.yaml").read_text())
        if document["kind"] == "Deployment"
        for source in document["spec"]["template"]["spec"]["volumes"][0]["projected"]["sources"]
        for item in source["configMap"].get("items", [])
    }
    assert mounted == {f"rules/{path.name}" for path in (SHIPPED / "rules").iterdir()}
