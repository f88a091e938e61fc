"""A model that refuses an input: the caller is told, its batch-mates are answered."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelyard import InvalidInput
from modelyard.core.errors import Failure
from modelyard.testing import ServedModel
from tests.unit.model_folders import host, write_folder

pytestmark = pytest.mark.usefixtures("own_imports")

REFUSES = """\
from modelyard import InvalidInput, Model


class Served(Model):
    def predict(self, instances: list[int]) -> list[int]:
        for number, instance in enumerate(instances):
            if instance == 13:
                raise InvalidInput("13 is unlucky", instance=number)
            if instance == 14:
                raise InvalidInput("one of these is bad")
            if instance == 15:
                raise InvalidInput("\\ud800 is no text", instance=99)
        return instances
"""


def refused(where: str, detail: str = "13 is unlucky") -> Failure:
    return Failure("invalid_input", detail, where)


def test_a_refused_input_fails_alone_and_names_the_caller_s_own_instance(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    answers = host(tmp_path, REFUSES).answer([b"[1, 2]", b"[3, 13]", b"[4]", b"[13]"])
    assert answers.outcomes == [
        b"[1,2]",
        refused("$.input_data[1]"),
        b"[4]",
        refused("$.input_data[0]"),
    ]
    assert caplog.records == []


def test_the_instance_is_counted_over_all_calls_that_a_request_takes(tmp_path: Path) -> None:
    hosted = host(tmp_path, REFUSES, "[batching]\nmax_batch_size = 2\n")
    assert hosted.answer([b"[1, 2, 3, 13, 5]"]).outcomes == [refused("$.input_data[3]")]


@pytest.mark.parametrize(
    ("instance", "detail"), [(14, "one of these is bad"), (15, "\\ud800 is no text")]
)
def test_a_refusal_that_names_no_instance_is_of_the_whole_input(
    tmp_path: Path, instance: int, detail: str
) -> None:
    answers = host(tmp_path, REFUSES).answer([b"[1, %d]" % instance])
    assert answers.outcomes == [refused("$.input_data", detail)]


CHECKS_ITSELF = """\
import msgspec

from modelyard import InvalidInput, Model


class Trip(msgspec.Struct):
    first: int
    last: int

    def __post_init__(self) -> None:
        if self.first == 0:
            raise OSError("/etc/secret")
        if self.first > self.last:
            raise InvalidInput("the trip ends before it begins")


class Served(Model):
    def predict(self, instances: list[Trip]) -> list[int]:
        return [trip.last - trip.first for trip in instances]
"""


def test_the_model_s_own_types_can_refuse_too(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    answers = host(tmp_path, CHECKS_ITSELF).answer(
        [b'[{"first": 1, "last": 3}]', b'[{"first": 3, "last": 1}]', b'[{"first": 0, "last": 1}]']
    )
    assert answers.outcomes == [
        b"[2]",
        refused("$.input_data", "the trip ends before it begins"),
        refused("$.input_data", "the model's own check raised OSError"),
    ]
    assert "OSError: /etc/secret (src/model.py:12)" in caplog.text


def test_a_test_of_the_model_sees_the_refusal(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "m", REFUSES)
    with ServedModel(folder) as model, pytest.raises(InvalidInput, match="13 is unlucky") as caught:
        model.predict([1, 13])
    assert caught.value.where == "$.input_data[1]"
