"""Where programs that a test starts find the client under its own name, which is not installed."""

from __future__ import annotations

import os

from tests.support.server import ROOT

SOURCE = ROOT / "clients" / "python" / "src"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(SOURCE)}
