"""Writes what follows from other files: ``python render.py [FOLDER]``.

The dashboards as Grafana reads them, and the rules as the Prometheus Operator does. FOLDER is that
of monitoring, or another one to compare with it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from textwrap import indent

from broker import BROKER
from layout import to_json
from model import MODEL
from overview import OVERVIEW

MONITORING = Path(__file__).parents[1]
RULE = """\
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: modelyard-{name}
  namespace: modelyard
  labels:
    app.kubernetes.io/part-of: modelyard
spec:
{spec}"""


def draw_dashboards(folder: Path) -> None:
    """Write one file for each dashboard into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, dashboard in (("overview", OVERVIEW), ("model", MODEL), ("broker", BROKER)):
        text = json.dumps(to_json(dashboard), indent=1, ensure_ascii=False)
        (folder / f"{name}.json").write_text(text + "\n", encoding="utf-8")


def wrap_rules(folder: Path) -> None:
    """Write all files of rules into ``folder`` as objects of the Prometheus Operator."""
    folder.mkdir(parents=True, exist_ok=True)
    objects = [
        RULE.format(name=path.stem, spec=indent(path.read_text(encoding="utf-8"), "  "))
        for path in sorted((MONITORING / "stack" / "prometheus" / "rules").glob("*.yml"))
    ]
    head = "# Made from stack/prometheus/rules by `make monitoring`: change those, and not this.\n"
    (folder / "rules.yaml").write_text(head + "---\n".join(objects), encoding="utf-8")


def main(folder: Path) -> None:
    """Write all of it into ``folder``."""
    draw_dashboards(folder / "stack" / "grafana" / "dashboards")
    wrap_rules(folder / "operator")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else MONITORING)
