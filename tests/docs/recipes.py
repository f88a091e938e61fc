"""How a recipe of docs/recipes.md is run: trained, tested, and served."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from tests.docs.pages import blocks_of, run_python, write_files
from tests.support.server import Server, wait_until

PAGE = "recipes.md"
IN_THE_SUITE = {"iris", "digits", "colours", "letters", "prices"}
IN_AN_ENVIRONMENT_OF_THEIR_OWN = {"net", "embeddings"}
WITH_A_SERVICE = {"forecast"}


def run_recipe(name: str, folder: Path) -> None:
    """Do with the recipe called ``name`` what its reader does, in an empty folder."""
    run_python("-m", "modelyard", "new", name, folder=folder)
    model = folder / "models" / name
    made = {path for path in model.rglob("*") if path.is_file()}
    write_files(PAGE, folder)
    titles = {folder / title for _, title, _ in blocks_of(PAGE)}
    assert made - titles == {model / "assets" / "words.json"}, "the page says what is left"
    (model / "assets" / "words.json").unlink()
    for other in (folder / "models").iterdir():
        if other != model:
            shutil.rmtree(other)
    if (model / "train.py").exists():
        run_python("train.py", folder=model)
    passed = run_python("-m", "modelyard", "test", str(model), folder=folder)
    assert re.search(r"[1-9]\d* passed", passed), passed
    checked = run_python("-m", "modelyard", "check", str(model), folder=folder)
    assert "failed" not in checked, checked
    with Server(folder / "models") as server:
        wait_until(lambda: server.http.get("/readyz").status_code == 200, what="the model")
        example = server.http.get(f"/models/{name}/example").json()
        answer = server.http.post("/predict", json=example).json()
        if name == "embeddings":  # by the way that OpenAI's clients take as well
            asked = {"model": name, "input": example["input_data"]}
            (made,) = server.http.post("/v1/embeddings", json=asked).json()["data"]
            assert len(made["embedding"]) == 384
    assert len(answer["prediction"]) == len(example["input_data"]), answer
