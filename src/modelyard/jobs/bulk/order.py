"""What a bulk run is asked to do, and what is known of it."""

from __future__ import annotations

from typing import Literal, NamedTuple

import msgspec

DOOR = "bulk"
"""The door of jobs that are bulk runs."""

Format = Literal["csv", "jsonl", "parquet", "arrow"]

FORMATS: dict[str, Format] = {
    **{"csv": "csv", "jsonl": "jsonl", "ndjson": "jsonl", "parquet": "parquet", "pq": "parquet"},
    **{"arrow": "arrow", "arrows": "arrow", "feather": "arrow", "ipc": "arrow"},
}
"""By the endings of names."""

MEDIA_TYPES: dict[Format, str] = {
    "csv": "text/csv",
    "jsonl": "application/x-ndjson",
    "parquet": "application/vnd.apache.parquet",
    "arrow": "application/vnd.apache.arrow.stream",
}


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """A bulk run: the input of its job, as JSON.

    Attributes:
        input: Name in the place of files, or a URL.
        is_url: Whether it is one.
        format: Of the input.
        output_format: Of the output.
        output_url: Where the output is put as well; empty for nowhere.
        columns: What a model of lists takes, in this order; empty for all.
        keep: Columns of the input that the output repeats.
        endpoint: The path of the API whose requests the lines are; empty for rows.
        metadata: The caller's own.
        input_bytes: How large it is, if it was sent.
        input_id: Of the file, where it has one for its owner.
    """

    input: str
    is_url: bool = False
    format: Format
    output_format: Format
    output_url: str = ""
    columns: list[str] = []
    keep: list[str] = []
    endpoint: str = ""
    metadata: dict[str, str] = {}
    input_bytes: int = 0
    input_id: str = ""


class Wanted(NamedTuple):
    """Which files are listed.

    Attributes:
        tenant: Whose; None for anybody's.
        after: The id of the one before them.
        purpose: Of them; None for any.
        is_newest_first: Whether they come so, or the oldest first.
    """

    tenant: str | None
    after: str | None = None
    purpose: str | None = None
    is_newest_first: bool = True


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """A place in an input, between two rows.

    Attributes:
        row: How many rows are before it.
        offset: The same in bytes, where rows follow one another in bytes.
    """

    row: int = 0
    offset: int = 0


class Chunk(msgspec.Struct, frozen=True, kw_only=True):
    """Rows that are done, with what came of them.

    Attributes:
        number: Of the chunk, from 0.
        attempt: Of the job that ran them.
        rows: How many.
        failed: How many of them have no prediction.
        mark: What follows them.
        bytes: Of what came of them.
        model_s: Seconds of the model's time.
        at: When it was kept: Unix time, in seconds.
    """

    number: int
    attempt: int
    rows: int
    failed: int
    mark: Mark
    bytes: int
    model_s: float
    at: float = 0.0


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    """What has come of a bulk run so far.

    Attributes:
        chunks: That are done.
        rows: That are done.
        failed: Of them.
        bytes: Of what came of them.
        model_s: Seconds of the model's time.
        rows_per_s: Of late; 0 if that is not known.
    """

    chunks: int = 0
    rows: int = 0
    failed: int = 0
    bytes: int = 0
    model_s: float = 0.0
    rows_per_s: float = 0.0


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """What a run has brought: the result of its job, as JSON."""

    rows: int
    failed: int
    output_bytes: int
    error_bytes: int


class File(msgspec.Struct, frozen=True, kw_only=True):
    """A file that a caller has sent, to make bulk runs of.

    Attributes:
        id: Its name.
        tenant: Whose it is; see ``NewJob``.
        owner: The same in words.
        name: That the caller gave it.
        purpose: What for, in the caller's words.
        bytes: How large it is.
        created: Unix time, in seconds.
    """

    id: str
    tenant: str
    owner: str
    name: str
    purpose: str
    bytes: int
    created: float


class RowFailure(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why a row has no prediction. ``row``: its number, from 0. ``custom_id``: what its caller
    calls it, of lines that are requests.
    """

    row: int
    code: str
    detail: str
    where: str | None = None
    custom_id: str | None = None
