"""The names for people who write models, and what importing them, or the commands, costs."""

from __future__ import annotations

import subprocess
import sys

import pytest

import modelyard
import modelyard.arrays
import modelyard.testing

HEAVY = {"asyncio", "fastapi", "httpx2", "numpy", "prometheus_client"}


def test_the_public_names() -> None:
    assert modelyard.__all__ == [
        "CallFailed",
        "Cancelled",
        "Columns",
        "InvalidInput",
        "Model",
        "StreamingModel",
        "Tensor",
        "__version__",
    ]
    assert modelyard.__all__ == sorted(modelyard.__all__)
    assert all(hasattr(modelyard, name) for name in modelyard.__all__)


def test_the_public_names_for_arrays() -> None:
    names = ["EXTENSION_CODE", "ext_hook", "pack_array", "payload_of"]
    assert modelyard.arrays.__all__ == names
    assert all(hasattr(modelyard.arrays, name) for name in names)


def test_the_public_names_for_tests() -> None:
    assert modelyard.testing.__all__ == ["LoadError", "ServedModel"]
    assert modelyard.testing.__all__ == sorted(modelyard.testing.__all__)
    assert all(hasattr(modelyard.testing, name) for name in modelyard.testing.__all__)


@pytest.mark.parametrize(
    "module",
    [
        *("modelyard", "modelyard.arrays", "modelyard.testing", "modelyard.runner.__main__"),
        *("modelyard.cli", "modelyard.openai", "modelyard.calling.caller"),
    ],
)
def test_importing_it_pulls_in_nothing_heavy(module: str) -> None:
    show = f"import sys, {module}; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", show], check=True, capture_output=True, text=True)
    assert module in run.stdout.split()
    assert HEAVY.isdisjoint(run.stdout.split())
