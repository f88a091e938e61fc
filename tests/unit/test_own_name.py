"""What processes of a cluster call themselves."""

from __future__ import annotations

import os
import socket

import pytest

from modelyard.compose.running import own_name


def test_pods_of_one_deployment_have_different_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getpid", lambda: 1)
    names = set()
    for pod in ("abcde", "x7k2p"):
        host = f"intermediate-iris-model-6d4b75cb6d-{pod}"
        monkeypatch.setattr(socket, "gethostname", lambda host=host: host)
        names.add(own_name())
    assert len(names) == 2
    assert all(name.startswith("intermediate-iris-model") for name in names)
