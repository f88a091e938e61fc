"""The recipes whose frameworks are too large for the development environment: `make test-recipes`
runs them in one of their own.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.recipes import IN_AN_ENVIRONMENT_OF_THEIR_OWN, run_recipe


@pytest.mark.parametrize("name", sorted(IN_AN_ENVIRONMENT_OF_THEIR_OWN))
def test_a_recipe_works_as_it_stands(name: str, tmp_path: Path) -> None:
    run_recipe(name, tmp_path)
