"""A Prometheus of a test's own, with the scrape configuration and the rules that we ship."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import httpx
import yaml

from tests.support.bound import start
from tests.support.ports import free_port
from tests.support.server import PATIENCE_S, ROOT, wait_until

SHIPPED = ROOT / "k8s-config" / "monitoring" / "stack" / "prometheus"


class Pod(NamedTuple):
    """A pod as Prometheus discovers it; its labels start with ``__meta_``."""

    address: str
    labels: dict[str, str]


class Prometheus:
    """Runs Prometheus as long as the ``with`` block.

    Args:
        folder: For all that it writes.
        pods: What Kubernetes would tell it of.
        port: Where it listens; a free one unless given.
    """

    def __init__(self, folder: Path, pods: Iterable[Pod], *, port: int = 0) -> None:
        self._folder = folder
        self._port = port or free_port()
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{self._port}", timeout=PATIENCE_S)
        config = yaml.safe_load((SHIPPED / "prometheus.yml").read_text())
        config["global"] = {"scrape_interval": "500ms", "evaluation_interval": "500ms"}
        found = [{"targets": [pod.address], "labels": pod.labels} for pod in pods]
        for job in config["scrape_configs"]:
            assert job.pop("kubernetes_sd_configs")
            job["static_configs"] = found
        self.config = folder / "prometheus.yml"
        self.config.write_text(yaml.safe_dump(config))
        shutil.copytree(SHIPPED / "rules", folder / "rules")

    def __enter__(self) -> Prometheus:
        self._process = start(
            [
                *("prometheus", "--log.level=error", f"--config.file={self.config}"),
                f"--storage.tsdb.path={self._folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{self._port}",
            ]
        )
        wait_until(self._is_ready, what="Prometheus")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.terminate()
        self._process.wait(PATIENCE_S)
        self.http.close()

    def ask(self, path: str, **parameters: str) -> Any:
        """Call the API; gives the data."""
        answer = self.http.get(f"/api/v1/{path}", params=parameters).json()
        assert answer["status"] == "success", f"{parameters}: {answer}"
        return answer["data"]

    def evaluate(self, expression: str) -> list[dict[str, str]]:
        """Give the labels of the series that have a value now, one that is a number."""
        result = self.ask("query", query=expression)["result"]
        return [series["metric"] for series in result if series["value"][1] != "NaN"]

    def _is_ready(self) -> bool:
        assert self._process.poll() is None, "Prometheus ended"
        try:
            return self.http.get("/-/ready").status_code == 200
        except httpx.TransportError:
            return False


def pod(address: str, *, name: str, port_name: str, labels: dict[str, str]) -> Pod:
    """Give what Kubernetes tells of a pod whose container listens at ``host:port``."""
    told = {
        "name": name,
        "node_name": "node",
        "container_port_name": port_name,
        **{f"label_app_kubernetes_io_{label}": value for label, value in labels.items()},
    }
    return Pod(address, {f"__meta_kubernetes_pod_{key}": value for key, value in told.items()})
