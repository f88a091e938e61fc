"""Iris species by a random forest, through the codec and the checks of the real thing."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from modelyard.core.errors import InvalidInput
from modelyard.folder import read_manifest
from modelyard.testing import ServedModel

FOLDER = Path(__file__).parents[1]
SETOSA = [5.1, 3.5, 1.4, 0.2]  # the example
VIRGINICA = [6.7, 3.0, 5.2, 2.3]


@pytest.fixture(scope="module")
def model() -> Iterator[ServedModel]:
    with ServedModel(FOLDER) as served:
        yield served


def test_tells_setosa_from_virginica(model: ServedModel) -> None:
    assert model.predict([SETOSA, VIRGINICA]) == [0, 2]


def test_answers_its_example_whoever_shares_the_batch(model: ServedModel) -> None:
    assert model.predict_batch([[VIRGINICA], [SETOSA]]) == [[2], [0]]


def test_refuses_a_row_of_three(model: ServedModel) -> None:
    with pytest.raises(InvalidInput) as caught:
        model.predict([SETOSA, SETOSA[:3]])
    assert caught.value.where == "$.input_data[1]"


def test_training_gives_the_same_artefact_again(tmp_path: Path) -> None:
    command = [sys.executable, str(FOLDER / "train.py"), "--output", str(tmp_path)]
    subprocess.run(command, check=True, capture_output=True)
    trained = {
        path.name: f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
        for path in tmp_path.iterdir()
    }
    assert trained == read_manifest(FOLDER).artefacts
