"""Asks a gateway all the time while its broker goes away and comes back, and judges every answer.

    outage.py URL --stop COMMAND --start COMMAND [--away SECONDS]

It asks over fresh connections and over kept ones, for what the cache knows and for what it cannot
know. No connection may be refused or cut. What is cached stays 200. The rest is a right 200, or a
503 with Retry-After; soon after the broker is back it is a 200 again. It needs Python alone.
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import urlsplit

MODEL = "fast_iris_model"
CACHED = [[5.1, 3.5, 1.4, 0.2]]
TIMEOUT_S = 5  # what a request may take, so that some reach their deadline while the broker is away
CLIENTS = 4  # of each kind


@dataclass
class Ledger:
    """What came back. ``wrong`` explains each answer that breaks a promise."""

    answers: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    predicted_at: list[float] = field(default_factory=list)
    """When answers came that no cache knew."""


class Asker(threading.Thread):
    """One client. ``is_kept``: its connection; ``is_cached``: it always asks the same."""

    def __init__(self, url: str, ledger: Ledger, *, is_kept: bool, is_cached: bool) -> None:
        kind = f"{'kept' if is_kept else 'fresh'}, {'cached' if is_cached else 'uncached'}"
        super().__init__(name=kind)
        parts = urlsplit(url)
        self._connection = http.client.HTTPConnection(
            parts.hostname or "", parts.port or 80, timeout=TIMEOUT_S + 5
        )
        self._ledger, self._is_kept, self._is_cached = ledger, is_kept, is_cached
        self.is_over = threading.Event()

    def run(self) -> None:
        """Ask until it is over."""
        while not self.is_over.wait(0.05):
            if not self._is_kept:
                self._connection.close()
            rows = CACHED if self._is_cached else [[random.uniform(4, 8) for _ in range(4)]]
            try:
                said, problem = self._ask(rows)
            except (OSError, http.client.HTTPException) as error:
                said, problem = type(error).__name__, f"no answer: {error!r}"
                self._connection.close()
            self._ledger.answers[f"{self.name}: {said}"] += 1
            if problem:
                self._ledger.wrong.append(f"{self.name}: {problem}")

    def _ask(self, rows: list[list[float]]) -> tuple[str, str]:
        """Give what came, and what is wrong with it: nothing if that is empty."""
        body = {"model_name": MODEL, "input_data": rows, "timeout_s": TIMEOUT_S}
        headers = {"content-type": "application/json"}
        self._connection.request("POST", "/predict", json.dumps(body), headers)
        response = self._connection.getresponse()
        text = response.read()
        if response.status == 200:
            prediction = json.loads(text)["prediction"]
            is_right = prediction == [0] if self._is_cached else prediction in ([0], [1], [2])
            if is_right and not self._is_cached:
                self._ledger.predicted_at.append(time.monotonic())
            return "200", "" if is_right else f"a wrong answer: {text!r}"
        said = f"{response.status}"
        if self._is_cached:
            return said, f"{said} for what the cache knows"
        if response.status != 503 or not response.headers["Retry-After"]:
            return said, f"{said}, which is no 503 with Retry-After"
        return said, ""


class Outage(NamedTuple):
    """``stop`` and ``start`` are commands; ``start`` ends when the broker is back."""

    stop: str
    start: str
    away_s: float
    around_s: float
    within_s: float


def watch(url: str, outage: Outage) -> Ledger:
    """Take the broker away under load and bring it back; give what was seen."""
    ledger = Ledger()
    kinds = [(is_kept, is_cached) for is_kept in (False, True) for is_cached in (False, True)]
    askers = [
        Asker(url, ledger, is_kept=is_kept, is_cached=is_cached)
        for is_kept, is_cached in kinds * CLIENTS
    ]
    for asker in askers:
        asker.start()
    try:
        time.sleep(outage.around_s)
        subprocess.run(outage.stop, shell=True, check=True)
        time.sleep(outage.away_s)
        subprocess.run(outage.start, shell=True, check=True)
        back_at = time.monotonic()
        while ledger.predicted_at[-1:] < [back_at] and time.monotonic() < back_at + outage.within_s:
            time.sleep(0.05)
        took_s = time.monotonic() - back_at
        time.sleep(outage.around_s)
    finally:
        for asker in askers:
            asker.is_over.set()
        for asker in askers:
            asker.join()
    if took_s < outage.within_s:
        print(f"serving again after {took_s:.1f} s")
    else:
        ledger.wrong.append(f"not serving again {outage.within_s:g} s after the broker is back")
    return ledger


def main() -> None:
    """Print what came back; fail if anything of it was wrong."""
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("--stop", required=True, help="takes the broker away")
    parser.add_argument("--start", required=True, help="brings it back, and ends when it is")
    parser.add_argument("--away", type=float, default=60, help="seconds between the two")
    parser.add_argument("--around", type=float, default=5, help="seconds of load before and after")
    parser.add_argument("--within", type=float, default=5, help="seconds until it serves again")
    given = parser.parse_args()
    outage = Outage(given.stop, given.start, given.away, given.around, given.within)
    ledger = watch(given.url, outage)
    for kind, number in sorted(ledger.answers.items()):
        print(f"{number:6} {kind}")
    for problem, number in Counter(ledger.wrong).most_common(20):
        print(f"{number:6} times {problem}", file=sys.stderr)
    sys.exit(1 if ledger.wrong else 0)


if __name__ == "__main__":
    main()
