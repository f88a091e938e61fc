"""The recipes whose frameworks are in the development environment. ``own_environment.py`` has the
others.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.pages import blocks_of
from tests.docs.recipes import (
    IN_AN_ENVIRONMENT_OF_THEIR_OWN,
    IN_THE_SUITE,
    PAGE,
    run_recipe,
)


@pytest.mark.parametrize("name", sorted(IN_THE_SUITE))
def test_a_recipe_works_as_it_stands(name: str, tmp_path: Path) -> None:
    run_recipe(name, tmp_path)


def test_every_recipe_is_run_somewhere() -> None:
    written = {
        title.split("/")[1] for _, title, _ in blocks_of(PAGE) if title.endswith("model.toml")
    }
    assert written == IN_THE_SUITE | IN_AN_ENVIRONMENT_OF_THEIR_OWN
