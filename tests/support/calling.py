"""Models that call each other, written into a folder of a test's own: front → middle → leaf."""

from __future__ import annotations

from pathlib import Path

LEAF = """
import os
import time

import msgspec

from modelyard import InvalidInput, Model


class Ask(msgspec.Struct):
    nonce: int
    do: str = ""
    seconds: float = 0.0


class Answer(msgspec.Struct):
    nonce: int
    by: list[str]
    together: int  # instances in the batch


class Leaf(Model):
    def predict(self, instances: list[Ask]) -> list[Answer]:
        time.sleep(max(ask.seconds for ask in instances))
        for index, ask in enumerate(instances):
            if ask.do == "raise":
                raise ValueError("as it was asked")
            if ask.do == "refuse":
                raise InvalidInput("not this one", instance=index)
            if ask.do == "crash":
                os.abort()
        return [Answer(ask.nonce, ["leaf"], len(instances)) for ask in instances]
"""

CALLING = """
import msgspec

from leaf_types import Answer, Ask
from modelyard import CallFailed, Model


class Calling(Model):
    def predict(self, instances: list[Ask]) -> list[Answer]:
        called = "stranger" if instances[0].do == "stranger" else "{called}"
        answers = msgspec.convert(self.call(called, instances), list[Answer])
        return [Answer(a.nonce, ["{name}", *a.by], a.together) for a in answers]
"""

ASYNC = """
import asyncio
from collections.abc import AsyncIterator

import msgspec

from leaf_types import Answer, Ask
from modelyard import Model


class Calling(Model):
    async def predict(self, instances: list[Ask]) -> list[Answer]:
        first, second = await asyncio.gather(
            self.acall("{called}", instances), self.acall("{called}", instances)
        )
        answers = msgspec.convert(second, list[Answer])
        return [Answer(a.nonce, ["{name}", *a.by], len(first)) for a in answers]

    async def stream(self, instance: Ask) -> AsyncIterator[Answer]:
        while True:
            instance.nonce += 1  # else the answers would come from the cache
            for answer in await self.acall("{called}", [instance]):
                yield msgspec.convert(answer, Answer)
            if instance.do != "go on":
                return
"""

TYPES = """
import msgspec


class Ask(msgspec.Struct):
    nonce: int
    do: str = ""
    seconds: float = 0.0


class Answer(msgspec.Struct):
    nonce: int
    by: list[str]
    together: int
"""


def write_leaf(folder: Path, name: str = "leaf") -> Path:
    """Write a model that calls nobody; gives its folder."""
    return _write(folder / name, f'name = "{name}"\nclass = "model:Leaf"\n', LEAF)


def write_calling(folder: Path, name: str, called: str, *, more: str = "") -> Path:
    """Write a model that passes its instances on; gives its folder."""
    manifest = f'name = "{name}"\nclass = "model:Calling"\n{more}\n[calls]\nmodels = ["{called}"]\n'
    return _write(folder / name, manifest, CALLING.format(name=name, called=called))


def write_async(folder: Path, name: str, called: str) -> Path:
    """Write a model that asks twice at once, and many times in a stream; gives its folder."""
    manifest = f'name = "{name}"\nclass = "model:Calling"\n[calls]\nmodels = ["{called}"]\n'
    manifest += "[batching]\nconcurrency = 64\nmax_batch_size = 1\n"
    return _write(folder / name, manifest, ASYNC.format(name=name, called=called))


def write_chain(folder: Path) -> Path:
    """Write all three, and an async one; gives the folder that holds them."""
    write_leaf(folder)
    write_async(folder, "waiter", "leaf")
    write_calling(folder, "middle", "leaf")
    write_calling(folder, "front", "middle")
    return folder


def _write(folder: Path, manifest: str, code: str) -> Path:
    (folder / "src").mkdir(parents=True)
    (folder / "model.toml").write_text(f'version = "1"\n{manifest}', encoding="utf-8")
    (folder / "src" / "model.py").write_text(code, encoding="utf-8")
    (folder / "src" / "leaf_types.py").write_text(TYPES, encoding="utf-8")
    return folder
