"""Keeps chunks as files under an fsspec URL, and removes those that are old or too many.

    URL/model=iris/version=1/date=2026-11-29/101500-GATEWAY-000001.jsonl

A file is whole from the moment that it has its name. Only files with such names are ever removed.
"""

from __future__ import annotations

import contextlib
import io
import re
import time
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any, Literal

import fsspec
import msgspec

from modelyard.payloads.config import Config
from modelyard.payloads.writer.chunks import Chunk
from modelyard.payloads.writer.records import Record

Format = Literal["jsonl", "parquet"]

RETAIN_EVERY_S = 60.0
_DAY_S, _MB = 86_400, 1_000_000
_UNFINISHED_S = 3600.0
_NAME = re.compile(
    r".*/model=[^/]+/version=[^/]+/date=(\d{4}-\d\d-\d\d)/(\d{6})-[^/]+\.(?:jsonl|parquet)(\.part)?"
)


class Files:
    """A sink of files.

    Args:
        config: Where they are, and how long.
        name: Of this writer; no two have the same.
    """

    def __init__(self, config: Config, *, name: str) -> None:
        self._config = config
        self._name = name
        self._numbers = count(1)
        self._retained = float("-inf")
        self._write = _write_parquet if config.format == "parquet" else _write_lines
        fs, root = fsspec.core.url_to_fs(config.url, use_listings_cache=False)
        self._fs: Any = fs
        self._root = str(root).rstrip("/")
        self._is_local = "file" in ((fs.protocol,) if isinstance(fs.protocol, str) else fs.protocol)

    def keep(self, chunk: Chunk) -> None:
        """Keep a chunk; any exception means that it is not kept."""
        self._retain()
        content = self._write(chunk.records)
        kind, at = chunk.kind, datetime.now(UTC).strftime("%H%M%S")
        folder = f"{self._root}/model={kind.model}/version={kind.version}/date={kind.date}"
        path = f"{folder}/{at}-{self._name}-{next(self._numbers):06}.{self._config.format}"
        if not self._is_local:  # an object is there whole, or not at all
            self._fs.pipe_file(path, content)
            return
        part = Path(f"{path}.part")
        part.parent.mkdir(parents=True, exist_ok=True)
        try:
            part.write_bytes(content)
            part.rename(path)
        except BaseException:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)  # a full disk is not filled with halves
            raise

    def _retain(self) -> None:
        """Remove what is too old, or too much."""
        now = time.monotonic()
        if now - self._retained < RETAIN_EVERY_S:
            return
        self._retained = now
        found: list[tuple[str, str, float]] = []  # day and time, path, bytes
        try:
            listed = self._fs.find(self._root, detail=True)
        except FileNotFoundError:
            return
        limit = datetime.fromtimestamp(time.time() - self._config.keep_days * _DAY_S, UTC)
        oldest = limit.strftime("%Y-%m-%d%H%M%S")
        for path, about in listed.items():
            if (match := _NAME.fullmatch(path)) is None:
                continue
            if match[3]:
                if time.time() - float(about.get("mtime", time.time())) > _UNFINISHED_S:
                    self._remove(path)
                continue
            if match[1] + match[2] < oldest:
                self._remove(path)
            else:
                found.append((match[1] + match[2], path, float(about.get("size") or 0)))
        excess = sum(size for _, _, size in found) - self._config.keep_mb * _MB
        for _, path, size in sorted(found):
            if excess <= 0:
                break
            self._remove(path)
            excess -= size

    def _remove(self, path: str) -> None:
        with contextlib.suppress(FileNotFoundError):  # another gateway was faster
            self._fs.rm_file(path)


def _write_lines(records: list[Record]) -> bytes:
    return msgspec.json.Encoder().encode_lines(records)


def _write_parquet(records: list[Record]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns: dict[str, list[Any]] = {name: [] for name in Record.__struct_fields__}
    for record in records:
        for name, values in columns.items():
            value = getattr(record, name)
            if name in ("request", "answer"):
                text = bytes(value).decode()
                values.append(None if text == "null" else text)
            else:
                values.append(datetime.fromisoformat(value) if name == "time" else value)
    types = {"time": pa.timestamp("us", tz="UTC"), "latency_s": pa.float64()}
    schema = pa.schema([(name, types.get(name, pa.string())) for name in columns])
    stream = io.BytesIO()
    pq.write_table(pa.table(columns, schema=schema), stream, compression="zstd")
    return stream.getvalue()
