"""Load over gRPC: one run of h2load, which sends the same message again and again."""

from __future__ import annotations

import re
import resource
import statistics
import subprocess
import tempfile
from pathlib import Path

from bench.load import LoadError, Seen

METHOD = "/inference.GRPCInferenceService/ModelInfer"
HEADERS = {"content-type": "application/grpc", "te": "trailers"}
_FIGURES = re.compile(
    r"^finished in (?P<seconds>[\d.]+)s.*^requests: .* (?P<answers>\d+) succeeded, "
    r"(?P<failed>\d+) failed, (?P<errored>\d+) errored, (?P<timeout>\d+) timeout"
    r".*^traffic: .* \((?P<data_bytes>\d+)\) data",
    re.MULTILINE | re.DOTALL,
)


def frame(message: bytes) -> bytes:
    """Give a message as gRPC sends it: whether it is compressed, its length, itself."""
    return b"\0" + len(message).to_bytes(4, "big") + message


def run_grpc_load(
    address: str,
    message: bytes,
    *,
    answer_bytes: int,
    connections: int,
    streams: int,
    seconds: float,
) -> Seen:
    """Send ``message`` over ``connections``, each with ``streams`` requests under way.

    All requests have the same headers, of which HPACK sends little but the first time.

    Args:
        address: Host and port.
        message: The request, serialized.
        answer_bytes: How long a right answer is. gRPC says in a trailer that a call failed, which
            h2load does not read; but such an answer has no message.
        connections: How many there are.
        streams: Of each connection.
        seconds: How long.

    Raises:
        LoadError: There is nothing to report.
    """
    with tempfile.TemporaryDirectory() as folder:
        body, log = Path(folder, "body"), Path(folder, "log")
        body.write_bytes(frame(message))
        command = ["h2load", "--threads", "1", "--clients", str(connections)]
        command += ["--max-concurrent-streams", str(streams), "--duration", str(round(seconds))]
        command += ["--data", str(body), "--log-file", str(log)]
        for name, text in HEADERS.items():
            command += ["--header", f"{name}: {text}"]
        before = _children_cpu_s()
        try:
            done = subprocess.run(
                [*command, f"http://{address}{METHOD}"],
                capture_output=True,
                text=True,
                timeout=seconds + 30,
                check=True,
            )
        except FileNotFoundError as error:
            raise LoadError("h2load is not installed; `make bench-peers` does that") from error
        except subprocess.SubprocessError as error:
            raise LoadError(f"h2load failed: {error}") from error
        lines = log.read_text(encoding="utf-8").splitlines()
    delays_ms = [int(line.split("\t")[2]) / 1e3 for line in lines]
    return read_figures(done.stdout, delays_ms, len(frame(b"")) + answer_bytes)._replace(
        client_cpu_s=_children_cpu_s() - before
    )


def read_figures(said: str, delays_ms: list[float], answer_bytes: int) -> Seen:
    """Give what one run saw, from what h2load said and logged.

    Raises:
        LoadError: It said or logged nothing that can be read.
    """
    found = _FIGURES.search(said)
    if not found or len(delays_ms) < 2:
        raise LoadError(f"h2load gave no figures:\n{said}")
    answers = int(found["answers"])
    percentiles = statistics.quantiles(delays_ms, n=100, method="inclusive")
    return Seen(
        answers=answers,
        duration_s=float(found["seconds"]),
        p50_ms=percentiles[49],
        p99_ms=percentiles[98],
        max_ms=max(delays_ms),
        unexpected=max(0, answers - int(found["data_bytes"]) // answer_bytes),
        socket_errors=sum(int(found[name]) for name in ("failed", "errored", "timeout")),
        client_cpu_s=0,
    )


def _children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
