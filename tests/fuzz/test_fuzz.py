"""Every target with its seeds, and with changes of them that are the same in every run."""

from __future__ import annotations

import pytest

from tests.fuzz.collection import SEEDS, load, names, seeds
from tests.fuzz.mutation import mutations

MUTATIONS = 2000


def test_every_target_has_seeds() -> None:
    assert sorted(path.name for path in SEEDS.iterdir()) == names()


@pytest.mark.parametrize("name", names())
def test_seeds(name: str) -> None:
    run = load(name)
    for data in (b"", *seeds(name)):
        run(data)


@pytest.mark.parametrize("name", names())
def test_mutations(name: str) -> None:
    run = load(name)
    for data in mutations(seeds(name), count=MUTATIONS, seed=name):
        try:
            run(data)
        except BaseException as error:
            error.add_note(f"tests.fuzz.targets.{name}.run({data!r})")
            raise
