"""Servers that tests share; tests that break theirs start their own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.server import ROOT, Server

TRICK = ROOT / "tests" / "models" / "trick_model"


@pytest.fixture(scope="session")
def iris() -> Iterator[Server]:
    """The three iris models."""
    with Server(ROOT / "models") as server:
        yield server


@pytest.fixture
def trick() -> Iterator[Server]:
    """``trick_model`` alone, in a server of the test's own."""
    with Server(TRICK) as server:
        yield server
