"""What a dashboard is made of, and how that is said in Grafana's JSON."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import Any, Literal, NamedTuple

Json = dict[str, Any]
COLUMNS = 24  # of Grafana's grid
SOURCE: Json = {"type": "prometheus", "uid": "${source}"}


class Query(NamedTuple):
    """A PromQL expression, and the legend of its series."""

    expr: str
    legend: str


class Panel(NamedTuple):
    """One panel; ``about`` says how to read it, ``limit`` from where on a value is bad."""

    title: str
    queries: Sequence[Query]
    unit: str = "short"
    kind: Literal["timeseries", "stat", "heatmap"] = "timeseries"
    about: str = ""
    limit: float | None = None
    is_stacked: bool = False


class Row(NamedTuple):
    """Panels side by side."""

    title: str
    panels: Sequence[Panel]


class Variable(NamedTuple):
    """A choice at the top of the page: the values of a label."""

    name: str
    query: str


class Dashboard(NamedTuple):
    """One page."""

    uid: str
    title: str
    about: str
    rows: Sequence[Row]
    variables: Sequence[Variable] = ()


def to_json(dashboard: Dashboard) -> Json:
    """Give the JSON of a dashboard, for Grafana 10 or newer."""
    return {
        "uid": dashboard.uid,
        "title": dashboard.title,
        "description": dashboard.about,
        "tags": ["modelyard"],
        "schemaVersion": 39,
        "editable": False,
        "graphTooltip": 1,  # one cross hair for all panels
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "links": [_LINKS],
        "templating": {"list": [_SOURCES, *map(_variable, dashboard.variables)]},
        "panels": _panels(dashboard.rows),
    }


_LINKS: Json = {
    "type": "dashboards",
    "title": "Modelyard",
    "tags": ["modelyard"],
    "keepTime": True,
    "includeVars": True,
}
_SOURCES: Json = {
    "type": "datasource",
    "name": "source",
    "label": "Prometheus",
    "query": "prometheus",
}


def _variable(variable: Variable) -> Json:
    return {
        "type": "query",
        "name": variable.name,
        "datasource": SOURCE,
        "query": {"query": variable.query, "refId": variable.name},
        "refresh": 2,  # when the time range changes
        "sort": 1,
    }


def _panels(rows: Sequence[Row]) -> list[Json]:
    ids, y, panels = count(1), 0, []
    for row in rows:
        place = {"x": 0, "y": y, "w": COLUMNS, "h": 1}
        panels.append({"id": next(ids), "type": "row", "title": row.title, "gridPos": place})
        y += 1
        width = COLUMNS // len(row.panels)
        height = 4 if all(panel.kind == "stat" for panel in row.panels) else 8
        for column, panel in enumerate(row.panels):
            place = {"x": column * width, "y": y, "w": width, "h": height}
            panels.append({"id": next(ids), **_panel(panel), "gridPos": place})
        y += height
    return panels


def _panel(panel: Panel) -> Json:
    targets = [
        {
            "refId": chr(ord("A") + number),
            "datasource": SOURCE,
            "expr": query.expr,
            "legendFormat": query.legend,
            "format": "heatmap" if panel.kind == "heatmap" else "time_series",
        }
        for number, query in enumerate(panel.queries)
    ]
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.about,
        "datasource": SOURCE,
        "targets": targets,
        "fieldConfig": {"defaults": _field(panel), "overrides": []},
        "options": _options(panel),
    }


def _field(panel: Panel) -> Json:
    steps: list[Json] = [{"color": "green", "value": None}]
    if panel.limit is not None:
        steps.append({"color": "red", "value": panel.limit})
    field: Json = {
        "unit": panel.unit,
        "min": 0,
        "thresholds": {"mode": "absolute", "steps": steps},
    }
    if panel.kind == "timeseries":
        field["custom"] = {
            "fillOpacity": 30 if panel.is_stacked else 0,
            "stacking": {"mode": "normal" if panel.is_stacked else "none"},
            "thresholdsStyle": {"mode": "off" if panel.limit is None else "dashed"},
        }
    return field


def _options(panel: Panel) -> Json:
    if panel.kind == "stat":
        return {"reduceOptions": {"calcs": ["lastNotNull"]}, "graphMode": "area"}
    if panel.kind == "heatmap":
        return {"calculate": False, "yAxis": {"unit": panel.unit}, "color": {"scheme": "Blues"}}
    legend = {"displayMode": "table", "placement": "bottom", "calcs": ["lastNotNull", "max"]}
    return {"legend": legend, "tooltip": {"mode": "multi", "sort": "desc"}}
