"""``python -m modelyard.runner``: read a batch, call the model, write the answers.

Started by a pool (``pool/runner_process.py``) with one end of a socket pair. It ends on a ``Stop``
message, when the socket closes, and when its parent dies: then the kernel kills it.

Path of a request: ``_serve`` reads the ``Batch`` that ``pool/runner_process.py`` wrote to the
socket, calls ``HostedModel.answer`` (``host.py``), and writes the ``Answers`` back.
"""

from __future__ import annotations

import argparse
import ctypes
import faulthandler
import gc
import logging
import os
import select
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, cast

from setproctitle import setproctitle

from modelyard.core.messages import (
    FRAME_HEADER_BYTES,
    Batch,
    Leave,
    LoadFailed,
    Ready,
    Stop,
    encode_frame,
    to_runner,
)
from modelyard.core.spans import RUNNER_TRACES
from modelyard.core.trail import CALL_KEY, GATEWAY_URL
from modelyard.runner.host import Gateway, HostedModel
from modelyard.runner.loading import LoadError, foreign_cause
from modelyard.runner.logs import report_to_owner
from modelyard.runner.metering import Metering
from modelyard.runner.reports import Reports
from modelyard.runner.shared_batches import SharedBatches

if TYPE_CHECKING:
    from modelyard.tracing.exporting import Where

log = logging.getLogger("modelyard.runner")

_PR_SET_PDEATHSIG = 1  # prctl(2)
_IDLE_MS = 500


def main() -> None:
    """Host the model in the given folder, for the process at the other end of the socket."""
    arguments = _parse_arguments()
    _die_with(arguments.parent)
    faulthandler.enable()  # so that the last lines before a crash say where it happened
    report_to_owner()
    channel = socket.socket(fileno=arguments.fd[0])
    for fd in arguments.fd:
        os.set_inheritable(fd, False)
    folder = Path(arguments.folder)
    try:
        setproctitle(f"modelyard: runner {arguments.name} {arguments.version}")
        hosted, ready = _open(
            folder, shows_errors=arguments.show_errors, is_signed=arguments.signed
        )
    except LoadError as error:
        log.error("the model cannot be served: %s", error, exc_info=foreign_cause(error))
        told = "" if arguments.show_errors else error.told
        channel.sendall(encode_frame(LoadFailed(str(error), told)))
        sys.exit(1)
    if traces := os.environ.pop(RUNNER_TRACES, ""):
        _trace(hosted, traces, name=arguments.name, version=arguments.version)
    channel.sendall(encode_frame(ready))
    if hosted.is_concurrent:
        from modelyard.runner.concurrent.serving import serve

        serve(channel, hosted, tidy_up=_tidy_up)
    else:
        hosted.report_by(Reports(channel))
        metering = Metering(hosted.metrics, channel)
        _serve(channel, hosted, SharedBatches(*arguments.fd[1:]), metering)
        hosted.unload()
        metering.tell_last()


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="modelyard.runner")
    parser.add_argument("--fd", type=int, nargs="+", required=True)  # socket, shared memory
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--version", required=True)
    parser.add_argument("--show-errors", action="store_true")
    parser.add_argument("--signed", action="store_true")
    parser.add_argument("folder")
    return parser.parse_args()


def _open(folder: Path, *, shows_errors: bool, is_signed: bool) -> tuple[HostedModel, Ready]:
    usual, loading = gc.get_threshold(), (50_000, 20, 100)
    gc.set_threshold(*loading)  # scanning every new module repeatedly takes 10 % of loading
    # Not for the processes that the model starts, nor for its eyes.
    gateway = Gateway(os.environ.pop(GATEWAY_URL, ""), os.environ.pop(CALL_KEY, ""))
    hosted = HostedModel.open(
        folder, shows_errors=shows_errors, is_signed=is_signed, gateway=gateway
    )
    ready = hosted.warm_up()
    if gc.get_threshold() == loading:  # unless the model has set its own
        gc.set_threshold(*usual)
    gc.freeze()  # loaded modules stay, so the collector need not scan them again
    return hosted, ready


def _trace(hosted: HostedModel, told: str, *, name: str, version: str) -> None:
    where, _, url = told.partition(" ")
    try:
        from modelyard.runner.spans import RunnerSpans
    except ImportError:  # in an environment of its own
        log.warning("no spans of the runner: opentelemetry-sdk is not installed where it runs")
        return
    hosted.trace(RunnerSpans(cast("Where", where), url, name=name, version=version))


def _serve(
    channel: socket.socket, hosted: HostedModel, shared: SharedBatches, metering: Metering
) -> None:
    metrics = hosted.metrics
    incoming = select.poll()  # select(2) is limited to file descriptors below 1024
    incoming.register(channel, select.POLLIN)
    is_tidy = False
    while True:
        while (not is_tidy or metrics.is_used) and not incoming.poll(_IDLE_MS):
            if not is_tidy:
                _tidy_up()
                is_tidy = True
            metering.tell()
        if (frame := _read_frame(channel)) is None:
            break
        message = to_runner.decode(frame)
        if not isinstance(message, Batch):
            if isinstance(message, Stop):
                break
            if isinstance(message, Leave):
                continue  # it has ended in the meantime
            message = shared.read(message, is_copied=not hosted.contract.takes_arrays)
        answers = hosted.answer(message.inputs, message.forms, message.deadlines, message.origins)
        channel.sendall(encode_frame(answers))
        if metrics.has_news:
            metering.tell_in_time()


def _tidy_up() -> None:
    """Collect the cyclic garbage that loading left behind. With scikit-learn this takes 60 ms, 5 %
    of the time to the first answer, so it waits until the runner is idle.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()


def _read_frame(channel: socket.socket) -> memoryview | None:
    """Read one message, or None when the other side has closed."""
    header = _read_exactly(channel, FRAME_HEADER_BYTES)
    return None if header is None else _read_exactly(channel, int.from_bytes(header, "big"))


def _read_exactly(channel: socket.socket, size: int) -> memoryview | None:
    """Read ``size`` bytes, or return None if the stream ends before that."""
    pieces = [channel.recv(size, socket.MSG_WAITALL)]
    left = size - len(pieces[0])
    while left and pieces[-1]:  # interrupted by a signal
        pieces.append(channel.recv(left, socket.MSG_WAITALL))
        left -= len(pieces[-1])
    return None if left else memoryview(pieces[0] if len(pieces) == 1 else b"".join(pieces))


def _die_with(parent: int) -> None:
    """Have the kernel kill this process when its parent dies, even in the middle of a call."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(1)


if __name__ == "__main__":
    main()
