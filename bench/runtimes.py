"""``python -m bench.runtimes``: what a runtime takes beside a class that is written by hand.

Both host the same artefact in this process, and answer the same requests in turns: JSON in, JSON
out, without HTTP, which would hide a difference. Printed is the ratio of the medians. Frameworks
that are not installed are left out. The exit code is 1 if a runtime takes over 5 % more.
"""

from __future__ import annotations

import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from modelyard.runner.host import HostedModel
from tests.support import artefacts

ROUNDS = 400
LIMIT = 1.05
SIZES = (1, 64)

HEAD = """\
from typing import Annotated

import numpy as np

from modelyard import Columns, Model, Tensor

Rows = Annotated[np.ndarray, Tensor("{dtype}", (4,))]
Three = Annotated[np.ndarray, Tensor("float32", (3,))]
One = Annotated[np.ndarray, Tensor("{gives}")]


class Both(Columns):
    label: Annotated[np.ndarray, Tensor("int64")]
    probabilities: Annotated[np.ndarray, Tensor("float32", (3,))]


class ByHand(Model):
    example = np.zeros((1, 4), dtype="{dtype}")
"""
ONNX = """
    def load(self):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(self.assets / "m.onnx", options)

    def predict(self, instances: Rows) -> Both:
        label, probabilities = self.session.run(None, {"X": instances})
        return Both(label=label, probabilities=probabilities)
"""
SKLEARN = """
    def load(self):
        import skops.io

        file = self.assets / "m.skops"
        self.model = skops.io.load(file, trusted=skops.io.get_untrusted_types(file=file))
        self.model.set_params(n_jobs=1)

    def predict(self, instances: Rows) -> One:
        return self.model.predict(instances)
"""
XGBOOST = """
    def load(self):
        import xgboost

        self.booster = xgboost.Booster(model_file=self.assets / "m.ubj")
        self.booster.set_param({"nthread": 1})

    def predict(self, instances: Rows) -> Three:
        return self.booster.inplace_predict(instances)
"""
LIGHTGBM = """
    def load(self):
        import lightgbm

        self.booster = lightgbm.Booster(model_file=self.assets / "m.txt")

    def predict(self, instances: Rows) -> One:
        return self.booster.predict(instances, num_threads=1)
"""
TORCH = """
    def load(self):
        import torch

        torch.set_num_threads(1)
        self.torch = torch
        self.net = torch.export.load(self.assets / "m.pt2").module()

    def predict(self, instances: Rows) -> Three:
        with self.torch.inference_mode():
            return self.net(self.torch.from_numpy(instances)).numpy()
"""


class Case(NamedTuple):
    """A framework: how its artefact is made, and the class that somebody would write for it."""

    library: str
    file: str
    save: Callable[[Path], Any]
    code: str
    dtype: str = "float32"
    gives: str = "int64"


CASES = {
    "onnx": Case("onnxruntime", "m.onnx", artefacts.save_onnx, ONNX),
    "sklearn": Case("skops", "m.skops", artefacts.save_forest, SKLEARN, "float64"),
    "xgboost": Case("xgboost", "m.ubj", artefacts.save_xgboost, XGBOOST),
    "lightgbm": Case("lightgbm", "m.txt", artefacts.save_lightgbm, LIGHTGBM, "float64", "float64"),
    "torch": Case("torch", "m.pt2", artefacts.save_torch, TORCH),
}


def main() -> int:
    """Measure each framework that is installed; give the exit code."""
    is_missed = False
    print(f"{os.cpu_count()} cores, Python {platform.python_version()}")
    with tempfile.TemporaryDirectory() as temporary:
        for runtime, case in CASES.items():
            if find_spec(case.library) is None:
                print(f"{runtime:9} {case.library} is not installed")
                continue
            folders = _write(Path(temporary, runtime), runtime, case)
            for size in SIZES:
                by_hand, by_runtime = _measure(folders, size)
                is_missed |= by_runtime > LIMIT * by_hand
                print(
                    f"{runtime:9} {size:3} instances: {by_hand:8.1f} µs by hand, "
                    f"{by_runtime:8.1f} µs by the runtime: {by_runtime / by_hand - 1:+.1%}"
                )
    return int(is_missed)


def _write(into: Path, runtime: str, case: Case) -> tuple[Path, Path]:
    """Write two models of one artefact: with a class, and with a runtime."""
    by_hand, by_runtime = into / "by_hand", into / "by_runtime"
    for folder, how in (
        (by_hand, 'class = "model:ByHand"'),
        (by_runtime, f'runtime = "{runtime}"'),
    ):
        (folder / "assets").mkdir(parents=True)
        case.save(folder / "assets" / case.file)
        (folder / "model.toml").write_text(f'name = "m"\nversion = "1"\n{how}\n')
    (by_hand / "src").mkdir()
    code = HEAD.format(dtype=case.dtype, gives=case.gives) + case.code
    (by_hand / "src" / "model.py").write_text(code)
    return by_hand, by_runtime


def _measure(folders: tuple[Path, Path], size: int) -> tuple[float, float]:
    """Return the median of each model's times for a request, in µs, answered in turns."""
    hosted = [HostedModel.open(folder) for folder in folders]
    for one in hosted:
        one.warm_up()
    request = msgspec.json.encode(artefacts.rows_like_iris(size).tolist())
    assert len({bytes(one.answer([request]).outcomes[0]) for one in hosted}) == 1  # type: ignore[arg-type]
    taken: list[list[float]] = [[], []]
    for number in range(2 * ROUNDS):
        for which in (0, 1) if number % 2 else (1, 0):
            started = time.perf_counter()
            hosted[which].answer([request])
            taken[which].append(1e6 * (time.perf_counter() - started))
    by_hand, by_runtime = (statistics.median(times) for times in taken)
    return by_hand, by_runtime


if __name__ == "__main__":
    sys.exit(main())
