"""``runtime = "lightgbm"``: boosted trees as LightGBM's text, which holds no code."""

from __future__ import annotations

from typing import Any

from modelyard.core.artefacts import ArtefactError
from modelyard.runtimes.lightgbm_text import problem_of
from modelyard.runtimes.model import (
    Artefact,
    Axes,
    Found,
    RuntimeModel,
    choose_device,
    library,
)
from modelyard.runtimes.tables import as_matrix, class_outputs, of_classes, row_ports


class LightGBMModel(RuntimeModel):
    """A booster."""

    def read(self, artefact: Artefact) -> Found:
        """See ``RuntimeModel``."""
        with library("lightgbm"):
            import lightgbm
        choose_device(artefact, can_use_gpu=False, why_not="LightGBM predicts on the CPU")
        try:
            text = artefact.path.read_text(encoding="utf-8")
            if problem := problem_of(text):
                raise ArtefactError(f"{artefact.shown} is damaged: {problem}")
            booster = lightgbm.Booster(model_str=text)
        except ArtefactError:
            raise
        except Exception as error:
            raise ArtefactError(
                f"{artefact.shown} is no model that this lightgbm reads, or it is damaged"
            ) from error
        self._booster = booster
        self._threads = artefact.threads
        self._gives = artefact.signature.gives
        objective = str(booster.dump_model(num_iteration=1).get("objective", "")).split(" ")[0]
        if self._gives != "own" and objective not in ("binary", "multiclass", "multiclassova"):
            raise ArtefactError(
                f"gives = {self._gives!r}: {artefact.shown} was trained for {objective}, which has "
                "no probabilities of classes"
            )
        names, count = booster.feature_name(), booster.num_feature()
        is_unnamed = names == [f"Column_{number}" for number in range(count)]
        inputs = row_ports(
            None if is_unnamed else names,
            count,
            dtypes=["float64"],
            signature=artefact.signature,
            shown=artefact.shown,
        )
        outputs = [""] if self._gives == "own" else class_outputs(self._gives)
        return Found(inputs, [Axes(name, "", None) for name in outputs])

    def run(self, arrays: list[Any]) -> list[Any]:
        """See ``RuntimeModel``."""
        made = self._booster.predict(as_matrix(arrays, "float64"), num_threads=self._threads)
        return [made] if self._gives == "own" else of_classes(made, self._gives)
