"""A broker that tests share; tests that break theirs start their own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.broker import Broker


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A real RabbitMQ."""
    with Broker(tmp_path_factory.mktemp("broker")) as broker:
        yield broker
