"""What the clients ask, and what may be answered: most ask well, some are poison, hang or leave."""

from __future__ import annotations

import json
from collections.abc import Callable, Container
from itertools import count
from random import Random
from typing import Any, NamedTuple

from tests.support.ledger import MODEL, answer_of
from tests.support.raw import Answer, request_bytes

HOT = 20  # nonces that are asked again and again, so that the cache has something to give
HOT_SHARE = 0.2


class Question(NamedTuple):
    """One request. ``stays_s``: how long the client waits, None for as long as it takes."""

    id: str
    role: str
    body: bytes
    nonces: list[int]
    timeout_s: float
    stays_s: float | None = None

    @property
    def request(self) -> bytes:
        """The bytes to send."""
        return request_bytes(self.body, f"x-request-id: {self.id}")

    def fault_of(self, answer: Answer, waiting: Container[str | None]) -> tuple[str, str] | None:
        """Tell what is wrong with an answer, and why.

        Gives ``wrong``, ``status``, or ``duplicate`` if it is to none of those ``waiting``.
        """
        whose = answer.headers.get("x-request-id")
        if whose != self.id:
            return "wrong" if whose in waiting else "duplicate", f"the answer to {whose}"
        if answer.status not in ALLOWED[self.role]:
            return "status", f"{answer.status} {answer.body[:300]!r}"
        try:
            content = answer.json["prediction" if answer.status == 200 else "code"]
        except (ValueError, KeyError, TypeError):
            return "wrong", f"{answer.status} {answer.body[:300]!r}"
        if answer.status == 200:
            expected = [answer_of(nonce) for nonce in self.nonces]
            return None if content == expected else ("wrong", f"{content} for {expected}")
        is_clear = content == "model_crashed" if answer.status == 502 else True
        is_clear &= answer.status != 503 or "retry-after" in answer.headers
        return None if is_clear else ("status", f"{answer.status} {content} {answer.headers}")


class Role(NamedTuple):
    """What ``clients`` clients do: ask, wait for the answer, pause."""

    name: str
    clients: int
    pause_s: tuple[float, float]
    make: Callable[[Random], dict[str, Any]]


ALLOWED = {
    "good": {200, 503, 504},
    "leaving": {200, 503, 504},
    "poison": {502, 503, 504},
    "hung": {503, 504},
}

_nonces = count(1000)
_ids = count(1)


def _good(random: Random) -> dict[str, Any]:
    if random.random() < HOT_SHARE:
        return {"instances": [{"nonce": random.randrange(HOT)}]}
    instances: list[dict[str, Any]] = [
        {"nonce": next(_nonces)} for _ in range(random.choice((1, 1, 1, 4)))
    ]
    if random.random() < 0.05:
        instances[0] |= {"act": "work", "seconds": 0.02}
    return {"instances": instances}


def _leaving(random: Random) -> dict[str, Any]:
    instance = {"nonce": next(_nonces), "act": "work", "seconds": 0.01}
    return {"instances": [instance], "stays_s": random.uniform(0, 0.03)}


def _poison(_: Random) -> dict[str, Any]:
    return {"instances": [{"nonce": next(_nonces), "act": "exit"}]}


def _hung(_: Random) -> dict[str, Any]:
    return {"instances": [{"nonce": next(_nonces), "act": "hang"}], "timeout_s": 1.0}


ROLES = (
    Role("good", 60, (0.1, 0.4), _good),
    Role("leaving", 2, (0.2, 1.0), _leaving),
    Role("poison", 1, (5.0, 15.0), _poison),
    Role("hung", 1, (10.0, 20.0), _hung),
)


def make_question(role: Role, random: Random) -> Question:
    """Give the next request of a client."""
    made = role.make(random)
    timeout_s = made.get("timeout_s") or random.choice((3.0, 6.0, 12.0))
    instances = made["instances"]
    body = {"model_name": MODEL, "input_data": instances, "timeout_s": timeout_s}
    return Question(
        f"{role.name}-{next(_ids)}",
        role.name,
        json.dumps(body).encode(),
        [instance["nonce"] for instance in instances],
        timeout_s,
        made.get("stays_s"),
    )
