"""The Open Inference Protocol V2, REST and gRPC: one flower as JSON or raw, an image in binary.

Every system gets the same bytes. Of REST, small requests have heads that differ, large ones equal
heads (see ``large``). Over gRPC heads are always equal: h2load knows no others.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from bench.grpcload import run_grpc_load
from bench.load import Seen
from bench.peers.open_inference import rest_call
from bench.peers.open_inference_grpc import checked_answer, request_message
from bench.peers.rounds import Bench, figures_of, load
from bench.peers.samples import instance_of
from bench.peers.system import Call, Running, System, answers_rightly
from bench.peers.told import Told
from bench.processes import ServerError, free_port

LARGE, SMALL = "image", "iris"


class Case(NamedTuple):
    """What is asked, and how.

    Attributes:
        title: What the report calls it.
        model: Of ``subjects``.
        form: One of ``System.v2``.
        connections: How many.
        streams: Requests under way on each connection; of REST there is one.
    """

    title: str
    model: str
    form: str
    connections: int
    streams: int = 1


CASES = (
    Case("REST, JSON, one flower", SMALL, "json", 64),
    Case("gRPC, one flower", SMALL, "grpc", 8, streams=8),
    Case("REST, binary, image", LARGE, "binary", 8),
    Case("gRPC, image", LARGE, "grpc", 8),
)
BATCH_SIZES = {SMALL: 64, LARGE: 8}


def measure_v2(bench: Bench) -> None:
    """Measure what each system speaks; each model in a server of its own."""
    for system in bench.turns("v2"):
        for model, batch_size in BATCH_SIZES.items():
            told = Told(models=(model,), batch_size=batch_size, grpc_port=free_port())
            cases = [case for case in CASES if case.model == model and case.form in system.v2]
            with bench.noting("v2", system), system.start(told, bench.logs) as running:
                for case in cases:
                    with bench.noting("v2", system):
                        _measure(bench, system, case, running, told.grpc_port)
        for case in CASES:
            if case.form not in system.v2:
                bench.book.note("v2", system.title, f"does not speak it: {case.title}")


def _measure(bench: Bench, system: System, case: Case, running: Running, grpc_port: int) -> None:
    make = _rest if case.form != "grpc" else _grpc
    send = make(system.name, case, running, f"127.0.0.1:{grpc_port}")
    send(bench.plan.warm_up_s)
    figures = figures_of(running, lambda: send(bench.plan.seconds))
    bench.book.add("v2", case.title, system.title, **figures)


class _ByV2(NamedTuple):
    """A system that is asked by V2 where its own form may be another."""

    name: str

    def call(self, model: str, instance: Any, form: str = "json") -> Call:
        return rest_call(model, instance, form)


def _rest(name: str, case: Case, running: Running, _: str) -> Callable[[int], Seen]:
    if not answers_rightly(_ByV2(name), running.url, [case.model], case.form):
        raise ServerError(f"{case.title}: not answered")
    call = rest_call(case.model, instance_of(case.model), case.form)
    return lambda seconds: load(
        running,
        call,
        connections=case.connections,
        seconds=seconds,
        has_equal_heads=case.model == LARGE,
    )


def _grpc(name: str, case: Case, _: Running, address: str) -> Callable[[int], Seen]:
    answer = checked_answer(name, address, case.model)
    message = request_message(case.model, instance_of(case.model))
    return lambda seconds: run_grpc_load(
        address,
        message,
        answer_bytes=len(answer),
        connections=case.connections,
        streams=case.streams,
        seconds=seconds,
    )
