"""``runtime = "xgboost"``: boosted trees in XGBoost's own formats, which hold no code."""

from __future__ import annotations

import json
from typing import Any

from modelyard.core.artefacts import ArtefactError
from modelyard.runtimes.model import (
    Artefact,
    Axes,
    Found,
    RuntimeModel,
    choose_device,
    library,
)
from modelyard.runtimes.tables import as_matrix, class_outputs, of_classes, row_ports
from modelyard.runtimes.xgboost_format import problem_of

_DTYPES = {"int": "int64", "i": "bool", "c": "int64"}  # of features; all others are float32
_CLASSIFIERS = ("binary:logistic", "multi:softprob")  # their predictions are probabilities


class XGBoostModel(RuntimeModel):
    """A booster."""

    def read(self, artefact: Artefact) -> Found:
        """See ``RuntimeModel``."""
        with library("xgboost"):
            import xgboost
        can_use_gpu = bool(xgboost.build_info().get("USE_CUDA"))
        why_not = "this xgboost cannot use one (xgboost-cpu is without)"
        uses_gpu = choose_device(artefact, can_use_gpu=can_use_gpu, why_not=why_not)
        try:
            content = artefact.path.read_bytes()
            if problem := problem_of(content):
                raise ArtefactError(f"{artefact.shown} is damaged: {problem}")
            booster = xgboost.Booster(model_file=bytearray(content))
            config = json.loads(booster.save_config())["learner"]
        except ArtefactError:
            raise
        except Exception as error:
            raise ArtefactError(
                f"{artefact.shown} is no model that this xgboost reads, or it is damaged"
            ) from error
        booster.set_param({"nthread": artefact.threads, "device": "cuda" if uses_gpu else "cpu"})
        self._booster = booster
        self._matrix = xgboost.DMatrix
        self._is_linear = config["gradient_booster"]["name"] == "gblinear"
        self._range = _iterations_of(booster)
        self._gives = artefact.signature.gives
        objective = config["objective"]["name"]
        if self._gives != "own" and objective not in _CLASSIFIERS:
            raise ArtefactError(
                f"gives = {self._gives!r}: {artefact.shown} was trained for {objective}, which has "
                "no probabilities of classes"
            )
        kinds = booster.feature_types or []
        inputs = row_ports(
            booster.feature_names,
            booster.num_features(),
            dtypes=[_DTYPES.get(kind, "float32") for kind in kinds] or ["float32"],
            signature=artefact.signature,
            shown=artefact.shown,
        )
        names = [""] if self._gives == "own" else class_outputs(self._gives)
        return Found(inputs, [Axes(name, "", None) for name in names])

    def run(self, arrays: list[Any]) -> list[Any]:
        """See ``RuntimeModel``."""
        rows = as_matrix(arrays, "float32")
        if self._is_linear:
            matrix = self._matrix(rows)
            made = self._booster.predict(
                matrix, iteration_range=self._range, validate_features=False
            )
        else:
            made = self._booster.inplace_predict(
                rows, iteration_range=self._range, validate_features=False
            )
        return [made] if self._gives == "own" else of_classes(made, self._gives)


def _iterations_of(booster: Any) -> tuple[int, int]:
    """Return the trees that count: with early stopping, scikit-learn's interface leaves out those
    after the best. (0, 0) is all.
    """
    best = booster.attr("best_iteration")
    return (0, int(best) + 1) if best and booster.attr("scikit_learn") else (0, 0)
