"""Error messages for ``model.toml``: the line, the key, and what is expected there."""

from __future__ import annotations

import re
import typing
from typing import Any

import msgspec

from modelyard.core.names import NAME_RULE

_VARIABLES = "expected letters, digits and '_', for example HF_HOME"
_EXPLAIN = {
    "class": 'expected "module:Class", for example "model:FastIris" for src/model.py',
    "name": f"expected {NAME_RULE}",
    "version": f"expected {NAME_RULE}, as a string",
    "cpu": 'expected Kubernetes units, for example "500m" or "2"',
    "memory": 'expected Kubernetes units, for example "256Mi" or "1Gi"',
    "gpu_kind": 'expected a Kubernetes resource, for example "nvidia.com/gpu"',
    "artefacts": 'expected "sha256:" and 64 hexadecimal digits (see `sha256sum`)',
    "variables": f"{_VARIABLES}, and a value in quotes",
    "secrets": _VARIABLES,
    "output": 'expected "always", "example" or "never"',
    "runtime": 'expected "onnx", "sklearn", "xgboost", "lightgbm", "torch" or "mlflow"',
    "dtype": 'expected "bool", "int8" … "uint64", "float16", "float32", "float64" or "str"',
    "gives": 'expected "own", "labels", "probabilities" or "both"',
    "without_gpu": 'expected "fail" or "cpu"',
}


def explain(
    error: msgspec.ValidationError,
    *,
    text: str,
    table: dict[str, Any],
    source: str,
    struct: type[msgspec.Struct],
) -> str:
    """Turn msgspec's ``… - at `$.a.b` `` into ``file:line: a.b: …; expected …``.

    ``table``: what TOML reads in ``text``.
    """
    problem, _, path = str(error).rpartition(" - at ")
    if "`$" not in path:  # there is none, or a key has these words in its name
        problem, path = str(error), ""
    keys = re.findall(r"\.(\w+)", path)
    if named := re.search(r"field `([^`]*)", problem):
        keys.append(named[1])
    if path.endswith("[...]`") and (stray := _first_stray(keys, table, struct)):
        keys.append(stray)
        problem += f"; {stray} belongs {_homes(struct)[stray]}"
    elif "unknown field" in problem:
        problem += "; expected one of: " + ", ".join(_fields_at(keys[:-1], struct))
        if home := _homes(struct).get(keys[-1]):
            problem += f"; {keys[-1]} belongs {home}"
    elif explanation := next((_EXPLAIN[key] for key in reversed(keys) if key in _EXPLAIN), None):
        problem = f"{problem}; {explanation}"
    return f"{source}:{line_of(keys, text)}: {'.'.join(keys)}: {problem}"


def explain_toml(error: Exception, *, text: str, source: str) -> str:
    """Turn the message of the TOML parser, which ends in a line, into ``file:line: …``."""
    lines = text.splitlines()
    where = re.search(r"at line (\d+)", str(error))
    line = where[1] if where else len(lines) or 1
    problem = f"not TOML: {error}"
    if twice := re.search(r"Cannot declare \('(\w+)',\) twice", str(error)):
        header = re.compile(rf"\s*\[\s*{twice[1]}\s*\]")
        first = next((n for n, one in enumerate(lines, start=1) if header.match(one)), 1)
        problem = f"[{twice[1]}] is there already, on line {first}: put its keys under that one"
    return f"{source}:{line}: {problem}"


def _first_stray(
    keys: list[str], table: dict[str, Any], struct: type[msgspec.Struct]
) -> str | None:
    """Return the first key in the table at ``keys``, which may hold any, that has another home."""
    found: Any = table
    for key in keys:
        found = found[key]
    homes = _homes(struct)
    return next((key for key in found if key in homes), None)


def _homes(struct: type[msgspec.Struct]) -> dict[str, str]:
    """Return where each key that is no table belongs."""
    homes: dict[str, str] = {}
    for field in msgspec.structs.fields(struct):
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            inner = msgspec.structs.fields(field.type)
            homes |= {key.encode_name: f"under [{field.encode_name}]" for key in inner}
        else:
            homes.setdefault(field.encode_name, "at the top, above the first [table]")
    return homes


def _fields_at(keys: list[str], struct: type[msgspec.Struct]) -> list[str]:
    for key in keys:
        found = {field.encode_name: field.type for field in msgspec.structs.fields(struct)}[key]
        struct = _struct_in(found)
    return [field.encode_name for field in msgspec.structs.fields(struct)]


def _struct_in(annotation: Any) -> Any:
    """Return a type, or the struct that it is a list of."""
    while arguments := typing.get_args(annotation):
        annotation = arguments[0]
    return annotation


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
