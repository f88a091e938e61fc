"""What a console shows in its tests: a model of each kind, of which one is slow and one does not
load, and jobs.
"""

from __future__ import annotations

import math
import time
from pathlib import Path

from tests.support.server import Server

RENT = """\
import os
import time
from typing import Annotated, Literal
import msgspec
from modelyard import Model


class Flat(msgspec.Struct):
    area: Annotated[float, msgspec.Meta(gt=0, description="square metres")]
    rooms: Annotated[int, msgspec.Meta(ge=1, le=20)]
    heating: Literal["gas", "heat pump", "wood"]
    has_garden: bool = False
    floor: int | None = None


class Rent(Model):
    example = [Flat(84.5, 3, "heat pump", True)]

    def predict(self, instances: list[Flat]) -> list[float]:
        time.sleep({seconds})
        for flat in instances:
            if flat.area == 666:
                print("a flat of", flat.area, flush=True)
                os._exit(3)
            if flat.area == 99:
                raise RuntimeError("no flat has 99 square metres")
        return [round(flat.area * 4 + flat.rooms * 70) for flat in instances]
"""
WORDS = """\
from modelyard import Model


class Words(Model):
    example = ["What a lovely day"]

    def predict(self, instances: list[str]) -> list[str]:
        print("heard", len(instances))
        return ["positive" if "lovely" in text else "neutral" for text in instances]
"""
SPELLER = """\
from collections.abc import Iterator
from modelyard import Model


class Speller(Model):
    example = ["hi"]

    def stream(self, instance: str) -> Iterator[str]:
        yield from instance
"""
SHADE = """\
from typing import Annotated
import numpy as np
from modelyard import Model, Tensor


class Shade(Model):
    example = np.ones((1, 3, 8, 8), dtype="float32")

    def predict(
        self, instances: Annotated[np.ndarray, Tensor("float32", (3, 8, 8))]
    ) -> Annotated[np.ndarray, Tensor("float32", ())]:
        return instances.mean(axis=(1, 2, 3))
"""
SIZES = """\
from modelyard import Model


class Sizes(Model):
    example = [b"abc"]

    def predict(self, instances: list[bytes]) -> list[tuple[int, str]]:
        return [(len(one), one.decode()) for one in instances]
"""
TWICE = """\
from modelyard import Model


class Twice(Model):
    example = ["so lovely"]

    def predict(self, instances: list[str]) -> list[str]:
        return [f"twice {answer}" for answer in self.call("words", instances)]
"""
BROKEN = 'raise FileNotFoundError("assets/churn.onnx")\n'
SECONDS = {"1": 0.002, "2": 0.4}


MORE = {
    "speller": "[batching]\nconcurrency = 4\n",
    "twice": '[calls]\nmodels = ["words"]\n',
}
TOLD = {
    "rent": "Monthly rent of a flat, in euros",
    "words": "How a text sounds",
    "churn": "Will they leave?",
    "speller": "A word, letter by letter",
    "shade": "How bright an image is",
    "sizes": "How long a file is, and its text",
    "twice": "How a text sounds, said again",
}


def write_models(folder: Path) -> Path:
    """Write the folder of each model."""
    for version, seconds in SECONDS.items():
        _write(folder, "rent", version, RENT.replace("{seconds}", str(seconds)))
    for name, code in (("words", WORDS), ("churn", BROKEN), ("speller", SPELLER)):
        _write(folder, name, "1", code)
    for name, code in (("shade", SHADE), ("sizes", SIZES), ("twice", TWICE)):
        _write(folder, name, "1", code)
    return folder


def _write(folder: Path, name: str, version: str, code: str) -> None:
    here = folder / f"{name}-{version}"
    (here / "src").mkdir(parents=True)
    (here / "src" / "model.py").write_text(code)
    head = f'name = "{name}"\nversion = "{version}"\nclass = "model:{name.title()}"\n'
    text = f'description = "{TOLD[name]}"\n[cache]\nttl_s = 0\n{MORE.get(name, "")}'
    (here / "model.toml").write_text(head + text)


def submit_jobs(server: Server) -> None:
    """Have jobs kept: some that end well, one that fails, and a bulk run with two rows that do."""
    flat = {"rooms": 2, "heating": "gas"}
    for name, area in (("districts-north", 61), ("districts-south", 74), ("outlier", 99)):
        body = {"model_name": "rent", "model_version": "1", "input_data": [{**flat, "area": area}]}
        assert server.http.put(f"/jobs/{name}", json=body).status_code == 202
    texts = {"model_name": "words", "input_data": ["a lovely day"] * 20}
    assert server.http.put("/jobs/reviews-of-may", json=texts).status_code == 202
    rows = "area,rooms,heating\n50,2,gas\n99,2,gas\nsmall,2,gas\n"
    path, kind = "/batches?model=rent&version=1&id=rents-of-may", {"content-type": "text/csv"}
    assert server.http.post(path, content=rows, headers=kind).status_code == 202


def fill_the_last_minutes(server: Server) -> None:
    """Ask now and then, so that there is something to see."""
    flat = {"rooms": 2, "heating": "gas"}
    for number in range(400):
        server.predict("rent", [{**flat, "area": 30 + number % 50}])
        server.predict("words", ["a lovely day"] * (1 + number % 3))
        time.sleep(0.02 + 0.05 * abs(math.sin(number / 120)))
