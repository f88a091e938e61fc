"""The members of the cluster, in the order in which they start; they end in the opposite one."""

from __future__ import annotations

import json
import os
import sys
import time
import urllib.error
import urllib.request
from functools import partial
from pathlib import Path
from typing import Any

from deploy.local.member import Member, StartError, say
from deploy.local.services import free_port, make_rabbitmq, make_redis
from modelyard.core.manifest import Manifest

OURS = "cluster"
MODELYARD = str(Path(sys.executable).with_name("modelyard"))
READY_WITHIN_S = 120.0
GRACE_S = 40.0  # more than a process takes for draining, unless it is told otherwise
STARTING_GRACE_S = 5.0  # what has not been ready yet has nothing to lose


class Stopped(Exception):
    """It was time to end before all had started."""


class Stop:
    """Whether it is time to end.

    Not an event: a signal's handler that sets one waits for ever for a lock that is held by what
    the signal has interrupted, be it another signal's handler.
    """

    def __init__(self) -> None:
        self._is_asked = False

    def ask(self, *_: object) -> None:
        """Handle a signal."""
        self._is_asked = True

    def wait(self, seconds: float) -> bool:
        """Wait, and say whether it is time to end."""
        if not self._is_asked:
            time.sleep(seconds)
        return self._is_asked


class Cluster:
    """Starts members, watches them, ends them.

    Args:
        folder: For all that they write.
        stop: Says when it is time to end.
    """

    def __init__(self, folder: Path, stop: Stop) -> None:
        self._folder = folder
        self._stop = stop
        self._stages: list[list[Member]] = []
        amqp_port, self._redis_port = free_port(), free_port()
        self._amqp_port = amqp_port
        self.settings = {
            "MODELYARD_AMQP_URL": f"amqp://guest:guest@127.0.0.1:{amqp_port}/",
            "MODELYARD_REDIS_URL": f"redis://127.0.0.1:{self._redis_port}/0",
        }

    def start(self, models: dict[Path, Manifest], *, host: str, ports: list[int]) -> list[str]:
        """Start everything; gives the addresses of the gateways.

        Raises:
            StartError: A member is missing, has ended, or takes too long.
            Stopped: It is time to end.
        """
        redis = make_redis(self._folder, self._redis_port)
        epmd, rabbitmq = make_rabbitmq(self._folder, self._amqp_port)
        ports = [port or free_port() for port in ports]
        self.settings["MODELYARD_GATEWAY_URL"] = f"http://{host}:{ports[0]}"
        environment = {"MODELYARD_LOG_FORMAT": "text", **os.environ, **self.settings}
        workers = [
            Member(
                f"worker {manifest.target}",
                [MODELYARD, "worker", str(folder), "--host", "127.0.0.1", "--port", "0"],
                environment=environment,
                is_ready=is_ready,
            )
            for folder, manifest in models.items()
        ]
        served = {str(manifest.target) for manifest in models.values()}
        gateways = [
            Member(
                f"gateway {number}",
                [MODELYARD, "gateway", "--host", host, "--port", str(port)],
                environment=environment,
                is_ready=partial(is_ready, served=served),
            )
            for number, port in enumerate(ports, start=1)
        ]
        for stage in ([epmd], [rabbitmq, redis], workers, gateways):
            self._start(stage)
        return [gateway.address for gateway in gateways]

    def watch(self) -> None:
        """Tell of members that end, until it is time to end them all."""
        running = self._members()
        while not self._stop.wait(0.2):
            for member in [member for member in running if member.has_ended]:
                member.reap()
                say(OURS, f"{member.name} has ended; the others go on")
                running.remove(member)

    def end(self) -> None:
        """End all members: first those that ask, last those that are asked."""
        while self._stages:
            stage = self._stages.pop()
            for member in stage:
                member.ask_to_end()
            is_complete = all(member.was_ready for member in stage)
            give_up = time.monotonic() + (GRACE_S if is_complete else STARTING_GRACE_S)
            while time.monotonic() < give_up and not all(member.has_ended for member in stage):
                time.sleep(0.05)
            for member in stage:
                if not member.has_ended:
                    say(OURS, f"{member.name} did not end when asked, and is killed")
                member.reap()

    def _members(self) -> list[Member]:
        return [member for stage in self._stages for member in stage]

    def _start(self, stage: list[Member]) -> None:
        self._stages.append(stage)
        for member in stage:
            member.start()
        waiting, give_up = stage, time.monotonic() + READY_WITHIN_S
        while waiting := [member for member in waiting if not member.is_ready]:
            for member in self._members():
                if member.has_ended:
                    text = member.last_lines()
                    raise StartError(f"{member.name} ended while it started, and said:\n{text}")
            if time.monotonic() > give_up:
                names = ", ".join(member.name for member in waiting)
                raise StartError(f"not ready after {READY_WITHIN_S:.0f} s: {names}")
            if self._stop.wait(0.1):
                raise Stopped


def is_ready(member: Member, served: set[str] | None = None) -> bool:
    """Say whether a Modelyard process is ready, and serves at least these models."""
    said = ask(member.address, "/readyz") if member.address else {}
    models = said.get("models", {})
    if said.get("status") == "failed":
        raise StartError(f"{member.name}: {', '.join(models.values())}")
    return said.get("status") in ("ready", "degraded") and all(
        models.get(model) == "ready" for model in served or ()
    )


def ask(url: str, path: str) -> dict[str, Any]:
    """Give what a Modelyard process says of itself; nothing if it is not there."""
    try:
        with urllib.request.urlopen(url + path, timeout=5) as answer:
            found: dict[str, Any] = json.load(answer)
    except urllib.error.HTTPError as refusal:
        found = json.load(refusal)
    except OSError:
        return {}
    return found
