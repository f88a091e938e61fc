"""A loaded model: whom it answers, and who fails with whom."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.core.errors import Failure
from modelyard.runner.host import HostedModel
from modelyard.runner.loading import LoadError
from tests.unit.model_folders import DOUBLES, host, predicting, write_folder

pytestmark = pytest.mark.usefixtures("own_imports")

MAX_BATCH_SIZE = 3
BATCHES_OF_THREE = f"[batching]\nmax_batch_size = {MAX_BATCH_SIZE}\n"

UNLUCKY = Failure(
    "model_failed", "the model raised ValueError; see the server's log for this request id"
)

ADDS_PAIRS = """\
from typing import Annotated

import numpy as np

from modelyard import Model, Tensor


class Served(Model):
    def predict(
        self, instances: Annotated[np.ndarray, Tensor("int32", (2,))]
    ) -> Annotated[np.ndarray, Tensor("int32")]:
        return instances.sum(axis=1)
"""


def test_answers_each_request_with_its_own_predictions(tmp_path: Path) -> None:
    answers = host(tmp_path, DOUBLES).answer([b"[1, 2]", memoryview(b"[3]")])
    assert answers.outcomes == [b"[2,4]", b"[6]"]
    assert answers.sizes == [3]
    assert answers.model_s >= 0


def test_one_bad_input_fails_alone(tmp_path: Path) -> None:
    answers = host(tmp_path, DOUBLES).answer([b"[1]", b'[1, "2"]', b"[2]", b"[3"])
    assert answers.outcomes[0::2] == [b"[2]", b"[4]"]
    assert answers.outcomes[1] == Failure(
        "invalid_input", "Expected `int`, got `str`", "$.input_data[1]"
    )
    malformed = answers.outcomes[3]
    assert isinstance(malformed, Failure)
    assert (malformed.code, malformed.where) == ("malformed", "$.input_data")
    assert answers.sizes == [2]


def test_what_is_late_is_not_run(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "m", DOUBLES)
    hosted = HostedModel.open(folder, clock=lambda: 100.0)
    answers = hosted.answer([b"[1]", b"[2]"], deadlines=[100.0, 100.5])
    late = answers.outcomes[0]
    assert isinstance(late, Failure)
    assert late.code == "deadline_exceeded"
    assert answers.outcomes[1] == b"[4]"
    assert answers.sizes == [1]


def test_nothing_is_predicted_if_no_input_is_good(tmp_path: Path) -> None:
    answers = host(tmp_path, DOUBLES).answer([b"[]", b"x"])
    assert all(isinstance(outcome, Failure) for outcome in answers.outcomes)
    assert answers.sizes == []


def test_an_instance_that_raises_fails_its_own_request_only(tmp_path: Path) -> None:
    answers = host(tmp_path, DOUBLES).answer([b"[1]", b"[13]", b"[2, 13]", b"[3]"])
    assert answers.outcomes == [b"[2]", UNLUCKY, UNLUCKY, b"[6]"]
    assert answers.sizes == [5, 1, 1, 2, 1]


def test_a_request_larger_than_a_batch_is_cut(tmp_path: Path) -> None:
    hosted = host(tmp_path, DOUBLES, BATCHES_OF_THREE)
    answers = hosted.answer([b"[0, 1, 2, 3, 4, 5, 6]"])
    assert answers.outcomes == [b"[0,2,4,6,8,10,12]"]
    assert answers.sizes == [3, 3, 1]


def test_arrays_are_stacked_cut_and_split(tmp_path: Path) -> None:
    hosted = host(tmp_path, ADDS_PAIRS, BATCHES_OF_THREE)
    answers = hosted.answer([b"[[1, 1], [2, 2]]", b"[[3, 3, 3]]", b"[[4, 4], [5, 5]]"])
    assert answers.outcomes[0::2] == [b"[2,4]", b"[8,10]"]
    assert isinstance(answers.outcomes[1], Failure)
    assert answers.sizes == [3, 1]


@pytest.fixture(scope="module")
def doubles(tmp_path_factory: pytest.TempPathFactory) -> HostedModel:
    return host(tmp_path_factory.mktemp("doubles"), DOUBLES, BATCHES_OF_THREE)


@given(requests=st.lists(st.lists(st.sampled_from([0, 1, 2, 13])), max_size=6))
def test_every_request_gets_the_answer_it_would_get_alone(
    doubles: HostedModel, requests: list[list[int]]
) -> None:
    answers = doubles.answer([msgspec.json.encode(request) for request in requests])
    assert len(answers.outcomes) == len(requests)
    for outcome, request in zip(answers.outcomes, requests, strict=True):
        if not request:
            assert isinstance(outcome, Failure)
            assert outcome.code == "invalid_input"
        elif 13 in request:
            assert outcome == UNLUCKY
        else:
            assert outcome == msgspec.json.encode([2 * number for number in request])
    assert all(1 <= size <= MAX_BATCH_SIZE for size in answers.sizes)


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("return instances[:-1]", "returned 1 predictions for 2 instances"),
        ("return instances * 2", "returned 4 predictions for 2 instances"),
        ("return None", "returned NoneType where a list is expected"),
        ("return 'ab'", "returned str where a list is expected"),
        ("return (n for n in instances)", "returned generator where a list is expected"),
    ],
)
def test_anything_but_one_prediction_per_instance_is_the_model_s_failure(
    tmp_path: Path, body: str, problem: str
) -> None:
    (outcome,) = host(tmp_path, predicting(body)).answer([b"[1, 2]"]).outcomes
    detail = f"Served.predict {problem}; return one per instance, in the same order"
    assert outcome == Failure("model_failed", detail)


def test_predictions_without_a_form_in_json_are_the_model_s_failure(tmp_path: Path) -> None:
    hosted = host(tmp_path, predicting("return [n if n < 2 else 1j for n in instances]"))
    good, bad = hosted.answer([b"[1]", b"[2]"]).outcomes
    assert good == b"[1]"
    detail = (
        "Served.predict: the predictions cannot be written as JSON: type complex is not supported"
    )
    assert bad == Failure("model_failed", detail)


SECRET = 'raise OSError("/etc/vault/token: hunter2")'


def test_what_an_exception_says_is_for_the_log_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (bad,) = host(tmp_path, predicting(SECRET)).answer([b"[1]"]).outcomes
    detail = "the model raised OSError; see the server's log for this request id"
    assert bad == Failure("model_failed", detail)
    (record,) = caplog.records
    assert (
        record.getMessage() == "model_failed: OSError: /etc/vault/token: hunter2 (src/model.py:5)"
    )
    assert "hunter2" in caplog.text.partition("Traceback")[2]
    assert vars(record)["inputs"] == [0]


def test_what_an_exception_says_reaches_a_caller_if_so_set(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "m", predicting(SECRET))
    (bad,) = HostedModel.open(folder, shows_errors=True).answer([b"[1]"]).outcomes
    detail = "the model raised OSError: /etc/vault/token: hunter2 (src/model.py:5)"
    assert bad == Failure("model_failed", detail)


def test_the_text_of_a_model_s_error_is_cut_short(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "m", predicting('raise ValueError("x" * 100_000)'))
    (outcome,) = HostedModel.open(folder, shows_errors=True).answer([b"[1]"]).outcomes
    assert isinstance(outcome, Failure)
    assert len(outcome.detail) < 600


def test_a_failure_that_comes_and_goes_is_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    hosted = host(tmp_path, predicting("assert len(instances) == 1; return instances"))
    assert hosted.answer([b"[1]", b"[2]"]).outcomes == [b"[1]", b"[2]"]
    (record,) = caplog.records
    said = "a batch of 2 requests failed, but each request succeeded by itself"
    assert said in record.getMessage()
    assert vars(record)["inputs"] == [0, 1]


def test_two_models_in_one_process_are_two(tmp_path: Path) -> None:
    first = host(tmp_path / "first", predicting("return [1 for _ in instances]"))
    second = host(tmp_path / "second", predicting("return [2 for _ in instances]"))
    assert first.answer([b"[0]"]).outcomes == [b"[1]"]
    assert second.answer([b"[0]"]).outcomes == [b"[2]"]


def test_a_model_that_changes_what_it_gets_still_answers_each_alone(tmp_path: Path) -> None:
    change = "instances[:] = [number + 1 for number in instances]"
    code = predicting(f"{change}; assert 8 not in instances; return instances")
    first, bad, last = host(tmp_path, code).answer([b"[1]", b"[7]", b"[3]"]).outcomes
    assert [first, last] == [b"[2]", b"[4]"]
    assert isinstance(bad, Failure)


@pytest.mark.parametrize("value", ["{1, 2}", "dict.fromkeys('ab').values()", "bytearray(2)"])
def test_what_cannot_be_sliced_fails_and_ends_nothing(tmp_path: Path, value: str) -> None:
    answers = host(tmp_path, predicting(f"return {value}")).answer([b"[1]", b"[2]"])
    assert [outcome.code for outcome in answers.outcomes if isinstance(outcome, Failure)] == [
        "model_failed"
    ] * 2


def test_a_prediction_that_is_no_number_is_the_model_s_failure(tmp_path: Path) -> None:
    code = predicting("return [float('nan')] * len(instances)").replace(
        "-> list[int]", "-> list[float]"
    )
    (bad,) = host(tmp_path, code).answer([b"[1]"]).outcomes
    assert isinstance(bad, Failure)
    assert bad.code == "model_failed"


LOOKS_LIKE_AN_ARRAY = {
    "no dtype": "type('Frame', (), {'shape': (1,), '__len__': lambda self: 1})()",
    "no length": "type('Sparse', (), {'shape': (1,), '__len__': lambda self: {}[0]})()",
    "another dtype": "type('Torch', (), {'shape': (1,), 'dtype': 'torch.float32'})()",
}


@pytest.mark.parametrize("value", LOOKS_LIKE_AN_ARRAY.values(), ids=LOOKS_LIKE_AN_ARRAY)
def test_what_only_looks_like_an_array_is_the_model_s_failure(tmp_path: Path, value: str) -> None:
    code = (
        "from typing import Annotated\nimport numpy as np\nfrom modelyard import Model, Tensor\n\n"
        "Row = Annotated[np.ndarray, Tensor('float32')]\n\n"
        "class Served(Model):\n"
        f"    def predict(self, instances: Row) -> Row:\n        return {value}\n"
    )
    (bad,) = host(tmp_path, code).answer([b"[1]"]).outcomes
    assert isinstance(bad, Failure)
    assert bad.code == "model_failed"


def test_what_extensions_raise_is_a_failure_too(tmp_path: Path) -> None:
    panic = predicting("raise type('PanicException', (BaseException,), {})('index out of range')")
    (bad,) = host(tmp_path, panic).answer([b"[1]"]).outcomes
    assert isinstance(bad, Failure)
    assert bad.detail.startswith("the model raised PanicException; ")


def test_a_model_that_exits_fails_and_the_log_has_its_reason(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (bad,) = host(tmp_path, predicting("raise SystemExit('enough')")).answer([b"[1]"]).outcomes
    assert isinstance(bad, Failure)
    assert "SystemExit: enough" in caplog.text
    with pytest.raises(LoadError, match="SystemExit: not today"):
        host(tmp_path / "other", "raise SystemExit('not today')")
