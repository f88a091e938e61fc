"""What the OpenAPI document says of requests that become jobs."""

from __future__ import annotations

import copy
from typing import Any

from modelyard.gateway.openapi import problem_responses
from modelyard.gateway.orders import LONGEST_WAIT_S, MOST_ATTEMPTS
from modelyard.jobs.job import HIGHEST

_HEADERS: tuple[tuple[str, dict[str, Any], str], ...] = (
    ("Idempotency-Key", {"type": "string"}, "Requests with the same key are one job."),
    ("Job-Callback", {"type": "string", "format": "uri"}, "Where the job's end is told."),
    (
        "Job-Priority",
        {"type": "integer", "minimum": -HIGHEST, "maximum": HIGHEST, "default": 0},
        "Of the jobs of a model the highest goes first.",
    ),
    (
        "Job-Delay",
        {"type": "number", "minimum": 0, "maximum": LONGEST_WAIT_S},
        "Not to be run before so many seconds.",
    ),
    (
        "Job-Expires",
        {"type": "number", "minimum": 0, "maximum": LONGEST_WAIT_S},
        "Not to be begun after so many seconds.",
    ),
    (
        "Job-Max-Attempts",
        {"type": "integer", "minimum": 1, "maximum": MOST_ATTEMPTS},
        "How often an attempt may fail.",
    ),
)
_PREFER = (
    "Prefer",
    {"type": "string", "examples": ["respond-async"]},
    "`respond-async`: keep the request as a job, and answer with 202 at once.",
)
_TEXT = {"schema": {"type": "string"}}


def add_jobs(document: dict[str, Any]) -> None:
    """Add how a job is made: by ``POST /predict``, and under a name of the client's own."""
    predict = document["paths"]["/predict"]["post"]
    named = {
        "tags": ["jobs"],
        "summary": "Make a job under a name of one's own; again, it is the same job",
        "requestBody": copy.deepcopy(predict["requestBody"]),
        "parameters": [
            {"name": "id", "in": "path", "required": True, **_TEXT},
            *map(_parameter, _HEADERS[1:]),
        ],
        "responses": {"202": _accepted(), **_refusals()},
    }
    document["paths"].setdefault("/jobs/{id}", {})["put"] = named
    predict["parameters"] += map(_parameter, (_PREFER, *_HEADERS))
    predict["responses"] = {
        "200": predict["responses"]["200"],
        "202": _accepted(),
        **predict["responses"],
    }


def _parameter(header: tuple[str, dict[str, Any], str]) -> dict[str, Any]:
    name, schema, description = header
    return {"name": name, "in": "header", "description": description, "schema": schema}


def _accepted() -> dict[str, Any]:
    schema = {
        "title": "Accepted",
        "type": "object",
        "required": ["id", "state"],
        "properties": {"id": {"type": "string"}, "state": {"const": "queued"}},
    }
    return {
        "description": "The job is kept, whatever happens now",
        "headers": {
            "Location": {"description": "`/jobs/ID`", **_TEXT},
            "Preference-Applied": _TEXT,
        },
        "content": {"application/json": {"schema": schema}},
    }


def _refusals() -> dict[int | str, dict[str, Any]]:
    return problem_responses(
        *("malformed", "invalid_input", "model_not_found", "version_not_found", "conflict"),
        *("too_large", "wrong_media_type", "unavailable", "overloaded"),
    )
