"""Error messages for ``model.toml``: the line, the key, and what is expected there."""

from __future__ import annotations

import re

import msgspec

_VARIABLES = "expected letters, digits and '_', for example HF_HOME"
_EXPLAIN = {
    "class": 'expected "module:Class", for example "model:FastIris" for src/model.py',
    "name": "expected lower-case letters, digits, '.', '_' and '-', at most 64",
    "version": "expected lower-case letters, digits, '.', '_' and '-', at most 64, as a string",
    "cpu": 'expected Kubernetes units, for example "500m" or "2"',
    "memory": 'expected Kubernetes units, for example "256Mi" or "1Gi"',
    "gpu_kind": 'expected a Kubernetes resource, for example "nvidia.com/gpu"',
    "artefacts": 'expected "sha256:" and 64 hexadecimal digits (see `sha256sum`)',
    "variables": f"{_VARIABLES}, and a value in quotes",
    "secrets": _VARIABLES,
    "output": 'expected "always", "example" or "never"',
}


def explain(
    error: msgspec.ValidationError, *, text: str, source: str, struct: type[msgspec.Struct]
) -> str:
    """Turn msgspec's ``… - at `$.a.b` `` into ``file:line: a.b: …; expected …``."""
    problem, _, path = str(error).rpartition(" - at ")
    problem, path = (problem, path) if problem else (path, "")
    keys = re.findall(r"\.(\w+)", path)
    if named := re.search(r"field `([^`]+)`", problem):
        keys.append(named[1])
    if "unknown field" in problem:
        problem += "; expected one of: " + ", ".join(_fields_at(keys[:-1], struct))
    elif explanation := next((_EXPLAIN[key] for key in reversed(keys) if key in _EXPLAIN), None):
        problem = f"{problem}; {explanation}"
    return f"{source}:{line_of(keys, text)}: {'.'.join(keys)}: {problem}"


def _fields_at(keys: list[str], struct: type[msgspec.Struct]) -> list[str]:
    for key in keys:
        struct = {field.encode_name: field.type for field in msgspec.structs.fields(struct)}[key]
    return [field.encode_name for field in msgspec.structs.fields(struct)]


def line_of(keys: list[str], text: str) -> int:
    """Find the line on which ``keys`` stand: the key, else its table, else the first line."""
    table: list[str] = []
    depth, found = 0, 1
    for number, line in enumerate(text.splitlines(), start=1):
        if header := re.match(r"\s*\[\s*([\w.]+)\s*\]", line):
            path = table = header[1].split(".")
        elif key := re.match(r"""\s*(?:["']([^"']+)["']|([\w-]+))\s*=""", line):
            path = [*table, key[1] or key[2]]
        else:
            continue
        is_bad_digest = not re.search(r'"sha256:[0-9a-f]{64}"', line)
        if keys == table == path[:-1] == ["artefacts"] and is_bad_digest:
            return number
        # Also the line of an inline table: cache = {ttl_s = -1}
        if len(path) > depth and path == keys[: len(path)]:
            depth, found = len(path), number
    return found
