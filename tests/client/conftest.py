"""Each test that takes ``connect`` runs with the blocking client and with the one for asyncio."""

from __future__ import annotations

import pytest

from tests.client.either import BOTH, Connect


@pytest.fixture(params=BOTH)
def connect(request: pytest.FixtureRequest) -> Connect:
    return BOTH[request.param]
