"""Inputs and results of jobs that are too large for a message: objects that are sent by name.

Path of a job: ``jobs/starting.py`` writes an ``Errand`` into the request's trail; the pool that
runs it has the input fetched and a large result put away (``jobs/errands.py``), and its call is
settled with an ``ObjectRef`` in place of the predictions. See ADR 20.
"""

from __future__ import annotations

import msgspec

from modelyard.core.names import Target

LONGEST_PLAIN_BYTES = 8 << 20
"""Of an answer that is sent in a message: RabbitMQ 4 accepts up to 16 MiB."""


class ObjectRef(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """One object.

    Attributes:
        name: In the place of jobs' files.
        size: In bytes.
        digest: SHA-256 of the content, in hexadecimal.
        media_type: Of a result, as its caller gets it; empty for an input.
        json_bytes: How many bytes at its beginning are JSON, of a V2 answer with binary tensors;
            else 0.
    """

    name: str
    size: int
    digest: str
    media_type: str = ""
    json_bytes: int = 0


class Errand(msgspec.Struct, frozen=True, array_like=True):
    """What a worker does with the objects of one attempt at a job.

    Attributes:
        output: The name under which it puts a large result.
        above_bytes: A result that is larger than that goes there.
        most_bytes: How large one may be.
        head: What stands before the predictions in the answer to the job's caller.
        tail: What stands behind them.
        media_type: Of the answer.
        input: What it fetches in place of the request's own input; None if that is the input.
    """

    output: str
    above_bytes: int
    most_bytes: int
    head: bytes
    tail: bytes
    media_type: str
    input: ObjectRef | None = None


def why_no_errand(target: Target) -> str:
    """Return why a job whose input is an object cannot be run now."""
    return f"the workers of {target} fetch no inputs of jobs: they have no job_files_url"
