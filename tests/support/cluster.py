"""A cluster of a test's own: gateways and workers of ``trick_model`` around a real broker."""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx

from modelyard.core.names import Target
from modelyard.transports.amqp.topology import queue_name
from tests.e2e.conftest import TRICK
from tests.support.broker import Broker
from tests.support.server import Member, wait_until

QUEUE = queue_name(Target("trick_model", "1"), "normal")


class Cluster:
    """A gateway and any number of workers of ``trick_model`` around one broker.

    ``gateway``: one that is there already, and is not the cluster's to end.
    """

    def __init__(
        self,
        broker: Broker,
        stack: ExitStack,
        gateway: Member | None = None,
        /,
        *,
        folder: Path = TRICK,
        url: str = "",
        **more: str,
    ) -> None:
        self.broker = broker
        self._stack = stack
        self._folder = folder
        self._settings = {"MODELYARD_AMQP_URL": broker.url, **more}
        self.workers: list[Member] = []
        self.gateway = gateway or self.start_gateway(url=url)

    def start_gateway(self, *, url: str = "", stack: ExitStack | None = None) -> Member:
        """Start a gateway, with the broker at ``url`` if given, and wait until it is ready.

        It ends with the cluster, or with ``stack``.
        """
        member = Member("gateway", settings=self._with(url))
        gateway = (stack or self._stack).enter_context(member)
        wait_until(lambda: gateway.http.get("/readyz").status_code == 200, what="the gateway")
        return gateway

    def start_worker(self, *, url: str = "", folder: Path | None = None) -> Member:
        """Start a worker, with the broker at ``url`` if given, and wait until it is ready."""
        member = Member("worker", folder or self._folder, settings=self._with(url))
        worker = self._stack.enter_context(member)
        self.workers.append(worker)
        wait_until(lambda: worker.http.get("/readyz").status_code == 200, what="the worker")
        return worker

    def member(self, command: str) -> Member:
        """Give a process of the cluster; the caller starts it with ``with``."""
        return Member(command, settings=self._settings)

    def worker_of(self, folder: Path) -> Member:
        """Give a worker of another model; the caller starts it with ``with``."""
        return Member("worker", folder, settings=self._settings)

    def ask(self, nonce: int, *, timeout_s: float = 30, **trick: Any) -> httpx.Response:
        """Ask the first gateway."""
        instances = [{"nonce": nonce, **trick}]
        return self.gateway.predict("trick_model", instances, timeout_s=timeout_s)

    def wait_until_serving(self) -> None:
        """Wait until the first gateway answers again."""
        wait_until(lambda: self.ask(1, timeout_s=2).status_code == 200, what="answers again")

    def wait_for_workers(self, number: int, gateway: Member | None = None) -> None:
        """Wait until the gateway knows of so many runners."""
        asked = (gateway or self.gateway).http

        def knows() -> bool:
            found = asked.get("/models/trick_model").json().get("versions", [])
            ready = [version["capacity"]["runners_ready"] for version in found]
            return bool(ready) and sum(ready) == number

        wait_until(knows, what=f"{number} workers at the gateway")

    def _with(self, url: str) -> dict[str, str]:
        return {**self._settings, **({"MODELYARD_AMQP_URL": url} if url else {})}


def events(event: str, *members: Member) -> float:
    """How often this has happened between ``members`` and the broker."""
    return sum(m.metric("modelyard_broker_events_total", event=event) for m in members)


def sessions(member: Member) -> int:
    """How often a process has connected to the broker: two sessions when all is well."""
    return member.output.count('"broker_connected"')


def sessions_lost(member: Member) -> int:
    """How often a process has lost the broker."""
    return member.output.count('"broker_lost"')


def pings_lost(gateway: Member) -> int:
    """How often a gateway has found that its messages to itself do not come back."""
    return gateway.output.count("the self-ping did not come back")


def copy_trick(
    to: Path, *, version: str = "1", ttl_s: int = 0, max_batch_size: int = 16, offset: int = 1
) -> Path:
    """Copy ``trick_model``, changed: it answers 3 nonce + ``offset``."""
    folder = shutil.copytree(TRICK, to / f"trick_model_{version}")
    manifest, code = folder / "model.toml", folder / "src" / "model.py"
    text = manifest.read_text().replace('version = "1"', f'version = "{version}"')
    text = text.replace("ttl_s = 0", f"ttl_s = {ttl_s}")
    manifest.write_text(text.replace("batch_size = 16", f"batch_size = {max_batch_size}"))
    code.write_text(code.read_text().replace("nonce * 3 + 1", f"nonce * 3 + {offset}"))
    return folder
