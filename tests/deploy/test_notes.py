"""What Helm says after a release of a model: how long to wait, and why it may have failed."""

from __future__ import annotations

import re
from math import ceil
from pathlib import Path

import pytest

from tests.deploy.charts import MODEL, helm, only, render
from tests.support.server import ROOT

MANIFESTS = sorted((ROOT / "models").glob("*/model.toml"))
SLOW = 'model=name = "slow"\nversion = "1"\n[limits]\nload_timeout_s = 900'


def notes(*flags: str) -> str:
    """Give what Helm prints after an installation."""
    done = helm("install", "iris", MODEL, "-n", "modelyard", "--dry-run=client", *flags)
    assert done.returncode == 0, done.stderr
    return done.stdout.rpartition("\nNOTES:\n")[2]


def timeout_of(text: str) -> int:
    """Give what Helm is to be told, in seconds."""
    (found,) = re.findall(r"--wait --timeout (\d+)s$", text, re.MULTILINE)
    return int(found)


def rounds(workers: int) -> int:
    """Give how often Kubernetes replaces a quarter of the workers until all are new (maxSurge)."""
    return ceil(workers / ceil(workers / 4))


@pytest.mark.parametrize("workers", [1, 2, 3, 4, 5, 9, 10, 16, 50])
@pytest.mark.parametrize("by", ["cpu", "none"])
def test_helm_waits_as_long_as_a_rollout_that_goes_on(by: str, workers: int) -> None:
    named = "replicas" if by == "none" else "autoscaling.maxReplicas"
    flags = ("--set", f"autoscaling.by={by},autoscaling.minReplicas=1,{named}={workers}")
    assert timeout_of(notes("--set-string", SLOW, *flags)) == rounds(workers) * 900 + 300


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.parent.name)
def test_helm_gives_up_no_sooner_than_kubernetes(path: Path) -> None:
    flags = ("--set-file", f"model={path}")
    deadline = only(render(MODEL, *flags), "Deployment")["spec"]["progressDeadlineSeconds"]
    said = notes(*flags)
    assert timeout_of(said) >= deadline > 300  # Helm's own patience
    assert f"nothing has moved for {deadline} s" in said


def test_the_reason_of_a_failure_is_looked_for_at_the_newest_pod() -> None:
    said = notes()
    assert "kubectl -n modelyard describe $(" in said
    assert "--sort-by=.metadata.creationTimestamp" in said
    labels = only(render(MODEL, release="iris"), "Deployment")["spec"]["selector"]["matchLabels"]
    (selector,) = re.findall(r"-l (\S+) \| tail -n 1\)", said)
    assert dict(one.split("=") for one in selector.split(",")).items() <= labels.items()


def test_a_release_without_workers_has_notes_too() -> None:
    assert timeout_of(notes("--set", "autoscaling.by=none,replicas=0")) == 600
