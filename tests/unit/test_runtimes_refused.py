"""Artefacts without a class: what is missing, damaged or could do harm is refused, and said."""

from __future__ import annotations

import io
import json
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import skops.io
from onnx import TensorProto, helper
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier

from modelyard.testing import ServedModel
from tests.support.artefacts import (
    iris,
    save_forest,
    save_lightgbm,
    save_onnx,
    save_pipeline,
    save_xgboost,
)
from tests.unit.runtimes import doubling, graph, refusal, write


def test_which_of_several_files_it_is_has_to_be_said(tmp_path: Path) -> None:
    folder = write(tmp_path / "m", "onnx")
    assert "there is no file .onnx in assets/" in refusal(folder)
    doubling(folder / "assets" / "a.onnx", ["n", 2])
    doubling(folder / "b.onnx", ["n", 3])
    assert 'assets/a.onnx, b.onnx; write artefact = "…"' in refusal(folder)
    write(folder, "onnx", 'artefact = "b.onnx"\n')
    with ServedModel(folder) as model:
        assert model.predict([[1, 2, 3]]) == [[2, 4, 6]]
    for other in ("../m/b.onnx", "/etc/passwd", "c.onnx", "tests/b.onnx"):
        write(folder, "onnx", f'artefact = "{other}"\n')
        assert f"{other} is missing" in refusal(folder)


def test_a_pickle_that_nobody_has_signed_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "m", "onnx", "allow_pickle = true\n")
    doubling(folder / "assets" / "a.onnx", ["n", 2])
    assert "allow_pickle = true is refused: a pickle can run any code" in refusal(folder)


def test_without_its_library_a_runtime_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    said = refusal(doubling(tmp_path / "a.onnx", ["n", 2]))
    assert "needs onnxruntime, which is not installed: pip install 'modelyard[onnx]'" in said


@pytest.mark.parametrize("runtime", ["onnx", "xgboost", "lightgbm", "sklearn"])
def test_without_a_gpu_it_fails_or_falls_back(
    tmp_path: Path, runtime: str, caplog: pytest.LogCaptureFixture
) -> None:
    save: dict[str, Any] = {
        "onnx": (save_onnx, "m.onnx"),
        "xgboost": (save_xgboost, "m.ubj"),
        "lightgbm": (save_lightgbm, "m.txt"),
        "sklearn": (save_pipeline, "m.skops"),
    }
    folder = write(tmp_path / "m", runtime, "[resources]\ngpu = 1\n")
    saver, name = save[runtime]
    saver(folder / "assets" / name)
    said = refusal(folder)
    assert "[resources] gpu asks for a device, and " in said
    assert 'with without_gpu = "cpu" under [resources]' in said
    write(folder, runtime, '[resources]\ngpu = 1\nwithout_gpu = "cpu"\n')
    with ServedModel(folder) as model:
        assert model.predict(model.example)
    assert "it runs on the CPU" in caplog.text


def test_weights_in_other_files_are_read_from_a_folder_alone(tmp_path: Path) -> None:
    folder = write(tmp_path / "m", "onnx")
    raw = np.array([10, 20], "float32").tobytes()
    weights = helper.make_tensor("w", TensorProto.FLOAT, [2], raw, raw=True)
    node = helper.make_node("Add", ["x", "w"], ["y"])
    kind = (TensorProto.FLOAT, ["n", 2])
    path = graph(folder / "assets" / "net.onnx", [node], {"x": kind}, {"y": kind})
    model = onnx.load(path)
    model.graph.initializer.append(weights)
    onnx.save(model, path, save_as_external_data=True, size_threshold=0, location="net.data")
    with ServedModel(folder) as served:
        assert served.predict([[1, 2]]) == [[11, 22]]
    assert "net.onnx keeps weights in other files" in refusal(path)
    (tmp_path / "elsewhere").write_bytes(raw)
    outside = onnx.load(path, load_external_data=False)
    for other in ("../../elsewhere", str(tmp_path / "elsewhere")):
        outside.graph.initializer[0].external_data[0].value = other
        path.write_bytes(outside.SerializeToString())
        assert "assets/net.onnx is no ONNX file that onnxruntime can run" in refusal(folder)


def damaged(path: Path) -> Path:
    """Cut a file in two, so that its first part is left."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    return path


def test_a_damaged_file_is_refused_by_name(tmp_path: Path) -> None:
    made = {
        "iris.onnx": save_onnx(tmp_path / "iris.onnx"),
        "m.ubj": save_xgboost(tmp_path / "m.ubj")[0],
        "m.json": save_xgboost(tmp_path / "m.json")[0],
        "m.txt": save_lightgbm(tmp_path / "m.txt")[0],
        "m.skops": save_forest(tmp_path / "m.skops"),
    }
    for name, path in made.items():
        assert name in refusal(damaged(path)), name
        assert "damaged" in refusal(path), name


def test_types_that_could_do_harm_are_not_loaded(tmp_path: Path) -> None:
    folder = write(tmp_path / "m", "sklearn")
    path = save_forest(folder / "assets" / "m.skops")
    change(path, lambda schema: schema | {"__class__": "system", "__module__": "os"})
    said = refusal(folder)
    assert "os.system" in said
    assert "assets/m.skops" in said


def test_a_tree_that_leads_out_of_its_nodes_is_refused(tmp_path: Path) -> None:
    forest = RandomForestClassifier(3, random_state=0).fit(*iris())
    tree = forest.estimators_[1].tree_
    state = tree.__getstate__()
    state["nodes"]["left_child"][0] = 1_000_000
    tree.__setstate__(state)
    skops.io.dump(forest, tmp_path / "m.skops")
    assert "m.skops is damaged: a tree in it leads out of its nodes" in refusal(
        tmp_path / "m.skops"
    )


def change(path: Path, how: Any) -> None:
    """Change the description in a file of skops."""
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    files["schema.json"] = json.dumps(how(json.loads(files["schema.json"]))).encode()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    path.write_bytes(buffer.getvalue())


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("left_child=1", "left_child=900"),
        ("split_feature=3", "split_feature=9"),
        ("leaf_value=-0", "leaf_value=q0"),
        ("\nTree=1\n", "\nTree=2\n"),
        ("end of trees", "end of time"),
        ("\nend of parameters", "\nend of it all"),
        ("tree_sizes=", "tree_size="),
    ],
)
def test_what_would_end_the_process_of_lightgbm_is_found_before(
    tmp_path: Path, before: str, after: str
) -> None:
    path, _ = save_lightgbm(tmp_path / "m.txt")
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after, 1))
    assert "m.txt is damaged: " in refusal(path)


def test_a_tree_of_a_histogram_that_has_no_end_is_refused(tmp_path: Path) -> None:
    model = HistGradientBoostingClassifier(max_iter=2).fit(*iris())
    skops.io.dump(model, tmp_path / "m.skops")
    with ServedModel(tmp_path / "m.skops") as served:
        assert served.predict([[5.1, 3.5, 1.4, 0.2]]) == [0]
    nodes = model._predictors[1][2].nodes
    nodes["left"][nodes["is_leaf"] == 0] = 0
    skops.io.dump(model, tmp_path / "m.skops")
    assert "a tree in it leads out of its nodes" in refusal(tmp_path / "m.skops")


@pytest.mark.parametrize(
    ("array", "value"), [("left_children", 900), ("right_children", 0), ("split_indices", 9)]
)
def test_a_tree_of_xgboost_that_leads_out_of_itself_is_found_before(
    tmp_path: Path, array: str, value: int
) -> None:
    path, _ = save_xgboost(tmp_path / "m.json")
    model = json.loads(path.read_text())
    model["learner"]["gradient_booster"]["model"]["trees"][1][array][0] = value
    path.write_text(json.dumps(model))
    assert "m.json is damaged: tree 1 leads out of itself" in refusal(path)
    path, _ = save_xgboost(tmp_path / "m.ubj")
    content = path.read_bytes()
    start = content.index(array.encode() + b"[$l#L") + len(array) + 13
    path.write_bytes(content[:start] + value.to_bytes(4, "big") + content[start + 4 :])
    assert "m.ubj is damaged: tree 0 leads out of itself" in refusal(path)


def test_every_kind_of_booster_is_read(tmp_path: Path) -> None:
    import xgboost

    flowers, species = iris()
    matrix = xgboost.DMatrix(flowers, species)
    several = xgboost.DMatrix(flowers, np.column_stack([species, species]))
    ways: list[tuple[dict[str, Any], Any]] = [
        ({"booster": "dart"}, matrix),
        ({"booster": "gblinear"}, matrix),
        ({"tree_method": "exact", "gamma": 3}, matrix),
        ({"multi_strategy": "multi_output_tree"}, several),
    ]
    for settings, data in ways:
        booster = xgboost.train(settings, data, 5)
        booster.save_model(tmp_path / "m.ubj")
        with ServedModel(tmp_path / "m.ubj") as model:
            assert np.allclose(model.predict(flowers), booster.predict(data)), settings
