"""Runs a container of a rendered manifest as Kubernetes would, as far as one machine can.

Its arguments, variables and secret files are the manifest's. It is not root, has no capability, and
can write nowhere but to what the manifest mounts.
"""

from __future__ import annotations

import re
import threading
from contextlib import suppress
from pathlib import Path
from typing import Self

import httpx
import psutil

from tests.deploy.charts import Manifest
from tests.support.server import Member

USER = 10001

_UNITS = {"Mi": 1 << 20, "Gi": 1 << 30}


def confine(user: int) -> list[str]:
    """Give what goes before a command to run it so; needs no root, only user namespaces."""
    return [
        *("unshare", "--user", f"--map-user={user}", f"--map-group={user}"),
        *("--keep-caps", "--mount", "sh", "-ec"),
        "mount --make-rprivate / && mount -o remount,bind,ro / && "
        "exec setpriv --pdeathsig KILL --no-new-privs "
        "--inh-caps=-all --ambient-caps=-all --bounding-set=-all "
        '"$@"',
        "sh",
    ]


class Pod(Member):
    """The only container of a Deployment.

    Args:
        deployment: As rendered.
        secrets: Name of each Secret, and what is in it.
        model: Stands for the folder in the image.
        urls: What stands for addresses in the cluster, by the variable's name.
        folder: A temporary one, for the secret files.
    """

    def __init__(
        self,
        deployment: Manifest,
        *,
        secrets: dict[str, dict[str, str]],
        urls: dict[str, str],
        folder: Path,
        model: Path | None = None,
    ) -> None:
        self.spec = deployment["spec"]["template"]["spec"]
        (container,) = self.spec["containers"]
        assert self.spec["securityContext"]["runAsUser"] == USER
        arguments = [argument.replace("/opt/model", str(model)) for argument in container["args"]]
        environment = {one["name"]: one["value"] for one in container["env"]}
        for name, url in urls.items():
            assert "@" not in environment[name] + url
            environment[name] = url
        self._mount_secrets(secrets, folder)
        environment["MODELYARD_SECRETS"] = str(folder)
        if "MODELYARD_GRPC_PORT" in environment:
            environment["MODELYARD_GRPC_PORT"] = "0"
        super().__init__(*arguments, settings=environment)
        self._within = confine(USER)
        self.grace_s = float(self.spec["terminationGracePeriodSeconds"])
        self.memory_bytes = _bytes(container["resources"]["limits"]["memory"])
        self.probes = {
            name: container[f"{name}Probe"]["httpGet"]["path"]
            for name in ("startup", "readiness", "liveness")
        }

    def probe(self, name: str) -> bool:
        """Ask as the kubelet does; no answer is a no."""
        try:
            return 200 <= self.http.get(self.probes[name]).status_code < 400
        except httpx.TransportError:
            return False

    def used_bytes(self) -> int:
        """Give the memory of all its processes; what they share counts once."""
        process = psutil.Process(self.process.pid)
        family = [process, *process.children(recursive=True)]
        used = 0
        for one in family:
            with suppress(psutil.NoSuchProcess):  # it has just ended
                used += int(one.memory_full_info().pss)
        return used

    def terminate(self) -> int:
        """End it as the kubelet does; gives the exit code. Too late is an error."""
        self.process.terminate()
        return self.process.wait(self.grace_s)

    def _mount_secrets(self, secrets: dict[str, dict[str, str]], folder: Path) -> None:
        folder.mkdir()
        volume = next(one for one in self.spec["volumes"] if one["name"] == "secrets")
        sources = (
            [one["secret"] for one in volume["projected"]["sources"]]
            if "projected" in volume
            else [volume["secret"]]
        )
        for source in sources:
            secret = secrets[source.get("name") or source["secretName"]]
            for item in source["items"]:
                (folder / item["path"]).write_text(secret[item["key"]])


class Watch:
    """Samples the memory of pods, all the time until the block ends; ``most_bytes`` of each."""

    def __init__(self, *pods: Pod) -> None:
        self._pods, self._is_over = pods, threading.Event()
        self.most_bytes = [0] * len(pods)
        self.samples = 0

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._is_over.wait(0.02):
            used = [pod.used_bytes() for pod in self._pods]
            self.most_bytes = list(map(max, self.most_bytes, used))
            self.samples += 1


def _bytes(quantity: str) -> int:
    found = re.fullmatch(r"(\d+)(Mi|Gi)", quantity)
    assert found, quantity
    return int(found[1]) * _UNITS[found[2]]
