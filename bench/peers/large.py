"""Large requests: an image tensor in and 1,000 scores out, as JSON and in binary.

With equal heads: to make each message anew, the client would copy the tensor with every request,
which costs it more than a head of a few lines costs anybody.
"""

from __future__ import annotations

from bench.peers.rounds import Bench, load, timed
from bench.peers.samples import instance_of
from bench.peers.system import answers_rightly
from bench.peers.told import Told
from bench.processes import ServerError

CONNECTIONS = 8
MODEL = "image"


def case_of(form: str) -> str:
    """Give the name of a case."""
    return {"json": "JSON", "binary": "binary"}[form]


def measure_large(bench: Bench) -> None:
    """Measure each form that a system has."""
    for system in bench.turns("large"):
        told = Told(models=(MODEL,), batch_size=CONNECTIONS)
        with bench.noting("large", system), system.start(told, bench.logs) as running:
            for form in system.forms:
                call = system.call(MODEL, instance_of(MODEL), form)
                if not answers_rightly(system, running.url, told.models, form):
                    raise ServerError(f"{form} is not answered")
                load(
                    running,
                    call,
                    connections=CONNECTIONS,
                    seconds=bench.plan.warm_up_s,
                    has_equal_heads=True,
                )
                seen = timed(
                    running,
                    call,
                    connections=CONNECTIONS,
                    seconds=bench.plan.seconds,
                    has_equal_heads=True,
                )
                bench.book.add("large", case_of(form), system.title, **seen)
        if "binary" not in system.forms:
            bench.book.note("large", system.title, "has no binary form over HTTP for a tensor")
