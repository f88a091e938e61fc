"""Which RabbitMQ the tests use: this machine's, or another release in a Debian of its own."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import aio_pika

T = TypeVar("T")

PROGRAMS = Path("/usr/lib/rabbitmq/bin")  # Debian's; the wrappers in PATH change the user
ROOT_VARIABLE = "MODELYARD_TEST_RABBITMQ_ROOT"
URL_VARIABLE = "MODELYARD_TEST_AMQP_URL"

# What is mounted is seen by this process and its children only, and goes with them. The test's
# folder has the same path inside, so that nobody has to know of the other root.
_ENTER = """
set -e
mount --rbind /dev "$0/dev"
mount --bind /proc "$0/proc"
mount -t tmpfs none "$0/tmp"
mkdir -p "$0$1"
mount --bind "$1" "$0$1"
shift
exec chroot "$0" "$@"
"""

# What 4.x still permits and a later one will not. Once its application has been stopped, a 4.0 that
# denies this does not start it again: it asks a table that is not there yet whether it is used.
_STRICT = """\
deprecated_features.permit.global_qos = false
deprecated_features.permit.transient_nonexcl_queues = false
"""


def strict_config() -> str:
    """Give configuration that denies what is deprecated, if the release knows how."""
    return _STRICT if ROOT_VARIABLE in os.environ else ""


def release_at(url: str) -> str:
    """Give what the broker at ``url`` says that it is, and what it runs on."""
    return "{product} {version} on {platform}".format_map(run_apart(_properties_at(url)))


def run_apart(work: Coroutine[Any, Any, T]) -> T:
    """Run it to its end in another thread: this one may be running an event loop."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


async def _properties_at(url: str) -> dict[str, Any]:
    async with await aio_pika.connect(url) as connection:
        assert connection.transport is not None
        properties = connection.transport.connection.server_properties
    return {
        name: value.decode() if isinstance(value, bytes) else value
        for name, value in properties.items()
    }


class Programs:
    """RabbitMQ's programs, for a broker that keeps everything in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        chosen = os.environ.get(ROOT_VARIABLE)
        self._root = str(Path(chosen).resolve()) if chosen else ""
        inside = Path(f"{self._root}{PROGRAMS}")
        assert (inside / "rabbitmq-server").exists(), f"install rabbitmq-server: none in {inside}"

    def command(self, program: str, *arguments: str) -> list[str]:
        """Give the command that runs ``program``."""
        path = f"/usr/bin/{program}" if program == "epmd" else f"{PROGRAMS}/{program}"
        if not self._root:
            return [path, *arguments]
        enter = ["unshare", "--mount", "sh", "-c", _ENTER, self._root, str(self._folder)]
        return [*enter, path, *arguments]
