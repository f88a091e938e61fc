"""The processes obey what the manifests assume.

Run from the rendered manifests: not as root, with nothing to write to, with the users and rights
that RabbitMQ and Redis are given.
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import aio_pika
import httpx
import psutil
import pytest
from aio_pika.exceptions import ChannelClosed

from tests.deploy.charts import MODEL, PLATFORM, Manifest, only, render
from tests.deploy.pods import USER, Pod, Watch, confine
from tests.e2e.conftest import TRICK
from tests.support.broker import Broker
from tests.support.ledger import Every, Ledger, answer_of
from tests.support.ports import free_port
from tests.support.raw import ask_at_once, request_bytes
from tests.support.server import PATIENCE_S, ROOT, wait_until

pytestmark = pytest.mark.own_broker

IRIS = ROOT / "models" / "fast_iris_model"
VHOST = "deployed"
SECRET = "p@ss/wörd %"
QUEUE = "infer.trick_model:1"


class Cluster:
    """The broker and Redis as the manifests set them up, and pods around them."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        self._stack, self._folder = stack, folder
        self.management_port = free_port()
        self.platform = render(PLATFORM)
        self.broker = self._start_broker()
        self.trick = ("--set-file", f"model={TRICK}/model.toml")
        self.model = render(MODEL, *self.trick, release="trick-model")
        self.iris = render(
            MODEL, "--set-file", f"model={IRIS}/model.toml", release="fast-iris-model"
        )
        self._started = 0
        policies = [one["spec"] for one in self.platform if one["kind"] == "Policy"]
        self._import(vhosts=[{"name": VHOST}], policies=[_policy(spec) for spec in policies])
        self.redis_port = self._start_redis()

    def add_users(self, *releases: list[Manifest]) -> None:
        """Do what the topology operator does: make the users, and give them their rights."""
        users, permissions = [], []
        for manifests in releases:
            name = only(manifests, "User")["metadata"]["name"]
            spec = only(manifests, "Permission")["spec"]
            assert spec["userReference"]["name"] == name
            tags = ",".join(only(manifests, "User")["spec"].get("tags", []))
            users.append({"name": name, "password": SECRET, "tags": tags})
            permissions.append({"user": name, "vhost": VHOST, **spec["permissions"]})
        self._import(users=users, permissions=permissions)

    def start(self, manifests: list[Manifest], name: str, model: Path | None = None) -> Pod:
        """Start a pod of the Deployment of this name."""
        deployment = only(manifests, "Deployment", name)
        self._started += 1
        urls = {"MODELYARD_AMQP_URL": f"amqp://127.0.0.1:{self.broker.port}/{VHOST}"}
        if model is None:
            urls["MODELYARD_REDIS_URL"] = f"redis://127.0.0.1:{self.redis_port}/0"
        pod = Pod(
            deployment,
            secrets={
                f"{name}-user-credentials": {"username": name, "password": SECRET},
                "modelyard-redis": only(self.platform, "Secret")["stringData"],
            },
            urls=urls,
            folder=self._folder / f"secrets-{self._started}",
            model=model,
        )
        return self._stack.enter_context(pod)

    def _import(self, **definitions: list[dict[str, Any]]) -> None:
        path = self._folder / "broker" / "definitions.json"
        path.write_text(json.dumps(definitions))
        self.broker.control("import_definitions", str(path))

    def _start_broker(self) -> Broker:
        """Start RabbitMQ with its management interface, as the operator does."""
        folder = self._folder / "broker"
        folder.mkdir()
        port = f"management.tcp.port = {self.management_port}\n"
        settings = only(self.platform, "RabbitmqCluster")["spec"]["rabbitmq"]["additionalConfig"]
        broker = Broker(folder, more_config=f"management.tcp.ip = 127.0.0.1\n{port}{settings}")
        (folder / "plugins").write_text("[rabbitmq_management].")
        return self._stack.enter_context(broker)

    def _start_redis(self) -> int:
        """Start Redis with the rendered configuration, as confined as the others."""
        port, data = free_port(), self._folder / "redis"
        data.mkdir()
        for name, text in only(self.platform, "Secret")["stringData"].items():
            (data / name).write_text(text)
        config = only(self.platform, "ConfigMap", "modelyard-redis")["data"]["redis.conf"]
        config = config.replace("/run/secrets/redis", str(data)).replace("dir /data", f"dir {data}")
        (data / "redis.conf").write_text(f"{config}\nbind 127.0.0.1\nport {port}\n")
        process = subprocess.Popen(
            [*confine(999), "redis-server", str(data / "redis.conf")], stdout=subprocess.DEVNULL
        )
        self._stack.callback(process.wait)
        self._stack.callback(process.kill)
        redis = only(self.platform, "Deployment", "modelyard-redis")
        container = redis["spec"]["template"]["spec"]["containers"][0]
        probe = [
            text.replace("/run/secrets/redis", str(data)).replace(
                "redis-cli", f"redis-cli -p {port}"
            )
            for text in container["readinessProbe"]["exec"]["command"]
        ]
        wait_until(
            lambda: subprocess.run(probe, check=False, stderr=subprocess.DEVNULL).returncode == 0,
            what="Redis, by the manifest's own probe",
        )
        return port


def _policy(spec: Manifest) -> dict[str, Any]:
    kept = {key: spec[key] for key in ("name", "pattern", "definition")}
    return {"vhost": VHOST, "apply-to": spec["applyTo"], "priority": 0, **kept}


class Running(NamedTuple):
    """What the tests share."""

    cluster: Cluster
    gateway: Pod
    worker: Pod


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A gateway and a worker; each came up before the broker knew its user."""
    with ExitStack() as stack:
        cluster = Cluster(stack, tmp_path_factory.mktemp("deployed"))
        gateway = cluster.start(cluster.platform, "modelyard-gateway")
        worker = cluster.start(cluster.model, "trick-model", TRICK)
        for pod in (gateway, worker):
            _see_it_wait(pod)
        cluster.add_users(cluster.platform, cluster.model, cluster.iris)
        for pod in (gateway, worker):
            wait_until(partial(pod.probe, "readiness"), what="readiness")
        wait_until(_knows(gateway, 1), what="the model at the gateway")
        yield Running(cluster, gateway, worker)


def _see_it_wait(pod: Pod) -> None:
    """A pod that the broker refuses is alive and not ready."""
    wait_until(lambda: "broker_unreachable" in pod.output, what="a refusal")
    assert pod.probe("startup")
    assert pod.probe("liveness")
    assert not pod.probe("readiness")


def _knows(gateway: Pod, workers: int) -> Callable[[], bool]:
    def knows() -> bool:
        found = gateway.http.get("/models/trick_model").json().get("versions", [])
        return bool(found) and found[0]["capacity"]["runners_ready"] == workers

    return knows


def test_they_are_not_root_and_can_write_nowhere(running: Running) -> None:
    for pod in (running.gateway, running.worker):
        processes = [pod.process.pid, *(runner.pid for runner in pod.runners())]
        for proc in (Path(f"/proc/{pid}") for pid in processes):
            status = proc.joinpath("status").read_text()
            assert re.search(r"^CapEff:\s+0+$", status, re.MULTILINE)
            assert re.search(r"^NoNewPrivs:\s+1$", status, re.MULTILINE)
            assert proc.joinpath("uid_map").read_text().split()[0] == str(USER)
            root = next(
                line.split()
                for line in proc.joinpath("mountinfo").read_text().splitlines()
                if line.split()[4] == "/"
            )
            assert "ro" in root[5].split(",")
    assert len(running.worker.runners()) == 1


def test_no_argument_list_and_no_variable_holds_a_secret(running: Running) -> None:
    for pod in (running.gateway, running.worker):
        for name in ("cmdline", "environ"):
            assert SECRET.encode() not in Path(f"/proc/{pod.process.pid}/{name}").read_bytes()
        assert SECRET not in pod.output


def test_answers_come_and_are_kept_in_redis(running: Running) -> None:
    answer = running.gateway.predict("trick_model", [{"nonce": 5}])
    assert answer.json()["prediction"] == [answer_of(5)]
    assert running.gateway.metric("modelyard_redis_events_total") == 0


def test_redis_takes_what_gateways_ask_and_nothing_else(running: Running) -> None:
    from redis import Redis
    from redis.exceptions import AuthenticationError, NoPermissionError

    cluster = running.cluster
    secret = only(cluster.platform, "Secret")["stringData"]
    with Redis(port=cluster.redis_port, username="modelyard", password=secret["password"]) as mine:
        assert mine.set("modelyard:1:x", b"kept", px=60_000)
        assert mine.mget(["modelyard:1:x"]) == [b"kept"]
        for forbidden in (["KEYS", "*"], ["FLUSHALL"], ["CONFIG", "GET", "*"], ["GET", "other"]):
            with pytest.raises(NoPermissionError):
                mine.execute_command(*forbidden)
    with Redis(port=cluster.redis_port) as nobody, pytest.raises(AuthenticationError):
        nobody.ping()


@pytest.mark.parametrize(
    ("user", "queue"),
    [
        ("modelyard-gateway", QUEUE),  # another's requests
        ("trick-model", "replies.someone"),  # another's answers
        ("trick-model", "infer.other_model:1"),  # another model's requests
        ("trick-model", "infer.trick_model:10"),
    ],
)
async def test_nobody_reads_what_is_not_theirs(running: Running, user: str, queue: str) -> None:
    port = running.cluster.broker.port
    connection = await aio_pika.connect(
        host="127.0.0.1", port=port, login=user, password=SECRET, virtualhost=VHOST
    )
    async with connection:
        channel = await connection.channel()
        with pytest.raises(ChannelClosed, match="ACCESS_REFUSED"):
            await (await channel.get_queue(queue, ensure=False)).get(fail=False)
        channel = await connection.channel()
        with pytest.raises(ChannelClosed, match="ACCESS_REFUSED"):
            await channel.declare_queue("mine", durable=True)


def test_keda_sees_how_long_the_queues_are_and_can_do_nothing_else(running: Running) -> None:
    cluster = running.cluster
    scaled = render(MODEL, *cluster.trick, "--set", "autoscaling.by=queue", release="trick-model")
    for trigger in only(scaled, "ScaledObject")["spec"]["triggers"]:
        assert trigger["metadata"]["host"].startswith("http://modelyard-rabbitmq.")
    cluster.add_users([one for one in scaled if one["metadata"]["name"].endswith("-scaler")])
    queues = f"http://127.0.0.1:{cluster.management_port}/api/queues/{VHOST}"
    with httpx.Client(auth=("trick-model-scaler", SECRET), timeout=PATIENCE_S) as keda:
        for trigger in only(scaled, "ScaledObject")["spec"]["triggers"]:
            queue = f"{queues}/{trigger['metadata']['queueName']}"
            wait_until(partial(_counts, keda, queue), what="the queue's length")
            assert keda.delete(queue).is_error
            assert keda.delete(f"{queue}/contents").is_error
            peek = {"count": 1, "ackmode": "ack_requeue_true", "encoding": "auto"}
            assert keda.post(f"{queue}/get", json=peek).is_error
    assert httpx.get(queue, auth=("trick-model", SECRET), timeout=PATIENCE_S).is_error


def _counts(client: httpx.Client, queue: str) -> bool:
    answer = client.get(queue)
    return answer.is_success and isinstance(answer.json().get("messages"), int)


def test_policies_reach_the_queues(running: Running) -> None:
    listed = running.cluster.broker.control("list_queues", "-p", VHOST, "name", "policy", "type")
    rows = [line.split("\t") for line in listed.splitlines() if line.count("\t") == 2]
    found = {name.split(".")[0]: (policy, kind) for name, policy, kind in rows if name != "name"}
    assert found["infer"][0] == "modelyard-requests"
    assert found["infer"][1].endswith("quorum") or found["infer"][1] == "rabbit_quorum_queue"
    assert found["replies"][0] == found["catalog"][0] == "modelyard-replies"


def test_rabbitmq_takes_the_settings_of_the_manifest(running: Running) -> None:
    told = running.cluster.broker.control("status")
    assert "Low free disk space watermark: 1.07" in told  # GB: 1 GiB
    assert "Memory high watermark setting: 0.6 of available memory" in told


def test_sigterm_under_load_loses_nothing_within_the_grace_period(running: Running) -> None:
    cluster, gateway = running.cluster, running.gateway
    leaving = cluster.start(cluster.model, "trick-model", TRICK)
    wait_until(_knows(gateway, 2), what="both workers")
    codes: list[int] = []

    def end_one() -> bool:
        codes.append(leaving.terminate())
        return True

    ledger = Ledger(gateway.url, trick={"act": "work", "seconds": 0.01})
    ledger.run_until(Every(0.5, 1, end_one))
    assert codes == [0]
    assert set(ledger.statuses) == {200}, ledger
    assert (ledger.lost, ledger.wrong) == (0, 0)
    wait_until(_knows(gateway, 1), what="the gateway to forget it")


async def test_a_gateway_finishes_what_is_under_way_within_its_grace_period(
    running: Running,
) -> None:
    cluster, nonces = running.cluster, range(4)
    leaving = cluster.start(cluster.platform, "modelyard-gateway")
    await asyncio.to_thread(wait_until, _knows(leaving, 1), what="the model at the gateway")
    tricks = [{"nonce": nonce, "act": "work", "seconds": 0.5} for nonce in nonces]
    bodies = [{"model_name": "trick_model", "input_data": [trick]} for trick in tricks]
    asked = [
        asyncio.create_task(ask_at_once(leaving.url, request_bytes(json.dumps(body).encode()), 1))
        for body in bodies
    ]
    await asyncio.to_thread(
        wait_until, lambda: leaving.metric("modelyard_in_flight") == len(asked), what="them to run"
    )
    assert await asyncio.to_thread(leaving.terminate) == 0
    answers = [(await task)[0] for task in asked]
    predictions = [answer.json["prediction"] for answer in answers]
    assert predictions == [[answer_of(nonce)] for nonce in nonces]


@pytest.mark.parametrize("part", ["gateway", "worker"])
async def test_readiness_goes_off_while_what_is_under_way_is_finished(
    running: Running, part: str
) -> None:
    cluster, nonces = running.cluster, range(24)  # more than a bundle holds: for either worker
    if part == "gateway":
        leaving = asked_at = cluster.start(cluster.platform, "modelyard-gateway")
        await asyncio.to_thread(wait_until, _knows(leaving, 1), what="the model at the gateway")
    else:
        leaving, asked_at = cluster.start(cluster.model, "trick-model", TRICK), running.gateway
        await asyncio.to_thread(wait_until, _knows(asked_at, 2), what="both workers")
    await asyncio.to_thread(wait_until, partial(leaving.probe, "readiness"), what="readiness")
    tricks = [{"nonce": nonce, "act": "work", "seconds": 0.3} for nonce in nonces]
    bodies = [{"model_name": "trick_model", "input_data": [trick]} for trick in tricks]
    asked = [
        asyncio.create_task(ask_at_once(asked_at.url, request_bytes(json.dumps(body).encode()), 1))
        for body in bodies
    ]

    def is_under_way() -> bool:
        computes = [one.status() == psutil.STATUS_RUNNING for one in leaving.runners()]
        return asked_at.metric("modelyard_in_flight") == len(asked) and all(computes)

    await asyncio.to_thread(wait_until, is_under_way, what="them to run")
    leaving.process.terminate()
    await asyncio.to_thread(
        wait_until, lambda: not leaving.probe("readiness"), what="readiness to go off"
    )
    assert leaving.process.poll() is None  # it is still there for what it has
    assert not all(task.done() for task in asked)
    answers = [(await task)[0] for task in asked]
    assert [one.json["prediction"] for one in answers] == [[answer_of(one)] for one in nonces]
    assert await asyncio.to_thread(leaving.process.wait, leaving.grace_s) == 0
    await asyncio.to_thread(wait_until, _knows(running.gateway, 1), what="it to be forgotten")


def test_a_worker_is_alive_and_not_ready_while_its_model_loads(
    running: Running, tmp_path: Path
) -> None:
    folder = shutil.copytree(TRICK, tmp_path / "slow_to_load")
    may_load = tmp_path / "go"
    with (folder / "src" / "model.py").open("a") as code:
        code.write(SLOW_TO_LOAD.format(path=str(may_load)))
    manifest = folder / "model.toml"
    manifest.write_text(manifest.read_text().replace(":TrickModel", ":SlowToLoad"))
    worker = running.cluster.start(running.cluster.model, "trick-model", folder)
    wait_until(lambda: worker.runners() != [], what="its runner")
    for _ in range(5):
        assert (worker.probe("startup"), worker.probe("liveness")) == (True, True)
        assert not worker.probe("readiness")
    assert worker.http.get("/readyz").json()["models"] == {"trick_model/1": "starting"}
    may_load.touch()
    wait_until(partial(worker.probe, "readiness"), what="readiness")
    assert worker.terminate() == 0
    wait_until(_knows(running.gateway, 1), what="it to be forgotten")


SLOW_TO_LOAD = """

class SlowToLoad(TrickModel):
    def load(self, *arguments: object) -> None:
        while not Path({path!r}).exists():
            time.sleep(0.01)
"""


def test_memory_stays_within_the_limits_all_the_time(running: Running) -> None:
    cluster, gateway = running.cluster, running.gateway
    worker = cluster.start(cluster.iris, "fast-iris-model", IRIS)
    rows = [[5.1, 3.5, 1.4, 0.2]] * 20_000
    wait_until(
        lambda: gateway.predict("fast_iris_model", rows[:1]).status_code == 200,
        what="the model at the gateway",
    )

    def ask(number: int) -> int:
        return gateway.predict("fast_iris_model", [*rows, [number, 1, 1, 1]]).status_code

    pods = (gateway, worker, running.worker)
    with Watch(*pods) as watch, ThreadPoolExecutor(4) as threads:
        assert set(threads.map(ask, range(20))) == {200}
    assert watch.samples > 3
    for pod, most in zip(pods, watch.most_bytes, strict=True):
        print(f"memory: at most {most >> 20} of {pod.memory_bytes >> 20} MiB")
        assert 0 < most < pod.memory_bytes
