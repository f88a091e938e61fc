"""Artefacts without a class: what is read from them, what is set, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import joblib
import msgspec
import numpy as np
import onnxruntime
import pandas as pd
import pytest
from onnx import TensorProto, helper

from modelyard.core.errors import InvalidInput
from modelyard.folder import find_models, read_manifest
from modelyard.runner.host import HostedModel
from modelyard.scaffold import wrap_artefact
from modelyard.testing import ServedModel
from tests.support.artefacts import (
    homes_of,
    iris,
    rows_like_iris,
    save_forest,
    save_lightgbm,
    save_onnx,
    save_pipeline,
    save_xgboost,
)
from tests.unit.runtimes import doubling, graph, refusal, write


def test_several_inputs_and_outputs_are_columns(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Add", ["my x", "y"], ["sum"]),
        helper.make_node("Not", ["flag"], ["other"]),
    ]
    path = graph(
        tmp_path / "two.onnx",
        nodes,
        {
            "my x": (TensorProto.DOUBLE, ["n", 2]),
            "y": (TensorProto.DOUBLE, ["n", 2]),
            "flag": (TensorProto.BOOL, ["n"]),
        },
        {"sum": (TensorProto.DOUBLE, ["n", 2]), "other": (TensorProto.BOOL, ["n"])},
    )
    with ServedModel(path) as model:
        assert model.example == [{"my x": [0, 0], "y": [0, 0], "flag": False}]
        found = model.predict([{"my x": [1, 2], "y": [3, 4], "flag": True}])
        assert found == [{"sum": [4, 6], "other": False}]
        with pytest.raises(InvalidInput, match="unknown field `z`"):
            model.predict([{"my x": [1, 2], "y": [3, 4], "flag": True, "z": 1}])


def test_texts_go_in_and_out(tmp_path: Path) -> None:
    nodes = [helper.make_node("StringConcat", ["a", "b"], ["c"])]
    text = (TensorProto.STRING, ["n"])
    path = graph(tmp_path / "join.onnx", nodes, {"a": text, "b": text}, {"c": text})
    with ServedModel(path) as model:
        assert model.predict([{"a": "x", "b": "y"}, {"a": "", "b": "z"}]) == ["xy", "z"]


def test_a_graph_for_one_instance_is_run_once_for_each(tmp_path: Path) -> None:
    with ServedModel(doubling(tmp_path / "one.onnx", [1, 2])) as model:
        assert model.predict([[1, 2], [3, 4], [5, 6]]) == [[2, 4], [6, 8], [10, 12]]
    assert "axis 0 has to be the batch" in refusal(doubling(tmp_path / "eight.onnx", [8, 2]))


def test_a_length_that_the_artefact_leaves_open_is_told_by_the_signature(tmp_path: Path) -> None:
    folder = write(tmp_path / "m", "onnx")
    doubling(folder / "assets" / "net.onnx", ["n", "width"])
    assert 'inputs = [{name = "x", dtype = "float32", shape = […]}]' in refusal(folder)
    told = '[signature]\ninputs = [{name = "x", dtype = "float32", shape = [3]}]\n'
    write(folder, "onnx", told + "example = [[1, 2, 3]]\n")
    with ServedModel(folder) as model:
        assert model.example == [[1, 2, 3]]
        assert model.predict(model.example) == [[2, 4, 6]]
        with pytest.raises(InvalidInput):
            model.predict([[1, 2]])
    write(folder, "onnx", told.replace("float32", "int64"))
    assert "[signature] says int64 of shape [3]" in refusal(folder)
    write(folder, "onnx", told.replace('"x"', '"y"'))
    assert "[signature] names the input 'y'; assets/net.onnx takes x" in refusal(folder)
    write(folder, "onnx", told.replace('name = "x", ', ""))
    with ServedModel(folder) as model:
        assert model.predict([[1, 2, 3]]) == [[2, 4, 6]]


def test_a_signature_may_tell_of_one_input_and_name_the_outputs(tmp_path: Path) -> None:
    told = """[signature]
inputs = [{name = "b", dtype = "float32", shape = [2]}]
outputs = [{name = "total", dtype = "float32", shape = [2]}]
"""
    folder = write(tmp_path / "m", "onnx", told)
    node = helper.make_node("Add", ["a", "b"], ["sum"])
    known, open_ = (TensorProto.FLOAT, ["n", 2]), (TensorProto.FLOAT, ["n", "m"])
    graph(folder / "assets" / "m.onnx", [node], {"a": known, "b": open_}, {"sum": open_})
    with ServedModel(folder) as model:
        assert model.predict([{"a": [1, 2], "b": [3, 4]}]) == [[4, 6]]
    write(folder, "onnx", told.replace("shape = [2]}]\noutputs", "shape = [3]}]\noutputs"))
    assert "does not answer zeros" in refusal(folder)
    write(folder, "onnx", told.replace('total", dtype = "float32"', 'total", dtype = "int64"'))
    assert "is float32 of shape [2]; [signature] says int64 of shape [2]" in refusal(folder)


@pytest.mark.parametrize(
    ("gives", "expected"),
    [
        ("labels", 0),
        ("probabilities", [1, 0, 0]),
        ("both", {"label": 0, "probabilities": [1, 0, 0]}),
    ],
)
def test_a_classifier_gives_what_is_set(tmp_path: Path, gives: str, expected: Any) -> None:
    flower = [[5.1, 3.5, 1.4, 0.2]]
    for runtime, save in (("onnx", save_onnx), ("xgboost", save_xgboost), ("sklearn", save_forest)):
        folder = write(tmp_path / runtime, runtime, f'[signature]\ngives = "{gives}"\n')
        suffix = {"onnx": ".onnx", "xgboost": ".ubj", "sklearn": ".skops"}[runtime]
        save(folder / "assets" / f"m{suffix}")
        with ServedModel(folder) as model:
            (found,) = model.predict(flower)
        assert found == (
            expected
            if gives == "labels"
            else pytest.approx(expected, abs=0.1)
            if gives == "probabilities"
            else {"label": 0, "probabilities": pytest.approx([1, 0, 0], abs=0.1)}
        )


def test_a_classifier_of_two_has_two_probabilities(tmp_path: Path) -> None:
    folder = write(tmp_path / "m", "lightgbm", '[signature]\ngives = "both"\n')
    _, classifier = save_lightgbm(folder / "assets" / "m.txt")
    rows = rows_like_iris(50, "float64")
    with ServedModel(folder) as model:
        found = model.predict(rows.tolist())
    assert [one["probabilities"] for one in found] == classifier.predict_proba(rows).tolist()
    assert [bool(one["label"]) for one in found] == classifier.predict(rows).tolist()


def test_early_stopping_counts_as_in_the_classifier_that_was_saved(tmp_path: Path) -> None:
    import xgboost

    flowers, species = iris()
    classifier = xgboost.XGBClassifier(n_estimators=60, early_stopping_rounds=1, learning_rate=1)
    classifier.fit(flowers, species, eval_set=[(flowers[::3], species[::3])], verbose=False)
    assert classifier.best_iteration < 59
    classifier.save_model(tmp_path / "m.ubj")
    rows = rows_like_iris(50)
    with ServedModel(tmp_path / "m.ubj") as model:
        found = model.predict(rows)
    assert np.array_equal(found, classifier.predict_proba(rows))


def test_features_get_their_names_from_the_signature(tmp_path: Path) -> None:
    names = ["length", "width", "petal length", "petal width"]
    fields = ", ".join(f'{{name = "{name}", dtype = "float32"}}' for name in names)
    folder = write(tmp_path / "m", "xgboost", f"[signature]\ninputs = [{fields}]\n")
    _, classifier = save_xgboost(folder / "assets" / "m.ubj")
    with ServedModel(folder) as model:
        row = [5.1, 3.5, 1.4, 0.2]
        found = model.predict([dict(zip(names, row, strict=True))])
    assert np.array_equal(np.array(found, "float32"), classifier.predict_proba([row]))


MLMODEL = """\
flavors:
  onnx: {data: net.onnx, onnx_version: 1.23.2}
  python_function: {loader_module: mlflow.onnx, data: net.onnx}
saved_input_example_info: {artifact_path: input_example.json, type: ndarray}
signature:
  inputs: '[{"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 2]}}]'
"""


def test_a_folder_of_mlflow_is_a_model_itself_or_in_one(tmp_path: Path) -> None:
    saved = tmp_path / "My run"
    doubling(saved / "net.onnx", ["n", "width"])
    (saved / "MLmodel").write_text(MLMODEL)
    (saved / "input_example.json").write_text("[[1.5, 2.5], [3, 4]]")
    assert [read_manifest(path).name for path in find_models([saved])] == ["my-run"]
    wrapped = wrap_artefact("doubles", tmp_path, saved, "mlflow")
    for folder in (saved, wrapped):
        with ServedModel(folder) as model:
            assert model.example == [[1.5, 2.5]]
            assert model.predict(model.example) == [[3, 5]]
    assert set(read_manifest(wrapped).artefacts) == {"MLmodel", "input_example.json", "net.onnx"}


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("net.onnx,", "../net.onnx,", "names '../net.onnx' for onnx, and it is not there"),
        (
            "net.onnx,",
            "net.pkl,",
            "onnx, python_function, and none of them can be loaded without a",
        ),
        ("flavors:", "flavours:", "MLmodel is no description of a model"),
        ("float32", "datetime64", "the signature in MLmodel cannot be used"),
    ],
)
def test_a_folder_of_mlflow_that_cannot_be_served_is_refused(
    tmp_path: Path, before: str, after: str, said: str
) -> None:
    doubling(tmp_path / "net.onnx", ["n", 2])
    doubling(tmp_path / "run" / "net.onnx", ["n", 2])
    (tmp_path / "run" / "MLmodel").write_text(MLMODEL.replace(before, after, 1))
    assert said in refusal(tmp_path / "run")


def test_each_setting_of_a_wrapped_artefact_can_be_uncommented(tmp_path: Path) -> None:
    source = doubling(tmp_path / "net.onnx", ["n", 2])
    folder = wrap_artefact("doubles", tmp_path, source, "onnx")
    before, path = read_manifest(folder), folder / "model.toml"
    shown = re.sub(r"^# (?=\[|[a-z_]+ = )", "", path.read_text(), flags=re.MULTILINE)
    assert '\ngives = "own"' in shown
    path.write_text(shown)
    assert read_manifest(folder) == before
    pins = (folder / "requirements.txt").read_text()
    assert f"onnxruntime=={onnxruntime.__version__}\n" in pins


def test_what_mlflow_has_pickled_is_loaded_where_it_is_signed(tmp_path: Path) -> None:
    folder = write(tmp_path / "m", "mlflow", "allow_pickle = true\n")
    _, pipeline = save_pipeline(tmp_path / "homes.skops")
    joblib.dump(pipeline, folder / "assets" / "model.pkl")
    flavour = "flavors: {sklearn: {pickled_model: model.pkl, serialization_format: cloudpickle}}\n"
    (folder / "assets" / "MLmodel").write_text(flavour)
    assert "allow_pickle = true is refused" in refusal(folder)
    hosted = HostedModel.open(folder, is_signed=True)
    homes = pd.DataFrame(homes_of(20))
    (found,) = hosted.answer([homes.to_json(orient="records").encode()]).outcomes
    assert isinstance(found, bytes)
    assert msgspec.json.decode(found) == pipeline.predict(homes).tolist()
