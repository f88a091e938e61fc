"""Compares what comes with references. It sees what is not masked; only its figures leave."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec

from modelyard.drift.reference import Profile, read_profile
from modelyard.drift.windows import Windows
from modelyard.payloads.config import Config
from modelyard.payloads.frames import Brought, Drifted, Handed, Window
from modelyard.payloads.writer.records import Decoded

MOST_TARGETS = 100


class Drift:
    """The windows of all targets whose model has a reference.

    Args:
        config: Where the references are, and how long a window is.
    """

    def __init__(self, config: Config) -> None:
        self._config = config.drift
        self._profiles: dict[str, Profile] = {
            model: read_profile(Path(path)) for model, path in config.references.items()
        }
        self._brought: dict[tuple[str, str], Profile] = {}
        self._windows: dict[tuple[str, str], Windows] = {}
        self._ended: list[Window] = []

    def bring(self, brought: Brought) -> None:
        """Compare with the reference that a target has brought from now on, unless the file names
        another one.
        """
        target = (brought.model, brought.version)
        self._brought.pop(target, None)
        if brought.model not in self._profiles:
            self._windows.pop(target, None)
        if brought.profile:
            self._brought[target] = msgspec.json.decode(brought.profile, type=Profile)

    def knows(self, handed: Handed) -> bool:
        """See ``records.Watching``."""
        return handed.model in self._profiles or (handed.model, handed.version) in self._brought

    def look(self, handed: Handed, decoded: Decoded) -> None:
        """Add a request that was answered to the window of its target."""
        rows, predictions = decoded.instances.values, decoded.predictions.values
        if handed.code != "ok" or not isinstance(rows, list):
            return
        target = (handed.model, handed.version)
        windows = self._windows.get(target)
        if windows is None:
            if len(self._windows) >= MOST_TARGETS:
                return
            windows = self._windows[target] = Windows(
                self._profiles.get(handed.model) or self._brought[target],
                rows=self._config.window,
                seconds=self._config.window_s,
                least=self._config.least,
                false_alarms=self._config.false_alarms,
            )
        answers = predictions if isinstance(predictions, list) else []
        compared = windows.add(rows, answers, time.monotonic())
        if compared is None:
            return
        features = [
            Drifted(c.name, c.psi, c.ks, c.missing, c.outside, c.new, c.p, c.has_drifted)
            for c in compared
        ]
        self._ended.append(Window(*target, time.time(), windows.last_rows, features))

    def take(self) -> list[Window]:
        """Return the windows that have ended since the last call."""
        ended, self._ended = self._ended, []
        return ended
