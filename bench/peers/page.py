"""What ``make bench-peers`` writes into ``docs/benchmarks.md``."""

from __future__ import annotations

from collections.abc import Sequence

from bench.peers import slow, small
from bench.peers.figures import MEASURES, Book, Figure
from bench.peers.goals import EMBEDDED
from bench.peers.rounds import Plan
from bench.report import align, make_table
from bench.rows import Row

SECTION = """\
## Beside other serving systems

This section is written by `make bench-peers`, all of it, from one run.

| | |
|---|---|
{about}

### What is aimed at

{goals}

### What they mean

Every system serves the same models from the same code (`bench/peers/subjects.py`) in an
environment of its own; how each is set, and why so, is in its folder in `bench/peers/`. In each
of the {rounds} rounds (one of "many", which takes long) every system is started anew, gives right
answers to two inputs, is warmed up and is measured for {seconds} s in each case; the order
changes from round to round. A figure is the median of the rounds, with the least and the
greatest. Client, servers and models share the machine. Processor time and memory are those of the
system's whole process tree; RSS counts pages that processes share in each of them, PSS only once.
**Batching off** is each system's best setting for a single connection.

**Heads**: each request has an `x-request-id` and a `traceparent` of its own, as all have that come
through a proxy; but for *equal heads*, where the client sends the same bytes every time, and large
requests, where making each anew would cost the client a copy of the tensor.

**Small**: one iris flower to a scikit-learn logistic regression. **Start**: from the command to the
first right answer, the median of {starts} starts in a round; for the cluster with RabbitMQ up
already. **Slow**: a model that sleeps, 64 connections, {slow_seconds} s; the ideal is what the
model alone answers when it is called in a loop. **Large**: a float32 tensor of 3 by 224 by 224 in,
1,000 scores out, 8 connections. **Many**: models that need nothing but Python, one of them asked.
**Mixed**: 8 connections with pauses ask the fast model while 4 keep the slow one busy, in one
server. **Overload**: twice the capacity just measured, offered at a constant rate by clients that
go away after 1 s and whose waiting counts from when they were due, sent or not. *Sent late* is the
client's own delay: where it is large, the client was the limit. **Spread**: 64 connections, 20 ms
for each instance, by number of model processes. **V2**: the Open Inference Protocol, the same bytes
for all; a flower as JSON over REST with 64 connections, and as a raw tensor over gRPC with 8
connections of 8 requests each; the image in binary over both, 8 at a time. Over gRPC (h2load) heads
are always equal. **Of Modelyard's**: answers/s beside those of Modelyard embedded in the same
round, the median.

**Where the bytes of a large tensor go.** In MessagePack: from the gateway's socket into a buffer
of the body's size (what came with the headers is copied once more); from there, as it lies, into
memory that the runner shares (a batch over 8 MiB goes through the runner's socket, which is two
copies in the kernel); and once into the model's own batch, aligned and its to write. No number is
parsed. In a cluster the broker's socket and the broker itself come between,
and the frames of 128 KiB are put together again. JSON is searched for nesting, skipped by the
gateway and parsed by the runner: 0.5, 1.1 and 7 ms for this image of 1.2 MB.

**Where the start goes.** Of a second to the first answer, 0.15 s pass before the runner is
spawned (Python, asyncio, msgspec, the client for Prometheus, which takes 0.025) and 0.08 s in what
the runner imports for itself; nearly all else is the import of scikit-learn, in every system alike.
FastAPI is imported meanwhile. What helped: to collect garbage seldom while a model loads (a tenth),
and in full only once nobody asks (60 ms). Left alone, for it is little: collecting in the parent
while it imports (8 ms).

**What a broker costs.** On two cores of an Intel Xeon, 64 connections, batches of 32, per answer:
gateway 23 µs of processor, worker 11, RabbitMQ 12, runner 5. From runs with other batches:
a message and its answer cost 980 µs whatever they hold (RabbitMQ 364, worker 254, gateway 236,
runner 125), each request 21. A pass through the idle broker and back takes 0.35 ms. So with one
connection the two passes are what is seen, and with 64 their processor time, on cores which client,
gateway, broker, worker and model share. Tried, without a gain: direct reply-to, no confirms,
confirms read late, acks gathered, one to six bundles at a time, one connection to the broker
instead of two, Erlang's busy waiting and number of schedulers, the kernel's policy for batch work.
With 512 connections bundles are full, and the costs of a message small.

{plots}

{tables}
"""


def make_section(
    book: Book,
    about: Sequence[tuple[str, str]],
    plan: Plan,
    goals: Sequence[Row],
    plots: Sequence[tuple[str, str]],
) -> str:
    """Give the section for this run; ``plots`` are titles and paths."""
    return SECTION.format(
        about="\n".join(f"| {what} | {text} |" for what, text in about),
        goals=make_table(goals) if goals else "Nothing that can be judged was measured.",
        rounds=plan.rounds,
        seconds=plan.seconds,
        slow_seconds=slow.SECONDS,
        starts=small.STARTS,
        plots="\n\n".join(f"![{title}]({path})" for title, path in plots),
        tables=make_tables(book),
    )


def make_tables(book: Book) -> str:
    """Give all tables, as Markdown."""
    cases: dict[tuple[str, str], list[Figure]] = {}
    for figure in book:
        cases.setdefault((figure.scenario, figure.case), []).append(figure)
    parts = [
        f"### {scenario.capitalize()}: {case}\n\n{_table(figures)}"
        for (scenario, case), figures in cases.items()
    ]
    if book.notes:
        lines = [f"- {scenario}: {system}: {text}" for scenario, system, text in book.notes]
        parts.append("### Not measured\n\n" + "\n".join(lines))
    return "\n\n".join(parts)


def _table(figures: list[Figure]) -> str:
    titles = {figure.measure: MEASURES[figure.measure].title for figure in figures}
    cells: dict[str, dict[str, str]] = {}
    for figure in figures:
        cells.setdefault(figure.system, {})[figure.measure] = figure.text
    rates = {figure.system: figure for figure in figures if figure.measure == "rate"}
    if len(rates) > 1 and EMBEDDED in rates:
        titles["ratio"] = "of Modelyard's"
        for system, figure in rates.items():
            ratio = figure.ratio(rates[EMBEDDED])
            cells[system]["ratio"] = "" if ratio is None else f"{ratio:.2f}"
    lines = [["system", *titles.values()]]
    lines += [[system, *(row.get(m, "") for m in titles)] for system, row in cells.items()]
    return align(lines)
