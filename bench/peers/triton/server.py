"""Triton: writes a model repository and its Python backend, then becomes ``tritonserver``.

The program is the one in PyTriton's wheel; of PyTriton's own Python nothing is used.
"""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from pathlib import Path

from bench.peers.subjects import IMAGE_SHAPE, SCORES
from bench.peers.told import Told, read_port, read_told

CONFIG = """\
backend: "python"
max_batch_size: {batch_size}
input [{{ name: "input", data_type: {given}, dims: {shape} }}]
output [{{ name: "output", data_type: {answered}, dims: {answer_shape} }}]
instance_group [{{ count: {runners}, kind: KIND_CPU }}]
"""
BATCHING = """\
dynamic_batching {{ {policy} }}
"""
POLICY = "default_queue_policy {{ default_timeout_microseconds: {us}, max_queue_size: {queue} }}"
FLAT = ("TYPE_FP64", [4])
TENSORS = {
    "iris": (*FLAT, "TYPE_INT64", [1]),
    "image": ("TYPE_FP32", list(IMAGE_SHAPE), "TYPE_FP32", [SCORES]),
}


def main() -> None:
    """Write what Triton starts from, and start it."""
    told = read_told()
    wheel = Path(sysconfig.get_path("platlib"), "pytriton")
    folder = Path(sys.prefix, "settings")  # in its own environment, where nobody else looks
    shutil.rmtree(folder, ignore_errors=True)
    _write_backend(wheel / "tritonserver", folder / "backends" / "python")
    for model in told.models:
        _write_model(model, told, folder / "models" / model)
    program = str(wheel / "tritonserver" / "bin" / "tritonserver")
    os.execve(program, [program, *_arguments(folder, told.grpc_port)], _environment(wheel.parent))


def _write_backend(triton: Path, folder: Path) -> None:
    """Put the backend together, with the stub for this Python."""
    shutil.copytree(triton / "backends" / "python", folder)
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = triton / "python_backend_stubs" / version / "triton_python_backend_stub"
    shutil.copy(stub, folder)


def _write_model(model: str, told: Told, folder: Path) -> None:
    given, shape, answered, answer_shape = TENSORS.get(model, (*FLAT, *FLAT))
    config = CONFIG.format(
        batch_size=told.batch_size,
        given=given,
        shape=shape,
        answered=answered,
        answer_shape=answer_shape,
        runners=told.runners,
    )
    # Only where asked for: with a policy, this release waits half a second now and then.
    policy = POLICY.format(us=round(told.timeout_s * 1e6), queue=told.queue) if told.queue else ""
    if told.batch_size > 1 or policy:
        config += BATCHING.format(policy=policy)
    (folder / "1").mkdir(parents=True)
    (folder / "config.pbtxt").write_text(config, encoding="utf-8")
    shutil.copy(Path(__file__).with_name("model.py"), folder / "1")


def _arguments(folder: Path, grpc_port: int) -> list[str]:
    settings = {
        "model-repository": folder / "models",
        "backend-directory": folder / "backends",
        "http-address": "127.0.0.1",
        "http-port": read_port(),
        "allow-grpc": "false",
        "allow-metrics": "false",
        "log-info": "false",
    }
    if grpc_port:
        settings |= {"allow-grpc": "true", "grpc-address": "127.0.0.1", "grpc-port": grpc_port}
    return [f"--{name}={value}" for name, value in settings.items()]


def _environment(packages: Path) -> dict[str, str]:
    """Let the stub find its libraries, Python's own, and by the path what is installed here."""
    libraries = [str(packages / "nvidia_pytriton.libs"), sysconfig.get_config_var("LIBDIR")]
    return {
        **os.environ,
        "LD_LIBRARY_PATH": os.pathsep.join(libraries),
        "PATH": os.pathsep.join([str(Path(sys.prefix, "bin")), os.environ["PATH"]]),
    }


if __name__ == "__main__":
    main()
