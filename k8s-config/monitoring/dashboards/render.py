"""Writes the dashboards as Grafana reads them: ``python render.py FOLDER``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from broker import BROKER
from layout import to_json
from model import MODEL
from overview import OVERVIEW


def main(folder: Path) -> None:
    """Write one file for each dashboard into ``folder``."""
    for name, dashboard in (("overview", OVERVIEW), ("model", MODEL), ("broker", BROKER)):
        text = json.dumps(to_json(dashboard), indent=1, ensure_ascii=False)
        (folder / f"{name}.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
