"""Models without a class: from a file to an answer, with one command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pandas as pd
import pytest

from tests.e2e.test_command_line import check_mistake, run
from tests.support.artefacts import (
    ROWS,
    homes_of,
    rows_like_iris,
    save_lightgbm,
    save_onnx,
    save_pipeline,
    save_xgboost,
)
from tests.support.server import Member, Server, wait_until


def wait_for(server: Member) -> None:
    wait_until(lambda: server.http.get("/readyz").status_code == 200, what="the models")


def over_v2(server: Server, name: str, array: Any, tensor: str = "x") -> dict[str, Any]:
    """Give the outputs for one input, by their names."""
    datatype = {"float32": "FP32", "float64": "FP64"}[array.dtype.name]
    body = {
        "inputs": [
            {
                "name": tensor,
                "datatype": datatype,
                "shape": list(array.shape),
                "data": array.reshape(-1).tolist(),
            }
        ]
    }
    answer = server.http.post(f"/v2/models/{name}/infer", json=body)
    assert answer.status_code == 200, answer.text
    return {one["name"]: one for one in answer.json()["outputs"]}


def test_a_bare_onnx_file_is_served_as_it_is(tmp_path: Path) -> None:
    path = save_onnx(tmp_path / "Iris Flowers.onnx")
    before = sorted(tmp_path.rglob("*"))
    rows = rows_like_iris()
    labels, probabilities = onnxruntime.InferenceSession(path).run(None, {"X": rows})
    with Server(path) as server:
        wait_for(server)
        answer = server.predict("iris-flowers", rows.tolist())
        assert answer.json()["model_version"] == "1"
        found = answer.json()["prediction"]
        assert [one["label"] for one in found] == labels.tolist()
        assert [one["probabilities"] for one in found] == probabilities.tolist()
        outputs = over_v2(server, "iris-flowers", rows, "X")
        assert outputs["label"]["data"] == labels.tolist()
        assert outputs["probabilities"]["data"] == probabilities.reshape(-1).tolist()
        example = server.http.get("/models/iris-flowers/example").json()
        assert example["input_data"] == [[0, 0, 0, 0]]
        document = server.http.get("/openapi.json").text
        facts = server.http.get("/v2/models/iris-flowers").json()
    assert '"probabilities"' in document
    assert facts["inputs"] == [{"name": "X", "datatype": "FP32", "shape": [-1, 4]}]
    assert sorted(tmp_path.rglob("*")) == before


def test_a_folder_is_written_around_a_file(tmp_path: Path) -> None:
    path = save_onnx(tmp_path / "net.onnx", zipmap=True, labels=True)
    said = run("new", "iris", "--from", path, "--into", tmp_path / "models")
    assert said.returncode == 0, said.stderr
    folder = tmp_path / "models" / "iris"
    assert "failed" not in run("check", folder).stdout
    assert "1 passed" in run("test", folder).stdout
    rows = rows_like_iris(20)
    labels, maps = onnxruntime.InferenceSession(path).run(None, {"X": rows})
    with Server(folder) as server:
        wait_for(server)
        found = server.predict("iris", rows.tolist()).json()["prediction"]
    assert [one["output_label"] for one in found] == labels.tolist()
    ordered = [[one[name] for name in ("setosa", "versicolor", "virginica")] for one in maps]
    assert np.allclose([one["output_probability"] for one in found], ordered)
    assets = folder / "assets" / "net.onnx"
    assets.write_bytes(assets.read_bytes()[:-1])
    assert "assets/net.onnx is damaged" in run("check", folder).stdout


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("iris.onnx", b"", "iris.onnx is empty"),
        ("iris.pkl", b"x", "iris.pkl: such a file is a pickle, which can run any code"),
        ("iris.joblib", b"x", "skops.io.dump(model, 'model.skops')"),
        ("iris.h5", b"x", "iris.h5: no runtime serves such a file; those that are served: .onnx"),
        ("iris.skops", b"x", "expected a zip archive, as skops.io.dump writes it"),
        ("iris.pt2", b"x", "expected a zip archive, as torch.export.save writes it"),
        ("iris.txt", b"hello", "its first line is 'tree'"),
        ("config.json", b'{"a": 1}', "expected what XGBoost's save_model writes as .ubj or .json"),
        ("___.onnx", b"x", "no name can be made of it: `modelyard new NAME --from FILE`"),
    ],
)
def test_a_file_that_is_none_of_a_runtime_is_refused_by_name(
    tmp_path: Path, name: str, content: bytes, said: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    check_mistake(run("serve", path), name, said)


def test_scikit_learn_and_boosted_trees_are_served_beside_each_other(tmp_path: Path) -> None:
    skops, pipeline = save_pipeline(tmp_path / "homes.skops")
    ubj, trees = save_xgboost(tmp_path / "trees.ubj")
    named, named_trees = save_xgboost(tmp_path / "named.json", names=True)
    text, boosted = save_lightgbm(tmp_path / "boosted.txt")
    homes, rows = homes_of(ROWS), rows_like_iris()
    with Server(skops, ubj, named, text) as server:
        wait_for(server)
        instances = [
            dict(zip(homes, one, strict=True)) for one in zip(*homes.values(), strict=True)
        ]
        found = server.predict("homes", instances).json()["prediction"]
        assert found == pipeline.predict(pd.DataFrame(homes)).tolist()
        tensors = [
            {"name": name, "datatype": kind, "shape": [ROWS], "data": list(homes[name])}
            for name, kind in (("rooms", "FP64"), ("size (m2)", "FP64"), ("the city", "BYTES"))
        ]
        answer = server.http.post("/v2/models/homes/infer", json={"inputs": tensors}).json()
        assert answer["outputs"][0]["data"] == found
        found = server.predict("trees", rows.tolist()).json()["prediction"]
        assert np.array_equal(np.array(found, "float32"), trees.predict_proba(rows))
        found = over_v2(server, "trees", rows)["output"]["data"]
        assert found == trees.predict_proba(rows).reshape(-1).tolist()
        instances = [
            dict(zip(["a b", "class", "c", "d"], row, strict=True)) for row in rows.tolist()
        ]
        found = server.predict("named", instances).json()["prediction"]
        assert np.array_equal(np.array(found, "float32"), named_trees.predict_proba(rows))
        wide = rows.astype("float64")
        found = server.predict("boosted", wide.tolist()).json()["prediction"]
        assert found == boosted.predict_proba(wide)[:, 1].tolist()
        found = over_v2(server, "boosted", wide)["output"]["data"]
        assert found == boosted.predict_proba(wide)[:, 1].tolist()
        facts = server.http.get("/v2/models/homes").json()
        document = server.http.get("/openapi.json").json()
    assert [(one["name"], one["datatype"]) for one in facts["inputs"]] == [
        ("rooms", "FP64"),
        ("size (m2)", "FP64"),
        ("the city", "BYTES"),
    ]
    assert '"cheap", "dear"' in json.dumps(document), "its labels are listed"


def test_on_a_machine_without_a_gpu_it_is_said_and_the_cpu_serves(tmp_path: Path) -> None:
    asks = {"fails": "", "falls_back": 'without_gpu = "cpu"\n'}
    for name, more in asks.items():
        (tmp_path / name / "assets").mkdir(parents=True)
        save_onnx(tmp_path / name / "assets" / "iris.onnx")
        text = f'name = "{name}"\nversion = "1"\nruntime = "onnx"\n[resources]\ngpu = 1\n{more}'
        (tmp_path / name / "model.toml").write_text(text)
    with Server(tmp_path, settings={"CUDA_VISIBLE_DEVICES": ""}) as server:
        wait_until(lambda: len(states_of(server)) == 2, what="both models")
        states = wait_until(
            lambda: states_of(server) if "loading" not in states_of(server).values() else None,
            what="both models to be settled",
        )
        assert states == {"fails": "failed", "falls_back": "ready"}
        assert server.predict("falls_back", [[5.1, 3.5, 1.4, 0.2]]).status_code == 200
        assert server.events("no_device")
        assert "this onnxruntime cannot use one (onnxruntime-gpu can): it runs on the CPU" in (
            server.output
        )


def states_of(server: Server) -> dict[str, str]:
    models = server.http.get("/models").json()["models"]
    return {model["name"]: model["versions"][0]["state"] for model in models}


def test_a_bare_file_that_changes_is_loaded_again(tmp_path: Path) -> None:
    path, _ = save_xgboost(tmp_path / "trees.ubj")
    _, other = save_xgboost(tmp_path / "other.ubj", trees=2)
    rows = rows_like_iris(5)
    with Member("serve", path, "--reload") as server:
        wait_for(server)
        before = server.predict("trees", rows.tolist()).json()["prediction"]
        (tmp_path / "other.ubj").replace(path)
        expected = other.predict_proba(rows).tolist()
        assert before != expected
        wait_until(
            lambda: server.predict("trees", rows.tolist()).json()["prediction"] == expected,
            what="the new file",
        )
