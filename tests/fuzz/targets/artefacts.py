"""Artefacts before their libraries read them: a sentence about what is wrong, or nothing, and of
torch's archives only what it may have. The first byte says which format the rest is.
"""

from __future__ import annotations

import io
import re
import zipfile

from modelyard.core.artefacts import ArtefactError
from modelyard.runtimes import lightgbm_text, xgboost_format
from modelyard.runtimes.torch_archive import read_archive

HANDED_ON = re.compile(
    r"m/(archive_\w+|byteorder|\.data/version|models/model\.json|data/sample_inputs/model\.pt"
    r"|data/(weights|constants)/((weight|tensor)_\d+|model_\w+_config\.json))\Z"
)


def run(data: bytes) -> None:
    kind, content = data[:1], data[1:]
    if kind == b"x":
        assert xgboost_format.problem_of(content) != ""
    elif kind == b"l":
        assert lightgbm_text.problem_of(content.decode(errors="replace")) != ""
    elif kind == b"t":
        try:
            made = read_archive(io.BytesIO(content), "it")
        except ArtefactError:
            return
        with zipfile.ZipFile(made) as archive:
            assert all(HANDED_ON.match(name) for name in archive.namelist())
            assert archive.read("m/data/sample_inputs/model.pt") == b""
