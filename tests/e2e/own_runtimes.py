"""Models without a class whose frameworks are too large for the development environment: torch and
MLflow. `make test-recipes` runs them in an environment of their own.
"""

from __future__ import annotations

import contextlib
import io
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import onnx
import pandas as pd
import pytest
import torch
from mlflow.models import infer_signature

from modelyard.testing import LoadError, ServedModel
from tests.e2e.test_command_line import run
from tests.e2e.test_runtimes import over_v2, wait_for
from tests.support.artefacts import (
    ROWS,
    homes_of,
    iris,
    rows_like_iris,
    save_onnx,
    save_pipeline,
    save_xgboost,
)
from tests.support.server import Server

pytestmark = pytest.mark.filterwarnings("default")  # of frameworks about their own code

Program = dict[str, Any]
Records = dict[str, bytes]


class Several(torch.nn.Module):
    """Takes two tensors, one of them by name, and gives two by name."""

    def forward(self, left: torch.Tensor, right: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"sum": left + right, "first": left[:, 0] * right.shape[0] / right.shape[0]}


def export(
    path: Path, net: torch.nn.Module, *shapes: tuple[int, ...], most: int | None = None
) -> Path:
    """Export a network for any number of instances, or up to ``most``."""
    batch = torch.export.Dim("batch", max=most)
    exported = torch.export.export(
        net.eval(),
        tuple(torch.zeros(2, *shape) for shape in shapes),
        dynamic_shapes=tuple({0: batch} for _ in shapes),
    )
    torch.export.save(exported, path)
    return path


def perceptron() -> torch.nn.Module:
    torch.manual_seed(0)
    layers = torch.nn.Linear(4, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3), torch.nn.Softmax(1)
    return torch.nn.Sequential(*layers)


def refusal(path: Path) -> str:
    with pytest.raises(LoadError) as refused, ServedModel(path):
        pass
    return str(refused.value)


def test_an_exported_network_is_served_as_it_is(tmp_path: Path) -> None:
    net, rows = perceptron(), rows_like_iris()
    path = export(tmp_path / "net.pt2", net, (4,))
    with torch.inference_mode():
        expected = np.concatenate(
            [net(torch.from_numpy(part)).numpy() for part in np.split(rows, 20)]
        )
    with Server(path) as server:
        wait_for(server)
        found = server.predict("net", rows.tolist()).json()["prediction"]
        assert np.allclose(found, expected, atol=1e-6)
        found = over_v2(server, "net", rows, "input")["output"]["data"]
        assert np.allclose(np.reshape(found, (ROWS, 3)), expected, atol=1e-6)
        example = server.http.get("/models/net/example").json()
        assert example["input_data"] == [[0, 0, 0, 0]]
    assert run("new", "net", "--from", path, "--into", tmp_path / "models").returncode == 0
    assert "1 passed" in run("test", tmp_path / "models" / "net").stdout


def test_several_tensors_are_columns_and_a_bound_of_the_batch_is_kept(tmp_path: Path) -> None:
    path = export(tmp_path / "several.pt2", Several(), (2,), (2,), most=3)
    instances = [{"left": [n, 1], "right": [10, n]} for n in range(8)]
    with ServedModel(path) as model:
        found = model.predict(instances)
    assert found == [{"sum": [n + 10, n + 1], "first": n} for n in range(8)]


def test_a_network_exported_for_one_instance_is_run_once_for_each(tmp_path: Path) -> None:
    exported = torch.export.export(perceptron().eval(), (torch.zeros(1, 4),))
    torch.export.save(exported, tmp_path / "one.pt2")
    rows = rows_like_iris(5)
    with torch.inference_mode(), ServedModel(tmp_path / "one.pt2") as model:
        assert np.allclose(model.predict(rows), perceptron()(torch.from_numpy(rows)), atol=1e-6)


def change(path: Path, how: Callable[[Records, Program], None]) -> None:
    """Change the records of an archive, and the program among them."""
    with zipfile.ZipFile(path) as archive:
        records = {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}
    program = json.loads(records["models/model.json"])
    how(records, program)
    records["models/model.json"] = json.dumps(program).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in records.items():
            archive.writestr(f"net/{name}", content)


class Intruder:
    """Runs when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def saved(value: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def a_weight(mark: Path, records: Records, program: Program) -> None:
    config = json.loads(records["data/weights/model_weights_config.json"])
    payload = next(iter(config["config"].values()))
    payload["use_pickle"] = True
    records[f"data/weights/{payload['path_name']}"] = saved(Intruder(mark))
    records["data/weights/model_weights_config.json"] = json.dumps(config).encode()


def old_weights(mark: Path, records: Records, program: Program) -> None:
    records["data/weights/model.pt"] = saved(Intruder(mark))


def an_object(mark: Path, records: Records, program: Program) -> None:
    payload = {
        "path_name": "opaque_obj_0",
        "is_param": False,
        "use_pickle": True,
        "tensor_meta": None,
    }
    config = {"config": {"it": payload}}
    records["data/constants/opaque_obj_0"] = pickle.dumps(Intruder(mark))
    records["data/constants/model_constants_config.json"] = json.dumps(config).encode()


def an_example(mark: Path, records: Records, program: Program) -> None:
    records["data/sample_inputs/model.pt"] = saved(Intruder(mark))


def a_size(mark: Path, records: Records, program: Program) -> None:
    sizes = program["graph_module"]["graph"]["tensor_values"]["input"]["sizes"]
    sizes[0]["as_expr"]["expr_str"] = f"__import__('pathlib').Path('{mark}').touch()"


def a_guard(mark: Path, records: Records, program: Program) -> None:
    program["guards_code"] = [f"__import__('pathlib').Path('{mark}').touch() is None"]


def an_operator(mark: Path, records: Records, program: Program) -> None:
    node = program["graph_module"]["graph"]["nodes"][0]
    node["target"] = "torch.os.mkdir"
    text = {"name": "path", "arg": {"as_string": str(mark)}, "kind": 1}
    node["inputs"] = [text]


ATTACKS = [a_weight, old_weights, an_object, an_example, a_size, a_guard]


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_nothing_in_an_archive_runs_code(
    tmp_path: Path, attack: Callable[[Path, Records, Program], None]
) -> None:
    path, mark = export(tmp_path / "net.pt2", perceptron(), (4,)), tmp_path / "mark"
    change(path, lambda records, program: attack(mark, records, program))
    with contextlib.suppress(Exception):
        torch.export.load(path).module()(torch.zeros(2, 4))
    assert mark.exists(), "torch itself lets it run"
    mark.unlink()
    with contextlib.suppress(LoadError), ServedModel(path) as model:
        assert len(model.predict([[1, 2, 3, 4]])) == 1, "it is left out"
    assert not mark.exists()


def renamed(records: Records, program: Program) -> None:
    text = json.dumps(program).replace('"input"', '"input=print(1)"')
    program.clear()
    program.update(json.loads(text))


def keyed(records: Records, program: Program) -> None:
    (entry, *_) = program["graph_module"]["module_call_graph"]
    dict_spec: dict[str, Any] = {"type": None, "context": None, "children_spec": []}
    spec = {"type": "builtins.dict", "context": '["a\\"]"]', "children_spec": [dict_spec]}
    entry["signature"]["out_spec"] = json.dumps([1, spec])


@pytest.mark.parametrize(
    ("how", "said"),
    [
        (lambda r, p: a_weight(Path("m"), r, p), "0.weight is a pickle, which can run any code"),
        (lambda r, p: an_object(Path("m"), r, p), "it is a pickle, which can run any code"),
        (lambda r, p: a_size(Path("m"), r, p), "is no expression of sizes"),
        (
            lambda r, p: an_operator(Path("m"), r, p),
            "it calls 'torch.os.mkdir', which is no operator",
        ),
        (renamed, "'input=print(1)' is no name"),
        (keyed, "a dict with keys that are no names"),
        (lambda r, p: r.update({"data/aotinductor/m/x.so": b""}), "is compiled code, which is not"),
        (lambda r, p: r.update({"archive_version": b"99"}), "is no program that this torch reads"),
        (lambda r, p: p.update({"graph_module": {}}), "is no program that this torch reads"),
    ],
)
def test_what_is_wrong_with_an_archive_is_said(
    tmp_path: Path, how: Callable[[Records, Program], None], said: str
) -> None:
    path = export(tmp_path / "net.pt2", perceptron(), (4,))
    change(path, how)
    found = refusal(path)
    assert said in found
    assert "net.pt2" in found


def test_a_damaged_archive_is_refused_by_name(tmp_path: Path) -> None:
    path = export(tmp_path / "net.pt2", perceptron(), (4,))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert "net.pt2 is no program that torch.export has saved, or is damaged" in refusal(path)
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        weight = archive.getinfo("net/data/weights/weight_0")
    flipped = bytearray(whole)
    flipped[weight.header_offset + 80 + len(weight.filename)] ^= 1
    path.write_bytes(flipped)
    assert "net.pt2" in refusal(path)


def test_without_a_gpu_torch_fails_or_falls_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "m"
    (folder / "assets").mkdir(parents=True)
    export(folder / "assets" / "net.pt2", perceptron(), (4,))
    manifest = 'name = "m"\nversion = "1"\nruntime = "torch"\n[resources]\ngpu = 1\n'
    (folder / "model.toml").write_text(manifest)
    assert "torch finds none that it can use" in refusal(folder)
    (folder / "model.toml").write_text(manifest + 'without_gpu = "cpu"\n')
    with ServedModel(folder) as model:
        assert model.predict(model.example)
    assert "it runs on the CPU" in caplog.text


def test_what_mlflow_has_saved_is_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "runs").as_uri())
    flowers, _ = iris()
    graph = onnx.load(save_onnx(tmp_path / "iris.onnx"))
    mlflow.onnx.save_model(graph, tmp_path / "graph", input_example=flowers[:2])
    _, trees = save_xgboost(tmp_path / "m.ubj", names=True)
    frame = pd.DataFrame(rows_like_iris(), columns=["a b", "class", "c", "d"])
    signature = infer_signature(frame, trees.predict(frame))
    mlflow.xgboost.save_model(trees, tmp_path / "trees", signature=signature)
    _, pipeline = save_pipeline(tmp_path / "homes.skops")
    homes = pd.DataFrame(homes_of(ROWS))
    mlflow.sklearn.save_model(
        pipeline,
        tmp_path / "homes",
        serialization_format="skops",
        skops_trusted_types=["sklearn.tree._tree.Tree"],
        signature=infer_signature(homes, pipeline.predict(homes)),
        input_example=homes[:1],
    )
    with Server(*(tmp_path / name for name in ("graph", "trees", "homes"))) as server:
        wait_for(server)
        example = server.http.get("/models/graph/example").json()
        assert np.allclose(example["input_data"], flowers[:1])
        for name, table in (("trees", frame), ("homes", homes)):
            found = server.predict(name, table.to_dict("records")).json()["prediction"]
            expected = mlflow.pyfunc.load_model(tmp_path / name).predict(table)
            assert found == expected.tolist(), name
    mlflow.sklearn.save_model(pipeline, tmp_path / "old", serialization_format="cloudpickle")
    assert "none of them can be loaded without a pickle" in refusal(tmp_path / "old")
