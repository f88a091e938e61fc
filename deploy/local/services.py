"""A RabbitMQ and a Redis beside any others on this machine: free ports of loopback, one folder."""

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path

from deploy.local.member import Member, StartError

DEBIANS = Path("/usr/lib/rabbitmq/bin")  # there the wrappers in PATH change the user

_LOOPBACK = "-kernel inet_dist_use_interface {127,0,0,1}"
_RABBITMQ = """\
listeners.tcp.1 = 127.0.0.1:{port}
log.file = false
log.console = true
log.console.level = warning
vm_memory_high_watermark.absolute = 1GB
disk_free_limit.absolute = 50MB
"""


def make_rabbitmq(folder: Path, port: int) -> list[Member]:
    """Give a broker, and before it the name server that it needs and would otherwise leave behind.

    Raises:
        StartError: It is not installed.
    """
    server, epmd = shutil.which("rabbitmq-server"), shutil.which("epmd")
    if (DEBIANS / "rabbitmq-server").exists():
        server = str(DEBIANS / "rabbitmq-server")
    if server is None or epmd is None:
        raise StartError("RabbitMQ is not installed: rabbitmq-server is missing")
    config = folder / "rabbitmq.conf"
    config.write_text(_RABBITMQ.format(port=port))
    epmd_port = str(free_port())
    environment = {
        **os.environ,
        "HOME": str(folder),
        "ERL_CRASH_DUMP": str(folder / "erl_crash.dump"),
        "ERL_EPMD_PORT": epmd_port,
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODENAME": "modelyard@localhost",
        "RABBITMQ_DIST_PORT": str(free_port()),
        "RABBITMQ_LOG": "warning,-color",
        "RABBITMQ_CONFIG_FILE": str(config),
        "RABBITMQ_MNESIA_BASE": str(folder / "data"),
        "RABBITMQ_LOG_BASE": str(folder / "logs"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
        "RABBITMQ_GENERATED_CONFIG_DIR": str(folder / "config"),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": _LOOPBACK,
        "RABBITMQ_CTL_ERL_ARGS": _LOOPBACK,
        # The start script becomes Erlang's virtual machine: what ends it ends the broker.
        "RUNNING_UNDER_SYSTEMD": "true",
    }
    return [
        Member(
            "epmd",
            [epmd, "-port", epmd_port, "-address", "127.0.0.1"],
            environment=environment,
            is_ready=lambda _: _answers(int(epmd_port), b"\0\1n", b""),
        ),
        Member(
            "rabbitmq",
            [server],
            environment=environment,
            is_ready=lambda _: _answers(port, b"AMQP\0\0\x09\x01", b"\x01"),
        ),
    ]


def make_redis(folder: Path, port: int) -> Member:
    """Give a Redis that keeps nothing on disk, and drops what was not used when it is full.

    Raises:
        StartError: It is not installed.
    """
    server = shutil.which("redis-server")
    if server is None:
        raise StartError("Redis is not installed: redis-server is missing")
    return Member(
        "redis",
        [
            *(server, "--bind", "127.0.0.1", "--port", str(port), "--dir", str(folder)),
            *("--save", "", "--appendonly", "no", "--loglevel", "warning"),
            *("--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru"),
        ],
        environment=os.environ,
        is_ready=lambda _: _answers(port, b"PING\r\n", b"+PONG"),
    )


def free_port() -> int:
    """Give a port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _answers(port: int, question: bytes, beginning: bytes) -> bool:
    """Say whether what listens at ``port`` answers a question as it should begin."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as probe:
            probe.sendall(question)
            return probe.recv(1024).startswith(beginning)
    except OSError:
        return False
