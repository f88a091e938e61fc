"""Tries a request: it is asked as any client would, with the limits of who is signed in."""

from __future__ import annotations

import asyncio
import json
import time
from typing import NamedTuple

import msgspec
from fastapi import Request

from modelyard.console.interfaces import Sources
from modelyard.console.model_page import Part, parts_of
from modelyard.core.names import Target
from modelyard.gateway.guard import credential_from, host_of
from modelyard.gateway.heads import Plan
from modelyard.telemetry.readings import BATCHES, MODEL_S, QUEUE_S, QUEUED, Reading

LONGEST_SHOWN = 20_000  # characters of an answer


class Tried(NamedTuple):
    """What came of it.

    Attributes:
        is_ok: Whether there is a prediction.
        status: Of HTTP.
        text: The prediction, or the problem, as JSON.
        version: Which answered; empty if none did.
        cache: How the cache served it.
        request_id: For logs and traces.
        seconds: In the gateway.
        parts: Where they went; none if that is not known.
        asked: What was sent, as JSON.
    """

    is_ok: bool
    status: int
    text: str
    version: str
    cache: str
    request_id: str
    seconds: float
    parts: list[Part]
    asked: str


async def try_out(
    sources: Sources,
    request: Request,
    target: Target,
    instances: list[object],
    *,
    is_bypass: bool,
) -> Tried:
    """Ask a version, and wait for what it says."""
    body = {
        "model_name": target.name,
        "model_version": target.version,
        "input_data": instances,
    }
    credential = b"" if sources.gate is None else credential_from(sources.gate, request)
    plan = Plan("json", is_bypass=is_bypass, coding="", credential=credential)
    answered: asyncio.Future[tuple[bytes, bytes]] = asyncio.get_running_loop().create_future()

    def respond(head: bytes, answer: bytes) -> None:
        if not answered.done():
            answered.set_result((head, answer))

    before = await _read(sources, target)
    began = time.perf_counter()
    sent = msgspec.json.encode(body)
    sources.predictions.begin(plan, sent, respond, given=None, host=host_of(request))
    head, answer = await answered
    took_s = time.perf_counter() - began
    parts = _parts(before, await _read(sources, target), took_s)
    return _tell(head, answer, took_s, parts, json.dumps(instances, ensure_ascii=False))


async def _read(sources: Sources, target: Target) -> Reading | None:
    return (await asyncio.to_thread(sources.readings.read)).get(target)


def _parts(before: Reading | None, after: Reading | None, took_s: float) -> list[Part]:
    """Return where the time went, if just this request reached a pool here meanwhile."""
    if after is None:
        return []
    queued, batches, queue_s, model_s = (
        after[index] - (before[index] if before else 0.0)
        for index in (QUEUED, BATCHES, QUEUE_S, MODEL_S)
    )
    if queued != 1 or batches != 1:
        return []
    rest_s = max(0.0, took_s - queue_s - model_s)
    return parts_of(queue_s=queue_s, model_s=model_s, rest_s=rest_s)


def _tell(head: bytes, answer: bytes, took_s: float, parts: list[Part], asked: str) -> Tried:
    first, *lines = head.decode("latin-1").splitlines()
    fields = dict(line.lower().split(": ", 1) for line in lines if ": " in line)
    status = int(first.split(" ")[1])
    document = msgspec.json.decode(answer)
    is_ok = status == 200
    shown = document.get("prediction") if is_ok else document
    text = json.dumps(shown, indent=2, ensure_ascii=False)
    if len(text) > LONGEST_SHOWN:
        text = f"{text[:LONGEST_SHOWN]}\n… {len(text) - LONGEST_SHOWN:,} more characters"
    return Tried(
        is_ok=is_ok,
        status=status,
        text=text,
        version=document.get("model_version", ""),
        cache=fields.get("x-cache", ""),
        request_id=fields.get("x-request-id", ""),
        seconds=took_s,
        parts=parts,
        asked=asked,
    )
