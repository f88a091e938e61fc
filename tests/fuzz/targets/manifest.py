"""``model.toml``: refused with file and line, or every number is within its bounds."""

from __future__ import annotations

import re

from modelyard.core.manifest import ManifestError, parse_manifest
from modelyard.core.names import is_name

WEEK_S = 7 * 24 * 3600


def run(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    try:
        found = parse_manifest(text, source="model.toml")
    except ManifestError as error:
        assert re.match(r"model\.toml:[1-9]", str(error)), error
        return
    assert is_name(found.name)
    assert is_name(found.version)
    assert 0 < found.limits.timeout_s <= WEEK_S
    assert 0 < found.limits.load_timeout_s <= WEEK_S
    assert 0 < found.scaling.idle_s <= WEEK_S
    assert 0 < found.target_wait_s <= WEEK_S
    assert found.cache.ttl_s >= 0
    assert 0 <= found.batching.batch_wait_ms <= 10_000
    assert 1 <= found.scaling.min_runners <= found.scaling.max_runners
    assert found.resources.threads >= 1
