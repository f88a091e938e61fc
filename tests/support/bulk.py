"""Bulk runs for tests: files of rows, and what has become of them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import httpx
import sqlalchemy as sa

from modelyard.store.schema import open_engine
from modelyard.store.tables import BULK_CHUNKS, JOBS
from tests.support.server import wait_until


def lines_of(rows: Iterable[Any]) -> bytes:
    """Return rows as JSON Lines."""
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def send(http: httpx.Client, content: bytes, **asked: Any) -> httpx.Response:
    """Send a file of rows."""
    asked = {"model": "trick_model", "format": "jsonl", **asked}
    return http.post("/batches", params=asked, content=content)


def ended(http: httpx.Client, batch: str) -> dict[str, Any]:
    """Wait for the end of a run, and give it."""

    def look() -> Any:
        try:
            answer = http.get(f"/batches/{batch}", params={"wait": 10})
        except httpx.TransportError:
            return None
        return answer.json() if answer.is_success and answer.json()["finished"] else None

    found: dict[str, Any] = wait_until(look, what=f"the end of {batch}")
    return found


def fetch(http: httpx.Client, batch: str, what: str = "output") -> list[dict[str, Any]]:
    """Give the lines of what a run has brought."""
    answer = http.get(f"/batches/{batch}/{what}")
    assert answer.status_code == 200, answer.text
    return [json.loads(line) for line in answer.text.splitlines()]


def rows_done(url: str, batch: str) -> int:
    """Return how many rows of a run are kept, as the store has it."""
    engine = open_engine(url)
    query = sa.select(sa.func.coalesce(sa.func.sum(BULK_CHUNKS.c.rows), 0)).where(
        BULK_CHUNKS.c.uid == sa.select(JOBS.c.uid).where(JOBS.c.id == batch).scalar_subquery()
    )
    with engine.connect() as connection:
        found = int(connection.execute(query).scalar_one())
    engine.dispose()
    return found


def end_leases(url: str) -> None:
    """Let all leases end: those of a process that was killed would do so in half a minute."""
    engine = open_engine(url)
    with engine.begin() as connection:
        connection.execute(JOBS.update().where(JOBS.c.state == "running").values(lease_until=0.0))
    engine.dispose()
