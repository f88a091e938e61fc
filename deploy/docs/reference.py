"""The pages of ``docs/`` that are written from the code: keys of ``model.toml``, settings, metrics,
commands, and the names for people who write Python.

``python -m deploy.docs.reference`` writes them; a test compares them with what it would write.
"""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec

from deploy.docs.commands import commands_page
from deploy.docs.metrics import metrics_page
from deploy.docs.python import python_page
from modelyard.core.manifest import Manifest
from modelyard.core.manifest_keys import Key, keys
from modelyard.settings import Settings

DOCS = Path(__file__).parents[2] / "docs"
_A_TABLE = "a table"
_ATTRIBUTE = re.compile(r"^(\w+): (.*(?:\n    .*)*)", re.MULTILINE)

_MODEL_TOML = """\
# model.toml

<!-- Written by `make reference` from modelyard.core.manifest. -->

Every key that a model's `model.toml` may have. `name` and `version` must be there, and either
`class` or, for an [artefact without a class](runtimes.md), `runtime`. An unknown key is refused,
and the message names the line and what may stand there. `modelyard new` writes all of them as
comments, and `modelyard check FOLDER` reads the file as `serve` does.

```toml
name = "sentiment"
version = "1"
class = "model:Sentiment"

[cache]
ttl_s = 300

[scaling]
max_runners = 4
```

{keys}
## A version beside another

Two folders with the same `name` and another `version` are served side by side. A request may name
the version. Where it names none, the version that the setting [`default_versions`](settings.md)
gives answers; else the one with `default = true`; else the highest that is up.
"""

_SETTINGS = """\
# Settings

<!-- Written by `make reference` from modelyard.settings. -->

What `modelyard serve`, `gateway` and `worker` may be told. Each setting has one name. Where it is
given several times, the first of these counts:

1. a flag, for those that `modelyard serve --help` lists: `--log-level`;
2. an environment variable, in capitals and with `MODELYARD_` before it: `MODELYARD_LOG_LEVEL`;
3. a file `log_level` in the folder that `MODELYARD_SECRETS` names: so do Kubernetes and Docker
   hand secrets over;
4. a key `log_level` in the TOML file that `--config` or `MODELYARD_CONFIG` names;
5. the default.

`modelyard config` shows each value and where it came from. A variable `MODELYARD_…` that is no
setting gives a warning at the start, with the nearest name that is one.

| setting | default | takes | meaning |
|---|---|---|---|
{rows}
"""


def model_toml() -> str:
    """Give docs/model-toml.md."""
    types = _types_by_key()
    parts: list[str] = []
    section = None
    for key in keys():
        annotation = types[key.table, key.name]
        is_table = not key.table and describe(annotation) == _A_TABLE
        found = key.name if is_table else key.table
        if found != section:
            section = found
            parts.append(_heading(section, is_struct=not is_table))
        parts.append(_row(key, annotation, name='"FILE"' if is_table else key.name))
    return _MODEL_TOML.format(keys="\n".join(parts) + "\n")


def settings() -> str:
    """Give docs/settings.md."""
    meanings = meanings_of(Settings)
    rows = [
        f"| `{field.name}` | {_default(field.default)} | {describe(field.type)} "
        f"| {meanings[field.name]} |"
        for field in msgspec.structs.fields(Settings)
    ]
    return _SETTINGS.format(rows="\n".join(rows))


PAGES = {
    "commands.md": commands_page,
    "metrics.md": metrics_page,
    "model-toml.md": model_toml,
    "python.md": python_page,
    "settings.md": settings,
}


def meanings_of(struct: type) -> dict[str, str]:
    """Give what the docstring of ``struct`` says of each attribute, in Markdown."""
    text = inspect.cleandoc(struct.__doc__ or "").partition("Attributes:\n")[2]
    lines = inspect.cleandoc(text)
    return {
        name: " ".join(meaning.split()).replace("``", "`")
        for name, meaning in _ATTRIBUTE.findall(lines)
    }


def _default(value: Any) -> str:
    return "nothing" if value is None else f"`{json.dumps(value)}`"


def describe(annotation: Any) -> str:
    """Say in a few words what may stand there."""
    bounds = ""
    if get_origin(annotation) is Annotated:
        annotation, *extras = get_args(annotation)
        bounds = "".join(_bounds(meta) for meta in extras if isinstance(meta, msgspec.Meta))
    if get_origin(annotation) is Literal:
        return ", ".join(f"`{json.dumps(value)}`" for value in get_args(annotation))
    origin = get_origin(annotation) or annotation
    if origin in (Union, UnionType):
        some, _ = get_args(annotation)  # the other is None
        return f"{describe(some)}, or nothing"
    names = {
        bool: "`true` or `false`",
        int: "a whole number",
        float: "a number",
        str: "text",
        dict: _A_TABLE,
        list: "a list",
    }
    return names[origin] + bounds


def _bounds(meta: msgspec.Meta) -> str:
    words = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}
    said = [
        f"{word} {getattr(meta, bound):,}"
        for bound, word in words.items()
        if getattr(meta, bound) is not None
    ]
    return "".join(f", {one}" for one in said)


def _types_by_key() -> dict[tuple[str, str], Any]:
    found: dict[tuple[str, str], Any] = {}
    for field in msgspec.structs.fields(Manifest):
        found["", field.encode_name] = field.type
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            for inner in msgspec.structs.fields(field.type):
                found[field.encode_name, inner.encode_name] = inner.type
    return found


def _heading(section: str, *, is_struct: bool) -> str:
    columns = "| key | default | takes | meaning |\n|---|---|---|---|"
    if not section:
        return f"## At the top\n\n{columns}"
    meaning = f"{_meaning_of_table(section)}\n\n" if is_struct else ""
    return f"\n## `[{section}]`\n\n{meaning}{columns}"


def _meaning_of_table(name: str) -> str:
    (table,) = [f.type for f in msgspec.structs.fields(Manifest) if f.encode_name == name]
    return " ".join(inspect.cleandoc(table.__doc__ or "").split()).replace("``", "`")


def _row(key: Key, annotation: Any, *, name: str) -> str:
    default = "must be there" if key.default is None else f"`{key.default}`"
    default = "nothing" if key.default == "null" else default
    return f"| `{name}` | {default} | {describe(annotation)} | {key.meaning} |"


def main() -> None:
    """Write the pages."""
    for name, make in PAGES.items():
        (DOCS / name).write_text(make(), encoding="utf-8")


if __name__ == "__main__":
    main()
