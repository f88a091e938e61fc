"""The models and the tests of docs/writing-a-model.md, written to files and run."""

from __future__ import annotations

from pathlib import Path

from modelyard.testing import ServedModel
from tests.docs.pages import DOCS, run_python, write_files
from tests.support.server import Server, wait_until

PAGE = "writing-a-model.md"
DOCUMENTED = "http://localhost:8000"


def test_the_page_s_models_pass_the_page_s_tests(tmp_path: Path) -> None:
    write_files(PAGE, tmp_path)
    passed = run_python("-m", "pytest", "-q", "-p", "no:cacheprovider", "tests", folder=tmp_path)
    assert "5 passed" in passed


def test_the_page_s_models_are_served(tmp_path: Path) -> None:
    write_files(PAGE, tmp_path)
    with Server(tmp_path, settings={"WEATHER_KEY": "s3cret"}) as server:
        wait_until(lambda: server.http.get("/readyz").status_code == 200, what="the models")
        refused = server.predict("trips", [{"first_day": 5, "last_day": 3}]).json()
        assert refused["detail"] == "the trip ends before it begins"
        assert refused["where"] == "$.input_data[0]"
        asked = server.predict("weather", ["Rome"]).json()
        assert asked["prediction"] == ["Rome: asked with a key of 6 letters"]
        script = tmp_path / "ask_brightness.py"
        documented = script.read_text(encoding="utf-8")
        assert DOCUMENTED in documented
        script.write_text(documented.replace(DOCUMENTED, server.url), encoding="utf-8")
        assert run_python(script.name, folder=tmp_path).strip() == "[1. 1.]"
        names = {model["name"] for model in server.http.get("/models").json()["models"]}
    assert names == {"trips", "brightness", "distance", "pngs", "moods", "weather"}


def test_a_misspelt_field_is_ignored_unless_the_struct_forbids_it_as_the_pages_say(
    tmp_path: Path,
) -> None:
    write_files(PAGE, tmp_path)
    code = tmp_path / "trips" / "src" / "model.py"
    trip = {"first_day": 3, "last_day": 5, "lastday": 9}
    with ServedModel(tmp_path / "trips") as model:
        assert model.predict([trip]) == [160.0]
    text, declared = code.read_text(encoding="utf-8"), "class Trip(msgspec.Struct)"
    strict = "class Trip(msgspec.Struct, forbid_unknown_fields=True)"
    assert f"`{strict}`" in (DOCS / PAGE).read_text(encoding="utf-8")
    code.write_text(text.replace(declared, strict), encoding="utf-8")
    with Server(tmp_path / "trips") as server:
        refused = server.predict("trips", [trip])
    assert refused.status_code == 422
    assert refused.json()["detail"] == "Object contains unknown field `lastday`"
