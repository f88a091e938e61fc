"""What is pushed: refused, or files that lie in their folder and nowhere else."""

from __future__ import annotations

import os

import msgspec

from modelyard.core.errors import RequestError
from modelyard.core.versions import Contents, check_contents
from tests.fuzz.refusals import check_refusal

ROOT = "/models/one"


def run(data: bytes) -> None:
    try:
        found = msgspec.json.decode(data, type=Contents)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return
    try:
        check_contents(found)
    except RequestError as error:
        check_refusal(error)
        return
    places = [os.path.normpath(f"{ROOT}/{file.path}") for file in found.files]
    assert all(place.startswith(f"{ROOT}/") for place in places)
    assert len(set(places)) == len(places)
    assert not any(other.startswith(f"{place}/") for place in places for other in places)
    assert f"{ROOT}/model.toml" in places
    assert found.size >= 0
    assert found.digest.startswith("sha256:")
