"""``python -m tests.chaos.jobs``: jobs are submitted while everything is killed, also at once.

Gateways, workers, the broker and PostgreSQL. Each job that got its 202 has to end with one result,
the right one, and to be told of by a callback with a valid signature. See ``make chaos-jobs``.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
import threading
import time
from base64 import b64encode
from collections import Counter, defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import httpx
import sqlalchemy as sa
from standardwebhooks import Webhook

from modelyard.store.schema import open_engine
from modelyard.store.tables import JOB_RESULTS, JOBS
from tests.support.broker import Broker
from tests.support.jobs import Store
from tests.support.ledger import answer_of
from tests.support.postgres import Postgres
from tests.support.receiver import Receiver
from tests.support.server import ROOT, Member

TRICK = ROOT / "tests" / "models" / "trick_model"
GATEWAYS = WORKERS = 2
SUBMITTERS = 8
END_S = 600.0
SECRET = f"whsec_{b64encode(os.urandom(32)).decode()}"
OPEN = ("queued", "delayed", "running")


class Fleet:
    """What is killed, and started again."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._stack = stack
        self.broker = stack.enter_context(Broker(folder))
        self.postgres = stack.enter_context(Postgres())
        self.receiver = stack.enter_context(Receiver())
        store = Store(folder, database_url=self.postgres.url)
        self._settings = {
            **store.settings,
            "MODELYARD_AMQP_URL": self.broker.url,
            "MODELYARD_CALLBACK_SECRETS": SECRET,
            "MODELYARD_CALLBACK_NETWORKS": "127.0.0.0/8",
        }
        self.workers = [self._start("worker", TRICK) for _ in range(WORKERS)]
        self.gateways = [self._start("gateway") for _ in range(GATEWAYS)]
        self.killed: Counter[str] = Counter()

    def _start(self, *command: str | Path) -> Member:
        return self._stack.enter_context(Member(*command, settings=self._settings))

    def kill(self, what: str, chance: random.Random) -> None:
        """Kill something, leave it away for a moment, and start it again."""
        self.killed[what] += 1
        kill = {
            "gateway": lambda: self._kill_one(self.gateways, chance),
            "worker": lambda: self._kill_one(self.workers, chance),
            "broker": self.broker.kill,
            "database": self.postgres.kill,
        }
        chosen = list(kill) if what == "all" else [what]
        for one in chosen:
            kill[one]()
        time.sleep(chance.uniform(0.2, 3))
        start: dict[str, Callable[[], None]] = {
            "gateway": lambda: self._replace(self.gateways, "gateway"),
            "worker": lambda: self._replace(self.workers, "worker", TRICK),
            "broker": self.broker.start,
            "database": self.postgres.restart,
        }
        for one in reversed(chosen):
            start[one]()

    def _kill_one(self, members: list[Member], chance: random.Random) -> None:
        member = chance.choice(members)
        runners = member.runners()
        member.process.kill()
        member.process.wait()
        for runner in runners:
            runner.kill()

    def _replace(self, members: list[Member], *command: str | Path) -> None:
        for number, member in enumerate(members):
            if member.process.poll() is not None:
                members[number] = self._start(*command)


class Submitter:
    """Submits jobs until each is accepted."""

    def __init__(self, fleet: Fleet, chance: random.Random) -> None:
        self._fleet = fleet
        self._chance = chance
        self.statuses: Counter[int | str] = Counter()
        self.accepted: set[int] = set()

    def submit(self, nonce: int) -> None:
        """Submit one, again and again: under its own name, that is no harm."""
        body = {"model_name": "trick_model", "input_data": [{"nonce": nonce}]}
        headers = {"job-callback": f"{self._fleet.receiver.url}/200/j{nonce}"}
        while nonce not in self.accepted:
            gateway = self._chance.choice(self._fleet.gateways)
            try:
                answer = httpx.put(
                    f"{gateway.url}/jobs/j{nonce}", json=body, headers=headers, timeout=10
                )
            except httpx.TransportError as error:
                self.statuses[type(error).__name__] += 1
            else:
                self.statuses[answer.status_code] += 1
                if answer.status_code == 202:
                    self.accepted.add(nonce)
                    return
            time.sleep(self._chance.uniform(0.05, 0.5))


def main() -> int:
    """Run it; give the exit code."""
    options = _parse_arguments()
    chance = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        fleet = Fleet(Path(folder), stack)
        submitter = Submitter(fleet, random.Random(options.seed))
        began = time.monotonic()
        with ThreadPoolExecutor(SUBMITTERS) as threads:
            submitting = [threads.submit(submitter.submit, n) for n in range(options.jobs)]
            while not all(one.done() for one in submitting):
                time.sleep(chance.uniform(1, 4))
                kinds = ["gateway", "worker", "broker", "database", "all"]
                fleet.kill(chance.choice(kinds), chance)
                states = f"{len(submitter.accepted)} accepted, killed {dict(fleet.killed)}"
                print(f"{time.monotonic() - began:.0f} s: {states}", flush=True)
        for kind in ("gateway", "worker", "broker", "database", "all"):
            fleet.kill(kind, chance)
        violations = _check(fleet, submitter)
        print(f"{time.monotonic() - began:.0f} s, answers: {dict(submitter.statuses)}")
    for violation in violations[:20]:
        print(f"VIOLATION {violation}")
    print(f"{len(violations)} violations among {options.jobs} jobs")
    return 1 if violations else 0


def _check(fleet: Fleet, submitter: Submitter) -> list[str]:
    """Wait for all ends, and hold them against what was promised."""
    engine = open_engine(fleet.postgres.url)
    is_open = sa.select(sa.func.count()).where(JOBS.c.state.in_(OPEN))
    give_up = time.monotonic() + END_S
    while time.monotonic() < give_up:
        with engine.connect() as connection:
            left = connection.execute(is_open).scalar_one()
        told = {one.path for one in fleet.receiver.received}
        if not left and len(told) >= len(submitter.accepted):
            break
        threading.Event().wait(1)
    with engine.connect() as connection:
        states = {
            row.id: (row.uid, row.state)
            for row in connection.execute(sa.select(JOBS.c.id, JOBS.c.uid, JOBS.c.state))
        }
        results = {row.uid: row.content for row in connection.execute(JOB_RESULTS.select())}
    engine.dispose()
    found = []
    for nonce in sorted(submitter.accepted):
        uid, state = states.get(f"j{nonce}", ("", "lost"))
        if state != "succeeded":
            found.append(f"j{nonce} is {state}")
        elif json.loads(results.get(uid, b"null")) != [answer_of(nonce)]:
            found.append(f"j{nonce} has the result {results.get(uid)!r}")
    return found + _check_callbacks(fleet, submitter)


def _check_callbacks(fleet: Fleet, submitter: Submitter) -> list[str]:
    (secret,) = fleet.gateways[0].http.get("/callbacks/secrets").json()["secrets"]
    ids: defaultdict[str, set[str]] = defaultdict(set)
    for one in fleet.receiver.received:
        # Not ``verify``, which would find those of the run's beginning too old by now.
        sent = datetime.fromtimestamp(int(one.headers["webhook-timestamp"]), UTC)
        signed = Webhook(secret).sign(one.headers["webhook-id"], sent, one.body.decode())
        assert signed in one.headers["webhook-signature"].split()
        ids[one.path].add(one.headers["webhook-id"])
    missing = [f"j{n} was not told" for n in submitter.accepted if not ids[f"/200/j{n}"]]
    return missing + [
        f"{path} was told as {found}" for path, found in ids.items() if len(found) > 1
    ]


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.jobs")
    parser.add_argument("--jobs", type=int, default=10_000, help="how many (10000)")
    parser.add_argument("--seed", type=int, default=1, help="of what is killed, and when")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
