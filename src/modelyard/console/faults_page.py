"""What the page of faults shows, of the models that a caller may see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from modelyard.console.caller import Caller
from modelyard.console.interfaces import Sources
from modelyard.console.overview import Served
from modelyard.core.messages import Member
from modelyard.core.names import Target
from modelyard.telemetry.faults import Fault

_MEANINGS = {
    "model_crashed": "poison: each runner that ran the request ended",
    "model_failed": "the model raised",
    "model_not_ready": "the model was not ready",
    "deadline_exceeded": "no answer before the deadline",
    "overloaded": "too many requests were in flight",
    "unavailable": "no capacity, or no broker",
    "invalid_input": "the input was not what the model accepts",
    "malformed": "the request could not be read",
    "rate_limited": "a key asked more than it may",
    "client_gone": "the client left before its answer",
    "cancelled": "the job was cancelled",
}
KINDS = {
    "crashed": "the runner crashed",
    "killed": "the runner was killed from outside",
    "hung": "the runner hung, and was ended",
    "cancelled": "the runner went on with a cancelled job, and was ended",
    "load_failed": "the model did not load",
    "model_failed": "the model raised",
}


class Group(NamedTuple):
    """Faults of a target that are alike.

    Attributes:
        last: The newest of them.
        first_at: When the oldest was, as Unix time, in seconds.
        times: How many there are.
        requests: Ids of all their requests, the newest first.
    """

    last: Fault
    first_at: float
    times: int
    requests: list[str]


class Problems(NamedTuple):
    """How often one problem was answered, of one target, since the start of the gateway."""

    target: Target
    code: str
    meaning: str
    times: int


class Down(NamedTuple):
    """A target that does not serve, or a part of it."""

    served: Served
    members: Sequence[Member]


def faults_of(sources: Sources, caller: Caller) -> list[Group]:
    """Return what the pools here logged, those that are alike together: the newest first."""
    groups: dict[tuple[str, str, str], list[Fault]] = {}
    for fault in sources.faults.faults():
        if caller.may_see(_model(fault)):
            is_heard = caller.may_hear(_model(fault))
            told = fault if is_heard else fault._replace(last_lines=(), how="")
            groups.setdefault((told.target, told.kind, told.how), []).append(told)
    return [
        Group(
            last=next((fault for fault in group if fault.last_lines), group[0])._replace(
                at=group[0].at
            ),
            first_at=group[-1].at,
            times=len(group),
            requests=list(dict.fromkeys(name for fault in group for name in fault.requests)),
        )
        for group in groups.values()
    ]


def problems_of(codes: Mapping[Target, Mapping[str, int]]) -> list[Problems]:
    """Return what was answered with a problem, the most first."""
    found = [
        Problems(target, code, _MEANINGS.get(code, ""), count)
        for target, counts in codes.items()
        for code, count in counts.items()
    ]
    return sorted(found, key=lambda one: -one.times)


def down(all_: Sequence[Served], sources: Sources) -> list[Down]:
    """Return what does not serve now, with the workers that say why."""
    workers = sources.workers
    found = []
    for one in all_:
        members = workers.members(one.target) if workers else []
        bad = [member for member in members if member.state != "ready"]
        if bad or one.known.state not in ("ready", "asleep"):
            found.append(Down(one, bad))
    return found


def _model(fault: Fault) -> str:
    return fault.target.partition("/")[0]
