"""The models and the tests of docs/writing-a-model.md, written to files and run."""

from __future__ import annotations

from pathlib import Path

from tests.docs.pages import run_python, write_files
from tests.support.server import Server, wait_until

PAGE = "writing-a-model.md"


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
        names = {model["name"] for model in server.http.get("/models").json()["models"]}
    assert names == {"trips", "brightness", "distance", "pngs", "moods", "weather"}
