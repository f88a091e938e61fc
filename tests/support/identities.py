"""Folders of models that answer what they are asked, for each datatype and in other shapes."""

from __future__ import annotations

from pathlib import Path

NUMERIC = {
    "BOOL": "bool",
    **{f"UINT{bits}": f"uint{bits}" for bits in (8, 16, 32, 64)},
    **{f"INT{bits}": f"int{bits}" for bits in (8, 16, 32, 64)},
    **{f"FP{bits}": f"float{bits}" for bits in (16, 32, 64)},
}

_MANIFEST = """\
name = "{name}"
version = "{version}"
class = "model:Served"
[cache]
ttl_s = {ttl_s}
"""

_ARRAY = """\
from typing import Annotated
import numpy as np
from modelyard import Model, Tensor

Pairs = Annotated[np.ndarray, Tensor("{dtype}", (2,), name="x")]

class Served(Model):
    def predict(self, instances: Pairs) -> Pairs:
        return instances
"""

_TEXT = """\
from modelyard import Model

class Served(Model):
    def predict(self, instances: list[tuple[str, str]]) -> list[tuple[str, str]]:
        return instances
"""

_SUMS = """\
from typing import Annotated
import numpy as np
from modelyard import Columns, Model, Tensor

class Numbers(Columns):
    a: Annotated[np.ndarray, Tensor("float32", (2,))]
    b: Annotated[np.ndarray, Tensor("int64", (2,))]

class Results(Columns):
    sum: Annotated[np.ndarray, Tensor("float64", (2,))]
    is_more: Annotated[np.ndarray, Tensor("bool", (2,))]

class Served(Model):
    example = Numbers(a=np.zeros((1, 2), "f4"), b=np.ones((1, 2), "i8"))

    def predict(self, instances: Numbers) -> Results:
        sums = {sign} * (instances.a.astype("float64") + instances.b)
        return Results(sum=sums, is_more=instances.a > instances.b)
"""

_PEOPLE = """\
import time
import msgspec
from modelyard import InvalidInput, Model

class Person(msgspec.Struct):
    name: str
    age: int = 0
    tags: list[str] = []

class Greeting(msgspec.Struct):
    text: str
    letters: int
    pieces: list[str]

class Served(Model):
    example = [{"name": "Ada", "age": 36, "tags": ["a"]}]

    def predict(self, instances: list[Person]) -> list[Greeting]:
        for number, person in enumerate(instances):
            if person.name == "nobody":
                raise InvalidInput("nobody is no person", instance=number)
            if person.name == "late":
                time.sleep(person.age / 1000)
            if person.name == "broken":
                raise RuntimeError("out of order")
        return [Greeting(f"Hello {p.name}", len(p.name), [*p.tags, str(p.age)]) for p in instances]
"""


def write_identities(folder: Path) -> Path:
    """Write a model for each datatype, in lower case, with pairs of it as instances."""
    for name, dtype in NUMERIC.items():
        _write(folder, name.lower(), _ARRAY.format(dtype=dtype))
    _write(folder, "bytes", _TEXT)
    return folder


def write_others(folder: Path) -> Path:
    """Write ``sums`` in two versions, of which the second answers by default, and ``people``."""
    _write(folder, "sums", _SUMS.format(sign=1))
    _write(folder, "sums", _SUMS.format(sign=-1), version="2", ttl_s=60)
    _write(folder, "people", _PEOPLE)
    return folder


def _write(folder: Path, name: str, code: str, *, version: str = "1", ttl_s: int = 0) -> None:
    source = folder / f"{name}-{version}" / "src"
    source.mkdir(parents=True)
    (source / "model.py").write_text(code)
    manifest = _MANIFEST.format(name=name, version=version, ttl_s=ttl_s)
    (source.parent / "model.toml").write_text(manifest)
