"""A very short chaos run, so that it does not rot; and its checks find what they are for."""

from __future__ import annotations

import json
import socketserver
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import pytest
from rich.console import Console

from tests.chaos.faults import FAULTS
from tests.chaos.ledger import Ledger
from tests.chaos.load import Door, Load
from tests.chaos.plan import make_plan
from tests.chaos.questions import Question
from tests.chaos.report import print_tables, write_files
from tests.chaos.resources import grows, is_flat
from tests.chaos.run import Run
from tests.support.raw import Answer
from tests.support.server import wait_until

SEED = 102  # of those whose faults and pauses are short
SHORT = ("kill_runner", "kill_worker", "freeze_redis", "reset_connections")


@pytest.mark.own_broker
def test_a_short_run_keeps_the_promise(tmp_path: Path) -> None:
    run = Run(SEED, tmp_path, print)
    run.carry_out(islice(make_plan(SEED, SHORT), 3))
    print_tables(run, Console())
    plot = write_files(run, tmp_path / "report")
    assert not run.ledger.violations
    assert {name for step in run.happened for name in step.name.split(" + ")} == set(SHORT)
    assert run.ledger.statuses["good"]["200"] > 0
    assert len(run.resources.samples) == 2
    assert plot.read_bytes().startswith(b"\x89PNG")
    figures = json.loads((tmp_path / "report" / f"seed-{SEED}.json").read_bytes())
    assert figures["sent"] == run.ledger.sent


def test_a_seed_tells_all_that_happens() -> None:
    first, again, other = (list(islice(make_plan(seed), 60)) for seed in (7, 7, 8))
    assert first == again
    assert first != other
    assert {planned.name for step in first for planned in step.faults} == set(FAULTS)
    assert any(len(step.faults) == 2 for step in first)


def question(role: str = "good") -> Question:
    return Question("mine", role, b"", [1, 2], 1.0)


def answer(status: int, content: object, **headers: str) -> Answer:
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, {"x-request-id": "mine", **fields}, json.dumps(content).encode())


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        (answer(200, {"prediction": [4, 7]}), None),
        (answer(200, {"prediction": [7, 4]}), "wrong"),
        (answer(200, {"prediction": [4, 7]}, x_request_id="yours"), "wrong"),
        (answer(200, {"prediction": [4, 7]}, x_request_id="nobody's"), "duplicate"),
        (Answer(200, {"x-request-id": "mine"}, b'{"prediction":[4,\xc97]}'), "wrong"),
        (answer(500, {"code": "internal"}), "status"),
        (answer(502, {"code": "model_crashed"}), "status"),
        (answer(503, {"code": "unavailable"}, retry_after="1"), None),
        (answer(503, {"code": "unavailable"}), "status"),
        (answer(504, {"code": "deadline_exceeded"}), None),
    ],
)
def test_an_answer_that_must_not_be_is_found(given: Answer, kind: str | None) -> None:
    found = question().fault_of(given, {"yours"})
    assert (found and found[0]) == kind


def test_poison_may_be_told_that_it_crashed_the_model() -> None:
    poison = question("poison")
    assert poison.fault_of(answer(502, {"code": "model_crashed"}), ()) is None
    assert poison.fault_of(answer(502, {"code": "model_failed"}), ()) is not None
    assert poison.fault_of(answer(200, {"prediction": [4, 7]}), ()) is not None


def test_a_request_without_an_outcome_is_lost() -> None:
    ledger = Ledger()
    for _ in range(2):
        ledger.ask(question())
    ledger.leave(question())
    ledger.balance()
    assert ledger.count("lost") == 1


REFUSED = (
    b'HTTP/1.1 504 -\r\nx-request-id: %b\r\ncontent-length: 26\r\n\r\n{"code":"-","detail":"-"} '
)


def load_on(answers: Callable[[bytes], bytes]) -> Ledger:
    """Let clients ask a server that says to each request what ``answers`` makes of its id."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while head := self._read_head():
                fields = dict(line.strip().split(b": ", 1) for line in head[1:-1])
                self.rfile.read(int(fields[b"content-length"]))
                if b"x-request-id" not in fields:  # the farewell
                    self.wfile.write(REFUSED % b"-")
                    return
                self.wfile.write(answer := answers(fields[b"x-request-id"]))
                if not answer.endswith(b" "):
                    return

        def _read_head(self) -> list[bytes]:
            head = []
            while line := self.rfile.readline():
                head.append(line)
                if line == b"\r\n":
                    return head
            return []

    ledger = Ledger()
    with (
        socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server,
        ThreadPoolExecutor(1) as pool,
    ):
        serving = pool.submit(server.serve_forever, 0.05)
        with Load([Door(f"http://127.0.0.1:{server.server_address[1]}")], ledger, seed=1) as load:
            load.resume()
            wait_until(lambda: ledger.statuses["good"].total() > 100, what="answers")
            load.pause()
        server.shutdown()
        serving.result()
    ledger.balance()
    return ledger


def test_answers_given_once_are_in_order() -> None:
    assert not load_on(lambda key: REFUSED % key).violations


def test_an_answer_given_twice_is_found() -> None:
    assert load_on(lambda key: REFUSED % key * 2).count("duplicate") > 0


def test_an_answer_that_breaks_off_is_lost() -> None:
    ledger = load_on(lambda key: b"HTTP/1.1 200 OK\r\n")
    assert ledger.count("lost") > 100


def test_memory_that_grows_without_end_is_told_from_warming_up() -> None:
    mib = 1 << 20
    assert grows([60 * mib + number * 4 * mib for number in range(9)])
    assert not grows([40 * mib, 55 * mib, 60 * mib, *[62 * mib] * 6])


def test_what_is_held_must_be_what_was_held_before() -> None:
    assert is_flat("worker 0: descriptors", 20, 20)
    assert not is_flat("worker 0: descriptors", 20, 21)
    assert not is_flat("broker: connections", 20, 19)
    assert is_flat("gateway 0: descriptors", 20, 36)
    assert not is_flat("gateway 0: descriptors", 20, 37)
